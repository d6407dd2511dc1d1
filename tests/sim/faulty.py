"""The embedded log as a faulty network shows it: slow, with commits that fail in every way."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from daemon.config import Topics
from daemon.log.errors import CommitFailedError, LogError, TransientRefusalError
from daemon.log.port import (
    Committed,
    ControlRead,
    Event,
    InputFacts,
    Record,
    Records,
    Transaction,
    TransactionOwner,
)
from tests.embedded_log import EmbeddedCluster, EmbeddedLog, EmbeddedShardLog, Notice, Session
from tests.sim.manners import Manners
from tests.sim.seen import Who
from tests.sim.witness import Witness

COURSES_AT_ONCE = 2
"""Few, so that there are moments at which an index is loaded in parts."""


@dataclass(slots=True)
class LogFaults:
    """How likely each fault is, per opportunity. All 0 when the world heals."""

    commit_refused: float = 0.0
    """Not written, and told so."""
    commit_unheard: float = 0.0
    """Written, and told as failed."""
    commit_late: float = 0.0
    """Told as failed, and written a while later, unless somebody has fenced it by then."""
    records_refused: bool = False
    """Every commit is, for its records, and told so."""
    unavailable: float = 0.0
    """Any other question: not answered."""
    news_late: float = 0.0
    """What the group has to tell a member arrives late."""
    records_late: float = 0.0
    """Records lie between log and reader for a while, whatever the reader asks for meanwhile."""
    misread: float = 0.0
    """What is read back is another record or a damaged one (R9); only a restart gets out of it."""
    courses_late: float = 0.0
    """So many seconds at most between two records of a course that are read back: a large topic takes long."""
    latency_max: float = 0.02
    """Seconds."""
    times_of_writers: bool = False
    """The journal keeps the writers' timestamps, so nobody learns the broker's time."""

    def heal(self) -> None:
        self.commit_refused = self.commit_unheard = self.commit_late = 0.0
        self.records_refused = False
        self.unavailable = self.news_late = self.records_late = self.misread = 0.0


After = Callable[[float, Callable[[], None]], None]


class FaultyCluster(EmbeddedCluster):
    """The broker: what it has to tell arrives late, and at no process that is paused."""

    witness: Witness
    is_paused: Callable[[str], bool]
    """Whether the process of this member stands still, and so hears nothing."""

    def __init__(self, clock: Callable[[], int], faults: LogFaults, rng: random.Random, after: After) -> None:
        super().__init__(clock)
        self.faults = faults
        self.rng = rng
        self.after = after
        self._on_the_way: dict[int, deque[Notice]] = {}
        """What has not arrived at a session yet, in order."""

    def deliver(self, session: Session, notice: Notice) -> None:
        queue = self._on_the_way.setdefault(id(session), deque())
        late = self.rng.random() < self.faults.news_late
        if not (queue or late or self.is_paused(session.member_id)):
            session.deliver(notice)
            return
        queue.append(notice)
        if len(queue) == 1:
            self._arrive_after(self.rng.uniform(0.01, 0.5), session)

    def _arrive_after(self, seconds: float, session: Session) -> None:
        self.after(seconds, lambda: self._arrive(session))

    def _arrive(self, session: Session) -> None:
        if self.is_paused(session.member_id):
            # Heard some time after the process goes on: its threads race then.
            self._arrive_after(self.rng.uniform(0.0, 0.3), session)
            return
        queue = self._on_the_way[id(session)]
        session.deliver(queue.popleft())
        if queue:
            self._arrive_after(0.01, session)


class FaultyLog:
    """One member's `EventLog`."""

    def __init__(self, cluster: FaultyCluster, topics: Topics, who: Who) -> None:
        self._cluster = cluster
        self._topics = topics
        self._who = who
        self._manners = Manners(who[0], cluster.witness.accuse)
        self._inner = EmbeddedLog(cluster, topics, who[0])

    async def _trip(self) -> None:
        faults, rng = self._cluster.faults, self._cluster.rng
        await asyncio.sleep(rng.uniform(0.001, faults.latency_max))
        if rng.random() < faults.unavailable:
            raise LogError("the log did not answer")

    async def start(self) -> None:
        await self._trip()
        await self._inner.start()

    async def next_event(self) -> Event:
        event = await self._inner.next_event()
        faults, rng = self._cluster.faults, self._cluster.rng
        if isinstance(event, Records):
            self._cluster.witness.delivered(self._who, event.partition)
            if rng.random() < faults.records_late:
                await asyncio.sleep(rng.uniform(0.001, 1.5))
        self._manners.heard(event)
        return event

    async def input_facts(self, partition: int) -> InputFacts:
        await self._trip()
        return await self._inner.input_facts(partition)

    async def transaction_owner(self, partition: int) -> TransactionOwner | None:
        await self._trip()
        return await self._inner.transaction_owner(partition)

    async def journal_end(self, partition: int) -> int | None:
        await self._trip()
        return await self._inner.journal_end(partition)

    async def read_control(self, offset: int | None) -> ControlRead:
        obedience = self._cluster.witness.obedience
        obedience.reading(self._who)
        await self._trip()
        read = await self._inner.read_control(offset)
        obedience.has_read(self._who, read)
        return read

    def begin(self, partition: int, offset: int, token: int) -> None:
        self._manners.begins(partition)
        self._inner.begin(partition, offset, token)

    def pause(self, partition: int) -> None:
        self._inner.pause(partition)

    def resume(self, partition: int) -> None:
        self._inner.resume(partition)

    async def confirm_assignment(self, partition: int, timeout: float) -> bool:
        try:
            await self._trip()
        except LogError:
            await asyncio.sleep(timeout)
            return False
        confirmed = await self._inner.confirm_assignment(partition, timeout)
        if confirmed:
            self._manners.confirmed(partition)
        return confirmed

    async def open_shard(self, partition: int) -> FaultyShardLog:
        self._manners.opens(partition)
        news = self._manners.news(partition)
        await self._trip()
        inner = await self._inner.open_shard(partition)
        self._cluster.witness.fenced(self._who, partition)
        self._manners.proved(partition, news)
        return FaultyShardLog(self._cluster, self._topics, (self._who, partition), inner, self._manners)

    def silence(self) -> float:
        return self._inner.silence()

    def unanswered(self) -> float | None:
        return self._inner.unanswered()

    def longest_call(self) -> float:
        return self._inner.longest_call()

    async def stop(self) -> None:
        await self._inner.stop()


