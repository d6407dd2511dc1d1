"""R6: what restored batches wait for, once, however many owners follow one another."""

from collections.abc import Iterable

import msgspec
import pytest
from msgspec import UNSET, UnsetType

from daemon.core import journal
from daemon.core.batch import Batch
from daemon.core.model import Now
from daemon.core.shard import Shard
from daemon.core.step import BatchCleared
from daemon.core.takeover import FENCINGS_MAX, IN_FLIGHT_MAX, Fencing, Released, Takeover
from tests.unit.core_bench import START, UNANSWERED, Bench, refused, settings_with

WAIT = 45.0
"""`fence.lease` and `http.deadline` together, as they are by default."""


@pytest.fixture
def bench() -> Bench:
    return Bench()


def position(bench: Bench) -> journal.Position:
    """The last one that was committed."""
    _, found = journal.decode(journal.POSITION_KEY, bench.journal_now()[journal.POSITION_KEY])
    assert isinstance(found, journal.Position)
    return found


def fencings(bench: Bench) -> tuple[Fencing, ...]:
    """Those in the last position. It must have some."""
    found = position(bench).fencings
    assert found is not UNSET
    return found


def offset(batch: Batch) -> int:
    """The one of the batch's record, which must be committed."""
    assert batch.offset is not None
    return batch.offset


def cleared(bench: Bench) -> list[str]:
    """The batches that may be sent since the facts were last looked at."""
    facts, bench.facts = bench.facts, []
    return [fact.batch_id for fact in facts if isinstance(fact, BatchCleared)]


def ready(bench: Bench) -> list[str]:
    return [submission.batch_id for submission in bench.shard.submissions()]


def take_over(bench: Bench, after: float = 0.0) -> None:
    """The owner is killed; another one restores `after` seconds later, and commits what it wants to."""
    bench.pass_time(after)
    bench.crash()
    while (step := bench.shard.take_step()) is not None:
        bench.land(step)
    bench.facts = []


def wait(bench: Bench, seconds: float) -> list[str]:
    bench.pass_time(seconds)
    bench.shard.tick(bench.now)
    bench.commit()
    return cleared(bench)


def end(bench: Bench, in_flight: Iterable[str] = ()) -> None:
    """The owner ends in order."""
    bench.shard.hand_over(in_flight)
    bench.commit()


def test_a_batch_that_may_have_been_posted_waits_for_lease_and_deadline(bench: Bench) -> None:
    batch = bench.seal("a")
    take_over(bench)
    assert ready(bench) == []
    assert bench.shard._memory.takeover.due() == pytest.approx(bench.now.mono + WAIT)
    assert wait(bench, WAIT - 0.1) == []
    assert wait(bench, 0.2) == [batch.id]
    assert ready(bench) == [batch.id]


def test_the_time_of_the_restore_counts(bench: Bench) -> None:
    bench.seal("a")
    fold = bench.fold(bench.records)
    bench.shard = Shard.restore(
        3, bench.settings, bench.policies, fold, bench.rng, bench.now, fenced_ago=40.0
    )
    assert bench.shard._memory.takeover.due() == pytest.approx(bench.now.mono + 5.0)


def test_a_batch_with_a_task_waits_for_nobody(bench: Bench) -> None:
    bench.accepted("a")
    take_over(bench)
    assert bench.shard._memory.takeover.due() is None
    assert position(bench).fencings is UNSET


@pytest.mark.parametrize("owners", [2, 5])
def test_owners_that_die_during_the_wait_wait_once_together(bench: Bench, owners: int) -> None:
    batch = bench.seal("a")
    take_over(bench)
    stated = fencings(bench)
    at = bench.broker_ms()
    assert at is not None
    assert stated == (Fencing(offset(batch), offset(batch), at, bench.now.wall),)
    for _ in range(owners - 1):
        take_over(bench, after=WAIT / owners)
        assert position(bench).fencings == stated, "since the first of them"
    assert wait(bench, WAIT / owners - 0.1) == []
    assert wait(bench, 0.2) == [batch.id]
    assert position(bench).fencings is UNSET, "it is POSTed from now on"


