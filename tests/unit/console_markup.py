"""Pages of the console, read back: their elements and their text, and what must never be in them."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser


class Markup(HTMLParser):
    """The elements of a page. `text` is what a person reads."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for found, attributes in self.elements if found == tag]


def faults(page: Markup) -> Iterator[str]:
    """What a page of this console never has."""
    for tag, attributes in page.elements:
        if tag in ("img", "iframe", "object", "embed", "style", "base", "image", "foreignobject"):
            yield f"an element {tag}"
        if tag == "script" and attributes != {"src": "/static/console.js", "defer": None}:
            yield f"a script {attributes}"
        for name, value in attributes.items():
            if name.startswith("on") or name in ("style", "autofocus", "srcdoc"):
                yield f"{tag} has {name}"
            local = (value or "").startswith(("/", "#")) and not (value or "").startswith("//")
            if name in ("href", "src", "action", "formaction") and not local:
                yield f"{tag} leads to {value}"
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    if len(ids) != len(set(ids)):
        yield f"two elements have one id: {sorted(ids, key=str)}"
