"""What a user wrote for a setting: parsed and checked, or a message that continues the sentence "the setting …"."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from daemon.config.column import ValueKind
from daemon.config.secret_file import read_secret
from daemon.config.table import Setting
from daemon.config.units import (
    format_duration,
    format_size,
    parse_duration,
    parse_float,
    parse_int,
    parse_size,
    shown_path,
)

SECRETS = {
    "kombo.api_key": "kombo.api_key_file",
    "kafka.sasl_password": "kafka.sasl_password_file",
    "kombo.proxy_password": "kombo.proxy_password_file",
    "kafka.sasl_oauth_client_secret": "kafka.sasl_oauth_client_secret_file",
}
"""Names that users try when they expect to pass the secret itself."""


def unknown(name: str, known: Iterable[str]) -> str:
    """What is wrong with a name that is not a setting. The value is never quoted: it may be a misplaced secret."""
    if name in SECRETS:
        return f"is not a setting: secrets are read from files only; set {SECRETS[name]} to the file's path"
    nearest = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return "is not a setting" + (f"; did you mean {nearest[0]}?" if nearest else "")


def parse(setting: Setting, raw: Any, *, looks_at_file: bool = True) -> Any:
    """The value that the user wrote for a setting. `looks_at_file`: whether a file that it names must be usable here.

    Raises:
        ValueError: with the mistake.
    """
    kind = setting.column.kind
    if kind is ValueKind.DURATION:
        return _bounded(setting, parse_duration(raw), format_duration)
    if kind is ValueKind.SIZE:
        return _bounded(setting, parse_size(raw), lambda size: format_size(int(size)))
    if kind is ValueKind.INTEGER:
        return _bounded(setting, parse_int(raw), lambda number: f"{number:.0f}")
    if kind is ValueKind.NUMBER:
        return _bounded(setting, parse_float(raw), lambda number: f"{number:g}")
    if not isinstance(raw, str) or not raw.strip():
        raise ValueError("the value is not text; write text in quotes that is not empty")
    text = raw.strip()
    if kind is ValueKind.FILE:
        if not looks_at_file:
            return Path(text)
        if setting.column.secret:
            read_secret(Path(text))
            return Path(text)
        return _readable_file(text)
    if kind is ValueKind.CHOICE:
        return _chosen(setting, text)
    return text.rstrip("/") if setting.name == "kombo.base_url" else text


def _bounded(setting: Setting, value: Any, spell: Any) -> Any:
    low, high = setting.column.low, setting.column.high
    if (low is not None and value < low) or (high is not None and value > high):
        raise ValueError(
            f"{spell(value)} is out of range: it must be at least {spell(low)} and at most {spell(high)}"
        )
    return value


def _chosen(setting: Setting, text: str) -> str:
    for choice in setting.column.choices:
        if text.casefold() == choice.casefold():
            return choice
    raise ValueError(f"the value is not one of {', '.join(setting.column.choices)}")


def _readable_file(text: str) -> Path:
    path = Path(text)
    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise ValueError(f"the file{shown_path(text)} is empty")
    except OSError as error:
        raise ValueError(
            f"the file{shown_path(text)} cannot be read: {error.strerror}; set the path of a file, not its content"
        ) from None
    return path
