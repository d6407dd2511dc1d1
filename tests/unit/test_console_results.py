"""What the console keeps of the results, and how it finds records by ids."""

from __future__ import annotations

import pytest

from daemon.console.records import Location, RecordIndex
from daemon.console.results import ERRORS_KEPT, INTEGRATIONS_MAX, KEPT_MINUTES, Results
from daemon.core.model import Correction, Error, Status
from tests.unit.console_world import World, result

MINUTE = 60_000
NOW = 1_790_000_000_000


def test_the_last_records_are_found_newest_first_and_older_ones_are_dropped() -> None:
    index = RecordIndex(("course", "task"), 4)
    for offset in range(7):
        index.add(Location(offset % 2, offset), ("c" if offset != 4 else "d", f"t{offset}"))
    assert index.find("course", "c", 10) == [(0, 6), (1, 5), (1, 3)]
    assert index.find("course", "c", 1) == [(0, 6)]
    assert index.find("task", "t4", 10) == [(0, 4)]
    assert index.find("task", "t2", 10) == []
    assert len(index) == 4


def test_what_has_no_id_is_never_found() -> None:
    index = RecordIndex(("course",), 10)
    index.add(Location(0, 1), (None,))
    assert index.find("course", None, 10) == []
    assert index.find("course", "x", 10) == []


def test_large_offsets_and_partitions_are_kept() -> None:
    index = RecordIndex(("course",), 10)
    far = Location(9_999, 2**47)
    index.add(far, ("c",))
    assert index.find("course", "c", 1) == [far]


def test_results_are_counted_by_the_minute_and_corrections_are_not() -> None:
    world = World()
    late = result(3, "tool:1", "c", Status.SUCCEEDED, NOW)
    world.results(
        result(1, "tool:1", "a", Status.SUCCEEDED, NOW),
        result(2, "tool:1", "b", Status.FAILED, NOW + MINUTE, error=Error("X", "no")),
        Correction(late),
    )
    minutes = world.model.results.minutes
    assert minutes[NOW // MINUTE] == {Status.SUCCEEDED: 1}
    assert minutes[NOW // MINUTE + 1] == {Status.FAILED: 1}
    assert len(world.model.results.index) == 3


def test_minutes_are_kept_for_a_day() -> None:
    world = World()
    for number in range(KEPT_MINUTES + 10):
        world.results(result(number, "tool:1", "a", Status.SUCCEEDED, NOW + number * MINUTE))
    world.results(result(1, "tool:1", "a", Status.SUCCEEDED, NOW))  # another partition is behind
    minutes = world.model.results.minutes
    assert len(minutes) == KEPT_MINUTES
    assert min(minutes) == NOW // MINUTE + 10


def test_the_last_errors_of_an_integration_are_kept() -> None:
    world = World()
    for number in range(ERRORS_KEPT + 3):
        world.results(
            result(number, "tool:1", "a", Status.FAILED, NOW + number, error=Error("X", f"no {number}"))
        )
    world.results(result(99, "tool:1", "a", Status.SUCCEEDED, NOW + 500))
    last = world.model.results.integrations["tool:1"]
    assert [each.message for each in last.errors] == [f"no {number}" for number in range(3, ERRORS_KEPT + 3)]
    assert last.last_at == NOW + 500


def test_what_the_api_refuses_is_counted_until_it_takes_something() -> None:
    world = World()

    def then(status: Status, code: str | None = None) -> int:
        error = None if code is None else Error(code, "")
        world.results(result(1, "tool:1", "a", status, NOW, error=error))
        return world.model.results.integrations["tool:1"].failed_in_a_row

    assert then(Status.FAILED, "INTEGRATION.PERMISSION_MISSING") == 1
    assert then(Status.FAILED, "REMOTE.INPUT_INVALID") == 2
    assert then(Status.FAILED, "COURSESYNC.GIVEN_UP") == 2, "an operator has ended it"
    assert then(Status.REJECTED, "COURSESYNC.RECORD_INVALID") == 2, "the publisher has to correct it"
    assert then(Status.UNCHANGED) == 2, "nothing was sent"
    assert then(Status.SUCCEEDED) == 0


@pytest.mark.parametrize("value", [None, b"", b"{}", b"\xff", b"[" * 5000])
def test_what_is_not_a_result_is_counted_and_left_out(value: bytes | None) -> None:
    results = Results()
    results.apply(Location(0, 0), value)
    assert results.not_results == 1
    assert len(results.index) == 0


def test_a_result_with_a_time_that_is_none_is_left_out() -> None:
    world = World()
    world.results(result(1, "tool:1", "a", Status.SUCCEEDED, NOW))
    (record,) = world.log[world.model.topics.results, 0]
    assert record.value is not None
    results = Results()
    results.apply(Location(0, 0), record.value.replace(b"2026-", b"abcd-"))
    assert results.not_results == 1


def test_integrations_are_bounded_and_the_one_without_news_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert INTEGRATIONS_MAX > 10_000
    monkeypatch.setattr("daemon.console.results.INTEGRATIONS_MAX", 2)
    world = World()
    for name in ("a", "b", "a", "c"):
        world.results(result(1, name, "x", Status.SUCCEEDED, NOW))
    assert list(world.model.results.integrations) == ["a", "c"]
