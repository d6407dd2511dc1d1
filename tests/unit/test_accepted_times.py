"""What a broker's refusal of a record says about its clock."""

from __future__ import annotations

import pytest

from daemon.commands.check import clock_finding
from daemon.commands.finding import Level
from daemon.log.kafka.accepted_times import AcceptedTimes, BrokerClock

REFUSAL = "Timestamp 1796000000000 of message with offset 0 is out of range. The timestamp should be within [{}, 1795999999999]"


def test_both_times_are_read_from_it() -> None:
    times = AcceptedTimes.of(REFUSAL.format(1795000000000))
    assert times == AcceptedTimes(1796000000000, 1795000000000, 1795999999999)
    assert str(times) == "from 2026-11-18T11:06:40.000Z to 2026-11-30T00:53:19.999Z"


def test_without_a_limit_for_old_records_there_is_no_first_time() -> None:
    times = AcceptedTimes.of(REFUSAL.format(-9223370241000000000))
    assert str(times) == "up to 2026-11-30T00:53:19.999Z"


@pytest.mark.parametrize("text", ["", "Compacted topic cannot accept message without key", "Timestamp 1 [2]"])
def test_other_refusals_say_nothing_about_times(text: str) -> None:
    assert AcceptedTimes.of(text) is None


@pytest.mark.parametrize(
    ("ahead", "level", "said"),
    [
        (0.4, Level.OK, "agrees with Kafka"),
        (-5.0, Level.OK, "agrees with Kafka"),
        (90.0, Level.ADVICE, "this host is 90 s ahead of Kafka"),
        (-7200.0, Level.ADVICE, "this host is 7200 s behind Kafka"),
        (3600.0, Level.ADVICE, "refuses records that are more than 3600 s ahead"),
        (3601.0, Level.WRONG, "nothing can be written"),
    ],
)
def test_check_says_what_a_difference_means(ahead: float, level: Level, said: str) -> None:
    finding = clock_finding(BrokerClock(ahead, 3600.0))
    assert (finding.level, finding.subject) == (level, "clock")
    assert said in finding.found
    assert (finding.to_do is None) == (level is Level.OK)
