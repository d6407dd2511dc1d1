"""The API key's file: what is wrong with it is said, and the key itself never is."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from daemon.kombo.api_key import ApiKeyError, ApiKeyFile

KEY = "canary-2f7d1c9be0a84455"


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_the_key_without_its_line_ending(tmp_path: Path, ending: str) -> None:
    (tmp_path / "key").write_bytes((KEY + ending).encode())
    assert ApiKeyFile(tmp_path / "key").current() == KEY


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (f"{KEY}\n{KEY}\n".encode(), "has more than one line"),
        (f"Bearer {KEY}".encode(), "contains no API key"),
        (f"{KEY}é".encode(), "contains no API key"),
        (KEY.encode() + b"\xff", "is not UTF-8"),
        (KEY.encode() + b"\0x", "contains control characters"),
        (KEY.encode("utf-16"), "begins with a byte order mark"),
        (KEY.encode() * 1000, "has more than 4096 bytes"),
    ],
)
def test_what_is_wrong_is_said_without_the_key(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    with pytest.raises(ApiKeyError, match=says) as caught:
        ApiKeyFile(path)
    said = "".join(traceback.format_exception(caught.value))
    assert str(path) in said
    assert KEY not in said


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(ApiKeyError, match=f"^kombo.api_key_file: the file '{path}' cannot be read"):
            ApiKeyFile(path)


def test_a_new_key_is_told_once_and_used(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(KEY)
    key = ApiKeyFile(path)
    assert not key.changed()
    path.write_text("another\n")
    assert key.changed()
    assert key.current() == "another"
    assert not key.changed()


def test_a_file_that_is_away_for_a_moment_keeps_the_key(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(KEY)
    key = ApiKeyFile(path)
    path.unlink()
    assert not key.changed()
    assert key.current() == KEY
    assert key.problem is not None
    assert str(path) in key.problem
    path.write_text("another")
    assert key.changed()
    assert key.problem is None


def test_the_repr_hides_the_key(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEY)
    key = ApiKeyFile(tmp_path / "key")
    assert KEY not in f"{key!r} {key}"
