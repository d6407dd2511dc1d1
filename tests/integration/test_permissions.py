"""docs/permissions.md on a broker with an authorizer: each program works with the rights of its row and no others, and
says which one is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition

from daemon.cli import main
from daemon.codec.result import encode_result
from daemon.core.journal import POSITION_KEY, encode_value
from daemon.core.model import Error, Now, Result, Status
from daemon.core.placement import place
from daemon.core.stale_tasks import first_position
from daemon.log.kafka.admin import topic_id
from daemon.log.kafka.clients import KafkaConnection
from daemon.log.kafka.producer import transactional_id
from daemon.log.topic_access import Publisher, read_topic
from tests.integration.console_visit import decide, sign_in
from tests.integration.daemon_world import DEADLINE, change, wait_until
from tests.integration.permissions import PASSWORD, GuardedBroker, Right, Rights, granted, table
from tests.sandbox.process import Child
from tests.sandbox.results_view import ResultsView

COURSESYNCD = str(Path(sys.executable).with_name("coursesyncd"))
KEY = "sandbox-key"
CHANGES, JOURNAL, RESULTS, DEAD_LETTERS = (
    "course-changes",
    "course-sync-journal",
    "course-sync-results",
    "course-sync-dead-letters",
)
COURSES = "course-sync-courses"
CONTROL = "course-sync-control"
INTEGRATION = b"tool:1"
TOKEN = "0123456789abcdef0123"
"""For signing in to the console."""


def test_the_commands_of_the_page_grant_what_its_table_says() -> None:
    assert granted() == table()
    assert table()["run"]


class World:
    """The topics have the names of the page, so that the page is granted to the letter. Each program has a user."""

    def __init__(self, broker: GuardedBroker, rights: Rights, url: str, folder: Path) -> None:
        self.rights = rights
        self.open = KafkaConnection((broker.bootstrap,))
        self._guarded, self._url, self._folder = broker.guarded, url, folder
        self._starts = self._published = 0
        self.view: ResultsView
        """There when the topics are."""
        for name, secret in (("key", KEY), ("password", PASSWORD)):
            (folder / name).write_text(secret)

    def environ(self, user: str) -> dict[str, str]:
        return {
            "COURSESYNC_KAFKA_BOOTSTRAP_SERVERS": self._guarded,
            "COURSESYNC_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "COURSESYNC_KAFKA_SASL_MECHANISM": "PLAIN",
            "COURSESYNC_KAFKA_SASL_USERNAME": user,
            "COURSESYNC_KAFKA_SASL_PASSWORD_FILE": str(self._folder / "password"),
            "COURSESYNC_KOMBO_BASE_URL": self._url,
            "COURSESYNC_KOMBO_API_KEY_FILE": str(self._folder / "key"),
            "COURSESYNC_ADMIN_HOST": "127.0.0.1",
            "COURSESYNC_ADMIN_PORT": "0",
            "COURSESYNC_BATCH_LINGER": "50ms",
            "COURSESYNC_POLL_FIRST_AFTER": "100ms",
        }

    def does(self, program: str, *arguments: str, given: str | None = None) -> str:
        """Its user has the program's rights; what it says."""
        done = CliRunner().invoke(
            main, [*program.split(), *arguments], env=self.environ(user_of(program)), input=given
        )
        assert done.exit_code == 0, done.output
        return done.output

    def refuses(self, program: str, *arguments: str) -> str:
        done = CliRunner().invoke(main, [*program.split(), *arguments], env=self.environ(user_of(program)))
        assert done.exit_code == 1, done.output
        return done.output

    @contextmanager
    def daemon(self) -> Iterator[Child]:
        self._starts += 1
        log = self._folder / f"run-{self._starts}.log"
        child = Child.start("run", [COURSESYNCD, "run"], log=log, env=self.environ("run"), hold_sigterm=True)
        try:
            yield child
        finally:
            if child.running:
                child.stop(DEADLINE)

    @contextmanager
    def console(self) -> Iterator[str]:
        """Its address."""
        self._starts += 1
        log, token = self._folder / f"console-{self._starts}.log", self._folder / "token"
        token.write_text(TOKEN)
        command = [COURSESYNCD, "console", "--port", "0", "--token-file", str(token)]
        environ = self.environ("console") | {"COURSESYNC_LOG_FORMAT": "json"}
        child = Child.start("console", command, log=log, env=environ, hold_sigterm=True)
        try:
            wait_until(lambda: "console.started" in child.output(), "the console listens")
            (started,) = (line for line in child.output().splitlines() if "console.started" in line)
            yield f"http://127.0.0.1:{json.loads(started)['port']}"
        finally:
            child.stop(DEADLINE)

    def publish(self) -> None:
        """A change that succeeds and one that is rejected: all topics are written to."""
        with Publisher(self.open, CHANGES) as publisher:
            self._published += 1  # what is known already would write nothing to the courses
            for value in (json.dumps(change(100 + self._published)), "{}"):
                publisher.send(INTEGRATION, value.encode())

    def results(self) -> int:
        self.view.poll(0.1)
        return len(self.view.resolved)


