"""What happened, to be read: the daemon's own log lines and every commit and POST, in virtual time."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import MutableMapping
from typing import Any

import structlog

from tests.sim.outcome import Outcome
from tests.sim.world import World

LINES_MAX = 200
"""Of a trace, from its end: what broke the contract stands near it."""


def quiet() -> None:
    """No log. A simulated kill leaves coroutines that never end; Python would tell of each."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    warnings.simplefilter("ignore", RuntimeWarning)
    sys.unraisablehook = lambda _: None


def tell(world: World) -> None:
    """Have everything that happens in this world noted in its trace."""
    world.witness.note = world.note

    def capture(_: Any, level: str, event: MutableMapping[str, Any]) -> str:
        who = "-" if world.stepping is None else world.stepping.name
        fields = " ".join(f"{name}={value}" for name, value in event.items() if name != "event")
        world.note(f"{who} {level}: {event['event']} {fields}")
        raise structlog.DropEvent

    structlog.configure(
        processors=[capture], wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG)
    )


def report(outcome: Outcome, again: str) -> None:
    """Print what was broken and how it came to that. `again` is the command that runs it again."""
    verdict = f"broke the contract: {dict(outcome.counts)}" if outcome.counts else "kept the contract"
    print(f"\nHistory {outcome.seed} ({outcome.kind}) {verdict}")
    for line in outcome.lines[:10]:
        print(f"  {line}")
    skipped = max(0, len(outcome.trace) - LINES_MAX)
    print(f"  its trace{f', without its first {skipped} lines' if skipped else ''}:")
    for at, text in outcome.trace[skipped:]:
        print(f"  {at:9.3f} s  {text:.240}")
    print(f"  again: {again}")
