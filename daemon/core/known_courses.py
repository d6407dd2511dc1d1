"""The index of the courses that a shard knows: what the courses topic says of each, in memory.

How it works::

    load(key, course)   records of the topic that earlier owners have written, in the order of their offsets
    finish()            all of them are loaded
    put(…, course)      what this owner decides, from its first step on; it always replaces what was loaded

Before `finish` a course may look unknown although it is known, so `get` and `course_id` answer only afterwards. The number
of courses is limited for the process (`Budget`): beyond it, further courses are not known, which costs a submission and is
never wrong. A course that is in the index stays in it, because a record that is not replaced would become wrong.

A course takes about 80 bytes, with an id of 24 characters; as objects it would take about 500. Each course has an *entry* of
`_ENTRY` bytes in one array, and its id is in another. Hash tables with open addressing find the entry by a digest of the key.
There are `_TABLES` of them, each of which grows by itself, so that no growth takes longer than a few milliseconds. With 100
million courses, a table has 400,000 entries: three bytes of the digest are enough to spread them.
"""

from __future__ import annotations

import struct
from array import array
from hashlib import blake2b

import msgspec

from daemon.core.course import CourseState, KnownCourse, course_key

_KEY_BYTES = 16
"""Of the digest that identifies a course. With a million courses, two share one with a probability of 10⁻²⁷."""
_CONTENT_BYTES = 16
_FIELDS = struct.Struct(f"<{_CONTENT_BYTES}sIIHB")
"""Digest of the content, second of the decision, place and length of the id, flags."""
_pack, _pack_into, _unpack_from = _FIELDS.pack, _FIELDS.pack_into, _FIELDS.unpack_from
_ENTRY = _KEY_BYTES + _FIELDS.size
_TABLES = 256
_SLOTS_MIN = 8
_SECONDS_MAX = 2**32 - 1

_STATES = (None, CourseState.ACTIVE, CourseState.INACTIVE, CourseState.UNKNOWN)
"""By the lowest two bits of the flags. None: the course was erased."""
_FLAGS = {state: flags for flags, state in enumerate(_STATES)}
_HAS_CONTENT, _IS_OWN = 4, 8


class Budget:
    """The number of courses that the indexes of one process may still take in (`courses.index_max`)."""

    def __init__(self, courses_max: int) -> None:
        self.left = courses_max

    def take(self) -> bool:
        """Whether there is room for one more course, which is then taken."""
        if self.left <= 0:
            return False
        self.left -= 1
        return True

    def give_back(self, courses: int) -> None:
        self.left += courses


