"""Possible faults, as data: a plan is a list of rules, and each rule is one kind of fault.

A rule specifies how often (`probability`, per opportunity), for which integrations (`integrations` by name or glob, or every
n-th one (`every`) in order of first request) and when (`start_seconds`, `end_seconds`). Of several rules of one kind, the
first that hits is applied. As TOML::

    concurrency_limit = 30

    [[rules]]
    fault = "task_fails"
    every = 10
    end_seconds = 6
    codes = ["INTEGRATION.AUTHENTICATION_INVALID"]

    [[rules]]
    fault = "answer_lost"
    probability = 0.05
    how = "cut"
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import msgspec

PASSING_CODES = ("REMOTE.SERVICE_UNAVAILABLE", "REMOTE.RATE_LIMIT_EXCEEDED")
PERMANENT_CODES = ("LMS.COURSE_UPDATE_NOT_SUPPORTED", "REMOTE.INPUT_INVALID")

Seconds = Annotated[float, msgspec.Meta(ge=0)]
Codes = Annotated[tuple[str, ...], msgspec.Meta(min_length=1)]
Statuses = Annotated[tuple[Annotated[int, msgspec.Meta(ge=400, le=599)], ...], msgspec.Meta(min_length=1)]
How = Literal["error", "cut", "truncated", "hang"]


class PlanError(ValueError):
    """The plan cannot be read. The message is for the author of the plan."""


class Rule(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="fault",
):
    """How often, for which integrations and when. The subclasses define the fault."""

    probability: Annotated[float, msgspec.Meta(ge=0, le=1)] = 1.0
    integrations: tuple[str, ...] | None = None
    """Ids or globs. None: all integrations."""
    every: Annotated[int, msgspec.Meta(ge=1)] = 1
    """Only every n-th integration in order of first request: with 7, the 7th, 14th, …"""
    start_seconds: Seconds = 0.0
    """Counted from the integration's first request, or from the start of the plan if that is later."""
    end_seconds: Seconds | None = None


# --- in requests and answers ----------------------------------------------------------------------


class AnswerSlow(Rule, frozen=True, tag="answer_slow"):
    """Any answer is delayed, so that requests overlap."""

    seconds_min: Seconds = 0.01
    seconds_max: Seconds = 0.1


class SubmitThrottled(Rule, frozen=True, tag="submit_throttled"):
    """429 `PLATFORM.RATE_LIMIT_EXCEEDED`. Nothing was accepted."""

    retry_after: Annotated[int, msgspec.Meta(ge=0)] = 1
    """Seconds in the header `Retry-After`."""


class SubmitRefused(Rule, frozen=True, tag="submit_refused"):
    """An error before acceptance: of a load balancer (no code), or of the API with this code."""

    statuses: Statuses = (500, 502, 503)
    code: str | None = None


