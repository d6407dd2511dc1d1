"""The oldest of many, against a list; and what a shard says of what waits, and why."""

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from daemon.core.ages import Ages
from daemon.core.waiting import WaitReason, Waits
from tests.unit.core_bench import START, Bench, refused, settings_with

SETUP_PENDING = refused(409, "INTEGRATION.SETUP_SYNC_PENDING")
BUSY = refused(503)
ONE_EACH = settings_with(batch={"items_max": 1}, window={"batches_max": 1})


class AgesMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.ages = Ages()
        self.model: list[int] = []

    @rule(consumed_at=st.integers(0, 9_999))
    def join(self, consumed_at: int) -> None:
        self.ages.joined(consumed_at)
        self.model.append(consumed_at)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        consumed_at = data.draw(st.sampled_from(self.model))
        self.ages.left(consumed_at)
        self.model.remove(consumed_at)

    @invariant()
    def the_oldest_is_known_to_the_second(self) -> None:
        assert self.ages.oldest == (min(self.model) // 1000 * 1000 if self.model else None)
        assert len(self.ages) == len(self.model)


AgesMachine.TestCase.settings = hypothesis_settings(max_examples=100, deadline=None, derandomize=True)
TestAgesAgainstAList = AgesMachine.TestCase


def after(seconds: int) -> int:
    """So many seconds after the start, to the second, as the figures tell it."""
    return (START.wall + round(seconds * 1000)) // 1000 * 1000


def told(bench: Bench) -> dict[WaitReason, Waits]:
    return {reason: waits for reason, waits in bench.shard.waits().items() if waits.changes}


def test_what_waits_is_told_by_reason_with_the_oldest_of_each() -> None:
    bench = Bench(ONE_EACH)
    bench.publish("a")
    bench.linger()
    bench.pass_time(9)  # 10 s after the start
    bench.publish("a", "b", "c")
    bench.linger()
    bench.pass_time(9)
    bench.publish("a", "d")
    bench.linger()
    assert told(bench) == {
        "course_busy": (1, after(20)),  # the newest of its course
        "window": (3, after(10)),
    }


def test_a_back_off_keeps_the_age_of_its_change() -> None:
    bench = Bench(ONE_EACH)
    batch = bench.accepted("a")
    bench.pass_time(300)
    bench.poll_answer(batch, bench.task_failed("REMOTE.SERVICE_UNAVAILABLE"))
    assert told(bench) == {"backoff": (1, after(0))}
    bench.pass_time(120)
    bench.shard.tick(bench.now)
    bench.linger()
    assert told(bench) == {}


def test_all_of_a_parked_integration_waits_for_its_customer_its_refused_submission_too() -> None:
    bench = Bench(ONE_EACH)
    batch = bench.seal("a")
    bench.pass_time(60)
    bench.seal("well", integration_id="hr:2")
    bench.publish("well", integration_id="hr:2")
    bench.publish("a", "b")
    bench.linger()
    assert told(bench) == {"course_busy": (2, after(62)), "window": (1, after(62))}

    bench.submit_answer(batch, SETUP_PENDING)

    assert told(bench) == {"course_busy": (1, after(62)), "parked": (3, after(0))}


def test_a_passing_trouble_parks_nobody_and_ends_no_parking() -> None:
    bench = Bench(ONE_EACH)
    batch = bench.seal("a")
    bench.submit_answer(batch, BUSY)
    assert told(bench) == {"refused": (1, after(0))}
    bench.submit_answer(batch, SETUP_PENDING)
    bench.submit_answer(batch, BUSY)
    assert told(bench) == {"parked": (1, after(0))}


def test_what_is_accepted_was_not_parked_any_more() -> None:
    bench = Bench(ONE_EACH)
    batch = bench.seal("a")
    bench.submit_answer(batch, SETUP_PENDING)
    bench.publish("a", "b")
    bench.linger()
    bench.accept(batch)
    assert told(bench) == {"course_busy": (1, after(1)), "window": (1, after(1))}


def test_a_task_that_failed_for_its_customer_parks_too_and_the_next_owner_knows() -> None:
    bench = Bench(ONE_EACH)
    batch = bench.accepted("a")
    bench.publish("b")
    bench.poll_answer(batch, bench.task_failed("INTEGRATION.PERMISSION_MISSING"))
    assert told(bench) == {"parked": (1, after(0))}
    bench.linger()
    bench.pass_time(600)
    bench.crash()
    assert told(bench) == {"parked": (2, after(0))}


def test_a_newer_version_is_younger() -> None:
    bench = Bench(ONE_EACH)
    bench.seal("busy")
    bench.publish("a", "b")
    bench.linger()
    assert told(bench) == {"window": (2, after(1))}
    bench.pass_time(60)
    bench.publish("a", "b")
    bench.linger()
    assert told(bench) == {"window": (2, after(62))}


def test_a_restored_backlog_has_its_ages() -> None:
    bench = Bench(ONE_EACH)
    bench.seal("a")
    bench.publish("a", "b")
    bench.linger()
    before = told(bench)
    bench.pass_time(3600)
    bench.crash()
    assert told(bench) == before == {"course_busy": (1, after(1)), "window": (1, after(1))}