class KnownCourses:
    """The index of one shard."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._clear()

    def _clear(self) -> None:
        self._tables = [array("I", bytes(4 * _SLOTS_MIN)) for _ in range(_TABLES)]
        """Number of an entry, from 1 on; 0: the slot is free."""
        self._used = [0] * _TABLES
        self._entries = bytearray()
        self._ids = bytearray()
        self._left_out: set[bytes] = set()
        """Courses about which this owner has decided while the index was being loaded, and for which there was no room."""
        self.is_loaded = False
        """Whether every record of earlier owners has been loaded."""

    def __len__(self) -> int:
        """The number of courses that take a place, including those that were erased."""
        return len(self._entries) // _ENTRY

    @property
    def memory(self) -> int:
        """Bytes."""
        tables = sum([table.itemsize * len(table) for table in self._tables])
        return tables + len(self._entries) + len(self._ids)

    def get(self, integration_id: str, origin_id: str) -> KnownCourse | None:
        """What is known of the course. None if nothing is, or if the index is not loaded yet. Its time is rounded down to the
        second.
        """
        if not self.is_loaded:
            return None
        _, at = self._find(_digest(course_key(integration_id, origin_id)))
        return None if at is None else self._read(at)

    def course_id(self, integration_id: str, origin_id: str) -> str | None:
        """The API's id of the course. None if it is not known, or if the index is not loaded yet."""
        known = self.get(integration_id, origin_id)
        return None if known is None else known.course_id

    def put(self, integration_id: str, origin_id: str, course: KnownCourse) -> None:
        """Record what this owner has decided about the course. Without an id, it says nothing about the id: the known one is
        kept, also while the index is being loaded and `course_id` does not answer yet.
        """
        key = _digest(course_key(integration_id, origin_id))
        if not self._set(key, course, _IS_OWN) and not self.is_loaded:
            self._left_out.add(key)

    def load(self, key: bytes, course: KnownCourse | None) -> None:
        """A record that an earlier owner has written; None: a tombstone. A record without the id of the course says
        nothing about the id, so an id in an earlier record is kept.
        """
        assert not self.is_loaded
        digest = _digest(key)
        slot, at = self._find(digest)
        if at is None:
            if course is not None and digest not in self._left_out and self._budget.take():
                self._append(digest, slot, course, 0)
            return
        present = self._read(at)
        if self._is_own(at):
            if present is not None and present.course_id is None and course is not None and course.course_id:
                self._write(at, msgspec.structs.replace(present, course_id=course.course_id), _IS_OWN)
            return
        if course is not None and course.course_id is None and present is not None:
            course = msgspec.structs.replace(course, course_id=present.course_id)
        self._write(at, course, 0)

    def finish(self) -> None:
        """Everything that earlier owners have written is loaded."""
        self.is_loaded = True
        self._left_out.clear()

    def close(self) -> None:
        """The shard has ended: give back the places. Nothing is known any more. Idempotent."""
        self._budget.give_back(len(self))
        self._clear()

    # --- entries ----------------------------------------------------------------------------------

    def _set(self, key: bytes, course: KnownCourse, own: int) -> bool:
        slot, at = self._find(key)
        if at is not None:
            if course.course_id is None and (present := self._read(at)) is not None:
                course = msgspec.structs.replace(course, course_id=present.course_id)
            self._write(at, course, own)
            return True
        if not self._budget.take():
            return False
        self._append(key, slot, course, own)
        return True

    def _find(self, key: bytes) -> tuple[int, int | None]:
        """The slot of this course in its table, and where its entry begins; None if it has none, and the slot is free."""
        table, entries = self._tables[key[0]], self._entries
        mask = len(table) - 1
        slot = (key[1] | key[2] << 8 | key[3] << 16) & mask
        while number := table[slot]:
            at = (number - 1) * _ENTRY
            if entries[at : at + _KEY_BYTES] == key:
                return slot, at
            slot = slot + 1 & mask
        return slot, None

    def _append(self, key: bytes, slot: int, course: KnownCourse, own: int) -> None:
        self._entries += key
        if course.course_id is None:
            place = size = 0
        else:
            course_id = course.course_id.encode()
            place, size = len(self._ids), len(course_id)
            self._ids += course_id
        self._entries += _packed(course, own, place, size)
        index = key[0]
        used = self._used[index] = self._used[index] + 1
        table = self._tables[index]
        table[slot] = len(self._entries) // _ENTRY
        if 3 * used > 2 * len(table):
            self._tables[index] = self._grown(table)

    def _grown(self, table: array[int]) -> array[int]:
        grown = array("I", bytes(2 * table.itemsize * len(table)))
        for number in table:
            if number:
                at = (number - 1) * _ENTRY
                free = _free_slot(grown, self._entries[at : at + _KEY_BYTES])
                grown[free] = number
        return grown

    def _is_own(self, at: int) -> bool:
        flags: int = _unpack_from(self._entries, at + _KEY_BYTES)[-1]
        return bool(flags & _IS_OWN)

    def _read(self, at: int) -> KnownCourse | None:
        """None if the course was erased."""
        content, seconds, place, size, flags = _unpack_from(self._entries, at + _KEY_BYTES)
        state = _STATES[flags & 3]
        if state is None:
            return None
        course_id = self._ids[place : place + size].decode() if size else None
        return KnownCourse(state, content if flags & _HAS_CONTENT else None, course_id, seconds * 1000)

    def _write(self, at: int, course: KnownCourse | None, own: int) -> None:
        """None: the course is erased."""
        if course is None:
            _pack_into(self._entries, at + _KEY_BYTES, b"", 0, 0, 0, own)
            return
        _, _, place, old_size, _ = _unpack_from(self._entries, at + _KEY_BYTES)
        course_id = (course.course_id or "").encode()
        size = len(course_id)
        if size > old_size:
            place = len(self._ids)
            self._ids += course_id
        elif size:
            self._ids[place : place + size] = course_id
        self._entries[at + _KEY_BYTES : at + _ENTRY] = _packed(course, own, place, size)


def _free_slot(table: array[int], key: bytes | bytearray) -> int:
    mask = len(table) - 1
    slot = (key[1] | key[2] << 8 | key[3] << 16) & mask
    while table[slot]:
        slot = slot + 1 & mask
    return slot


def _packed(course: KnownCourse, own: int, place: int, size: int) -> bytes:
    content, seconds = course.content, course.recorded_at // 1000
    if not 0 <= seconds <= _SECONDS_MAX:  # of a clock that is wrong by centuries
        seconds = 0
    if content is None:
        return _pack(b"", seconds, place, size, _FLAGS[course.state] | own)
    return _pack(content, seconds, place, size, _FLAGS[course.state] | own | _HAS_CONTENT)


def _digest(key: bytes) -> bytes:
    return blake2b(key, digest_size=_KEY_BYTES).digest()
