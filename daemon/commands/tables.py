"""Text and tables for a terminal or a file."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import click
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

_FILE_WIDTH = 1000
"""Characters. In a file nothing is wrapped or cut."""

_TERMINAL_WIDTH_MIN = 40
"""Characters. A narrower terminal breaks the lines itself; in two columns a table would show nothing."""

NONE = "-"
"""In tables, for what is null in the JSON, and for an empty cell."""

_LAST_INDENT = 4
"""Characters before a last cell that is below its row."""

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


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """`until_the_reader_leaves` decides; the library would exit with 1."""
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def print_json(documents: Iterable[bytes]) -> None:
    """Print JSON documents, one a line."""
    with until_the_reader_leaves():
        for document in documents:
            click.echo(printable_json(document).encode())


def open_console() -> Console:
    """For stdout."""
    console = _Console(highlight=False)
    console.width = max(console.width, _TERMINAL_WIDTH_MIN) if console.is_terminal else _FILE_WIDTH
    return console


@contextmanager
def until_the_reader_leaves() -> Iterator[None]:
    """End the output when nobody reads it any more (``… | head``). That is no failure of a command that only shows."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        # Python tries to write the rest once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class RowPrinter:
    """Prints rows as they arrive, in columns of at least these widths. A longer cell moves the rest of its row. On a terminal, a
    row that does not fit has its last cell below it; nothing is cut. In a file, each row is one line.
    """

    def __init__(self, widths: Mapping[str, int]) -> None:
        """`widths`: in characters, by the heading of the column."""
        self.console = open_console()
        self._widths = widths
        self._has_heading = False

    def print(self, cells: Sequence[str], styles: Mapping[str, str] | None = None) -> None:
        """`styles`: by the heading of the column."""
        if not self._has_heading:
            self._has_heading = True
            heading = self._row(list(self._widths), dict.fromkeys(self._widths, "bold"))
            heading.rstrip()
            self.console.print(heading, soft_wrap=True)
        last = printable(cells[-1])
        row = self._row(cells[:-1], styles or {})
        if not self.console.is_terminal or row.cell_len + cell_len(last) <= self.console.width:
            self.console.print(row.append(last), soft_wrap=True)
            return
        row.rstrip()
        self.console.print(row, soft_wrap=True)
        if last != NONE:
            self.console.print(Padding(Text(last, overflow="fold"), (0, 0, 0, _LAST_INDENT)))

    def _row(self, cells: Sequence[str], styles: Mapping[str, str]) -> Text:
        row = Text()
        for (heading, width), cell in zip(self._widths.items(), cells, strict=False):
            text = printable(cell)
            row.append(text, styles.get(heading, "")).append(" " * (width - cell_len(text)) + " ")
        return row


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str | int | None]]) -> None:
    """Print a table: numbers right-aligned, None as ``-``. A terminal wraps long cells; nothing is cut."""
    rows = [list(row) for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for number, heading in enumerate(headings):
        is_number = any(isinstance(row[number], int) for row in rows)
        table.add_column(heading, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    with until_the_reader_leaves():
        open_console().print(table)


def _cell(value: str | int | None) -> Text:
    if value is None:
        return Text(NONE)
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
