"""What is known of courses when the input gets more partitions: their records follow them.

The record of a course is in the partition of its changes. With more partitions, the next change of the course may arrive in
another one, and its record would then be in two partitions of the courses topic, one of them outdated. So `topics grow` moves
the records while nothing is open.

Where a course goes depends on the key of its changes, which its record does not have. If every record is in the partition that
`input.partitioner` gives to its integration id, that is the key, and the records of integrations that move are written to their
new partitions and then erased. If not, all records are erased: the courses are sent once more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from daemon.core.placement import PARTITIONERS, place
from daemon.log.port import RepairLog, Transaction

RECORDS_PER_COMMIT = 1000

Table = Mapping[bytes, bytes]
"""Key and value of the last record of each course."""

_decode_key = msgspec.json.Decoder(tuple[str, str]).decode


async def move_courses(
    log: RepairLog, partitions: Mapping[int, int], new_count: int, partitioner: str
) -> tuple[int, int]:
    """Move the records of these partitions, each with the number of partitions that the input had. Returns how many records
    were moved and erased. Every partition must be idle. After an error it may be repeated.

    Raises:
        LogError: Kafka did not answer, or a replica took over one of the partitions meanwhile.
    """
    tables = {number: await _table(log, number) for number in partitions}
    integrations = {number: {_integration(key) for key in table} for number, table in tables.items()}
    keyed = partitioner in PARTITIONERS and all(
        integration is not None
        # The new one after a crash: it has been moved already.
        and number in (place(integration, count, partitioner) for count in (partitions[number], new_count))
        for number, found in integrations.items()
        for integration in found
    )
    moved: dict[int, dict[bytes, bytes]] = {}
    gone: dict[int, list[bytes]] = {}
    for number, table in tables.items():
        for key, value in table.items():
            integration = _integration(key)
            target = place(integration, new_count, partitioner) if keyed and integration is not None else None
            if target == number:
                continue
            gone.setdefault(number, []).append(key)
            if target is not None:
                moved.setdefault(target, {})[key] = value
    for number, records in moved.items():
        await _write(log, number, list(records.items()))
    for number, keys in gone.items():
        await _write(log, number, [(key, None) for key in keys])
    count = sum(map(len, moved.values()))
    return count, sum(map(len, gone.values())) - count


def _integration(key: bytes) -> bytes | None:
    """None if somebody else wrote the record."""
    try:
        return _decode_key(key)[0].encode()
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


async def _table(log: RepairLog, partition: int) -> Table:
    shard_log = await log.open_shard(partition)
    table: dict[bytes, bytes] = {}
    try:
        async for records in shard_log.courses(await shard_log.courses_end()):
            for record in records:
                if record.value is None:
                    table.pop(record.key or b"", None)
                else:
                    table[record.key or b""] = record.value
    finally:
        await shard_log.close()
    return table


async def _write(log: RepairLog, partition: int, records: Sequence[tuple[bytes, bytes | None]]) -> None:
    shard_log = await log.open_shard(partition)
    try:
        for first in range(0, len(records), RECORDS_PER_COMMIT):
            await shard_log.commit(Transaction((), courses=records[first : first + RECORDS_PER_COMMIT]))
    finally:
        await shard_log.close()


def moves_sentence(counts: tuple[int, int]) -> str:
    """What `move_courses` has done, for people."""
    moved, erased = counts
    return f"What is known of {moved:,} courses was moved to their new partitions, and of {erased:,} erased."
