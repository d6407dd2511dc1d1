"""Which request may go out next: limits, fairness and isolation, by example and against a model."""

import random

import pytest
from core_bench import settings_with
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from daemon.core.flow import Flow
from daemon.core.model import Error
from daemon.core.verdict import Verdict

HALT = Error("PLATFORM.AUTHENTICATION_INVALID", "the key is wrong")


def flow_with(**groups):
    return Flow(settings_with(**groups), random.Random(7))


def take_all(flow, now=0.0):
    taken = []
    while (each := flow.next_submission(now)) is not None:
        taken.append(each)
    return taken


def offer(flow, integration_id, count):
    for number in range(count):
        flow.offer(integration_id, f"{integration_id}{number}")


# --- limits ---------------------------------------------------------------------------------------


def test_integrations_are_served_in_turn():
    flow = flow_with()
    offer(flow, "a", 3)
    offer(flow, "b", 1)
    offer(flow, "c", 2)
    assert [ref for _, ref in take_all(flow)] == ["a0", "b0", "c0", "a1", "c1", "a2"]


def test_one_integration_has_no_more_in_flight_than_its_window():
    flow = flow_with(window={"batches_max": 2})
    offer(flow, "a", 3)
    assert len(take_all(flow)) == 2
    flow.submission_done("a", None, 0.0)
    assert len(take_all(flow)) == 1


def test_a_flood_of_submissions_leaves_the_polls_their_share():
    flow = flow_with(http={"in_flight_max": 8, "poll_share": 0.25})
    for number in range(20):
        flow.offer(f"i{number}", number)
    assert len(take_all(flow)) == 6
    assert [flow.may_poll(0.0) for _ in range(3)] == [True, True, False]


def test_polls_and_submissions_together_stay_within_the_limit():
    """Polls took all places and submissions their share on top."""
    flow = flow_with(http={"in_flight_max": 8, "poll_share": 0.25})
    assert sum(flow.may_poll(0.0) for _ in range(20)) == 8
    offer(flow, "a", 1)
    assert take_all(flow) == []
    flow.poll_done()
    assert len(take_all(flow)) == 1
    assert flow.in_flight == 8


def test_a_flood_of_polls_gives_the_submissions_places_back():
    flow = flow_with(http={"in_flight_max": 8, "poll_share": 0.25})
    assert sum(flow.may_poll(0.0) for _ in range(8)) == 8
    for number in range(20):
        flow.offer(f"i{number}", number)
    for _ in range(8):
        flow.poll_done()
        flow.may_poll(0.0)
        flow.next_submission(0.0)
    assert flow.in_flight == 8
    assert len(take_all(flow)) == 0
    flow.submission_done("i0", None, 0.0)
    assert not flow.may_poll(0.0)
    assert len(take_all(flow)) == 1


# --- standing back --------------------------------------------------------------------------------


def test_a_refused_integration_delays_no_other():
    flow = flow_with()
    offer(flow, "a", 2)
    offer(flow, "b", 2)
    flow.next_submission(0.0)
    until = flow.submission_done("a", Verdict.RETRY, 0.0, retry_after=9.0)
    assert until >= 9.0
    assert [integration for integration, _ in take_all(flow)] == ["b", "b"]
    assert flow.due(0.0) == until
    assert [integration for integration, _ in take_all(flow, until)] == ["a"]


def probes(flow, verdict, count):
    """How long the integration stands back each time its only submission is refused."""
    now, waits = 0.0, []
    flow.offer("a", "x")
    for _ in range(count):
        assert flow.next_submission(now) == ("a", "x")
        until = flow.submission_done("a", verdict, now)
        flow.offer("a", "x", until)
        waits.append(until - now)
        now = until
    return waits


def test_a_parked_integration_is_probed_ever_more_slowly():
    waits = probes(flow_with(), Verdict.PARK, 8)
    expected = [60, 120, 240, 480, 960, 1800, 1800, 1800]
    assert waits == [pytest.approx(each, rel=0.11) for each in expected]


def test_back_off_has_full_jitter_below_a_growing_bound():
    waits = [probes(Flow(settings_with(), random.Random(seed)), Verdict.RETRY, 8) for seed in range(200)]
    for attempt, bound in enumerate([1, 2, 4, 8, 16, 32, 60, 60]):
        drawn = [each[attempt] for each in waits]
        assert max(drawn) <= bound
        assert max(drawn) > bound * 0.9
        assert min(drawn) < bound * 0.1


