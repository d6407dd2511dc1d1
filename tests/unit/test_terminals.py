"""What commands print on terminals of every kind: no traceback, and nothing that a terminal obeys."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.codec.texts import escaped
from daemon.commands.tables import print_table, printable_json

COMMAND = str(Path(sys.executable).parent / "coursesyncd")
HOSTILE = "a\x9b31m\x85b\u202ec\u2066d\u200fe\u061cf\x1b[2J\x7f\u2028\U000e0041"


def run(
    *arguments: str | bytes,
    environment: Mapping[str, str] | None = None,
    stdout: IO[bytes] | int = subprocess.PIPE,
) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, **(environment or {})},
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1:strict"},
        {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"},
        {"PYTHONIOENCODING": "utf-8:strict"},
    ],
)
def test_a_text_that_the_terminal_cannot_show_is_escaped(environment: dict[str, str], tmp_path: Path) -> None:
    """The name of a file is repeated in the message; it need not be text at all."""
    file = os.fsencode(tmp_path) + "/課程-ü".encode() + b"-\xff.jsonl"
    Path(os.fsdecode(file)).write_bytes(b"{oops\n")
    done = run("publish", file, "--bootstrap-servers", "localhost:1", environment=environment)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert b"nothing was published" in done.stderr
    assert b".jsonl:1: the record is not JSON" in done.stderr


def test_an_output_that_is_full_or_closed_is_no_traceback() -> None:
    with Path("/dev/full").open("wb") as full:
        done = run("--help", stdout=full)
    assert done.returncode == 1
    assert done.stderr.decode() == f"Error: the output cannot be written: {os.strerror(errno.ENOSPC)}.\n"
    reading, writing = os.pipe()
    os.close(reading)
    try:
        gone = run("--help", stdout=writing)
    finally:
        os.close(writing)
    assert (gone.returncode, gone.stderr) == (1, b"")


@pytest.mark.parametrize("closed", [1, 2])
def test_a_stream_that_was_closed_before_the_start(closed: int) -> None:
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$0" run --config ./no-such.toml {closed}>&-', COMMAND],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("columns", ["0", "1", "2", "7", "40"])
def test_a_table_on_a_narrow_terminal(columns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    main, terminal = os.openpty()
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setenv("TERM", "xterm")
    with os.fdopen(terminal, "w", encoding="ascii", errors="backslashreplace") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        print_table(["COURSE", "AGE"], [["課程-é", 5], [None, None]])
    assert os.read(main, 10_000)
    os.close(main)


def test_json_for_a_terminal_is_the_same_json() -> None:
    document = {"text": HOSTILE, HOSTILE: ["plain", "課程 é 🎓"]}
    raw = json.dumps(document, ensure_ascii=False, indent=2).encode()
    shown = printable_json(raw)
    assert shown.isprintable()
    assert json.loads(shown) == document
    assert "課程" in shown


@given(st.recursive(st.text() | st.integers(), lambda inner: st.dictionaries(st.text(), inner)))
def test_any_json_for_a_terminal_is_the_same_json(document: object) -> None:
    raw = msgspec.json.encode(document)
    shown = printable_json(raw)
    assert shown.isprintable()
    assert json.loads(shown) == document


@given(st.text())
def test_an_escaped_text_has_nothing_that_a_terminal_obeys(text: str) -> None:
    shown = escaped(text)
    assert not {unicodedata.category(character) for character in shown} & {"Cc", "Cf", "Zl", "Zp", "Cs"}
    assert escaped(shown) == shown
