"""What differs between integrations in the core, and what happens to work that is under way when it changes."""

from __future__ import annotations

import random
from typing import Any

from daemon import config
from daemon.config import Policies, PolicyTable, Settings
from daemon.core.answers import Accepted
from daemon.core.flow import Flow, Permit
from daemon.core.own_rates import UNUSED_SECONDS, OwnRates
from daemon.core.rate import Call
from daemon.core.verdict import PollVerdict, SubmitVerdict
from tests.unit.core_bench import Bench

GOOD = Accepted("task", concurrency_limit=100, concurrency_remaining=99)


def table(name: str, **values: object) -> PolicyTable:
    return PolicyTable(name, {key.replace("__", "."): value for key, value in values.items()})


# --- batches and windows --------------------------------------------------------------------------


def test_each_integration_has_its_own_batch_size_and_window() -> None:
    bench = Bench(tables=[table("slow", batch__items_max=2, window__batches_max=1)])
    bench.publish(*"abcde", integration_id="slow")
    bench.publish(*"abcde", integration_id="fast")
    assert [(b.integration_id, len(b.items)) for b in bench.linger()] == [("slow", 2), ("fast", 5)]


def test_a_wider_window_opens_without_a_new_change_or_answer() -> None:
    bench = Bench(tables=[table("slow", batch__items_max=2, window__batches_max=1)])
    bench.publish(*"abcde", integration_id="slow")
    assert len(bench.linger()) == 1
    assert bench.shard.due() is None
    bench.policies.use([table("slow", batch__items_max=2)])
    bench.shard.policies_changed(bench.now)
    assert [len(batch.items) for batch in bench.linger()] == [2, 1]


def test_a_smaller_window_opens_nothing_until_enough_has_ended() -> None:
    bench = Bench(tables=[table("slow", batch__items_max=1, window__batches_max=3)])
    bench.publish(*"abcde", integration_id="slow")
    first, second, third = bench.linger()
    bench.policies.use([table("slow", batch__items_max=1, window__batches_max=1)])
    bench.shard.policies_changed(bench.now)
    assert bench.linger() == []
    for batch in (first, second):
        bench.accept(batch)
        bench.poll_answer(batch, bench.task_failed("PLATFORM.INPUT_INVALID"))
        assert bench.linger() == []
    bench.accept(third)
    bench.poll_answer(third, bench.task_failed("PLATFORM.INPUT_INVALID"))
    assert len(bench.linger()) == 1


# --- time-outs ------------------------------------------------------------------------------------


def test_the_next_poll_of_an_open_task_is_judged_by_its_new_timeout() -> None:
    bench = Bench(tables=[table("slow", task__timeout=7200.0)])
    batch = bench.accepted("a", integration_id="slow")
    assert bench.poll_answer(batch, bench.pending(age=3700)) is PollVerdict.PENDING
    bench.policies.use([table("slow", task__timeout=3600.0, task__watch_after_timeout=600.0)])
    assert bench.poll_answer(batch, bench.pending(age=3800)) is PollVerdict.OVERDUE
    late = bench.late(batch)
    bench.policies.use([table("slow", task__timeout=3600.0, task__watch_after_timeout=900.0)])
    assert bench.late_answer(late, bench.pending(age=4300)) is PollVerdict.PENDING
    assert bench.late_answer(late, bench.pending(age=4501)) is PollVerdict.OVERDUE


def test_the_age_of_each_task_is_a_share_of_its_own_timeout() -> None:
    bench = Bench(tables=[table("slow", task__timeout=40_000.0), table("fast", task__timeout=2_000.0)])
    assert bench.shard.timeout_ratio(bench.now.wall) == 0
    bench.accepted("a", integration_id="slow")
    bench.pass_time(4_000)
    slow_alone = bench.shard.timeout_ratio(bench.now.wall)
    bench.accepted("a", integration_id="fast")
    bench.pass_time(1_000)
    assert round(slow_alone, 3) == 0.1
    assert round(bench.shard.timeout_ratio(bench.now.wall), 3) == 0.5
    assert bench.shard.timeout_ratio(0) == 0, "the API's clock is ahead of ours"


# --- the flow -------------------------------------------------------------------------------------


def flow_with(*tables: PolicyTable, common: float | None = None) -> tuple[Flow[int], Policies]:
    settings = Settings(http=config.HttpSettings(requests_per_second_max=common))
    policies = Policies(settings, tables)
    return Flow(settings, policies, random.Random(1)), policies


