"""Reading stops when too many records in a row are rejected, and what lets it continue."""

from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType

from daemon.config import InputSettings
from daemon.core import journal
from daemon.core.journal import Rejections
from daemon.core.model import Change, Error, Rejection, RejectReason
from daemon.core.rejection_limit import Entry, RejectionLimit, Stop
from daemon.core.upsert import UPSERT
from tests.unit.core_bench import Bench, settings_with


def bench(rejected_max: int = 3, ratio: float = 0.5, **groups: Mapping[str, Any]) -> Bench:
    limits = {"rejected_max": rejected_max, "rejected_ratio_max": ratio}
    return Bench(settings_with(input=limits, **groups))


def read(bench: Bench, kinds: str) -> None:
    """`.` is a valid change, `x` a record that is rejected."""
    bench.read(*(bench.change(f"c{n}") if kind == "." else bench.rejection() for n, kind in enumerate(kinds)))
    bench.linger()


def read_again(bench: Bench, kinds: str) -> None:
    """What a new owner reads: the input from the restored position on."""
    bench.published = bench.shard.next_read
    read(bench, kinds)


def entries(kinds: str, first: int = 0) -> list[Entry]:
    error = Error("COURSESYNC.RECORD_INVALID", "it is invalid")
    return [
        Change(UPSERT, first + n, "chg", "i", "c", b"{}", 0, b"k", b"{}", ())
        if kind == "."
        else Rejection(first + n, RejectReason.SCHEMA, error, None, None, None, 0, b"k", b"{}", ())
        for n, kind in enumerate(kinds)
    ]


def limit(rejected_max: int, ratio: float, journalled: Rejections | UnsetType = UNSET) -> RejectionLimit:
    return RejectionLimit(InputSettings(rejected_max=rejected_max, rejected_ratio_max=ratio), journalled)


def test_reading_stops_before_the_rejection_that_exceeds_the_limit() -> None:
    b = bench()
    read(b, "..xxxx..")
    assert sorted(b.results) == [2, 3, 4]
    assert b.shard.next_read == 5
    assert b.shard.rejection_limit.stop == Stop(
        5, "COURSESYNC.RECORD_NOT_JSON", since=2, records=3, rejected=3
    )
    assert len(b.rejections) == 3


def test_records_behind_the_stop_are_not_read_however_they_arrive() -> None:
    b = bench()
    read(b, "xxxx")
    b.published = 4
    read(b, "....")
    assert b.shard.next_read == 3
    assert b.shard.count_held() == 0


def test_valid_records_reset_the_count_when_the_ratio_is_reached() -> None:
    b = bench()
    for _ in range(20):
        read(b, "xx..")
    assert b.shard.rejection_limit.stop is None
    assert len(b.rejections) == 40
    read(b, "xxx..x")
    assert b.shard.rejection_limit.stop == Stop(
        85, "COURSESYNC.RECORD_NOT_JSON", since=80, records=5, rejected=3
    )


def test_the_count_is_restored() -> None:
    """A process that is restarted after each record rejects no more than one that runs on."""
    b = bench()
    for _ in range(10):
        read_again(b, "x")
        b.crash()
    assert sorted(b.results) == [0, 1, 2]


def test_a_stopped_partition_rejects_nothing_however_often_it_is_restarted() -> None:
    b = bench()
    read(b, "xxxx")
    for _ in range(5):
        b.crash()
        read_again(b, "x.x")
        stop = b.shard.rejection_limit.stop
        assert stop is not None
        assert stop.offset == 3
    assert sorted(b.results) == [0, 1, 2]


def test_a_version_that_can_read_the_record_continues_and_counts_anew() -> None:
    b = bench()
    read(b, "xxxx")
    b.crash()
    read_again(b, ".xx")
    assert b.shard.rejection_limit.stop is None
    assert b.shard.next_read == 6


def test_a_raised_setting_continues() -> None:
    b = bench()
    read(b, "xxxx")
    b.settings = settings_with(input={"rejected_max": 5})
    b.crash()
    read_again(b, "xxx")
    assert b.shard.next_read == 5
    assert b.shard.rejection_limit.stop == Stop(
        5, "COURSESYNC.RECORD_NOT_JSON", since=0, records=5, rejected=5
    )


def test_a_ratio_of_one_never_stops() -> None:
    b = bench(1, 1.0)
    read(b, "x" * 50)
    assert len(b.results) == 50
    assert b.shard.rejection_limit.stop is None


def test_a_full_backlog_does_not_stop_reading() -> None:
    b = bench(2, 0.0, backlog={"courses_max": 1, "on_full": "reject"}, window={"batches_max": 1})
    read(b, ".")
    for _ in range(10):
        read(b, "...")
    assert sum(result.status == "REJECTED" for result in b.results.values()) > 2
    assert b.shard.rejection_limit.stop is None


def test_the_position_record_has_counts_only_during_a_stretch() -> None:
    b = bench(5)
    position = journal.POSITION_KEY
    read(b, "..")
    assert b"rejections" not in b.journal_now()[position]
    read(b, "xx")
    assert b'"rejections":{"since":2,"records":2,"rejected":2}' in b.journal_now()[position]
    read(b, "..")
    assert b"rejections" not in b.journal_now()[position]


KINDS = st.text(alphabet=".x", max_size=40)
RATIOS = st.sampled_from([0.0, 0.1, 0.5, 0.9])


@given(KINDS, st.integers(1, 6), RATIOS, st.integers(1, 7))
def test_it_stops_where_the_definition_says_however_the_records_arrive(
    kinds: str, most: int, ratio: float, size: int
) -> None:
    """The definition: some stretch that ends right before a rejection has `most` rejections, and each of its prefixes
    exceeds the ratio.
    """
    expected = None
    for end, kind in enumerate(kinds):
        for start in range(end):
            shares = [
                kinds[start:upto].count("x") > ratio * (upto - start) for upto in range(start + 1, end + 1)
            ]
            if kind == "x" and all(shares) and kinds[start:end].count("x") >= most and expected is None:
                expected = end
    one = limit(most, ratio)
    taken = 0
    for first in range(0, len(kinds), size):
        taken += len(one.readable(entries(kinds[first : first + size], first)))
        if one.stop is None:
            one = limit(most, ratio, one.record)  # a restart between any two of them
    assert (None if one.stop is None else one.stop.offset) == expected
    assert taken == (len(kinds) if expected is None else expected)
