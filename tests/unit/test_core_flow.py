"""Which request may go out next: limits, fairness and isolation, by example and against a model."""

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from daemon.config import Policies, Settings
from daemon.core.answers import Accepted, Refused, SubmitAnswer
from daemon.core.flow import KNOWN_SECONDS, Flow, Permit, Ref
from daemon.core.judge import Judge
from daemon.core.model import Error
from daemon.core.rate import BURST_SECONDS, Call
from daemon.core.upsert import UPSERT
from daemon.core.verdict import OVERLOAD, SubmitVerdict
from tests.unit.core_bench import UNANSWERED, refused, settings_with

HALT = Error("PLATFORM.AUTHENTICATION_INVALID", "the key is wrong")
GOOD = Accepted("task")
BROKEN = refused(503)
DENIED = refused(403, "INTEGRATION.AUTHENTICATION_INVALID")
KEY_REFUSED = refused(401, "PLATFORM.AUTHENTICATION_INVALID")
ROOM = {"concurrency_limit": 8, "concurrency_remaining": 7}
NOT_VALID = refused(400, "PLATFORM.INPUT_INVALID", **ROOM)
NOT_KNOWN = refused(404, "PLATFORM.INTEGRATION_NOT_FOUND", **ROOM)


def queued(flow: Flow[Any]) -> int:
    """The number of submissions that wait in it."""
    return len(flow._delayed) + sum(len(state.queue) for state in flow._integrations.values())


def later(seconds: float | None) -> Refused:
    return refused(429, "PLATFORM.RATE_LIMIT_EXCEEDED", retry_after=seconds)


def too_many(limit: int, remaining: int = 0, **more: Any) -> Refused:
    return refused(429, OVERLOAD, concurrency_limit=limit, concurrency_remaining=remaining, **more)


def flow_with(seed: int = 7, **groups: Mapping[str, Any]) -> Flow[Any]:
    settings = settings_with(**groups)
    return Flow(settings, Policies(settings), random.Random(seed))


def next_of(flow: Flow[Ref], now: float = 0.0) -> Permit[Ref]:
    """Take the next submission, which must exist."""
    permit = flow.next_submission(now)
    assert permit is not None
    return permit


def due_of(flow: Flow[Any], now: float) -> float:
    """When a submission may go out next. There must be one."""
    due = flow.due(now)
    assert due is not None
    return due


def take_all(flow: Flow[Ref], now: float = 0.0) -> list[Permit[Ref]]:
    """Everything that may go out now; each leaves."""
    permits = []
    while (permit := flow.next_submission(now)) is not None:
        assert flow.try_send(permit, now)
        permits.append(permit)
    return permits


def refs(permits: Iterable[Permit[Ref]]) -> list[Ref]:
    return [permit.ref for permit in permits]


def verdict_on(answer: SubmitAnswer) -> SubmitVerdict:
    return Judge(Policies(Settings())).submit("tool:1", UPSERT, answer, 0, fate_unknown=False).verdict


def done(flow: Flow[Ref], permit: Permit[Ref], answer: SubmitAnswer = GOOD, now: float = 0.0) -> float:
    return flow.submission_done(permit, answer, verdict_on(answer), now)


def offer(flow: Flow[str], integration_id: str, count: int) -> None:
    for number in range(count):
        flow.offer(integration_id, f"{integration_id}{number}")


def warm(flow: Flow[str], *integration_ids: str, now: float = 0.0) -> None:
    """An answer has shown that the API has plenty of room for them."""
    for integration_id in integration_ids:
        flow.offer(integration_id, "first")
        (permit,) = take_all(flow, now)
        done(flow, permit, Accepted("task", concurrency_limit=1000, concurrency_remaining=999), now)


# --- limits ---------------------------------------------------------------------------------------


def test_integrations_are_served_in_turn() -> None:
    flow = flow_with()
    warm(flow, "a", "b", "c")
    offer(flow, "a", 3)
    offer(flow, "b", 1)
    offer(flow, "c", 2)
    assert refs(take_all(flow)) == ["a0", "b0", "c0", "a1", "c1", "a2"]


def test_an_integration_of_which_nothing_is_known_is_sent_one_at_first() -> None:
    flow = flow_with()
    offer(flow, "a", 9)
    (permit,) = take_all(flow)
    done(flow, permit, Accepted("task", concurrency_limit=3, concurrency_remaining=2))
    assert len(take_all(flow)) == 1, "half of three"


def test_one_integration_has_no_more_in_flight_than_its_window() -> None:
    flow = flow_with(window={"batches_max": 2})
    warm(flow, "a")
    offer(flow, "a", 3)
    permits = take_all(flow)
    assert len(permits) == 2
    done(flow, permits[0])
    assert len(take_all(flow)) == 1