def test_nothing_is_left_to_wait_after_a_long_outage(bench: Bench) -> None:
    batch = bench.seal("a")
    take_over(bench)
    take_over(bench, after=300.0)
    assert wait(bench, 0.0) == [batch.id]


def test_an_owner_that_dies_after_the_wait_may_have_posted(bench: Bench) -> None:
    batch = bench.seal("a")
    take_over(bench)
    assert wait(bench, WAIT) == [batch.id]
    take_over(bench)
    assert wait(bench, WAIT - 0.1) == []
    assert wait(bench, 0.2) == [batch.id]


def test_the_commit_that_ends_the_wait_comes_before_the_post(bench: Bench) -> None:
    """Only after it the batch is offered, and a fenced owner cannot make it (R3)."""
    batch = bench.seal("a")
    take_over(bench)
    bench.pass_time(WAIT)
    bench.shard.tick(bench.now)
    step = bench.step()
    assert step.facts == [BatchCleared(batch.id, "hr:1")]
    key, value = step.journal[-1]
    assert key == journal.POSITION_KEY
    assert value is not None
    assert msgspec.json.decode(value).get("fencings") is None


def test_each_batch_has_its_own_time(bench: Bench) -> None:
    """What the second owner has sealed, and perhaps POSTed, waits for the third; the rest has waited already."""
    first = bench.seal("a")
    take_over(bench)
    bench.pass_time(30.0)
    second = bench.seal("b")
    take_over(bench)
    assert [each.first for each in fencings(bench)] == [first.offset, second.offset]
    assert wait(bench, 15.0) == [first.id]
    assert fencings(bench)[0].first == second.offset
    assert wait(bench, 30.0) == [second.id]


@pytest.mark.parametrize(
    ("broker_ms", "host_ms", "left"),
    [
        (20_000, 20_000, 25.0),
        (3_600_000, 20_000, 25.0),  # the leader has moved to a broker whose clock is ahead
        (20_000, 3_600_000, 25.0),  # the next owner's host is ahead
        (-3_600_000, 20_000, 45.0),
        (20_000, -3_600_000, 45.0),
        (3_600_000, 3_600_000, 0.0),
    ],
)
def test_one_clock_that_jumps_does_not_shorten_a_wait(broker_ms: int, host_ms: int, left: float) -> None:
    takeover = Takeover(settings_with())
    assert takeover.load(UNSET, (Fencing(5, 9, 1_000_000, 2_000_000),), {"b": 7}, START.mono)
    takeover.committed(1_000_000 + broker_ms, Now(2_000_000 + host_ms, START.mono))
    assert takeover.due() == pytest.approx(START.mono + left)


def test_without_the_brokers_time_each_owner_waits_anew(bench: Bench) -> None:
    bench.broker_ahead_ms = None
    batch = bench.seal("a")
    take_over(bench)
    assert position(bench).fencings is UNSET
    take_over(bench, after=30.0)
    assert wait(bench, WAIT - 0.1) == []
    assert wait(bench, 0.2) == [batch.id]


# --- owners that end in order ---------------------------------------------------------------------


def test_after_an_end_in_order_nothing_waits(bench: Bench) -> None:
    batch = bench.seal("a")
    end(bench)
    assert position(bench).released == Released()
    take_over(bench)
    assert ready(bench) == [batch.id]
    end(bench)
    take_over(bench)
    assert ready(bench) == [batch.id]


def test_the_first_record_of_the_next_owner_takes_it_back(bench: Bench) -> None:
    batch = bench.seal("a")
    end(bench)
    bench.crash()
    bench.shard.want_position()
    bench.commit()
    assert position(bench).released is UNSET
    take_over(bench)
    assert ready(bench) == [], "the second owner may have POSTed"
    assert wait(bench, WAIT) == [batch.id]


def test_an_owner_that_dies_before_its_first_record_changes_nothing(bench: Bench) -> None:
    batch = bench.seal("a")
    end(bench)
    bench.crash()
    bench.crash()
    assert ready(bench) == [batch.id]


def test_a_post_in_flight_is_named_and_waited_for(bench: Bench) -> None:
    first, second = bench.seal("a"), bench.seal("b")
    end(bench, in_flight=[first.id])
    assert position(bench).released == Released((first.id,))
    take_over(bench)
    assert ready(bench) == [second.id]
    assert position(bench).fencings is UNSET, "of a range in which something is POSTed nothing can be said"
    assert wait(bench, WAIT) == [first.id]


