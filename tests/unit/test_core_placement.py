"""Where publishers' clients put a key, and which records are elsewhere."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2 as their_murmur2

from daemon.config import InputSettings, Settings
from daemon.core.placement import PARTITIONERS, Misplacement, misplaced, place

KEYS = st.binary(max_size=80)


@given(KEYS)
def test_murmur2_is_that_of_the_client(key: bytes) -> None:
    assert place(key, 2**31) == their_murmur2(key) & 0x7FFFFFFF


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_that_of_java(key: bytes, value: int) -> None:
    """The values of Kafka's own test, `UtilsTest.testMurmur2`."""
    assert place(key, 12) == (value & 0x7FFFFFFF) % 12


def test_crc32_is_that_of_librdkafka() -> None:
    assert place(b"123456789", 12, "crc32") == 0xCBF43926 % 12  # the check value of CRC-32


@given(KEYS, st.integers(2, 50), st.sampled_from(PARTITIONERS))
def test_a_record_where_its_key_belongs_is_not_misplaced(
    key: bytes, partitions: int, partitioner: str
) -> None:
    where = place(key, partitions, partitioner)
    unplaced = partitioner == "crc32" and key == b""
    assert bool(misplaced([(7, key)], where, partitions, partitioner)) is unplaced
    (found,) = misplaced([(7, key)], (where + 1) % partitions, partitions, partitioner)
    assert found == (7, None if unplaced else where)


def test_each_has_its_reason() -> None:
    key = b"tool:1"
    where = place(key, 5)
    found = misplaced([(1, key), (2, None), (3, key)], (where + 1) % 5, 5, "murmur2")
    assert [each.offset for each in found] == [1, 2, 3]
    assert [each.reason for each in found] == [
        Misplacement.OTHER_PARTITION,
        Misplacement.NO_KEY,
        Misplacement.OTHER_PARTITION,
    ]


def test_nothing_is_misplaced_in_one_partition_or_where_any_is_right() -> None:
    assert misplaced([(1, b"a"), (2, None)], 0, 1, "murmur2") == []
    assert misplaced([(1, b"a"), (2, None)], 3, 9, "any") == []


def test_the_setting_has_these_partitioners() -> None:
    assert Settings().input.partitioner in PARTITIONERS
    column = InputSettings.__dataclass_fields__["partitioner"].metadata["setting"]
    assert column.choices == (*PARTITIONERS, "any")
