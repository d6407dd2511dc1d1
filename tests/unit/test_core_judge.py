"""What the judge adds to the table: which key a call was sent with, and what is owed to no integration."""

from __future__ import annotations

import pytest

from daemon.config import Policies, Settings
from daemon.core.answers import Accepted, NoAnswer, NoAnswerReason, Refused, TaskFailed
from daemon.core.batch import OpenTask
from daemon.core.items import Items
from daemon.core.judge import Judge, KeyEvidence
from daemon.core.model import Error, Now
from daemon.core.upsert import UPSERT
from daemon.core.verdict import HALTING, PollVerdict, SubmitVerdict, TaskVerdict
from daemon.kombo import wire

NOW = Now(wall=1_800_000_000_000, mono=100.0)
TASK = OpenTask("0-0-1", "task-1", "tool:1", Items.pack(()), 0, NOW.wall, NOW.mono, None, b"", 0)
DENIED = Refused(403, Error(None, "denied"))


def key_refused(code: str) -> Refused:
    return Refused(401, Error(code, "the key is wrong"))


@pytest.fixture
def judge() -> Judge:
    return Judge(Policies(Settings()))


@pytest.mark.parametrize("code", sorted(HALTING))
def test_a_refusal_of_the_key_halts_when_a_second_integration_is_refused(judge: Judge, code: str) -> None:
    submitted = judge.submit("tool:2", UPSERT, key_refused(code), judge.key_number, fate_unknown=False)
    assert (submitted.verdict, submitted.key) == (SubmitVerdict.OUR_SIDE, KeyEvidence.SUSPECTED)
    polled = judge.poll(TASK, key_refused(code), judge.key_number, NOW)
    assert (polled.verdict, polled.key) == (PollVerdict.HALT, KeyEvidence.REFUSED)
    assert not polled.needs_body
    submitted = judge.submit("tool:2", UPSERT, key_refused(code), judge.key_number, fate_unknown=False)
    assert (submitted.verdict, submitted.key) == (SubmitVerdict.HALT, KeyEvidence.REFUSED)


@pytest.mark.parametrize("code", sorted(HALTING))
@pytest.mark.parametrize("fate_unknown", [False, True])
def test_one_integration_alone_never_halts_whatever_comes_from_it(
    judge: Judge, code: str, *, fate_unknown: bool
) -> None:
    for _ in range(3):
        ruling = judge.submit(
            "tool:1", UPSERT, key_refused(code), judge.key_number, fate_unknown=fate_unknown
        )
        assert (ruling.verdict, ruling.key) == (SubmitVerdict.OUR_SIDE, KeyEvidence.SUSPECTED)
        polled = judge.poll(TASK, key_refused(code), judge.key_number, NOW)
        assert (polled.verdict, polled.key) == (PollVerdict.BLIND, KeyEvidence.SUSPECTED)
    assert judge.suspects_key


NOT_THERE = Refused(404, Error("PLATFORM.INTEGRATION_NOT_FOUND", "no such integration"))
NOT_THERE_EITHER = Refused(404, Error(None, "no such task"))


@pytest.mark.parametrize("refusal", [DENIED, *map(key_refused, sorted(HALTING))])
def test_the_probe_of_our_own_key_confirms_it_or_not(judge: Judge, refusal: Refused) -> None:
    assert judge.key_probed(refusal, judge.key_number) is KeyEvidence.REFUSED
    judge.submit("tool:1", UPSERT, refusal, judge.key_number, fate_unknown=False)
    for nothing in (NoAnswer(NoAnswerReason.TIMEOUT, ""), Refused(503, Error(None, "busy"))):
        assert judge.key_probed(nothing, judge.key_number) is KeyEvidence.NONE
        assert judge.suspects_key
    for works in (NOT_THERE, NOT_THERE_EITHER):
        judge.submit("tool:2", UPSERT, DENIED, judge.key_number, fate_unknown=False)
        assert judge.key_probed(works, judge.key_number) is KeyEvidence.WORKS
        assert not judge.suspects_key
    judge.key_replaced()
    assert judge.key_probed(refusal, judge.key_number - 1) is KeyEvidence.NONE


