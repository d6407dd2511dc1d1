"""The first screen answers one question: are customers hurt, and how badly? What comes below explains it."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from daemon.telemetry import catalogue as c
from tests.tools.dashboards import panels as p
from tests.tools.dashboards.document import RUNBOOK, Row, document
from tests.tools.dashboards.queries import (
    CHOSEN,
    IDLE,
    NOT_RUNNING,
    OPEN_AGES,
    OPEN_SHARE,
    PENDING_SHARE,
    RUNNING,
    SUCCEEDED_OR_IDLE,
    UP,
    Query,
    mean,
    mean_and_most,
    of,
    per_second,
    quantile,
    quantiles,
    share,
    since,
    total,
)

_NONE_OF_THESE = CHOSEN.replace('$namespace"', '$namespace|"').replace('$release"', '$release|"')
_NONE_OF_THESE = _NONE_OF_THESE.replace('$instance"', '$instance|"')
_FIRING = f'ALERTS{{{_NONE_OF_THESE}, alertname=~"CourseSync.+", alertstate="firing"}}'
"""An alert about no single replica has no instance, and CourseSyncDown may have no release."""

SEVERITIES = {"critical": p.RED, "warning": p.YELLOW}
"""In the order of the alphabet, by which the table sorts."""

_FAILED = 'status=~"FAILED|TIMED_OUT|REJECTED"'
_ENDED = 'status!~"SUPERSEDED|UNCHANGED"'


def overview() -> Dashboard:
    return document(
        "coursesync-overview",
        "coursesyncd / Overview",
        "Whether customers are hurt, and how changes are processed: tasks, input, API and log.",
        [_are_customers_hurt(), _tasks(), _input(), _api(), _log()],
    )


def _are_customers_hurt() -> Row:
    return "Are customers hurt?", [
        p.number(
            "Failed changes, 15 min",
            "Share of the changes that ended as FAILED, TIMED_OUT or REJECTED in the last 15 minutes, among all that ended "
            "and were neither superseded nor unchanged. Nothing when none ended.",
            "percentunit",
            Query(share(c.RESULTS, _FAILED, _ENDED, "15m"), "failed"),
            steps=[(None, p.GREEN), (0.01, p.YELLOW), (0.1, p.RED)],
            nothing=("none ended", p.GREY),
            filled=True,
            width=4,
            height=5,
        ),
        p.number(
            "Succeeded per second",
            "Changes per second that reached their learning systems in the last two minutes. Red: none, while work waits. "
            "Idle: none, and there is nothing to do.",
            "count:changes/s",
            Query(SUCCEEDED_OR_IDLE, "succeeded"),
            steps=[(None, p.RED), (1e-9, p.GREEN)],
            nothing=("no data", p.RED),
            named={str(IDLE): ("idle", p.GREEN)},
            filled=True,
            width=4,
            height=5,
        ),
        p.number(
            "Oldest open change",
            "Age of the oldest change without a result, wherever it is: not read, held back, or in a task. The other figure is "
            "its share of task.timeout; for tasks, the largest share of their own. 0 when every change has its result.",
            "percentunit",
            Query(OPEN_SHARE, "of task.timeout"),
            Query(f"max({OPEN_AGES})", "age"),
            steps=[(None, p.GREEN), (0.5, p.YELLOW), (1, p.RED)],
            own_steps={"age": [(None, p.DARK_BLUE)]},
            own_units={"age": "s"},
            filled=True,
            width=5,
            height=5,
        ),
        p.number(
            "Replicas",
            "Replicas in the state running, and those that Prometheus knows and that do not run: they are starting, restoring, "
            "draining or halted, or do not answer.",
            "none",
            Query(RUNNING, "running"),
            Query(NOT_RUNNING, "not running"),
            steps=[(None, p.RED), (1, p.GREEN)],
            nothing=("none", p.RED),
            own_steps={"not running": [(None, p.GREEN), (1, p.YELLOW)]},
            filled=True,
            width=4,
            height=5,
        ),
        p.alerts(
            "Firing alerts",
            "Alerts of coursesyncd that fire, the critical ones first. The name leads to the runbook. Alerts that concern no "
            "single replica are shown whatever replica is selected.",
            Query(f"count by (severity, alertname, release) ({_FIRING})", ""),
            SEVERITIES,
            RUNBOOK,
            width=7,
            height=5,
        ),
        p.graph(
            "Results by status",
            "Results published per second. Each change has exactly one.",
            "count:changes/s",
            Query(per_second(c.RESULTS, "status"), "{{status}}"),
            colours=p.STATUSES,
            stacked=True,
            width=8,
        ),
        p.graph(
            "From change to result",
            "Time from the consumption of a change to its result, for 90 % of the changes, by status.",
            "s",
            Query(quantile(0.9, c.RESULT_LATENCY, "status"), "{{status}}"),
            colours=p.STATUSES,
            width=7,
        ),
        p.number(
            "Pending tasks",
            "Tasks that the API has accepted and that are not known to have ended.",
            "short",
            Query(total(of(c.PENDING_TASKS)), "tasks"),
            steps=[(None, p.BLUE)],
            width=3,
            height=8,
        ),
        p.dial(
            "Oldest task",
            "Largest age of a pending task as a share of its own task.timeout. At 100 % its changes end as TIMED_OUT. 0 when none is "
            "pending.",
            Query(PENDING_SHARE, "age"),
            steps=[(None, p.GREEN), (0.5, p.YELLOW), (0.8, p.RED)],
            width=3,
            height=8,
        ),
        p.number(
            "Timed out, 30 min",
            "Share of the tasks that timed out in the last 30 minutes, among all that ended. Nothing when none ended.",
            "percentunit",
            Query(share(c.TASKS_FINISHED, 'outcome="timed_out"', "", "30m"), "timed out"),
            steps=[(None, p.GREEN), (0.01, p.YELLOW), (0.05, p.RED)],
            nothing=("none ended", p.GREY),
            width=3,
            height=8,
        ),
    ]


def _tasks() -> Row:
    return "Tasks", [
        p.bands(
            "Age of pending tasks",
            "Tasks that are pending now, by age. The buckets are gauges that also go down, so there is no rate().",
            "s",
            Query(total(of(c.PENDING_AGE, suffix="_bucket"), "le"), "{{le}}"),
            width=8,
        ),
        p.graph(
            "Tasks created and finished",
            "Tasks per second that were added to the poll schedule (submitted, or restored after a restart), and tasks that "
            "ended, by outcome. A restored task was counted before, when it was submitted.",
            "count:tasks/s",
            Query(per_second(c.TASKS_CREATED, "source"), "created: {{source}}"),
            Query(per_second(c.TASKS_FINISHED, "outcome"), "finished: {{outcome}}"),
            colours={"submit": p.BLUE, "restore": p.LIGHT_BLUE, **p.OUTCOMES},
            width=8,
        ),
        p.graph(
            "Task duration",
            "Time from the creation of a completed task to its end, in the API's time.",
            "s",
            *quantiles(c.TASK_DURATION, 'outcome="completed"'),
            colours=p.QUANTILES,
            width=8,
        ),
        p.graph(
            "Schedule delay",
            "Delay between the time a poll was due and its start. It grows when calls in flight reach http.in_flight_max, or "
            "when the process is short of CPU.",
            "s",
            *quantiles(c.SCHEDULE_DELAY),
            colours=p.QUANTILES,
            width=8,
        ),
        p.graph(
            "Detection lag",
            "Time from the completion of a task to the poll that saw it. It depends on the poll intervals: up to "
            "poll.interval_max is normal, less once the durations of such tasks are known.",
            "s",
            *quantiles(c.DETECTION_LAG),
            colours=p.QUANTILES,
            width=8,
        ),
        p.graph(
            "Polls per task",
            "Number of polls of a finished task.",
            "short",
            *mean_and_most(c.TASK_POLLS),
            colours=p.QUANTILES,
            width=8,
        ),
        p.graph(
            "Mean detection lag by size of the batch",
            "The mean of the lag, for tasks of batches with one change, few changes and many changes.",
            "s",
            Query(mean(c.DETECTION_LAG, "size"), "{{size}}"),
            width=12,
        ),
        p.graph(
            "Mean polls per task by size of the batch",
            "The mean number of polls of a finished task, for batches with one change, few changes and many changes.",
            "short",
            Query(mean(c.TASK_POLLS, "size"), "{{size}}"),
            width=12,
        ),
    ]


def _input() -> Row:
    behind = f"({since(c.LAST_RECORD)}) * ({of(c.CONSUMER_LAG)} > bool 0)"
    return "Input", [
        p.graph(
            "Input lag (time)",
            "Age of the last consumed record, by its timestamp in the log, while there is more to read; 0 when everything is "
            "read.",
            "s",
            Query(f"max by (instance) ({behind})", "{{instance}}"),
        ),
        p.graph(
            "Input lag (records)",
            "Input records that are not consumed yet. While a partition is paused, this is checked every 30 s.",
            "count:records",
            Query(total(of(c.CONSUMER_LAG), "instance"), "{{instance}}"),
        ),
        p.graph(
            "Changes consumed",
            "Records per second taken from the input, including rejected ones.",
            "count:records/s",
            Query(per_second(c.CHANGES_CONSUMED, "instance"), "{{instance}}"),
        ),
        p.graph(
            "Partitions",
            "Input partitions held by the selected replicas, and those of the topic. Blocked partitions wait for a person; "
            "paused partitions have reached a limit.",
            "short",
            Query(total(of(c.ASSIGNED_PARTITIONS)), "held"),
            Query(f"sum(max by (job, namespace, release, topic) ({of(c.TOPIC_PARTITIONS)}))", "in the topic"),
            Query(total(of(c.PARTITIONS_BLOCKED)), "blocked"),
            Query(total(of(c.PARTITIONS_PAUSED)), "paused"),
            Query(total(of(c.PARTITIONS_STOPPED)), "stopped"),
            colours=p.PARTITIONS,
        ),
    ]


def _api() -> Row:
    latency = [
        Query(quantile(q, c.HTTP_DURATION, "endpoint"), f"{{{{endpoint}}}} {shown}")
        for q, shown in ((0.9, "90 %"), (0.99, "99 %"))
    ]
    return "API", [
        p.graph(
            "Calls by outcome",
            "Calls per second by outcome. timeout, connect_error and protocol_error got no understood answer; 429 is the API's "
            "flow control.",
            "reqps",
            Query(per_second(c.HTTP_REQUESTS, "status"), "{{status}}"),
            colours=p.ANSWERS,
            stacked=True,
        ),
        p.graph(
            "Call latency",
            "Upper bound of the duration of 90 % and 99 % of the calls, whatever the outcome.",
            "s",
            *latency,
        ),
        p.graph(
            "Resent submissions",
            "Submissions per second that are sent again with the same bytes, by the verdict on the previous answer.",
            "reqps",
            Query(per_second(c.HTTP_RETRIES, "reason"), "{{reason}}"),
        ),
        p.graph(
            "Integrations by state",
            "Integrations that had a submission within the last minute or are not healthy. An integration with changes in "
            "partitions of two replicas counts in both.",
            "short",
            Query(total(of(c.INTEGRATIONS), "state"), "{{state}}"),
            colours=p.INTEGRATIONS,
            stacked=True,
        ),
    ]


def _log() -> Row:
    return "Log", [
        p.graph(
            "Commits",
            "Transactions committed per second.",
            "count:commits/s",
            Query(per_second(c.COMMITS, "instance"), "{{instance}}"),
            width=8,
        ),
        p.graph(
            "Commit duration",
            "Time from the start of a transaction to its confirmed commit.",
            "s",
            *quantiles(c.COMMIT_DURATION),
            colours=p.QUANTILES,
            width=8,
        ),
        p.graph(
            "Replicas that answer",
            "Replicas that Prometheus scrapes, and those that answer.",
            "short",
            Query(f"count({UP})", "known"),
            Query(total(UP), "up"),
            colours={"known": p.GREY, "up": p.GREEN},
            width=8,
        ),
    ]
