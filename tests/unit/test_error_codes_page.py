"""docs/error-codes.md is that of the code, and its generator notices when it can no longer say so."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon.core import verdict
from daemon.core.verdict import ItemVerdict
from tests.tools import error_codes_page

PAGE = Path(__file__).parents[2] / "docs" / "error-codes.md"


def test_the_page_is_that_of_the_code() -> None:
    assert PAGE.read_text(encoding="utf-8") == error_codes_page.page(), (
        "docs/error-codes.md differs from the code: python -m tests.tools.error_codes_page > docs/error-codes.md"
    )


def test_the_source_is_seen() -> None:
    assert "COURSESYNC.STALE_REPLAY" in error_codes_page.codes_in_the_source()


def test_a_code_that_is_not_described_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(error_codes_page.OWN, "COURSESYNC.BACKLOG_FULL")
    with pytest.raises(AssertionError, match="BACKLOG_FULL"):
        error_codes_page.page()


def test_a_family_of_the_api_that_is_not_described_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(error_codes_page.PEOPLE, "`LMS.*`")
    with pytest.raises(AssertionError, match=r"LMS\.\*"):
        error_codes_page.page()


def test_another_verdict_of_the_code_makes_another_page(monkeypatch: pytest.MonkeyPatch) -> None:
    before = error_codes_page.page()
    of_item = verdict.of_item

    def never_again(code: str | None) -> ItemVerdict:
        found = of_item(code)
        return ItemVerdict.FAIL if found is ItemVerdict.RESUBMIT else found

    monkeypatch.setattr(error_codes_page, "of_item", never_again)
    assert error_codes_page.page() != before
