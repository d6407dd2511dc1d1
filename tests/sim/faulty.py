"""The embedded log as a faulty network shows it: slow, with commits that fail in every way."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from daemon.config import Topics
from daemon.log.embedded import EmbeddedCluster, EmbeddedLog, EmbeddedShardLog, Notice, Session
from daemon.log.port import CommitFailedError, Event, InputFacts, LogError, Record, Transaction


@dataclass(slots=True)
class LogFaults:
    """How likely each fault is, per opportunity. All 0 when the world heals."""

    commit_refused: float = 0.0
    """Not written, and told so."""
    commit_unheard: float = 0.0
    """Written, and told as failed."""
    commit_late: float = 0.0
    """Told as failed, and written a while later, unless somebody has fenced it by then."""
    unavailable: float = 0.0
    """Any other question: not answered."""
    news_late: float = 0.0
    """What the group has to tell a member arrives late."""
    latency_max: float = 0.02
    """Seconds."""

    def heal(self) -> None:
        self.commit_refused = self.commit_unheard = self.commit_late = 0.0
        self.unavailable = self.news_late = 0.0


After = Callable[[float, Callable[[], None]], None]


class FaultyCluster(EmbeddedCluster):
    """Also keeps what the daemon has made durable, for the judge."""

    def __init__(self, clock: Callable[[], int], faults: LogFaults, rng: random.Random, after: After) -> None:
        super().__init__(clock)
        self.faults = faults
        self.rng = rng
        self.after = after
        self.durable_bodies: set[bytes] = set()
        """Those of POSTs, once they were found in the journal."""
        self._late_until: dict[int, float] = {}

    def deliver(self, session: Session, notice: Notice) -> None:
        """Late, but in order."""
        pending = self._late_until.get(id(session), 0)
        if pending or self.rng.random() < self.faults.news_late:
            self._late_until[id(session)] = pending + 1
            delay = self.rng.uniform(0.01, 0.5) if not pending else 0.5 + pending * 0.01

            def arrive() -> None:
                self._late_until[id(session)] -= 1
                session.deliver(notice)

            self.after(delay, arrive)
        else:
            session.deliver(notice)


class FaultyLog:
    """One member's `EventLog`."""

    def __init__(self, cluster: FaultyCluster, topics: Topics, member_id: str) -> None:
        self._cluster = cluster
        self._inner = EmbeddedLog(cluster, topics, member_id)

    async def _trip(self) -> None:
        faults, rng = self._cluster.faults, self._cluster.rng
        await asyncio.sleep(rng.uniform(0.001, faults.latency_max))
        if rng.random() < faults.unavailable:
            raise LogError("the log did not answer")

    async def start(self) -> None:
        await self._trip()
        await self._inner.start()

    async def next_event(self) -> Event:
        return await self._inner.next_event()

    async def input_facts(self, partition: int) -> InputFacts:
        await self._trip()
        return await self._inner.input_facts(partition)

    async def journal_end(self, partition: int) -> int | None:
        await self._trip()
        return await self._inner.journal_end(partition)

    def begin(self, partition: int, offset: int, token: int) -> None:
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
        return await self._inner.confirm_assignment(partition, timeout)

    async def open_shard(self, partition: int) -> FaultyShardLog:
        await self._trip()
        return FaultyShardLog(self._cluster, await self._inner.open_shard(partition))

    def silence(self) -> float:
        return self._inner.silence()

    async def stop(self) -> None:
        await self._inner.stop()


class FaultyShardLog:
    def __init__(self, cluster: FaultyCluster, inner: EmbeddedShardLog) -> None:
        self._cluster = cluster
        self._inner = inner
        self._broken = False

    async def restore(self) -> AsyncIterator[Sequence[Record]]:
        faults, rng = self._cluster.faults, self._cluster.rng
        async for records in self._inner.restore():
            await asyncio.sleep(rng.uniform(0.001, faults.latency_max))
            if rng.random() < faults.unavailable:
                raise LogError("the log did not answer")
            yield records

    async def commit(self, transaction: Transaction) -> Sequence[int]:
        faults, rng = self._cluster.faults, self._cluster.rng
        if self._broken:
            raise CommitFailedError("an earlier commit has failed")
        await asyncio.sleep(rng.uniform(0.001, faults.latency_max))
        dice = rng.random()
        if dice < faults.commit_refused:
            self._broken = True
            raise CommitFailedError("refused, not written")
        dice -= faults.commit_refused
        if dice < faults.commit_unheard:
            self._broken = True
            await self._write(transaction)
            raise CommitFailedError("timed out, was written")
        dice -= faults.commit_unheard
        if dice < faults.commit_late:
            self._broken = True
            self._cluster.after(rng.uniform(0.0, 3.0), lambda: self._write_late(transaction))
            raise CommitFailedError("timed out, may be written yet")
        offsets = await self._write(transaction)
        await asyncio.sleep(rng.uniform(0.0, faults.latency_max))
        return offsets

    async def _write(self, transaction: Transaction) -> Sequence[int]:
        return await self._inner.commit(transaction)

    def _write_late(self, transaction: Transaction) -> None:
        try:
            self._inner._write(transaction)
        except LogError:
            return  # fenced meanwhile

    async def read_back(self, offset: int) -> Record:
        faults, rng = self._cluster.faults, self._cluster.rng
        await asyncio.sleep(rng.uniform(0.001, faults.latency_max))
        if rng.random() < faults.unavailable:
            raise LogError("the log did not answer")
        return await self._inner.read_back(offset)

    async def close(self) -> None:
        """The inner one stays usable: a late write is in the broker's hands, not in ours."""
