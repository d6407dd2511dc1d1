"""The table of all metrics: kind, name, labels with all their values, buckets, meaning.

`metrics.py` makes the instruments from it, `docs/metrics.md` is generated from it, and a test compares it with a scrape:
every metric is described here, and every description has a metric. Names are without the common prefix; times are in
seconds, sizes in bytes.
"""

from __future__ import annotations

from collections.abc import Iterator

from daemon.core.model import RejectReason, Status
from daemon.core.placement import Misplacement
from daemon.core.step import TaskOutcome, Trigger
from daemon.core.task_durations import SizeClass
from daemon.core.waiting import NOTHING_WAITS, WaitReason, Waits
from daemon.telemetry import labels
from daemon.telemetry.health import PartitionStatus
from daemon.telemetry.labels import Label
from daemon.telemetry.metric import Reading, Section, one, seconds
from daemon.telemetry.snapshot import Lag

_ENDPOINT = Label.of("endpoint", labels.Endpoint)
_TOPIC = Label("topic", None, "the input topic")
_PARTITION = Label("partition", None, "the partitions held now; a series ends when its partition is revoked")

_SIZE = Label.of("size", SizeClass)
"""The number of changes in the batch of a task."""

_SECONDS_TO_A_DAY = (1, 3, 10, 30, 60, 180, 600, 1800, 3600, 10800, 28800, 86400)


def _waits(reading: Reading, reason: WaitReason) -> Waits:
    return reading.snapshot.waiting.get(reason, NOTHING_WAITS)


def _lags(reading: Reading) -> Iterator[tuple[str, Lag]]:
    """Of the partitions that are held."""
    held = reading.health.partitions
    return ((str(number), lag) for number, lag in reading.snapshot.lag.items() if number in held)


_PROCESS = Section("Process")

BUILD_INFO = _PROCESS.gauge(
    "build_info",
    "Always 1; the label is the running version.",
    Label("version", None, "the version of the program"),
    read=lambda r: {(r.version,): 1},
)
PROCESS_START = _PROCESS.gauge(
    "process_start_timestamp_seconds",
    "When the process started.",
    read=lambda r: one(seconds(r.health.born_ms)),
)
LIFECYCLE_STATE = _PROCESS.gauge(
    "lifecycle_state",
    "1 for the current state of the process, 0 for the other states.",
    Label.of("state", labels.Lifecycle),
    read=lambda r: {(state,): state is r.health.lifecycle for state in labels.Lifecycle},
)
LOOP_LAST_TICK = _PROCESS.gauge(
    "loop_last_tick_timestamp_seconds",
    "When each loop of the process last completed a round.",
    Label("loop", None, "the loops of the process"),
    read=lambda r: {(loop,): seconds(at) for loop, at in r.health.last_ticks_ms().items()},
)
LOG_MESSAGES = _PROCESS.counter(
    "log_messages_total", "Log lines written.", Label.of("level", labels.LogLevel)
)
CERTIFICATE_NOT_AFTER = _PROCESS.gauge(
    "tls_certificate_not_after_timestamp_seconds",
    "When the certificate that this process presents expires, as read at the start; the earliest of its chain. "
    "0 when there is none.",
    Label.of("usage", labels.CertificateUsage),
)
POLICIES_READ = _PROCESS.gauge(
    "policies_last_read_successful",
    "1 if the tables of integrations count as they were last read; 0 if the configuration had mistakes then, and earlier "
    "tables count.",
)

_CHANGES = Section("Changes")

