"""What a shard holds back: collapse per course, back-off, the ready queue; against a plain model."""

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from daemon.config import Settings
from daemon.core.backlog import Backlog
from daemon.core.lane import ITEM_OVERHEAD, Held
from daemon.core.model import Item
from daemon.core.upsert import UPSERT
from daemon.core.waiting import Waiting
from tests.unit.core_bench import Bench, settings_with

INTEGRATIONS = st.sampled_from(["i", "j"])
COURSES = st.sampled_from(["a", "b", "c", "d"])
ITEMS_MAX = 3


class WaitingMachine(RuleBasedStateMachine):
    """The model is one dictionary of what waits, and one list of what is ready, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = Waiting(Backlog(Settings().backlog), lambda _integration_id: False)
        self.offset = 0
        self.now = 0.0
        self.held: dict[tuple[str, str], Held] = {}
        self.ready: dict[str, list[str]] = {"i": [], "j": []}
        """Those that are bulk and those that are not, in one list."""
        self.due: dict[tuple[str, str], float] = {}
        self.busy: set[tuple[str, str]] = set()

    @rule(
        integration=INTEGRATIONS,
        course=COURSES,
        size=st.integers(1, 300),
        delay=st.none() | st.integers(0, 9),
        bulk=st.booleans(),
    )
    def hold(self, integration: str, course: str, size: int, delay: float | None, *, bulk: bool) -> None:
        key = (integration, course)
        if key in self.held or key in self.busy:
            delay = None  # only what has just failed backs off, and then nothing newer waits
        self.offset += 1
        item = Item(course, self.offset, "chg", 0, 0, 0)
        before = self.held.get(key)
        held = Held(UPSERT, item, b"x" * size, bulk=bulk)
        due = None if delay is None else self.now + delay
        old = self.waiting.hold(self.waiting.lane(integration), held, due)
        assert old is self.held.get(key), "the one that is replaced is told, so that it can be ended"
        assert held.bulk is (bulk and (before is None or before.bulk))
        self.held[key] = held
        self.due.pop(key, None)
        if due is not None:
            self.due[key] = due
        elif key not in self.busy:
            if before is not None and before.bulk and not held.bulk and course in self.ready[integration]:
                self.ready[integration].remove(course)  # it joins the other queue at its end
            if course not in self.ready[integration]:
                self.ready[integration].append(course)

    @rule(seconds=st.integers(0, 5))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        over = sorted(
            (due, self.held[key].item.offset, key) for key, due in self.due.items() if due <= self.now
        )
        assert self.waiting.release(self.now) is bool(over)
        for _, _, key in over:
            del self.due[key]
            self.ready[key[0]].append(key[1])

    @precondition(lambda self: any(self.ready.values()))
    @rule(
        integration=INTEGRATIONS,
        items_max=st.integers(1, 4),
        bytes_max=st.integers(1, 1500),
        bulk=st.booleans(),
    )
    def take(self, integration: str, items_max: int, bytes_max: int, *, bulk: bool) -> None:
        queue = [each for each in self.ready[integration] if self.held[integration, each].bulk is bulk]
        lane = self.waiting.lane(integration)
        taken = self.waiting.take(lane, lane.bulk if bulk else lane.normal, items_max, bytes_max)
        expected = queue[: len(taken)]
        assert [held.item.origin_id for held in taken] == expected
        assert taken == [self.held[integration, course] for course in expected]
        sizes = [self.held[integration, course].size() for course in queue]
        total = sum(sizes[: len(taken)])
        assert len(taken) <= items_max
        assert total <= bytes_max or len(taken) == 1
        if len(taken) < min(items_max, len(queue)):
            assert total + sizes[len(taken)] > bytes_max
            assert taken
        for course in expected:
            self.ready[integration].remove(course)
            del self.held[integration, course]
            self.busy.add((integration, course))
            self.waiting.lane(integration).busy[course] = "batch"

    @precondition(lambda self: self.busy)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        integration, course = data.draw(st.sampled_from(sorted(self.busy)))
        self.busy.remove((integration, course))
        del self.waiting.lanes[integration].busy[course]
        self.waiting.free(integration, course)
        self.waiting.drop_if_idle(integration)
        if (integration, course) in self.held:
            self.ready[integration].append(course)

    @rule(integration=INTEGRATIONS)
    def drop_if_idle(self, integration: str) -> None:
        self.waiting.drop_if_idle(integration)

    @invariant()
    def counts_are_those_of_the_model(self) -> None:
        assert self.waiting.backlog.courses == len(self.held)
        assert set(self.waiting.backoff) == set(self.due)
        for name, queue in self.ready.items():
            lane = self.waiting.lanes.get(name)
            if lane is None:
                assert not queue
                assert not any(key[0] == name for key in [*self.held, *self.busy])
                continue
            assert lane.ready_count == len(queue)
            for ready in (lane.normal, lane.bulk):
                of_it = [lane.held[course] for course in queue if lane.held[course].bulk is ready.bulk]
                assert (ready.count, ready.bytes) == (len(of_it), sum(held.size() for held in of_it))
            assert lane.held == {course: held for (other, course), held in self.held.items() if other == name}
            assert {course for course, held in lane.held.items() if held.ready} == set(queue)


WaitingMachine.TestCase.settings = hypothesis_settings(
    max_examples=100, stateful_step_count=40, deadline=None, derandomize=True
)
TestWaitingAgainstModel = WaitingMachine.TestCase


def test_the_bytes_that_sources_take_count_too() -> None:
    """R7: a batch record holds ids and numbers beside the bodies."""
    held = Held(UPSERT, Item("origin", 5, "change", 0, 0, 0), b"x" * 100)
    assert held.size() == 100 + len("origin") + len("change") + ITEM_OVERHEAD


def test_a_batch_record_is_little_larger_than_the_limit_on_batches() -> None:
    """R7: 2 MiB is what the journal takes, the limit may be half of it."""
    bench = Bench(settings_with(batch={"bytes_max": 64 * 1024, "items_max": 1000}))
    bench.read(
        *[
            bench.change(f"course-{n}-" + "é" * 50, body=b'{"x":"' + b"y" * (n % 700) + b'"}')
            for n in range(900)
        ]
    )
    batches = bench.linger()
    assert len(batches) > 1
    for batch in batches:
        _, key, value = bench.record(batch)
        assert value is not None
        assert len(key) + len(value) <= 1.5 * 64 * 1024


def test_forgotten_integrations_leave_nothing_behind() -> None:
    bench = Bench()
    for number in range(50):
        batch = bench.accepted("a", integration_id=f"hr:{number}")
        bench.poll_answer(batch, bench.task_failed("LMS.COURSE_ARCHIVED"))
    assert bench.shard._memory.waiting.lanes == {}
    assert bench.shard.waiting == 0


def test_a_lane_with_only_a_back_off_in_it_is_not_forgotten() -> None:
    bench = Bench()
    batch = bench.accepted("a")
    bench.poll_answer(batch, bench.task_failed("REMOTE.SERVICE_UNAVAILABLE"))
    assert bench.waiting() == {"backoff": 1}
    bench.pass_time(120)
    bench.shard.tick(bench.now)
    (batch,) = bench.linger()
    assert [item.offset for item in batch.items] == [0]
