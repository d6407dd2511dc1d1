"""`coursesyncd republish` on a real Kafka: what it sends, what it leaves out, and that a daemon guards it (R20)."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from click.testing import CliRunner
from kafka import KafkaAdminClient, TopicPartition

from daemon.cli import main
from daemon.codec.repeats import CHECKED, REPEATS
from daemon.codec.result import encode_result
from daemon.commands import republish as subject
from daemon.core.model import Error, Result, Status
from daemon.core.placement import place
from daemon.log.kafka.clients import KafkaConnection
from daemon.log.port import Topics
from daemon.log.topic_access import PartitionReader, Publisher, TopicRecord, read_topic
from tests.integration.daemon_world import (
    DEADLINE,
    UNHURRIED,
    await_results,
    change,
    good,
    publish,
    results,
)
from tests.sandbox.local_http import post
from tests.sandbox.stack import Stack

pytestmark = pytest.mark.kafka

COURSESYNCD = str(Path(sys.executable).with_name("coursesyncd"))
DENIED = "INTEGRATION.PERMISSION_MISSING"
PARTITION = place(b"tool:1", 2)
Place = tuple[int, int]


@dataclass
class Site:
    """Topics of their own, two partitions each, with results that the test writes. No daemon runs."""

    environ: dict[str, str]
    topics: Topics
    connection: KafkaConnection
    published: list[int] = field(default_factory=lambda: [0, 0])

    def change(
        self,
        course: int,
        ended: Status | None = Status.FAILED,
        code: str = DENIED,
        integration: str = "tool:1",
        headers: tuple[tuple[str, bytes | None], ...] = (),
        partition: int | None = None,
        value: bytes | None = None,
    ) -> int:
        """A change of this course is in the input, and has this result. Returns its offset."""
        partition = place(integration.encode(), 2) if partition is None else partition
        made = change(course, integration_id=integration)
        with Publisher(self.connection, self.topics.changes) as publisher:
            publisher.send(integration.encode(), value or json.dumps(made).encode(), headers, partition)
        offset = self.published[partition]
        self.published[partition] += 1
        if ended is not None:
            self.result(offset, ended, code, course, integration, partition)
        return offset

    def result(
        self,
        offset: int,
        status: Status,
        code: str,
        course: int,
        integration: str = "tool:1",
        partition: int = PARTITION,
    ) -> None:
        error = None if status is Status.SUCCEEDED else Error(code, "it was refused")
        known = status is not Status.REJECTED or code == "COURSESYNC.BACKLOG_FULL"
        ended = Result(
            offset,
            status,
            integration if known else None,
            f"course-{course}" if known else None,
            f"chg-{course}" if known else None,
            1_795_946_400_000,
            1_795_946_405_000,
            error=error,
        )
        key, value, headers = encode_result(
            ended, partition, changes_topic=self.topics.changes, journal_topic="j"
        )
        with Publisher(self.connection, self.topics.results) as publisher:
            publisher.send(key, value, headers)

    def run(self, *arguments: str, typed: str | None = None, code: int = 0) -> str:
        done = CliRunner().invoke(main, ["republish", *arguments], env=self.environ, input=typed)
        assert done.exit_code == code, done.output
        return done.output

    def repeats(self) -> dict[int, tuple[int, TopicRecord]]:
        """The records that repeat a change of the partition of tool:1: offset of the change → how far was looked, and the record."""
        found = {}
        for record in read_topic(self.connection, self.topics.changes):
            headers = dict(record.headers)
            if (named := headers.get(REPEATS)) is not None:
                *place_, offset = named.decode().rsplit("/", 2)
                assert place_ == [self.topics.changes, str(record.partition)]
                assert int(offset) not in found, "it is sent once"
                found[int(offset)] = int(headers[CHECKED] or b""), record
        return found


@pytest.fixture
def site(kafka_bootstrap: str, topic_names: Topics) -> Site:
    environ = {"COURSESYNC_KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap} | {
        f"COURSESYNC_TOPICS_{name.upper()}": getattr(topic_names, name)
        for name in ("changes", "journal", "results", "dead_letters", "courses", "control")
    }
    done = CliRunner().invoke(main, ["topics", "create", "--partitions", "2"], env=environ)
    assert done.exit_code == 0, done.output
    return Site(environ, topic_names, KafkaConnection((kafka_bootstrap,)))


def test_a_change_is_sent_again_as_it_was(site: Site) -> None:
    offset = site.change(1, headers=(("n", b"1"), ("n", b"")))
    site.change(2, Status.SUCCEEDED)
    said = site.run("--yes")
    assert "1 change found in the results" in said
    assert "1 change sent again." in said
    ((checked, record),) = site.repeats().values()
    assert (checked, record.partition, record.key) == (2, PARTITION, b"tool:1")
    original = next(
        each for each in read_topic(site.connection, site.topics.changes) if each[1:3] == (PARTITION, offset)
    )
    assert (record.value, record.headers[:2]) == (original.value, original.headers)
    assert "Nothing to send." in site.run("--yes"), "what was sent is the newest change of its course"


def test_only_the_newest_change_of_a_course_and_none_before_a_newer_one(site: Site) -> None:
    site.change(1)
    newest = site.change(1)
    site.change(2)
    site.change(2, None)  # it has no result yet
    site.change(3)
    site.change(3, None, value=b"{}")  # no change at all
    said = site.run("--yes")
    assert "2 not sent: a newer change of the course follows" in said
    assert set(site.repeats()) == {newest, 4}


def test_the_options_choose(site: Site) -> None:
    by_code = site.change(1, code="LMS.COURSE_ARCHIVED")
    by_course = site.change(2)
    timed_out = site.change(3, Status.TIMED_OUT, "COURSESYNC.TASK_TIMED_OUT")
    site.change(4, integration="tool:2")
    for arguments, offset in (
        (["--code", "LMS.*"], by_code),
        (["--course", "course-2", "--code", "INTEGRATION.*"], by_course),
        (["--status", "timed_out", "--since", "2026-11-28"], timed_out),
    ):
        before = set(site.repeats())
        site.run("--yes", *arguments)
        assert set(site.repeats()) - before == {offset}
    assert "Nothing to send." in site.run("--yes", "--integration", "other:*")
    assert "1 change to be sent again" in site.run("--dry-run", "--change-id", "chg-4")
    assert len(site.repeats()) == 3, "a dry run sends nothing"
    assert "in the future" in site.run("--since", "2999-01-01", code=2)


def test_it_asks_first(site: Site) -> None:
    site.change(1)
    assert "Send 1 change again? [y/N]: n\nNothing was changed." in site.run(typed="n\n")
    assert not site.repeats()
    assert "sent again." in site.run(typed="y\n")


def test_what_cannot_be_sent_is_named(site: Site, kafka_bootstrap: str) -> None:
    deleted = site.change(1)
    site.change(2, Status.REJECTED, "COURSESYNC.RECORD_INVALID", value=b"{}")
    full = site.change(3, Status.REJECTED, "COURSESYNC.BACKLOG_FULL")
    elsewhere = site.change(4, partition=1 - PARTITION)
    site.result(77, Status.FAILED, DENIED, 5)
    site.result(5, Status.FAILED, DENIED, 6, partition=9)
    admin = KafkaAdminClient(bootstrap_servers=kafka_bootstrap)
    admin.delete_records({TopicPartition(site.topics.changes, PARTITION): deleted + 1})
    admin.close()
    said = site.run("--yes", "--status", "FAILED", "--status", "REJECTED")
    name = site.topics.changes
    assert (
        f"{name}/{PARTITION}/{deleted}, change chg-1 of course-1 in tool:1: the input does not have its record any more"
        in said
    )
    assert f"{name}/{PARTITION}/1, change ? of ? in ?: it would be rejected again: " in said
    assert (
        f"{name}/{1 - PARTITION}/{elsewhere}, change chg-4 of course-4 in tool:1: its key now belongs in"
        in said
    )
    assert f"{name}/{PARTITION}/77" in said
    assert f"{name}/9/5, change chg-6 of course-6 in tool:1: the topic {name} has no partition 9" in said
    assert "5 not sent for other reasons" in said
    assert set(site.repeats()) == {full}


def test_a_newer_change_that_comes_while_it_sends_is_seen(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "PIECE_RECORDS", 2)
    offsets = [site.change(course) for course in range(4)]
    publish_piece = subject._Sending._publish
    pieces: list[int] = []

    def slow(sending: subject._Sending, *arguments: object) -> None:
        if pieces:
            site.change(3, None)
        pieces.append(1)
        publish_piece(sending, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(subject._Sending, "_publish", slow)
    said = site.run("--yes")
    assert "3 changes sent again." in said
    assert "1 not sent: a newer change of the course has just arrived" in said
    found = site.repeats()
    assert set(found) == set(offsets[:3])
    assert [found[offset][0] for offset in offsets[:3]] == [4, 4, 7], "it looks before each piece"


def test_ctrl_c_says_how_to_continue_and_nothing_is_sent_twice(site: Site) -> None:
    count = 3000
    with (
        Publisher(site.connection, site.topics.changes) as changes,
        Publisher(site.connection, site.topics.results) as ends,
    ):
        for number in range(count):
            changes.send(b"tool:1", json.dumps(change(number)).encode())
            ended = Result(
                number, Status.FAILED, "tool:1", f"course-{number}", f"chg-{number}", 1, 1_795_946_405_000
            )
            key, value, _ = encode_result(
                ended, PARTITION, changes_topic=site.topics.changes, journal_topic="j"
            )
            ends.send(key, value)
    environ = {k: v for k, v in os.environ.items() if not k.startswith("COURSESYNC_")} | site.environ
    arguments = [COURSESYNCD, "republish", "--yes", "--since", "10000d", "--status", "failed"]
    main_, terminal = pty.openpty()
    with subprocess.Popen(arguments, env=environ, stdout=subprocess.PIPE, stderr=terminal) as process:
        with PartitionReader(site.connection, site.topics.changes) as reader:
            while reader.bounds(PARTITION)[1] == count:
                assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert process.stdout.read()
        assert process.wait(DEADLINE) == 1
    os.close(terminal)
    said = os.read(main_, 100_000).decode()
    os.close(main_)
    assert "Interrupted by SIGINT." in said
    sent = len(site.repeats())
    assert f"{sent:,} of 3,000 changes sent again. To continue, type:" in said
    (line,) = (line.strip() for line in said.splitlines() if line.strip().startswith("coursesyncd republish"))
    assert re.search(r"--status FAILED --since \d{4}-\d\d-\d\dT[\d:.]+Z --yes$", line)
    assert f"{count - sent:,} changes sent again." in site.run(*line.split()[2:])
    assert len(site.repeats()) == count


# --- with a daemon ----------------------------------------------------------------------------------

FAULTS = """
[[rules]]
fault = "item_fails"
codes = ["LMS.COURSE_UPDATE_NOT_SUPPORTED"]
"""


@pytest.fixture
def stack(tmp_path: Path, kafka_bootstrap: str) -> Iterator[Stack]:
    faults = tmp_path / "faults.toml"
    faults.write_text(FAULTS)
    with Stack(
        tmp_path, faults=str(faults), seed=1, say=print, kafka=kafka_bootstrap, settings=UNHURRIED
    ) as stack:
        yield stack


def does(stack: Stack, *arguments: str) -> str:
    done = subprocess.run(
        [COURSESYNCD, *arguments],
        env=stack.environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_daemon_sends_repeats_and_guards_them(stack: Stack) -> None:
    stack.start_daemon()
    publish(stack, *map(good, range(3)))
    await_results(stack, 3)
    assert {each["status"] for each in results(stack)} == {"FAILED"}
    post(f"{stack.addresses.simulator.url}/_sim/faults", b"none")
    assert "3 changes sent again." in does(stack, "republish", "--code", "LMS.*", "--yes")
    ended = await_results(stack, 6)
    assert sorted(each["status"] for each in ended) == ["FAILED"] * 3 + ["SUCCEEDED"] * 3
    assert "Nothing to send." in does(stack, "republish", "--code", "LMS.*", "--yes")

    at, record = (
        stack.addresses,
        next(each for each in read_topic(stack.addresses.connection, stack.addresses.topics.changes)),
    )
    with Publisher(
        at.connection, at.topics.changes
    ) as publisher:  # as if the command had not looked far enough
        for headers in (
            ((REPEATS, f"{record.topic}/{record.partition}/{record.offset}".encode()), (CHECKED, b"1")),
            ((REPEATS, f"other/{record.partition}/{record.offset}".encode()), (CHECKED, b"1")),
        ):
            publisher.send(record.key, record.value, headers, record.partition)
    by_offset = {each["change"]["offset"]: each for each in await_results(stack, 8)}
    superseded, rejected = by_offset[6], by_offset[7]
    assert (superseded["status"], superseded["superseded_by"]["offset"]) == ("SUPERSEDED", 3)
    assert rejected["status"] == "REJECTED"
    assert "in another partition" in rejected["error"]["message"]