def user_of(program: str) -> str:
    return program.replace(" ", "-")


@pytest.fixture(scope="module")
def world(startable_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("permissions")
    command = [sys.executable, "-m", "tests.sandbox.simulator", "--api-key", KEY, "--task-seconds", "0"]
    with (
        GuardedBroker(map(user_of, table())) as broker,
        closing(KafkaAdminClient(bootstrap_servers=broker.bootstrap)) as admin,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as simulator,
    ):
        try:
            assert simulator.stdout is not None
            url = json.loads(simulator.stdout.readline())["base_url"]
            world = World(broker, Rights(admin), url, folder)
            for program, rights in table().items():
                world.rights.grant(user_of(program), rights)
            world.does("topics create", "--partitions", "2", "--replication-factor", "1")
            with ResultsView(world.open, RESULTS) as world.view:
                yield world
        finally:
            simulator.terminate()


@pytest.mark.kafka
def test_a_hanging_transaction_is_ended_with_the_rights_for_it_alone(world: World) -> None:
    """Before anything was read: it holds the position at which the partition begins anyway."""
    own_id = transactional_id(JOURNAL, 1)
    producer = KafkaProducer(bootstrap_servers=world.open.bootstrap_servers, transactional_id=own_id)
    with (
        closing(producer),
        closing(KafkaAdminClient(bootstrap_servers=world.open.bootstrap_servers)) as admin,
    ):
        changes = topic_id(admin, CHANGES)
        assert changes is not None
        producer.init_transactions()
        manager = producer._transaction_manager
        tell = manager.maybe_add_partition_to_transaction
        manager.maybe_add_partition_to_transaction = lambda tp: _forget(manager, tell, tp)
        producer.begin_transaction()
        position = encode_value(first_position(0, changes, 2, Now(0, 0.0)))
        producer.send(JOURNAL, position, POSITION_KEY, partition=1).get(DEADLINE)
        producer.commit_transaction()
    for missing in sorted(table()["end-transaction"]):
        world.rights.revoke("end-transaction", missing)
        try:
            said = world.refuses("end-transaction", "--partition", "1", "--yes")
        finally:
            world.rights.grant("end-transaction", [missing])
        assert "does not allow this user" in said
        assert missing.name in said or missing.kind in said
    assert "Done" in world.does("end-transaction", "--partition", "1", "--yes")


@pytest.mark.kafka
def test_each_program_works_with_its_rights_alone(world: World) -> None:
    world.does("topics create")  # looks at what is there
    world.does("check")
    world.does("publish", given=json.dumps(change(3)))
    world.publish()
    here = place(INTEGRATION, 2)
    # The end of a transaction lies behind what was read: `grow` has to read on to know that it is no change.
    _publish_in_a_transaction(world, 1 - here)
    with world.daemon():
        wait_until(lambda: world.results() == 4, "a result for each change")
    assert len(list(read_topic(world.open, DEAD_LETTERS))) == 1
    assert "4 results" in world.does("results")
    (letter,) = world.does("dead-letters list", "--json").splitlines()
    assert "COURSESYNC.RECORD_INVALID" in world.does("dead-letters show", json.loads(letter)["source"])
    _publish_a_failure(world)
    assert "1 change sent again." in world.does("republish", "--yes")
    assert "READ UP TO" in world.does("inspect", "partitions")
    assert "Nothing is known" in world.does("inspect", "course", "tool:1", "unknown")
    assert '"state":"ACTIVE"' in world.does("courses export")
    assert "tool:1: paused until it is resumed." in world.does("pause", "tool:1")
    assert "paused by" in world.does("integrations")
    assert "tool:1: resumed." in world.does("resume", "tool:1")

    world.does("publish", given=json.dumps(change(2)))
    assert "Given up." in world.does("give-up", "tool:1", "--yes")
    skipped = world.does("skip", "--partition", str(here), "--to", "latest", "--yes")
    assert "never get a result" in skipped
    assert "have 3 partitions" in world.does("topics grow", "--partitions", "3", "--yes")


@pytest.mark.kafka
def test_the_console_works_with_its_rights_alone_and_names_a_missing_one(world: World) -> None:
    with world.console() as url:
        wait_until(lambda: "Still reading" not in _page(url), "the console has read everything")
        assert "cannot be read" not in _page(url)
        wait_until(lambda: "up to date" in _page(f"{url}/partitions"), "the input was looked at")
        assert _pauses(url)
    read = Right("Read", "topic", RESULTS)
    world.rights.revoke("console", read)
    try:
        with world.console() as url:
            wait_until(lambda: RESULTS in _page(url), "the topic is named")
            world.rights.grant("console", [read])
            wait_until(lambda: "cannot be read" not in _page(url), "it goes on by itself")
    finally:
        world.rights.grant("console", [read])
    write = Right("Write", "topic", CONTROL)
    world.rights.revoke("console", write)
    try:
        with world.console() as url:
            wait_until(lambda: "Still reading" not in _page(url), "everything can be read without Write")
            assert not _pauses(url)
    finally:
        world.rights.grant("console", [write])


@pytest.mark.endurance
@pytest.mark.kafka
@pytest.mark.parametrize("missing", sorted(table()["run"]), ids=str)
def test_the_daemon_names_the_right_that_is_missing(world: World, missing: Right) -> None:
    """With no more than Describe instead. It goes on by itself when it has the right, unless it has ended."""
    known = world.results()
    world.publish()
    describe = missing._replace(operation="Describe")
    world.rights.revoke("run", missing)
    if missing.operation != "DescribeConfigs":
        world.rights.grant("run", [describe])
    try:
        with world.daemon() as daemon:
            kind = missing.kind.replace("-", " ")
            told = f"does not allow this user the operation {missing.operation} on {kind} {missing.name}"
            wait_until(lambda: told in daemon.output(), told)
            if missing.name == CHANGES or missing.kind == "group":
                assert daemon.wait(DEADLINE) == 1
            # A rejected change needs no record of its course, and if courses cannot be read, no change waits for that.
            assert world.results() == known or missing.name == COURSES
            world.rights.grant("run", [missing])
            if daemon.running:
                _await_two_more(world, known)
        if world.results() < known + 2:
            with world.daemon():
                _await_two_more(world, known)
    finally:
        world.rights.grant("run", [missing])
        if missing.operation != "DescribeConfigs":
            world.rights.revoke("run", describe)


@pytest.mark.kafka
def test_what_may_not_be_looked_at_is_not_taken_for_hanging(world: World) -> None:
    """A list of transactions leaves out what one may not look at: one that is at work was ended as if it hung."""
    look = Right("Describe", "transactional-id", f"{JOURNAL}-")
    own_id = transactional_id(JOURNAL, 0)
    producer = KafkaProducer(bootstrap_servers=world.open.bootstrap_servers, transactional_id=own_id)
    with closing(producer):
        producer.init_transactions()
        producer.begin_transaction()
        producer.send(JOURNAL, b"{}", b'["position"]', partition=0).get(DEADLINE)
        assert "does not hang" in world.refuses("end-transaction", "--partition", "0", "--yes")
        world.rights.revoke("end-transaction", look)
        try:
            refused = world.refuses("end-transaction", "--partition", "0", "--yes")
        finally:
            world.rights.grant("end-transaction", [look])
        assert f"Describe on transactional id {own_id}" in refused
        producer.abort_transaction()


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("program", "arguments", "missing"),
    [
        ("check", (), Right("DescribeConfigs", "topic", RESULTS)),
        ("topics create", (), Right("Describe", "topic", RESULTS)),
        ("topics grow", ("--partitions", "9", "--yes"), Right("Alter", "topic", JOURNAL)),
        ("skip", ("--partition", "0"), Right("Describe", "group", "course-sync-daemon")),
        ("results", (), Right("Read", "topic", RESULTS)),
        ("integrations", (), Right("Read", "topic", CONTROL)),
        ("pause", ("tool:1",), Right("Write", "topic", CONTROL)),
        ("give-up", ("tool:1", "--yes"), Right("Describe", "group", "course-sync-daemon")),
    ],
    ids=str,
)
def test_a_command_names_the_right_that_is_missing(
    world: World, program: str, arguments: tuple[str, ...], missing: Right
) -> None:
    user = user_of(program)
    world.rights.revoke(user, missing)
    try:
        said = world.refuses(program, *arguments)
    finally:
        world.rights.grant(user, [missing])
    operation = "Describe" if missing.operation == "Read" else missing.operation  # it begins with looking
    assert f"does not allow this user the operation {operation} on {missing.kind} {missing.name}" in said