def send_all(flow: Flow[int], now: float) -> list[str]:
    """Everything that may go out; each is answered at once. Returns the integrations."""
    sent = []
    while (permit := flow.next_submission(now)) is not None:
        assert flow.try_send(permit, now)
        flow.submission_done(permit, GOOD, SubmitVerdict.ACCEPTED, now)
        sent.append(permit.integration_id)
    return sent


def test_an_own_rate_slows_down_one_integration_and_no_other() -> None:
    flow, _ = flow_with(table("slow", http__requests_per_second_max=2.0))
    for number in range(40):
        flow.offer("slow", number)
        flow.offer("fast", number)
    assert sorted(send_all(flow, 0.0)) == ["fast"] * 40 + ["slow"]
    sent, now = 1, 0.0
    while sent < 20:
        due = flow.due(now)
        assert due is not None
        assert due > now
        now = due
        sent += len(send_all(flow, now))
    # 20 submissions, less the one of the full bucket, at two a second, as there are no polls; the other bucket was full.
    assert 8.5 <= now <= 9.5


def test_polls_count_towards_the_own_rate() -> None:
    flow, _ = flow_with(table("slow", http__requests_per_second_max=1.0))
    assert flow.own_poll_due("slow", 0.0) is None
    assert flow.may_poll(0.0, "slow")
    due = flow.own_poll_due("slow", 0.0)
    assert due is not None
    assert due > 0.0
    assert flow.own_poll_due("fast", 0.0) is None
    assert flow.own_poll_due("slow", due) is None


def test_a_submission_that_waited_for_its_lease_needs_another_place_in_its_own_rate() -> None:
    flow, _ = flow_with(table("slow", http__requests_per_second_max=1.0), common=100.0)
    for number in range(2):
        flow.offer("slow", number)
    permit = flow.next_submission(0.0)
    assert permit is not None
    own = flow._own_rates.of("slow", 20.0)
    assert own is not None
    assert own.take(Call.SUBMIT, 20.0)
    assert not flow.try_send(permit, 20.0)
    flow.released(permit, 20.0)
    assert flow.next_submission(20.0) is None


def test_a_policy_that_changes_is_used_at_once_for_window_and_rate() -> None:
    flow, policies = flow_with(table("slow", http__requests_per_second_max=0.1, window__batches_max=2))
    for number in range(12):
        flow.offer("slow", number)
    assert len(send_all(flow, 0.0)) == 1
    policies.use([])
    flow.policies_changed(1.0)
    taken: list[Permit[int]] = []
    while (permit := flow.next_submission(1.0)) is not None:
        taken.append(permit)
        assert flow.try_send(permit, 1.0)
    assert flow._integrations["slow"].window.most == 8
    assert len(taken) == 2, "the window grows by answers only"
    policies.use([table("slow", window__batches_max=1)])
    flow.policies_changed(1.0)
    for permit in taken:
        flow.submission_done(permit, GOOD, SubmitVerdict.ACCEPTED, 1.0)
    assert flow.next_submission(1.0) is not None
    assert flow.next_submission(1.0) is None


def test_an_integration_that_is_forgotten_while_it_is_paced_leaves_nothing() -> None:
    flow, _ = flow_with(table("slow", http__requests_per_second_max=0.1))
    for number in range(2):
        flow.offer("slow", number)
    assert len(send_all(flow, 0.0)) == 1
    flow.drop(lambda _: False, 0.0)
    assert send_all(flow, 61.0) == []
    assert (flow._integrations, list(flow._paced), flow.due(61.0)) == ({}, [], None)


def test_rates_that_nobody_asks_for_are_forgotten_and_limits_that_change_begin_anew() -> None:
    policies = Policies(Settings(), [table("a*", http__requests_per_second_max=1.0)])
    rates = OwnRates(policies, 0.25)
    for number in range(50):
        rates.of(f"a{number}", float(number))
    assert rates.of("b", 49.0) is None
    assert len(rates) == 50
    assert rates.of("a0", UNUSED_SECONDS + 20.0) is not None
    assert len(rates) == 30
    before = rates.of("a49", 80.0)
    assert rates.of("a49", 80.0) is before
    policies.use([table("a*", http__requests_per_second_max=2.0)])
    after: Any = rates.of("a49", 80.0)
    assert after is not before
    assert after.per_second == 2.0
