"""The table of settings: name, unit, default, bounds, meaning.

The dataclasses are the table. A field `linger` of the group `batch` is the setting `batch.linger` and is read as
`settings.batch.linger`. The column helpers store its unit, bounds and meaning in the metadata of the field. The
loader, the error messages and the reference page read them from there. Durations are seconds (float), sizes are bytes
(int), an absent value is `None`.

`Settings()` holds the defaults; tests start from it. Its *required* settings are empty, which only `load_settings`
reports.
"""

# ruff: noqa: RUF009 - the column helpers return dataclasses.field(), as attrs' and pydantic's do
from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from daemon.config.column import (
    METADATA_KEY,
    Column,
    choice,
    duration,
    file,
    integer,
    number,
    size,
    text,
)
from daemon.config.courses_table import CoursesSettings, UnchangedSettings
from daemon.config.kafka_table import KafkaSettings


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table."""

    group: str
    attribute: str
    default: Any
    column: Column

    @property
    def name(self) -> str:
        return f"{self.group}.{self.attribute}"

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"COURSESYNC_{self.group}_{self.attribute}".upper()


@dataclass(frozen=True, slots=True)
class Topics:
    """Names of the topics."""

    changes: str = text("course-changes", "Input: course changes.")
    journal: str = text(
        "course-sync-journal",
        "State of the daemon. It must have as many partitions as the input. Its name is part of the transactional ids "
        "that fence replicas: never change it while changes are in progress.",
    )
    results: str = text("course-sync-results", "Output: one result per change.")
    dead_letters: str = text("course-sync-dead-letters", "Output: the original bytes of rejected records.")
    courses: str = text(
        "course-sync-courses",
        "Output: what each learning system holds of each course, as the API last confirmed it. It must have as many "
        "partitions as the input.",
    )
    control: str = text("course-sync-control", "What operators have decided: pauses, given up changes.")

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, in the order of the fields."""
        return self.changes, self.journal, self.results, self.dead_letters, self.courses, self.control