def test_no_more_go_out_than_the_last_answer_allows() -> None:
    flow = flow_with()
    warm(flow, "a")
    offer(flow, "a", 12)
    permits = take_all(flow)
    assert len(permits) == 8
    for permit in permits[:6]:
        done(flow, permit, Accepted("task", concurrency_limit=2, concurrency_remaining=0))
        assert take_all(flow) == []
    done(flow, permits[6], Accepted("task", concurrency_limit=2, concurrency_remaining=0))
    assert len(take_all(flow)) == 1


def test_one_that_waited_for_its_lease_does_not_leave_when_fewer_are_allowed_by_then() -> None:
    flow = flow_with()
    warm(flow, "a")
    offer(flow, "a", 3)
    first, *others = [next_of(flow) for _ in range(3)]
    assert flow.try_send(first, 0.0)
    done(flow, first, Accepted("task", concurrency_limit=1, concurrency_remaining=0))
    assert not flow.try_send(others[0], 0.0)
    flow.released(others[0], 0.0)
    assert flow.try_send(others[1], 0.0)


def test_what_a_shard_does_not_send_counts_for_nothing() -> None:
    flow = flow_with()
    offer(flow, "a", 2)
    flow.released(next_of(flow), 0.0)
    assert len(take_all(flow)) == 1


def test_a_flood_of_submissions_leaves_the_polls_their_share() -> None:
    flow = flow_with(http={"in_flight_max": 8, "poll_share": 0.25})
    for number in range(20):
        flow.offer(f"i{number}", number)
    assert len(take_all(flow)) == 6
    assert [flow.may_poll(0.0) for _ in range(3)] == [True, True, False]


def test_polls_and_submissions_together_stay_within_the_limit() -> None:
    """Polls took all places and submissions their share on top."""
    flow = flow_with(http={"in_flight_max": 8, "poll_share": 0.25})
    assert sum(flow.may_poll(0.0) for _ in range(20)) == 8
    offer(flow, "a", 1)
    assert take_all(flow) == []
    flow.poll_done()
    assert len(take_all(flow)) == 1
    assert flow.in_flight == 8


def test_a_flood_of_polls_gives_the_submissions_places_back() -> None:
    flow = flow_with(http={"in_flight_max": 8, "poll_share": 0.25})
    assert sum(flow.may_poll(0.0) for _ in range(8)) == 8
    for number in range(20):
        flow.offer(f"i{number}", number)
    permits = []
    for _ in range(8):
        flow.poll_done()
        flow.may_poll(0.0)
        permits += take_all(flow)
    assert flow.in_flight == 8
    assert take_all(flow) == []
    done(flow, permits[0])
    assert not flow.may_poll(0.0)
    assert len(take_all(flow)) == 1


# --- the rate -------------------------------------------------------------------------------------


def test_the_rate_holds_for_submissions_and_polls_together_and_each_has_its_share() -> None:
    flow = flow_with(http={"requests_per_second_max": 4.0, "poll_share": 0.25})
    submitted: Counter[str] = Counter()
    polled, now = 0, 0.0
    for name in "abcd":
        offer(flow, name, 100)
    while now < 60:
        for permit in take_all(flow, now):
            submitted[permit.integration_id] += 1
            done(flow, permit, now=now)
        while flow.may_poll(now):
            polled += 1
            flow.poll_done()
        poll_due = flow.poll_due(now)
        assert poll_due is not None
        due = min(due_of(flow, now), poll_due)
        assert due > now
        now = due
    assert submitted.total() == pytest.approx(180, abs=2)
    assert polled == pytest.approx(60, abs=2)
    assert max(submitted.values()) - min(submitted.values()) <= 1, "in turn, as without a rate"


def test_a_submission_that_waited_long_for_its_lease_needs_another_place_in_the_rate() -> None:
    flow = flow_with(http={"requests_per_second_max": 1.0, "poll_share": 0.5})
    offer(flow, "a", 1)
    offer(flow, "b", 1)
    old, now = next_of(flow), 5.0
    assert [permit.ref for permit in take_all(flow, now)] == ["b0"]
    assert not flow.try_send(old, now)
    flow.released(old, now)
    flow.offer("a", old.ref)
    assert refs(take_all(flow, due_of(flow, now))) == ["a0"]


def test_a_halted_process_probes_within_the_rate() -> None:
    flow = flow_with(http={"requests_per_second_max": 0.1, "poll_share": 0.5}, park={"probe_min": 1.0})
    for call in Call:
        assert flow._rate.take(call, 0.0)
    flow.halt(HALT, 0.0)
    assert not flow.may_poll(1.0)
    assert flow.poll_due(1.0) == pytest.approx(20.0)
    assert flow.may_poll(20.0)