def test_answers_to_requests_that_were_under_way_together_count_once():
    """Eight batches refused by one hiccup parked their integration for half an hour."""
    flow = flow_with()
    offer(flow, "a", 8)
    take_all(flow)
    until = max(flow.submission_done("a", Verdict.PARK, 0.0) for _ in range(8))
    assert until < 67
    flow.offer("a", "probe")
    assert len(take_all(flow, until)) == 1
    assert flow.submission_done("a", Verdict.PARK, until) - until == pytest.approx(120, rel=0.11)


def test_a_wait_that_the_server_asked_for_is_not_shortened_by_another_answer():
    flow = flow_with()
    offer(flow, "a", 2)
    take_all(flow)
    assert flow.submission_done("a", Verdict.RETRY, 0.0, retry_after=300.0) == 300.0
    assert flow.submission_done("a", Verdict.RETRY, 1.0) == 300.0
    flow.offer("a", "x")
    assert take_all(flow, 299.0) == []


def test_parking_begins_slowly_whatever_went_before():
    flow = flow_with()
    probes(flow, Verdict.RETRY, 6)
    assert len(take_all(flow, 1000.0)) == 1
    assert flow.submission_done("a", Verdict.PARK, 1000.0) - 1000.0 < 67


def test_one_success_lets_all_go_again():
    flow = flow_with()
    offer(flow, "a", 6)
    take_all(flow)
    for _ in range(6):
        until = flow.submission_done("a", Verdict.RETRY, 0.0)
    offer(flow, "a", 6)
    assert len(take_all(flow, until)) == 1
    flow.submission_done("a", None, until)
    assert len(take_all(flow, until)) == 5


def test_what_ended_a_batch_by_its_content_shows_the_integration_well():
    for verdict in (Verdict.SPLIT, Verdict.FAIL):
        flow = flow_with()
        flow.park("a", 0.0)
        offer(flow, "a", 3)
        assert len(take_all(flow, 100.0)) == 1
        flow.submission_done("a", verdict, 100.0)
        assert len(take_all(flow, 100.0)) == 2


def test_a_delay_of_its_own_holds_back_one_submission_alone():
    flow = flow_with()
    flow.offer("a", "late", 45.0)
    flow.offer("a", "now")
    assert take_all(flow) == [("a", "now")]
    assert flow.due(0.0) == 45.0
    assert take_all(flow, 45.0) == [("a", "late")]


# --- forgetting -----------------------------------------------------------------------------------


def test_an_integration_that_left_with_its_partition_is_forgotten_when_it_has_sat_out_its_time():
    """It stayed for ever, and in the figures as parked."""
    flow = flow_with()
    offer(flow, "a", 2)
    flow.next_submission(0.0)
    until = flow.submission_done("a", Verdict.PARK, 0.0)
    flow.offer("a", "a0", until)
    flow.drop(lambda _ref: False)
    assert flow.states()["parked"] == 1
    assert flow.next_submission(until) is None
    assert flow.states() == {"healthy": 0, "throttled": 0, "parked": 0}
    assert flow.queued == 0
    assert flow._integrations == {}


def test_a_back_off_is_not_forgotten_while_a_submission_waits_for_its_own_time():
    flow = flow_with()
    offer(flow, "a", 1)
    flow.next_submission(0.0)
    flow.submission_done("a", Verdict.PARK, 0.0)
    flow.offer("a", "a0", 500.0)
    assert flow.next_submission(200.0) is None
    assert flow.states()["parked"] == 1


def test_dropping_keeps_what_is_to_be_kept():
    flow = flow_with()
    for number in range(4):
        flow.offer("a", number, None if number % 2 else 10.0)
    flow.drop(lambda ref: ref < 2)
    assert flow.queued == 2
    assert take_all(flow, 10.0) == [("a", 1), ("a", 0)]


# --- the whole process ----------------------------------------------------------------------------


def test_halted_lets_exactly_one_probe_go_at_a_time():
    flow = flow_with()
    for number in range(5):
        flow.offer(f"i{number}", number)
    flow.halt(HALT, 0.0)
    assert take_all(flow) == []
    assert not flow.may_poll(59.0)
    assert flow.due(0.0) == flow.probe_due(0.0) == 60.0
    assert len(take_all(flow, 60.0)) == 1
    assert not flow.may_poll(60.0)
    flow.submission_done("i0", Verdict.HALT, 61.0)
    assert take_all(flow, 61.0) == []
    assert not flow.may_poll(61.0)
    assert flow.may_poll(120.0)
    assert take_all(flow, 120.0) == []


