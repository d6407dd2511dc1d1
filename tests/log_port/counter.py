"""A shard in small that counts: what it has committed is exactly what it finds again, whatever happens to the broker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from daemon.log.kafka import KafkaLog
from daemon.log.port import Assigned, CommitFailedError, LogError, Message, ShardLog, Transaction

from .kafka_harness import KafkaHarness

TROUBLES = 3
COMMITS_BETWEEN = 15
"""At least that many, before the broker is in trouble and after it has come back."""


class Counter:
    """Commits 0, 1, 2, … each as a journal record and a result, and goes on from what the journal says
    after any error: a shard in small."""

    def __init__(self, log: KafkaLog, patience: float) -> None:
        self._log = log
        self._patience = patience
        self.next = 0
        self.errors: list[LogError] = []

    async def run(self) -> None:
        while True:
            try:
                opened = await self._open()
            except LogError:
                continue
            try:
                await self._count(opened)
            except CommitFailedError as error:
                self.errors.append(error)
            except LogError:
                pass  # of the restore
            finally:
                await opened.close()

    async def _open(self) -> ShardLog:
        while not await self._log.confirm_assignment(0, self._patience):
            pass
        return await self._log.open_shard(0)

    async def _count(self, opened: ShardLog) -> None:
        last = -1
        async for batch in opened.restore():
            last = int(batch[-1].value or b"")
        assert last >= self.next - 1, "a commit that had returned was lost"
        self.next = last + 1
        while True:
            number = b"%d" % self.next
            await opened.commit(Transaction([(b"count", number)], [Message(number, number)]))
            self.next += 1


async def counts_through(trouble: Callable[[Counter], Awaitable[None]], kafka: KafkaHarness) -> None:
    log = kafka.member("m")
    await log.start()
    assert isinstance(await log.next_event(), Assigned)
    counter = Counter(log, kafka.patience)
    counting = asyncio.create_task(counter.run())
    try:
        for _ in range(TROUBLES):
            await _reaches(counter, counting, counter.next + COMMITS_BETWEEN)
            await trouble(counter)
        await _reaches(counter, counting, counter.next + COMMITS_BETWEEN)
    finally:
        counting.cancel()
        await asyncio.gather(counting, return_exceptions=True)

    results = sorted(int(record.value or b"") for record in await kafka.read_committed(kafka.topics.results))
    assert results == list(range(len(results)))
    assert len(results) in (counter.next, counter.next + 1)  # the last was cut short by the cancellation
    journal = await kafka.read_committed(kafka.topics.journal)
    assert int(journal[-1].value or b"") == results[-1]


async def _reaches(counter: Counter, counting: asyncio.Task[None], count: int) -> None:
    async with asyncio.timeout(60):
        while counter.next < count:
            if counting.done():
                counting.result()
            await asyncio.sleep(0.05)
