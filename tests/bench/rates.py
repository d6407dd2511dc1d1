"""Three rates over the same changes: of the daemon, of `tests.bench.plain`, and of bare copying."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from tests.bench.copying import Copied, measure_copy
from tests.bench.end_to_end import EndToEnd, measure_end_to_end
from tests.bench.load import distinct_changes, preload
from tests.bench.setting import Setting

PLAIN = (sys.executable, "-m", "tests.bench.plain")
"""The command that runs it."""


@dataclass(frozen=True, slots=True)
class Rates:
    daemon: EndToEnd
    plain: EndToEnd
    """Its own CPU time is that of the part `daemon`."""
    copied: Copied


def measure_rates(setting: Setting, changes: int, seed: int) -> Rates:
    """One right after the other, so that all meet the same machine. The daemon and the copy use the same topics, and the plain
    program has topics with the same changes.

    Raises:
        SandboxError: some change had no result in time, or not exactly one that says `SUCCEEDED`.
    """
    plain = _end_to_end(setting, "plain", changes, seed, PLAIN)
    with setting.stack("rates", task_seconds=0.0, settings={}) as stack:
        preload(stack.addresses, distinct_changes(changes, seed))
        daemon = measure_end_to_end(setting, stack, changes)
        stack.drain_daemon()
        return Rates(daemon, plain, measure_copy(stack))


def _end_to_end(setting: Setting, name: str, changes: int, seed: int, program: Sequence[str]) -> EndToEnd:
    with setting.stack(name, task_seconds=0.0, settings={}, program=program) as stack:
        preload(stack.addresses, distinct_changes(changes, seed))
        measured = measure_end_to_end(setting, stack, changes)
        stack.drain_daemon()
        return measured