# --- standing back --------------------------------------------------------------------------------


def test_a_refused_integration_delays_no_other() -> None:
    flow = flow_with()
    warm(flow, "b")
    offer(flow, "a", 2)
    offer(flow, "b", 2)
    permit = next_of(flow)
    assert flow.try_send(permit, 0.0)
    until = done(flow, permit, later(9.0))
    assert until >= 9.0
    assert refs(take_all(flow)) == ["b0", "b1"]
    assert flow.due(0.0) == until
    assert refs(take_all(flow, until)) == ["a1"]


def probes(flow: Flow[str], answer: SubmitAnswer, count: int) -> list[float]:
    """How long the integration stands back each time its only submission is refused."""
    now, waits = 0.0, []
    flow.offer("a", "x")
    for _ in range(count):
        (permit,) = take_all(flow, now)
        until = done(flow, permit, answer, now)
        flow.offer("a", "x", until)
        waits.append(until - now)
        now = until
    return waits


def test_a_parked_integration_is_probed_ever_more_slowly() -> None:
    waits = probes(flow_with(), DENIED, 8)
    expected = [60, 120, 240, 480, 960, 1800, 1800, 1800]
    assert waits == [pytest.approx(each, rel=0.11) for each in expected]


@pytest.mark.parametrize(
    ("answer", "low"), [(BROKEN, 0.0), (UNANSWERED, 0.0), (later(None), 0.0), (too_many(8), 0.75)]
)
def test_the_longer_an_integration_is_refused_the_longer_it_stands_back(
    answer: SubmitAnswer, low: float
) -> None:
    waits = [probes(flow_with(seed), answer, 8) for seed in range(200)]
    for attempt, bound in enumerate([1, 2, 4, 8, 16, 32, 60, 60]):
        drawn = [each[attempt] for each in waits]
        assert bound * low <= min(drawn)
        assert bound * 0.9 < max(drawn) <= min(60, bound * (1 + low / 3)) + 1e-9


def test_answers_to_requests_that_were_under_way_together_count_once() -> None:
    """Eight batches refused by one hiccup parked their integration for half an hour."""
    flow = flow_with()
    warm(flow, "a")
    offer(flow, "a", 8)
    until = max(done(flow, permit, DENIED) for permit in take_all(flow))
    assert until < 67
    flow.offer("a", "probe")
    (permit,) = take_all(flow, until)
    assert done(flow, permit, DENIED, until) - until == pytest.approx(120, rel=0.11)


def test_a_wait_that_the_server_asked_for_is_not_shortened_by_another_answer() -> None:
    flow = flow_with()
    warm(flow, "a")
    offer(flow, "a", 3)
    first, second, third = take_all(flow)
    assert done(flow, first, later(300.0)) == 300.0
    assert done(flow, second, BROKEN, 1.0) == 300.0
    assert done(flow, third, GOOD, 2.0) == 300.0
    flow.offer("a", "x")
    assert take_all(flow, 299.0) == []


HALF_AN_HOUR = 1800.0


@pytest.mark.parametrize(
    "code", ["PLATFORM.RATE_LIMIT_EXCEEDED", OVERLOAD, None, "REMOTE.SERVICE_UNAVAILABLE"]
)
@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [
        (600.0, 600.0, 600.0),
        (7200.0, HALF_AN_HOUR, HALF_AN_HOUR),
        (86_400.0, HALF_AN_HOUR, HALF_AN_HOUR),
        (86_401.0, 0.0, 60.0),
        (99_999_999.0, 0.0, 60.0),
        (float("inf"), 0.0, 60.0),
    ],
)
def test_no_answer_stops_an_integration_for_longer_than_the_longest_probe_interval(
    code: str | None, asked: float, least: float, most: float
) -> None:
    flow = flow_with()
    for status in (429, 503):
        flow.offer(f"a{status}", "x")
        (permit,) = take_all(flow)
        until = done(flow, permit, refused(status, code, retry_after=asked))
        assert least <= until <= most


