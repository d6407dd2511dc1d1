"""The checker's own reading of the input agrees with the daemon's, on records that are wrong in small ways."""

from __future__ import annotations

import json
from copy import deepcopy
from random import Random
from typing import Any

from daemon.codec.decode import decode_change
from daemon.core.model import Change
from tests.sandbox.checker.history import DEACTIVATED, LogRecord, content_digest
from tests.sandbox.checker.wire import NotAcceptableError, read_change
from tests.sandbox.generator import Plan, generate_records

ITEM_BYTES_MAX = 512 * 1024
RECORDS = 6000

ODD_VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 45.0, 1e3, 2**63 - 1, 2**63, 10**30),
    *("", "x", "en", "en\n", "é", "\u0000", "\u007f", "\ud800", "a" * 256, "a" * 257, "a" * 513),
    *([], ["en"], ["en", None], [""], {}, {"a": 1}),
    *("EXTERNAL", "1.0", "course.upserted", "course.deactivated"),
]
ODD_HEADERS = [b"", b"1.0", b"x", b"a\nb", b"course.upserted", b"application/cloudevents+json"]


def spoiled(rng: Random, value: bytes) -> bytes:
    """One or two members, at any depth, removed, added or given another value; at times cut short."""
    record = json.loads(value)
    for _ in range(rng.choice((1, 1, 2))):
        inner = record
        name = rng.choice(list(inner))
        while isinstance(inner[name], dict) and inner[name] and rng.random() < 0.8:
            inner = inner[name]
            name = rng.choice(list(inner))
        dice = rng.random()
        if dice < 0.2 and len(inner) > 1:
            del inner[name]
        elif dice < 0.3:
            inner[rng.choice(("specversion", "unheard_of"))] = deepcopy(rng.choice(ODD_VALUES))
        else:
            inner[name] = deepcopy(rng.choice(ODD_VALUES))
    body = json.dumps(record).encode()
    return body if rng.random() < 0.97 else body[: rng.randrange(len(body))]


def spoiled_headers(rng: Random, headers: tuple[tuple[str, bytes], ...]) -> tuple[tuple[str, bytes], ...]:
    if not headers or rng.random() < 0.7:
        return headers
    index = rng.randrange(len(headers))
    odd = [(headers[index][0], rng.choice(ODD_HEADERS))] if rng.random() < 0.5 else []
    return (*headers[:index], *odd, *headers[index + 1 :])


def refused(record: LogRecord) -> str | None:
    """Why the checker refuses it; None when it does not."""
    try:
        read_change(record, ITEM_BYTES_MAX)
    except NotAcceptableError as error:
        return str(error)
    return None


def test_checker_and_daemon_accept_the_same_records() -> None:
    rng = Random(3)
    accepted = 0
    for record in generate_records(Plan(changes=RECORDS, invalid_share=0, retire_share=0.1)):
        assert record.value is not None
        value = spoiled(rng, record.value)
        headers = spoiled_headers(rng, record.headers)
        change = decode_change(0, None, value, headers, consumed_at=0, item_bytes_max=ITEM_BYTES_MAX)
        raw = LogRecord("changes", 0, 0, None, value, headers)
        if not isinstance(change, Change):
            assert refused(raw), f"only the daemon refuses it ({change.error}): {value!r} {headers}"
            continue
        why = refused(raw)
        assert why is None, f"only the checker refuses it ({why}): {value!r} {headers}"
        content = read_change(raw, ITEM_BYTES_MAX)
        accepted += 1
        sent = json.loads(change.body)
        if content.digest == DEACTIVATED:
            assert (change.operation.name, sent.get("course_id")) == ("deactivate", content.course_id)
            continue
        assert (sent["origin_id"], content_digest(sent["course"])) == (content.origin_id, content.digest)
    assert 500 < accepted < RECORDS - 500, "both outcomes have to occur often"


def test_contents_are_equal_when_they_mean_the_same() -> None:
    course: dict[str, Any] = {
        "type": "EXTERNAL",
        "title": "T",
        "course_url": "https://user@example.com/a",
        "languages": ["de", "en", "fr"],
    }
    same: list[dict[str, Any]] = [
        {**course, "description": None},
        {**course, "languages": ["de", "fr", "en"]},
        {**course, "course_url": "https://user@EXample.Com/a"},
        {**course, "unknown": 1},
        dict(reversed(course.items())),
    ]
    assert {content_digest(other) for other in same} == {content_digest(course)}
    other_contents: list[dict[str, Any]] = [
        {**course, "title": "t"},
        {**course, "description": ""},
        {**course, "languages": ["de"]},
        {**course, "languages": ["en", "de", "fr"]},
        {**course, "course_url": "https://USER@example.com/a"},
        {**course, "course_url": "https://user@example.com/A"},
        {**course, "duration": 1},
    ]
    digests = {content_digest(other) for other in other_contents}
    assert len(digests) == len(other_contents)
    assert content_digest(course) not in digests
