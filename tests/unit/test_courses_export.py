"""`coursesyncd courses export`: which records of the topic count, and how they are written."""

from __future__ import annotations

import csv
import json

import msgspec

from daemon.codec import encode_course
from daemon.commands.courses import COLUMNS, CourseTable, Wanted, _csv_line, csv_row
from daemon.commands.inspect_rows import known_row
from daemon.core.course import CourseRecord, CourseState
from daemon.log.topic_access import TopicRecord

ACTIVE = CourseRecord(
    "tool:1",
    "=c,1",
    CourseState.ACTIVE,
    "id-1",
    bytes(16),
    7,
    "chg-7",
    "task-1",
    1_700_000_000_000,
    1_700_000_001_000,
)
UNKNOWN = msgspec.structs.replace(
    ACTIVE, state=CourseState.UNKNOWN, content=None, offset=8, confirmed_at=None
)
OTHER = msgspec.structs.replace(ACTIVE, integration_id="tool:2", origin_id="c2")


def written(*records: CourseRecord | None, key: bytes | None = None) -> list[TopicRecord]:
    found = []
    for offset, record in enumerate(records):
        encoded = (key, None) if record is None else encode_course(record, 0, changes_topic="course-changes")
        found.append(TopicRecord("courses", 0, offset, 0, encoded[0], encoded[1], ()))
    return found


def table(records: list[TopicRecord], wanted: Wanted | None = None) -> CourseTable:
    found = CourseTable(wanted or Wanted())
    for record in records:
        found.add(record)
    return found


def states(found: CourseTable) -> list[tuple[str, str]]:
    return [(value["origin_id"], value["state"]) for value in map(json.loads, found.values())]


def test_the_last_record_of_each_course_counts() -> None:
    assert states(table(written(ACTIVE, OTHER, UNKNOWN))) == [("=c,1", "UNKNOWN"), ("c2", "ACTIVE")]
    key = written(ACTIVE)[0].key
    assert states(table(written(ACTIVE, None, key=key))) == []


def test_a_course_whose_last_record_is_not_wanted_is_left_out() -> None:
    only_active = Wanted(states=frozenset({CourseState.ACTIVE}))
    assert states(table(written(ACTIVE, OTHER, UNKNOWN), only_active)) == [("c2", "ACTIVE")]
    only_one = Wanted(integrations=frozenset({"tool:1"}))
    assert states(table(written(ACTIVE, OTHER), only_one)) == [("=c,1", "ACTIVE")]


def test_what_is_no_record_of_a_course_is_reported_and_counts_for_nothing() -> None:
    foreign = written(ACTIVE)[0]._replace(offset=9, value=b"{}")
    found = table([*written(ACTIVE), foreign])
    assert states(found) == []
    assert found.not_records == [foreign]


def test_csv_has_a_column_for_each_field_and_no_formulas() -> None:
    (value,) = table(written(UNKNOWN)).values()
    (row,) = csv.reader([_csv_line(csv_row(value))])
    cells = dict(zip(COLUMNS, row, strict=True))
    assert cells["origin_id"] == "'=c,1"
    assert (cells["state"], cells["content"], cells["change"]) == ("UNKNOWN", "", "course-changes/0/8")


def test_the_history_of_a_course_is_shown_as_far_as_the_topic_has_it() -> None:
    first, second, erased = map(known_row, written(ACTIVE, UNKNOWN, None))
    assert (first.known, first.content, first.change) == ("ACTIVE", "0" * 32, "0/7")
    assert (second.known, second.content, second.change) == ("UNKNOWN", None, "0/8")
    assert erased.known == "erased"
    assert known_row(written(ACTIVE)[0]._replace(value=b"?")).known == "unreadable"