CHANGES_CONSUMED = _CHANGES.counter(
    "changes_consumed_total",
    "Records consumed, including rejected ones.",
    Label.of("type", labels.ChangeType),
)
CHANGES_REJECTED = _CHANGES.counter(
    "changes_rejected_total",
    "Records that are not valid changes, and changes for which the backlog had no room; each has a REJECTED result "
    "and a dead letter.",
    Label.of("reason", RejectReason),
)
CHANGES_SUPERSEDED = _CHANGES.counter(
    "changes_superseded_total", "Changes that a newer one of the same course replaced before they were sent."
)
RECORDS_MISPLACED = _CHANGES.counter(
    "input_misplaced_records_total",
    "Changes without a key, or not in the partition that `input.partitioner` gives to their key. Changes of one course "
    "may then be in several partitions, in no order. At most 16 records of each read are checked.",
    Label.of("reason", Misplacement),
)
CHANGES_WAITING = _CHANGES.gauge(
    "changes_waiting",
    "Changes held back now. `parked`: all changes of an integration whose last answer here says that it waits for its "
    "customer, including submissions that the API has not accepted; none of them counts for another reason. `refused`: "
    "changes in other submissions that the API has refused or not answered, and that are sent again.",
    Label.of("reason", WaitReason),
    read=lambda r: {(why,): _waits(r, why).changes for why in WaitReason},
)
WAITING_OLDEST = _CHANGES.gauge(
    "waiting_oldest_consumed_timestamp_seconds",
    "When the oldest of these changes was consumed, to the second; 0 when no change waits.",
    Label.of("reason", WaitReason),
    read=lambda r: {(why,): seconds(_waits(r, why).oldest) for why in WaitReason},
)
KNOWN_COURSES = _CHANGES.gauge(
    "known_courses",
    "Courses whose known state is in memory, at most `courses.index_max`. Changes that give a course the content that it is "
    "known to have are not sent: `coursesync_results_total` with the status `UNCHANGED`.",
    read=lambda r: one(r.snapshot.known_courses),
)
COURSES_LOADING = _CHANGES.gauge(
    "known_courses_loading_partitions",
    "Partitions held here whose known courses are still being loaded. Until then bulk changes wait, for at most 10 s in each, and so do deactivations without a `course_id`, without a limit. Others are sent.",
    read=lambda r: one(r.snapshot.courses_loading),
)
PAUSES = _CHANGES.gauge(
    "operator_pauses",
    "Pauses by operators that hold, each of an integration or a pattern (`coursesyncd pause`). Every replica reports all of "
    "them.",
    read=lambda r: one(r.snapshot.pauses),
)
CONTROL_READ = _CHANGES.gauge(
    "control_read_timestamp_seconds",
    "When the control topic was last read to its end, about once a second; before that, when the process started. While it "
    "cannot be read, the decisions of operators that were known last hold.",
    read=lambda r: one(seconds(r.snapshot.control_read_ms)),
)
CONTRACT_IMBALANCE = _CHANGES.gauge(
    "contract_imbalance",
    "Changes that are lost or ended twice: consumed + restored - resolved - held, each counted in a different place. "
    "The sum of the absolute values of the partitions held here (`/state` has the signs). 0 unless something is "
    "wrong.",
    read=lambda r: one(sum(abs(n) for n in r.snapshot.imbalance.values())),
)

_TASKS = Section("Batches and tasks")