@dataclass(frozen=True, slots=True)
class InputSettings:
    start_at: str = choice(
        "earliest",
        ("earliest", "latest"),
        "Where to start reading a partition that this daemon has never read. It has no effect afterwards.",
    )
    rejected_max: int = integer(
        1000,
        1,
        1_000_000_000,
        "Maximum number of rejected records in a stretch of input. Reading of the partition stops before the next rejection if "
        "they are also more than `input.rejected_ratio_max` of that stretch; otherwise a new stretch begins. The count "
        "survives restarts; a full backlog does not count. `coursesyncd reject` continues.",
    )
    rejected_ratio_max: float = number(
        0.5, 0.0, 1.0, "See `input.rejected_max`. 1: reading never stops, and all become dead letters."
    )
    partitioner: str = choice(
        "murmur2",
        ("murmur2", "crc32", "any"),
        "How all publishers choose the partition of a key. `murmur2`: Java, kafka-python and others; `crc32`: the default "
        "of librdkafka (confluent-kafka). Records that are in another partition, or have no key, are counted and "
        "reported, and `publish` places its records in the same way. `any`: publishers choose partitions in another way, "
        "always the same one for a course; nothing is reported.",
    )


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """When changes are sealed into one submission."""

    linger: float = duration(
        "1s", "0s", "5m", "Maximum time that a change waits for other changes to share its batch."
    )
    items_max: int = integer(100, 1, 1000, "Maximum number of changes in one submission.")
    bytes_max: int = size(
        "512KiB",
        "4KiB",
        "1MiB",
        "Maximum size of one submission, including its bookkeeping; also the maximum size of one change. The upper "
        "bound is half of the journal's `max.message.bytes` of 2 MiB.",
    )


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """How many submissions may be open, that is, sealed and without a known outcome."""

    batches_max: int = integer(
        8,
        1,
        1000,
        "Maximum number of open submissions per integration and partition. Bulk changes leave a quarter of them, and at least "
        "one, to others. They take the only one if there is only one.",
    )
    batches_max_per_partition: int = integer(
        10_000,
        1,
        1_000_000,
        "Maximum number of open submissions per partition, over all integrations. Timed-out tasks that are still "
        "watched count as well. Once half of the places are taken, each integration may have at most one open "
        "submission, so that many slow integrations leave places to the others. With full submissions the default "
        "corresponds to one million changes in progress.",
    )


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Calls to the API."""

    in_flight_max: int = integer(
        64, 2, 1000, "Maximum number of calls in flight, over all integrations. Each call needs an open file."
    )
    poll_share: float = number(
        0.25, 0.01, 0.99, "Share of `http.in_flight_max` and of the rate that is reserved for polls."
    )
    deadline: float = duration(
        "30s", "1s", "5m", "Deadline of one call, from opening the connection to the last byte of the answer."
    )
    requests_per_second_max: float | None = number(
        None,
        0.1,
        10_000,
        "Maximum number of calls per second and process: submissions and polls of all integrations. Polls get the share "
        "`http.poll_share` of it while submissions are waiting too. Not set: no limit. In the table of an integration: of each "
        "such integration, beside this limit.",
    )


@dataclass(frozen=True, slots=True)
class FenceSettings:
    lease: float = duration(
        "15s",
        "1s",
        "5m",
        "A submission is sent only if the last commit began less than this long ago. This prevents a replica that was "
        "paused from sending what another replica has taken over.",
    )


@dataclass(frozen=True, slots=True)
class PollSettings:
    """When a task is polled."""

    first_after: float = duration(
        "15s",
        "100ms",
        "1h",
        "Time from acceptance of a submission to the first poll of its task. Also the minimum time between two polls of a task.",
    )
    factor: float = number(
        1.6, 1.0, 10.0, "Each poll interval is the previous one multiplied by this factor."
    )
    interval_max: float = duration("5m", "100ms", "24h", "Maximum interval between two polls of one task.")


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """When a task is given up."""

    timeout: float = duration(
        "24h",
        "1s",
        "30d",
        "If a task is still pending at this age, in API time, its changes end as `TIMED_OUT`.",
    )
    watch_after_timeout: float = duration(
        "24h",
        "0s",
        "30d",
        "How long a timed-out task is still watched. Its courses stay busy for that time, because the task may apply "
        "its content late.",
    )


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """Retries after a transient failure."""

    backoff_min: float = duration(
        "1s", "10ms", "1h", "Wait before the first retry; it doubles with each further retry."
    )
    backoff_max: float = duration("60s", "10ms", "24h", "Maximum wait between two attempts.")
    attempts_max: int = integer(
        5, 1, 100, "Maximum number of submissions of one change if each of them fails with a transient error."
    )


@dataclass(frozen=True, slots=True)
class ParkSettings:
    """Integrations that need action by their customer: they wait alone and are probed at growing intervals."""

    probe_min: float = duration(
        "1m",
        "100ms",
        "24h",
        "Wait before the first probe of a parked integration; it doubles with each further probe. Also the interval of "
        "the probes while all calls are halted, and the first wait of a change whose task or item failed because of our "
        "own key.",
    )
    probe_max: float = duration(
        "30m",
        "100ms",
        "24h",
        "Maximum wait between two probes. Also the longest `Retry-After` of the API that is obeyed.",
    )


@dataclass(frozen=True, slots=True)
class WaitSettings:
    age_max: float = duration(
        "7d",
        "1s",
        "365d",
        "A change that was consumed longer ago than this ends `FAILED` when its parked integration refuses it again, with "
        "the error of that refusal. It keeps waiting while the API may have accepted an earlier POST of its batch, and "
        "after a 401 or 403 without a code, which may come from a component before the API.",
    )


@dataclass(frozen=True, slots=True)
class BacklogSettings:
    """How many changes may wait in memory and journal, and what happens at the limit."""

    courses_max: int = integer(1_000_000, 1, 100_000_000, "Maximum number of waiting courses per partition.")
    courses_max_per_integration: int = integer(
        200_000, 1, 100_000_000, "Maximum number of waiting courses per integration and partition."
    )
    bytes_max: int = size(
        "256MiB",
        "1MiB",
        "64GiB",
        "Maximum size of the courses in memory per partition: waiting courses, and submissions that the API has not "
        "accepted yet. A process needs this much memory for each partition that it may hold, plus about half a KiB for "
        "each waiting course. A low limit has one cost: fewer changes of a course collapse into one. Records that are "
        "not read yet stay in Kafka.",
    )
    on_full: str = choice(
        "pause",
        ("pause", "reject"),
        "What happens at a limit of the backlog. `pause`: reading of the partition, with all its integrations, pauses "
        "until a tenth of the limit is free. `reject`: reading continues, and a change of a course that is not waiting "
        "already ends `REJECTED` with `COURSESYNC.BACKLOG_FULL` and a dead letter; the partition pauses only if newer "
        "versions of waiting courses have grown to twice `backlog.bytes_max`. In both modes a newer change replaces the "
        "waiting change of its course, and no change that was accepted before is dropped.",
    )


@dataclass(frozen=True, slots=True)
class DrainSettings:
    timeout: float = duration(
        "20s",
        "0s",
        "10m",
        "After SIGTERM: maximum time to finish the calls in flight. All other work is in the journal.",
    )


@dataclass(frozen=True, slots=True)
class WatchdogSettings:
    silence_max: float = duration(
        "60s",
        "45s",
        "10m",
        "If one of the loops of a process, or one of its calls to Kafka, makes no progress for this long, the process "
        "writes the stacks of its threads and exits. Normal operations of the Kafka client take up to 30 s.",
    )


@dataclass(frozen=True, slots=True)
class KomboSettings:
    """The API."""

    base_url: str = text(
        "https://api.kombo.dev/v1", "Base URL of the API; `https://api.us.kombo.dev/v1` for the US region."
    )
    api_key_file: Path = file(
        "File that contains the API key. The daemon reads it again when the API refuses the key.",
        required=True,
        secret=True,
    )
    proxy: str | None = text(
        None,
        "HTTP proxy, `http://host:port` or `http://user@host:port`. Proxy variables of the environment are ignored.",
    )
    proxy_password_file: Path | None = file(
        "File that contains the password of the user in `kombo.proxy`. It is read at the start.", secret=True
    )
    ca_file: Path | None = file(
        "PEM file of the certificate authorities to trust instead of those of the system."
    )


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """The HTTP port for probes and metrics."""

    host: str = text("0.0.0.0", "Address to listen on.")
    port: int = integer(8080, 0, 65535, "Port to listen on. 0 picks a free port, which is logged.")
    host_names: str | None = text(
        None,
        "Further names in the Host header under which clients reach this port, separated by commas. Always accepted: "
        "addresses, the name of this host, and names without a dot or in `.svc`, `.cluster.local`, `.local`, `.internal`, `.localhost`.",
    )


@dataclass(frozen=True, slots=True)
class LogSettings:
    level: str = choice(
        "info", ("debug", "info", "warning", "error"), "Minimum severity of the messages to write."
    )
    format: str = choice(
        "json", ("json", "console"), "Format of the log lines: `json` for machines, `console` for people."
    )


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, grouped by the first part of their name."""

    kafka: KafkaSettings = field(default_factory=KafkaSettings)
    topics: Topics = field(default_factory=Topics)
    input: InputSettings = field(default_factory=InputSettings)
    batch: BatchSettings = field(default_factory=BatchSettings)
    window: WindowSettings = field(default_factory=WindowSettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    fence: FenceSettings = field(default_factory=FenceSettings)
    poll: PollSettings = field(default_factory=PollSettings)
    task: TaskSettings = field(default_factory=TaskSettings)
    retry: RetrySettings = field(default_factory=RetrySettings)
    park: ParkSettings = field(default_factory=ParkSettings)
    wait: WaitSettings = field(default_factory=WaitSettings)
    backlog: BacklogSettings = field(default_factory=BacklogSettings)
    courses: CoursesSettings = field(default_factory=CoursesSettings)
    unchanged: UnchangedSettings = field(default_factory=UnchangedSettings)
    drain: DrainSettings = field(default_factory=DrainSettings)
    watchdog: WatchdogSettings = field(default_factory=WatchdogSettings)
    kombo: KomboSettings = field(default_factory=KomboSettings)
    admin: AdminSettings = field(default_factory=AdminSettings)
    log: LogSettings = field(default_factory=LogSettings)


def groups() -> dict[str, type]:
    """The dataclass of each group, in the order of the table."""
    return {group.name: group.default_factory for group in dataclasses.fields(Settings)}  # type: ignore[misc]


def all_settings() -> Iterator[Setting]:
    """The rows of the table, in order."""
    for group, cls in groups().items():
        for entry in dataclasses.fields(cls):
            yield Setting(group, entry.name, entry.default, entry.metadata[METADATA_KEY])
