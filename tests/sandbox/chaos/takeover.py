"""Measures how long partitions do not run after kill -9 without any other fault."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.sandbox.chaos.fleet import Fleet, Member
from tests.sandbox.process import SandboxError

PATIENCE = 60.0
"""Seconds after which a takeover or restart counts as stuck."""


def take_over(fleet: Fleet, victim: Member, look: Callable[[], None]) -> float:
    """Kill a replica that then stays away. Returns the seconds until other replicas report that they run all its
    partitions. `look` is called repeatedly. To be called in a calm phase.

    Raises:
        SandboxError: it takes longer than `PATIENCE`.
    """
    orphans = victim.running_partitions() or set()
    began = time.monotonic()
    victim.kill()

    def taken() -> set[int]:
        return set().union(*(m.running_partitions() or set() for m in fleet if m is not victim))

    _wait(
        lambda: orphans <= taken(),
        look,
        f"the partitions {sorted(orphans)} of {victim.name} to be taken over",
    )
    return time.monotonic() - began


def restart(victim: Member, look: Callable[[], None]) -> float:
    """Kill a replica and start it again. Returns the seconds from its start until it runs all its earlier partitions.

    Raises:
        SandboxError: it takes longer than `PATIENCE`.
    """
    before = victim.running_partitions() or set()
    victim.kill()
    began = time.monotonic()
    victim.join()
    _wait(
        lambda: before <= (victim.running_partitions() or set()),
        look,
        f"{victim.name} to have its partitions",
    )
    return time.monotonic() - began


def _wait(condition: Callable[[], bool], look: Callable[[], None], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        look()
        if time.monotonic() > deadline:
            raise SandboxError(f"Waited {PATIENCE:g} s without success for {what}.")
        time.sleep(0.02)
