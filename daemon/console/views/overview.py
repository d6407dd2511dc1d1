"""What the first page shows: the figures and charts of all integrations together, and what is not well."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from daemon.commands.integration_rows import State
from daemon.console.charts import Bars, Series
from daemon.console.model import Model
from daemon.console.views.integrations import IntegrationView, all_integrations, severity, state_of
from daemon.console.views.partitions import PartitionView, partition_list
from daemon.console.work import Stage
from daemon.core.control import GiveUp, Pause
from daemon.core.model import Status

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
        key=lambda row: (severity(row), -row.waiting, row.integration),
    )
    minutes = model.journals.minutes
    found = partition_list(model)
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
