"""The figures of the core that `make bench` measures still come out; how good they are is not for a test to say."""

from __future__ import annotations

import pytest

from tests.bench.core import FIGURES


@pytest.mark.parametrize(("figure", "size"), [("heap", 1_000), ("flow", 1_000), ("in_flight", 10_000)])
def test_a_figure_of_the_core_is_measured(figure: str, size: int) -> None:
    measured = FIGURES[figure](size)
    assert measured
    assert all(value >= 0 for value in measured.values())