def test_what_is_in_flight_and_answered_meanwhile_is_not_named(bench: Bench) -> None:
    batch = bench.seal("a")
    bench.shard.hand_over([batch.id])
    bench.accept(batch)
    bench.shard.hand_over([])
    bench.commit()
    assert position(bench).released is UNSET, "no batch is left without a task"


def test_an_end_in_order_during_the_wait_does_not_end_the_wait(bench: Bench) -> None:
    batch = bench.seal("a")
    take_over(bench)
    stated = position(bench).fencings
    bench.pass_time(20.0)
    end(bench)
    assert (position(bench).released, position(bench).fencings) == (Released(), stated)
    take_over(bench)
    assert wait(bench, 24.9) == []
    assert wait(bench, 0.2) == [batch.id]


def test_what_an_owner_only_knows_itself_to_wait_for_is_named_as_in_flight(bench: Bench) -> None:
    bench.broker_ahead_ms = None
    batch = bench.seal("a")
    take_over(bench)
    end(bench)
    assert position(bench).released == Released((batch.id,))


def test_an_owner_that_goes_on_takes_back_that_it_has_ended(bench: Bench) -> None:
    bench.seal("a")
    end(bench)
    bench.shard.keep()
    bench.shard.want_position()
    bench.commit()
    assert position(bench).released is UNSET


def test_an_end_is_said_once(bench: Bench) -> None:
    bench.seal("a")
    end(bench)
    bench.shard.hand_over(())
    assert bench.shard.take_step() is None


def test_more_in_flight_than_a_record_may_name() -> None:
    takeover = Takeover(settings_with())
    names = [f"b{number}" for number in range(IN_FLIGHT_MAX + 1)]

    def released(in_flight: list[str]) -> Released | UnsetType:
        takeover.hand_over(in_flight, names)
        return takeover.released

    assert released(names) is UNSET
    assert released(names[1:]) == Released(tuple(sorted(names[1:])))


# --- what cannot be said --------------------------------------------------------------------------


def test_nothing_more_is_said_of_a_range_in_which_a_task_was_lost(bench: Bench) -> None:
    """The batch with the lost task is POSTed at once, and looks like those that wait."""
    first, lost, last = bench.seal("a"), bench.seal("b"), bench.seal("c")
    bench.accept(lost)
    take_over(bench)
    assert [(each.first, each.last) for each in fencings(bench)] == [(first.offset, last.offset)]
    lost = bench.shard._memory.batches[lost.id]
    bench.poll_answer(lost, refused(404))
    assert position(bench).fencings is UNSET
    assert set(ready(bench)) == {lost.id}
    assert wait(bench, WAIT) == [first.id, last.id], "as this owner knows itself"


def test_a_task_that_is_lost_before_the_first_commit() -> None:
    takeover = Takeover(settings_with())
    takeover.load(UNSET, UNSET, {"a": 5, "c": 9}, START.mono)
    takeover.task_lost(7)
    takeover.committed(1, START)
    assert takeover.fencings is UNSET


def test_nothing_is_said_of_a_range_that_overlaps_an_earlier_one() -> None:
    takeover = Takeover(settings_with())
    takeover.load(UNSET, (Fencing(10, 20, 1, 1),), {"a": 5, "b": 15, "c": 25}, START.mono)
    takeover.committed(2, START)
    assert takeover.fencings == (Fencing(10, 20, 1, 1),)


def test_the_number_of_statements_is_bounded() -> None:
    takeover = Takeover(settings_with())
    known = tuple(Fencing(number, number, 1, 1) for number in range(FENCINGS_MAX))
    batches = {f"b{number}": number for number in range(FENCINGS_MAX + 1)}
    takeover.load(UNSET, known, batches, START.mono)
    takeover.committed(2, START)
    assert takeover.fencings == known


def test_a_post_of_unknown_fate_is_no_reason_to_wait_for_its_own_owner(bench: Bench) -> None:
    batch = bench.seal("a")
    bench.submit_answer(batch, UNANSWERED)
    assert ready(bench) == [batch.id]
