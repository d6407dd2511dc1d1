"""The journal's formats, byte for byte, and what each of them reads back as."""

import msgspec
import pytest

from daemon.core import deactivate, journal
from daemon.core.journal import Attempt, Floor, JournalError, Late, Position, Refusal, SealedBatch, Task, Wait
from daemon.core.journal_fold import UNREADABLE_MAX, Fold
from daemon.core.model import Error, Item, Trace
from daemon.core.takeover import Fencing, Released
from tests.unit.golden_files import assert_golden, read_record, render_record

AT = 1_795_427_999_875  # 2026-11-23T09:59:59.875Z
INTEGRATION = "workday:HWUTwvyx2wLoSUHphiWVrp28"
TASK_ID = "7FPJba3qRNBYaJgTvDKZi7mi"
CONTENT = bytes(range(16))
TRACE = Trace("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "vendor=a")
RETIRED = Item("cybersecurity-101", 1042, "chg-1", AT, seal_count=1, failures=0)
ITEM = Item("cybersecurity-101", 1042, "chg-1", AT, seal_count=1, failures=0, content=CONTENT)
AGAIN = Item("cybersecurity-101", 1042, "chg-1", AT, seal_count=2, failures=1, content=CONTENT)
OTHER = Item('quo"te,[ünïcode]', 1043, "chg-2", AT + 1, seal_count=1, failures=0, content=bytes(16))
COURSE = (
    b'{"origin_id":"cybersecurity-101","course":{"type":"EXTERNAL","title":"Introduction \xc3\xbcber alles"}}'
)
BODY = b'{"items":[' + COURSE + b',{"origin_id": "quo\\"te,[\\u00fcn\\u00efcode]" , "course":{}}]}'
LAST = Attempt(
    "3-1042-1",
    Error("REMOTE.RATE_LIMIT_EXCEEDED", "Slow down.", "Too many requests", "https://app.kombo.dev/logs/1"),
    TASK_ID,
    submitted_at=AT + 1_100,
    completed_at=AT + 70_000,
)

LATE = Late("3-1042-1", INTEGRATION, (ITEM, OTHER), created_at=AT + 1_050, accepted_at=AT + 1_100)

RECORDS: dict[str, tuple[bytes, journal.Value | None]] = {
    "position": (
        journal.POSITION_KEY,
        Position(2, next_offset=1044, topic_id="Wm3xSA", partitions=6, api_floor=AT),
    ),
    "position-handed-over": (
        journal.POSITION_KEY,
        Position(
            journal.FORMAT,
            next_offset=1044,
            topic_id="Wm3xSA",
            partitions=6,
            api_floor=AT,
            released=Released(("3-1042-1",)),
            fencings=(Fencing(2_031, 2_047, at=AT + 2_000, host_at=AT + 2_003),),
        ),
    ),
    "position-courses": (
        journal.POSITION_KEY,
        Position(
            journal.FORMAT,
            next_offset=1044,
            topic_id="Wm3xSA",
            partitions=6,
            api_floor=AT,
            courses_since=17,
        ),
    ),
    "wait": (journal.wait_key(INTEGRATION, "cybersecurity-101"), Wait(ITEM, msgspec.Raw(COURSE))),
    "wait-resend": (
        journal.wait_key(INTEGRATION, "cybersecurity-101"),
        Wait(ITEM, msgspec.Raw(COURSE), resend=True),
    ),
    "wait-bulk": (
        journal.wait_key(INTEGRATION, "cybersecurity-101"),
        Wait(ITEM, msgspec.Raw(COURSE), bulk=True),
    ),
    "batch-bulk": (
        journal.batch_key("3-1042-1"),
        SealedBatch(INTEGRATION, AT + 1_000, AT - 300_000, (ITEM, OTHER), msgspec.Raw(BODY), bulk=True),
    ),
    "wait-retry": (
        journal.wait_key(INTEGRATION, "cybersecurity-101"),
        Wait(AGAIN, msgspec.Raw(COURSE), not_before=AT + 75_000, last=LAST),
    ),
    "batch": (
        journal.batch_key("3-1042-1"),
        SealedBatch(INTEGRATION, AT + 1_000, AT - 300_000, (ITEM, OTHER), msgspec.Raw(BODY)),
    ),
    "wait-deactivation": (
        journal.wait_key(INTEGRATION, "cybersecurity-101"),
        Wait(RETIRED, msgspec.Raw(deactivate.item(None)), operation="deactivate"),
    ),
    "batch-deactivation": (
        journal.batch_key("3-1042-1"),
        SealedBatch(
            INTEGRATION,
            AT + 1_000,
            AT - 300_000,
            (RETIRED,),
            msgspec.Raw(deactivate.item("26vafvWSRmbhNcxJYqjCzuJg")),
            operation="deactivate",
        ),
    ),
    "wait-trace": (
        journal.wait_key(INTEGRATION, "cybersecurity-101"),
        Wait(ITEM, msgspec.Raw(COURSE), trace=TRACE),
    ),
    "batch-trace": (
        journal.batch_key("3-1042-1"),
        SealedBatch(
            INTEGRATION, AT + 1_000, AT - 300_000, (ITEM, OTHER), msgspec.Raw(BODY), traces={1042: TRACE}
        ),
    ),
    "late-trace": (
        journal.late_key("3-1042-1", TASK_ID),
        msgspec.structs.replace(LATE, traces={1042: TRACE, 1043: Trace(TRACE.parent)}),
    ),
    "task": (journal.task_key("3-1042-1"), Task(TASK_ID, accepted_at=AT + 1_100)),
    "task-fate-unknown": (journal.task_key("3-1042-1"), Task(TASK_ID, AT + 1_100, fate_unknown=True)),
    "refusal": (
        journal.refusal_key("3-1042-1"),
        Refusal(
            "retry", Error(None, "HTTP 503 without an error object."), AT + 1_200, not_before=AT + 61_200
        ),
    ),
    "late": (journal.late_key("3-1042-1", TASK_ID), LATE),
    "floor": (journal.floor_key(INTEGRATION), Floor(AT + 1_050)),
    "floor-ahead": (
        journal.floor_key(INTEGRATION),
        Floor(AT + 121_050, ahead_ms=120_000, seen_at=AT + 1_060),
    ),
    "tombstone": (journal.task_key("3-1042-1"), None),
}


def without_content(record: journal.Value | None) -> journal.Value:
    """The record as a version has written it that did not know digests of contents."""
    if isinstance(record, Wait):
        return msgspec.structs.replace(record, item=msgspec.structs.replace(record.item, content=None))
    assert isinstance(record, SealedBatch | Late)
    items = tuple(msgspec.structs.replace(item, content=None) for item in record.items)
    return msgspec.structs.replace(record, items=items)


OF_EARLIER_VERSIONS: dict[str, tuple[bytes, journal.Value | None]] = {
    **{
        f"{name}-without-content": (RECORDS[name][0], without_content(RECORDS[name][1]))
        for name in ("wait", "wait-retry", "batch", "late")
    },
    "late-of-format-2": (journal.late_key(TASK_ID), without_content(LATE)),
}
"""They are read, and not written any more."""

KINDS = ("position", "wait", "batch", "task", "late", "floor")
"""One record for each kind."""


def recorded(name: str) -> tuple[bytes, bytes]:
    """Key and value of the record with this name, which is no tombstone."""
    key, record = RECORDS[name]
    assert record is not None
    return key, journal.encode_value(record)


VALID = dict(map(recorded, KINDS))


def folded(*records: tuple[bytes | None, bytes | None]) -> Fold:
    fold = Fold()
    for offset, (key, value) in enumerate(records):
        fold.apply(offset, key, value)
    fold.finish()
    return fold


def contents(fold: Fold) -> tuple[object, ...]:
    batches = {
        id_: (batch.sealed, batch.items, batch.digest, batch.task) for id_, batch in fold.batches.items()
    }
    return fold.position, fold.waits, batches, fold.late, fold.floors


@pytest.mark.parametrize("name", RECORDS)
def test_record(name: str) -> None:
    key, record = RECORDS[name]
    value = None if record is None else journal.encode_value(record)
    assert_golden(f"journal-{name}.record", render_record(key, value))


@pytest.mark.parametrize("name", [*RECORDS, *OF_EARLIER_VERSIONS])
def test_what_is_on_file_reads_back_as_what_was_written(name: str) -> None:
    """The files, not the encoder's word: journals of earlier versions look like this."""
    key, value, _ = read_record(f"journal-{name}.record")
    parts, record = journal.decode(key, value)
    expected = (RECORDS | OF_EARLIER_VERSIONS)[name][1]
    if isinstance(record, (Wait, SealedBatch)):
        assert isinstance(expected, (Wait, SealedBatch))
        assert bytes(record.body) == bytes(expected.body)
        record = msgspec.structs.replace(record, body=msgspec.Raw(b""))
        expected = msgspec.structs.replace(expected, body=msgspec.Raw(b""))
    assert record == expected
    assert parts[0] == name.split("-", maxsplit=1)[0].replace("tombstone", "task")


def test_a_body_is_kept_byte_for_byte() -> None:
    """Spaces, escapes and order of fields: the API compares bodies, and perhaps their raw bytes (R13)."""
    fold = folded(recorded("batch"))
    assert fold.batches["3-1042-1"].body == BODY
    assert fold.batches["3-1042-1"].digest == journal.digest(BODY)


AWKWARD = ["a", 'a"', "a,b", "a\\", "", "[", '","', "ü", "\U0001f600", "\x00\x1f", "\u2028"]


def test_keys_do_not_collide_whatever_the_ids_contain() -> None:
    keys = {journal.wait_key(one, two) for one in AWKWARD for two in AWKWARD}
    assert len(keys) == len(AWKWARD) ** 2
    for one in AWKWARD:
        for two in AWKWARD:
            assert journal.decode(journal.wait_key(one, two), None)[0] == ["wait", one, two]


# --- records that are none of ours ----------------------------------------------------------------

VALUE = recorded("task")[1]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (None, VALUE),
        (b"", VALUE),
        (b"not json", VALUE),
        (b"[]", None),
        (b"{}", None),
        (b'"task"', None),
        (b"[1]", None),
        (b'["unheard-of","x"]', VALUE),
        (b'["task"]', VALUE),
        (b'["task","x","y"]', None),
        (b'["\xff"]', None),
        (b'["task","x"]', b""),
        (b'["task","x"]', b"null"),
        (b'["task","x"]', b'{"task_id":"x"}'),
        (b'["task","x"]', b'{"task_id":1,"accepted_at":1}'),
        (b'["batch","x"]', VALUE),
        (b'["position"]', b"[" * 100_000),
        (b'["wait","i","o"]', b'{"item":["o",1,"c",1,1],"body":{}}'),
        (b'["wait","i","o"]', b'{"item":["o",1,"c",1e30,1,0],"body":{}}'),
        (
            b'["batch","x"]',
            b'{"integration_id":"i","sealed_at":1,"api_floor":1,"items":[["o",%d,"c",1,1,0]],"body":{}}'
            % (2**63),
        ),
    ],
)
def test_a_record_that_can_not_be_read_stops_the_restore(key: bytes | None, value: bytes | None) -> None:
    with pytest.raises(JournalError):
        journal.decode(key, value)
    fold = Fold()
    fold.apply(0, key, value)
    if value is None:
        fold.finish()  # it is a tombstone, so nothing is left to be read
        return
    with pytest.raises(JournalError, match=r"^offset 0: a .*(cannot be read|of . parts|does not know)"):
        fold.finish()


