"""The table of bounds in docs/architecture.md names settings and constants that there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from daemon.config.table import all_settings

ROOT = Path(__file__).parents[2]


def rows() -> list[list[str]]:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = page.split("## What is bounded by what")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:40])
def test_a_bound_has_a_name_and_the_name_exists(row):
    what, bound, places, happens = row
    assert what
    assert happens
    for place in re.findall(r"`([^`]+)`", places):
        assert (ROOT / "daemon" / place).exists()
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "daemon").rglob("*.py"))
    known = {setting.name for setting in all_settings()}
    for name in re.findall(r"`([^`]+)`", bound):
        if name.isupper():
            assert re.search(rf"^{name} = ", source, re.MULTILINE), f"there is no constant {name}"
        elif "." in name:
            assert name in known, f"there is no setting {name}"


def test_the_table_was_found():
    assert len(rows()) > 20
