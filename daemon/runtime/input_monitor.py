"""Inspects the input periodically while the partitions run: is it still the topic that they opened, and does an open
transaction hold it back?

Reading alone does not detect this. A topic that was created again may have records at the same offsets, a topic with more
partitions can be read as before, and behind an open transaction no records arrive. If the input has
more records and none arrive, it is inspected at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from daemon.log.errors import LogError
from daemon.log.port import InputFacts, TransactionOwner
from daemon.runtime import operator_messages
from daemon.runtime.partition import Partition
from daemon.runtime.ports import Ports
from daemon.telemetry.events import InputHeldBack, InputReleased, InputUnseen

INTERVAL = 30.0
"""Seconds between two inspections of a partition. Each sends a few requests to the cluster."""
LOOK_INTERVAL = 1.0
"""Seconds between two checks whether a partition is read at all. They send no requests."""
HELD_BACK_AFTER = 5.0
"""Seconds for which a publisher's transaction may hold back the input before it is reported. A healthy publisher usually commits sooner; most brokers abort a transaction after one minute, but a publisher may ask for up to 15."""


@dataclass(slots=True)
class _Still:
    """A partition that has more records and does not deliver them."""

    offset: int
    since: float
    inspected_at: float


@dataclass(slots=True)
class _HeldBack:
    stable: int
    since: float
    owner: TransactionOwner | None = None
    reported: bool = False


class InputMonitor:
    def __init__(self, ports: Ports, partitions: Callable[[], Sequence[Partition]]) -> None:
        self._ports = ports
        self._partitions = partitions
        self._still: dict[int, _Still] = {}
        self._held_back: dict[int, _HeldBack] = {}

    async def run(self) -> None:
        """Inspect until cancelled."""
        due = self._now() + INTERVAL
        while True:
            await asyncio.sleep(min(LOOK_INTERVAL, INTERVAL))
            running = [partition for partition in self._partitions() if partition.shard is not None]
            self._forget_others(running)
            stuck = [partition for partition in running if self._is_stuck(partition)]
            if self._now() >= due:
                stuck, due = running, self._now() + INTERVAL
            for partition in stuck:
                await self._look_at(partition)

    def _now(self) -> float:
        return self._ports.clock.now().mono

    def _forget_others(self, running: Sequence[Partition]) -> None:
        numbers = {partition.number for partition in running}
        for known in (self._still, self._held_back):
            for number in known.keys() - numbers:
                del known[number]

    def _is_stuck(self, partition: Partition) -> bool:
        """Whether a partition has stood still for so long since its last inspection."""
        number, offset, now = partition.number, partition.intake.next_offset, self._now()
        if partition.paused or not partition.lag:
            self._still.pop(number, None)
            return number in self._held_back  # inspected until its end is reported
        still = self._still.get(number)
        if still is None or still.offset != offset:
            self._still[number] = _Still(offset, now, now)
            return number in self._held_back
        if now - still.inspected_at < HELD_BACK_AFTER:
            return False
        still.inspected_at = now
        return True

    async def _look_at(self, partition: Partition) -> None:
        try:
            facts = await self._ports.log.input_facts(partition.number)
        except LogError as error:
            self._ports.observer.notify(InputUnseen(partition.number, str(error)))
            return
        partition.compare(facts)
        if partition.paused:
            # A paused partition reads nothing that would report the end.
            partition.intake.saw_end(facts.latest)
        if partition.shard is not None:
            await self._watch_transactions(partition, facts)

    async def _watch_transactions(self, partition: Partition, facts: InputFacts) -> None:
        """Warn, but do not block: the records behind the transaction arrive once it has been committed or aborted."""
        number, now = partition.number, self._now()
        held = self._held_back.get(number)
        if facts.latest == facts.stable or (held is not None and held.stable != facts.stable):
            was_reported = held is not None and held.reported
            self._ports.observer.notify(InputReleased(number, facts.stable if was_reported else None))
            self._held_back.pop(number, None)
            held = None
        if facts.latest == facts.stable:
            return
        if held is None:
            still = self._still.get(number)
            since = still.since if still is not None and still.offset == facts.stable else now
            held = self._held_back[number] = _HeldBack(facts.stable, since)
        partition.intake.saw_end(facts.latest)
        seconds = now - held.since
        if seconds < HELD_BACK_AFTER:
            return
        if held.owner is None:
            held.owner = await self._owner(number)
        sentence = operator_messages.held_back(
            number, facts, held.owner, seconds, self._ports.settings.topics
        )
        self._ports.observer.notify(InputHeldBack(number, sentence, is_news=not held.reported))
        held.reported = True

    async def _owner(self, number: int) -> TransactionOwner | None:
        try:
            return await self._ports.log.transaction_owner(number)
        except LogError:
            return None  # the next inspection asks again
