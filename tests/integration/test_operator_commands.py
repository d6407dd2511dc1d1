"""`pause`, `resume`, `give-up` and `integrations` on a real Kafka, beside journals with work in progress. No daemon runs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from kafka import KafkaProducer

from daemon.cli import main
from daemon.codec import decode_control
from daemon.commands.decisions import read_decisions
from daemon.core import journal
from daemon.core.control import Decision, GiveUp, Pause
from daemon.core.journal import Attempt, Position, Refusal, SealedBatch, Task, Wait
from daemon.core.model import Error, Item
from daemon.log.kafka.admin import NewTopic, create_topics, topic_id
from daemon.log.kafka.clients import Clients, KafkaConnection
from daemon.log.port import Topics
from daemon.log.topic_access import Publisher, read_topic
from tests.integration.daemon_world import DEADLINE

pytestmark = pytest.mark.kafka

COMMAND = str(Path(sys.executable).parent / "coursesyncd")
BODY = msgspec.Raw(b"{}")
REPAIR = Error(
    "INTEGRATION.AUTHENTICATION_INVALID",
    "The credentials of the learning system are no longer valid: ask the customer to connect it again.",
)
FAR = 32_503_680_000_000  # the year 3000: nothing becomes due during the test


def item(offset: int, origin_id: str) -> Item:
    return Item(origin_id, offset, f"chg-{offset}", 1_795_000_000_000 + offset, 1, 0)


def batch(id_: str, integration: str, *items: Item) -> tuple[bytes, journal.Value]:
    return journal.batch_key(id_), SealedBatch(integration, 1_795_000_100_000, 0, items, BODY)


def wait(
    integration: str, item: Item, not_before: int | None = None, last: Attempt | None = None
) -> tuple[bytes, journal.Value]:
    return journal.wait_key(integration, item.origin_id), Wait(item, BODY, not_before, last)


@dataclass
class Site:
    """Topics with three partitions. Their input has nine records in each, of which the first eight are read."""

    environ: dict[str, str]
    topics: Topics
    connection: KafkaConnection
    input_id: str

    def run(self, *arguments: str, typed: str | None = None) -> Result:
        return CliRunner().invoke(main, arguments, env=self.environ, input=typed)

    def does(self, *arguments: str, typed: str | None = None) -> str:
        done = self.run(*arguments, typed=typed)
        assert done.exit_code == 0, done.output
        return done.output

    def rows(self, *patterns: str) -> dict[str, dict[str, Any]]:
        found = [json.loads(line) for line in self.does("integrations", *patterns, "--json").splitlines()]
        return {row["integration"]: row for row in found}

    def decisions(self) -> list[Decision]:
        """All that were written, with those that others have replaced."""
        return [
            decode_control(record.value or b"") for record in read_topic(self.connection, self.topics.control)
        ]

    def journals(self, partition: int, records: Iterable[tuple[bytes | None, bytes]]) -> None:
        self._write(self.topics.journal, partition, records)

    def _write(self, topic: str, partition: int, records: Iterable[tuple[bytes | None, bytes]]) -> None:
        servers = self.connection.bootstrap_servers
        with contextlib.closing(KafkaProducer(bootstrap_servers=servers)) as producer:
            for key, value in records:
                producer.send(topic, value, key, partition=partition).get(DEADLINE)


@pytest.fixture
def site(kafka_bootstrap: str, topic_names: Topics) -> Site:
    environ = {"COURSESYNC_KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap} | {
        f"COURSESYNC_TOPICS_{name.upper()}": getattr(topic_names, name)
        for name in ("changes", "journal", "results", "dead_letters", "courses", "control")
    }
    done = CliRunner().invoke(main, ["topics", "create", "--partitions", "3"], env=environ)
    assert done.exit_code == 0, done.output
    connection = KafkaConnection((kafka_bootstrap,))
    with Clients(connection).admin() as admin:
        input_id = topic_id(admin, topic_names.changes)
    assert input_id is not None
    site = Site(environ, topic_names, connection, input_id)
    work: dict[int, tuple[tuple[bytes, journal.Value], ...]] = {
        0: (
            wait("tool:1", item(1, "a")),
            wait("tool:1", item(8, "late")),  # read after the records before were counted
            batch("0-2-1", "tool:1", item(2, "b"), item(3, "c")),
            (journal.refusal_key("0-2-1"), Refusal("park", REPAIR, 1_795_000_200_000, FAR)),
        ),
        1: (
            batch("1-1-1", "tool:1", item(1, "d")),
            (journal.task_key("1-1-1"), Task("task-1", 1_795_000_300_000)),
            batch("1-2-1", "tool:2", item(2, "e")),
            (journal.task_key("1-2-1"), Task("task-2", 1_795_000_300_000)),
        ),
        2: (wait("other:1", item(1, "f"), FAR, Attempt("2-1-1", Error(None, "no answer"))),),
    }
    for partition, records in work.items():
        site._write(topic_names.changes, partition, [(b"k", b"{}")] * 9)
        position = Position(journal.FORMAT, 8, input_id, 3, 0)
        every = ((journal.POSITION_KEY, position), *records)
        site.journals(partition, [(key, journal.encode_value(value)) for key, value in every])
    return site


def test_a_pause_is_written_with_who_when_and_why_and_says_what_it_concerns(site: Site) -> None:
    said = site.does("pause", "tool:*", "other:1", "--reason", "maintenance", "--by", "ann", "--until", "2h")
    lines = said.splitlines()
    assert lines[0].startswith("tool:*: paused until 20")
    assert "Every replica obeys within 2 s. Open tasks are polled to their ends." in lines
    assert lines[-4:] == [
        "tool:*: 2 integrations have waiting or open changes:",
        "  tool:1: 4 waiting, 1 in open tasks",
        "  tool:2: 0 waiting, 1 in open tasks",
        "other:1: 1 waiting, 0 in open tasks",
    ]
    first, second = site.decisions()
    assert isinstance(first, Pause)
    assert isinstance(second, Pause)
    assert (first.integration, second.integration) == ("tool:*", "other:1")
    assert (first.paused, first.by, first.reason) == (True, "ann", "maintenance")
    assert first.until is not None
    assert first.until - first.decided_at >= 2 * 3_600_000 - 60_000


def test_what_is_paused_already_is_said_and_a_part_can_be_resumed(site: Site) -> None:
    site.does("pause", "tool:*", "--by", "ann", "--reason", "maintenance")
    again = site.does("pause", "tool:1", "--by", "bob")
    assert "It was paused already with tool:* by ann" in again
    assert ": maintenance. The new decision counts for tool:1." in again
    resumed = site.does("resume", "tool:1", "other:1")
    assert "tool:1: resumed." in resumed
    assert "was paused by bob" in resumed
    assert "other:1: is not paused; nothing was written." in resumed
    assert len(site.decisions()) == 3

    found = site.rows()
    assert {name: row["state"] for name, row in found.items()} == {
        "other:1": "backing off",
        "tool:*": "paused",
        "tool:1": "waits for customer",
        "tool:2": "paused",
    }
    assert found["tool:2"]["paused"]["by"] == "ann"
    assert "tool:*: resumed." in site.does("resume", "tool:*")
    assert site.rows("tool:2")["tool:2"]["state"] == "running"
    assert "is not paused" in site.does("resume", "*")


def test_integrations_shows_what_is_under_way(site: Site) -> None:
    one = site.rows("tool:1")["tool:1"]
    assert (one["waiting"], one["sealed"], one["open_tasks"], one["open_changes"]) == (2, 2, 1, 1)
    assert one["last_error"]["code"] == REPAIR.code
    assert one["next_probe"] == "3000-01-01T00:00:00.000Z"
    table = site.does("integrations", "list", "tool:1")
    assert table.splitlines()[0].split() == ["INTEGRATION", "STATE", "WAITING", "PENDING", "WHY"]
    assert REPAIR.message.removesuffix(".") in table
    assert "Nothing is under way for what was asked" in site.does("integrations", "unknown:*")


def test_a_table_fits_the_terminal_and_cuts_nothing(site: Site) -> None:
    reason = "maintenance of the learning system, see ticket 4711 and the calendar of the customer"
    site.does("pause", "tool:1", "--reason", reason)
    shown = on_terminal([COMMAND, "integrations"], columns=80, environ=os.environ | site.environ)
    assert all(len(line) <= 80 for line in shown.splitlines()), shown
    assert "…" not in shown
    column = shown.splitlines()[0].index("WHY")
    whys = " ".join(line[column:].strip() for line in shown.splitlines())
    assert reason in whys
    assert REPAIR.message.removesuffix(".") in whys


def test_give_up_names_everything_published_before_now(site: Site) -> None:
    dry = site.does("give-up", "tool:1", "--dry-run")
    assert "waiting      2 changes: FAILED with COURSESYNC.GIVEN_UP" in dry
    assert "not accepted 2 changes in 1 submission" in dry
    assert "in tasks     1 change in 1 open task: go on" in dry
    assert "not read yet up to 3 records" in dry
    assert "dry run" in dry
    assert "Nothing was changed." in site.does("give-up", "tool:1", typed="n\n")
    assert site.decisions() == []

    done = site.does("give-up", "tool:1", "--open-tasks", "--by", "ann", "--reason", "tool gone", typed="y\n")
    assert "Give up 2 waiting changes, 1 submission without a task, 1 open task of tool:1? [y/N]: y" in done
    assert "Given up. Every replica obeys within 2 s." in done
    (decision,) = site.decisions()
    assert isinstance(decision, GiveUp)
    assert decision == GiveUp(
        "tool:1", None, True, site.input_id, (9, 9, 9), "ann", "tool gone", decision.decided_at
    )
    (given_up,) = site.rows("tool:1")["tool:1"]["given_up"]
    assert (given_up["by"], given_up["reason"]) == ("ann", "tool gone")


def test_one_course_is_given_up_without_the_others_of_its_batch(site: Site) -> None:
    said = site.does("give-up", "tool:1", "--course", "b", "--yes")
    assert "1 submission or open task with other changes as well: they go on" in said
    (decision,) = site.decisions()
    assert isinstance(decision, GiveUp)
    assert (decision.origin_id, decision.open_tasks) == ("b", False)


def test_a_journal_that_cannot_be_read_holds_up_no_decision(site: Site) -> None:
    site.journals(2, [(b'["wait","x","y"]', b"damaged")])
    paused = site.run("pause", "*")
    assert paused.exit_code == 0
    assert "Every replica obeys within 2 s." in paused.output
    assert "Not counted: " in paused.output
    given_up = site.run("give-up", "other:1", "--yes")
    assert given_up.exit_code == 0
    assert "Not counted: " in given_up.output
    listed = site.run("integrations")
    assert listed.exit_code == 1
    assert "tool:1" in listed.output
    assert "Error: " in listed.output


def test_a_record_of_another_program_counts_for_nothing_and_is_named(site: Site) -> None:
    site.does("pause", "tool:2")
    with Publisher(site.connection, site.topics.control) as publisher:
        publisher.send(b"?", b"?")
    listed = site.does("integrations")
    assert f"{site.topics.control}/0/1 is not a decision" in listed
    assert "paused by" in listed


@pytest.mark.parametrize(
    "arguments", [("pause", "a"), ("resume", "a"), ("give-up", "a", "--yes"), ("integrations",)], ids=" ".join
)
def test_without_a_usable_control_topic_nothing_is_decided(
    kafka_bootstrap: str, topic_names: Topics, arguments: tuple[str, ...]
) -> None:
    environ = {
        "COURSESYNC_KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap,
        "COURSESYNC_TOPICS_CONTROL": topic_names.control,
    }
    missing = CliRunner().invoke(main, arguments, env=environ)
    assert missing.exit_code == 1
    assert f"There is no topic {topic_names.control}. `coursesyncd topics create`" in missing.output
    connection = KafkaConnection((kafka_bootstrap,))
    with Clients(connection).admin() as admin:
        create_topics(admin, [NewTopic(topic_names.control, 2, 1)])
    several = CliRunner().invoke(main, arguments, env=environ)
    assert several.exit_code == 1
    assert "has 2 partitions, but must have exactly one" in several.output


def test_all_decisions_are_read_in_the_order_of_their_offsets(site: Site) -> None:
    for number in range(5):
        site.does("pause", f"tool:{number}")
    site.does("resume", "tool:*")
    site.does("pause", "tool:3")
    control = read_decisions(site.connection, site.topics.control, 0).control
    assert control.is_loaded
    assert [each.integration for each in control.pauses] == ["tool:3"]


def on_terminal(command: list[str], *, columns: int, environ: dict[str, str]) -> str:
    """What the command prints on a terminal of this width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environ = {key: value for key, value in environ.items() if key not in ("COLUMNS", "LINES")}
    environ |= {"TERM": "dumb", "NO_COLOR": "1"}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, env=environ) as process:
        os.close(theirs)
        said = b""
        with contextlib.suppress(OSError):  # Linux: the other end was closed
            while part := os.read(ours, 65536):
                said += part
        assert process.wait(DEADLINE) == 0, said
    os.close(ours)
    return said.decode().replace("\r\n", "\n")
