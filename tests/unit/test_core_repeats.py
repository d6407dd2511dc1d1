"""Changes that repeat an older one (R20): they never replace newer content, and one that cannot be judged is not sent."""

import msgspec
import pytest

from daemon.core import repeats as subject
from daemon.core.control import Pause
from daemon.core.model import Change, Repeats, Status
from daemon.core.repeats import REPEAT_OUTDATED
from tests.unit.core_bench import Bench, failed, settings_with, succeeded


def repeat(bench: Bench, course: str, offset: int, checked: int) -> Change:
    """A change that repeats the one at `offset`, and is read."""
    change = msgspec.structs.replace(bench.change(course), repeats=Repeats(offset, checked))
    bench.read(change)
    return change


def fail(bench: Bench, course: str) -> int:
    """A change of this course that has FAILED. Returns its offset."""
    batch = bench.accepted(course)
    bench.poll_answer(batch, bench.completed(failed(course)))
    offset = batch.items[0].offset
    assert bench.results[offset].status is Status.FAILED
    return offset


def test_a_repeat_is_a_change_like_any_other_if_nothing_newer_was_accepted() -> None:
    bench = Bench()
    offset = fail(bench, "a")
    bench.publish("b")
    again = repeat(bench, "a", offset, bench.published)
    (batch,) = bench.linger()
    assert again.offset in {item.offset for item in batch.items}
    bench.accept(batch)
    bench.poll_answer(batch, bench.completed(succeeded("a"), succeeded("b")))
    assert bench.results[again.offset].status is Status.SUCCEEDED


@pytest.mark.parametrize("newer_ends", ["waits", "open", "ended"])
def test_a_repeat_is_superseded_by_what_was_accepted_since_its_publisher_looked(newer_ends: str) -> None:
    bench = Bench()
    offset = fail(bench, "a")
    checked = bench.published
    if newer_ends == "ended":
        newer = fail(bench, "a")
    else:
        (newer,) = bench.publish("a")
        if newer_ends == "open":
            bench.linger()
    again = repeat(bench, "a", offset, checked)
    bench.linger()
    result = bench.results[again.offset]
    assert (result.status, result.superseded_by, result.attempts) == (Status.SUPERSEDED, newer, 0)
    assert newer not in bench.results or newer_ends == "ended", "the newer one goes on"


def test_a_second_repeat_is_superseded_by_the_first_one() -> None:
    bench = Bench()
    offset = fail(bench, "a")
    checked = bench.published
    first, second = repeat(bench, "a", offset, checked), repeat(bench, "a", offset, checked)
    (batch,) = bench.linger()
    assert [item.offset for item in batch.items] == [first.offset]
    assert bench.results[second.offset].superseded_by == first.offset


def test_a_repeat_that_failed_can_be_repeated() -> None:
    bench = Bench()
    offset = fail(bench, "a")
    first = repeat(bench, "a", offset, bench.published)
    (batch,) = bench.linger()
    bench.accept(batch)
    bench.poll_answer(batch, bench.completed(failed("a")))
    second = repeat(bench, "a", first.offset, bench.published)
    (batch,) = bench.linger()
    assert [item.offset for item in batch.items] == [second.offset]


def test_the_newest_of_several_newer_changes_is_named() -> None:
    bench = Bench()
    offset = fail(bench, "a")
    checked = bench.published
    fail(bench, "a")
    fail(bench, "b")
    newest = fail(bench, "a")
    again = repeat(bench, "a", offset, checked)
    bench.linger()
    assert bench.results[again.offset].superseded_by == newest


def test_other_courses_and_what_was_looked_through_supersede_nothing() -> None:
    bench = Bench()
    offset = fail(bench, "a")
    bench.publish("a", integration_id="hr:2")
    bench.publish("b")
    bench.read(bench.rejection())
    again = repeat(bench, "a", offset, offset + 1)
    bench.linger()
    assert again.offset not in bench.results


def test_after_a_restart_nobody_knows_what_was_accepted_before() -> None:
    bench = Bench()
    offset = fail(bench, "a")
    checked = bench.published
    fail(bench, "b")
    bench.crash()
    again = repeat(bench, "a", offset, checked)
    later = repeat(bench, "a", offset, again.offset)
    bench.linger()
    result = bench.results[again.offset]
    assert result.error is not None
    assert (result.status, result.error.code, result.attempts) == (Status.FAILED, REPEAT_OUTDATED, 0)
    assert "coursesyncd republish" in result.error.message
    assert result.failure_scope is None
    assert later.offset not in bench.results, "a repeat that was not accepted supersedes nothing"


@pytest.mark.parametrize("state", ["waiting", "open", "watched"])
def test_what_is_under_way_is_known_after_a_restart(state: str) -> None:
    bench = Bench(settings_with(task={"timeout": 10.0, "watch_after_timeout": 100.0}))
    offset = fail(bench, "a")
    checked = bench.published
    if state == "waiting":
        bench.decide(Pause("hr:1", True, None, "op", None, 0))
        (newer,) = bench.publish("a")
        bench.linger()
    else:
        batch = bench.accepted("a", "b")
        newer = batch.items[0].offset
        if state == "watched":
            bench.poll_answer(batch, bench.pending(age=11.0))
    bench.crash()
    again = repeat(bench, "a", offset, checked)
    bench.linger()
    assert bench.results[again.offset].superseded_by == newer


def test_a_change_that_is_still_watched_can_be_repeated() -> None:
    bench = Bench(settings_with(task={"timeout": 10.0, "watch_after_timeout": 100.0}))
    batch = bench.accepted("a")
    bench.poll_answer(batch, bench.pending(age=11.0))
    again = repeat(bench, "a", batch.items[0].offset, bench.published)
    assert bench.linger() == [], "its course is busy"
    assert again.offset not in bench.results


def test_the_memory_is_bounded_and_knows_where_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "REACH", 4)
    bench = Bench()
    offset = fail(bench, "a")
    checked = bench.published
    bench.publish(*"bcdefgh")  # with the first one, twice REACH
    too_far, near = repeat(bench, "a", offset, checked), repeat(bench, "a", offset, checked + 3)
    bench.linger()
    result = bench.results[too_far.offset]
    assert result.error is not None
    assert result.error.code == REPEAT_OUTDATED
    assert near.offset not in bench.results
    assert len(bench.shard._admission._accepted._offsets) == 5


def test_a_repeat_without_room_is_rejected_and_supersedes_nothing() -> None:
    bench = Bench(
        settings_with(
            window={"batches_max": 1}, backlog={"courses_max": 1, "on_full": "reject"}, batch={"items_max": 1}
        )
    )
    offset = fail(bench, "a")
    bench.accepted("b")
    bench.publish("c")
    first = repeat(bench, "a", offset, bench.published - 1)
    second = repeat(bench, "a", offset, bench.published - 2)
    bench.linger()
    assert [bench.results[each.offset].status for each in (first, second)] == [Status.REJECTED] * 2
