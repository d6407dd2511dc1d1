"""The replicas of a run: applies strikes to them, and restarts those that have ended, as Kubernetes would."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from enum import Enum, auto
from types import TracebackType
from typing import Self

import msgspec

from tests.sandbox.chaos.schedule import REPLICAS
from tests.sandbox.process import Child
from tests.sandbox.profile import PARTITIONS
from tests.sandbox.replica import START_TIMEOUT, Replica
from tests.sandbox.stack import Stack

RESTART_DELAY = 1.0
"""Seconds after which a process that has ended unexpectedly is restarted."""
ANSWER_TIMEOUT = 1.0
"""Seconds within which a replica must report what it holds."""

UNEXPLAINED = "its log does not say why"

_LAST_WORDS = re.compile(
    r'^\{.*"event": "(daemon\.failed|daemon\.died|start\.failed|watchdog\.fired)".*\}$', re.MULTILINE
)
_WHY = ("error", "reason", "exception")
"""Fields of such a line that give the reason. Of an exception, the last line does."""

EXIT_REPLACED = 1
REPLACED = "FENCED_INSTANCE_ID"
"""The exit code of a process that detects that it has been replaced, and what it must log."""


class _State(Enum):
    ABSENT = auto()
    UP = auto()
    FROZEN = auto()
    LEAVING = auto()
    """Its end was requested, and it is still running."""


class Member:
    """One replica and the strikes on it. `exits` gets a line for each unexpected end."""

    def __init__(self, replica: Replica, exits: list[str]) -> None:
        self.replica = replica
        self._exits = exits
        self._state = _State.ABSENT
        self._wanted = False
        self._not_before = 0.0
        self._leave_by = 0.0
        self._replaced: list[Child] = []
        """Processes that have been replaced and have not ended yet. They must end by themselves."""

    @property
    def name(self) -> str:
        return self.replica.name

    def join(self) -> None:
        """Run from now on: at once, or when a process that is just ending has ended."""
        self._wanted = True
        self.look()

    def kill(self) -> None:
        """End it as kill -9 does. It is not restarted until `join`."""
        self._wanted = False
        if self._state is not _State.ABSENT:
            self.replica.process.kill()
            self._state = _State.ABSENT

    def end(self) -> None:
        """Kill all its processes."""
        self.kill()
        for process in self._replaced:
            process.kill()

    def leave(self) -> None:
        """Request its end. It is not restarted until `join`."""
        self._wanted = False
        if self._state is _State.UP:
            self.replica.process.terminate()
            self._state = _State.LEAVING
            self._leave_by = time.monotonic() + START_TIMEOUT

    def freeze(self) -> None:
        if self._state is _State.UP:
            self.replica.process.freeze()
            self._state = _State.FROZEN

    def thaw(self) -> None:
        if self._state is _State.FROZEN:
            self.replica.process.thaw()
            self._state = _State.UP

    def replace(self) -> Callable[[], None]:
        """Freeze the process and start another one under the same name in the group, as when its node is given up. The
        returned function thaws the old process."""
        if self._state is not _State.UP or not self.replica.running:
            return lambda: None
        self.replica.process.freeze()
        old = self.replica.replace()
        self._replaced.append(old)
        return old.thaw

    def look(self) -> None:
        """Detect an end, and start the process if it should run. To be called often."""
        now = time.monotonic()
        for process in [one for one in self._replaced if not one.running]:
            self._replaced.remove(process)
            why = _last_words(process)
            if process.exit_code != EXIT_REPLACED or why is None or REPLACED not in why:
                self._exits.append(
                    f"{self.name}, replaced: exit code {process.exit_code}, {why or ''}: {UNEXPLAINED}"
                )
        if self._state is _State.UP and not self.replica.running:
            self._note_exit(f"exit code {self.replica.process.exit_code}")
            self._state = _State.ABSENT
            self._not_before = now + RESTART_DELAY
        elif self._state is _State.LEAVING and not self.replica.running:
            if code := self.replica.process.exit_code:
                self._note_exit(f"exit code {code} after SIGTERM")
            self._state = _State.ABSENT
        elif self._state is _State.LEAVING and now > self._leave_by:
            self.replica.process.kill()
            self._note_exit(f"did not end within {START_TIMEOUT:g} s after SIGTERM")
            self._state = _State.ABSENT
        if self._wanted and self._state is _State.ABSENT and now >= self._not_before:
            self.replica.start()
            self._state = _State.UP

    def running_partitions(self) -> set[int] | None:
        """The partitions that it reports as running. None if it does not answer, if it is not in the requested state, if it
        holds a partition that does not run, or if a replaced process still runs."""
        if self._replaced:
            return None
        if self._state is not _State.UP:
            return set() if self._state is _State.ABSENT and not self._wanted else None
        held = self.replica.partitions(ANSWER_TIMEOUT)
        if held is None or any(state != "running" for state in held.values()):
            return None
        return set(held)

    def describe(self) -> str:
        if self._replaced:
            return f"{self.name}: replaced, and still running ({self._replaced[0].log.name})"
        if self._state is _State.UP:
            return f"{self.name}: {self.replica.partitions(ANSWER_TIMEOUT)}"
        return f"{self.name}: {self._state.name.lower()}"

    def _note_exit(self, how: str) -> None:
        self._exits.append(f"{self.name}: {how}: {_last_words(self.replica.process) or UNEXPLAINED}")


def _last_words(process: Child) -> str | None:
    """Why the process ended, according to its log."""
    why = None
    for match in _LAST_WORDS.finditer(process.output()):
        line = msgspec.json.decode(match[0])
        if said := [str(line[name]).splitlines()[-1] for name in _WHY if line.get(name)]:
            why = f"{match[1]}: {'; '.join(said)}"
    return why


class Fleet:
    """A context manager: on exit, all its processes are ended."""

    def __init__(self, stack: Stack) -> None:
        self.exits: list[str] = []
        """Unexpected ends, and the reasons that the processes logged."""
        replicas = [stack.daemon, *(stack.add_replica() for _ in range(REPLICAS))]
        self._members = [Member(replica, self.exits) for replica in replicas]

    def __getitem__(self, number: int) -> Member:
        """The member with this number in the schedule."""
        return self._members[number]

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members)

    def look(self) -> None:
        for member in self._members:
            member.look()

    def whole(self) -> bool:
        """Whether every replica is in the requested state, and each partition runs in exactly one."""
        held: list[int] = []
        for member in self._members:
            partitions = member.running_partitions()
            if partitions is None:
                return False
            held += partitions
        return sorted(held) == list(range(PARTITIONS))

    def describe(self) -> Sequence[str]:
        return [member.describe() for member in self._members]

    def drain(self) -> None:
        """End all of them as an operator does. One that does not end gracefully is noted in `exits`."""
        for member in self._members:
            member.leave()
        while any(member.replica.running for member in self._members):
            self.look()
            time.sleep(0.02)
        self.look()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for member in self._members:
            member.end()
