"""docs/verdicts.md is what the judge rules, and its generator notices when it can no longer say so."""

from pathlib import Path

import pytest

from daemon.core import verdict
from daemon.core.verdict import ItemVerdict, PollVerdict, SubmitVerdict, TaskVerdict
from tests.tools import verdicts_page
from tests.tools.verdicts_page import CASES, HAPPENS, Case

PAGE = Path(__file__).parents[2] / "docs" / "verdicts.md"


def test_the_page_is_that_of_the_code() -> None:
    assert PAGE.read_text(encoding="utf-8") == verdicts_page.page(), (
        "docs/verdicts.md differs from the code: python -m tests.tools.verdicts_page > docs/verdicts.md"
    )


def test_every_verdict_of_every_place_is_on_the_page() -> None:
    assert HAPPENS["submit"].keys() | HAPPENS["deactivate"].keys() == set(SubmitVerdict)
    assert set(HAPPENS["poll"]) == set(PollVerdict)
    assert set(HAPPENS["task"]) == set(TaskVerdict)
    assert set(HAPPENS["item"]) == set(ItemVerdict)
    # `settle_late.late_answered` has nothing to carry out for these.
    assert set(HAPPENS["watch"]) == set(PollVerdict) - {PollVerdict.LOST, PollVerdict.REPLAYED}


@pytest.mark.parametrize("place", CASES)
def test_no_answer_is_named_twice(place: str) -> None:
    answers = [case.answer for case in CASES[place]()]
    assert len(set(answers)) == len(answers)


def test_examples_that_differ_have_no_common_row() -> None:
    with pytest.raises(AssertionError, match="differ"):
        _ = Case("two in one", [ItemVerdict.FAIL, ItemVerdict.SUCCEEDED]).verdict


def test_another_verdict_of_the_code_makes_another_page(monkeypatch: pytest.MonkeyPatch) -> None:
    before = verdicts_page.page()
    of_item = verdict.of_item

    def never_again(code: str | None) -> ItemVerdict:
        found = of_item(code)
        return ItemVerdict.FAIL if found is ItemVerdict.RESUBMIT else found

    monkeypatch.setattr(verdict, "of_item", never_again)
    assert verdicts_page.page() != before


def test_a_row_whose_examples_are_no_longer_treated_alike_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict, "_is_customer_side", lambda code: code == "INTEGRATION.INACTIVE")
    with pytest.raises(AssertionError, match="differ"):
        verdicts_page.page()


def test_a_verdict_that_nothing_leads_to_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verdict, "of_task", lambda code: TaskVerdict.FAIL)
    with pytest.raises(AssertionError, match="ruled and not described"):
        verdicts_page.page()
