"""`python -m tests.sandbox soak`, as a user runs it: short, and on a real Kafka."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.integration.sandbox_command import DEADLINE, running

BAD_COLUMNS = ("lost", "duplicate", "false_successes", "misordered", "unconverged", "other_violations")

pytestmark = [pytest.mark.endurance, pytest.mark.kafka, pytest.mark.usefixtures("startable_kafka")]


def test_a_short_overload_fills_the_backlog_pauses_the_input_and_ends_well(tmp_path: Path) -> None:
    with running(tmp_path, "soak", "--minutes", "0.4") as soak:
        code = soak.process.wait(2 * DEADLINE)
        assert code == 0, soak.output()

    report = json.loads(soak.output().splitlines()[-1])
    assert report["waiting_max"] >= report["backlog_limit"]
    assert 0 < report["paused_share"] < 1
    assert report["resolved_rate"] < report["published_rate"]
    # None is lost, so what was published while its partition was paused has its result as well: the input was resumed.
    assert [report[column] for column in BAD_COLUMNS] == [0] * len(BAD_COLUMNS)
    assert report["flat"] is None
    assert soak.left_running() == []
