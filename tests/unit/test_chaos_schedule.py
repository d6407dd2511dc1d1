"""The schedule of a chaos run: as many kills as asked for, everything else beside them, the same for a seed."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from tests.sandbox.chaos.schedule import API, BROKER, EXTRA, REPLICAS, Kind, Strike, rounds

SESSION_TIMEOUT = 6.0


def strikes(kills: int, seed: int) -> list[Strike]:
    return [strike for one in rounds(kills, seed, SESSION_TIMEOUT) for strike in one.strikes]


@pytest.mark.parametrize("kills", [1, 2, 3, 7, 10, 57, 200])
def test_there_are_as_many_kills_as_asked_for(kills: int) -> None:
    for seed in range(20):
        assert Counter(s.kind for s in strikes(kills, seed))[Kind.KILL] == kills


def test_two_storms_have_nearly_every_kind_and_three_have_all() -> None:
    for seed in range(20):
        assert len({s.kind for s in strikes(10, seed)}) >= len(Kind) - 1
        assert {s.kind for s in strikes(17, seed)} == set(Kind)


def test_a_seed_decides_everything() -> None:
    assert rounds(50, 7, SESSION_TIMEOUT) == rounds(50, 7, SESSION_TIMEOUT)
    assert rounds(50, 7, SESSION_TIMEOUT) != rounds(50, 8, SESSION_TIMEOUT)


def test_a_target_bears_one_strike_at_a_time() -> None:
    for seed in range(20):
        for one in rounds(50, seed, SESSION_TIMEOUT):
            busy_until: dict[int, float] = defaultdict(float)
            assert list(one.strikes) == sorted(one.strikes)
            for strike in one.strikes:
                assert strike.target in {*range(REPLICAS), EXTRA, BROKER, API}
                assert strike.at >= busy_until[strike.target]
                busy_until[strike.target] = strike.at + strike.seconds


def test_a_zombie_sleeps_longer_than_its_session() -> None:
    zombies = [s for s in strikes(100, 1) if s.kind is Kind.ZOMBIE]
    assert zombies
    assert all(s.seconds > SESSION_TIMEOUT for s in zombies)


def test_who_is_replaced_is_thawed_before_its_session_ends_or_after() -> None:
    replaced = [s for s in strikes(100, 1) if s.kind is Kind.REPLACE]
    assert {s.seconds > SESSION_TIMEOUT for s in replaced} == {True, False}
    assert all(s.seconds > 2.0 for s in replaced)  # the other process comes up in that time


def test_what_is_measured_is_measured_alone() -> None:
    measured = [one for one in rounds(200, 3, SESSION_TIMEOUT) if one.measured]
    assert all([s.kind for s in one.strikes] == [Kind.KILL] for one in measured)
    away = [one.strikes[0].seconds > SESSION_TIMEOUT for one in measured]
    assert away.count(True) == away.count(False) == 10
