"""Text and tables for a terminal or a file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

_FILE_WIDTH = 1000
"""Characters. In a file nothing is wrapped or cut."""

_TERMINAL_WIDTH_MIN = 40
"""Characters. A narrower terminal breaks the lines itself; in two columns a table would show nothing."""

_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))


def printable(text: str) -> str:
    """The text on one line and without terminal control characters, because it comes from outside."""
    return "".join(character if character.isprintable() else " " for character in text)


def printable_json(document: bytes) -> str:
    """The same JSON on one line, with escapes for the characters that are not printable; see `daemon.codec.texts.escaped`.
    Print it as UTF-8 on every terminal (RFC 8259, 8.1): escapes for what another encoding does not have are not JSON.
    """
    text = document.decode("utf-8", "replace").strip()
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _json_escape(character) for character in text)


def _json_escape(character: str) -> str:
    if character in "\r\n\t":  # valid only between the tokens
        return " "
    units = character.encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def open_console() -> Console:
    """For stdout."""
    console = Console(highlight=False)
    console.width = max(console.width, _TERMINAL_WIDTH_MIN) if console.is_terminal else _FILE_WIDTH
    return console


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str | int | None]]) -> None:
    """Print a table: numbers right-aligned, None as ``-``. A terminal wraps long cells; nothing is cut."""
    rows = [list(row) for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, heading in enumerate(headings):
        is_number = any(isinstance(row[number], int) for row in rows)
        table.add_column(heading, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    open_console().print(table)


def _cell(value: str | int | None) -> Text:
    if value is None:
        return Text("-")
    return Text(f"{value:,}" if isinstance(value, int) else printable(value))


def age(seconds: float) -> str:
    """An age in its two largest units: ``2h 5m``. A time in the future has the age ``0s``."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for unit, size in _UNITS:
        number, left = divmod(left, size)
        if number or parts or unit == "s":
            parts.append(f"{number}{unit}")
    return " ".join(part for part in parts[:2] if part[0] != "0" or len(parts) == 1)
