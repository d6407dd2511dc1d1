"""The one table of settings: name, unit, default, bounds, meaning.

The dataclasses *are* the table. A field ``linger`` of the group ``batch`` is the setting
``batch.linger``, read as ``settings.batch.linger``; the column helpers below put its unit, bounds and
meaning into the field's metadata, from where the loader, the error messages and the reference page
take them. Durations are seconds (float), sizes are bytes (int), an absent value is ``None``.

``Settings()`` holds the defaults and is what tests start from; the *required* settings are then
empty, which only `load_settings` objects to.
"""

# ruff: noqa: RUF009 - the column helpers return dataclasses.field(), as attrs' and pydantic's do
from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from daemon.config.units import parse_duration, parse_size

METADATA_KEY = "setting"


class ValueKind(StrEnum):
    TEXT = "text"
    CHOICE = "choice"
    FILE = "file"
    INTEGER = "integer"
    NUMBER = "number"
    DURATION = "duration"
    SIZE = "size"


@dataclass(frozen=True, slots=True)
class Column:
    """What the table says of a setting besides its name and default."""

    kind: ValueKind
    meaning: str
    low: float | None = None
    high: float | None = None
    """Both inclusive, in the unit of the value."""
    choices: tuple[str, ...] = ()
    required: bool = False


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


def _duration(default: str, low: str, high: str, meaning: str) -> Any:
    column = Column(ValueKind.DURATION, meaning, parse_duration(low), parse_duration(high))
    return field(default=parse_duration(default), metadata={METADATA_KEY: column})


def _size(default: str, low: str, high: str, meaning: str) -> Any:
    column = Column(ValueKind.SIZE, meaning, parse_size(low), parse_size(high))
    return field(default=parse_size(default), metadata={METADATA_KEY: column})


def _integer(default: int, low: int, high: int, meaning: str) -> Any:
    return field(default=default, metadata={METADATA_KEY: Column(ValueKind.INTEGER, meaning, low, high)})


def _number(default: float | None, low: float, high: float, meaning: str) -> Any:
    return field(default=default, metadata={METADATA_KEY: Column(ValueKind.NUMBER, meaning, low, high)})


def _text(default: str | None, meaning: str, *, required: bool = False) -> Any:
    return field(default=default, metadata={METADATA_KEY: Column(ValueKind.TEXT, meaning, required=required)})


def _choice(default: str | None, choices: tuple[str, ...], meaning: str) -> Any:
    return field(default=default, metadata={METADATA_KEY: Column(ValueKind.CHOICE, meaning, choices=choices)})


def _file(meaning: str, *, required: bool = False) -> Any:
    column = Column(ValueKind.FILE, meaning, required=required)
    return field(default=Path() if required else None, metadata={METADATA_KEY: column})


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """The connection to Kafka and the consumer group."""

    bootstrap_servers: str = _text(
        "", "Brokers to start from, `host:port` separated by commas.", required=True
    )
    security_protocol: str = _choice(
        "PLAINTEXT", ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"), "How to talk to the brokers."
    )
    sasl_mechanism: str | None = _choice(
        None, ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"), "With a `SASL_…` protocol: how to log in."
    )
    sasl_username: str | None = _text(None, "With a `SASL_…` protocol: the user's name.")
    sasl_password_file: Path | None = _file("With a `SASL_…` protocol: file that holds the password.")
    tls_ca_file: Path | None = _file(
        "With `SSL` or `SASL_SSL`: PEM file of the authorities that are trusted instead of the system's own."
    )
    tls_certificate_file: Path | None = _file("PEM file of the client's certificate chain, for mutual TLS.")
    tls_key_file: Path | None = _file("PEM file of the client's private key, for mutual TLS.")
    group_id: str = _text("course-sync-daemon", "The consumer group that all replicas join.")
    group_instance_id: str | None = _text(
        None,
        "Name of this replica that outlives its restarts (static membership): within `kafka.session_timeout` "
        "a restarted replica has its partitions back and the others notice nothing. Each replica needs its own.",
    )
    session_timeout: float = _duration(
        "45s", "6s", "30m", "A replica that is silent for so long loses its partitions to the others."
    )
    record_batch_bytes_max: int = _size(
        "32MiB",
        "4MiB",
        "1GiB",
        "Size of a record batch (what a producer has sent at once) when it is decompressed. A larger one blocks its "
        "partition. The default is 32 times what brokers accept by default, 1 MiB in compressed form. A process needs "
        "this for each partition that it may hold.",
    )


