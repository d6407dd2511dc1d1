"""Units of settings: converts text with a unit to plain numbers, and back for the reference page.

A duration is a number of seconds (float), a size a number of bytes (int). Every parser raises `ValueError` with a
message that continues the sentence "the setting …".
"""

from __future__ import annotations

import re

DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
SIZE_UNITS = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}

_NUMBER_WITH_UNIT = re.compile(r"(\d{1,15}(?:\.\d{1,6})?)\s*([A-Za-z]*)", re.ASCII)
_PLAIN_NUMBER = re.compile(r"[-+]?\d[\d._]{0,15}\s?[A-Za-z]{0,12}", re.ASCII)
_PLAIN_PATH = re.compile(r"(\.{1,2}|/[\w.@ -]{1,64})(/[\w.@ -]{1,64})+", re.ASCII)


def shown(value: object) -> str:
    """The value as an error message names it. It is quoted only if it looks like a number with a unit: any other value may
    be a secret that was given for the wrong setting, and error messages end in logs and in the state of a pod.
    """
    return repr(value) if _PLAIN_NUMBER.fullmatch(str(value)) or isinstance(value, bool) else "the value"


def shown_path(text: str) -> str:
    """The path as an error message names it. It is quoted only if it is written as a path, with slashes; see `shown`."""
    return f" {text!r}" if _PLAIN_PATH.fullmatch(text) else ""


def parse_duration(value: object) -> float:
    """``"500ms"``, ``"15s"``, ``"5m"``, ``"24h"`` or ``"7d"`` in seconds."""
    number, unit = _split(value, "a duration", "for example, write 500ms, 15s, 5m, 24h or 7d")
    if unit not in DURATION_UNITS:
        raise ValueError(f"{shown(value)} has no known unit; use one of ms, s, m, h, d, for example 15s")
    return float(number) * DURATION_UNITS[unit]


def parse_size(value: object) -> int:
    """``"512KiB"``, ``"64MiB"`` or a plain number of bytes, in bytes."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    number, unit = _split(value, "a size", "for example, write 512KiB, 1MiB or a number of bytes")
    if unit not in SIZE_UNITS and unit != "":
        raise ValueError(f"{shown(value)} has no known unit; use one of B, KiB, MiB, GiB, for example 512KiB")
    size = float(number) * SIZE_UNITS.get(unit, 1)
    if not size.is_integer():
        raise ValueError(f"{shown(value)} is not a whole number of bytes")
    return int(size)


def parse_int(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value.strip().replace("_", ""), re.ASCII):
        return int(value)
    raise ValueError(f"{shown(value)} is not a whole number")


def parse_float(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,15}(\.\d{1,15})?", value.strip(), re.ASCII):
        return float(value)
    raise ValueError(f"{shown(value)} is not a number")


def format_duration(seconds: float) -> str:
    """The shortest exact spelling: 0.5 → ``500ms``, 300.0 → ``5m``, 86400.0 → ``24h``."""
    if seconds == 0:
        return "0s"
    days = seconds / DURATION_UNITS["d"]
    if days.is_integer() and days > 1:
        return f"{int(days)}d"
    for unit in ("h", "m", "s"):
        number = seconds / DURATION_UNITS[unit]
        if number.is_integer():
            return f"{int(number)}{unit}"
    return f"{seconds * 1000:.3f}".rstrip("0").rstrip(".") + "ms"


def format_size(size: int) -> str:
    """The shortest exact spelling: 524288 → ``512KiB``."""
    for unit in ("GiB", "MiB", "KiB"):
        if size and size % SIZE_UNITS[unit] == 0:
            return f"{size // SIZE_UNITS[unit]}{unit}"
    return str(size)


def _split(value: object, what: str, advice: str) -> tuple[str, str]:
    match = _NUMBER_WITH_UNIT.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{shown(value)} is not {what}; {advice}")
    return match[1], match[2]
