"""The closed sets of values that metric labels may take.

A label never holds an id, a name, a URL, an offset or a text from outside: each of these enums is the
whole list of what its label can say, and every member exists as a series from the start, at 0. Where the
core has such a list of its own (statuses, outcomes, reasons, triggers), that one is the label.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from daemon.core.answers import NoAnswerReason


class Lifecycle(StrEnum):
    """What the process is doing, in one word; exactly one holds."""

    STARTING = "starting"  # not yet told which partitions it holds
    RESTORING = "restoring"  # at least one partition's journal is being read
    RUNNING = "running"
    DRAINING = "draining"  # told to stop, finishing what is in flight
    HALTED = "halted"  # submissions stopped by an answer that concerns every integration


class ChangeType(StrEnum):
    """What kind of record was consumed."""

    UPSERTED = "course.upserted"
    OTHER = "other"  # a type that is not handled, or a record that does not say


class TaskSource(StrEnum):
    """How a task came into the schedule."""

    SUBMIT = "submit"
    RESTORE = "restore"


class Endpoint(StrEnum):
    """The two calls of the API."""

    SUBMIT = "submit"
    POLL = "poll"


class DropReason(StrEnum):
    """Why a shard's memory and producer were given up."""

    FENCED = "fenced"
    ERROR = "error"
    REVOKED = "revoked"


class Rebalance(StrEnum):
    """What the consumer group told this member."""

    ASSIGNED = "assigned"
    REVOKED = "revoked"


class CertificateUsage(StrEnum):
    """What a certificate of ours is for."""

    KAFKA_CLIENT = "kafka_client"  # `kafka.tls_certificate_file`


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


ANSWERS = ("2xx", "3xx", "4xx", "429", "5xx", *(reason.value for reason in NoAnswerReason))
"""How a call to the API ended: 429 stands by itself (flow control), no understood answer by its trouble."""


class Resend(StrEnum):
    """Why the same bytes are POSTed again."""

    RETRY = "retry"  # refused or not answered, with a back-off
    PARK = "park"  # the integration waits for its customer
    HALT = "halt"  # our key or address was refused
    LOST = "lost"  # the API no longer knows the task


@dataclass(frozen=True, slots=True)
class Label:
    """A label's name and every value it can have.

    ``values`` is None where the set is fixed when the process starts or is bounded by what it holds;
    then ``bound`` says by what.
    """

    name: str
    values: tuple[str, ...] | None
    bound: str | None = None

    @classmethod
    def of(cls, name: str, values: type[StrEnum]) -> Label:
        return cls(name, tuple(member.value for member in values))
