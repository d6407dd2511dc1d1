"""Feeds the model from Kafka. All calls to Kafka block, so each kind has a thread of its own; the model is changed in the event
loop alone.
"""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

import structlog

from daemon.commands.connections import kafka_connection
from daemon.commands.repair.journal_repair import unjoined_log
from daemon.config import Settings
from daemon.console.model import Look, Model
from daemon.console.results import RESULTS_MAX
from daemon.log.errors import LogError
from daemon.log.topic_access import TopicRecord
from daemon.log.topic_following import RecordReader, TopicFollower

log = structlog.get_logger()

RETRY_PAUSE = 2.0
"""Seconds between two attempts to reach Kafka."""
LOOK_INTERVAL = 2.0
"""Seconds between two looks at how much is left to read."""
FACTS_INTERVAL = 10.0
"""Seconds between two rounds of looks at the input."""
NEARLY = 500
"""Offsets that may be left when the topics count as read: with traffic there always are some."""
SLICE = 200
"""Records that are taken in at a time; pages are answered in between."""


class Feed:
    def __init__(self, settings: Settings, model: Model) -> None:
        """Raises LogError if the settings of the connection cannot be used."""
        self._settings = settings
        self._model = model
        connection, topics = kafka_connection(settings.kafka), settings.topics
        self._follower = TopicFollower(
            connection,
            {topics.control: None, topics.journal: None, topics.courses: None, topics.results: RESULTS_MAX},
        )
        self._reader = RecordReader(connection)
        self._following = ThreadPoolExecutor(1, "kafka-follow")
        self._reading = ThreadPoolExecutor(1, "kafka-read")
        self._turn = asyncio.Event()

    async def follow(self) -> None:
        """Follow the topics until cancelled."""
        loop = asyncio.get_running_loop()
        look_at = 0.0
        while True:
            try:
                followed = await loop.run_in_executor(self._following, self._follower.poll)
                for place in followed.from_beginning:
                    self._model.begin_again(place)
                    self._model.reading.unreadable.pop(place, None)
                for place, why in followed.unreadable:
                    self._model.reading.unreadable[place] = why
                    log.warning("console.unreadable", error=why)
                for start in range(0, len(followed.records), SLICE):
                    self._model.apply(followed.records[start : start + SLICE])
                    await asyncio.sleep(0)
                if loop.time() >= look_at:
                    self._looked(await loop.run_in_executor(self._following, self._follower.behind))
                    look_at = loop.time() + LOOK_INTERVAL
            except LogError as error:
                if self._model.reading.error is None:
                    log.error("kafka.unavailable", error=str(error), retry_in_s=RETRY_PAUSE)
                self._model.reading.error = str(error)
                await asyncio.sleep(RETRY_PAUSE)
            self._model.advance(wall_ms())
            self._turn.set()
            self._turn = asyncio.Event()

    async def next_turn(self) -> None:
        """Wait until more was read."""
        await self._turn.wait()

    async def look(self) -> None:
        """Look at the input until cancelled: where it ends, and what blocks its partitions."""
        facts_log = await unjoined_log(self._settings)
        reading = self._model.reading
        try:
            while True:
                try:
                    partition, partitions = 0, 1
                    while partition < partitions:
                        position = self._model.position(partition)
                        facts = await facts_log.input_facts(partition)
                        self._model.looks[partition] = Look(facts, position)
                        partition, partitions = partition + 1, facts.partitions
                    reading.facts_error = None
                except LogError as error:
                    reading.facts_error = str(error)
                await asyncio.sleep(FACTS_INTERVAL)
        finally:
            await facts_log.stop()

    def read(self, topic: str, places: list[tuple[int, int]]) -> list[TopicRecord]:
        """Single records. Blocks; call it with `in_reader`."""
        return self._reader.read(topic, places) if places else []

    @property
    def in_reader(self) -> ThreadPoolExecutor:
        """The thread for `read`."""
        return self._reading

    async def stop(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._following, self._follower.close)
        await loop.run_in_executor(self._reading, self._reader.close)
        self._following.shutdown()
        self._reading.shutdown()

    def _looked(self, behind: dict[tuple[str, int], int]) -> None:
        reading = self._model.reading
        reading.missing = self._follower.missing_topics
        reading.behind = {place: left for place, left in behind.items() if left}
        reading.error = None
        if not behind:
            return
        if (
            self._model.topics.control not in {topic for topic, _ in reading.behind}
            and reading.left <= NEARLY
        ):
            reading.is_loaded = True
            reading.read_at = wall_ms()


def wall_ms() -> int:
    return time.time_ns() // 1_000_000
