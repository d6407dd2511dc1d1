"""The console on a real Kafka: it follows the topics, disturbs nobody, and survives what a cluster does to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from kafka import KafkaAdminClient

from daemon.core import journal
from daemon.core.control import Pause
from daemon.core.course import CourseRecord, CourseState
from daemon.core.journal import Attempt, Refusal, SealedBatch, Task, Wait
from daemon.core.model import Error, Status
from daemon.log.kafka.admin import NewTopic, create_topics
from daemon.log.port import Topics
from tests.integration.console_site import ConsoleSite, now_ms
from tests.integration.daemon_world import wait_until
from tests.sandbox.broker import Broker
from tests.unit.console_world import BODY, item, result

pytestmark = pytest.mark.kafka

DOWN = Error("REMOTE.SERVICE_UNAVAILABLE", "The tool is down.")


@pytest.fixture
def site(kafka_bootstrap: str, topic_names: Topics, tmp_path: Path) -> Iterator[ConsoleSite]:
    with ConsoleSite(kafka_bootstrap, topic_names, tmp_path) as site:
        yield site


def test_it_shows_what_is_in_the_topics_and_follows_them(site: ConsoleSite) -> None:
    now = now_ms()
    site.input(0, 9)
    site.position(0, 5)
    site.journal(
        0,
        (
            journal.wait_key("tool:1", "a"),
            Wait(item(1, "a", now), BODY, now + 900_000, Attempt("0-1-1", DOWN, "t-1")),
        ),
        (journal.batch_key("0-2-1"), SealedBatch("tool:1", now, 0, (item(2, "b", now),), BODY)),
        (journal.task_key("0-2-1"), Task("task-2", now)),
    )
    site.journal(2, (journal.batch_key("2-3-1"), SealedBatch("tool:2", now, 0, (item(3, "c", now),), BODY)))
    site.start()
    site.shows("/", "Changes without a result 3 2 wait, 1 in 1 task")
    site.shows("/partitions", "0 behind 4 5 1 0 1 0")
    site.shows("/integration?id=tool%3A1", "The tool is down.")
    site.shows("/search?q=task-2", "Course b")
    site.shows("/course?integration=tool%3A1&id=b", "accepted by the API")

    # The API ends the task: a result, the known state, and tombstones.
    site.result(
        0,
        result(2, "tool:1", "b", Status.SUCCEEDED, now, batch_id="0-2-1", task_id="task-2", submitted_at=now),
    )
    site.course(
        0, CourseRecord("tool:1", "b", CourseState.ACTIVE, "kombo-b", None, 2, "chg-2", "task-2", now, now)
    )
    site.journal(0, (journal.batch_key("0-2-1"), None), (journal.task_key("0-2-1"), None))
    site.shows("/", "Changes without a result 2 2 wait, 0 in 0 tasks")
    site.shows("/course?integration=tool%3A1&id=b", "kombo-b")
    site.shows("/course?integration=tool%3A1&id=b", "SUCCEEDED")
    site.shows("/search?q=task-2", "Course b")

    # The API refuses a submission.
    site.journal(2, (journal.refusal_key("2-3-1"), Refusal("retry", DOWN, now, now + 900_000)))
    site.shows("/integrations", "tool:2 backing off")
    assert site.stop() == 0


def test_decisions_of_others_are_seen_and_it_joins_no_group(site: ConsoleSite) -> None:
    site.journal(1, (journal.wait_key("tool:1", "a"), Wait(item(1, "a", now_ms()), BODY)))
    with closing(KafkaAdminClient(bootstrap_servers=site.connection.bootstrap_servers)) as admin:
        before = {str(each) for each in admin.list_groups()}
        site.start()
        site.shows("/integrations", "tool:1 running")
        site.decide(Pause("tool:*", True, None, "ann@ops", "maintenance", now_ms()))
        site.shows("/integrations", "tool:1 paused")
        site.shows("/integration?id=tool%3A1", "Paused with tool:* by ann@ops")
        assert {str(each) for each in admin.list_groups()} == before


def test_it_shows_the_settings_that_count_now_and_needs_no_file_of_the_api(
    site: ConsoleSite, tmp_path: Path
) -> None:
    """As in the chart: the daemon's configuration without the files of the API, and tables that change while it runs."""
    tables = tmp_path / "integrations.toml"
    tables.write_text('[integrations."tool:*"]\nbatch.items_max = 17\n')
    site.environ |= {
        "COURSESYNC_INTEGRATIONS": str(tables),
        "COURSESYNC_KOMBO_API_KEY_FILE": str(tmp_path / "missing"),
    }
    site.journal(
        0, (journal.batch_key("0-2-1"), SealedBatch("tool:1", now_ms(), 0, (item(2, "b", now_ms()),), BODY))
    )
    site.start()
    site.shows("/integration?id=tool%3A1", "batch.items_max 17")
    tables.write_text("[integrations.mistake]\nbatch.items_max = -1\n")
    wait_until(lambda: "policies.rejected" in site.log, "the mistake to be told")
    site.shows("/integration?id=tool%3A1", "batch.items_max 17")
    tables.write_text('[integrations."tool:*"]\nbatch.items_max = 18\n')
    wait_until(lambda: "policies.read" in site.log, "the tables to be read")
    site.shows("/integration?id=tool%3A1", "batch.items_max 18")


def test_a_topic_that_is_made_later_is_read(site: ConsoleSite) -> None:
    with closing(KafkaAdminClient(bootstrap_servers=site.connection.bootstrap_servers)) as admin:
        admin.delete_topics([site.topics.results])
        wait_until(lambda: site.topics.results not in admin.list_topics(), "the topic is gone")
        site.start()
        site.shows("/", f"Topics that cannot be read: {site.topics.results}")
        create_topics(admin, [NewTopic(site.topics.results, 3, 1)])
    site.result(1, result(1, "tool:1", "a", Status.FAILED, now_ms(), error=DOWN))
    site.shows("/integration?id=tool%3A1", "FAILED a REMOTE.SERVICE_UNAVAILABLE The tool is down.")
    assert "Topics that cannot be read" not in site.page("/")


@pytest.mark.endurance
def test_it_goes_on_when_kafka_comes_back(own_broker: Broker, topic_names: Topics, tmp_path: Path) -> None:
    with ConsoleSite(own_broker.bootstrap, topic_names, tmp_path) as site:
        site.journal(0, (journal.wait_key("tool:1", "a"), Wait(item(1, "a", now_ms()), BODY)))
        site.start()
        site.shows("/integrations", "tool:1 running")
        own_broker.kill()
        site.shows("/", "Kafka cannot be read.")
        site.shows("/integrations", "tool:1 running")
        own_broker.start()
        wait_until(lambda: "Kafka cannot be read." not in site.page("/"), "it reads again")
        site.journal(0, (journal.wait_key("tool:1", "a"), None))
        site.shows("/integrations", "0 of 0")