class FaultyShardLog:
    def __init__(
        self,
        cluster: FaultyCluster,
        topics: Topics,
        owner: tuple[Who, int],
        inner: EmbeddedShardLog,
        manners: Manners,
    ) -> None:
        self._cluster = cluster
        self._topics = topics
        self._who, self._partition = owner
        self._inner = inner
        self._manners = manners
        self._broken = False
        self._write_inner = inner._write
        inner._write = self._write  # type: ignore[method-assign]

    @property
    def restore_remaining(self) -> int:
        return self._inner.restore_remaining

    async def restore(self) -> AsyncIterator[Sequence[Record]]:
        async for records in self._inner.restore():
            await self._trip()
            yield records

    async def commit(self, transaction: Transaction) -> Committed:
        news = self._manners.news(self._partition)
        self._cluster.witness.commit_begins(self._who, self._partition, transaction)
        try:
            committed = await self._commit(transaction)
        except CommitFailedError:
            self._manners.failed(self._partition)
            raise
        self._manners.proved(self._partition, news)
        self._cluster.witness.commit_returns(self._who, self._partition)
        return committed

    async def _commit(self, transaction: Transaction) -> Committed:
        faults, rng = self._cluster.faults, self._cluster.rng
        if self._broken:
            raise CommitFailedError("an earlier commit has failed")
        await asyncio.sleep(rng.uniform(0.001, faults.latency_max))
        if faults.records_refused:
            self._broken = True
            raise TransientRefusalError("the times of its records are refused")
        dice = rng.random()
        if dice < faults.commit_refused:
            self._broken = True
            raise CommitFailedError("refused, not written")
        dice -= faults.commit_refused
        if dice < faults.commit_unheard:
            self._broken = True
            await self._inner.commit(transaction)
            raise CommitFailedError("timed out, was written")
        dice -= faults.commit_unheard
        if dice < faults.commit_late:
            self._broken = True
            self._cluster.after(rng.uniform(0.0, 3.0), lambda: self._write_late(transaction))
            raise CommitFailedError("timed out, may be written yet")
        committed = await self._inner.commit(transaction)
        await asyncio.sleep(rng.uniform(0.0, faults.latency_max))
        return committed._replace(appended_at=None) if faults.times_of_writers else committed

    def _write(self, transaction: Transaction) -> list[int]:
        """The moment at which it is written: the witness sees it, whatever the daemon gets to know."""
        offsets = self._write_inner(transaction)
        self._cluster.witness.committed(self._partition, transaction, offsets)
        return offsets

    def _write_late(self, transaction: Transaction) -> None:
        try:
            self._write(transaction)
        except LogError:
            return  # fenced meanwhile

    async def courses_end(self) -> int:
        await self._trip()
        return await self._inner.courses_end()

    async def courses(self, end: int) -> AsyncIterator[Sequence[Record]]:
        async for records in self._inner.courses(end):
            for first in range(0, len(records), COURSES_AT_ONCE):
                await self._trip()
                await asyncio.sleep(self._cluster.rng.uniform(0.0, self._cluster.faults.courses_late))
                yield records[first : first + COURSES_AT_ONCE]

    async def _trip(self) -> None:
        faults, rng = self._cluster.faults, self._cluster.rng
        await asyncio.sleep(rng.uniform(0.001, faults.latency_max))
        if rng.random() < faults.unavailable:
            raise LogError("the log did not answer")

    async def read_back(self, offset: int) -> Record:
        faults, rng = self._cluster.faults, self._cluster.rng
        await self._trip()
        record = await self._inner.read_back(offset)
        return self._misread(record) if rng.random() < faults.misread else record

    def _misread(self, record: Record) -> Record:
        """Another batch's record where there is one, or this one with damage that is still JSON."""
        rng, journal = self._cluster.rng, self._topics.journal
        start = self._cluster.partition(journal, self._partition).start
        found, _ = self._cluster.read_committed(journal, self._partition, start, 1_000_000)
        others = [
            r for r in found if r.key != record.key and r.value and (r.key or b"").startswith(b'["batch"')
        ]
        if others and rng.random() < 0.5:
            return rng.choice(others)
        return record._replace(value=(record.value or b"").replace(b'"Title ', b'"Damaged '))

    async def close(self) -> None:
        """The inner one stays usable: a late write is in the broker's hands, not in ours."""