def test_a_probe_that_can_not_be_sent_is_not_spent():
    flow = flow_with()
    flow.halt(HALT, 0.0)
    assert flow.next_submission(60.0) is None
    assert flow.may_poll(60.0)


def test_a_halted_process_does_not_wait_for_a_time_that_has_passed():
    flow = flow_with()
    assert flow.may_poll(0.0)
    flow.halt(HALT, 0.0)
    assert flow.next_submission(90.0) is None
    assert flow.due(90.0) is None


def test_resumed_everything_goes():
    flow = flow_with()
    offer(flow, "a", 3)
    flow.halt(HALT, 0.0)
    assert flow.halted == HALT
    flow.resume()
    assert len(take_all(flow)) == 3


# --- against a model ------------------------------------------------------------------------------

INTEGRATIONS = ["a", "b", "c", "d"]
WINDOW, IN_FLIGHT, SUBMISSIONS, PROBE = 3, 6, 4, 60.0
VERDICTS = st.sampled_from([None, Verdict.RETRY, Verdict.PARK, Verdict.SPLIT, Verdict.FAIL, Verdict.HALT])


class Modelled:
    def __init__(self):
        self.queue = []
        self.delayed = []
        self.in_flight = []
        self.blocked_until = None
        self.probing = False
        self.turns_waited = 0


