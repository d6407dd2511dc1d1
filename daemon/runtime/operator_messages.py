"""The messages about problems with the log, for operators. The admin port shows them, so they contain no ids of courses,
tasks and integrations.

Each message names the partition, what it means, and the command that fixes it. `docs/runbook.md` has a section for each;
the message names its anchor.
"""

from __future__ import annotations

from daemon.config import Topics
from daemon.core.journal import NewerJournalError, Position
from daemon.core.rejection_limit import Stop
from daemon.log.errors import HeldBackError
from daemon.log.port import InputFacts, TransactionOwner, Unreadable

RUNBOOK = "docs/runbook.md"


def without_journal(partition: int, facts: InputFacts, topics: Topics) -> str | None:
    """The input has this partition, and the journal does not. None if the journal has it."""
    if partition < facts.journal_partitions:
        return None
    return (
        f"partition {partition}: {topics.changes} has {facts.partitions} partitions and {topics.journal} has "
        f"{facts.journal_partitions}, so this one has no journal. Pause the publishers, wait until everything else is "
        f"read, then create it with `coursesyncd topics grow --partitions {facts.partitions}`. "
        f"See {RUNBOOK}#partition-count-grown"
    )


def without_courses(partition: int, facts: InputFacts, topics: Topics) -> str | None:
    """The courses topic lacks a partition for this one. None if it has it."""
    if partition < facts.courses_partitions:
        return None
    return (
        f"partition {partition}: {topics.changes} has {facts.partitions} partitions and {topics.courses} has "
        f"{facts.courses_partitions}, so what is known of its courses cannot be written. `coursesyncd topics create` adds "
        f"the missing partitions; then restart this replica. See {RUNBOOK}#courses-partitions-missing"
    )


def without_position(partition: int, facts: InputFacts, topics: Topics) -> str | None:
    """The journal holds no position although the group has read the partition. None on the first start of a partition."""
    if facts.group_offset is None:
        return None
    return (
        f"partition {partition}: {topics.journal} holds no position, yet the consumer group has read "
        f"{topics.changes} up to offset {facts.group_offset}. The journal was emptied or is another one, so the work in "
        f"progress is not in it. Restore the journal, or begin a new one with `coursesyncd skip --partition {partition} "
        f"--to OFFSET`. See {RUNBOOK}#position-missing"
    )


def of_position(partition: int, position: Position, facts: InputFacts, topics: Topics) -> str | None:
    """How the position in the journal and the input disagree (R8). None if they agree."""
    skip = f"`coursesyncd skip --partition {partition}"
    if position.topic_id != facts.topic_id:
        return (
            f"partition {partition}: {topics.changes} was deleted and created again (its id was {position.topic_id}, "
            f"is {facts.topic_id}), so the journal refers to records of the old topic. Unread records of the old topic "
            f"are lost. {skip} --to earliest` continues in the new topic. See {RUNBOOK}#topic-created-again"
        )
    if position.partitions != facts.partitions:
        return (
            f"partition {partition}: {topics.changes} has {facts.partitions} partitions, the journal was begun with "
            f"{position.partitions}. Courses may have moved to other partitions, which can change their order. Pause the "
            f"publishers, then take over the new count with `coursesyncd topics grow --partitions {facts.partitions}`. If "
            f"records are unread or work is in progress, run {skip}` first. See {RUNBOOK}#partition-count-grown"
        )
    if position.next_offset < facts.earliest:
        return (
            f"partition {partition}: the records from offset {position.next_offset} to {facts.earliest - 1} were deleted "
            f"from {topics.changes} before they were read, and will never get a result. {skip}` continues at offset "
            f"{facts.earliest}, the first that is left. See {RUNBOOK}#records-deleted"
        )
    if position.next_offset > facts.latest:
        return (
            f"partition {partition}: the journal has read up to offset {position.next_offset}, {topics.changes} ends at "
            f"{facts.latest}. Records that were read are gone from the topic, and new records will take their offsets. "
            f"Set the offset to continue at with {skip} --to OFFSET`. See {RUNBOOK}#offset-beyond-the-end"
        )
    return None


def unreadable_input(partition: int, reason: str) -> str:
    """The log cannot continue reading, although its offsets fit the journal."""
    return (
        f"partition {partition}: {reason}. Records may have been lost or replaced. Set the offset to continue at with "
        f"`coursesyncd skip --partition {partition} --to OFFSET`. See {RUNBOOK}#offset-beyond-the-end"
    )