BATCHES_SEALED = _TASKS.counter(
    "batches_sealed_total", "Batches closed for submission.", Label.of("trigger", Trigger)
)
BATCH_ITEMS = _TASKS.histogram("batch_items", "Changes in a sealed batch.", (1, 5, 10, 25, 50, 75, 100))
BATCH_BYTES = _TASKS.histogram(
    "batch_bytes", "Size of the body of a sealed batch.", (4096, 16384, 65536, 131072, 262144, 524288)
)
PENDING_TASKS = _TASKS.gauge(
    "pending_tasks",
    "Tasks that the API has accepted and that are not known to have ended.",
    read=lambda r: one(len(r.created_ms)),
)
PENDING_TASKS_MAX = _TASKS.gauge(
    "pending_tasks_max",
    "The configured maximum of pending tasks in the partitions that run here. Submissions that are not accepted yet "
    "and timed-out tasks that are still watched also count against it.",
    read=lambda r: one(r.snapshot.pending_tasks_max),
)
PENDING_ITEMS = _TASKS.gauge(
    "pending_items", "Changes inside pending tasks.", read=lambda r: one(r.snapshot.pending_items)
)
PENDING_OLDEST_CREATED = _TASKS.gauge(
    "pending_oldest_created_timestamp_seconds",
    "When the oldest pending task was created, in the API's time once a poll has returned it; 0 when none is pending.",
    read=lambda r: one(seconds(r.created_ms[0] if r.created_ms else None)),
)
PENDING_AGE = _TASKS.gauge_histogram(
    "pending_age_seconds",
    "Ages of the tasks that are pending now. The buckets are gauges: query them without rate().",
    (10, 60, 300, 900, 3600, 10800, 21600, 43200, 86400),
)
PENDING_TIMEOUT_RATIO = _TASKS.gauge(
    "pending_timeout_ratio",
    "The age of a pending task divided by the `task.timeout` of its integration: the largest of all pending tasks; 0 when none "
    "is pending.",
    read=lambda r: one(r.snapshot.pending_timeout_ratio),
)
TASK_TIMEOUT = _TASKS.gauge(
    "task_timeout_seconds",
    "The common `task.timeout`, without those of single integrations.",
    read=lambda r: one(r.task_timeout_s),
)
TASKS_CREATED = _TASKS.counter(
    "tasks_created_total",
    "Tasks added to the poll schedule.",
    Label.of("source", labels.TaskSource),
)
TASK_IDS_SHARED = _TASKS.counter(
    "task_ids_shared_total",
    "Submissions that the API accepted with the task id of another open submission of the partition. This is a fault of the "
    "API; changes that the shared task does not report are submitted again.",
)
TASKS_FINISHED = _TASKS.counter(
    "tasks_finished_total", "Tasks that ended or timed out.", Label.of("outcome", TaskOutcome)
)
TASK_DURATION = _TASKS.histogram(
    "task_duration_seconds",
    "Time from the creation of a task to its end, in the API's time, of tasks whose end the API has reported.",
    _SECONDS_TO_A_DAY,
    Label("outcome", labels.DURATION_OUTCOMES),
)
TASK_POLLS = _TASKS.histogram(
    "task_polls",
    "Number of polls of a finished task, by the number of changes in its batch.",
    (1, 2, 3, 5, 10, 20, 50),
    _SIZE,
)
DETECTION_LAG = _TASKS.histogram(
    "detection_lag_seconds",
    "Time from the end of a task to the poll that saw it; from the acceptance of its submission, if it ended before. "
    "Without tasks that belong to an earlier submission. By the number of changes in the batch of the task.",
    (1, 3, 10, 30, 60, 120, 300, 900, 1800, 3600),
    _SIZE,
)
SCHEDULE_DELAY = _TASKS.histogram(
    "schedule_delay_seconds",
    "Delay between the time a poll was due and its start.",
    (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100),
)
POLL_BLIND_TASKS = _TASKS.gauge(
    "poll_blind_tasks",
    "Pending tasks whose last poll got no understood answer.",
    read=lambda r: one(r.snapshot.blind_tasks),
)
POLL_BLIND_OLDEST = _TASKS.gauge(
    "poll_blind_oldest_timestamp_seconds",
    "When the task that has been poll-blind for the longest time became poll-blind; 0 if no task is poll-blind.",
    read=lambda r: one(seconds(r.snapshot.blind_since_ms)),
)

_RESULTS = Section("Results")

RESULTS = _RESULTS.counter(
    "results_total", "Results published; each change has exactly one.", Label.of("status", Status)
)
RESULT_LATENCY = _RESULTS.histogram(
    "result_latency_seconds",
    "Time from the consumption of a change to its result, for the results that depend on the API.",
    _SECONDS_TO_A_DAY,
    Label("status", labels.LATENCY_STATUSES),
)

_API = Section("The API")

HTTP_REQUESTS = _API.counter(
    "http_requests_total",
    "Calls to the API by outcome. `timeout`, `connect_error` and `protocol_error`: no understood answer.",
    _ENDPOINT,
    Label("status", labels.ANSWERS),
)
HTTP_DURATION = _API.histogram(
    "http_request_duration_seconds",
    "Duration of a call to the API, whatever the outcome.",
    (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 30),
    _ENDPOINT,
)
HTTP_IN_FLIGHT = _API.gauge(
    "http_in_flight_requests",
    "Calls to the API in flight.",
    _ENDPOINT,
    read=lambda r: {(each,): r.snapshot.http_in_flight.get(each, 0) for each in labels.Endpoint},
)
HTTP_RETRIES = _API.counter(
    "http_retries_total",
    "Submissions sent again with the same bytes, by the verdict on the previous answer.",
    Label.of("reason", labels.Resend),
)
INTEGRATIONS = _API.gauge(
    "integrations_by_state",
    "Integrations that had a submission within the last minute or are not healthy, by state. throttled: the API asked for "
    "later or fewer calls; breaker_open: failing, not answering, or refused for a reason that is not their customer's; "
    "parked: waiting for their customer; halted: they would be healthy, but the process is halted and sends nothing. "
    "`back_offs` in /state gives the reasons.",
    Label("state", labels.INTEGRATION_STATES),
    read=lambda r: {(state,): n for state, n in r.integrations.items()},
)

