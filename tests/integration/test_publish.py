"""``coursesyncd publish``, as a person uses it: what it refuses, and what it says when it is ended, on a real broker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from daemon.log.port import Topics
from tests.integration.command_world import World
from tests.integration.daemon_world import DEADLINE, wait_until

pytestmark = pytest.mark.kafka

BOM = b"\xef\xbb\xbf"


def line(number: int, **course: object) -> bytes:
    change = {
        "id": f"chg-{number}",
        "type": "course.upserted",
        "integration_id": "workday:a",
        "origin_id": f"c{number}",
        "course": {"type": "EXTERNAL", "title": "Title", "course_url": "https://example.com", **course},
    }
    return json.dumps(change).encode()


GOOD = [line(0), line(1), line(2).replace(b"upserted", b"deactivated")]
REFUSED = {
    "not JSON": (b"{oops", "not JSON"),
    "not a number": (line(5, duration=float("nan")), "NaN"),
    "half a pair": (line(5, title="\ud800"), "surrogate"),
    "a second mark": (BOM + line(5), "byte order mark"),
    "no course": (b'{"id": "x"}', "course: missing, expected a JSON object"),
    "language": (line(5, languages=["en", "pt_BR"]), 'course.languages[1]: found "pt_BR"'),
    "deep": (b'{"x": ' + b"[" * 600 + b"]" * 600 + b"}", "nested too deep"),
    "NUL": (line(5, title="a\0"), "NUL"),
    "Latin-1": (line(5).replace(b"Title", b"T\xeftle"), "not valid UTF-8"),
    "retired": (line(5).replace(b"upserted", b"retired"), "expected course.upserted or course.deactivated"),
}


@pytest.fixture
def publishing(kafka_bootstrap: str, topic_names: Topics) -> World:
    return World("publish", kafka_bootstrap, topic_names.changes)


def test_a_file_with_a_refused_line_is_not_published_at_all(publishing: World, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_bytes(b"\n".join(GOOD))
    bad.write_bytes(b"\n\n".join([line(3), *(content for content, _ in REFUSED.values())]))
    done = publishing.run(good, bad)
    told = done.stderr.decode()
    assert done.returncode == 1
    for number, (_, reason) in enumerate(REFUSED.values()):
        assert any(f"bad.jsonl:{3 + 2 * number}: " in row and reason in row for row in told.splitlines()), (
            reason
        )
    assert f"{len(REFUSED)} lines are refused, so nothing was published" in told
    with bad.open("rb") as stdin:
        again = subprocess.run(
            publishing.arguments,
            stdin=stdin,
            env=publishing.environment,
            capture_output=True,
            timeout=DEADLINE,
            check=False,
        )
    assert b"stdin:3: the record is not JSON" in again.stderr
    assert publishing.values() == []


def test_a_mark_at_the_start_of_a_file_is_left_out(publishing: World, tmp_path: Path) -> None:
    for name, content in (("a", GOOD[0]), ("b", GOOD[1])):
        (tmp_path / name).write_bytes(BOM + content + b"\r\n")
    done = publishing.run(tmp_path / "a", tmp_path / "b", Path("-"), stdin=BOM + GOOD[2])
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == f"3 changes published to {publishing.topic}.\n"
    assert publishing.values() == GOOD


def test_a_file_in_utf_16_is_named_as_such(publishing: World, tmp_path: Path) -> None:
    for encoding in ("utf-16", "utf-16-be"):
        (tmp_path / "a").write_bytes(b"\n".join(GOOD).decode().encode(encoding))
        done = publishing.run(tmp_path / "a")
        assert done.returncode == 1
        assert b"/a:1: the record is UTF-16" in done.stderr
        assert b"surrogate" not in done.stderr
        assert b"Confluent" not in done.stderr


def test_a_pipe_is_published_up_to_the_refused_line(publishing: World) -> None:
    done = publishing.run(stdin=b"\n".join([*GOOD[:2], b"", line(5, title=""), GOOD[2]]))
    assert done.returncode == 1
    assert "stdin:4: course.title: found" in done.stderr.decode()
    assert done.stdout.decode() == f"2 changes published to {publishing.topic}, up to stdin:2.\n"
    assert publishing.values() == GOOD[:2]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_was_sent_before_a_signal_is_told(publishing: World, number: signal.Signals) -> None:
    process = publishing.start()
    assert process.stdin is not None
    process.stdin.write(GOOD[0] + b"\n\n" + GOOD[1] + b"\n" + GOOD[2][:20])
    process.stdin.flush()
    wait_until(lambda: len(publishing.values()) == 2, "the records")
    process.send_signal(number)
    out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    assert err.decode() == f"Interrupted by {number.name}.\n"
    assert out.decode() == f"2 changes published to {publishing.topic}, up to stdin:3.\n"
    assert publishing.values() == GOOD[:2]


def test_a_reader_that_has_gone_does_not_hide_what_was_sent(publishing: World) -> None:
    reading, writing = os.pipe()
    process = publishing.start(stdout=writing)
    os.close(writing)
    os.close(reading)
    _, err = process.communicate(b"\n".join(GOOD), timeout=DEADLINE)
    assert err.decode() == f"3 changes published to {publishing.topic}.\n"
    assert process.returncode == 0
