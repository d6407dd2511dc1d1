"""Golden files: bytes that were once looked at by a person, and must not change by accident.

`assert_golden` fails when the bytes differ, and also when there is no file yet: it then records one, to
be read and committed. A wire format is changed by deleting its file, running the test and reading the
difference.

Records are written so that a person can read them: key, headers, an empty line, then the value as it is.
"""

from __future__ import annotations

from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "golden"


def assert_golden(name: str, content: bytes) -> None:
    path = FOLDER / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        pytest.fail(f"recorded {path.name} for the first time: read it, commit it, run again")
    assert content == path.read_bytes(), f"{name} is not what it was; if that is intended, delete the file"


def render_record(
    key: bytes | None, value: bytes | None, headers: tuple[tuple[str, bytes | None], ...] = ()
) -> bytes:
    lines = [b"key: " + (b"(none)" if key is None else key)]
    lines += [
        b"header: " + name.encode() + b": " + (b"(null)" if content is None else content)
        for name, content in headers
    ]
    return b"\n".join(lines) + b"\n\n" + (b"(none)" if value is None else value) + b"\n"


def read_record(name: str) -> tuple[bytes | None, bytes | None, tuple[tuple[str, bytes], ...]]:
    """What `render_record` has written."""
    head, _, value = (FOLDER / name).read_bytes().partition(b"\n\n")
    key_line, *header_lines = head.split(b"\n")
    key = key_line.removeprefix(b"key: ")
    headers = []
    for line in header_lines:
        header, _, content = line.removeprefix(b"header: ").partition(b": ")
        headers.append((header.decode(), content))
    value = value.removesuffix(b"\n")
    return (
        None if key == b"(none)" else key,
        None if value == b"(none)" else value,
        tuple(headers),
    )
