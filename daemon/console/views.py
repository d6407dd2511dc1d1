"""What the pages show, computed from the model at a time. Pure; no HTML."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from msgspec import UNSET

from daemon.commands.integration_rows import State
from daemon.config import Policies
from daemon.console.charts import Bars, Series
from daemon.console.journals import Partition
from daemon.console.model import Held, Look, Model
from daemon.console.results import LastError
from daemon.console.work import Batch, Stage, Waiting, Work
from daemon.core.control import GiveUp, Pause, is_pattern
from daemon.core.journal import Position
from daemon.core.model import Error, Status
from daemon.core.rejection_limit import Stop
from daemon.core.schedule import PollIntervals, poll_seed
from daemon.core.verdict import SubmitVerdict
from daemon.runtime import operator_messages
from daemon.telemetry.health import PartitionStatus

AGES = (
    (1, "under 1 min", "<1m"),
    (5, "1 to 5 min", "<5m"),
    (15, "5 to 15 min", "<15m"),
    (60, "15 to 60 min", "<1h"),
    (6 * 60, "1 to 6 h", "<6h"),
    (24 * 60, "6 to 24 h", "<1d"),
    (7 * 24 * 60, "1 to 7 days", "<7d"),
)
"""Upper bounds in minutes, with their names."""
OLDER = ("over 7 days", "older")
RESULT_MINUTES = 60
NOT_WELL_SHOWN = 10
WAITING_SHOWN = 50
TASKS_SHOWN = 100
ROWS_PER_PAGE = 100
WELL = frozenset({State.RUNNING, State.IDLE})
FAILED_IN_A_ROW = 3
"""So many refused changes and no success in between mean that an integration is not well. A single one may be the course's fault."""


# --- integrations -----------------------------------------------------------------------------------


class IntegrationView(NamedTuple):
    """A row of the list of integrations; times in ms."""

    integration: str
    state: State
    pause: Pause | None
    waiting: int
    """Changes that the API has not accepted yet."""
    oldest: int | None
    """When the oldest change without a result was consumed."""
    tasks: int
    task_changes: int
    oldest_task: int | None
    watched: int
    last_result: int | None
    errors: int
    """Errors among the last results."""
    failed_in_a_row: int

    @property
    def fails(self) -> bool:
        """Everything that is sent fails for good, so that nothing waits and the state alone looks well."""
        return self.failed_in_a_row >= FAILED_IN_A_ROW

    @property
    def is_well(self) -> bool:
        return self.state in WELL and not self.fails


def state_of(work: Work, pause: Pause | None, wall: int) -> State:
    if pause is not None:
        return State.PAUSED
    refusal = work.last_refusal
    if refusal is not None and refusal.verdict == SubmitVerdict.HALT:
        return State.HALTED
    if work.is_parked:
        return State.WAITS_FOR_CUSTOMER
    next_attempt = work.next_attempt
    if next_attempt is not None and next_attempt > wall:
        return State.BACKING_OFF
    return State.IDLE if work.is_empty else State.RUNNING


def integration_view(model: Model, name: str, wall: int) -> IntegrationView:
    work, results = model.work(name), model.results.integrations.get(name)
    pause = model.control.pause(name)
    if pause is None and is_pattern(name):
        pause = next((each for each in model.control.pauses if each.integration == name), None)
    return IntegrationView(
        integration=name,
        state=state_of(work, pause, wall),
        pause=pause,
        waiting=work.waiting + work.changes[Stage.SEALED],
        oldest=work.oldest,
        tasks=work.tasks,
        task_changes=work.changes[Stage.TASK],
        oldest_task=work.oldest_task,
        watched=len(work.watched),
        last_result=None if results is None else results.last_at or None,
        errors=0 if results is None else len(results.errors),
        failed_in_a_row=0 if results is None else results.failed_in_a_row,
    )


def all_integrations(model: Model, wall: int) -> list[IntegrationView]:
    return [integration_view(model, name, wall) for name in model.integrations()]


_SEVERITY = {
    State.HALTED: 0,
    State.WAITS_FOR_CUSTOMER: 1,
    State.BACKING_OFF: 2,
    State.PAUSED: 3,
    State.RUNNING: 4,
    State.IDLE: 5,
}
_LATEST = 2**63