def test_integrations_that_were_denied_while_the_key_worked_halt_nothing(judge: Judge) -> None:
    """Two of them, again and again, with nothing good in between."""
    number = judge.key_number
    judge.submit("tool:1", UPSERT, DENIED, number, fate_unknown=False)
    judge.key_probed(NOT_THERE, number)
    judge.submit("tool:2", UPSERT, key_refused("PLATFORM.IP_NOT_WHITELISTED"), number, fate_unknown=False)
    judge.submit("tool:3", UPSERT, Accepted("task"), number, fate_unknown=False)
    for integration_id in ("tool:1", "tool:2", "tool:1"):
        ruling = judge.submit(integration_id, UPSERT, DENIED, number, fate_unknown=False)
        assert ruling.key is KeyEvidence.SUSPECTED
    # A good answer makes an integration a witness again.
    judge.submit("tool:1", UPSERT, Accepted("task"), number, fate_unknown=False)
    judge.submit("tool:1", UPSERT, DENIED, number, fate_unknown=False)
    assert judge.submit("tool:3", UPSERT, DENIED, number, fate_unknown=False).key is KeyEvidence.REFUSED


@pytest.mark.parametrize("code", sorted(HALTING))
def test_a_task_that_failed_for_our_key_says_nothing_against_the_key_in_use(judge: Judge, code: str) -> None:
    """It may have been created with an earlier key, and a hundred of them would stop everything a hundred times."""
    failed = TaskFailed(NOW.wall + 1, NOW.wall + 2, Error(code, "the key is wrong"), NOW.wall + 3)
    ruling = judge.poll(TASK, failed, judge.key_number, NOW)
    assert (ruling.verdict, ruling.task) == (PollVerdict.FAILED, TaskVerdict.OUR_SIDE)
    assert ruling.key is KeyEvidence.WORKS
    assert ruling.needs_body


@pytest.mark.parametrize("answer", [*map(key_refused, sorted(HALTING)), DENIED])
def test_a_refusal_of_a_key_that_was_replaced_meanwhile_says_nothing_of_the_new_one(
    judge: Judge, answer: Refused
) -> None:
    sent_with = judge.key_number
    judge.key_replaced()
    submitted = judge.submit("tool:1", UPSERT, answer, sent_with, fate_unknown=False)
    assert (submitted.verdict, submitted.key) == (SubmitVerdict.REKEYED, KeyEvidence.NONE)
    polled = judge.poll(TASK, answer, sent_with, NOW)
    assert (polled.verdict, polled.key) == (PollVerdict.REKEYED, KeyEvidence.NONE)
    assert not polled.needs_body


def test_denials_of_one_integration_are_its_own_and_those_of_two_are_the_key(judge: Judge) -> None:
    def denied(integration_id: str) -> KeyEvidence:
        return judge.submit(integration_id, UPSERT, DENIED, judge.key_number, fate_unknown=False).key

    assert [denied("tool:1"), denied("tool:1")] == [KeyEvidence.SUSPECTED, KeyEvidence.SUSPECTED]
    assert denied("tool:2") is KeyEvidence.REFUSED


# --- a page of somebody else, with any status -----------------------------------------------------

PAGE = b"<html><body><h1>Something is wrong</h1></body></html>"
BY_STATUS = {
    **dict.fromkeys((400, 413, 422), SubmitVerdict.SPLIT),
    **dict.fromkeys((401, 403), SubmitVerdict.PARK),
    404: SubmitVerdict.FATE_UNKNOWN,
}


@pytest.mark.parametrize("fate_unknown", [False, True])
def test_a_page_with_any_status_parks_nobody_but_a_denial_and_keeps_the_bytes(*, fate_unknown: bool) -> None:
    """A 408 of a proxy parked the integration for a minute, as if its customer had to act."""
    found = {}
    for status in range(100, 600):
        answer = wire.parse_submit(status, {"content-type": "text/html"}, PAGE, NOW.wall)
        judge = Judge(Policies(Settings()))
        ruling = judge.submit("tool:1", UPSERT, answer, judge.key_number, fate_unknown=fate_unknown)
        found[status] = ruling.verdict
        conclusive = status in (400, 413, 422, 429) and not fate_unknown
        assert ruling.fate_unknown is not conclusive, status
    assert found == {status: BY_STATUS.get(status, SubmitVerdict.RETRY) for status in range(100, 600)}


@pytest.mark.parametrize(
    "page", [b"", PAGE, b'{"error":"timeout"}', b'{"status":"error","error":{"code":null}}']
)
@pytest.mark.parametrize("status", [302, 307, 408, 421, 425, 499])
def test_what_the_page_says_makes_no_difference(status: int, page: bytes) -> None:
    judge = Judge(Policies(Settings()))
    answer = wire.parse_submit(status, {}, page, NOW.wall)
    assert judge.submit("tool:1", UPSERT, answer, 0, fate_unknown=False).verdict is SubmitVerdict.RETRY
