"""The logins with tokens: `OAUTHBEARER` with the client credentials flow (KIP-768), and `AWS_MSK_IAM`.

`AWS_MSK_IAM` is a mechanism of the brokers of Amazon MSK. They accept it as OAUTHBEARER, too, with a signed request as the
token. AWS' library makes that from the credentials that the process has: those of the pod's role, as a rule.
"""

from __future__ import annotations

import json
import ssl
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx

from daemon.log.errors import LogError
from daemon.log.kafka.tokens import Token, TokenError, TokenProvider

TIMEOUT = 5.0
"""Seconds for connecting to the token endpoint, and for each part of its answer."""
ANSWER_SECONDS_MAX = 9.0
"""For the whole answer; less than a client waits."""
ANSWER_BYTES_MAX = 256 * 1024
_TEXT_MAX = 200

_URL, _ID, _SECRET = (
    "kafka.sasl_oauth_token_url",
    "kafka.sasl_oauth_client_id",
    "kafka.sasl_oauth_client_secret_file",
)


@dataclass(frozen=True, slots=True)
class OAuthClient:
    """What the identity provider and the brokers need to know."""

    token_url: str
    client_id: str
    client_secret: str = field(repr=False)
    scope: str | None = None
    extensions: tuple[tuple[str, str], ...] = ()
    """For the brokers: names and values."""
    ca_file: str | None = None
    """PEM. None: the system's certificate authorities."""


def oauth_provider(client: OAuthClient) -> TokenProvider:
    """Raises LogError if the file of certificate authorities cannot be loaded."""
    try:
        context = ssl.create_default_context(cafile=client.ca_file)
    except OSError as error:
        raise LogError(f"kafka.sasl_oauth_ca_file: {client.ca_file} cannot be loaded: {error}") from error
    return TokenProvider(lambda: _ask(client, context), dict(client.extensions))


def _ask(client: OAuthClient, context: ssl.SSLContext) -> Token:
    form = {"grant_type": "client_credentials"} | ({"scope": client.scope} if client.scope else {})
    # RFC 6749, section 2.3.1: both are form-encoded before they become user and password.
    user = httpx.BasicAuth(quote(client.client_id, safe=""), quote(client.client_secret, safe=""))
    deadline = time.monotonic() + ANSWER_SECONDS_MAX
    content = b""
    try:
        with (
            httpx.Client(verify=context, trust_env=False, timeout=TIMEOUT) as http,
            http.stream(
                "POST", client.token_url, data=form, auth=user, headers={"accept": "application/json"}
            ) as answer,
        ):
            for piece in answer.iter_bytes():
                content += piece
                if len(content) > ANSWER_BYTES_MAX or time.monotonic() > deadline:
                    raise _problem(client, "its answer is too long, or comes too slowly", _URL)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise _problem(client, f"{type(error).__name__}: {_short(str(error))}", _URL) from None
    return _token(client, answer.status_code, content)


def _token(client: OAuthClient, status: int, content: bytes) -> Token:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        found = None
    fields: dict[str, Any] = found if isinstance(found, dict) else {}
    if status in (400, 401, 403):
        why = " ".join(
            _short(fields[name])
            for name in ("error", "error_description")
            if isinstance(fields.get(name), str)
        )
        raise _problem(
            client, f"it refuses this client with status {status} {why}".rstrip(), f"{_ID} and {_SECRET}"
        )
    value, seconds = fields.get("access_token"), fields.get("expires_in", 0)
    if status != 200 or not isinstance(value, str):
        raise _problem(client, f"it answers with status {status} and no access_token", _URL)
    # It is optional. A token of unknown lifetime is used for one login.
    return Token(value, float(seconds) if isinstance(seconds, int | float) and 0 < seconds < 1e9 else 0.0)


def _problem(client: OAuthClient, why: str, settings: str) -> TokenError:
    return TokenError(f"got no token from {client.token_url}: {why}; check {settings}")


def _short(text: str) -> str:
    return text[:_TEXT_MAX]


def aws_provider(region: str) -> TokenProvider:
    """Raises LogError if AWS' library is not installed."""
    try:
        # Costs 8 MiB, for those who need it only.
        from aws_msk_iam_sasl_signer import MSKAuthTokenProvider  # noqa: PLC0415
    except ImportError:
        raise LogError(
            "kafka.sasl_mechanism is AWS_MSK_IAM, which needs the Python package aws-msk-iam-sasl-signer-python; install "
            "course-sync-daemon[aws], or build the image with --build-arg REQUIREMENTS=aws.txt"
        ) from None

    def sign() -> Token:
        try:
            value, expires_ms = MSKAuthTokenProvider.generate_auth_token(region)
        except Exception as error:  # botocore's and its own; without credentials an AttributeError
            why = (
                "no credentials" if isinstance(error, AttributeError) else f"{type(error).__name__}: {error}"
            )
            raise TokenError(
                f"got no token from AWS for region {region}: {_short(why)}; check the role of this process, and "
                "kafka.sasl_aws_region"
            ) from None
        return Token(value, expires_ms / 1000 - time.time())

    return TokenProvider(sign, {})