def test_what_backs_off_is_told_by_reason_with_its_ends() -> None:
    flow = flow_with()
    warm(flow, "well")
    answers: list[tuple[str, SubmitAnswer]] = [
        ("a", later(600.0)),
        ("b", later(300.0)),
        ("c", refused(503, retry_after=1200.0)),
        ("d", UNANSWERED),
        ("e", DENIED),
    ]
    for name, answer in answers:
        offer(flow, name, 1)
        (permit,) = take_all(flow)
        done(flow, permit, answer)
    told = {(group.state.value, group.reason): group for group in flow.back_offs()}
    assert set(told) == {
        ("throttled", "PLATFORM.RATE_LIMIT_EXCEEDED"),
        ("breaker_open", "HTTP 503"),
        ("breaker_open", "timeout"),
        ("parked", "INTEGRATION.AUTHENTICATION_INVALID"),
    }
    both = told["throttled", "PLATFORM.RATE_LIMIT_EXCEEDED"]
    assert (both.integrations, both.first_until, both.last_until) == (2, 300.0, 600.0)
    assert flow.back_offs()[0].reason == "HTTP 503", "it ends last"
    flow.offer("c", "probe")
    assert take_all(flow, 1200.0)
    group = next(group for group in flow.back_offs() if group.reason == "HTTP 503")
    assert (group.first_until, group.last_until) == (None, None), "its probe is in flight"


def test_parking_begins_slowly_whatever_went_before() -> None:
    flow = flow_with()
    probes(flow, BROKEN, 6)
    (permit,) = take_all(flow, 1000.0)
    assert done(flow, permit, DENIED, 1000.0) - 1000.0 < 67


@pytest.mark.parametrize("answer", [BROKEN, UNANSWERED, later(1.0), DENIED])
def test_one_that_is_not_well_comes_back_with_one_probe_and_one_success_lets_more_go(
    answer: SubmitAnswer,
) -> None:
    flow = flow_with()
    warm(flow, "a")
    offer(flow, "a", 6)
    until = max(done(flow, permit, answer) for permit in take_all(flow))
    offer(flow, "a", 6)
    (permit,) = take_all(flow, until)
    done(flow, permit, Accepted("task", concurrency_limit=8, concurrency_remaining=7), until)
    assert len(take_all(flow, until)) == 4, "half of eight, as at the beginning"


def test_too_many_at_a_time_is_no_sickness() -> None:
    """After about a second half of them go on, not a single probe."""
    flow = flow_with()
    warm(flow, "a")
    offer(flow, "a", 8)
    permits = take_all(flow)
    until = done(flow, permits[0], too_many(8))
    assert 0.75 <= until <= 1.25
    assert flow.states(0.0)["throttled"] == 1
    for permit in permits[1:]:
        assert done(flow, permit, too_many(8), 0.1) < 1.4, "what was under way together counts once"
    offer(flow, "a", 8)
    until = due_of(flow, 0.1)
    assert take_all(flow, until - 0.01) == []
    permits = take_all(flow, until)
    assert len(permits) == 4
    done(flow, permits[0], now=until)
    assert flow.states(until)["healthy"] == 1


def test_what_ended_a_batch_by_its_content_shows_the_integration_well() -> None:
    for answer in (NOT_VALID, NOT_KNOWN):
        flow = flow_with()
        flow.park("a", "INTEGRATION.INACTIVE", 0.0)
        offer(flow, "a", 5)
        (permit,) = take_all(flow, 100.0)
        done(flow, permit, answer, 100.0)
        assert len(take_all(flow, 100.0)) == 4


def test_a_delay_of_its_own_holds_back_one_submission_alone() -> None:
    flow = flow_with()
    flow.offer("a", "late", 45.0)
    flow.offer("a", "now")
    (permit,) = take_all(flow)
    assert permit.ref == "now"
    done(flow, permit)
    assert flow.due(0.0) == 45.0
    assert refs(take_all(flow, 45.0)) == ["late"]


# --- the states -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (GOOD, "healthy"),
        (later(1.0), "throttled"),
        (too_many(1), "throttled"),
        (refused(503, "REMOTE.RATE_LIMIT_EXCEEDED"), "throttled"),
        (BROKEN, "breaker_open"),
        (refused(503, "REMOTE.SERVICE_UNAVAILABLE"), "breaker_open"),
        (UNANSWERED, "breaker_open"),
        (DENIED, "parked"),
        (refused(408), "breaker_open"),
        (refused(302), "breaker_open"),
        (refused(404), "breaker_open"),
        (KEY_REFUSED, "breaker_open"),
    ],
)
def test_why_an_integration_stands_back_can_be_seen(answer: SubmitAnswer, state: str) -> None:
    flow = flow_with()
    assert flow.states(0.0) == {"healthy": 0, "throttled": 0, "breaker_open": 0, "parked": 0}
    warm(flow, "well")
    offer(flow, "a", 1)
    (permit,) = take_all(flow)
    until = done(flow, permit, answer)
    expected = Counter({"healthy": 1}) + Counter([state])
    assert +Counter(flow.states(0.0)) == expected
    flow.offer("a", "probe")
    (permit,) = take_all(flow, until)
    assert +Counter(flow.states(until)) == expected, "while the probe is under way"
    done(flow, permit, GOOD, until)
    assert flow.states(until)["healthy"] == 2


