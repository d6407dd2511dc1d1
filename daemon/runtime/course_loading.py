"""Loads the index of the known courses of a shard from the courses topic, while the shard works (R17).

Only what earlier owners have written is read. What the shard decides itself goes into the index at once and takes
precedence. Until everything is loaded, no change is `UNCHANGED`; polls, submissions and commits do not wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from daemon.codec import decode_course
from daemon.codec.texts import ERROR_CHARS_MAX, describe
from daemon.core.course import CourseState, KnownCourse
from daemon.core.known_courses import Budget, KnownCourses
from daemon.core.shard import Shard
from daemon.log.errors import HeldBackError, LogError
from daemon.log.port import Record, ShardLog
from daemon.runtime.operator_messages import held_back_courses
from daemon.runtime.ports import Ports
from daemon.telemetry.events import CoursesLoaded, CoursesNotLoaded

RETRY_DELAY_MIN = 1.0
RETRY_DELAY_MAX = 30.0
"""Seconds between two attempts while the topic cannot be read."""


LOADING_MAX = 2
"""Partitions of a process whose records are read at a time: each takes a connection and a thread, and decoding them takes the
event loop's time. What is loaded later is known later, and nothing else waits for it.
"""


class CourseIndexes:
    """What the loaders of one process share."""

    def __init__(self, courses_max: int) -> None:
        self.budget = Budget(courses_max)
        self.slots = asyncio.Semaphore(LOADING_MAX)


class CourseLoader:
    """Of one partition. `start` and `stop` belong to one shard each time."""

    def __init__(
        self,
        number: int,
        ports: Ports,
        indexes: CourseIndexes,
        on_loaded: Callable[[], None],
        on_failed: Callable[[Exception], None],
    ) -> None:
        """`on_loaded` is called when an index is complete, `on_failed` with an error that another attempt would not remedy."""
        self._on_loaded, self._on_failed = on_loaded, on_failed
        self._number = number
        self._ports = ports
        self.budget, self._slots = indexes.budget, indexes.slots
        self._task: asyncio.Task[None] | None = None
        self._shard: Shard | None = None

    def start(self, shard: Shard, shard_log: ShardLog, end: int) -> None:
        """Load the records below `end`."""
        self.stop()
        self._shard = shard
        self._task = asyncio.create_task(self._load(shard, shard_log, end), name=f"courses-{self._number}")

    def stop(self) -> None:
        """The shard has ended. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        if self._shard is not None:
            self._shard.known.close()
            self._shard = None

    async def _load(self, shard: Shard, shard_log: ShardLog, end: int) -> None:
        clock, observer = self._ports.clock, self._ports.observer
        started = clock.now().mono
        try:
            await self._read(shard, shard_log, end)
            shard.courses_loaded()
        except Exception as error:
            self._on_failed(error)
            return
        observer.notify(CoursesLoaded(self._number, len(shard.known), clock.now().mono - started))
        self._on_loaded()

    async def _read(self, shard: Shard, shard_log: ShardLog, end: int) -> None:
        delay = RETRY_DELAY_MIN
        while True:
            try:
                async with self._slots:
                    await load_records(shard.known, shard_log, shard.courses_since, end)
                return
            except HeldBackError as error:
                why = held_back_courses(error)
            except LogError as error:
                why = describe(error, ERROR_CHARS_MAX)
            self._ports.observer.notify(CoursesNotLoaded(self._number, why))
            await asyncio.sleep(delay)
            delay = min(2 * delay, RETRY_DELAY_MAX)


async def load_records(known: KnownCourses, shard_log: ShardLog, since: int, end: int) -> None:
    """Load the records below `end`. Those below `since` count only for the id of the course: an owner that wrote no courses
    has worked after them.

    Raises:
        LogError: the topic cannot be read at the moment.
    """
    async for records in shard_log.courses(end):
        _add(known, records, since)


def _add(known: KnownCourses, records: Sequence[Record], since: int) -> None:
    for record in records:
        try:
            course = decode_course(record.value)
        except ValueError:
            course = KnownCourse(
                CourseState.UNKNOWN, None, None, record.timestamp
            )  # whatever somebody else wrote
        if course is not None and record.offset < since:
            course = KnownCourse(CourseState.UNKNOWN, None, course.course_id, course.recorded_at)
        known.load(record.key or b"", course)
