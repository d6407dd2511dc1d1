"""Inspects the input periodically while the partitions run: is it still the topic that they opened, and does an open
transaction hold it back?

Reading alone does not detect this. A topic that was created again may have records at the same offsets, a topic with more
partitions can be read as before, and behind an open transaction no records arrive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from daemon.log.port import InputFacts, LogError
from daemon.runtime import operator_messages
from daemon.runtime.partition import Partition
from daemon.runtime.ports import Ports
from daemon.telemetry.events import InputHeldBack, InputReleased, InputUnseen

INTERVAL = 30.0
"""Seconds between two inspections. Each sends a few requests per partition to the cluster."""
HELD_BACK_AFTER = 120.0
"""Seconds for which a publisher's transaction may be open before it is reported: twice the transaction timeout that most
clients set. At that timeout the broker itself aborts the transaction."""


@dataclass(slots=True)
class _HeldBack:
    stable: int
    since: float
    reported: bool = False


class InputMonitor:
    def __init__(self, ports: Ports, partitions: Callable[[], Sequence[Partition]]) -> None:
        self._ports = ports
        self._partitions = partitions
        self._held_back: dict[int, _HeldBack] = {}

    async def run(self) -> None:
        """Inspect until cancelled."""
        while True:
            await asyncio.sleep(INTERVAL)
            running = [partition for partition in self._partitions() if partition.shard is not None]
            gone = self._held_back.keys() - {partition.number for partition in running}
            for number in gone:
                del self._held_back[number]
            for partition in running:
                await self._look_at(partition)

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
            self._watch_transactions(partition, facts)

    def _watch_transactions(self, partition: Partition, facts: InputFacts) -> None:
        """Warn, but do not block: the records behind the transaction arrive once it has been committed or aborted."""
        number, now = partition.number, self._ports.clock.now().mono
        held = self._held_back.get(number)
        if facts.latest == facts.stable or held is None or held.stable != facts.stable:
            was_reported = held is not None and held.reported
            self._ports.observer.notify(InputReleased(number, facts.stable if was_reported else None))
            self._held_back.pop(number, None)
            if facts.latest > facts.stable:
                self._held_back[number] = _HeldBack(facts.stable, now)
            return
        partition.intake.saw_end(facts.latest)
        seconds = now - held.since
        if seconds < HELD_BACK_AFTER:
            return
        sentence = operator_messages.held_back(number, facts, seconds, self._ports.settings.topics)
        self._ports.observer.notify(InputHeldBack(number, sentence, is_news=not held.reported))
        held.reported = True
