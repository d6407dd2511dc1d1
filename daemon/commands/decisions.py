"""What operators have decided: how commands read the control topic whole, and add a decision to it (R19)."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

from daemon.codec import decode_control, encode_control
from daemon.codec.times import iso_ms
from daemon.commands.tables import age
from daemon.commands.topics import ANOTHER_CONTROL
from daemon.core.control import Control, Decision, GiveUp, Pause
from daemon.log.errors import LogError
from daemon.log.kafka.clients import KafkaConnection
from daemon.log.topic_access import Publisher, TopicRecord, partitions_of, read_topic

OBEYED = "Every replica obeys within 2 s."
"""C10."""


class Decisions(NamedTuple):
    control: Control
    not_decisions: tuple[TopicRecord, ...]
    """Records that this version cannot read. They count for nothing."""


def read_decisions(connection: KafkaConnection, topic: str, wall: int) -> Decisions:
    """All decisions that count at this time (ms, by the clock of this host).

    Raises:
        LogError: no broker answered, or there is no such topic, or it has several partitions.
    """
    partitions = partitions_of(connection, topic)
    if partitions != 1:
        raise LogError(f"{topic} has {partitions} partitions, but must have exactly one. {ANOTHER_CONTROL}")
    return folded(read_topic(connection, topic), wall)


def folded(records: Iterable[TopicRecord], wall: int) -> Decisions:
    """What the replicas make of these records."""
    control = Control()
    not_decisions: list[TopicRecord] = []
    for record in records:
        if record.value is None:
            continue  # the decision holds until compaction removes it
        try:
            decision = decode_control(record.value)
        except ValueError:
            not_decisions.append(record)
        else:
            control.apply(record.offset, decision)
    control.loaded()
    control.advance(wall)
    return Decisions(control, tuple(not_decisions))


def write_decisions(connection: KafkaConnection, topic: str, decisions: Iterable[Decision]) -> None:
    """Returns when the in-sync replicas have acknowledged them all.

    Raises:
        LogError: no broker answered, or the topic does not exist, or did not take a decision.
    """
    with Publisher(connection, topic) as publisher:
        for decision in decisions:
            publisher.send(*encode_control(decision))


def wall_ms() -> int:
    """The time by the clock of this host, ms."""
    return time.time_ns() // 1_000_000


def described(decision: Pause | GiveUp, wall: int) -> str:
    """Who decided it, when, until when and why."""
    ago = age((wall - decision.decided_at) / 1000)
    until = ""
    if isinstance(decision, Pause) and decision.until is not None:
        until = f", until {iso_ms(decision.until)}"
    reason = "" if decision.reason is None else f": {decision.reason}"
    return f"by {decision.by} {ago} ago{until}{reason}"
