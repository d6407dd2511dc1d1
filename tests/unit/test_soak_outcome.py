"""What a soak makes of its looks: memory by minute, and whether it stayed what it was."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.sandbox.checker.verdict import Kind, Verdict
from tests.sandbox.soak.looking import Look
from tests.sandbox.soak.outcome import SoakOutcome


def outcome(minutes: float, rss_mb: Callable[[float], float], verdict: Verdict | None = None) -> SoakOutcome:
    """A look each second; `rss_mb` by the second."""
    looks = [
        Look(
            at=float(second),
            rss_mb=rss_mb(second),
            peak_mb=200.0,
            threads=30,
            descriptors=90,
            waiting=1000 + second % 7,
            paused=second % 3,
            partitions=2,
            lag=10 * second,
            pending_tasks=5,
            resolved=50 + 100 * second,
        )
        for second in range(round(minutes * 60))
    ]
    return SoakOutcome(
        minutes=minutes,
        looks=looks,
        published=round(minutes * 60 * 200),
        backlog_limit=1000,
        verdict=verdict or Verdict(),
        seconds=minutes * 60 + 30,
    )


def test_memory_is_told_at_a_tenth_half_and_the_end_and_a_moment_does_not_count() -> None:
    told = outcome(10, lambda second: 180.0 if second in (60, 300, 599) else 100.0).as_dict()
    assert told["rss_mb"] == {"1": 100.0, "5": 100.0, "10": 100.0}
    assert told["flat"] is True
    assert outcome(0.5, lambda _: 100.0).as_dict()["threads"] == {"0.05": 30, "0.25": 30, "0.5": 30}


@pytest.mark.parametrize(("last", "flat"), [(90.0, True), (109.0, True), (112.0, False)])
def test_ten_percent_more_at_the_end_than_at_the_first_mark_is_too_much(last: float, flat: bool) -> None:
    soak = outcome(10, lambda second: 100.0 if second <= 60 else last)
    assert soak.as_dict()["rss_growth"] == pytest.approx(last / 100 - 1)
    assert soak.flat is flat
    assert soak.ok is flat


def test_a_short_run_is_not_judged_by_its_memory() -> None:
    soak = outcome(1, lambda second: 100.0 + second)
    assert soak.flat is None
    assert soak.ok


def test_a_broken_contract_is_never_good() -> None:
    verdict = Verdict()
    verdict.add(Kind.LOST, "course-changes/0/1 has no result")
    verdict.add(Kind.UNASKED, "something")
    soak = outcome(10, lambda _: 100.0, verdict)
    assert not soak.ok
    assert (soak.as_dict()["lost"], soak.as_dict()["other_violations"]) == (1, 1)


def test_the_other_figures() -> None:
    told = outcome(1, lambda _: 100.0).as_dict()
    assert told["published_rate"] == 200.0
    assert told["resolved_rate"] == 100.0
    assert told["waiting_max"] == 1006
    assert told["paused_share"] == 0.5
    assert told["lag_max"] == 590
    assert told["seconds"] == 90
