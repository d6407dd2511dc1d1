"""A catalogue that is published again costs no call, also after a restart. The benchmark does it with 100,000 courses."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from tests.bench.republish import measure_republish
from tests.bench.setting import Setting

pytestmark = [pytest.mark.endurance, pytest.mark.kafka]


def test_nothing_is_sent_again(kafka_bootstrap: str, tmp_path: Path) -> None:
    rounds = measure_republish(Setting(tmp_path, kafka_bootstrap, None), 600, 5, Console(quiet=True))
    assert rounds["written"].calls > 0
    for name in ("again", "restarted"):
        assert rounds[name].is_free, (name, rounds[name])
