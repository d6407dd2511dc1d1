"""The checker of the contract: compares a finished run with the promises of the daemon.

How it works::

    command    the `check` command: a table or JSON, and an exit code
    readers    input and results from Kafka (read_committed), tasks and LMS from the simulator
    rows       turns the rows of the simulator into evidence
    judging    `judge`, pure: evidence → `Verdict`
    evidence   organises the evidence; finds lost, duplicate and malformed results
    endings    is each result true?
    ordering   were changes submitted in order, and is the newest one in the LMS?
    known       is what the courses topic says true, and is UNCHANGED said only where it is?
    wire       the public wire formats, decoded only from their public description
    history    what happened, as plain data

It shares no code with the daemon except the connection to Kafka: an error in shared code would not be detected.
"""

from tests.sandbox.checker.history import (
    ApiTask,
    DeactivationCall,
    HeldCourse,
    LogRecord,
    SentItem,
    TaskStatus,
    content_digest,
)
from tests.sandbox.checker.judging import Limits, judge
from tests.sandbox.checker.readers import EvidenceError, check_run
from tests.sandbox.checker.verdict import Kind, Verdict, Violation

__all__ = [
    "ApiTask",
    "DeactivationCall",
    "EvidenceError",
    "HeldCourse",
    "Kind",
    "Limits",
    "LogRecord",
    "SentItem",
    "TaskStatus",
    "Verdict",
    "Violation",
    "check_run",
    "content_digest",
    "judge",
]
