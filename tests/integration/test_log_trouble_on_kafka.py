"""Trouble with the log on a real broker: the engine on Kafka, the commands as a person runs them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from click.testing import Result as Run
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import PolicyViolationError, TopicAlreadyExistsError

from daemon.cli import main
from daemon.commands.connections import kafka_connection
from daemon.config import Settings, load_settings
from daemon.kombo.api_key import ApiKeyFile
from daemon.kombo.client import KomboClient
from daemon.log.kafka import KafkaLog, journal
from daemon.log.kafka.admin import NewTopic, create_topics, describe_topics
from daemon.log.plain import read_topic
from daemon.log.port import LogError, Topics
from daemon.runtime import inspection
from daemon.runtime.clock import SystemClock
from daemon.runtime.engine import Engine
from daemon.runtime.ports import Ports
from daemon.runtime.pulse import LOOPS
from daemon.sandbox.simulator.faults import NONE
from daemon.sandbox.simulator.server import listening
from daemon.sandbox.simulator.state import Simulator
from daemon.telemetry.health import Health, PartitionState
from daemon.telemetry.metrics import Metrics

pytestmark = pytest.mark.kafka

PATIENCE = 60.0
"""Seconds. Only a failure waits so long."""
SESSION_TIMEOUT = 60.0
"""Seconds: no test is about a member that is given up, as on a machine that stands still it could be."""
KEY = "sandbox-key"


class Daemon:
    def __init__(
        self, settings: Settings, health: Health, engine: Engine, running: asyncio.Task[None]
    ) -> None:
        self.settings = settings
        self.health = health
        self.engine = engine
        self.running = running

    async def until(self, condition: Callable[[], Any], what: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert not self.running.done(), self.running
            assert time.monotonic() < deadline, f"no {what}; {dict(self.health.partitions)}"
            await asyncio.sleep(0.05)

    async def blocked(self, partition: int) -> str:
        def reason() -> str | None:
            held = self.health.partitions.get(partition)
            return held.reason if held is not None and held.state is PartitionState.BLOCKED else None

        await self.until(reason, f"blocked partition {partition}")
        return reason() or ""

    def warning(self, partition: int) -> str | None:
        held = self.health.partitions.get(partition)
        return None if held is None else held.warning

    async def results(self, count: int) -> list[tuple[int, int]]:
        """Partition and offset of every result, when there are so many."""
        found: list[tuple[int, int]] = []
        async with asyncio.timeout(PATIENCE):
            while len(found) < count:
                found = await asyncio.to_thread(results, self.settings)
        return found


def results(settings: Settings) -> list[tuple[int, int]]:
    records = read_topic(kafka_connection(settings.kafka), settings.topics.results)
    changes = [msgspec.json.decode(record.value or b"")["data"]["change"] for record in records]
    return sorted((change["partition"], change["offset"]) for change in changes)


def change(course: str) -> bytes:
    return msgspec.json.encode(
        {
            "id": f"chg-{course}",
            "type": "course.upserted",
            "integration_id": "i",
            "origin_id": course,
            "course": {"type": "EXTERNAL", "title": course, "course_url": "https://example.com/c"},
        }
    )


class Site:
    """The topics of one test, and what a person does with them."""

    def __init__(self, bootstrap: str, names: Topics, url: str, key_file: Path) -> None:
        self.bootstrap = bootstrap
        self.names = names
        self.environ = {
            "COURSESYNC_KAFKA_BOOTSTRAP_SERVERS": bootstrap,
            "COURSESYNC_KAFKA_GROUP_ID": f"{names.changes}-group",
            "COURSESYNC_KAFKA_SESSION_TIMEOUT": f"{SESSION_TIMEOUT:g}s",
            "COURSESYNC_FENCE_LEASE": "2s",
            "COURSESYNC_DRAIN_TIMEOUT": "2s",
            "COURSESYNC_HTTP_DEADLINE": "2s",
            "COURSESYNC_BATCH_LINGER": "50ms",
            "COURSESYNC_POLL_FIRST_AFTER": "100ms",
            "COURSESYNC_KOMBO_BASE_URL": url,
            "COURSESYNC_KOMBO_API_KEY_FILE": str(key_file),
            "COURSESYNC_TOPICS_CHANGES": names.changes,
            "COURSESYNC_TOPICS_JOURNAL": names.journal,
            "COURSESYNC_TOPICS_RESULTS": names.results,
            "COURSESYNC_TOPICS_DEAD_LETTERS": names.dead_letters,
        }
        self.settings = load_settings(self.environ, None)
        self.admin = KafkaAdminClient(bootstrap_servers=bootstrap)

    async def run(self, *arguments: str) -> Run:
        """The command line."""
        return await asyncio.to_thread(lambda: CliRunner().invoke(main, arguments, env=self.environ))

    async def run_when_at_rest(self, *arguments: str) -> Run:
        """As a person does who is told to try it again: the last step is committed a moment after the results,
        and a replica that opens its partitions anew may be quicker than the command."""
        async with asyncio.timeout(PATIENCE):
            while (done := await self.run(*arguments)).exit_code != 0:
                assert "not now" in done.output or "try it again" in done.output, done.output
        return done

    async def publish(self, partition: int, *courses: str) -> None:
        await self.publish_bytes(partition, *(change(course) for course in courses))

    async def publish_bytes(self, partition: int, *values: bytes) -> None:
        def send() -> None:
            # A new one each time: an old one does not know of new partitions.
            with contextlib.closing(KafkaProducer(bootstrap_servers=self.bootstrap)) as producer:
                for value in values:
                    producer.send(self.names.changes, value, partition=partition).get(PATIENCE)

        await asyncio.to_thread(send)

    async def configure(self, topic: str, configs: dict[str, str]) -> None:
        """Change settings of a topic, and wait until they hold."""

        def holds() -> bool:
            facts = describe_topics(self.admin, [topic])[topic]
            return facts is not None and facts.configs.items() >= configs.items()

        resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs)
        await asyncio.to_thread(self.admin.alter_configs, [resource])
        async with asyncio.timeout(PATIENCE):
            while not await asyncio.to_thread(holds):
                pass

    async def recreate(self) -> None:
        """Delete the input and make it anew, as quickly as the broker allows."""

        def created() -> bool:
            try:
                create_topics(self.admin, [NewTopic(self.names.changes, 2, 1)])
            except TopicAlreadyExistsError:
                return False
            return True

        await asyncio.to_thread(self.admin.delete_topics, [self.names.changes])
        async with asyncio.timeout(PATIENCE):
            while not await asyncio.to_thread(created):
                pass

    @contextlib.asynccontextmanager
    async def daemon(self) -> AsyncIterator[Daemon]:
        settings, clock = self.settings, SystemClock()
        health = Health(LOOPS, clock.now)
        metrics = Metrics(health, version="0", input_topic=self.names.changes, task_timeout_s=60.0)
        log = KafkaLog(
            kafka_connection(settings.kafka), settings.topics, settings.kafka.group_id, None, SESSION_TIMEOUT
        )
        await log.start()
        api = KomboClient(settings.kombo.base_url, ApiKeyFile(settings.kombo.api_key_file), 2.0, 8)
        engine = Engine(Ports(settings, log, api, clock, random.Random(1), metrics, health), lambda: False)
        running = asyncio.create_task(engine.run())
        try:
            yield Daemon(settings, health, engine, running)
        finally:
            engine.stop()
            await running
            await log.stop()
            await api.close()


@pytest.fixture
async def site(
    kafka_bootstrap: str, topic_names: Topics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Site]:
    monkeypatch.setattr(inspection, "INTERVAL", 0.5)
    key_file = tmp_path / "key"
    key_file.write_text(KEY)
    simulator = Simulator(
        rng=random.Random(1), now=time.time_ns() // 1_000_000, api_key=KEY, plan=NONE, task_seconds=0.0
    )
    async with listening(simulator, "127.0.0.1", 0) as url:
        site = Site(kafka_bootstrap, topic_names, f"{url}/v1", key_file)
        try:
            made = await site.run("topics", "create", "--partitions", "2")
            assert made.exit_code == 0, made.output
            yield site
        finally:
            await asyncio.to_thread(site.admin.close)


async def test_deleted_records_block_their_partition_and_skip_gets_it_out(site: Site) -> None:
    async with site.daemon() as daemon:
        await site.publish(0, "a", "b")
        await daemon.results(2)
    await site.publish(0, "c", "d", "e")
    await asyncio.to_thread(site.admin.delete_records, {TopicPartition(site.names.changes, 0): 4})
    async with site.daemon() as daemon:
        assert "the records from offset 2 to 3 were deleted" in await daemon.blocked(0)
        await site.publish(1, "x")
        await daemon.results(3)

        dry = await site.run("skip", "--partition", "0", "--dry-run")
        assert dry.exit_code == 0, dry.output
        assert "up to 2 records (2 to 3) never get a result" in dry.output
        assert "Nothing was changed" in dry.output
        unanswered = await site.run("skip", "--partition", "0")
        assert unanswered.exit_code == 1, "without an answer nothing is done"
        assert daemon.health.partitions[0].state is PartitionState.BLOCKED

        done = await site.run_when_at_rest("skip", "--partition", "0", "--yes")
        assert "partition 0 goes on at offset 4" in done.output
        assert await daemon.results(4) == [(0, 0), (0, 1), (0, 4), (1, 0)]
        again = await site.run("skip", "--partition", "0", "--yes")
        answers = ("Nothing to do", "read on meanwhile", "was quicker")
        assert any(answer in again.output for answer in answers), again.output


async def test_a_topic_that_was_created_again_blocks_and_skip_goes_on_in_the_new_one(site: Site) -> None:
    async with site.daemon() as daemon:
        await site.publish(0, "a", "b")
        await daemon.results(2)
    await site.recreate()
    await site.publish(0, "c", "d", "e")
    async with site.daemon() as daemon:
        assert "was deleted and created again" in await daemon.blocked(0)
        unsaid = await site.run("skip", "--partition", "0", "--yes")
        assert unsaid.exit_code == 1
        assert "--to earliest, --to latest or --to OFFSET" in unsaid.output
        await site.run_when_at_rest("skip", "--partition", "0", "--to", "earliest", "--yes")
        assert await daemon.results(5) == [(0, 0), (0, 0), (0, 1), (0, 1), (0, 2)]


async def test_a_topic_that_is_created_again_under_a_running_daemon_is_not_read_at_the_old_offsets(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "INTERVAL", 10.0)  # the consumer itself notices sooner
    async with site.daemon() as daemon:
        await site.publish(0, "a", "b")
        await daemon.results(2)
        await site.recreate()
        await site.publish(0, *"cdefgh")  # so that it reaches to our offset
        assert "was deleted and created again" in await daemon.blocked(0)
        assert await daemon.results(2) == [(0, 0), (0, 1)]
        await site.run_when_at_rest("skip", "--partition", "0", "--to", "earliest", "--yes")
        assert await daemon.results(8) == sorted([(0, 0), (0, 1), *((0, offset) for offset in range(6))])


async def test_topics_grow_under_a_running_daemon(site: Site) -> None:
    async with site.daemon() as daemon:
        await site.publish(0, "a", "b")
        await daemon.results(2)
        dry = await site.run_when_at_rest("topics", "grow", "--partitions", "4", "--dry-run")
        assert f"{site.names.changes}: 2 partitions become 4" in dry.output
        await site.run_when_at_rest("topics", "grow", "--partitions", "4", "--yes")
        again = await site.run("topics", "grow", "--partitions", "4", "--yes")
        assert "Nothing to do" in again.output
        await site.publish(0, "c")
        await daemon.results(3)
    await site.publish(3, "d")
    async with site.daemon() as daemon:  # sooner than the group's metadata would tell
        assert await daemon.results(4) == [(0, 0), (0, 1), (0, 2), (3, 0)]


async def test_partitions_that_were_added_by_hand_are_noticed_drained_and_taken_over(site: Site) -> None:
    async with site.daemon() as daemon:
        await site.publish(0, "a")
        await daemon.results(1)
        await asyncio.to_thread(site.admin.create_partitions, {site.names.changes: 3})
        assert "has 3 partitions, the journal was begun with 2" in await daemon.blocked(0)
        await site.publish(0, "b")
    async with site.daemon() as daemon:
        await daemon.blocked(0)
        assert "has no journal" in await daemon.blocked(2)
        refused = await site.run("topics", "grow", "--partitions", "3", "--yes")
        assert refused.exit_code == 1
        assert "partition 0: records from offset 1 on are not read yet" in refused.output
        done = await site.run_when_at_rest("skip", "--partition", "0", "--yes")
        assert "no record is left out" in done.output
        await daemon.results(2)
        await site.publish(2, "c")
        await site.run_when_at_rest("topics", "grow", "--partitions", "3", "--yes")
        assert await daemon.results(3) == [(0, 0), (0, 1), (2, 0)]


async def test_a_record_that_the_broker_refuses_is_named_and_check_says_what_to_correct(site: Site) -> None:
    letters = site.names.dead_letters
    await site.configure(letters, {"max.message.bytes": "20000"})
    async with site.daemon() as daemon:
        await site.publish_bytes(0, os.urandom(50_000))
        await site.publish(0, "a")
        sentence = await daemon.blocked(0)
        assert f"the record with key None for {letters}, 50,000 bytes, is refused" in sentence
        assert "`coursesyncd check`" in sentence
        await site.publish(1, "x")
        assert await daemon.results(1) == [(1, 0)]

        checked = await site.run("check")
        assert checked.exit_code == 1
        assert f"{letters}: max.message.bytes is 20000, expected at least" in checked.output
        assert "run: coursesyncd topics create" in checked.output
        corrected = await site.run("topics", "create")
        assert "(was 20000)" in corrected.output
    async with site.daemon() as daemon:  # the replica is started again, as the sentence says
        assert await daemon.results(3) == [(0, 0), (0, 1), (1, 0)]


async def test_a_stuck_transaction_is_told_with_the_offset_to_abort(
    site: Site, kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inspection, "HELD_BACK_AFTER", 1.0)
    producer = KafkaProducer(
        bootstrap_servers=kafka_bootstrap, transactional_id=f"{site.names.changes}-stuck"
    )
    try:
        async with site.daemon() as daemon:
            await site.publish(0, "a")
            await daemon.results(1)
            await asyncio.to_thread(producer.init_transactions)
            producer.begin_transaction()
            future = producer.send(site.names.changes, b"{}", partition=0)
            await asyncio.to_thread(future.get, PATIENCE)
            await site.publish(0, "b")
            await daemon.until(lambda: daemon.warning(0), "warning")
            assert "--partition 0 --start-offset 1`" in (daemon.warning(0) or "")
            await asyncio.to_thread(producer.abort_transaction)
            assert await daemon.results(2) == [(0, 0), (0, 2)]
            await daemon.until(lambda: daemon.warning(0) is None, "end of the warning")
    finally:
        await asyncio.to_thread(producer.close, 1)


async def test_a_foreign_transaction_in_the_journal_is_told_with_the_offset_to_abort(
    site: Site, kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "PATIENCE", 1.0)
    async with site.daemon() as daemon:
        await site.publish(0, "a")
        await daemon.results(1)
    producer = KafkaProducer(
        bootstrap_servers=kafka_bootstrap, transactional_id=f"{site.names.journal}-stranger"
    )
    try:
        await asyncio.to_thread(producer.init_transactions)
        producer.begin_transaction()
        sent = producer.send(site.names.journal, b"?", b"?", partition=0)
        offset = (await asyncio.to_thread(sent.get, PATIENCE)).offset
        async with site.daemon() as daemon:
            await daemon.until(lambda: daemon.warning(0), "warning")
            way_out = f"… abort --topic {site.names.journal} --partition 0 --start-offset {offset}`"
            assert way_out in (daemon.warning(0) or "")
            skipped = await site.run("skip", "--partition", "0", "--dry-run")
            assert skipped.exit_code == 1
            assert way_out in skipped.output
            await site.publish(1, "x")
            await daemon.results(2)
            await asyncio.to_thread(producer.abort_transaction)
            await site.publish(0, "b")
            assert await daemon.results(3) == [(0, 0), (0, 1), (1, 0)]
            assert daemon.warning(0) is None
    finally:
        await asyncio.to_thread(producer.close, 1)


async def test_a_new_journal_is_begun_as_the_runbook_says(site: Site) -> None:
    async with site.daemon() as daemon:
        await site.publish(0, "a", "b")
        await daemon.results(2)
    with contextlib.closing(KafkaProducer(bootstrap_servers=site.bootstrap)) as stranger:
        sent = stranger.send(site.names.journal, b"{}", b'["alien","x"]', partition=0)
        await asyncio.to_thread(sent.get, PATIENCE)
    await site.publish(0, "c")
    async with site.daemon() as daemon:
        assert """with key b'["alien","x"]' is not readable""" in await daemon.blocked(0)

        async def empty_the_journal() -> None:
            everything = {TopicPartition(site.names.journal, 0): -1}
            await asyncio.to_thread(site.admin.delete_records, everything)

        with pytest.raises(PolicyViolationError):  # why the runbook changes the topic first
            await empty_the_journal()
        await site.configure(site.names.journal, {"cleanup.policy": "compact,delete", "retention.ms": "-1"})
        await empty_the_journal()
        corrected = await site.run("topics", "create")
        assert "cleanup.policy=compact (was compact,delete)" in corrected.output
        await site.run_when_at_rest("skip", "--partition", "0", "--to", "2", "--yes")
        assert await daemon.results(3) == [(0, 0), (0, 1), (0, 2)]


async def test_a_journal_that_is_not_compacted_is_refused_at_the_start_and_corrected_by_topics_create(
    site: Site,
) -> None:
    await site.configure(site.names.journal, {"cleanup.policy": "delete"})
    with pytest.raises(LogError, match="coursesyncd topics create"):
        async with site.daemon():
            pass
    assert (await site.run("topics", "create")).exit_code == 0
    async with site.daemon() as daemon:
        await site.publish(0, "a")
        assert await daemon.results(1) == [(0, 0)]
