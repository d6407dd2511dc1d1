"""The addresses of pages about something, and which address a form may lead back to."""

from __future__ import annotations

from urllib.parse import urlencode


def integration_address(name: str) -> str:
    return f"/integration?{urlencode({'id': name}, errors='replace')}"


def course_address(integration_id: str, origin_id: str) -> str:
    return f"/course?{urlencode({'integration': integration_id, 'id': origin_id}, errors='replace')}"


def own_address(address: str) -> str:
    """An address of this console; anything else becomes the first page."""
    is_own = address.startswith("/") and not address.startswith(("//", "/\\")) and address.isprintable()
    return address if is_own and address.isascii() else "/"
