"""What a soak consists of: what is published, how the API is meanwhile, and the daemon's limits."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from tests.sandbox.generator import Plan
from tests.sandbox.profile import PARTITIONS
from tests.sandbox.simulator.faults import DEMO, NONE, FaultPlan, TaskSlow

RATE: Final = 300.0
"""Changes published a second: about twice what leaves, and little enough to leave a laptop usable."""
HEAD_START: Final = 0.1
"""So much more lies in the topic when the daemon is started, as after an outage: its first fetches are as large
as those later on, and queues and buffers have found their size when memory is first told."""

COURSES_MAX: Final = 300
SETTINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        # With tasks of five seconds an integration gets rid of three or four changes a second.
        "window.batches_max": "1",
        "batch.items_max": "20",
        "backlog.courses_max": str(COURSES_MAX),
    }
)
BACKLOG_LIMIT: Final = COURSES_MAX * PARTITIONS
"""Of all partitions together."""

OVERLOADED: Final = FaultPlan(rules=(TaskSlow(seconds_min=3, seconds_max=7), *DEMO.rules))
"""Every task takes as long as a slow one of the demo, and all else happens that happens there."""
RELIEVED: Final = NONE
RELIEVED_TASK_SECONDS: Final = 0.2


def head_start(seconds: float) -> int:
    """Changes that are published before the daemon is started, for a soak of so many seconds."""
    return round(HEAD_START * RATE * seconds)


def plan_of(seed: int, seconds: float) -> Plan:
    """The head start, and as many changes as fit into this time; of so many courses that a course comes again
    only long after its last change has left: few changes supersede others, but the usual share of repeats."""
    return Plan(
        seed=seed,
        changes=head_start(seconds) + round(RATE * seconds),
        integrations=30,
        courses_per_integration=400,
        first_time_ms=time.time_ns() // 1_000_000,
    )
