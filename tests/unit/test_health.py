"""The probes, fact by fact, on a clock of the test's own."""

from __future__ import annotations

import pytest

from daemon.core.model import Now
from daemon.telemetry.health import (
    KAFKA_SILENCE_MAX_S,
    REASONS_MAX,
    SILENCE_MAX_S,
    Health,
    PartitionStatus,
)
from daemon.telemetry.labels import Lifecycle


class Clock:
    def __init__(self) -> None:
        self.now = Now(wall=1_790_000_000_000, mono=50.0)

    def __call__(self) -> Now:
        return self.now

    def pass_seconds(self, seconds: float) -> None:
        self.now = Now(self.now.wall + int(seconds * 1000), self.now.mono + seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health(("input", "poll"), clock)


def running(health: Health, *partitions: int) -> Health:
    health.assigned(partitions)
    for partition in partitions:
        health.restored(partition)
    return health


# --- startup --------------------------------------------------------------------------------------


def test_startup_waits_for_every_loop_and_for_no_restore(health: Health) -> None:
    health.tick("input")
    assert health.startup().reasons == ("loop poll has not started yet",)
    health.tick("poll")
    health.assigned({0})
    assert health.startup().passed
    assert not health.ready().passed


# --- live -----------------------------------------------------------------------------------------


def test_live_fails_when_one_loop_is_silent(health: Health, clock: Clock) -> None:
    health.tick("input")
    health.tick("poll")
    clock.pass_seconds(SILENCE_MAX_S - 1)
    health.tick("input")
    assert health.live().passed
    clock.pass_seconds(1)
    assert health.live().reasons == ("loop poll has been silent for 90 s (limit: 90 s)",)
    health.tick("poll")
    assert health.live().passed


def test_a_loop_that_never_started_counts_as_silent_from_the_start(health: Health, clock: Clock) -> None:
    clock.pass_seconds(SILENCE_MAX_S)
    assert len(health.live().reasons) == 2


def test_live_does_not_mind_a_wall_clock_that_jumps(health: Health, clock: Clock) -> None:
    health.tick("input")
    health.tick("poll")
    clock.now = Now(clock.now.wall + 10**9, clock.now.mono + 1)
    assert health.live().passed


def test_live_holds_while_halted_draining_or_blocked(health: Health) -> None:
    running(health, 0)
    health.blocked(0, "x")
    health.halted("x")
    health.draining()
    assert health.live().passed


def test_an_unknown_loop_is_a_mistake_of_the_program(health: Health) -> None:
    with pytest.raises(KeyError, match="no loop named 'pol'; known are input, poll"):
        health.tick("pol")


# --- ready ----------------------------------------------------------------------------------------


def test_not_ready_before_the_group_was_joined(health: Health) -> None:
    assert health.ready().reasons == ("has not joined the consumer group yet",)


def test_ready_when_all_that_was_assigned_first_is_restored(health: Health) -> None:
    health.assigned({0, 1})
    health.restored(0)
    assert health.ready().reasons == ("partition 1 is restoring",)
    health.restored(1)
    assert health.ready().passed


def test_an_idle_member_is_ready(health: Health) -> None:
    health.assigned(())
    assert health.ready().passed


def test_later_assignments_do_not_make_it_flap(health: Health) -> None:
    running(health, 0)
    health.assigned({0, 1})
    assert health.ready().passed
    health.revoked({0, 1})
    assert health.ready().passed
    health.assigned({2})
    assert health.ready().passed
    health.restoring(2)
    assert health.ready().passed


def test_a_partition_assigned_before_the_first_is_restored_is_not_awaited(health: Health) -> None:
    health.assigned({0})
    health.assigned({0, 1})
    health.restored(0)
    assert health.ready().passed
    assert health.partitions[1].state is PartitionStatus.RESTORING


def test_what_was_taken_away_is_not_awaited(health: Health) -> None:
    health.assigned({0, 1})
    health.restored(0)
    health.revoked({1})
    health.assigned({0})
    assert health.ready().passed


def test_not_ready_when_everything_was_taken_away_before_it_was_restored(health: Health) -> None:
    """An eager group revokes all at each rebalance: a replica that starts along with others must not
    be ready in between."""
    health.assigned({0, 1})
    health.revoked({0, 1})
    assert not health.ready().passed
    health.assigned({1, 2})
    assert health.ready().reasons == ("partition 1 is restoring", "partition 2 is restoring")
    health.restored(1)
    health.restored(2)
    assert health.ready().passed


def test_news_of_a_partition_that_is_gone_are_ignored(health: Health) -> None:
    health.assigned({0, 1})
    health.revoked({1})
    health.restored(1)
    health.blocked(1, "x")
    assert list(health.partitions) == [0]
    assert not health.ready().passed


def test_a_partition_that_is_blocked_at_first_keeps_it_from_being_ready_and_says_why(health: Health) -> None:
    health.assigned({0, 1})
    health.restored(0)
    health.blocked(1, "its input topic was replaced: coursesyncd check")
    assert health.ready().reasons == (
        "partition 1 is blocked: its input topic was replaced: coursesyncd check",
    )


def test_a_partition_that_is_blocked_later_does_not(health: Health) -> None:
    running(health, 0, 1)
    health.blocked(1, "x")
    assert health.ready().passed


def test_not_ready_while_halted(health: Health) -> None:
    running(health, 0)
    health.halted("the API refuses our key")
    assert health.ready().reasons == ("halted: the API refuses our key",)
    health.halted(None)
    assert health.ready().passed


def test_not_ready_while_draining(health: Health) -> None:
    running(health, 0)
    health.draining()
    assert health.ready().reasons == ("draining: stop requested",)


def test_a_long_list_of_reasons_is_cut(health: Health) -> None:
    health.assigned(range(40))
    reasons = health.ready().reasons
    assert len(reasons) == REASONS_MAX + 1
    assert reasons[-1] == "and 30 more"


# --- lifecycle ------------------------------------------------------------------------------------


def test_the_lifecycle(health: Health) -> None:
    seen = [health.lifecycle]
    health.assigned({0, 1})
    seen.append(health.lifecycle)
    health.restored(0)
    health.blocked(1, "x")
    seen.append(health.lifecycle)
    health.restoring(0)
    seen.append(health.lifecycle)
    health.halted("key")
    seen.append(health.lifecycle)
    health.draining()
    seen.append(health.lifecycle)
    assert seen == [
        Lifecycle.STARTING,
        Lifecycle.RESTORING,
        Lifecycle.RUNNING,
        Lifecycle.RESTORING,
        Lifecycle.HALTED,
        Lifecycle.DRAINING,
    ]


def test_partitions_that_stay_keep_their_state(health: Health) -> None:
    running(health, 0)
    health.assigned({1, 0})
    assert {n: p.state for n, p in health.partitions.items()} == {
        0: PartitionStatus.RUNNING,
        1: PartitionStatus.RESTORING,
    }


def test_silence_is_told_for_the_watchdog(health: Health, clock: Clock) -> None:
    health.tick("input")
    clock.pass_seconds(3)
    assert health.silence_s() == {"input": 3, "poll": 3}
    health.tick("poll")
    assert health.silence_s() == {"input": 3, "poll": 0}


# --- Kafka ----------------------------------------------------------------------------------------


def test_it_is_ready_while_kafka_answers_and_again_with_its_first_answer(
    health: Health, clock: Clock
) -> None:
    running(health, 0)
    assert health.ready().passed, "nothing is known about Kafka"
    health.kafka_answered(0.5)
    clock.pass_seconds(KAFKA_SILENCE_MAX_S - 1)
    assert health.ready().passed
    health.kafka_answered(KAFKA_SILENCE_MAX_S + 3)
    assert health.ready().reasons == ("Kafka has not answered for 63 s (limit: 60 s)",)
    assert health.live().passed, "a restart would repair nothing"
    health.kafka_answered(0.0)
    assert health.ready().passed


def test_the_silence_of_kafka_grows_though_nobody_reports_it(health: Health, clock: Clock) -> None:
    running(health, 0)
    health.kafka_answered(1.0)
    clock.pass_seconds(KAFKA_SILENCE_MAX_S)
    assert not health.ready().passed


def test_the_last_answer_is_a_time_of_the_wall_clock(health: Health, clock: Clock) -> None:
    assert health.kafka_answered_ms is None
    health.kafka_answered(None)
    assert health.kafka_answered_ms is None
    health.kafka_answered(2.5)
    assert health.kafka_answered_ms == clock.now.wall - 2500