@pytest.mark.kafka
def test_a_pause_counts_although_its_user_may_not_read_the_journal(world: World) -> None:
    """What it concerns is not shown then."""
    user, read = user_of("pause"), Right("Read", "topic", JOURNAL)
    world.rights.revoke(user, read)
    try:
        said = world.does("pause", "tool:unused", "--reason", "rehearsal")
    finally:
        world.rights.grant(user, [read])
    assert "What it concerns at present is unknown" in said
    assert f"does not allow this user the operation Describe on topic {JOURNAL}" in said
    assert "rehearsal" in world.does("integrations", "tool:unused")
    world.does("resume", "tool:unused")


@pytest.mark.kafka
def test_check_says_what_it_may_not_read(world: World) -> None:
    """The keys of the input are a matter of advice: everything else is checked."""
    world.publish()
    user, read = user_of("check"), Right("Read", "topic", CHANGES)
    describe = read._replace(operation="Describe")
    world.rights.revoke(user, read)
    world.rights.grant(user, [describe])
    try:
        said = world.does("check")
    finally:
        world.rights.grant(user, [read])
        world.rights.revoke(user, describe)
    assert "the keys of its records were not checked" in said
    assert f"does not allow this user the operation Read on topic {CHANGES}" in said
    assert "were not checked" not in world.does("check")


