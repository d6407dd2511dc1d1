"""A partition of the embedded log against the plainest description of what a reader sees."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from daemon.log.port import Message
from tests.embedded_log.storage import OffsetOutOfRangeError, Partition

WRITERS = st.sampled_from(["w1", "w2", "w3"])
KEYS = st.sampled_from([b"a", b"b", b"c"])
VALUES = st.one_of(st.none(), st.binary(max_size=2))


class PartitionModel(RuleBasedStateMachine):
    """The model keeps one slot per offset and never removes any; readers filter.

    A slot is (key, value, writer or None); `None` is a marker, or a record that is gone.
    """

    def __init__(self) -> None:
        super().__init__()
        self.partition = Partition()
        self.slots: list[tuple[bytes, bytes | None, str | None] | None] = []
        self.start = 0

    @rule(key=KEYS, value=VALUES)
    def append(self, key: bytes, value: bytes | None) -> None:
        assert self.partition.append(0, Message(key, value)) == len(self.slots)
        self.slots.append((key, value, None))

    @rule(writer=WRITERS, key=KEYS, value=VALUES)
    def append_in_transaction(self, writer: str, key: bytes, value: bytes | None) -> None:
        assert self.partition.append(0, Message(key, value), writer) == len(self.slots)
        self.slots.append((key, value, writer))

    @rule(writer=WRITERS, commit=st.booleans())
    def decide(self, writer: str, *, commit: bool) -> None:
        if any(slot is not None and slot[2] == writer for slot in self.slots):
            self.partition.decide(writer, commit=commit)
            for offset, slot in enumerate(self.slots):
                if slot is not None and slot[2] == writer:
                    self.slots[offset] = (slot[0], slot[1], None) if commit else None
            self.slots.append(None)

    @rule(before=st.integers(0, 30), drop_tombstones=st.booleans())
    def compact(self, before: int, *, drop_tombstones: bool) -> None:
        self.partition.compact(before, drop_tombstones=drop_tombstones)
        newer_keys: set[bytes] = set()
        for offset in reversed(range(min(before, self.stable()))):
            slot = self.slots[offset]
            if slot is not None:
                if slot[0] in newer_keys or (drop_tombstones and slot[1] is None):
                    self.slots[offset] = None
                newer_keys.add(slot[0])

    @rule(offset=st.integers(0, 30))
    def delete_before(self, offset: int) -> None:
        self.partition.delete_before(offset)
        self.start = max(self.start, min(offset, self.stable()))
        for below in range(self.start):
            self.slots[below] = None

    @invariant()
    def a_reader_sees_the_committed_records_below_the_first_undecided_one(self) -> None:
        assert (self.partition.start, self.partition.end) == (self.start, len(self.slots))
        assert self.partition.stable == self.stable()
        expected = [
            (offset, slot[0], slot[1])
            for offset, slot in enumerate(self.slots[: self.stable()])
            if slot is not None
        ]
        for batch in (1, 2, 100):
            assert self.read_all(batch) == expected

    @invariant()
    def a_record_is_found_at_its_offset_and_nowhere_else(self) -> None:
        for offset in range(len(self.slots) + 2):
            found = self.partition.at(offset)
            slot = self.slots[offset] if offset < self.stable() else None
            assert (found and (found.offset, found.key, found.value)) == (slot and (offset, slot[0], slot[1]))

    @invariant()
    def an_offset_outside_is_refused(self) -> None:
        for offset in (self.start - 1, len(self.slots) + 1):
            try:
                self.partition.read(offset, 1)
            except OffsetOutOfRangeError:
                continue
            raise AssertionError(f"{offset} was read")

    def read_all(self, batch: int) -> list[tuple[int, bytes | None, bytes | None]]:
        seen: list[tuple[int, bytes | None, bytes | None]] = []
        position = self.start
        while position < self.stable():
            records, following = self.partition.read(position, batch)
            assert following > position, "a reader stands still before the end"
            assert len(records) <= batch
            position = following
            seen += [(record.offset, record.key, record.value) for record in records]
        return seen

    def stable(self) -> int:
        undecided = (offset for offset, slot in enumerate(self.slots) if slot is not None and slot[2])
        return next(undecided, len(self.slots))


PartitionModel.TestCase.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)
TestPartition = PartitionModel.TestCase
