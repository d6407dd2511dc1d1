"""Members of the group whose events are read all the time, and waiting for what they should see."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence

from daemon.log.errors import FatalLogError
from daemon.log.port import (
    Assigned,
    Event,
    EventLog,
    InputFacts,
    PositionLost,
    Record,
    Records,
    Revoked,
    ShardLog,
    Unreadable,
)

from .harness import Harness


class Member:
    """One member and everything that its log has told it, in order."""

    def __init__(self, log: EventLog, changed: asyncio.Event) -> None:
        self.log = log
        self.events: list[Event] = []
        self.held: frozenset[int] | None = None
        """None before the first assignment."""
        self.fatal: FatalLogError | None = None
        self.broken: BaseException | None = None
        """What `next_event` must not raise."""
        self._changed = changed
        self._reading: asyncio.Task[None] | None = None

    def read(self) -> None:
        self._reading = asyncio.create_task(self._read())

    async def stop(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            await asyncio.gather(self._reading, return_exceptions=True)
        await self.log.stop()

    def records(self, partition: int, token: int | None = None) -> list[Record]:
        """What has come from a partition, under one token or any."""
        return [
            record
            for event in self.events
            if isinstance(event, Records) and event.partition == partition and token in (None, event.token)
            for record in event.records
        ]

    def values(self, partition: int, token: int | None = None) -> list[bytes | None]:
        return [record.value for record in self.records(partition, token)]

    def read_to(self, partition: int) -> int | None:
        """Where the next read of this partition begins, by what was told last."""
        told = [e.next_offset for e in self.events if isinstance(e, Records) and e.partition == partition]
        return told[-1] if told else None

    def lost(self) -> list[PositionLost]:
        return [event for event in self.events if isinstance(event, PositionLost)]

    def unreadable(self) -> list[Unreadable]:
        return [event for event in self.events if isinstance(event, Unreadable)]

    async def _read(self) -> None:
        try:
            while True:
                event = await self.log.next_event()
                self.events.append(event)
                if isinstance(event, Assigned):
                    self.held = event.partitions
                elif isinstance(event, Revoked):
                    self.held = (self.held or frozenset()) - event.partitions
                self._changed.set()
        except FatalLogError as error:
            self.fatal = error
        except Exception as error:
            self.broken = error
        self._changed.set()


class World:
    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self._changed = asyncio.Event()
        self._members: list[Member] = []
        self._shards: list[ShardLog] = []

    async def join(self, member_id: str) -> Member:
        """A member that has started; it may have no assignment yet."""
        member = Member(self.harness.member(member_id), self._changed)
        await member.log.start()
        member.read()
        self._members.append(member)
        return member

    async def join_alone(self, member_id: str = "a") -> Member:
        """The only member, with all partitions."""
        member = await self.join(member_id)
        await self.until(lambda: member.held is not None, "an assignment")
        return member

    async def open_shard(self, member: Member, partition: int) -> ShardLog:
        shard = await member.log.open_shard(partition)
        self._shards.append(shard)
        return shard

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for something that the members' events bring about.

        Raises:
            AssertionError: it has not come about in time.
        """
        try:
            async with asyncio.timeout(self.harness.patience):
                while not condition():
                    for member in self._members:
                        if member.broken is not None:
                            raise member.broken
                    await self._changed.wait()
                    self._changed.clear()
        except TimeoutError:
            heard = {index: member.events[-5:] for index, member in enumerate(self._members)}
            raise AssertionError(f"waited in vain for {what}; the last events were {heard}") from None

    async def facts(
        self, member: Member, partition: int, condition: Callable[[InputFacts], bool], what: str
    ) -> InputFacts:
        """Ask for the facts of an input partition until they are as they should be.

        Raises:
            AssertionError: they have not become so in time.
        """
        try:
            async with asyncio.timeout(self.harness.patience):
                # Nothing tells of a change in the broker's state, so it is asked again.
                facts = await member.log.input_facts(partition)
                while not condition(facts):
                    await asyncio.sleep(0.01)
                    facts = await member.log.input_facts(partition)
                return facts
        except TimeoutError:
            raise AssertionError(f"waited in vain for {what}") from None

    async def close(self) -> None:
        for shard in self._shards:
            await shard.close()
        for member in self._members:
            await member.stop()


async def restored(shard: ShardLog) -> list[Record]:
    return [record async for batch in shard.restore() for record in batch]


def fold(records: Sequence[Record]) -> dict[bytes | None, bytes | None]:
    """The last value of each key; what restoring is for."""
    return {record.key: record.value for record in records}


def is_increasing(records: Sequence[Record]) -> bool:
    offsets = [record.offset for record in records]
    return all(one < following for one, following in itertools.pairwise(offsets))
