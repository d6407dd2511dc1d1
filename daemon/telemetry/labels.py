"""The closed sets of values that metric labels can have.

A label never holds an id, a name, a URL, an offset or a text from outside. Each of these enums is the complete list of
values of its label, and every member exists as a series from the start, at 0. If the core already defines such a list
(statuses, outcomes, reasons, triggers), the label uses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from daemon.core.answers import NoAnswerReason
from daemon.core.breaker import IntegrationState
from daemon.core.model import Status
from daemon.core.step import TaskOutcome


class Lifecycle(StrEnum):
    """The state of the process. It is always in exactly one of them."""

    STARTING = "starting"  # no partitions assigned yet
    RESTORING = "restoring"  # the journal of at least one partition is being read
    RUNNING = "running"
    DRAINING = "draining"  # stop requested, calls in flight are finishing
    HALTED = "halted"  # submissions stopped by an answer that affects every integration


class ChangeType(StrEnum):
    """The type of a consumed record."""

    UPSERTED = "course.upserted"
    DEACTIVATED = "course.deactivated"
    OTHER = "other"  # a type that is not handled, or a record without a readable type


class TaskSource(StrEnum):
    """How a task was added to the schedule."""

    SUBMIT = "submit"
    RESTORE = "restore"


class Endpoint(StrEnum):
    """The calls of the API. Those of all operations are submissions."""

    SUBMIT = "submit"
    POLL = "poll"


class DropReason(StrEnum):
    """Why a shard's memory and producer were dropped."""

    FENCED = "fenced"
    ERROR = "error"
    REVOKED = "revoked"


class Rebalance(StrEnum):
    """What the consumer group assigned to this member or revoked from it."""

    ASSIGNED = "assigned"
    REVOKED = "revoked"


class CertificateUsage(StrEnum):
    """What a certificate of the daemon is used for."""

    KAFKA_CLIENT = "kafka_client"  # `kafka.tls_certificate_file`


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"


ANSWERS = ("2xx", "3xx", "4xx", "429", "5xx", *(reason.value for reason in NoAnswerReason))
"""How a call to the API ended. 429 (flow control) has its own value. A call without an understood answer has its reason."""


DURATION_OUTCOMES = (TaskOutcome.COMPLETED, TaskOutcome.FAILED)
"""The outcomes of tasks whose end the API has reported. Others have no duration: a timed-out task has not ended, and a
stale one belongs to an earlier submission."""

LATENCY_STATUSES = (Status.SUCCEEDED, Status.FAILED, Status.TIMED_OUT)
"""The results that an API task or the API's refusal decides. The others are known without the API."""

HALTED = "halted"
INTEGRATION_STATES = (*(state.value for state in IntegrationState), HALTED)
"""While the process is halted, nothing is sent for any integration: those that would be healthy count as halted."""


class Resend(StrEnum):
    """Why the same bytes are POSTed again."""

    RETRY = "retry"  # refused or not answered, with a back-off
    PARK = "park"  # the integration waits until its customer acts
    FATE_UNKNOWN = "fate_unknown"  # refused, while an earlier POST of them may have created a task
    HALT = "halt"  # our own key or address was refused
    LOST = "lost"  # the API no longer has the task


@dataclass(frozen=True, slots=True)
class Label:
    """The name of a label and all its possible values.

    ``values`` is None if the set is fixed when the process starts or is bounded by what the process holds. ``bound`` then
    names the bound.
    """

    name: str
    values: tuple[str, ...] | None
    bound: str | None = None

    @classmethod
    def of(cls, name: str, values: type[StrEnum]) -> Label:
        return cls(name, tuple(member.value for member in values))
