"""The table of bounds in docs/architecture.md names existing settings, and constants of the files that it names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.config.table import all_settings
from daemon.core.model import Status

ROOT = Path(__file__).parents[2]


def rows() -> list[list[str]]:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    section = page.split("## What is bounded by what")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:40])
def test_a_bound_has_a_name_and_the_name_exists(row: list[str]) -> None:
    what, bound, places, happens = row
    assert what
    assert happens
    paths = [ROOT / "daemon" / place for place in names(places)]
    assert all(path.exists() for path in paths), places
    source = "".join(sources(paths))
    known = {setting.name for setting in all_settings()}
    for name in names(bound) + names(happens):
        if name.isupper() and name not in list(Status):
            assert re.search(rf"^{name} = ", source, re.MULTILINE), f"{name} is not defined in {places}"
        elif "." in name:
            assert name in known, f"there is no setting {name}"


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def sources(paths: list[Path]) -> Iterator[str]:
    for path in paths:
        for file in path.rglob("*.py") if path.is_dir() else [path]:
            yield file.read_text(encoding="utf-8")


def test_the_table_was_found() -> None:
    assert len(rows()) > 20