# --- forgetting -----------------------------------------------------------------------------------


def test_what_answers_have_taught_lasts_from_one_batch_to_the_next_and_not_for_ever() -> None:
    flow = flow_with()
    warm(flow, "a")
    offer(flow, "a", 3)
    for permit in take_all(flow, KNOWN_SECONDS - 1):
        done(flow, permit, now=KNOWN_SECONDS - 1)
    assert flow.states(2 * KNOWN_SECONDS - 2)["healthy"] == 1
    assert flow.states(2 * KNOWN_SECONDS - 1)["healthy"] == 0
    assert flow._integrations == {}
    offer(flow, "a", 3)
    assert len(take_all(flow, 3 * KNOWN_SECONDS)) == 1


def test_an_integration_that_left_with_its_partition_is_forgotten_when_it_has_sat_out_its_time() -> None:
    """It stayed forever, and in the figures as parked."""
    flow = flow_with()
    offer(flow, "a", 2)
    (permit,) = take_all(flow)
    until = done(flow, permit, DENIED)
    flow.offer("a", "a0", until)
    flow.drop(lambda _ref: False, 0.0)
    assert flow.states(0.0)["parked"] == 1
    assert flow.next_submission(until) is None
    assert flow.next_submission(until + KNOWN_SECONDS) is None
    assert set(flow.states(until + KNOWN_SECONDS).values()) == {0}
    assert queued(flow) == 0
    assert flow._integrations == {}


def test_a_back_off_is_not_forgotten_while_a_submission_waits_for_its_own_time() -> None:
    flow = flow_with()
    offer(flow, "a", 1)
    (permit,) = take_all(flow)
    done(flow, permit, DENIED)
    flow.offer("a", "a0", 500.0)
    assert flow.next_submission(200.0) is None
    assert flow.states(200.0)["parked"] == 1


def test_dropping_keeps_what_is_to_be_kept() -> None:
    flow = flow_with()
    warm(flow, "a")
    for number in range(4):
        flow.offer("a", number, None if number % 2 else 10.0)
    flow.drop(lambda ref: ref < 2, 0.0)
    assert queued(flow) == 2
    assert refs(take_all(flow, 10.0)) == [1, 0]


# --- the whole process ----------------------------------------------------------------------------


def test_halted_lets_exactly_one_probe_go_at_a_time() -> None:
    flow = flow_with()
    for number in range(5):
        flow.offer(f"i{number}", number)
    flow.halt(HALT, 0.0)
    assert take_all(flow) == []
    assert not flow.may_poll(59.0)
    assert flow.due(0.0) == flow.probe_due(0.0) == flow.poll_due(0.0) == 60.0
    (permit,) = take_all(flow, 60.0)
    assert not flow.may_poll(60.0)
    flow.submission_done(permit, refused(401, HALT.code), SubmitVerdict.HALT, 61.0)
    assert take_all(flow, 61.0) == []
    assert not flow.may_poll(61.0)
    assert flow.may_poll(120.0)
    assert take_all(flow, 120.0) == []


def test_a_probe_that_can_not_be_sent_is_not_spent() -> None:
    flow = flow_with()
    flow.halt(HALT, 0.0)
    assert flow.next_submission(60.0) is None
    assert flow.may_poll(60.0)


def test_a_halted_process_does_not_wait_for_a_time_that_has_passed() -> None:
    flow = flow_with()
    assert flow.may_poll(0.0)
    flow.halt(HALT, 0.0)
    assert flow.next_submission(90.0) is None
    assert flow.due(90.0) is None


@pytest.mark.parametrize("answer", [KEY_REFUSED, refused(403, "PLATFORM.IP_NOT_WHITELISTED")])
def test_one_integration_whose_key_is_refused_backs_off_ever_longer_and_alone(answer: SubmitAnswer) -> None:
    waits = probes(flow_with(), answer, 8)
    assert waits == [pytest.approx(each, rel=0.11) for each in [60, 120, 240, 480, 960, 1800, 1800, 1800]]
    flow = flow_with()
    warm(flow, "well")
    offer(flow, "a", 1)
    (permit,) = take_all(flow)
    done(flow, permit, answer)
    offer(flow, "well", 2)
    assert len(take_all(flow)) == 2


def test_back_offs_because_of_the_key_end_with_the_halt_and_others_do_not() -> None:
    flow = flow_with()
    offer(flow, "mine", 1)
    offer(flow, "other", 1)
    for permit in take_all(flow):
        done(flow, permit, KEY_REFUSED if permit.integration_id == "mine" else BROKEN, 0.0)
    flow.offer("mine", "again")
    flow.offer("other", "again")
    until = flow._integrations["other"].breaker.until
    flow.resume(0.0)
    assert [permit.integration_id for permit in take_all(flow, 0.0)] == ["mine"]
    assert flow._integrations["other"].breaker.until == until


