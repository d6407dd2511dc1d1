"""The fold is last value per key (R9), however often records are read and whatever compaction took away."""

from collections.abc import Iterable, Iterator

import msgspec
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from daemon.core import journal
from daemon.core.journal import Attempt, Late, Position, SealedBatch, Task, Wait
from daemon.core.journal_fold import Fold
from daemon.core.model import Item

SMALL = st.integers(0, 5)
IDS = st.sampled_from(["a", "b"])
ITEMS = st.builds(Item, IDS, SMALL, IDS, SMALL, SMALL, SMALL)
BODIES = st.sampled_from([b'{"items":[1]}', b'{"items": [2] }']).map(msgspec.Raw)
ATTEMPTS = st.builds(Attempt, IDS)
Record = tuple[int, bytes, bytes | None]
"""Offset, key and value."""
Contents = tuple[object, ...]
KINDS: dict[str, tuple[st.SearchStrategy[bytes], st.SearchStrategy[journal.Value]]] = {
    "position": (
        st.just(journal.POSITION_KEY),
        st.builds(Position, st.just(1), SMALL, IDS, SMALL, SMALL),
    ),
    "wait": (
        st.builds(journal.wait_key, IDS, IDS),
        st.builds(Wait, ITEMS, BODIES, st.none() | SMALL, st.none() | ATTEMPTS),
    ),
    "batch": (
        st.builds(journal.batch_key, IDS),
        st.builds(SealedBatch, IDS, SMALL, SMALL, st.lists(ITEMS, max_size=2).map(tuple), BODIES),
    ),
    "task": (st.builds(journal.task_key, IDS), st.builds(Task, IDS, SMALL)),
    "late": (
        st.builds(journal.late_key, IDS, IDS) | st.builds(journal.late_key, IDS),
        st.builds(Late, IDS, IDS, st.lists(ITEMS, max_size=2).map(tuple), SMALL, SMALL),
    ),
}
RECORDS = st.one_of(
    [
        st.tuples(key, st.none() | value.map(journal.encode_value) | value.map(journal.encode_value))
        for key, value in KINDS.values()
    ]
)
STREAMS = st.lists(RECORDS, max_size=40).map(lambda records: list(enumerate_records(records)))


def enumerate_records(records: Iterable[tuple[bytes, bytes | None]]) -> Iterator[Record]:
    for offset, (key, value) in enumerate(records):
        yield offset, key, value


def fold_of(records: list[Record]) -> Fold:
    fold = Fold()
    for record in records:
        fold.apply(*record)
    return fold


def last_value_per_key(records: list[Record]) -> Contents:
    """The model. What a batch's body has become is seen to by the test of bodies."""
    position: Position | None = None
    waits: dict[tuple[str, str], Wait] = {}
    late: dict[tuple[str, ...], tuple[Late, tuple[Item, ...]]] = {}
    tasks: dict[str, Task] = {}
    batches: dict[str, tuple[int, SealedBatch, tuple[Item, ...], bytes]] = {}
    for offset, key, value in {key: record for record in records for _, key, _ in [record]}.values():
        parts, record = journal.decode(key, value)
        match record, parts:
            case Position(), ["position"]:
                position = record
            case Wait(), ["wait", integration, origin]:
                waits[integration, origin] = record
            case Late(), ["late", *ids]:
                late[tuple(ids)] = (msgspec.structs.replace(record, items=()), record.items)
            case Task(), ["task", batch_id]:
                tasks[batch_id] = record
            case SealedBatch(), ["batch", batch_id]:
                bare = msgspec.structs.replace(record, items=(), body=msgspec.Raw(b""))
                batches[batch_id] = (offset, bare, record.items, journal.digest(bytes(record.body)))
    open_batches = {id_: (*batch, tasks.get(id_)) for id_, batch in batches.items()}
    return position, waits, late, open_batches


def known(fold: Fold) -> Contents:
    batches = {
        id_: (each.offset, each.sealed, each.items.unpack(), each.digest, each.task)
        for id_, each in fold.batches.items()
    }
    late = {ids: (each.record, each.items.unpack()) for ids, each in fold.late.items()}
    return fold.position, fold.waits, late, batches


def compacted(records: list[Record], clean_to: int, keep_tombstones: bool) -> Iterator[Record]:
    """What may be left after the cleaner has been at the first `clean_to` records."""
    last = {key: offset for offset, key, _ in records[:clean_to]}
    for offset, key, value in records:
        if offset >= clean_to or (last[key] == offset and (value is not None or keep_tombstones)):
            yield offset, key, value


@hypothesis_settings(max_examples=150, deadline=None, derandomize=True)
@given(STREAMS)
def test_the_fold_is_the_last_value_of_each_key(records: list[Record]) -> None:
    assert known(fold_of(records)) == last_value_per_key(records)


@hypothesis_settings(max_examples=200, deadline=None, derandomize=True)
@given(STREAMS, st.data())
def test_reading_again_from_anywhere_changes_nothing(records: list[Record], data: st.DataObject) -> None:
    read_to = data.draw(st.integers(0, len(records)))
    again_from = data.draw(st.integers(0, read_to))
    assert known(fold_of(records[:read_to] + records[again_from:])) == known(fold_of(records))


@hypothesis_settings(max_examples=150, deadline=None, derandomize=True)
@given(STREAMS, st.data())
def test_compaction_changes_nothing(records: list[Record], data: st.DataObject) -> None:
    left = records
    for _ in range(data.draw(st.integers(1, 2))):
        clean_to = data.draw(st.integers(0, len(records)))
        known_offsets = {offset for offset, _, _ in left}
        cleaned = compacted(records, clean_to, keep_tombstones=data.draw(st.booleans()))
        left = [record for record in cleaned if record[0] in known_offsets]
    assert known(fold_of(left)) == known(fold_of(records))


@hypothesis_settings(max_examples=150, deadline=None, derandomize=True)
@given(STREAMS)
def test_a_body_that_has_to_be_sent_is_there_or_is_named_as_unread(records: list[Record]) -> None:
    fold = fold_of(records)
    unread = dict(fold.unread())
    for batch_id, batch in fold.batches.items():
        _, key, value = records[batch.offset]
        body = journal.payload(batch_id, batch.digest, key, value)
        if batch.task is not None:
            assert batch.body is None, "payloads of accepted batches are not held"
            assert batch_id not in unread
        else:
            assert batch.body == (None if batch_id in unread else body)