class LimitLow(Rule, frozen=True, tag="limit_low"):
    """The API accepts fewer concurrent action requests of the integration, and another client uses some of them."""

    limit: Annotated[int, msgspec.Meta(ge=1)] = 1
    others: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Requests of other clients in flight. If there are as many as the limit or more, every request of the client is
    refused."""


class AnswerLost(Rule, frozen=True, tag="answer_lost"):
    """The POST was accepted and its task runs, or the course was deactivated, but the client gets no answer."""

    how: How = "cut"
    statuses: Statuses = (502, 503)
    """For `error`: the status of a load balancer, without JSON."""
    hang_seconds: Seconds = 60.0
    """For `hang`: the connection is closed after this time."""


class PollFails(Rule, frozen=True, tag="poll_fails"):
    """A GET that returns no task."""

    how: How = "error"
    statuses: Statuses = (500, 502, 503)
    hang_seconds: Seconds = 60.0


# --- times ----------------------------------------------------------------------------------------


class ClockSkewed(Rule, frozen=True, tag="clock_skewed"):
    """The server that answers for the integration has a wrong clock. It affects `Date` and the times of tasks created
    meanwhile."""

    seconds: float = 120.0
    """How far the clock is ahead; negative: behind."""
    date: bool = True
    """False: only the times of tasks are wrong, and `Date` is correct."""


class TimesAbsurd(Rule, frozen=True, tag="times_absurd"):
    """An answer to a poll with impossible times. A field that is None is not changed. An empty `date` removes the header."""

    created_at: str | None = None
    completed_at: str | None = None
    date: str | None = None


# --- in a task; decided when it is created --------------------------------------------------------


class TaskFails(Rule, frozen=True, tag="task_fails"):
    """The task ends FAILED: no item is processed."""

    codes: Codes = (*PASSING_CODES, "PLATFORM.UNKNOWN_ERROR")


class TaskSlow(Rule, frozen=True, tag="task_slow"):
    """The task takes this long, and applies its items only when it ends."""

    seconds_min: Seconds = 5.0
    seconds_max: Seconds = 10.0


class TaskEndless(Rule, frozen=True, tag="task_endless"):
    """The task stays PENDING forever. It applies its items after this time, or never (None)."""

    applies_after_seconds: Seconds | None = None


class ItemFails(Rule, frozen=True, tag="item_fails"):
    """An item of a COMPLETED task ends FAILED and is not applied. Each item is an opportunity."""

    codes: Codes = (*PASSING_CODES, *PERMANENT_CODES)


class FateShared(Rule, frozen=True, tag="fate_shared"):
    """The items of a COMPLETED task share one outcome: if one ends FAILED, all end FAILED with its error, and none is applied."""


class EntryMissing(Rule, frozen=True, tag="entry_missing"):
    """A COMPLETED task does not mention one of its items, whatever its outcome is."""


class EntryDuplicated(Rule, frozen=True, tag="entry_duplicated"):
    """A COMPLETED task mentions one of its items twice."""


class EntryForeign(Rule, frozen=True, tag="entry_foreign"):
    """A COMPLETED task mentions an item that was never sent."""


class TaskIdShared(Rule, frozen=True, tag="task_id_shared"):
    """The answer to a POST has the id of another task of the integration that is still PENDING. No task is created, so that
    task never mentions the items of this POST. It holds none of their courses."""


AnyRule = (
    AnswerSlow
    | SubmitThrottled
    | SubmitRefused
    | LimitLow
    | AnswerLost
    | PollFails
    | ClockSkewed
    | TimesAbsurd
    | TaskFails
    | TaskSlow
    | TaskEndless
    | ItemFails
    | FateShared
    | EntryMissing
    | EntryDuplicated
    | EntryForeign
    | TaskIdShared
)


class Idempotency(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Behaviour that the vendor does not specify. The defaults are the worst case for a client."""

    compare: Literal["bytes", "json"] = "bytes"
    forget_after_seconds: Seconds | None = None
    """Time after the task's creation. None: never."""
    return_finished: bool = True
    """False: only a task that is still PENDING is returned; otherwise a new one is created."""


