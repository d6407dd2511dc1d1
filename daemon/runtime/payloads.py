"""Reads the payload of an accepted batch back from the journal (R9)."""

from __future__ import annotations

from daemon.core import journal
from daemon.core.batch import OpenTask
from daemon.log.errors import CorruptJournalError
from daemon.log.port import ShardLog


async def read_payload(shard_log: ShardLog, partition: int, task: OpenTask) -> bytes:
    """The body that was sealed. Key and digest are verified.

    Raises:
        LogError: it cannot be read at the moment.
        CorruptJournalError: the offset holds another record.
    """
    assert task.offset is not None
    record = await shard_log.read_back(task.offset)
    try:
        return journal.payload(task.batch_id, task.digest, record.key, record.value)
    except journal.JournalError as error:
        raise CorruptJournalError(f"journal partition {partition}, offset {task.offset}: {error}") from error
