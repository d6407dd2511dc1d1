"""Looks at the input now and then, while the partitions run: is it still the topic that they opened, and does
anything outside hold it up?

Reading alone would not tell: a topic that was created again may have records at the same offsets, one that
was grown goes on as before, and behind a transaction that nobody ends there is silence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from daemon.log.port import InputFacts, LogError
from daemon.runtime import trouble
from daemon.runtime.partition import Partition
from daemon.runtime.ports import Ports
from daemon.telemetry.events import InputHeldBack, InputReleased, InputUnseen

INTERVAL = 30.0
"""Seconds between two looks; each asks the cluster a handful of questions for every partition."""
HELD_BACK_AFTER = 120.0
"""Seconds that a transaction of a publisher may be open before it is told: twice what most clients ask for as
their time-out, after which the broker itself aborts it."""


@dataclass(slots=True)
class _HeldBack:
    stable: int
    since: float
    reported: bool = False


class Inspection:
    def __init__(self, ports: Ports, partitions: Callable[[], Sequence[Partition]]) -> None:
        self._ports = ports
        self._partitions = partitions
        self._held_back: dict[int, _HeldBack] = {}

    async def run(self) -> None:
        """For ever."""
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
            partition.intake.saw_end(facts.latest)  # no read tells what has come since
        if partition.shard is not None:
            self._watch_transactions(partition, facts)

    def _watch_transactions(self, partition: Partition, facts: InputFacts) -> None:
        """A warning, no block: the records behind it will come when it has ended, one way or the other."""
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
        sentence = trouble.held_back(number, facts, seconds, self._ports.settings.topics)
        self._ports.observer.notify(InputHeldBack(number, sentence, is_news=not held.reported))
        held.reported = True
