"""``check`` and ``topics create`` on a real broker and the simulator of the API."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from daemon.commands.check import check
from daemon.commands.pause import pause
from daemon.commands.repair.grow import grow_command
from daemon.commands.topics import topics_group
from daemon.log.kafka.admin import Admin, NewTopic, create_topics, describe_topics
from daemon.log.kafka.clients import Clients, KafkaConnection
from daemon.log.port import Topics
from daemon.log.topic_access import Publisher
from tests.sandbox.ports import free_ports

pytestmark = pytest.mark.kafka
API_KEY = "sandbox-key"


@pytest.fixture(scope="module")
def api_url() -> Iterator[str]:
    """Base URL of a simulator of its own."""
    command = [sys.executable, "-m", "tests.sandbox.simulator", "--api-key", API_KEY]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())["base_url"]
        finally:
            process.terminate()


@pytest.fixture
def admin(kafka_bootstrap: str) -> Iterator[Admin]:
    admin = Admin(Clients(KafkaConnection((kafka_bootstrap,))))
    yield admin
    admin.close()


@pytest.fixture
def environ(kafka_bootstrap: str, topic_names: Topics, api_url: str, tmp_path: Path) -> dict[str, str]:
    key = tmp_path / "key"
    key.write_text(f"{API_KEY}\n")
    return {
        "COURSESYNC_KAFKA_BOOTSTRAP_SERVERS": kafka_bootstrap,
        "COURSESYNC_KOMBO_BASE_URL": api_url,
        "COURSESYNC_KOMBO_API_KEY_FILE": str(key),
        "COURSESYNC_TOPICS_CHANGES": topic_names.changes,
        "COURSESYNC_TOPICS_JOURNAL": topic_names.journal,
        "COURSESYNC_TOPICS_RESULTS": topic_names.results,
        "COURSESYNC_TOPICS_DEAD_LETTERS": topic_names.dead_letters,
        "COURSESYNC_TOPICS_COURSES": topic_names.courses,
        "COURSESYNC_TOPICS_CONTROL": topic_names.control,
    }


def run(command: click.Command, *arguments: str, environ: dict[str, str]) -> Result:
    return CliRunner().invoke(command, arguments, env=environ)


def test_from_nothing_to_all_right(environ: dict[str, str], topic_names: Topics) -> None:
    before = run(check, environ=environ)
    assert before.exit_code == 1
    assert before.output.count("the topic does not exist\n        → run: coursesyncd topics create") == 6

    made = run(topics_group, "create", "--partitions", "3", environ=environ)
    assert made.exit_code == 0, made.output
    assert f"{topic_names.journal}: created, partitions=3, cleanup.policy=compact" in made.output

    after = run(check, environ=environ)
    assert after.exit_code == 0, after.output
    assert "WRONG" not in after.output
    assert f"ok      {topic_names.journal}: 3 partitions, 1 replica" in after.output
    assert "in production: 3 replicas and min.insync.replicas=2" in after.output
    assert "accepts the API key" in after.output
    assert "clock: agrees" in after.output

    again = run(topics_group, "create", environ=environ)
    assert again.exit_code == 0, again.output
    assert again.output.count("exists, left unchanged") == 6


def test_what_operators_have_decided_is_looked_at(
    environ: dict[str, str], topic_names: Topics, kafka_bootstrap: str
) -> None:
    run(topics_group, "create", "--partitions", "1", environ=environ)
    assert f"ok      {topic_names.control}: nothing is paused" in run(check, environ=environ).output
    for name in ("tool:1", "other:*"):
        assert run(pause, name, environ=environ).exit_code == 0
    assert f"ok      {topic_names.control}: paused: tool:1, other:*" in run(check, environ=environ).output
    with Publisher(KafkaConnection((kafka_bootstrap,)), topic_names.control) as publisher:
        publisher.send(b"?", b"?")
    strange = run(check, environ=environ)
    assert strange.exit_code == 0
    assert (
        f"advice  {topic_names.control}: 1 record of it cannot be read as a decision and counts for nothing, at offset 2"
        in strange.output
    )


def test_what_is_wrong_is_corrected_and_the_publishers_topics_are_left(
    environ: dict[str, str], topic_names: Topics, admin: Admin
) -> None:
    odd = {"cleanup.policy": "delete", "max.message.bytes": "200000", "retention.ms": "123456789"}
    admin.ask(
        lambda client: create_topics(
            client,
            [
                NewTopic(topic_names.changes, 4, 1, odd),
                NewTopic(topic_names.journal, 2, 1, odd),
                NewTopic(topic_names.dead_letters, 1, 1, {"cleanup.policy": "compact"}),
            ],
        )
    )
    before = run(check, environ=environ)
    assert before.exit_code == 1
    assert f"has 2 partitions, but {topic_names.changes} has 4" in before.output
    assert "cleanup.policy is delete, expected compact" in before.output

    refused = run(topics_group, "create", environ=environ)
    assert refused.exit_code == 1
    assert "coursesyncd topics grow --partitions 4" in refused.output
    grown = run(grow_command, "--partitions", "4", "--yes", environ=environ)
    assert grown.exit_code == 0, grown.output
    done = run(topics_group, "create", environ=environ)
    assert done.exit_code == 0, done.output
    assert "cleanup.policy=compact (was delete)" in done.output

    deadline = time.monotonic() + 60.0
    while (after := run(check, environ=environ)).exit_code:  # what was altered is seen a moment later
        assert time.monotonic() < deadline, after.output
    names = topic_names.names
    facts = admin.ask(lambda client: describe_topics(client, names))
    found = [facts[name] for name in names]
    changes, journal, results, dead_letters, courses, control = (
        topic for topic in found if topic is not None
    )
    assert changes.configs.items() >= odd.items()
    assert (journal.partitions, journal.configs["cleanup.policy"]) == (4, "compact")
    assert journal.configs["max.message.bytes"] == str(2 * 1024 * 1024)
    assert journal.configs["retention.ms"] == "123456789", "what we do not need is left alone"
    assert results.partitions == 4
    assert (dead_letters.partitions, dead_letters.configs["cleanup.policy"]) == (1, "delete")
    assert (courses.partitions, courses.configs["cleanup.policy"]) == (4, "compact")
    assert (control.partitions, control.configs["cleanup.policy"]) == (1, "compact")


def test_what_needs_a_decision_is_left_to_the_operator(
    environ: dict[str, str], topic_names: Topics, admin: Admin
) -> None:
    admin.ask(
        lambda client: create_topics(
            client, [NewTopic(topic_names.changes, 1, 1), NewTopic(topic_names.journal, 2, 1)]
        )
    )
    done = run(topics_group, "create", environ=environ)
    assert done.exit_code == 1
    assert f"delete {topic_names.journal}" in done.output
    facts = admin.ask(lambda client: describe_topics(client, [topic_names.results]))
    assert facts == {topic_names.results: None}, "nothing was half done"


def test_more_replicas_than_brokers_are_refused_in_a_sentence(
    environ: dict[str, str], topic_names: Topics
) -> None:
    done = run(topics_group, "create", "--replication-factor", "32", environ=environ)
    assert done.exit_code == 1
    assert (
        f"Error: {topic_names.changes} was not created: the cluster has too few brokers for 32 replicas"
        in done.output
    )
    assert len(done.output) < 300, "no protocol dump"


def test_a_refused_key_is_told_without_the_key(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "key").write_text("another-key")
    output = run(check, environ=environ).output
    assert "WRONG   API" in output
    assert "PLATFORM.AUTHENTICATION_INVALID" in output
    assert "another-key" not in output


def test_without_broker_and_api_both_are_told(environ: dict[str, str]) -> None:
    first, second = free_ports(2)
    environ |= {
        "COURSESYNC_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{first}",
        "COURSESYNC_KOMBO_BASE_URL": f"http://127.0.0.1:{second}/v1",
    }
    done = run(check, environ=environ)
    assert done.exit_code == 1
    assert f"WRONG   kafka: Kafka at 127.0.0.1:{first} refuses connections" in done.output
    assert f"WRONG   API: http://127.0.0.1:{second}/v1: no answer" in done.output


def test_mistakes_in_the_configuration_end_with_code_2(environ: dict[str, str]) -> None:
    environ["COURSESYNC_BATCH_LINGER"] = "1"
    for command in (run(check, environ=environ), run(topics_group, "create", environ=environ)):
        assert command.exit_code == 2
        assert "batch.linger (COURSESYNC_BATCH_LINGER): '1' has no known unit" in command.output


def test_topics_can_be_made_without_an_api_key(environ: dict[str, str]) -> None:
    del environ["COURSESYNC_KOMBO_API_KEY_FILE"]
    assert run(topics_group, "create", "--partitions", "1", environ=environ).exit_code == 0