@pytest.mark.parametrize(
    ("key", "garbage"),
    [
        (None, VALUE),
        (b"not json", VALUE),
        (b"\xff", b"\xff"),
        (b'["unheard-of","x"]', VALUE),
        (b'["task","x","y"]', VALUE),
        *((key, garbage) for key in VALID for garbage in (b"garbage", b"null", b"")),
    ],
)
def test_a_record_that_can_not_be_read_is_forgotten_with_its_tombstone(
    key: bytes | None, garbage: bytes
) -> None:
    others = [record for record in VALID.items() if record[0] != key]
    bad, tombstone = (key, garbage), (key, None)
    for written in ([bad, *others], [*others, bad], [*others, *VALID.items(), bad], [bad, tombstone, bad]):
        assert contents(folded(*others, *written, tombstone, *others)) == contents(folded(*others))


@pytest.mark.parametrize("key", VALID)
def test_a_record_that_can_not_be_read_is_forgotten_with_the_next_of_its_key(key: bytes) -> None:
    found = folded(*VALID.items(), (key, b"garbage"), (key, VALID[key]))
    assert contents(found) == contents(folded(*VALID.items()))


def test_one_of_many_that_can_not_be_read_stops_the_restore() -> None:
    fold = Fold()
    for number in range(3):
        fold.apply(number, b"garbage %d" % number, VALUE)
    fold.apply(3, b"garbage 0", None)
    fold.apply(4, b"garbage 2", None)
    with pytest.raises(JournalError, match=r"^offset 1: "):
        fold.finish()


def test_a_journal_that_is_garbage_throughout_is_not_read_to_its_end() -> None:
    fold = Fold()
    for number in range(UNREADABLE_MAX):
        fold.apply(number, b"garbage %d" % number, VALUE)
    with pytest.raises(JournalError, match=f"^offset {UNREADABLE_MAX}: "):
        fold.apply(UNREADABLE_MAX, b"garbage %d" % UNREADABLE_MAX, VALUE)


def test_a_newer_format_stops_the_restore_and_says_what_to_do() -> None:
    key, position = RECORDS["position"]
    assert isinstance(position, Position)
    newer = msgspec.structs.replace(position, format=journal.FORMAT + 1)
    fold = Fold()
    fold.apply(0, b'["kind of the newer version"]', VALUE)
    fold.apply(1, key, journal.encode_value(newer))
    with pytest.raises(JournalError, match="run the newer version"):
        fold.finish()


def test_fields_that_a_later_version_of_this_format_added_are_skipped() -> None:
    key, value = recorded("late")
    longer = value[:-1].replace(b'"]', b'","appended"]') + b',"new":true}'
    assert b"appended" in longer
    assert folded((key, longer)).late == folded((key, value)).late
