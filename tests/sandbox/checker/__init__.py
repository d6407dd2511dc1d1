"""The checker of the contract: holds a finished run against what the daemon promises.

How it works::

    command    the `check` command: a table or JSON, and an exit code
    readers    input and results from Kafka (read_committed), tasks and LMS from the simulator
    judging    `judge`, pure: what was read → `Verdict`
    evidence   sorts out what was read; finds what is lost, duplicate or malformed
    endings    is each result true?
    ordering   were changes in order, and is the newest one in the LMS?
    wire       the public wire formats, decoded by their public description alone
    history    what happened, as plain data

It shares no code with the daemon but the connection to Kafka: a mistake that both made would not be seen.
"""

from tests.sandbox.checker.history import HeldCourse, LogRecord, SentItem, Task, TaskStatus, content_digest
from tests.sandbox.checker.judging import Limits, judge
from tests.sandbox.checker.readers import EvidenceError, check_run
from tests.sandbox.checker.verdict import Kind, Verdict, Violation

__all__ = [
    "EvidenceError",
    "HeldCourse",
    "Kind",
    "Limits",
    "LogRecord",
    "SentItem",
    "Task",
    "TaskStatus",
    "Verdict",
    "Violation",
    "check_run",
    "content_digest",
    "judge",
]
