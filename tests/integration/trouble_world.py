"""Topics of a test, the engine on them, and the commands as a person runs them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
from click.testing import CliRunner
from click.testing import Result as Run
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import TopicAlreadyExistsError

from daemon.cli import main
from daemon.commands.connections import kafka_connection
from daemon.config import Policies, Settings, load_settings
from daemon.kombo.api_key import ApiKeyFile
from daemon.kombo.client import KomboClient
from daemon.log.kafka import KafkaLog
from daemon.log.kafka.admin import NewTopic, create_topics, describe_topics
from daemon.log.port import Topics
from daemon.log.topic_access import read_topic
from daemon.runtime.clock import SystemClock
from daemon.runtime.engine import Engine
from daemon.runtime.liveness import LOOPS
from daemon.runtime.ports import Ports
from daemon.telemetry.health import Health, PartitionStatus
from daemon.telemetry.metrics import Metrics
from daemon.telemetry.subscribers import subscribed

PATIENCE = 60.0
"""Seconds. Only a failure waits so long."""
SESSION_TIMEOUT = 60.0
"""Seconds: no test is about a member that is given up, as on a machine that stands still it could be."""
KEY = "sandbox-key"


class Daemon:
    def __init__(
        self,
        settings: Settings,
        health: Health,
        metrics: Metrics,
        engine: Engine,
        running: asyncio.Task[None],
    ) -> None:
        self.settings = settings
        self.health = health
        self.metrics = metrics
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
            return held.reason if held is not None and held.state is PartitionStatus.BLOCKED else None

        await self.until(reason, f"blocked partition {partition}")
        return reason() or ""

    def warning(self, partition: int) -> str | None:
        held = self.health.partitions.get(partition)
        return None if held is None else held.warning

    @property
    def drops(self) -> int:
        """How often a shard was dropped because of an error."""
        of_errors = re.search(
            r'^coursesync_shard_drops_total{reason="error"} (\S+)$',
            self.metrics.exposition().decode(),
            re.MULTILINE,
        )
        assert of_errors is not None
        return round(float(of_errors[1]))

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
            "COURSESYNC_TOPICS_COURSES": names.courses,
            "COURSESYNC_TOPICS_CONTROL": names.control,
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
                assert "not possible now" in done.output or "Run the command again" in done.output, (
                    done.output
                )
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
        ports = Ports(
            settings, Policies(settings), log, api, clock, random.Random(1), subscribed(health, metrics)
        )
        engine = Engine(ports, lambda: False)
        metrics.observe(engine.snapshot)
        running = asyncio.create_task(engine.run())
        try:
            yield Daemon(settings, health, metrics, engine, running)
        finally:
            engine.stop()
            await running
            await log.stop()
            await api.close()
