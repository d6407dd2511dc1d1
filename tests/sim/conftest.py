from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Iterator

import pytest
import structlog

from tests.sim.telling import quiet


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    before = structlog.get_config()
    with warnings.catch_warnings():
        quiet()
        yield
        gc.collect()  # what was killed complains now, and is not heard
    structlog.configure(**before)
