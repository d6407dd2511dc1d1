"""How many submissions of an integration may be in flight: by example, against a model, against an API."""

import random
from collections import Counter

from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from daemon.core.concurrency import Window

# --- by example -----------------------------------------------------------------------------------


def leave_all(window: Window) -> list[int]:
    """As many as may be in flight, with nothing in flight before."""
    return [window.sent() for _ in range(window.allowed)]


def good(window: Window, number: int, limit: int | None = None, remaining: int | None = None) -> None:
    window.answered(number, limit, remaining)
    window.good(number)


def refused(window: Window, number: int, limit: int | None = None, remaining: int | None = None) -> None:
    window.answered(number, limit, remaining)
    window.overloaded(number)


def in_use(most: int = 8, limit: int | None = None, remaining: int | None = None) -> Window:
    """A window that has had its first answer: if not said otherwise, that the API takes as many as we would send."""
    window = Window(most)
    limit = most if limit is None else limit
    good(window, window.sent(), limit, limit - 1 if remaining is None else remaining)
    return window


def test_the_first_one_goes_alone() -> None:
    assert Window(8).allowed == 1


def test_the_first_answer_opens_half_of_what_the_api_has() -> None:
    assert in_use(100, limit=30, remaining=29).allowed == 15
    assert in_use(100, limit=30, remaining=9).allowed == 5, "others have twenty"
    assert in_use(100, limit=1, remaining=0).allowed == 1


def test_an_api_that_tells_nothing_is_tried_with_one_more_each_round() -> None:
    window = Window(4)
    for expected in (1, 2, 3, 4, 4):
        for number in leave_all(window):
            good(window, number)
        assert window.allowed == expected


def test_each_full_round_of_good_answers_brings_one_more() -> None:
    window = in_use(8)
    for expected in (5, 6, 7, 8, 8):
        for number in leave_all(window):
            good(window, number)
        assert window.allowed == expected


def test_what_was_never_in_use_does_not_grow() -> None:
    window = in_use(8)
    for _ in range(50):
        good(window, window.sent())
    assert window.allowed == 4


def test_a_lower_limit_holds_from_the_answer_that_tells_it() -> None:
    window = in_use(8, limit=30, remaining=29)
    assert window.allowed == 8
    numbers = leave_all(window)
    good(window, numbers[0], limit=2, remaining=0)
    assert window.allowed == 2


def test_a_limit_of_none_still_lets_one_find_out() -> None:
    window = in_use(8)
    good(window, window.sent(), limit=0, remaining=0)
    assert window.allowed == 1


def test_what_others_use_is_left_to_them() -> None:
    window = in_use(8)
    numbers = leave_all(window)
    assert len(numbers) == 4
    good(window, numbers[0], limit=8, remaining=0)
    assert window.allowed == 4, "four of ours were in flight, so the other four are not ours"


def test_our_own_are_not_taken_for_others_by_an_answer_that_comes_last() -> None:
    """The first of eight was counted together with the seven that left after it, and were answered before."""
    window = in_use(8, limit=20, remaining=19)
    first, *rest = leave_all(window)
    for number in rest:
        good(window, number, limit=8, remaining=0)
    good(window, first, limit=8, remaining=0)
    assert window.allowed == 8


def test_a_refusal_for_too_many_halves() -> None:
    window = in_use(16)
    number = leave_all(window)[0]
    refused(window, number)
    assert window.allowed == 4


def test_what_was_in_flight_together_is_halved_once() -> None:
    window = in_use(16)
    for number in leave_all(window):
        refused(window, number)
    assert window.allowed == 4
    refused(window, window.sent())
    assert window.allowed == 1, "only one was in flight, and that was one too many"


def test_it_is_halved_by_what_was_in_flight_not_by_what_might_have_been() -> None:
    window = in_use(16)
    numbers = [window.sent() for _ in range(4)]
    refused(window, numbers[3])
    assert window.allowed == 2


def test_after_a_halving_it_grows_by_one_again() -> None:
    window = in_use(16)
    for number in leave_all(window):
        refused(window, number)
    for number in leave_all(window):
        good(window, number)
    assert window.allowed == 5


def test_one_that_is_not_well_is_sent_one_at_a_time_until_an_answer_is_good() -> None:
    window = in_use(8)
    window.restart()
    assert window.allowed == 1
    good(window, window.sent())
    assert window.allowed == 4


# --- against a model ------------------------------------------------------------------------------


