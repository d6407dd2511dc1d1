"""Encodes a step of the core as a transaction of the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from daemon.codec import encode_correction, encode_course, encode_dead_letter, encode_result
from daemon.codec.result import Encoded
from daemon.codec.texts import ERROR_CHARS_MAX, describe
from daemon.config import Topics
from daemon.core.model import Result
from daemon.core.step import Step
from daemon.core.trace import change_span
from daemon.log.port import Message, Transaction

Record = TypeVar("Record")
Bytes = TypeVar("Bytes")


class StepFailedError(Exception):
    """A step of one partition cannot be decided or encoded. A retry would fail in the same way. It affects only this
    partition.
    """

    def __init__(self, what: str, cause: Exception) -> None:
        """`what` says what failed, without ids of courses, tasks and integrations."""
        super().__init__(f"{what} ({describe(cause, ERROR_CHARS_MAX)})")
        self.summary = f"{what} ({type(cause).__name__})"
        """The message without the text of the cause, which may contain anything."""


def transaction(step: Step, partition: int, topics: Topics, *, exports_spans: bool = False) -> Transaction:
    """The transaction with all records of this step. `exports_spans`: results name the daemon's own spans of their changes.

    Raises:
        StepFailedError: a record cannot be encoded.
    """
    changes, journal = topics.changes, topics.journal

    def span_id(result: Result) -> int | None:
        if not exports_spans or result.trace is None or not result.trace.is_sampled:
            return None
        return change_span(step.topic_id, partition, result.offset, result.trace).span

    results = _messages(
        step.results,
        lambda result: encode_result(
            result, partition, changes_topic=changes, journal_topic=journal, span_id=span_id(result)
        ),
        lambda result: f"the result of offset {result.offset}",
    )
    results += _messages(
        step.corrections,
        lambda each: encode_correction(
            each, partition, changes_topic=changes, journal_topic=journal, span_id=span_id(each.result)
        ),
        lambda each: f"the correction of offset {each.result.offset}",
    )
    dead_letters = _messages(
        step.rejections,
        lambda rejection: encode_dead_letter(rejection, partition, changes_topic=changes),
        lambda rejection: f"the dead letter of offset {rejection.offset}",
    )
    courses = _encoded(
        step.courses,
        lambda record: encode_course(record, partition, changes_topic=changes),
        lambda record: f"the course record of offset {record.offset}",
    )
    return Transaction(
        journal=step.journal,
        results=results,
        dead_letters=dead_letters,
        courses=courses,
        position=step.next_offset,
    )


def _messages(
    records: Sequence[Record], encode: Callable[[Record], Encoded], name: Callable[[Record], str]
) -> list[Message]:
    return [Message(*each) for each in _encoded(records, encode, name)]


def _encoded(
    records: Sequence[Record], encode: Callable[[Record], Bytes], name: Callable[[Record], str]
) -> list[Bytes]:
    encoded = []
    for record in records:
        try:
            encoded.append(encode(record))
        except Exception as error:
            raise StepFailedError(f"{name(record)} cannot be encoded", error) from error
    return encoded