_LOG = Section("The log")

COMMITS = _LOG.counter("commits_total", "Transactions committed to the log.")
COMMIT_DURATION = _LOG.histogram(
    "commit_duration_seconds",
    "Time from the start of a transaction to its confirmed commit.",
    (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
COMMIT_OLDEST_PENDING = _LOG.gauge(
    "commit_oldest_pending_timestamp_seconds",
    "When the oldest commit in flight began; 0 when none is.",
    read=lambda r: one(seconds(r.snapshot.commit_since_ms)),
)
SHARD_DROPS = _LOG.counter(
    "shard_drops_total",
    "Shards whose memory and producer were discarded; the replica that holds the partition restores it from the journal.",
    Label.of("reason", labels.DropReason),
)
PARTITIONS_BLOCKED = _LOG.gauge(
    "partitions_blocked",
    "Partitions held here that are blocked until a person acts; the log says why.",
    read=lambda r: one(sum(each.state is PartitionStatus.BLOCKED for each in r.health.partitions.values())),
)
PARTITIONS_PAUSED = _LOG.gauge(
    "partitions_paused",
    "Partitions held here whose input is paused because a limit is reached; it resumes automatically below the limit.",
    read=lambda r: one(r.snapshot.paused),
)
PARTITIONS_STOPPED = _LOG.gauge(
    "partitions_stopped",
    "Those of the blocked partitions whose reading has stopped because too many records were rejected "
    "(`input.rejected_max`). Their work in progress continues.",
    read=lambda r: one(r.snapshot.stopped),
)
RESTORE_RECORDS = _LOG.counter("restore_records_total", "Journal records read to restore shards.")
RESTORE_REMAINING = _LOG.gauge(
    "restore_remaining_records",
    "Journal records left to read in all partitions that are being restored, as a difference of offsets; compaction "
    "leaves gaps, so there may be fewer records. 0 when none is being restored.",
    read=lambda r: one(r.snapshot.restore_remaining),
)
RESTORE_DURATION = _LOG.gauge(
    "restore_duration_seconds", "Duration of the restore that ended last; 0 before the first one."
)
LAST_ANSWER = _LOG.gauge(
    "kafka_last_answer_timestamp_seconds",
    "When a broker last answered this process as a member of the consumer group; 0 before the first answer. A process that "
    "works gets an answer at least every 30 s.",
    read=lambda r: one(seconds(r.health.kafka_answered_ms)),
)
ASSIGNED_PARTITIONS = _LOG.gauge(
    "kafka_assigned_partitions",
    "Partitions of the input topic that this process holds.",
    _TOPIC,
    read=lambda r: {(r.topic,): len(r.health.partitions)},
)
TOPIC_PARTITIONS = _LOG.gauge(
    "kafka_topic_partitions",
    "Number of partitions of the input topic; 0 until it is known.",
    _TOPIC,
    read=lambda r: {(r.topic,): r.snapshot.topic_partitions or 0},
)
CONSUMER_LAG = _LOG.gauge(
    "kafka_consumer_lag_records",
    "Records of the input that are not consumed yet, as of the last read; while the partition is paused, as of the "
    "last check, every 30 s. Absent while it is not known: the partition is blocked or being restored, or Kafka has not "
    "answered for a minute.",
    _TOPIC,
    _PARTITION,
    read=lambda r: {(r.topic, p): lag.records for p, lag in _lags(r) if lag.records is not None},
)
LAST_RECORD = _LOG.gauge(
    "kafka_last_record_timestamp_seconds",
    "Timestamp of the last consumed record, as set in the log.",
    _TOPIC,
    _PARTITION,
    read=lambda r: {
        (r.topic, p): seconds(lag.last_record_ms) for p, lag in _lags(r) if lag.last_record_ms is not None
    },
)
REBALANCES = _LOG.counter(
    "kafka_rebalances_total",
    "Assignments and revocations that the consumer group sent to this member.",
    Label.of("event", labels.Rebalance),
)

SECTIONS = (_PROCESS, _CHANGES, _TASKS, _RESULTS, _API, _LOG)
CATALOGUE = tuple(metric for section in SECTIONS for metric in section.metrics)
