"""The load of a soak: what is published, how the API behaves meanwhile, and the daemon's limits."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from tests.sandbox.generator import Plan
from tests.sandbox.profile import PARTITIONS
from tests.sandbox.simulator.faults import DEMO, NONE, FaultPlan, TaskSlow

RATE: Final = 300.0
"""Changes published per second: about twice the daemon's throughput here, and few enough to leave a laptop usable."""
HEAD_START: Final = 0.1
"""Share of additional changes that are in the topic when the daemon starts, as after an outage. So its first fetches are as
large as later ones, and queues and buffers have reached their size when memory is first reported."""

COURSES_MAX: Final = 300
SETTINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        # With tasks of five seconds, an integration processes three or four changes per second.
        "window.batches_max": "1",
        "batch.items_max": "20",
        "backlog.courses_max": str(COURSES_MAX),
    }
)
BACKLOG_LIMIT: Final = COURSES_MAX * PARTITIONS
"""Sum over all partitions."""

OVERLOADED: Final = FaultPlan(rules=(TaskSlow(seconds_min=3, seconds_max=7), *DEMO.rules))
"""Every task takes as long as a slow one of the demo. All other faults of the demo happen too."""
RELIEVED: Final = NONE
RELIEVED_TASK_SECONDS: Final = 0.2


def head_start(seconds: float) -> int:
    """Number of changes that are published before the daemon starts, for a soak of `seconds`."""
    return round(HEAD_START * RATE * seconds)


def plan_of(seed: int, seconds: float) -> Plan:
    """The head start, and the changes for `seconds`. There are so many courses that, apart from the usual share of repeats, a
    course changes again only long after its last change was sent. So few changes supersede others."""
    return Plan(
        seed=seed,
        changes=head_start(seconds) + round(RATE * seconds),
        integrations=30,
        courses_per_integration=400,
        first_time_ms=time.time_ns() // 1_000_000,
    )
