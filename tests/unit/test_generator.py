"""Generated records: the same for the same seed, as mixed as the plan says, and good or bad beyond doubt."""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from typing import Any

import pytest

from daemon.codec.decode import decode_change
from daemon.core.deactivate import DEACTIVATE
from daemon.core.model import Change, Rejection
from tests.sandbox.checker.history import DEACTIVATED, LogRecord
from tests.sandbox.checker.wire import NotAcceptableError, read_change
from tests.sandbox.generator import GeneratedRecord, InvalidKind, Plan, generate_records

ITEM_BYTES_MAX = 512 * 1024


def checked(record: GeneratedRecord) -> tuple[str, str, bytes] | None:
    """Integration, course and content as the checker reads them; None when it refuses the record."""
    raw = LogRecord("changes", 0, 0, record.key, record.value, record.headers)
    try:
        content = read_change(raw, ITEM_BYTES_MAX)
    except NotAcceptableError:
        return None
    return content.integration_id, content.origin_id, content.digest


def decoded(record: GeneratedRecord) -> Change | Rejection:
    """As the daemon reads it."""
    return decode_change(
        0, record.key, record.value, record.headers, consumed_at=0, item_bytes_max=ITEM_BYTES_MAX
    )


def form(record: GeneratedRecord) -> str:
    headers = dict(record.headers)
    if "ce_specversion" in headers:
        return "binary"
    return "structured" if "content-type" in headers else "plain"


def test_the_same_plan_gives_the_same_records_and_another_seed_others() -> None:
    plan = Plan(changes=500, invalid_share=0.1)
    assert list(generate_records(plan)) == list(generate_records(plan))
    other = Plan(changes=500, invalid_share=0.1, seed=2)
    assert list(generate_records(plan)) != list(generate_records(other))


def test_good_records_are_read_alike_by_daemon_and_checker_in_all_three_forms() -> None:
    forms: Counter[str] = Counter()
    for record in generate_records(Plan(changes=1000, invalid_share=0)):
        forms[form(record)] += 1
        change = decoded(record)
        assert isinstance(change, Change), change
        seen = checked(record)
        assert seen is not None
        assert (change.integration_id, change.origin_id) == seen[:2]
        assert record.key == change.integration_id.encode()
        assert set(json.loads(change.body)["course"]) <= {
            "type",
            "title",
            "course_url",
            "description",
            "thumbnail_url",
            "duration",
            "languages",
        }
    assert forms["plain"] > forms["structured"] > 100
    assert forms["binary"] > 100


def test_courses_are_retired_with_and_without_an_id_and_come_back() -> None:
    retired: dict[tuple[str, str], int] = {}
    own = returned = 0
    for number, record in enumerate(generate_records(Plan(changes=5000, invalid_share=0, retire_share=0.04))):
        change, seen = decoded(record), checked(record)
        assert isinstance(change, Change), change
        assert seen is not None
        if change.operation is DEACTIVATE:
            assert seen[2] == DEACTIVATED
            own += b"remote:" in change.body
            retired[seen[:2]] = number
        else:
            returned += seen[:2] in retired
    assert len(retired) > 100
    assert own > 30
    assert returned > 50


def test_the_catalogue_is_published_again_in_other_bytes_with_the_same_meaning() -> None:
    plan = Plan(changes=5000, republished=800, retire_share=0.04)
    records = list(generate_records(plan))
    assert records[:4200] == list(generate_records(Plan(changes=4200, retire_share=0.04)))
    last: dict[tuple[str, str], Change | None] = {}
    for record in records[:4200]:
        change = decoded(record)
        if isinstance(change, Change):
            retired = change.operation is DEACTIVATE
            last[change.integration_id, change.origin_id] = None if retired else change
    other = 0
    for record in records[4200:]:
        change = decoded(record)
        assert isinstance(change, Change)
        before = last[change.integration_id, change.origin_id]
        assert before is not None, "a retired course"
        assert change.content == before.content
        other += change.body != before.body
    assert other > 400, "the daemon's own bodies differ, too"


def test_bad_records_of_every_kind_are_refused_by_daemon_and_checker() -> None:
    count = len(InvalidKind)
    records = list(generate_records(Plan(changes=count, invalid_share=1)))
    assert {record.invalid for record in records} == set(InvalidKind)
    for record in records:
        assert checked(record) is None, record.invalid
        rejection = decoded(record)
        assert isinstance(rejection, Rejection), record.invalid


def test_shares_are_as_the_plan_says() -> None:
    plan = Plan(changes=20_000, invalid_share=0.02, repeat_share=0.4, return_share=0.1)
    records = list(generate_records(plan))
    bad = sum(record.invalid is not None for record in records)
    assert 300 < bad < 500
    returns, repeats = 0, 0
    past: defaultdict[tuple[str, str], list[bytes]] = defaultdict(list)
    recent: list[tuple[str, str]] = []
    for record in records:
        seen = checked(record)
        if seen is None:
            continue
        course, content = seen[:2], seen[2]
        returns += content in past[course][:-1] and content != past[course][-1]
        repeats += course in recent[-12:]
        past[course].append(content)
        recent.append(course)
    assert 0.07 < returns / len(records) < 0.11
    assert repeats / len(records) > 0.3


def test_courses_change_with_every_change_and_quiet_ones_flip() -> None:
    plan = Plan(changes=5000, integrations=5, quiet_integrations=1, invalid_share=0, return_share=0.2)
    contents: defaultdict[tuple[str, str], list[bytes]] = defaultdict(list)
    for record in generate_records(plan):
        seen = checked(record)
        assert seen is not None
        contents[seen[:2]].append(seen[2])
    by_integration = Counter(integration for integration, _ in contents)
    quiet = [integration for integration, courses in by_integration.items() if courses == 1]
    assert len(quiet) == 1
    assert len(by_integration) == 5
    for (integration, _), sequence in contents.items():
        assert all(a != b for a, b in itertools.pairwise(sequence))
        if integration in quiet:
            assert len(sequence) > 100
            assert len(set(sequence)) == 2


def test_bulk_changes_come_in_every_form() -> None:
    plan = Plan(changes=600, invalid_share=0, retire_share=0.1, bulk_share=0.5)
    bulk, forms = 0, set()
    for record in generate_records(plan):
        change = decoded(record)
        assert isinstance(change, Change)
        assert checked(record) is not None
        if change.bulk:
            bulk += 1
            forms.add((form(record), change.operation.name))
    assert 200 < bulk < 400
    assert len(forms) == 6


def test_ids_are_unique() -> None:
    ids = [
        change.change_id
        for record in generate_records(Plan(changes=1000, invalid_share=0))
        if isinstance(change := decoded(record), Change)
    ]
    assert len(set(ids)) == 1000


@pytest.mark.parametrize(
    "wrong",
    [
        {"invalid_share": 1.5},
        {"repeat_share": -0.1},
        {"changes": -1},
        {"integrations": 0},
        {"courses_per_integration": 0},
        {"integrations": 2, "quiet_integrations": 2},
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong)).partition("_")[0]):
        Plan(**wrong)