class FlowMachine(RuleBasedStateMachine):
    """What may go, and in which order, said once more in the plainest way."""

    def __init__(self):
        super().__init__()
        self.flow = flow_with(
            window={"batches_max": WINDOW}, http={"in_flight_max": IN_FLIGHT, "poll_share": 0.3}
        )
        self.now = 0.0
        self.refs = 0
        self.delays = 0
        self.polls = 0
        self.model = {name: Modelled() for name in INTEGRATIONS}
        self.halted = False
        self.probe_at = 0.0

    # --- the model --------------------------------------------------------------------------------

    @property
    def submissions(self):
        return sum(len(each.in_flight) for each in self.model.values())

    def forget(self, each):
        if not each.queue and not each.delayed and not each.in_flight and each.blocked_until is None:
            each.probing = False

    def wake(self):
        for each in self.model.values():
            if each.blocked_until is not None and each.blocked_until <= self.now:
                each.blocked_until = None
                self.forget(each)
        over = [
            (entry, name)
            for name, each in self.model.items()
            for entry in each.delayed
            if entry[0] <= self.now
        ]
        for entry, name in sorted(over):
            self.model[name].delayed.remove(entry)
            self.model[name].queue.append(entry[2])

    def delay(self, each, due, ref):
        self.delays += 1
        each.delayed.append((due, self.delays, ref))

    def ready(self, each):
        limit = 1 if each.probing else WINDOW
        return bool(each.queue) and each.blocked_until is None and len(each.in_flight) < limit

    def may_start(self):
        return not self.halted or (self.now >= self.probe_at and not self.submissions and not self.polls)

    def room(self):
        return self.submissions < SUBMISSIONS and self.submissions + self.polls < IN_FLIGHT

    def started(self):
        if self.halted:
            self.probe_at = self.now + PROBE

    # --- what happens -----------------------------------------------------------------------------

    @rule(
        names=st.lists(st.sampled_from(INTEGRATIONS), min_size=1, max_size=6),
        delay=st.sampled_from([None] * 3 + [0, 5, 90]),
    )
    def offer(self, names, delay):
        for name in names:
            self.offer_one(name, delay)

    def offer_one(self, name, delay):
        self.refs += 1
        if delay is None:
            self.flow.offer(name, self.refs)
            self.model[name].queue.append(self.refs)
        else:
            self.flow.offer(name, self.refs, self.now + delay)
            self.delay(self.model[name], self.now + delay, self.refs)

    @rule(times=st.integers(1, 5))
    def take(self, times):
        for _ in range(times):
            self.take_one()

    def take_one(self):
        taken = self.flow.next_submission(self.now)
        self.wake()
        ready = {name for name, each in self.model.items() if self.ready(each)}
        if taken is None:
            assert not (ready and self.room() and self.may_start())
            return
        name, ref = taken
        assert name in ready
        assert self.room()
        assert self.may_start()
        self.started()
        for other, each in self.model.items():
            each.turns_waited = each.turns_waited + 1 if other in ready and other != name else 0
            assert each.turns_waited < len(INTEGRATIONS), "the round is fair"
        each = self.model[name]
        assert each.queue.pop(0) == ref
        each.in_flight.append(ref)

    def of_those_in_flight(self, data):
        return data.draw(
            st.sampled_from(
                [(name, ref) for name, each in self.model.items() for ref in each.in_flight],
            )
        )

    @precondition(lambda self: self.submissions)
    @rule(data=st.data(), verdict=VERDICTS, retry_after=st.none() | st.integers(0, 100), again=st.booleans())
    def done(self, data, verdict, retry_after, again):
        name, ref = self.of_those_in_flight(data)
        each = self.model[name]
        until = self.flow.submission_done(name, verdict, self.now, retry_after)
        each.in_flight.remove(ref)
        if verdict in (Verdict.RETRY, Verdict.PARK):
            each.probing = True
            longest = 60.0 if verdict is Verdict.RETRY else 1800.0 * 1.1
            assert until >= max(self.now, each.blocked_until or 0), "a wait is never shortened"
            if verdict is Verdict.RETRY:
                assert until >= self.now + (retry_after or 0)
            newest = self.now + max(longest, retry_after or 0)
            assert until <= max(newest, each.blocked_until or 0)
            each.blocked_until = until
        elif verdict is not Verdict.HALT:
            each.probing = False
        self.forget(each)
        each.turns_waited = 0
        if again:
            self.flow.offer(name, ref, until)
            self.delay(each, until, ref)

    @precondition(lambda self: self.submissions)
    @rule(data=st.data())
    def release(self, data):
        name, ref = self.of_those_in_flight(data)
        self.flow.released(name)
        self.model[name].in_flight.remove(ref)
        self.forget(self.model[name])

    @rule(name=st.sampled_from(INTEGRATIONS))
    def park(self, name):
        """A poll has told that the integration is not well."""
        self.flow.park(name, self.now)
        each = self.model[name]
        each.probing, each.turns_waited = True, 0
        each.blocked_until = self.flow._integrations[name].blocked_until

    @rule(keep=st.sets(st.integers(0, 3)))
    def drop(self, keep):
        self.flow.drop(lambda ref: ref % 4 in keep)
        for each in self.model.values():
            each.queue = [ref for ref in each.queue if ref % 4 in keep]
            each.delayed = [entry for entry in each.delayed if entry[2] % 4 in keep]
            self.forget(each)

    @rule(times=st.integers(1, 5))
    def poll(self, times):
        for _ in range(times):
            self.poll_one()

    def poll_one(self):
        went = self.flow.may_poll(self.now)
        if went:
            assert self.may_start()
            self.started()
            self.polls += 1
        elif self.may_start():
            assert self.polls >= IN_FLIGHT - SUBMISSIONS or self.submissions + self.polls == IN_FLIGHT

    @precondition(lambda self: self.polls)
    @rule()
    def poll_done(self):
        self.flow.poll_done()
        self.polls -= 1

    @rule()
    def halt(self):
        self.flow.halt(HALT, self.now)
        self.halted, self.probe_at = True, self.now + PROBE

    @rule()
    def resume(self):
        self.flow.resume()
        self.halted = False

    @rule(seconds=st.sampled_from([0.5, 10.0, PROBE - 1, PROBE, 2000.0]))
    def pass_time(self, seconds):
        self.now += seconds

    @invariant()
    def limits_hold(self):
        assert self.flow.in_flight == self.submissions + self.polls <= IN_FLIGHT
        assert self.submissions <= SUBMISSIONS
        assert all(len(each.in_flight) <= WINDOW for each in self.model.values())
        assert self.flow.queued == sum(len(each.queue) + len(each.delayed) for each in self.model.values())

    def teardown(self):
        """Whatever happened, what is left goes out once nothing stands in its way, and nothing stays behind."""
        self.flow.resume()
        for name, each in self.model.items():
            for _ in each.in_flight:
                self.flow.released(name)
        for _ in range(self.polls):
            self.flow.poll_done()
        self.now += 10_000
        waiting = {ref for each in self.model.values() for ref in each.queue}
        waiting |= {ref for each in self.model.values() for _, _, ref in each.delayed}
        gone = set()
        while (taken := self.flow.next_submission(self.now)) is not None:
            gone.add(taken[1])
            self.flow.submission_done(taken[0], None, self.now)
        assert gone == waiting
        assert self.flow._integrations == {}
        assert self.flow.in_flight == self.flow.queued == 0
        assert self.flow.due(self.now) is None


FlowMachine.TestCase.settings = hypothesis_settings(
    max_examples=300, stateful_step_count=50, deadline=None, derandomize=True
)
TestFlowAgainstModel = FlowMachine.TestCase
