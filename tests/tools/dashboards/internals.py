"""How the daemon itself does: for those who look for the cause."""

from __future__ import annotations

from grafana_foundation_sdk.builders.dashboard import Dashboard

from daemon.telemetry import catalogue as c
from tests.tools.dashboards import panels as p
from tests.tools.dashboards.document import Row, document
from tests.tools.dashboards.queries import (
    Query,
    mean_and_most,
    of,
    per_interval,
    per_second,
    since,
    since_or_zero,
    total,
)

_NUMBERED = [(number, f'state="{state}"') for number, state in enumerate(p.STATES, 1)]
_STATES = " + ignoring (state) ".join(
    f"{number} * {of(c.LIFECYCLE_STATE, state)}" for number, state in _NUMBERED
)
"""The number of the present state: 1 for the first."""


def internals() -> Dashboard:
    return document(
        "coursesync-internals",
        "coursesyncd / Internals",
        "The inside of the daemon: process, changes, batches, limits and log. Start with the dashboard Overview.",
        [_process(), _changes(), _batches(), _limits(), _log()],
    )


def _process() -> Row:
    named = {str(number): state for number, state in enumerate(p.STATES.items(), 1)}
    return "Process", [
        p.states(
            "Replica state",
            "State of each replica over time. A gap: it did not answer.",
            Query(_STATES, "{{instance}}"),
            named,
            width=8,
        ),
        p.graph(
            "Time since last loop tick",
            "Time since each loop last completed a round. The process ends itself after watchdog.silence_max.",
            "s",
            Query(since(c.LOOP_LAST_TICK), "{{instance}} {{loop}}"),
            width=8,
        ),
        p.graph(
            "Log lines",
            "Log lines written per second, by level.",
            "count:lines/s",
            Query(per_second(c.LOG_MESSAGES, "level"), "{{level}}"),
            colours=p.LEVELS,
            width=8,
        ),
        p.listing(
            "Versions",
            "Version that each replica runs.",
            Query(of(c.BUILD_INFO), ""),
            {"instance": "instance", "version": "version"},
            nothing="No replica answers.",
            width=6,
            height=6,
        ),
        p.number(
            "Uptime",
            "Time since each replica was started. Only replicas that answer.",
            "s",
            Query(since(c.PROCESS_START), "{{instance}}"),
            steps=[(None, p.YELLOW), (600, p.GREEN)],
            width=6,
            height=6,
        ),
        p.number(
            "Client certificate expiry",
            "Time until the client certificate of each replica expires, as read at the start.",
            "s",
            Query(
                f"({of(c.CERTIFICATE_NOT_AFTER)} > 0) - timestamp({of(c.CERTIFICATE_NOT_AFTER)})",
                "{{instance}} {{usage}}",
            ),
            steps=[(None, p.RED), (14 * 86400, p.YELLOW), (30 * 86400, p.GREEN)],
            nothing=("no certificate", p.GREY),
            width=6,
            height=6,
        ),
        p.number(
            "Settings of integrations",
            "Whether each replica uses the tables of integrations as it last read them. Rejected: they had mistakes, which its log "
            "names, and the earlier tables count.",
            "none",
            Query(of(c.POLICIES_READ), "{{instance}}"),
            steps=[(None, p.RED), (1, p.GREEN)],
            named={"0": ("rejected", p.RED), "1": ("in use", p.GREEN)},
            width=6,
            height=6,
        ),
    ]


def _changes() -> Row:
    return "Changes", [
        p.graph(
            "Records consumed by type",
            "Records taken from the input per second, by type.",
            "count:records/s",
            Query(per_second(c.CHANGES_CONSUMED, "type"), "{{type}}"),
        ),
        p.graph(
            "Records rejected",
            "Records per second that were not valid changes, or for which the backlog had no room.",
            "count:records/s",
            Query(per_second(c.CHANGES_REJECTED, "reason"), "{{reason}}"),
        ),
        p.graph(
            "Waiting changes",
            "Changes that are held back, by reason.",
            "count:changes",
            Query(total(of(c.CHANGES_WAITING), "reason"), "{{reason}}"),
            stacked=True,
        ),
        p.graph(
            "Oldest waiting change",
            "Age of the oldest waiting change, by reason; 0 when none waits.",
            "s",
            Query(f"max by (reason) ({since_or_zero(c.WAITING_OLDEST)})", "{{reason}}"),
        ),
        p.graph(
            "Changes superseded",
            "Changes per second that a newer one of the same course replaced before they were sent.",
            "count:changes/s",
            Query(per_second(c.CHANGES_SUPERSEDED, "instance"), "{{instance}}"),
        ),
        p.graph(
            "Known courses",
            "Courses whose known state is in memory. Changes with the content that is known are not sent (UNCHANGED).",
            "count:courses",
            Query(of(c.KNOWN_COURSES), "{{instance}}"),
        ),
        p.graph(
            "Partitions loading their known courses",
            "Until they are loaded, all changes of these partitions are sent.",
            "count:partitions",
            Query(of(c.COURSES_LOADING), "{{instance}}"),
        ),
        p.graph(
            "Pauses by operators",
            "Pauses that hold, each of an integration or a pattern. Every replica should report the same number.",
            "count:pauses",
            Query(of(c.PAUSES), "{{instance}}"),
        ),
        p.graph(
            "Control topic read",
            "Seconds since each replica last read the decisions of operators to their end.",
            "s",
            Query(since(c.CONTROL_READ), "{{instance}}"),
        ),
        p.graph(
            "Contract imbalance",
            "Changes that are lost or ended twice. Any value other than 0 is a bug.",
            "count:changes",
            Query(of(c.CONTRACT_IMBALANCE), "{{instance}}"),
        ),
        p.graph(
            "Misplaced records",
            "Changes per second in another partition than that of their key, or without a key. At most 16 records of each read "
            "are checked.",
            "count:records/s",
            Query(per_second(c.RECORDS_MISPLACED, "reason"), "{{reason}}"),
        ),
        p.graph(
            "Changes in pending tasks",
            "Changes whose task has not ended.",
            "count:changes",
            Query(total(of(c.PENDING_ITEMS), "instance"), "{{instance}}"),
        ),
    ]