def test_resumed_everything_goes() -> None:
    flow = flow_with()
    warm(flow, "a")
    offer(flow, "a", 3)
    flow.halt(HALT, 0.0)
    assert flow.halted == HALT
    flow.resume(0.0)
    assert len(take_all(flow)) == 3


# --- against a model ------------------------------------------------------------------------------

INTEGRATIONS = ["a", "b", "c", "d"]
WINDOW, IN_FLIGHT, SUBMISSIONS, PROBE = 3, 6, 4, 60.0
ANSWERS = st.sampled_from(
    [
        *[Accepted("task", concurrency_limit=3, concurrency_remaining=each) for each in (0, 1, 2)],
        *[GOOD, BROKEN, UNANSWERED, DENIED, NOT_VALID, too_many(2), too_many(1)],
        *[later(each) for each in (None, 3.0, 100.0)],
        refused(401, HALT.code),
    ]
)


class Modelled:
    def __init__(self) -> None:
        self.queue: list[int] = []
        self.delayed: list[tuple[float, int, int]] = []
        """Each with its due time and the order of delaying."""
        self.taken: list[Permit[int]] = []
        """Submissions that have not been sent yet."""
        self.sent: list[Permit[int]] = []
        self.blocked_until: float | None = None
        self.by_key = False
        self.turns_waited = 0

    @property
    def in_flight(self) -> int:
        return len(self.taken) + len(self.sent)


