"""`python -m tests.sandbox chaos`, as a user runs it: short, and on a real Kafka."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.integration.sandbox_command import DEADLINE, running, wait_until

BAD_COLUMNS = ("lost", "duplicate", "false_successes", "misordered", "unconverged", "other_violations")

pytestmark = [pytest.mark.endurance, pytest.mark.kafka, pytest.mark.usefixtures("startable_kafka")]


def test_a_short_run_keeps_the_contract(tmp_path: Path) -> None:
    with running(tmp_path, "chaos", "--kills", "3", "--seed", "143") as chaos:
        code = chaos.process.wait(2 * DEADLINE)
        assert code == 0, chaos.output()

    report = json.loads(chaos.output().splitlines()[-1])
    assert [report[column] for column in BAD_COLUMNS] == [0] * len(BAD_COLUMNS)
    assert report["kills"] == 3
    assert report["zombies"] == 2
    assert report["broker_restarts"] == 1
    assert report["changes"] > 1000
    assert report["takeover_seconds"]["max"] > 0
    assert report["restart_seconds"]["max"] > 0
    assert chaos.left_running() == []


def test_a_run_that_is_interrupted_leaves_nothing_running_or_frozen(tmp_path: Path) -> None:
    with running(tmp_path, "chaos", "--kills", "3", "--seed", "143") as chaos:
        wait_until(lambda: "SIGSTOP for longer" in chaos.output(), chaos)
        chaos.process.send_signal(signal.SIGINT)
        assert chaos.process.wait(DEADLINE) == 130, chaos.output()
        wait_until(lambda: chaos.left_running() == [], chaos)
