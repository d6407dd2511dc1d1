"""What the daemon is compared with is no straw man: as long as nothing goes wrong, it does the same work."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.end_to_end import measure_end_to_end
from tests.bench.load import distinct_changes, preload
from tests.bench.rates import PLAIN
from tests.bench.setting import Setting

pytestmark = pytest.mark.kafka

CHANGES = 1_000


def test_the_plain_program_gives_every_change_one_success(kafka_bootstrap: str, tmp_path: Path) -> None:
    setting = Setting(tmp_path, kafka_bootstrap, None)
    with setting.stack("plain", task_seconds=0.0, settings={}, program=PLAIN) as stack:
        preload(stack.addresses, distinct_changes(CHANGES, seed=1))
        measure_end_to_end(setting, stack, CHANGES)  # raises unless there is one success for each change
        stack.drain_daemon()
        assert stack.ask_simulator("stats")["courses"] == CHANGES
