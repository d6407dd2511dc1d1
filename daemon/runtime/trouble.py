"""Trouble with the log, in sentences for people: which partition, what it means, and the command that gets
it out. `docs/runbook.md` has a section for each; the sentences name its anchor.
"""

from __future__ import annotations

from daemon.config import Topics
from daemon.core.journal import NewerJournalError, Position
from daemon.log.port import HeldBackError, InputFacts, Unreadable

RUNBOOK = "docs/runbook.md"


def without_journal(partition: int, facts: InputFacts, topics: Topics) -> str | None:
    """The input has this partition, the journal does not; None where it does."""
    if partition < facts.journal_partitions:
        return None
    return (
        f"partition {partition}: {topics.changes} has {facts.partitions} partitions and {topics.journal} "
        f"{facts.journal_partitions}, so this one has no journal. When the publishers pause and all else is read, "
        f"`coursesyncd topics grow --partitions {facts.partitions}` makes it; {RUNBOOK}#partition-count-grown"
    )


def without_position(partition: int, facts: InputFacts, topics: Topics) -> str | None:
    """There is no position in the journal; None on the first start of a partition."""
    if facts.group_offset is None:
        return None
    return (
        f"partition {partition}: {topics.journal} holds no position, yet the consumer group has read "
        f"{topics.changes} up to offset {facts.group_offset}: the journal was emptied or is another one, and what was "
        f"under way is not in it. Bring it back, or `coursesyncd skip --partition {partition} --to OFFSET` begins a new "
        f"one; {RUNBOOK}#position-missing"
    )


def of_position(partition: int, position: Position, facts: InputFacts, topics: Topics) -> str | None:
    """How the position of the journal and the input disagree (R8); None when they do not."""
    skip = f"`coursesyncd skip --partition {partition}"
    if position.topic_id != facts.topic_id:
        return (
            f"partition {partition}: {topics.changes} was deleted and created again (its id was {position.topic_id}, "
            f"is {facts.topic_id}), so the journal speaks of other records. What was not read of the old one is gone. "
            f"{skip} --to earliest` goes on in the new one; {RUNBOOK}#topic-created-again"
        )
    if position.partitions != facts.partitions:
        return (
            f"partition {partition}: {topics.changes} has {facts.partitions} partitions, the journal was begun with "
            f"{position.partitions}: courses may have moved, and their order be lost. With the publishers paused, "
            f"`coursesyncd topics grow --partitions {facts.partitions}` takes the new count over; if something is still "
            f"unread or under way, {skip}` lets it go on first; {RUNBOOK}#partition-count-grown"
        )
    if position.next_offset < facts.earliest:
        return (
            f"partition {partition}: the records from offset {position.next_offset} to {facts.earliest - 1} were deleted "
            f"from {topics.changes} before they were read, and will never get a result. {skip}` goes on at offset "
            f"{facts.earliest}, the first that is left; {RUNBOOK}#records-deleted"
        )
    if position.next_offset > facts.latest:
        return (
            f"partition {partition}: the journal has read up to offset {position.next_offset}, {topics.changes} ends at "
            f"{facts.latest}: records that were read are gone from it, and others will take their offsets. "
            f"{skip} --to OFFSET` says where to go on; {RUNBOOK}#offset-beyond-the-end"
        )
    return None


def unreadable_input(partition: int, said: str) -> str:
    """The log refuses to go on reading, though its offsets look right."""
    return (
        f"partition {partition}: {said}. Records may have been lost or replaced. "
        f"`coursesyncd skip --partition {partition} --to OFFSET` says where to go on; {RUNBOOK}#offset-beyond-the-end"
    )


def unreadable_records(found: Unreadable, topics: Topics) -> str:
    """A record batch that is damaged or too large to be read."""
    return (
        f"partition {found.partition}: {topics.changes} cannot be read from offset {found.offset} on: {found.reason}. "
        f"`coursesyncd skip --partition {found.partition} --to {found.next_offset}` continues behind it; its records then "
        f"never get a result. {RUNBOOK}#unreadable-records"
    )


def unreadable_journal(partition: int, error: Exception, topics: Topics) -> str:
    if isinstance(error, NewerJournalError):
        return f"partition {partition} of {topics.journal}: {error}; {RUNBOOK}#newer-format"
    return (
        f"partition {partition} of {topics.journal}: {error}. If a newer version of coursesyncd has written it, run that "
        f"one again; if it is damaged, no command can repair it: {RUNBOOK}#journal-not-readable says what can be saved"
    )


def refused_record(partition: int, error: Exception) -> str:
    return (
        f"partition {partition}: a record that has to be written is refused every time, so nothing after it can be: "
        f"{error}. `coursesyncd check` says what is wrong with its topic, mostly max.message.bytes, and how to correct "
        f"it; then start this replica again; {RUNBOOK}#poison-commit"
    )


def failed_step(partition: int, why: object) -> str:
    return (
        f"partition {partition}: a step cannot be decided or encoded, and fails in the same way each time: {why}. This is "
        "a defect of coursesyncd; the log has its traceback. Install a version that has it fixed, or start this replica "
        f"again to try once more; {RUNBOOK}#failed-step"
    )


def held_back(partition: int, facts: InputFacts, seconds: float, topics: Topics) -> str:
    """A transaction of a publisher is open for so long that nobody may be there to end it."""
    return (
        f"partition {partition}: a transaction that is open since more than {seconds:.0f} s holds {topics.changes} back at "
        f"offset {facts.stable}; {facts.latest - facts.stable} records behind it can not be read. "
        f"{_ended_by(topics.changes, partition, facts.stable)}"
    )


def held_back_journal(error: HeldBackError) -> str:
    """A transaction in the journal is not ended, and keeps the partition from being restored."""
    return (
        f"partition {error.partition}: a transaction that nobody has ended holds {error.topic} back at offset "
        f"{error.offset}, so what was under way can not be restored. `coursesyncd end-transaction --partition "
        f"{error.partition}` looks whose it is, and ends one of coursesyncd's own that hangs; {RUNBOOK}#stuck-transaction"
    )


def _ended_by(topic: str, partition: int, offset: int) -> str:
    return (
        "The broker aborts it when its producer's transaction.timeout.ms is over. If that producer is gone for good, "
        f"`kafka-transactions.sh --bootstrap-server … abort --topic {topic} --partition {partition} --start-offset "
        f"{offset}` ends it now; {RUNBOOK}#stuck-transaction"
    )
