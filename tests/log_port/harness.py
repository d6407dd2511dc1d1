"""What the contract tests of the log port need of a log beside the port itself.

A harness stands for the world around the daemon: whoever publishes changes, reads results, cleans
topics, and lets time pass for a member that died. Each test gets its own: four new, empty topics and a
consumer group that nobody else uses.

A new implementation of the port writes one class after `Harness` and one line in `conftest.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from daemon.log.port import EventLog, Record, RepairLog, Topics

PARTITIONS = 4
"""Of the input and of the journal."""


class OpenTransaction(Protocol):
    """Input records that are written and not yet decided."""

    offsets: Sequence[int]

    async def end(self, *, commit: bool) -> None:
        """Commit or abort; done for every reader when it returns."""
        ...


class Member(EventLog, RepairLog, Protocol):
    """Each of our logs can be used in both ways."""


class Harness(Protocol):
    topics: Topics
    """`changes` and `journal` (compacted) with `PARTITIONS` partitions each, the other two with any number."""

    patience: float
    """Seconds after which a test gives up waiting for something that this log should have done."""

    def member(self, member_id: str) -> Member:
        """A member of the group, not started, with static membership under this id. The harness stops
        it at the end if the test has not; calling it twice with one id makes a second process with
        the same identity."""
        ...

    async def expire(self, member_id: str) -> None:
        """The session of a member that was stopped has run out. A log whose own clock does that may
        return at once, if it happens within `patience`."""
        ...

    async def publish(self, partition: int, values: Sequence[bytes]) -> list[int]:
        """Write input records, key None, outside any transaction; returns their offsets."""
        ...

    async def publish_unreadable(self, partition: int) -> int:
        """Write one input record that nobody can read; returns its offset."""
        ...

    async def publish_in_transaction(self, partition: int, values: Sequence[bytes]) -> OpenTransaction:
        """Write input records in a transaction and leave it open."""
        ...

    async def read_committed(self, topic: str) -> list[Record]:
        """Everything that a `read_committed` reader sees of a topic now: partition after partition,
        each in the order of its offsets."""
        ...

    async def delete_input_before(self, partition: int, offset: int) -> None:
        """What retention does: the input records below this offset are gone."""
        ...

    async def compact_journal(self, partition: int) -> None:
        """Return when every record that has a newer one with the same key is gone, except for the
        newest key or keys of the partition (a real cleaner leaves the newest segment alone)."""
        ...

    async def recreate_input(self) -> None:
        """Delete the input topic and create it again under the same name, empty."""
        ...

    async def close(self) -> None:
        """Stop what was started, remove what was made."""
        ...
