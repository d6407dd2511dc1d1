"""What a person does on the pages of a console, without a browser."""

from __future__ import annotations

import re

import httpx


def sign_in(client: httpx.Client, token: str, who: str = "ann") -> None:
    client.post("/sign-in", data=_own_form(client, "/sign-in") | {"who": who, "token": token, "back": "/"})


def decide(client: httpx.Client, what: str, integration: str, reason: str) -> httpx.Response:
    """`what`: pause or resume. Who has signed in does it on the page of the integration, or of the pattern."""
    form = _own_form(client, str(httpx.URL("/integration", params={"id": integration})))
    return client.post(f"/integration/{what}", data=form | {"id": integration, "reason": reason})


def _own_form(client: httpx.Client, address: str) -> dict[str, str]:
    """The field by which the console knows that a page of its own has sent a form."""
    page = client.get(address).text
    found = re.search('name="form_token" value="([^"]+)"', page)
    assert found is not None, f"{address} has no form: {page}"
    return {"form_token": found[1]}