class Inactive(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What becomes of courses that were deactivated. The vendor does not specify it."""

    again: Literal["done", "refused"] = "done"
    """The answer to a deactivation of a course that is inactive already. `refused`: an error with a code."""
    upsert: Literal["reactivates", "keeps"] = "reactivates"
    """What an upsert makes of an inactive course, besides writing its content. `keeps`: it stays inactive."""


class FaultPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    rules: tuple[AnyRule, ...] = ()
    idempotency: Idempotency = Idempotency()
    inactive: Inactive = Inactive()
    concurrency_limit: Annotated[int, msgspec.Meta(ge=1)] = 30
    """Maximum number of action requests in flight per integration."""


NONE = FaultPlan()

DEMO = FaultPlan(
    rules=(
        AnswerSlow(seconds_min=0.005, seconds_max=0.06),
        SubmitThrottled(probability=0.03, retry_after=1),
        SubmitRefused(probability=0.04),
        AnswerLost(probability=0.03, how="error"),
        AnswerLost(probability=0.03, how="cut"),
        AnswerLost(probability=0.01, how="truncated"),
        AnswerLost(probability=0.01, how="hang"),
        PollFails(probability=0.03),
        PollFails(probability=0.01, how="cut"),
        TaskFails(every=9, end_seconds=4, codes=("INTEGRATION.AUTHENTICATION_INVALID",)),
        TaskFails(probability=0.04),
        TaskSlow(probability=0.05, seconds_min=3, seconds_max=7),
        TaskEndless(probability=0.015, applies_after_seconds=2),
        TaskEndless(probability=0.015),
        ItemFails(probability=0.02, codes=PASSING_CODES),
        ItemFails(probability=0.01, codes=PERMANENT_CODES),
        FateShared(probability=0.03),
        EntryMissing(probability=0.05),
        EntryDuplicated(probability=0.05),
        EntryForeign(probability=0.05),
    ),
)
"""All faults, often enough to be visible. A client that retries completes some hundred tasks within a minute."""

PRESETS = {"none": NONE, "demo": DEMO}


def parse_plan(text: str) -> FaultPlan:
    """The plan in a JSON object, or the preset with this name.

    Raises:
        PlanError: the text is neither.
    """
    text = text.strip()
    if not text.startswith("{"):
        if text in PRESETS:
            return PRESETS[text]
        raise PlanError(
            f"no fault plan is called {text!r}: give one of {', '.join(PRESETS)}, or a JSON object"
        )
    try:
        return msgspec.json.decode(text, type=FaultPlan)
    except msgspec.DecodeError as error:
        raise PlanError(f"the fault plan is not valid: {error}") from error


def load_plan(argument: str) -> FaultPlan:
    """As `parse_plan`, but the argument can also be the name of a TOML or JSON file.

    Raises:
        PlanError: the argument is none of these, or the file cannot be read.
    """
    if argument.endswith((".toml", ".json")) and not argument.lstrip().startswith("{"):
        decode = msgspec.toml.decode if argument.endswith(".toml") else msgspec.json.decode
        try:
            return decode(Path(argument).read_bytes(), type=FaultPlan)
        except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
            raise PlanError(f"cannot read the fault plan {argument}: {error}") from error
    return parse_plan(argument)


class Integration(msgspec.Struct, frozen=True, gc=False):
    """The properties by which rules select an integration."""

    id: str
    number: int
    """Order of the first request, from 1."""
    seen_at: int
    """Milliseconds since the epoch."""


R = TypeVar("R", bound=Rule)


class Dice:
    """Decides when a rule hits, and counts the hits. Draws from `rng` only if the decision is random."""

    def __init__(self, plan: FaultPlan, rng: random.Random, began_at: int, hits: Counter[str]) -> None:
        self._rng = rng
        self._hits = hits
        self._began_at = began_at
        self._rules: dict[type[Rule], list[Rule]] = {}
        for rule in plan.rules:
            self._rules.setdefault(type(rule), []).append(rule)

    def active(self, kind: type[R], now: int, integration: Integration) -> Sequence[R]:
        """The rules of this kind that apply to this integration now."""
        rules = self._rules.get(kind)
        if not rules:
            return ()
        age = (now - max(self._began_at, integration.seen_at)) / 1000
        return [
            rule
            for rule in rules
            if isinstance(rule, kind) and _concerns(rule, integration) and _in_force(rule, age)
        ]

    def pick(self, rules: Sequence[R]) -> R | None:
        """The first of these rules that hits this time."""
        for rule in rules:
            if rule.probability >= 1 or self._rng.random() < rule.probability:
                self._hits[_label(rule)] += 1
                return rule
        return None

    def roll(self, kind: type[R], now: int, integration: Integration) -> R | None:
        return self.pick(self.active(kind, now, integration))


def _label(rule: Rule) -> str:
    """The kind, followed by the form if there are several: `answer_lost cut`."""
    tag = str(rule.__struct_config__.tag)
    how = getattr(rule, "how", None)
    return tag if how is None else f"{tag} {how}"


def _concerns(rule: Rule, integration: Integration) -> bool:
    if integration.number % rule.every:
        return False
    return rule.integrations is None or any(fnmatchcase(integration.id, name) for name in rule.integrations)


def _in_force(rule: Rule, age: float) -> bool:
    return age >= rule.start_seconds and (rule.end_seconds is None or age < rule.end_seconds)
