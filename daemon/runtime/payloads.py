"""Reads the payload of an accepted batch back from the journal (R9)."""

from __future__ import annotations

from daemon.core import journal
from daemon.core.batch import OpenTask
from daemon.log.port import CorruptJournalError, ShardLog


async def read_payload(shard_log: ShardLog, partition: int, task: OpenTask) -> bytes:
    """The body that was sealed; key and digest are compared.

    Raises:
        LogError: it cannot be read now.
        CorruptJournalError: something else lies there.
    """
    assert task.offset is not None
    record = await shard_log.read_back(task.offset)
    try:
        return journal.payload(task.batch_id, task.digest, record.key, record.value)
    except journal.JournalError as error:
        raise CorruptJournalError(f"journal partition {partition}, offset {task.offset}: {error}") from error