class FlowMachine(RuleBasedStateMachine):
    """What may go, and in which order, said once more in the plainest way. How many of an integration may be
    in flight is what its window says, which has a model of its own.
    """

    RATE: float | None = None

    def __init__(self) -> None:
        super().__init__()
        self.flow: Flow[int] = flow_with(
            window={"batches_max": WINDOW},
            http={"in_flight_max": IN_FLIGHT, "poll_share": 0.3, "requests_per_second_max": self.RATE},
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
    def submissions(self) -> int:
        return sum(each.in_flight for each in self.model.values())

    def wake(self) -> None:
        for each in self.model.values():
            if each.blocked_until is not None and each.blocked_until <= self.now:
                each.blocked_until = None
        over = [
            (entry, name)
            for name, each in self.model.items()
            for entry in each.delayed
            if entry[0] <= self.now
        ]
        for entry, name in sorted(over):
            self.model[name].delayed.remove(entry)
            self.model[name].queue.append(entry[2])

    def delay(self, each: Modelled, due: float, ref: int) -> None:
        self.delays += 1
        each.delayed.append((due, self.delays, ref))

    def allowed(self, name: str) -> int:
        state = self.flow._integrations.get(name)
        return 1 if state is None else state.window.allowed

    def ready(self, name: str) -> bool:
        each = self.model[name]
        return bool(each.queue) and each.blocked_until is None and each.in_flight < self.allowed(name)

    def may_start(self) -> bool:
        return not self.halted or (self.now >= self.probe_at and not self.submissions and not self.polls)

    def within_rate(self, call: Call) -> bool:
        due = self.flow._rate.due(call, self.now)
        assert due is None or (self.RATE is not None and due > self.now)
        return due is None

    def room(self) -> bool:
        return self.submissions < SUBMISSIONS and self.submissions + self.polls < IN_FLIGHT

    def started(self) -> None:
        if self.halted:
            self.probe_at = self.now + PROBE

    # --- what happens -----------------------------------------------------------------------------

    @rule(
        names=st.lists(st.sampled_from(INTEGRATIONS), min_size=1, max_size=6),
        delay=st.sampled_from([None, None, None, 0, 5, 90]),
    )
    def offer(self, names: list[str], delay: float | None) -> None:
        for name in names:
            self.offer_one(name, delay)

    def offer_one(self, name: str, delay: float | None) -> None:
        self.refs += 1
        if delay is None:
            self.flow.offer(name, self.refs)
            self.model[name].queue.append(self.refs)
        else:
            self.flow.offer(name, self.refs, self.now + delay)
            self.delay(self.model[name], self.now + delay, self.refs)

    @rule(times=st.integers(1, 5), sends=st.booleans())
    def take(self, times: int, sends: bool) -> None:
        for _ in range(times):
            self.take_one(sends)

    def take_one(self, sends: bool) -> None:
        within_rate = self.within_rate(Call.SUBMIT)
        permit = self.flow.next_submission(self.now)
        self.wake()
        ready = {name for name in self.model if self.ready(name)}
        if permit is None:
            assert not (ready and self.room() and self.may_start() and within_rate)
            return
        name = permit.integration_id
        assert self.model[name].blocked_until is None
        assert self.model[name].in_flight < self.allowed(name)
        assert self.room()
        assert self.may_start()
        assert within_rate
        self.started()
        for other, each in self.model.items():
            each.turns_waited = each.turns_waited + 1 if other in ready and other != name else 0
            assert each.turns_waited < len(INTEGRATIONS), "the round is fair"
        each = self.model[name]
        assert each.queue.pop(0) == permit.ref
        each.taken.append(permit)
        if sends:
            self.send_one(permit)

    def one_of(self, data: st.DataObject, attribute: str) -> Permit[int]:
        return data.draw(
            st.sampled_from([permit for each in self.model.values() for permit in getattr(each, attribute)])
        )

    @precondition(lambda self: any(each.taken for each in self.model.values()))
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        self.send_one(self.one_of(data, "taken"))

    def send_one(self, permit: Permit[int]) -> None:
        """It has its lease, perhaps long after it was taken; what may not leave by now is offered again."""
        name, each = permit.integration_id, self.model[permit.integration_id]
        stands_back = each.blocked_until is not None and each.blocked_until > self.now
        late = self.now - permit.taken_at > BURST_SECONDS
        may = not stands_back and each.in_flight <= self.allowed(name)
        may = may and (not late or self.within_rate(Call.SUBMIT))
        assert self.flow.try_send(permit, self.now) is may
        each.taken.remove(permit)
        if may:
            each.sent.append(permit)
        else:
            self.flow.released(permit, self.now)
            self.flow.offer(name, permit.ref)
            each.queue.append(permit.ref)
            each.turns_waited = 0

    @precondition(lambda self: any(each.sent for each in self.model.values()))
    @rule(data=st.data(), answer=ANSWERS, again=st.booleans())
    def done(self, data: st.DataObject, answer: SubmitAnswer, again: bool) -> None:
        permit = self.one_of(data, "sent")
        each, verdict = self.model[permit.integration_id], verdict_on(answer)
        until = self.flow.submission_done(permit, answer, verdict, self.now)
        each.sent.remove(permit)
        if verdict in (SubmitVerdict.RETRY, SubmitVerdict.PARK, SubmitVerdict.OUR_SIDE):
            each.by_key = verdict is SubmitVerdict.OUR_SIDE and each.blocked_until is None
            longest = 60.0 if verdict is SubmitVerdict.RETRY else 1800.0 * 1.1
            assert until >= max(self.now, each.blocked_until or 0), "a wait is never shortened"
            retry_after = getattr(answer, "retry_after", None) or 0
            assert until >= self.now + retry_after
            assert until <= max(self.now + max(longest, retry_after), each.blocked_until or 0)
            each.blocked_until = until
        for other in self.model.values():
            other.turns_waited = 0  # whose window has changed may have come anew into the round
        if again:
            self.flow.offer(permit.integration_id, permit.ref, until)
            self.delay(each, until, permit.ref)

    @precondition(lambda self: any(each.taken for each in self.model.values()))
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        permit = self.one_of(data, "taken")
        self.flow.released(permit, self.now)
        self.model[permit.integration_id].taken.remove(permit)

    @rule(name=st.sampled_from(INTEGRATIONS))
    def park(self, name: str) -> None:
        """A poll has told that the integration is not well."""
        self.flow.park(name, "task failed", self.now)
        each = self.model[name]
        each.turns_waited = 0
        each.blocked_until = self.flow._integrations[name].breaker.until
        each.by_key = False
        assert self.allowed(name) == 1

    @rule(keep=st.sets(st.integers(0, 3)))
    def drop(self, keep: set[int]) -> None:
        self.flow.drop(lambda ref: ref % 4 in keep, self.now)
        for each in self.model.values():
            each.queue = [ref for ref in each.queue if ref % 4 in keep]
            each.delayed = [entry for entry in each.delayed if entry[2] % 4 in keep]

    @rule(times=st.integers(1, 5))
    def poll(self, times: int) -> None:
        for _ in range(times):
            self.poll_one()

    def poll_one(self) -> None:
        within_rate = self.within_rate(Call.POLL)
        went = self.flow.may_poll(self.now)
        if went:
            assert self.may_start()
            assert within_rate
            self.started()
            self.polls += 1
        elif self.may_start() and within_rate:
            assert self.polls >= IN_FLIGHT - SUBMISSIONS or self.submissions + self.polls == IN_FLIGHT
        else:
            due = self.flow.poll_due(self.now)
            assert due is None or due > self.now

    @precondition(lambda self: self.polls)
    @rule()
    def poll_done(self) -> None:
        self.flow.poll_done()
        self.polls -= 1

    @rule()
    def halt(self) -> None:
        self.flow.halt(HALT, self.now)
        self.halted, self.probe_at = True, self.now + PROBE

    @rule()
    def resume(self) -> None:
        self.flow.resume(self.now)
        self.halted = False
        for each in self.model.values():
            if each.by_key and each.blocked_until is not None:
                each.blocked_until = self.now
            each.by_key = False

    @rule(seconds=st.sampled_from([0.05, 0.5, 10.0, PROBE - 1, PROBE, 2000.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def limits_hold(self) -> None:
        assert self.flow.in_flight == self.submissions + self.polls <= IN_FLIGHT
        assert self.submissions <= SUBMISSIONS
        assert all(each.in_flight <= WINDOW for each in self.model.values())
        assert queued(self.flow) == sum(len(each.queue) + len(each.delayed) for each in self.model.values())

    @invariant()
    def the_states_are_those_of_the_integrations_that_are_known(self) -> None:
        counted = Counter(state.breaker.state for state in self.flow._integrations.values())
        assert +self.flow._census == counted
        busy = {name for name, each in self.model.items() if each.queue or each.delayed or each.in_flight}
        assert busy <= self.flow._integrations.keys()

    def teardown(self) -> None:
        """Whatever happened, what is left goes out once nothing stands in its way, and nothing stays behind."""
        self.flow.resume(self.now)
        for each in self.model.values():
            for permit in (*each.taken, *each.sent):
                self.flow.released(permit, self.now)
        for _ in range(self.polls):
            self.flow.poll_done()
        self.now += 10_000
        waiting = {ref for each in self.model.values() for ref in each.queue}
        waiting |= {ref for each in self.model.values() for _, _, ref in each.delayed}
        gone: set[int] = set()
        while gone != waiting:
            next_one = self.flow.next_submission(self.now)
            if next_one is None:
                self.now = due_of(self.flow, self.now)
                continue
            gone.add(next_one.ref)
            assert self.flow.try_send(next_one, self.now)
            self.flow.submission_done(next_one, GOOD, SubmitVerdict.ACCEPTED, self.now)
        assert self.flow.next_submission(self.now) is None
        assert self.flow.due(self.now) is None
        assert self.flow.in_flight == queued(self.flow) == 0
        assert set(self.flow.states(self.now + KNOWN_SECONDS).values()) == {0}
        assert self.flow._integrations == {}


class LimitedFlowMachine(FlowMachine):
    """The same with a rate that is felt."""

    RATE = 0.5


MACHINE_SETTINGS = hypothesis_settings(
    max_examples=120, stateful_step_count=50, deadline=None, derandomize=True
)
FlowMachine.TestCase.settings = LimitedFlowMachine.TestCase.settings = MACHINE_SETTINGS
TestFlowAgainstModel = FlowMachine.TestCase
TestLimitedFlowAgainstModel = LimitedFlowMachine.TestCase


# --- pauses (R19) ---------------------------------------------------------------------------------


def test_a_paused_integration_keeps_its_queue_and_the_others_go_on() -> None:
    paused: set[str] = {"b"}
    flow: Flow[str] = Flow(settings_with(), Policies(settings_with()), random.Random(7), paused.__contains__)
    for integration_id in "abc":
        flow.offer(integration_id, integration_id + "1")
    assert [next_of(flow).ref, next_of(flow).ref] == ["a1", "c1"]
    assert flow.next_submission(0.0) is None
    paused.clear()
    flow.obey(0.0)
    assert next_of(flow).ref == "b1"


def test_a_submission_that_was_taken_is_not_sent_once_its_integration_is_paused() -> None:
    paused: set[str] = set()
    flow: Flow[str] = Flow(settings_with(), Policies(settings_with()), random.Random(7), paused.__contains__)
    flow.offer("a", "a1")
    permit = next_of(flow)
    paused.add("a")
    flow.obey(0.0)
    assert not flow.try_send(permit, 0.0)
    flow.released(permit, 0.0)
    flow.offer("a", permit.ref)
    assert flow.next_submission(0.0) is None


def test_a_paused_integration_is_not_probed_when_its_back_off_is_over() -> None:
    paused: set[str] = set()
    flow: Flow[str] = Flow(settings_with(), Policies(settings_with()), random.Random(7), paused.__contains__)
    flow.offer("a", "a1")
    permit = next_of(flow)
    assert flow.try_send(permit, 0.0)
    flow.submission_done(permit, DENIED, SubmitVerdict.PARK, 0.0)
    flow.offer("a", "a1")
    paused.add("a")
    flow.obey(0.0)
    assert flow.next_submission(1e6) is None
    paused.clear()
    flow.obey(1e6)
    assert next_of(flow, 1e6).ref == "a1"
