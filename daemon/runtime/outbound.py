"""A step of the core as a transaction of the log."""

from __future__ import annotations

from daemon.codec import encode_correction, encode_dead_letter, encode_result
from daemon.config import Topics
from daemon.core.step import Step
from daemon.log.port import Message, Transaction


def transaction(step: Step, partition: int, topics: Topics) -> Transaction:
    changes, journal = topics.changes, topics.journal
    results = [
        Message(*encode_result(result, partition, changes_topic=changes, journal_topic=journal))
        for result in step.results
    ]
    results += [
        Message(*encode_correction(correction, partition, changes_topic=changes, journal_topic=journal))
        for correction in step.corrections
    ]
    return Transaction(
        journal=step.journal,
        results=results,
        dead_letters=[
            Message(*encode_dead_letter(rejection, partition, changes_topic=changes))
            for rejection in step.rejections
        ],
        position=step.next_offset,
    )
