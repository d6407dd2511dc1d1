"""What the pages show of partitions: how far each one is, and what keeps it from being read."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import UNSET

from daemon.console.journals import Partition
from daemon.console.model import Held, Look, Model
from daemon.core.journal import Position
from daemon.core.rejection_limit import Stop
from daemon.runtime import operator_messages
from daemon.telemetry.health import PartitionStatus


class PartitionView(NamedTuple):
    partition: int
    state: str
    is_bad: bool
    """Somebody has to do something."""
    reason: str | None
    """With what to do about it."""
    lag: int | None
    """Records that are not read yet, with the markers of transactions; None if it is not known."""
    next_offset: int | None
    waiting: int
    sealed: int
    tasks: int
    watched: int
    held: Held | None
    """What its replica says, if replicas are asked."""


def partition_list(model: Model) -> list[PartitionView]:
    numbers = set(model.looks) | set(model.journals.partitions) | set(model.held)
    return [_partition(model, number) for number in sorted(numbers)]


def _partition(model: Model, number: int) -> PartitionView:
    kept = model.journals.partitions.get(number) or Partition()
    look, position = model.looks.get(number), kept.position
    lag = None
    if look is not None and position is not None:
        lag = max(0, look.facts.stable - position.next_offset)
    state, is_bad, reason = _state_of_partition(model, number, kept, look)
    return PartitionView(
        number,
        state,
        is_bad,
        None if reason is None else reason.removeprefix(f"partition {number}: "),
        lag,
        None if position is None else position.next_offset,
        kept.waiting,
        kept.sealed,
        kept.tasks,
        kept.watched,
        model.held.get(number),
    )


def _state_of_partition(
    model: Model, number: int, kept: Partition, look: Look | None
) -> tuple[str, bool, str | None]:
    topics, position = model.topics, kept.position
    if (error := next(iter(kept.unreadable.values()), None)) is not None:
        return "blocked", True, operator_messages.unreadable_journal(number, error, topics)
    if (skipped := model.reading.unreadable.get((topics.journal, number))) is not None:
        return "blocked", True, operator_messages.unreadable_journal(number, ValueError(skipped), topics)
    if position is not None and (stop := _stop_of(position)) is not None:
        return "stopped", True, operator_messages.too_many_rejected(number, stop, topics)
    held = model.held.get(number)
    if held is not None and held.state == PartitionStatus.BLOCKED:
        return "blocked", True, held.reason
    if held is not None and held.warning is not None:
        return "delayed", False, held.warning
    if look is None:
        return "not looked at yet", False, None
    if sentence := _blocked(model, number, look):
        return "blocked", True, sentence
    if position is None:
        return "not read yet", False, None
    facts = look.facts
    if facts.latest > facts.stable and position.next_offset >= facts.stable:
        return "held back", False, _HELD_BACK.format(facts.latest - facts.stable, facts.stable)
    if facts.stable > position.next_offset:
        return "behind", False, None
    return "up to date", False, None


_HELD_BACK = (
    "{} records behind an open transaction of a publisher, which begins at offset {}, cannot be read before it ends. This is "
    "ordinary for a moment; `/readyz` of its replica says what to do if it lasts"
)


def _blocked(model: Model, number: int, look: Look) -> str | None:
    """Why no replica can read the partition, by the rules of the daemon (R8)."""
    facts, topics = look.facts, model.topics
    sentence = operator_messages.without_journal(number, facts, topics)
    sentence = sentence or operator_messages.without_courses(number, facts, topics)
    if sentence or not model.reading.is_loaded:
        return sentence
    if look.position is not None:
        return operator_messages.of_position(number, look.position, facts, topics)
    if model.position(number) is None:
        return operator_messages.without_position(number, facts, topics)
    return None


def _stop_of(position: Position) -> Stop | None:
    """From the counts in the position record, which do not have the code."""
    counts = position.rejections
    if counts is UNSET or counts.stopped_at is None:
        return None
    code = "the log of its replica says why"
    return Stop(counts.stopped_at, code, counts.since, counts.records, counts.rejected)