@dataclass(frozen=True, slots=True)
class Topics:
    """Names of the four topics."""

    changes: str = _text("course-changes", "Input: course changes.")
    journal: str = _text(
        "course-sync-journal",
        "The daemon's own state; as many partitions as the input. Its name is part of what fences replicas: "
        "never change it while changes are under way.",
    )
    results: str = _text("course-sync-results", "Output: one result per change.")
    dead_letters: str = _text("course-sync-dead-letters", "Output: the original bytes of rejected records.")


@dataclass(frozen=True, slots=True)
class InputSettings:
    start_at: str = _choice(
        "earliest",
        ("earliest", "latest"),
        "Where to begin in a partition that this daemon has never read. Without effect afterwards.",
    )


@dataclass(frozen=True, slots=True)
class BatchSettings:
    """When changes are sealed into one submission."""

    linger: float = _duration("1s", "0s", "5m", "The longest time that a change waits for company.")
    items_max: int = _integer(100, 1, 1000, "Changes in one submission at most.")
    bytes_max: int = _size(
        "512KiB",
        "4KiB",
        "1MiB",
        "Size of one submission at most, its bookkeeping included; also of one change. Bounded by the journal's "
        "`max.message.bytes` of 2 MiB, of which it may use half.",
    )


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """How many submissions may be open: sealed, and their end not known."""

    batches_max: int = _integer(
        8, 1, 1000, "Submissions of one integration per partition that may be open at the same time."
    )
    batches_max_per_partition: int = _integer(
        10_000,
        1,
        1_000_000,
        "Submissions of all integrations together per partition that may be open at the same time, timed-out tasks "
        "that are still watched included. From half of it on each integration has one at most, so that many slow "
        "ones leave places to the others. With full submissions the default is a million changes under way.",
    )


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Calls to the API."""

    in_flight_max: int = _integer(
        64, 2, 1000, "Calls in flight at most, over all integrations. Each needs an open file."
    )
    poll_share: float = _number(
        0.25, 0.01, 0.99, "Share of `http.in_flight_max` and of the rate that is kept free for polls."
    )
    deadline: float = _duration("30s", "1s", "5m", "The whole of one call, from connecting to the last byte.")
    requests_per_second_max: float | None = _number(
        None,
        0.1,
        10_000,
        "Calls a second at most, submissions and polls of all integrations together, of which polls have "
        "`http.poll_share` while there is more to do; for each process. Not set: no limit.",
    )


@dataclass(frozen=True, slots=True)
class FenceSettings:
    lease: float = _duration(
        "15s",
        "1s",
        "5m",
        "A submission is only sent while the last commit began less than this ago; keeps a replica that was paused "
        "from sending what another one has taken over.",
    )


@dataclass(frozen=True, slots=True)
class PollSettings:
    """When a task is asked for."""

    first_after: float = _duration("15s", "100ms", "1h", "From acceptance to the first poll.")
    factor: float = _number(1.6, 1.0, 10.0, "Each interval is so many times the one before.")
    interval_max: float = _duration(
        "5m", "100ms", "24h", "The longest interval between two polls of one task."
    )


@dataclass(frozen=True, slots=True)
class TaskSettings:
    """When a task is given up."""

    timeout: float = _duration(
        "24h",
        "1s",
        "30d",
        "A task that still is pending at this age, in API time, ends its changes as `TIMED_OUT`.",
    )
    watch_after_timeout: float = _duration(
        "24h",
        "0s",
        "30d",
        "For so long a timed-out task is still watched, and its courses stay busy: it may apply its content late.",
    )


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """Attempts again after a failure that may pass."""

    backoff_min: float = _duration(
        "1s", "10ms", "1h", "The first wait before an attempt; doubles from there."
    )
    backoff_max: float = _duration("60s", "10ms", "24h", "The longest wait between two attempts.")
    attempts_max: int = _integer(
        5, 1, 100, "Submissions of one change at most, when each failed for a passing reason."
    )


@dataclass(frozen=True, slots=True)
class ParkSettings:
    """Integrations that need their customer: they wait alone, and are probed now and then."""

    probe_min: float = _duration("1m", "100ms", "24h", "The first wait before a probe; doubles from there.")
    probe_max: float = _duration("30m", "100ms", "24h", "The longest wait between two probes.")


@dataclass(frozen=True, slots=True)
class WaitSettings:
    age_max: float = _duration(
        "7d",
        "1s",
        "365d",
        "A change that waited longer for a parked integration fails with the reason of the parking.",
    )


@dataclass(frozen=True, slots=True)
class BacklogSettings:
    """What is held back in memory and journal, and what happens when that is too much."""

    courses_max: int = _integer(1_000_000, 1, 100_000_000, "Waiting courses per partition at most.")
    courses_max_per_integration: int = _integer(
        200_000, 1, 100_000_000, "Waiting courses of one integration per partition at most."
    )
    bytes_max: int = _size(
        "256MiB",
        "1MiB",
        "64GiB",
        "Size of the courses in memory per partition at most: of those that wait, and of submissions that the API "
        "has not accepted yet. A process needs this for each partition that it may hold, and about half a KiB for "
        "each waiting course beside it. A low limit costs nothing but collapsing: what is not read stays in Kafka.",
    )
    on_full: str = _choice(
        "pause",
        ("pause", "reject"),
        "At a limit of the backlog. `pause`: the partition, with all of its integrations, is not read on until a tenth "
        "of the limit is free. `reject`: it is read on, and a change whose course does not wait already ends "
        "`REJECTED` with `COURSESYNC.BACKLOG_FULL` and a dead letter; only where newer versions of waiting courses "
        "have grown to twice `backlog.bytes_max` the partition pauses too. In both cases a newer change takes the "
        "place of one that waits, and nothing that was taken in before is given up.",
    )


@dataclass(frozen=True, slots=True)
class DrainSettings:
    timeout: float = _duration(
        "20s",
        "0s",
        "10m",
        "After SIGTERM: the time to finish the calls in flight. What remains is in the journal.",
    )


@dataclass(frozen=True, slots=True)
class WatchdogSettings:
    silence_max: float = _duration(
        "60s",
        "45s",
        "10m",
        "A process one of whose loops, or of whose calls to Kafka, is silent for so long writes the stacks of its "
        "threads and ends. What Kafka's client does in good order takes up to 30 s.",
    )


@dataclass(frozen=True, slots=True)
class KomboSettings:
    """The API."""

    base_url: str = _text(
        "https://api.kombo.dev/v1", "Where the API lives; `https://api.us.kombo.dev/v1` for the US region."
    )
    api_key_file: Path = _file(
        "File that holds the API key. Read again when the key is refused.", required=True
    )
    proxy: str | None = _text(
        None, "HTTP proxy, `http://host:port`. Proxy variables of the environment are not looked at."
    )
    ca_file: Path | None = _file("PEM file of the authorities that are trusted instead of the system's own.")


@dataclass(frozen=True, slots=True)
class AdminSettings:
    """The HTTP port for probes and metrics."""

    host: str = _text("0.0.0.0", "Address to listen on.")
    port: int = _integer(8080, 0, 65535, "Port to listen on; 0 takes any free one, which the log then names.")


@dataclass(frozen=True, slots=True)
class LogSettings:
    level: str = _choice("info", ("debug", "info", "warning", "error"), "The least severe messages to write.")
    format: str = _choice("json", ("json", "console"), "`json` for machines, `console` for people.")


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, grouped by the first word of their name."""

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
