"""How a process behaves towards the log (R4, R5): seen at the port, by what it calls and what it was told.

A partition is *proven* when something shows that nobody else has owned it since we heard last that it is
ours: a shard that was opened after that news, or a commit that was begun after it and has succeeded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from daemon.log.port import Assigned, Event, Revoked


class Manners:
    """Of one process. `accuse` is called with the kind of the violation and a sentence."""

    def __init__(self, name: str, accuse: Callable[[str, str], None]) -> None:
        self._name = name
        self._accuse = accuse
        self._assigned: frozenset[int] = frozenset()
        self._held: set[int] = set()
        self._news: Counter[int] = Counter()
        """Counts what this process heard about each partition."""
        self._proven: set[int] = set()
        self._unconfirmed: set[int] = set()
        """A commit of it has failed, and no heartbeat since has confirmed the assignment."""

    def heard(self, event: Event) -> None:
        match event:
            case Revoked(partitions=numbers):
                for number in numbers:
                    self._news[number] += 1
                    self._held.discard(number)
                    self._proven.discard(number)
            case Assigned(partitions=numbers):
                for number in numbers:
                    self._news[number] += 1
                    self._proven.discard(number)
                self._unconfirmed -= numbers - self._assigned  # it comes anew: that is news of the group
                self._held, self._assigned = set(numbers), numbers
            case _:
                pass

    def news(self, partition: int) -> int:
        return self._news[partition]

    def opens(self, partition: int) -> None:
        if partition in self._unconfirmed:
            self._accuse(
                "unproven_owners",
                f"{self._name} makes a new producer for partition {partition} after a failed commit, and no "
                "heartbeat since has confirmed that it is its own (R4)",
            )

    def proved(self, partition: int, news_before: int) -> None:
        """A shard was opened, or a commit has succeeded, that was begun at `news_before`."""
        if partition in self._held and self._news[partition] == news_before:
            self._proven.add(partition)

    def failed(self, partition: int) -> None:
        """A commit has failed."""
        self._unconfirmed.add(partition)

    def confirmed(self, partition: int) -> None:
        self._unconfirmed.discard(partition)

    def begins(self, partition: int) -> None:
        if partition in self._held and partition not in self._proven:
            self._accuse(
                "unproven_owners",
                f"{self._name} reads partition {partition} on after it was away, and has not proved by a commit "
                "that nobody owned it meanwhile (R5)",
            )
