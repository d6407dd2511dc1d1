"""What the pages show of integrations: the list of all, and the page of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

from daemon.commands.integration_rows import State
from daemon.config import Policies
from daemon.console.model import Model
from daemon.console.results import LastError
from daemon.console.work import Batch, Stage, Waiting, Work
from daemon.core.control import GiveUp, Pause, is_pattern
from daemon.core.model import Error
from daemon.core.schedule import PollIntervals, poll_seed
from daemon.core.verdict import SubmitVerdict

WAITING_SHOWN = 50
TASKS_SHOWN = 100
ROWS_PER_PAGE = 100
WELL = frozenset({State.RUNNING, State.IDLE})
FAILED_IN_A_ROW = 3
"""So many refused changes and no success in between mean that an integration is not well. A single one may be the course's fault."""


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


def severity(row: IntegrationView) -> int:
    """For sorting: the worst first."""
    return _SEVERITY[State.WAITS_FOR_CUSTOMER if row.fails and row.state in WELL else row.state]


SORTS: dict[str, Callable[[IntegrationView], Any]] = {
    "integration": lambda row: row.integration,
    "state": lambda row: (severity(row), -row.waiting),
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
