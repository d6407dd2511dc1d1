"""The templates and what they know: every text is escaped, twice.

Ids and error texts come from outside. Jinja2 escapes them for HTML (autoescape). Before that, `escaped` makes control characters
and those that change the direction of the text visible, so that an id cannot look like another one; only `exact` leaves them,
for the value of an input field.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from daemon.codec.texts import escaped, truncated
from daemon.codec.times import iso_ms
from daemon.commands.tables import age
from daemon.console.charts import compact

FOLDER = Path(__file__).parent
TEMPLATES, STATIC = FOLDER / "templates", FOLDER / "static"


def environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_visible,
    )
    made.filters |= {
        "number": number,
        "exact": exact,
        "iso": iso_ms,
        "commands": commands,
        "compact": compact,
        "cut": lambda text, chars: truncated(escaped(text), chars),
        "query": urlencode,
        "coordinate": lambda value: f"{value:.2f}".rstrip("0").rstrip("."),
    }
    return made


def number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def exact(text: str) -> Markup:
    """The text as it is, escaped for HTML alone."""
    return escape(text)


def commands(text: str) -> Markup:
    """A sentence whose parts between backticks are commands."""
    parts = [escape(escaped(part)) for part in text.split("`")]
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else part for number, part in enumerate(parts)
    )


def since(at_ms: int | None, wall: int) -> Markup:
    """How long ago it was, with the time for those who want it."""
    return _time(at_ms, age((wall - (at_ms or 0)) / 1000))


def until(at_ms: int | None, wall: int) -> Markup:
    """How long it is until then."""
    if at_ms is not None and at_ms <= wall:
        return _time(at_ms, "now")
    return _time(at_ms, f"in {age(((at_ms or 0) - wall) / 1000)}")


def _time(at_ms: int | None, text: str) -> Markup:
    if at_ms is None:
        return Markup("-")
    at = iso_ms(at_ms)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(at, at, text)


def _visible(value: Any) -> Any:
    return escaped(value) if type(value) is str else value
