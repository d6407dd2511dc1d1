"""What a seed stands for: the shape of a history, the settings of the daemon, and what will go wrong."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import msgspec

from daemon.config import Settings, Topics
from tests.sandbox.simulator.faults import (
    NONE,
    AnswerLost,
    AnyRule,
    ClockSkewed,
    FaultPlan,
    LimitLow,
    SubmitRefused,
    SubmitThrottled,
    TaskEndless,
    TaskFails,
    TimesAbsurd,
)
from tests.sim import faults
from tests.sim.faulty import LogFaults
from tests.sim.network import NetworkFaults
from tests.sim.policies import NO_PLAN, Plan
from tests.sim.rejections import Deploy

AHEAD_MS = 20_000
WATCHED = 16.0
"""Virtual seconds for which a task is watched, its time-out included. No task applies anything later: that is a
proviso of the contract (8)."""
TOPICS = Topics("changes", "journal", "results", "dead-letters", "courses", "control")


class Kind(StrEnum):
    WILD = "wild"
    """Anything may fail, from hardly anything to everything at once; then it heals and must converge."""
    ISOLATION = "isolation"
    """One integration is broken and nothing else: the others must not notice (C5)."""
    REPLACED = "replaced"
    """While all replicas are down, input or journal become others than they were: nothing may go on (R8)."""
    CROWDED = "crowded"
    """Many submissions of few integrations, and an API that takes few of them at a time: limits that change or
    are used by somebody else as well, or one that a single process has for itself. Some have a rate, and some an
    API that gives several submissions one task id."""
    MISREAD = "misread"
    """What is read back from the journal is not always what was written there (R9)."""
    REPUBLISHED = "republished"
    """Few courses are published over and over, most of the time with the content that they have, while tasks and items fail,
    time out and end late: what is known of a course must be true (R15 to R17)."""
    RESTARTS = "restarts"
    """Replicas end, in order or not, and come back, one after the other, and nothing else fails: what was POSTed waits for
    its earlier owners once (R6)."""
    OPERATED = "operated"
    """Operators pause integrations, resume them and give changes up all the time, while replicas end and come back (R19)."""
    RETIRED = "retired"
    """Few courses are created, retired and created again, while tasks time out and apply late, answers of deactivations are
    lost, and replicas end (R18)."""
    LOADED = "loaded"
    """Bulk changes and edits of few integrations, more than the API takes: the edits go first, and nobody starves (R21)."""
    SENT_AGAIN = "sent again"
    """Many changes fail, and operators publish them again, while newer ones come and replicas end: older content must not go over
    newer content (R20)."""
    POLLED = "polled"
    """Tasks whose durations follow their tool and change with time, and little else: polls that are learned keep their bounds."""
    POLICIES = "policies"
    """Tables of integrations set sizes, windows, time-outs, rates and waits, and change in the middle."""


BREAKAGES: tuple[AnyRule, ...] = (
    SubmitRefused(statuses=(403,), code="INTEGRATION.AUTHENTICATION_INVALID"),
    SubmitRefused(statuses=(403,)),
    SubmitRefused(statuses=(401,), code="PLATFORM.AUTHENTICATION_INVALID"),
    SubmitRefused(statuses=(403,), code="PLATFORM.IP_NOT_WHITELISTED"),
    SubmitRefused(statuses=(408, 421, 425)),
    SubmitRefused(),
    SubmitThrottled(retry_after=60),
    SubmitThrottled(retry_after=99_999_999),
    AnswerLost(how="hang"),
    LimitLow(limit=1),
    LimitLow(limit=1, others=1),
    TaskEndless(),
    TaskFails(codes=("INTEGRATION.AUTHENTICATION_INVALID",)),
    TaskFails(codes=("PLATFORM.AUTHENTICATION_INVALID",)),
    ClockSkewed(seconds=60.0),
    ClockSkewed(seconds=15.0, date=False),
    ClockSkewed(seconds=60.0, date=False),
    ClockSkewed(seconds=-60.0),
    TimesAbsurd(created_at="9999-12-31T23:59:59-14:00"),
    TimesAbsurd(created_at="2099-06-01T00:00:00Z", date="Mon, 01 Jun 2099 00:00:00 GMT"),
    TimesAbsurd(date="Fri, 31 Dec 9999 23:59:59 GMT"),
)
"""How the one integration is broken in a history of kind `isolation`."""

WEIGHTS = {
    Kind.WILD: 0.36,
    Kind.POLLED: 0.04,
    Kind.SENT_AGAIN: 0.04,
    Kind.LOADED: 0.04,
    Kind.RETIRED: 0.06,
    Kind.POLICIES: 0.06,
    Kind.CROWDED: 0.06,
    Kind.ISOLATION: 0.06,
    Kind.REPLACED: 0.06,
    Kind.MISREAD: 0.04,
    Kind.RESTARTS: 0.06,
    Kind.REPUBLISHED: 0.08,
    Kind.OPERATED: 0.06,
}


class Upheaval(StrEnum):
    """What becomes of the topics in a history of kind `replaced`."""

    RECREATED = "the input topic is deleted and created again"
    GROWN = "input and journal get another partition"
    EXPIRED = "unread records expire"
    FORGOTTEN = "the journal is emptied"
    NEWER = "the journal is written on by a newer version"


@dataclass(frozen=True)
class Names:
    """Ids that collide unless keys keep their parts apart (R9), or ids that do not."""

    integrations: tuple[str, ...]
    courses: tuple[str, ...]


PLAIN = Names(
    ("tool:0", "tool:1", "tool:2"), ("course-0", "course-1", "course-2", "course-3", "course-4", "course-5")
)
NASTY = Names(("tool", "tool:0", "tool:0:0"), ("0:c", "c", "0:0:c", '["c"]', "ü\\", "c,c"))


CROWD = Names(("tool:0", "tool:1"), tuple(f"course-{number}" for number in range(24)))


TOOLS = Names(("one:0", "other:0", "other:1"), CROWD.courses)


@dataclass(frozen=True)
class Bounds:
    """What in production are constants."""

    intake_records: int = 10_000
    intake_bytes: int = 2**24
    step_bytes: int = 2**24
    ahead_ms: int = AHEAD_MS
    """`kombo.times.AHEAD_MAX_MS`: small, so that a history sees both sides of it."""
    reach: int = 32_768
    """`core.repeats.REACH`."""
    tasks_learned: int = 20
    """`core.learned_polls.TASKS_MIN`."""
    polls_saved: int = 4
    """`core.learned_polls.SAVED_PER_TASK`."""


@dataclass(frozen=True)
class Parameters:
    kind: Kind
    partitions: int
    replicas: int
    names: Names
    integrations: int
    courses: int
    changes: int
    """How many are drawn."""
    deactivated: float
    """Share of the changes that deactivate their course."""
    contents: int
    """How many different ones, more or less: few, so that a course comes back to what it was (R14)."""
    duration: float
    """Virtual seconds of the phase of faults."""
    settings: Settings
    log_faults: LogFaults
    network_faults: NetworkFaults
    plan: FaultPlan
    strikes: faults.Strikes
    api_offset_ms: int
    huge: float
    """How likely a record is megabytes of nonsense (R7)."""
    resend: float
    """How likely a change asks to be sent in any case."""
    bulk: float
    """Share of the changes that are bulk."""
    long: float
    """How likely a course's text is long, so that few of them fill a batch."""
    bounds: Bounds
    decisions: int = 0
    """How many decisions of operators there are."""
    repetitions: int = 0
    """How often operators publish again what has failed."""
    deploy: Deploy | None = None
    upheaval: Upheaval | None = None
    skipped: int = 0
    """So many of the changes, the first ones drawn, are not published."""
    broken: str | None = None
    """The integration that is broken until the healing."""
    policies: Plan = NO_PLAN
    alone: bool = False
    """The only process has the concurrency limit for itself, and it stays what it is."""


def healed(plan: FaultPlan) -> FaultPlan:
    """No more faults; what the API is like stays."""
    return msgspec.structs.replace(
        NONE,
        idempotency=plan.idempotency,
        inactive=plan.inactive,
        concurrency_limit=plan.concurrency_limit,
    )