def _severity(row: IntegrationView) -> int:
    return _SEVERITY[State.WAITS_FOR_CUSTOMER if row.fails and row.state in WELL else row.state]


SORTS: dict[str, Callable[[IntegrationView], Any]] = {
    "integration": lambda row: row.integration,
    "state": lambda row: (_severity(row), -row.waiting),
    "waiting": lambda row: -row.waiting,
    "oldest": lambda row: _LATEST if row.oldest is None else row.oldest,
    "tasks": lambda row: -row.tasks,
    "task_age": lambda row: _LATEST if row.oldest_task is None else row.oldest_task,
    "errors": lambda row: -row.errors,
    "last_result": lambda row: -(row.last_result or 0),
}
"""By name, the order that is useful first: the worst, the most, the oldest or the newest first."""


class IntegrationList(NamedTuple):
    rows: list[IntegrationView]
    """Of this page."""
    found: int
    total: int
    page: int
    pages: int
    states: Counter[State]
    """Of all integrations."""


def integration_list(
    model: Model, wall: int, *, query: str, state: State | None, sort: str, reverse: bool, page: int
) -> IntegrationList:
    every = all_integrations(model, wall)
    wanted = query.casefold()
    found = [
        row for row in every if wanted in row.integration.casefold() and (state is None or row.state is state)
    ]
    found.sort(key=lambda row: row.integration)
    found.sort(key=SORTS[sort], reverse=reverse)
    pages = max(1, -(-len(found) // ROWS_PER_PAGE))
    page = min(max(page, 1), pages)
    rows = found[(page - 1) * ROWS_PER_PAGE : page * ROWS_PER_PAGE]
    return IntegrationList(rows, len(found), len(every), page, pages, Counter(row.state for row in every))


class TaskView(NamedTuple):
    batch: Batch
    polls: int | None
    """Polls so far by the schedule, which starts with the acceptance; None if there is no task yet."""
    next_poll: int | None
    """When the next one is due by the schedule, ms."""


def tasks_of(work: Work, policies: Policies, wall: int) -> list[TaskView]:
    """The open submissions of one integration, the oldest first. Polls are not journalled: their number and their times follow
    from the acceptance and the settings, as in the daemon after a restart.
    """
    batches = sorted(
        work.batches.values(),
        key=lambda each: (each.task is None, each.sealed_at if each.task is None else each.task.accepted_at),
    )
    return [_task(batch, policies, wall) for batch in batches[:TASKS_SHOWN]]


def _task(batch: Batch, policies: Policies, wall: int) -> TaskView:
    if batch.task is None:
        return TaskView(batch, None, None)
    poll = policies(batch.integration_id).poll
    intervals = PollIntervals(poll.first_after, poll.factor, poll.interval_max)
    elapsed = max(0, wall - batch.task.accepted_at) / 1000
    polls, seconds = intervals.resume(elapsed, batch.changes, poll_seed(batch.batch_id))
    return TaskView(batch, polls, wall + round(seconds * 1000))


class IntegrationPage(NamedTuple):
    row: IntegrationView
    work: Work
    last_error: Error | None
    next_attempt: int | None
    tasks: list[TaskView]
    waiting: list[Waiting]
    errors: list[LastError]
    """The newest first."""
    given_up: list[GiveUp]
    decisions: list[Pause | GiveUp]
    is_known: bool


def integration_page(model: Model, policies: Policies, name: str, wall: int) -> IntegrationPage:
    work, results = model.work(name), model.results.integrations.get(name)
    return IntegrationPage(
        row=integration_view(model, name, wall),
        work=work,
        last_error=work.last_error(model.journals.errors),
        next_attempt=work.next_attempt,
        tasks=tasks_of(work, policies, wall),
        waiting=model.journals.oldest_waiting(name, WAITING_SHOWN),
        errors=[] if results is None else sorted(results.errors, key=lambda each: -each.resolved_at),
        given_up=model.control.given_up_of(name),
        decisions=model.decisions_about(name),
        is_known=not work.is_empty or results is not None or bool(model.decisions_about(name)),
    )


# --- partitions -------------------------------------------------------------------------------------


class PartitionView(NamedTuple):
    partition: int
    state: str
    is_bad: bool
    """Somebody has to do something."""
    reason: str | None
    """With what to do about it."""
    lag: int | None
    """Records that are not read yet, with the markers of transactions; None if it is not known."""
    next_offset: int | None
    waiting: int
    sealed: int
    tasks: int
    watched: int
    held: Held | None
    """What its replica says, if replicas are asked."""


def partitions(model: Model) -> list[PartitionView]:
    numbers = set(model.looks) | set(model.journals.partitions) | set(model.held)
    return [_partition(model, number) for number in sorted(numbers)]


def _partition(model: Model, number: int) -> PartitionView:
    kept = model.journals.partitions.get(number) or Partition()
    look, position = model.looks.get(number), kept.position
    lag = None
    if look is not None and position is not None:
        lag = max(0, look.facts.stable - position.next_offset)
    state, is_bad, reason = _state_of_partition(model, number, kept, look)
    return PartitionView(
        number,
        state,
        is_bad,
        None if reason is None else reason.removeprefix(f"partition {number}: "),
        lag,
        None if position is None else position.next_offset,
        kept.waiting,
        kept.sealed,
        kept.tasks,
        kept.watched,
        model.held.get(number),
    )


def _state_of_partition(
    model: Model, number: int, kept: Partition, look: Look | None
) -> tuple[str, bool, str | None]:
    topics, position = model.topics, kept.position
    if (error := next(iter(kept.unreadable.values()), None)) is not None:
        return "blocked", True, operator_messages.unreadable_journal(number, error, topics)
    if (skipped := model.reading.unreadable.get((topics.journal, number))) is not None:
        return "blocked", True, operator_messages.unreadable_journal(number, ValueError(skipped), topics)
    if position is not None and (stop := _stop_of(position)) is not None:
        return "stopped", True, operator_messages.too_many_rejected(number, stop, topics)
    held = model.held.get(number)
    if held is not None and held.state == PartitionStatus.BLOCKED:
        return "blocked", True, held.reason
    if held is not None and held.warning is not None:
        return "delayed", False, held.warning
    if look is None:
        return "not looked at yet", False, None
    if sentence := _blocked(model, number, look):
        return "blocked", True, sentence
    if position is None:
        return "not read yet", False, None
    facts = look.facts
    if facts.latest > facts.stable and position.next_offset >= facts.stable:
        return "held back", False, _HELD_BACK.format(facts.latest - facts.stable, facts.stable)
    if facts.stable > position.next_offset:
        return "behind", False, None
    return "up to date", False, None


_HELD_BACK = (
    "{} records behind an open transaction of a publisher, which begins at offset {}, cannot be read before it ends. This is "
    "ordinary for a moment; `/readyz` of its replica says what to do if it lasts"
)


def _blocked(model: Model, number: int, look: Look) -> str | None:
    """Why no replica can read the partition, by the rules of the daemon (R8)."""
    facts, topics = look.facts, model.topics
    sentence = operator_messages.without_journal(number, facts, topics)
    sentence = sentence or operator_messages.without_courses(number, facts, topics)
    if sentence or not model.reading.is_loaded:
        return sentence
    if look.position is not None:
        return operator_messages.of_position(number, look.position, facts, topics)
    if model.position(number) is None:
        return operator_messages.without_position(number, facts, topics)
    return None


def _stop_of(position: Position) -> Stop | None:
    """From the counts in the position record, which do not have the code."""
    counts = position.rejections
    if counts is UNSET or counts.stopped_at is None:
        return None
    code = "the log of its replica says why"
    return Stop(counts.stopped_at, code, counts.since, counts.records, counts.rejected)


# --- the overview -----------------------------------------------------------------------------------


class Overview(NamedTuple):
    open_changes: int
    waiting: int
    in_tasks: int
    tasks: int
    oldest: int | None
    """When the oldest change without a result was consumed, to the minute."""
    results_last_minute: int
    not_well: list[IntegrationView]
    """The worst first, at most `NOT_WELL_SHOWN`."""
    not_well_count: int
    integrations: int
    partitions: list[PartitionView]
    lag: int
    ages: Bars
    reasons: Bars
    results: Bars
    decisions: list[Pause | GiveUp]


def overview(model: Model, wall: int) -> Overview:
    rows = all_integrations(model, wall)
    not_well = sorted(
        (row for row in rows if not row.is_well),
        key=lambda row: (_severity(row), -row.waiting, row.integration),
    )
    minutes = model.journals.minutes
    found = partitions(model)
    changes = {stage: sum(counted.values()) for stage, counted in minutes.items()}
    oldest = min((min(counted) for counted in minutes.values() if counted), default=None)
    results = results_by_minute(model, wall)
    return Overview(
        open_changes=sum(changes.values()),
        waiting=changes[Stage.WAITING] + changes[Stage.SEALED],
        in_tasks=changes[Stage.TASK],
        tasks=sum(row.tasks for row in rows),
        oldest=None if oldest is None else oldest * 60_000,
        results_last_minute=sum(series.values[-2] for series in results.series),
        not_well=not_well[:NOT_WELL_SHOWN],
        not_well_count=len(not_well),
        integrations=len(rows),
        partitions=found,
        lag=sum(each.lag or 0 for each in found),
        ages=pending_by_age(model, wall),
        reasons=waiting_by_reason(model, wall),
        results=results,
        decisions=[each for _, each in reversed(model.decisions[-10:])],
    )


def pending_by_age(model: Model, wall: int) -> Bars:
    ages = model.ages(wall, tuple(bound for bound, _, _ in AGES))
    names = {Stage.WAITING: "waiting", Stage.SEALED: "being sent", Stage.TASK: "in a task"}
    classes = {Stage.WAITING: "waiting", Stage.SEALED: "sealed", Stage.TASK: "task"}
    return Bars(
        [*(label for _, label, _ in AGES), OLDER[0]],
        [Series(names[stage], classes[stage], counts) for stage, counts in ages.items()],
        [*(short for _, _, short in AGES), OLDER[1]],
    )


def waiting_by_reason(model: Model, wall: int) -> Bars:
    """Changes that the API has not accepted yet."""
    reasons: Counter[str] = Counter()
    for name, work in model.journals.work.items():
        sealed = work.changes[Stage.SEALED]
        state = state_of(work, model.control.pause(name), wall)
        if state is State.PAUSED:
            reasons["an operator paused it"] += work.waiting + sealed
        elif state is State.HALTED:
            reasons["our key is refused"] += work.waiting + sealed
        elif state is State.WAITS_FOR_CUSTOMER:
            reasons["its customer"] += work.waiting + sealed
        else:
            reasons["its next attempt"] += work.retries
            reasons["its submission was refused"] += work.refused_changes
            reasons["it is being sent"] += sealed - work.refused_changes
            reasons["its turn, or its course"] += work.waiting - work.retries
    order = (
        "its turn, or its course",
        "it is being sent",
        "its next attempt",
        "its submission was refused",
        "its customer",
        "an operator paused it",
        "our key is refused",
    )
    return Bars(list(order), [Series("changes", "waiting", [reasons[name] for name in order])])


_STATUS_CLASSES = {
    Status.SUCCEEDED: "succeeded",
    Status.UNCHANGED: "unchanged",
    Status.SUPERSEDED: "superseded",
    Status.FAILED: "failed",
    Status.TIMED_OUT: "timed-out",
    Status.REJECTED: "rejected",
}


def results_by_minute(model: Model, wall: int) -> Bars:
    """The last hour; the last minute is the one that is going on."""
    now = wall // 60_000
    every = range(now - RESULT_MINUTES + 1, now + 1)
    none: Counter[Status] = Counter()
    counted = [model.results.minutes.get(minute, none) for minute in every]
    labels = [f"{now - minute} min ago" if minute < now else "this minute" for minute in every]
    return Bars(
        labels,
        [
            Series(status.value, css, [each[status] for each in counted])
            for status, css in _STATUS_CLASSES.items()
        ],
    )