class WindowMachine(RuleBasedStateMachine):
    """The whole past is kept, and everything is counted anew from it."""

    MOST = 6

    def __init__(self) -> None:
        super().__init__()
        self.window = Window(self.MOST)
        self.under_way: list[int] = []
        self.past: list[tuple[int, int]] = []
        """After each departure and return: how many had left, how many were under way."""
        self.room: int | None = None
        self.size, self.started, self.round, self.forgiven = 1, False, 0, 0

    @property
    def most(self) -> int:
        return min(self.MOST, self.MOST if self.room is None else self.room)

    def peak(self, number: int) -> int:
        return max(under_way for left, under_way in self.past if left >= number)

    def remember(self) -> None:
        left = max((left for left, _ in self.past), default=0)
        self.past.append((left, len(self.under_way)))

    @precondition(lambda self: len(self.under_way) < self.window.allowed)
    @rule()
    def leave(self) -> None:
        number = self.window.sent()
        left = max((left for left, _ in self.past), default=0)
        assert number == left + 1
        self.under_way.append(number)
        self.past.append((number, len(self.under_way)))

    @precondition(lambda self: self.under_way)
    @rule(
        data=st.data(),
        limit=st.none() | st.integers(0, 9),
        remaining=st.none() | st.integers(0, 9),
        outcome=st.sampled_from(["good", "good", "good", "overloaded", "nothing"]),
    )
    def come_back(self, data: st.DataObject, limit: int | None, remaining: int | None, outcome: str) -> None:
        number = data.draw(st.sampled_from(self.under_way))
        peak = self.peak(number)
        self.window.answered(number, limit, remaining)
        self.under_way.remove(number)
        self.remember()
        told = [limit, None if remaining is None else peak + remaining]
        if any(each is not None for each in told):
            self.room = min(each for each in told if each is not None)
            self.size = min(self.size, max(1, self.room))
        if outcome == "good":
            self.window.good(number)
            self.was_good(peak)
        elif outcome == "overloaded":
            self.window.overloaded(number)
            if number > self.forgiven:
                self.size, self.round = max(1, min(self.size, peak) // 2), 0
                self.forgiven = max(left for left, _ in self.past)

    def was_good(self, peak: int) -> None:
        if not self.started:
            self.started, self.round = True, 0
            self.size = 1 if self.room is None else max(1, min(self.MOST, self.room // 2))
        elif self.size >= self.most:
            self.round = 0
        elif peak >= self.size:
            self.round += 1
            if self.round == self.size:
                self.size, self.round = self.size + 1, 0

    @rule()
    def restart(self) -> None:
        self.window.restart()
        self.size, self.started, self.round = 1, False, 0

    @invariant()
    def as_many_as_the_model_says(self) -> None:
        assert self.window.allowed == max(1, min(self.size, self.most))
        assert 1 <= self.window.allowed <= self.MOST
        assert len(self.window._peaks) <= self.MOST + 1


WindowMachine.TestCase.settings = hypothesis_settings(
    max_examples=100, stateful_step_count=50, deadline=None, derandomize=True
)
TestWindowAgainstModel = WindowMachine.TestCase


# --- against an API -------------------------------------------------------------------------------


class Api:
    """Counts what is in flight and refuses what is too much; requests end in any order."""

    def __init__(self, limit: int, others: int = 0) -> None:
        self.limit = limit
        self.others = others
        self.in_flight = 0

    def arrive(self) -> tuple[bool, tuple[int, int]]:
        """Whether it was taken, and the headers of its answer."""
        self.in_flight += 1
        count = self.in_flight + self.others
        return count <= self.limit, (self.limit, max(0, self.limit - count))


class Client:
    """Has always more to send than it may. A request goes out, arrives, leaves the API and is heard of: in
    between others do the same.
    """

    def __init__(self, api: Api, most: int) -> None:
        self.api = api
        self.window = Window(most)
        self.on_the_way: list[int] = []
        self.there: list[tuple[int, bool, tuple[int, int]]] = []
        self.on_the_way_back: list[tuple[int, bool, tuple[int, int]]] = []
        self.counts: Counter[bool] = Counter()

    def send(self) -> None:
        in_flight = len(self.on_the_way) + len(self.there) + len(self.on_the_way_back)
        if in_flight < self.window.allowed:
            self.on_the_way.append(self.window.sent())

    def arrive(self, index: int) -> None:
        if self.on_the_way:
            number = self.on_the_way.pop(index % len(self.on_the_way))
            taken, told = self.api.arrive()
            if taken:
                self.there.append((number, taken, told))
            else:
                self.api.in_flight -= 1
                self.on_the_way_back.append((number, taken, told))

    def end(self, index: int) -> None:
        if self.there:
            self.api.in_flight -= 1
            self.on_the_way_back.append(self.there.pop(index % len(self.there)))

    def hear(self, index: int) -> None:
        if self.on_the_way_back:
            number, taken, told = self.on_the_way_back.pop(index % len(self.on_the_way_back))
            self.counts[taken] += 1
            (good if taken else refused)(self.window, number, *told)

    def something(self, rng: random.Random) -> None:
        what = rng.choice((self.arrive, self.end, self.hear))
        self.send()
        what(rng.randrange(100))


@given(limit=st.integers(1, 12), most=st.integers(1, 12), seed=st.integers(0, 10_000))
@hypothesis_settings(max_examples=150, deadline=None, derandomize=True)
def test_who_has_the_limit_alone_is_never_refused_and_comes_to_use_all_of_it(
    limit: int, most: int, seed: int
) -> None:
    rng, client = random.Random(seed), Client(Api(limit), most)
    for _ in range(3000):
        client.something(rng)
    assert client.counts[False] == 0
    assert client.window.allowed == min(limit, most)


@given(others=st.integers(1, 6), seed=st.integers(0, 10_000))
@hypothesis_settings(max_examples=50, deadline=None, derandomize=True)
def test_what_others_hold_is_found_out_and_seldom_run_into(others: int, seed: int) -> None:
    rng, client = random.Random(seed), Client(Api(8, others), 8)
    for _ in range(6000):
        client.something(rng)
    assert client.counts[True] > 500
    assert client.counts[False] < 0.2 * client.counts[True]


def test_two_who_want_all_of_one_limit_share_it() -> None:
    """As two replicas do that serve one integration."""
    rng, api = random.Random(11), Api(8)
    clients = [Client(api, 8) for _ in range(2)]
    for _ in range(40_000):
        rng.choice(clients).something(rng)
    served = sorted(client.counts[True] for client in clients)
    assert served[0] > 0.4 * sum(served)
    assert sum(client.counts[False] for client in clients) < 0.15 * sum(served)
