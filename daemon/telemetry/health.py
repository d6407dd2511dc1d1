"""The health of the process: the partitions that it holds and their states, and whether its loops make progress.

The runtime reports facts as they happen. The three probes, the lifecycle metric and the state page are computed from them.
Pure: no I/O, and the clock is an argument.

How readiness is decided::

    assigned({0, 1})   the first assignment: both partitions are awaited
    restored(0)        not ready: partition 1 is awaited
    restored(1)        ready, and stays ready whatever is assigned later
    draining()         not ready

If an awaited partition is revoked before it was restored, it is no longer awaited. If all of them are revoked, the next
assignment counts as the first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType

from daemon.core.model import Now
from daemon.telemetry.labels import Lifecycle

SILENCE_MAX_S = 90.0
"""How long a loop may be silent before the liveness probe fails. Longer than the 60 s after which the daemon's own watchdog
ends the process with a stack dump, so that the dump is written before the kubelet kills the process."""

KAFKA_SILENCE_MAX_S = 60.0
"""How long Kafka may not answer before the readiness probe fails and figures about the input count as unknown. A client that
has nothing else to ask refreshes its metadata every 30 s."""

REASONS_MAX = 10
"""Number of reasons that a probe lists. The remaining ones are only counted."""


class PartitionStatus(StrEnum):
    RESTORING = "restoring"
    RUNNING = "running"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True)
class PartitionHealth:
    state: PartitionStatus
    reason: str | None = None
    """Why it is blocked and how to fix it, as a message for operators."""
    warning: str | None = None
    """What delays it although it is not blocked, and how to fix it."""


@dataclass(frozen=True, slots=True)
class Probe:
    """The result of a probe. It passes if there is no reason against it."""

    name: str
    reasons: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.reasons


_RESTORING = PartitionHealth(PartitionStatus.RESTORING)
_RUNNING = PartitionHealth(PartitionStatus.RUNNING)


class Health:
    """Facts in, probes out. All methods are called from the event loop's thread."""

    def __init__(self, loops: Iterable[str], clock: Callable[[], Now]) -> None:
        """`loops` are the names of the loops that have to make progress as long as the process runs. They are also metric
        labels, so the list is short and fixed. Their silence is measured from now on."""
        self._clock = clock
        self._born = clock()
        self._ticks: dict[str, Now | None] = dict.fromkeys(loops)
        self._partitions: dict[int, PartitionHealth] = {}
        self._awaited: set[int] = set()
        self._was_ready = False
        self._joined = False
        self._draining = False
        self._halted: str | None = None
        self._kafka_answered: Now | None = None

    # --- facts ------------------------------------------------------------------------------------

    def tick(self, loop: str) -> None:
        """A loop has completed a round, or the restore that it is running has made progress.

        Raises:
            KeyError: the loop is not one of those named at the start.
        """
        if loop not in self._ticks:
            raise KeyError(f"no loop named {loop!r}; known are {', '.join(self._ticks)}")
        self._ticks[loop] = self._clock()

    def kafka_answered(self, seconds_ago: float | None) -> None:
        """A broker last answered this long ago. None: none has yet."""
        if seconds_ago is not None:
            now = self._clock()
            self._kafka_answered = Now(now.wall - round(seconds_ago * 1000), now.mono - seconds_ago)

    def assigned(self, partitions: Collection[int]) -> None:
        """The complete assignment after a rebalance. Partitions that were not held before are now being restored.
        Partitions that were held keep their state."""
        self._joined = True
        self._partitions = {p: self._partitions.get(p, _RESTORING) for p in sorted(partitions)}
        if not self._was_ready:
            still_awaited = self._awaited.intersection(self._partitions)
            self._awaited = {
                p
                for p in still_awaited or partitions
                if self._partitions[p].state is not PartitionStatus.RUNNING
            }
            self._was_ready = not self._awaited

    def revoked(self, partitions: Collection[int]) -> None:
        """The replica no longer holds these partitions."""
        for partition in partitions:
            self._partitions.pop(partition, None)
            self._awaited.discard(partition)

    def restoring(self, partition: int) -> None:
        """The shard was dropped and is being restored from the journal (R4)."""
        self._set(partition, _RESTORING)

    def restored(self, partition: int) -> None:
        """The shard runs."""
        if self._set(partition, _RUNNING) and partition in self._awaited:
            self._awaited.discard(partition)
            self._was_ready = self._was_ready or not self._awaited

    def blocked(self, partition: int, sentence: str) -> None:
        """The partition is blocked until an operator acts. `sentence` says why and what to do."""
        self._set(partition, PartitionHealth(PartitionStatus.BLOCKED, sentence))

    def warned(self, partition: int, sentence: str | None) -> None:
        """Something outside delays the partition, but it is not blocked. None: the delay is over."""
        held = self._partitions.get(partition)
        if held is not None and held.warning != sentence:
            self._partitions[partition] = replace(held, warning=sentence)

    def halted(self, reason: str | None) -> None:
        """Submissions have stopped because of an answer that affects every integration. None: they have resumed."""
        self._halted = reason

    def draining(self) -> None:
        """A stop was requested. It cannot be revoked."""
        self._draining = True

    def _set(self, partition: int, to: PartitionHealth) -> bool:
        """Set the state, unless the partition was revoked meanwhile. Returns whether it is held."""
        held = partition in self._partitions
        if held:
            self._partitions[partition] = to
        return held

    # --- views ------------------------------------------------------------------------------------

    @property
    def partitions(self) -> Mapping[int, PartitionHealth]:
        """The partitions that are held, in ascending order."""
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
        if any(p.state is PartitionStatus.RESTORING for p in self._partitions.values()):
            return Lifecycle.RESTORING
        return Lifecycle.RUNNING

    def last_ticks_ms(self) -> dict[str, int | None]:
        """When each loop last made progress (wall clock, ms). None if it never has."""
        return {loop: None if tick is None else tick.wall for loop, tick in self._ticks.items()}

    def silence_s(self) -> dict[str, float]:
        """For how many seconds each loop has made no progress."""
        now = self._clock().mono
        return {loop: now - (tick or self._born).mono for loop, tick in self._ticks.items()}

    @property
    def kafka_answered_ms(self) -> int | None:
        """When a broker last answered (wall clock, ms). None if none has."""
        return None if self._kafka_answered is None else self._kafka_answered.wall

    # --- probes -----------------------------------------------------------------------------------

    def startup(self) -> Probe:
        """The loops have started. This does not wait for a restore: with a growing journal, a slow start would otherwise
        never complete."""
        silent = (f"loop {loop} has not started yet" for loop, tick in self._ticks.items() if tick is None)
        return _probe("startup", silent)

    def live(self) -> Probe:
        """Every loop has made progress recently. This checks neither Kafka nor the API: a restart would repair neither."""
        return _probe(
            "live",
            (
                f"loop {loop} has been silent for {silence:.0f} s (limit: {SILENCE_MAX_S:.0f} s)"
                for loop, silence in self.silence_s().items()
                if silence >= SILENCE_MAX_S
            ),
        )

    def ready(self) -> Probe:
        """The replica has joined the group and restored its first partitions, Kafka answers, and it is neither draining nor
        halted."""
        reasons: list[str] = []
        if self._draining:
            reasons.append("draining: stop requested")
        if self._halted is not None:
            reasons.append(f"halted: {self._halted}")
        if self._kafka_answered is not None:
            silence = self._clock().mono - self._kafka_answered.mono
            if silence >= KAFKA_SILENCE_MAX_S:
                reasons.append(
                    f"Kafka has not answered for {silence:.0f} s (limit: {KAFKA_SILENCE_MAX_S:.0f} s)"
                )
        if not self._joined:
            reasons.append("has not joined the consumer group yet")
        elif not self._was_ready:
            reasons.extend(self._say(partition) for partition in sorted(self._awaited))
            if not self._awaited:
                reasons.append("the first partitions were revoked before they were restored")
        return _probe("ready", reasons)

    def _say(self, partition: int) -> str:
        held = self._partitions[partition]
        return f"partition {partition} is {held.state}" + (f": {held.reason}" if held.reason else "")


def _probe(name: str, reasons: Iterable[str]) -> Probe:
    listed = tuple(reasons)
    if len(listed) > REASONS_MAX:
        listed = (*listed[:REASONS_MAX], f"and {len(listed) - REASONS_MAX} more")
    return Probe(name, listed)
