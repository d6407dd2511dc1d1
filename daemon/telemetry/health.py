"""The condition of the process: which partitions it holds and in what state, whether its loops go round.

The runtime reports facts as they happen; the three probes, the lifecycle metric and the state page are
read from them. Pure: no I/O, and the clock is an argument.

How readiness comes about::

    assigned({0, 1})   the first assignment: both are awaited
    restored(0)        not ready: partition 1 is awaited
    restored(1)        ready, and from now on whatever is assigned later
    draining()         not ready

If an awaited partition is taken away before it was restored, it is not awaited any more; if all of them
are, the next assignment counts as the first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

from daemon.core.model import Now
from daemon.telemetry.labels import Lifecycle

SILENCE_MAX_S = 90.0
"""How long a loop may be silent before the process counts as dead. Above the 60 s after which the
daemon's own watchdog ends it with a stack dump, so that the dump comes before the kubelet's kill."""

REASONS_MAX = 10
"""Reasons that a probe lists; the rest is counted."""


class PartitionState(StrEnum):
    RESTORING = "restoring"
    RUNNING = "running"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class Partition:
    state: PartitionState
    reason: str | None = None
    """Why it is blocked and what gets it out, in a sentence for people."""
    warning: str | None = None
    """What holds it up though it is not blocked, and what gets it out."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A probe's answer: passed exactly when nothing speaks against it."""

    name: str
    reasons: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.reasons


_RESTORING = Partition(PartitionState.RESTORING)
_RUNNING = Partition(PartitionState.RUNNING)


class Health:
    """Facts in, probes out. All methods are called from the event loop's thread."""

    def __init__(self, loops: Iterable[str], clock: Callable[[], Now]) -> None:
        """`loops` are the names of the loops that have to go round as long as the process lives; they
        are metric labels too, so a short fixed list. Their silence counts from here on."""
        self._clock = clock
        self._born = clock()
        self._ticks: dict[str, Now | None] = dict.fromkeys(loops)
        self._partitions: dict[int, Partition] = {}
        self._awaited: set[int] = set()
        self._was_ready = False
        self._joined = False
        self._draining = False
        self._halted: str | None = None

    # --- facts ------------------------------------------------------------------------------------

    def tick(self, loop: str) -> None:
        """A loop went round, or the restore that it is busy with has got on.

        Raises:
            KeyError: not one of the loops named at the start.
        """
        if loop not in self._ticks:
            raise KeyError(f"no loop named {loop!r}; known are {', '.join(self._ticks)}")
        self._ticks[loop] = self._clock()

    def assigned(self, partitions: Collection[int]) -> None:
        """The whole assignment after a rebalance. Partitions that were not held before are being
        restored from now on; those that were keep their state."""
        self._joined = True
        self._partitions = {p: self._partitions.get(p, _RESTORING) for p in sorted(partitions)}
        if not self._was_ready:
            still_awaited = self._awaited.intersection(self._partitions)
            self._awaited = {
                p
                for p in still_awaited or partitions
                if self._partitions[p].state is not PartitionState.RUNNING
            }
            self._was_ready = not self._awaited

    def revoked(self, partitions: Collection[int]) -> None:
        """These are not ours any more."""
        for partition in partitions:
            self._partitions.pop(partition, None)
            self._awaited.discard(partition)

    def restoring(self, partition: int) -> None:
        """The shard was dropped and is read from the journal again (R4)."""
        self._set(partition, _RESTORING)

    def restored(self, partition: int) -> None:
        """The shard runs."""
        if self._set(partition, _RUNNING) and partition in self._awaited:
            self._awaited.discard(partition)
            self._was_ready = self._was_ready or not self._awaited

    def blocked(self, partition: int, sentence: str) -> None:
        """The partition stands still until a person acts; `sentence` says why and what to do."""
        self._set(partition, Partition(PartitionState.BLOCKED, sentence))

    def warned(self, partition: int, sentence: str | None) -> None:
        """The partition runs, and something outside holds it up; None: not any more."""
        held = self._partitions.get(partition)
        if held is not None and held.warning != sentence:
            self._partitions[partition] = replace(held, warning=sentence)

    def halted(self, reason: str | None) -> None:
        """Submissions have stopped because of an answer that concerns every integration; None: they go
        on again."""
        self._halted = reason

    def draining(self) -> None:
        """Told to stop. There is no way back."""
        self._draining = True

    def _set(self, partition: int, to: Partition) -> bool:
        """Late news of a partition that has been taken away is no news."""
        held = partition in self._partitions
        if held:
            self._partitions[partition] = to
        return held

    # --- views ------------------------------------------------------------------------------------

    @property
    def partitions(self) -> Mapping[int, Partition]:
        """The partitions that are held, ascending."""
        return MappingProxyType(self._partitions)

    @property
    def born_ms(self) -> int:
        """When the process started (wall clock)."""
        return self._born.wall

    @property
    def halt_reason(self) -> str | None:
        return self._halted

    @property
    def lifecycle(self) -> Lifecycle:
        if self._draining:
            return Lifecycle.DRAINING
        if self._halted is not None:
            return Lifecycle.HALTED
        if not self._joined:
            return Lifecycle.STARTING
        if any(p.state is PartitionState.RESTORING for p in self._partitions.values()):
            return Lifecycle.RESTORING
        return Lifecycle.RUNNING

    def last_ticks_ms(self) -> dict[str, int | None]:
        """When each loop last went round (wall clock); None for one that never has."""
        return {loop: None if tick is None else tick.wall for loop, tick in self._ticks.items()}

    def silence_s(self) -> dict[str, float]:
        """For how many seconds each loop has not gone round; for the watchdog."""
        now = self._clock().mono
        return {loop: now - (tick or self._born).mono for loop, tick in self._ticks.items()}

    # --- probes -----------------------------------------------------------------------------------

    def startup(self) -> Probe:
        """The loops have come up. Does not wait for any restore: a growing journal would otherwise
        turn a slow start into an endless one."""
        silent = (f"loop {loop} has not started yet" for loop, tick in self._ticks.items() if tick is None)
        return _probe("startup", silent)

    def live(self) -> Probe:
        """Every loop has gone round lately. Asks neither Kafka nor the API: a restart would heal
        neither."""
        return _probe(
            "live",
            (
                f"loop {loop} has been silent for {silence:.0f} s (at most {SILENCE_MAX_S:.0f} s)"
                for loop, silence in self.silence_s().items()
                if silence >= SILENCE_MAX_S
            ),
        )

    def ready(self) -> Probe:
        """Has joined the group and restored what it was given first; not while draining or halted."""
        reasons: list[str] = []
        if self._draining:
            reasons.append("draining: told to stop")
        if self._halted is not None:
            reasons.append(f"halted: {self._halted}")
        if not self._joined:
            reasons.append("not yet joined the consumer group")
        elif not self._was_ready:
            reasons.extend(self._say(partition) for partition in sorted(self._awaited))
            if not self._awaited:
                reasons.append("the first partitions were taken away before they were restored")
        return _probe("ready", reasons)

    def _say(self, partition: int) -> str:
        held = self._partitions[partition]
        return f"partition {partition} is {held.state}" + (f": {held.reason}" if held.reason else "")


def _probe(name: str, reasons: Iterable[str]) -> Probe:
    listed = tuple(reasons)
    if len(listed) > REASONS_MAX:
        listed = (*listed[:REASONS_MAX], f"and {len(listed) - REASONS_MAX} more")
    return Probe(name, listed)
