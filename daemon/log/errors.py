"""The errors of the event log: what its port raises, and what commands raise that read or write topics on their own.

No exception of a client library leaves `daemon.log`. Messages are for users.
"""

from __future__ import annotations


class LogError(Exception):
    """An operation of the log failed. The message is for users."""


class CommitFailedError(LogError):
    """A commit failed. Whether it was written is unknown (R4: drop and restore)."""


class FencedError(CommitFailedError):
    """Another producer with this shard's transactional id has taken over."""


class RecordRefusedError(CommitFailedError):
    """A record of the transaction can never be written, so the same transaction fails every time. The message names the
    record.
    """


class TransientRefusalError(CommitFailedError):
    """The log refuses a record as it is configured now, or because of a clock. Nothing of the transaction was written. The
    same transaction succeeds when somebody has corrected that. The message names the cause, and the record if it is known.
    """

    def __init__(self, message: str, summary: str | None = None) -> None:
        super().__init__(message)
        self.summary = message if summary is None else summary
        """The message without the key of the record, which contains ids."""


class HeldBackError(LogError):
    """An open transaction of another producer keeps committed records from being read.

    It starts at `topic`, `partition` and `offset`.
    """

    def __init__(self, topic: str, partition: int, offset: int) -> None:
        super().__init__(
            f"{topic} partition {partition} cannot be read past offset {offset}: a transaction is open there"
        )
        self.topic, self.partition, self.offset = topic, partition, offset


class UnreadableError(LogError):
    """Records of a partition cannot be read, because they are damaged or too large. A retry does not help.

    They are the records from `offset` up to, but not including, `next_offset`. `reason` says what is wrong.
    """

    def __init__(self, topic: str, partition: int, offset: int, next_offset: int, reason: str) -> None:
        super().__init__(
            f"{topic} partition {partition} cannot be read at the offsets {offset} to {next_offset - 1}: {reason}"
        )
        self.topic, self.partition = topic, partition
        self.offset, self.next_offset, self.reason = offset, next_offset, reason


class CorruptJournalError(LogError):
    """The journal does not contain what was written to it."""


class FatalLogError(LogError):
    """The client cannot continue, for example because this static member was fenced. The process must end."""
