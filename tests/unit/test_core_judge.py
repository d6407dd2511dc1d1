"""What the judge adds to the table: which key a call was sent with, and what is owed to no integration."""

from __future__ import annotations

import pytest

from daemon.config import Policies, Settings
from daemon.core.answers import Refused, TaskFailed
from daemon.core.batch import OpenTask
from daemon.core.judge import Judge, KeyEvidence
from daemon.core.model import Error, Now
from daemon.core.verdict import HALTING, PollVerdict, SubmitVerdict, TaskVerdict

NOW = Now(wall=1_800_000_000_000, mono=100.0)
TASK = OpenTask("0-0-1", "task-1", "tool:1", (), 0, NOW.wall, NOW.mono, None, b"")
DENIED = Refused(403, Error(None, "denied"))


def key_refused(code: str) -> Refused:
    return Refused(401, Error(code, "the key is wrong"))


@pytest.fixture
def judge() -> Judge:
    return Judge(Policies(Settings()))


@pytest.mark.parametrize("code", sorted(HALTING))
def test_a_refusal_of_the_key_in_use_halts(judge: Judge, code: str) -> None:
    submitted = judge.submit("tool:1", key_refused(code), judge.key_number, fate_unknown=False)
    assert (submitted.verdict, submitted.key) == (SubmitVerdict.HALT, KeyEvidence.REFUSED)
    polled = judge.poll(TASK, key_refused(code), judge.key_number, NOW)
    assert (polled.verdict, polled.key) == (PollVerdict.HALT, KeyEvidence.REFUSED)
    assert not polled.needs_body


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
    submitted = judge.submit("tool:1", answer, sent_with, fate_unknown=False)
    assert (submitted.verdict, submitted.key) == (SubmitVerdict.REKEYED, KeyEvidence.NONE)
    polled = judge.poll(TASK, answer, sent_with, NOW)
    assert (polled.verdict, polled.key) == (PollVerdict.REKEYED, KeyEvidence.NONE)
    assert not polled.needs_body


def test_denials_of_one_integration_are_its_own_and_those_of_two_are_the_key(judge: Judge) -> None:
    def denied(integration_id: str) -> KeyEvidence:
        return judge.submit(integration_id, DENIED, judge.key_number, fate_unknown=False).key

    assert [denied("tool:1"), denied("tool:1")] == [KeyEvidence.NONE, KeyEvidence.NONE]
    assert denied("tool:2") is KeyEvidence.REFUSED