@pytest.mark.kafka
def test_check_needs_the_decisions_of_operators(world: World) -> None:
    """The daemon submits nothing before it has read them."""
    user, read = user_of("check"), Right("Read", "topic", CONTROL)
    describe = read._replace(operation="Describe")
    world.rights.revoke(user, read)
    world.rights.grant(user, [describe])
    try:
        said = world.refuses("check")
    finally:
        world.rights.grant(user, [read])
        world.rights.revoke(user, describe)
    assert f"WRONG   {CONTROL}: the decisions of operators cannot be read" in said
    assert f"does not allow this user the operation Read on topic {CONTROL}" in said


def _page(url: str) -> str:
    return httpx.get(url, timeout=DEADLINE, trust_env=False).text


def _pauses(url: str) -> bool:
    """Whether a person can pause an integration."""
    with httpx.Client(base_url=url, timeout=DEADLINE, trust_env=False) as client:
        sign_in(client, TOKEN)
        done = decide(client, "pause", "tool:console", "rehearsal")
        assert (
            done.status_code == 303
            or f"does not allow this user the operation Write on topic {CONTROL}" in done.text
        )
        return done.status_code == 303


def _forget(manager: Any, tell: Callable[[TopicPartition], None], partition: TopicPartition) -> None:
    """The coordinator hears of another partition instead, so that it has one to end."""
    tell(TopicPartition(DEAD_LETTERS, 0))
    manager._partitions_in_transaction.add(partition)


def _await_two_more(world: World, known: int) -> None:
    wait_until(lambda: world.results() == known + 2, "results of both changes")


def _publish_a_failure(world: World) -> None:
    """A change of the input has failed, as its result says."""
    here = read_topic(world.open, CHANGES, partition=place(INTEGRATION, 2))
    record = next(each for each in here if b"chg-3" in (each.value or b""))
    failed = Result(record.offset, Status.FAILED, "tool:1", "course-3", "chg-3", 1, 1, error=Error("X", "no"))
    key, value, _ = encode_result(failed, record.partition, changes_topic=CHANGES, journal_topic=JOURNAL)
    with Publisher(world.open, RESULTS) as publisher:
        publisher.send(key, value)


def _publish_in_a_transaction(world: World, partition: int) -> None:
    producer = KafkaProducer(bootstrap_servers=world.open.bootstrap_servers, transactional_id="a publisher's")
    with closing(producer):
        producer.init_transactions()
        producer.begin_transaction()
        value = json.dumps(change(3)).encode()
        producer.send(CHANGES, value, INTEGRATION, partition=partition).get(DEADLINE)
        producer.commit_transaction()