def unreadable_records(found: Unreadable, topics: Topics) -> str:
    """A record batch is damaged or too large to be read."""
    return (
        f"partition {found.partition}: {topics.changes} cannot be read from offset {found.offset} on: {found.reason}. "
        f"`coursesyncd skip --partition {found.partition} --to {found.next_offset}` continues after these records; they "
        f"then never get a result. See {RUNBOOK}#unreadable-records"
    )


def too_many_rejected(partition: int, stop: Stop, topics: Topics) -> str:
    """So many records in a row are not valid changes that their publisher, or this version, is probably wrong."""
    return (
        f"partition {partition}: {stop.rejected} of the {stop.records} records of {topics.changes} from offset {stop.since} "
        f"to {stop.offset - 1} were rejected, and so would be the one at {stop.offset} ({stop.code}). Reading has stopped "
        f"in front of it. If coursesyncd or its configuration is wrong, correct it and restart; reading then continues. If the "
        f"records are wrong, correct their publisher, then run `coursesyncd reject --partition {partition}`, which "
        f"continues with a REJECTED result and a dead letter for each of them. See {RUNBOOK}#too-many-rejected"
    )


def unreadable_journal(partition: int, error: Exception, topics: Topics) -> str:
    if isinstance(error, NewerJournalError):
        return f"partition {partition} of {topics.journal}: {error}. See {RUNBOOK}#newer-format"
    return (
        f"partition {partition} of {topics.journal}: {error}. If a newer version of coursesyncd wrote it, run that version "
        f"again. Otherwise {RUNBOOK}#journal-not-readable describes how to erase a foreign record, and what can be saved "
        "if the journal is damaged"
    )


def refused_record(partition: int) -> str:
    return (
        f"partition {partition}: a record that has to be written is larger than coursesyncd allows and is refused every time, "
        "so nothing after it can be written. The log line partition.dropped names the record. This is a defect of "
        f"coursesyncd; install a version in which it is fixed. See {RUNBOOK}#poison-commit"
    )


def record_refused_for_now(partition: int, why: str) -> str:
    return (
        f"partition {partition}: a record that has to be written is refused by the broker, so nothing after it can be "
        f"written: {why}. The partition tries again until the broker accepts it; no restart is needed. `coursesyncd check` "
        "compares the clocks and shows what is wrong with a topic. The log line partition.dropped names the record. "
        f"See {RUNBOOK}#refused-record"
    )


def failed_step(partition: int, what: str) -> str:
    return (
        f"partition {partition}: a step cannot be decided or encoded, and fails in the same way each time: {what}. This is "
        "a defect of coursesyncd; the log has the details (partition.dropped, and a traceback). Install a version in which "
        f"it is fixed, or restart this replica to try again. See {RUNBOOK}#failed-step"
    )


def held_back(
    partition: int, facts: InputFacts, owner: TransactionOwner | None, seconds: float, topics: Topics
) -> str:
    """A publisher's transaction stays open."""
    whose = "" if owner is None else f" of a publisher ({owner})"
    return (
        f"partition {partition}: a transaction{whose} that has been open for more than {seconds:.0f} s holds {topics.changes} "
        f"back at offset {facts.stable}; {facts.latest - facts.stable} records behind it cannot be read. "
        f"{_how_it_ends(topics.changes, partition, facts.stable)}"
    )


def held_back_journal(error: HeldBackError) -> str:
    """An open transaction in the journal keeps the partition from being restored."""
    return (
        f"partition {error.partition}: an open transaction holds {error.topic} back at offset {error.offset}, so the work "
        f"in progress cannot be restored. `coursesyncd end-transaction --partition {error.partition}` finds its owner, and "
        f"ends it if it is a hanging one of coursesyncd. See {RUNBOOK}#stuck-transaction"
    )


def held_back_courses(error: HeldBackError) -> str:
    """An open transaction in the courses topic keeps the known courses from being loaded."""
    return (
        f"an open transaction holds {error.topic} back at offset {error.offset}. `coursesyncd end-transaction --partition "
        f"{error.partition}` ends it if it is a hanging one of coursesyncd. See {RUNBOOK}#stuck-transaction"
    )


def _how_it_ends(topic: str, partition: int, offset: int) -> str:
    return (
        "The broker aborts it when its producer's transaction.timeout.ms has passed. If that producer is gone for good, "
        f"`kafka-transactions.sh --bootstrap-server … abort --topic {topic} --partition {partition} --start-offset "
        f"{offset}` ends it now. See {RUNBOOK}#stuck-transaction"
    )