def _batches() -> Row:
    return "Batches", [
        p.graph(
            "Batches sealed",
            "Batches sealed per second, by trigger.",
            "count:batches/s",
            Query(per_second(c.BATCHES_SEALED, "trigger"), "{{trigger}}"),
            stacked=True,
            width=8,
        ),
        p.graph(
            "Changes per batch",
            "Number of changes in a sealed batch.",
            "short",
            *mean_and_most(c.BATCH_ITEMS),
            colours=p.QUANTILES,
            width=8,
        ),
        p.graph(
            "Batch size",
            "Size of the body of a sealed batch.",
            "bytes",
            *mean_and_most(c.BATCH_BYTES),
            colours=p.QUANTILES,
            width=8,
        ),
    ]


def _limits() -> Row:
    limited_share = (
        "sum by (endpoint) (rate({0}[$__rate_interval])) / sum by (endpoint) (rate({1}[$__rate_interval]))"
    )
    return "Polls and limits", [
        p.graph(
            "Pending tasks, share of limit",
            "Pending tasks as a share of the configured maximum, by replica. At 100 % nothing is sealed.",
            "percentunit",
            Query(f"{of(c.PENDING_TASKS)} / ({of(c.PENDING_TASKS_MAX)} > 0)", "{{instance}}"),
            width=4,
        ),
        p.graph(
            "Calls in flight",
            "Calls to the API in flight; at most http.in_flight_max per replica.",
            "short",
            Query(total(of(c.HTTP_IN_FLIGHT), "instance", "endpoint"), "{{instance}} {{endpoint}}"),
            width=4,
        ),
        p.graph(
            "Share of 429 answers",
            "Share of calls that the API answers with 429.",
            "percentunit",
            Query(
                limited_share.format(of(c.HTTP_REQUESTS, 'status="429"'), of(c.HTTP_REQUESTS)), "{{endpoint}}"
            ),
            width=4,
        ),
        p.graph(
            "Poll-blind tasks",
            "Pending tasks whose last poll got no understood answer.",
            "count:tasks",
            Query(total(of(c.POLL_BLIND_TASKS), "instance"), "{{instance}}"),
            width=4,
        ),
        p.graph(
            "Longest poll blindness",
            "Time for which the longest poll-blind task has been blind; 0 when none is.",
            "s",
            Query(since_or_zero(c.POLL_BLIND_OLDEST), "{{instance}}"),
            width=4,
        ),
        p.graph(
            "Shared task ids",
            "Submissions that the API accepted with the task id of another open one, in each interval. This is a fault of the "
            "API.",
            "count:submissions",
            Query(per_interval(c.TASK_IDS_SHARED, "instance"), "{{instance}}"),
            width=4,
        ),
    ]


def _log() -> Row:
    return "Log", [
        p.graph(
            "Oldest commit in flight",
            "Age of the oldest commit that has not finished; 0 when none is in flight.",
            "s",
            Query(since_or_zero(c.COMMIT_OLDEST_PENDING), "{{instance}}"),
        ),
        p.graph(
            "Shards discarded",
            "Shards whose memory and producer were discarded, in each interval. The replica that holds the partition restores "
            "it from the journal.",
            "count:shards",
            Query(per_interval(c.SHARD_DROPS, "reason"), "{{reason}}"),
            colours={"fenced": p.ORANGE, "error": p.RED, "revoked": p.GREY},
        ),
        p.graph(
            "Rebalances",
            "Assignments and revocations by the consumer group, in each interval.",
            "short",
            Query(per_interval(c.REBALANCES, "event"), "{{event}}"),
        ),
        p.graph(
            "Lag by partition",
            "Input records that are not consumed yet.",
            "count:records",
            Query(total(of(c.CONSUMER_LAG), "release", "partition"), "{{release}} {{partition}}"),
        ),
        p.graph(
            "Records restored",
            "Journal records read per second to restore shards.",
            "count:records/s",
            Query(per_second(c.RESTORE_RECORDS, "instance"), "{{instance}}"),
        ),
        p.graph(
            "Records left to restore",
            "Journal records left to read.",
            "count:records",
            Query(of(c.RESTORE_REMAINING), "{{instance}}"),
        ),
        p.graph(
            "Duration of the last restore",
            "Duration of the restore that ended last.",
            "s",
            Query(of(c.RESTORE_DURATION), "{{instance}}"),
        ),
        p.graph(
            "Time since Kafka last answered",
            "A replica that works gets an answer at least every 30 s. Nothing before the first answer.",
            "s",
            Query(since(c.LAST_ANSWER), "{{instance}}"),
        ),
    ]
