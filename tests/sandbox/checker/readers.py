"""Reads the evidence: two topics, read committed, and the state of the simulator over HTTP."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

from daemon.log.kafka.clients import KafkaConnection
from daemon.log.topic_access import read_topic
from tests.sandbox.checker.history import ApiTask, DeactivationCall, HeldCourse, LogRecord
from tests.sandbox.checker.judging import Limits, judge
from tests.sandbox.checker.rows import held_course_of, task_of
from tests.sandbox.checker.verdict import Verdict

_TIMEOUT = 60.0
"""Seconds within which the simulator must answer."""


class EvidenceError(Exception):
    """The state of the simulator could not be read. The message says why."""


def check_run(
    connection: KafkaConnection,
    changes_topic: str,
    results_topic: str,
    simulator_url: str,
    limits: Limits | None = None,
    courses_topic: str | None = None,
) -> Verdict:
    """Judge a run by the current contents of the topics and of the simulator. Blocks. Without `courses_topic`, what is known
    of the courses is not judged.

    `simulator_url` is its root, without ``/v1`` or ``/_sim``.

    Raises:
        EvidenceError: the simulator does not answer.
        LogError: the broker does not answer, or a topic is missing.
    """
    return judge(
        _records(connection, changes_topic),
        _records(connection, results_topic),
        read_tasks(simulator_url),
        read_deactivations(simulator_url),
        read_lms(simulator_url),
        limits,
        None if courses_topic is None else _records(connection, courses_topic),
    )


def _records(connection: KafkaConnection, topic: str) -> Iterator[LogRecord]:
    for r in read_topic(connection, topic):
        yield LogRecord(r.topic, r.partition, r.offset, r.key, r.value, r.headers)


def read_tasks(simulator_url: str) -> Iterator[ApiTask]:
    """All tasks of the simulator, in order of creation. Raises EvidenceError."""
    return (task_of(row) for row in _rows(f"{simulator_url}/_sim/tasks"))


def read_deactivations(simulator_url: str) -> Iterator[DeactivationCall]:
    """All calls that deactivate a course, in order of arrival. Raises EvidenceError."""
    return (DeactivationCall(**row) for row in _rows(f"{simulator_url}/_sim/deactivations"))


def read_lms(simulator_url: str) -> Iterator[HeldCourse]:
    """All courses of the simulated LMS. Raises EvidenceError."""
    return (held_course_of(row) for row in _rows(f"{simulator_url}/_sim/lms"))


# The environment may configure a proxy, but the simulator is on this machine.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _rows(url: str) -> Iterator[dict[str, Any]]:
    try:
        with _direct.open(url, timeout=_TIMEOUT) as answer:
            for line in answer:
                if line.strip():
                    yield json.loads(line)
    except (OSError, ValueError) as error:
        raise EvidenceError(f"The simulator cannot be asked at {url}: {error}") from error
