"""``python -m tests.tools.error_codes_page > docs/error-codes.md``: every error code of a result, and what to do.

What the daemon does with a code of the API is asked of `core.verdict`, with the codes of `verdicts_page.FAMILIES`. What people
do is written here. The page fails to build if the code has an error code of its own that is not written here, or the other
way round.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from daemon.codec.rejection_codes import CODE_OF_REASON
from daemon.core.verdict import ItemVerdict, SubmitVerdict, TaskVerdict, of_item, of_submit, of_task
from tests.tools.verdicts_page import CONCLUSIVE, FAMILIES, TASK_TIMED_OUT, UNKNOWN

DAEMON = Path(__file__).parents[2] / "daemon"

HEADER = """\
<!-- Made from the code by `python -m tests.tools.error_codes_page`; do not edit here. -->
# Error codes

`error.code` of a result says why a change ended `FAILED`, `TIMED_OUT` or `REJECTED`. A result is final: the daemon has already
retried where that makes sense. *Publish again* means: publish the current state of the course as a new change. Never decide by
the text of `error.message`: it may change.

`error.code` can be null, when the API gave no code. Treat that, and any code that is not on this page, like
`*.UNKNOWN_ERROR`.

"""

NOTHING = "nothing"


class Own(NamedTuple):
    """An error code of the daemon."""

    status: str
    meaning: str
    before: str
    """What the daemon did before the change ended."""
    publisher: str
    operator: str


_CORRECT = "correct the record: `error.message` says what was found and what is expected. Publish again"
_DEAD_LETTER = "help the publisher: the original bytes are in the dead letter topic"

OWN = {
    "COURSESYNC.RECORD_EMPTY": Own(
        "REJECTED",
        "the record has no value (a tombstone)",
        "not retried",
        "publish a `course.upserted` change instead; a course cannot be deleted by a tombstone",
        NOTHING,
    ),
    "COURSESYNC.RECORD_MALFORMED": Own(
        "REJECTED",
        "the bytes are not JSON: another serialisation, not UTF-8, truncated, or nested too deep",
        "not retried",
        f"{_CORRECT}. Ids are null in the result if they could not be read",
        _DEAD_LETTER,
    ),
    "COURSESYNC.RECORD_INVALID": Own(
        "REJECTED",
        "JSON, but not a course change: a field is missing, empty or of the wrong type",
        "not retried",
        _CORRECT,
        _DEAD_LETTER,
    ),
    "COURSESYNC.COURSE_INVALID": Own(
        "REJECTED",
        "the course breaks a rule of the API, which would refuse the whole batch because of it",
        "not retried",
        _CORRECT,
        _DEAD_LETTER,
    ),
    "COURSESYNC.IDENTIFIER_INVALID": Own(
        "REJECTED",
        "an id cannot be used in headers and keys: control characters, or too long",
        "not retried",
        "use a valid id. Another `origin_id` is another course",
        NOTHING,
    ),
    "COURSESYNC.TYPE_UNSUPPORTED": Own(
        "REJECTED",
        "an event type that this version does not support",
        "not retried",
        "do not publish this type",
        "find out whether a newer version supports it",
    ),
    "COURSESYNC.RECORD_OVERSIZED": Own(
        "REJECTED",
        "the course alone is larger than a submission may be (`batch.bytes_max`), or the record has more than 8 MiB",
        "not retried",
        "shorten the course, usually its `description`, and publish again",
        "raise `batch.bytes_max`, at most to 1 MiB, if such courses are right",
    ),
    "COURSESYNC.BACKLOG_FULL": Own(
        "REJECTED",
        "too many changes wait, and `backlog.on_full` is `reject`",
        "not retried",
        "publish again later, more slowly",
        "see [CourseSyncConsumerBehind](runbook.md#coursesyncconsumerbehind). Afterwards, `coursesyncd republish --status rejected` "
        "sends the changes again ([how](operating.md#send-again))",
    ),
    "COURSESYNC.OUTCOME_MISSING": Own(
        "FAILED",
        "the API completed the task without an outcome for this course",
        "retried, `retry.attempts_max` times",
        "publish again later",
        "report it to the API's support with the `task_id`",
    ),
    "COURSESYNC.OUTCOME_CONTRADICTORY": Own(
        "FAILED",
        "the API reported both success and failure for this course",
        "not retried",
        "publish again: it is not known what the learning system holds",
        "report it to the API's support with the `task_id`",
    ),
    "COURSESYNC.STALE_REPLAY": Own(
        "FAILED",
        "the API answered with earlier tasks of the same content, so nothing proves that the course was written",
        "retried with [equivalent bodies](kombo-api.md#equivalent-bodies)",
        "publish again with any difference in the course, for example in its description. Without one it ends in the same way",
        "find out how long the API remembers a body, if it happens often",
    ),
    "COURSESYNC.COURSE_UNKNOWN": Own(
        "FAILED",
        "a `course.deactivated` without `course_id`, and the API's id of the course is not known here. Nothing was sent",
        "not retried",
        "publish again with `course_id`: that of a result of this course, or `remote:` and its id in the learning system",
        NOTHING,
    ),
    "COURSESYNC.GIVEN_UP": Own(
        "FAILED, TIMED_OUT",
        "an operator has given up the change (`coursesyncd give-up`); the message says who and why. TIMED_OUT: its task was still "
        "open, and a correction reports its end",
        "not retried",
        "publish again once the operator agrees",
        "tell the publisher; `coursesyncd integrations` shows what is paused",
    ),
    "COURSESYNC.REPEAT_OUTDATED": Own(
        "FAILED",
        "an operator has sent the change again (`coursesyncd republish`), and it is not known whether a newer one was accepted "
        "meanwhile: the replica has restarted, or more than 32,768 changes came in between. Nothing was sent",
        "not retried",
        "nothing, or publish the current state of the course",
        "run `coursesyncd republish` again, as before",
    ),
    "COURSESYNC.DEACTIVATION_UNCONFIRMED": Own(
        "FAILED",
        "a `course.deactivated` may have been carried out, but the answer was lost, and the API refuses to repeat it. "
        "`error.message` has its reason, for example that it does not know the course",
        "not retried",
        "look the course up in the learning system; if it is still offered, publish again",
        NOTHING,
    ),
    "COURSESYNC.TASK_TIMED_OUT": Own(
        "TIMED_OUT",
        "the task was still pending after `task.timeout`; it may end later",
        "watched for `task.watch_after_timeout`; a late end is published as `course.sync.corrected`",
        "wait for the correction. If none has come when the watch is over, publish again",
        "see [CourseSyncPendingTaskNearTimeout](runbook.md#coursesyncpendingtaskneartimeout)",
    ),
}


class People(NamedTuple):
    """What people do about a code of the API."""

    publisher: str
    operator: str


_LATER = People(
    "publish again later", "if it happens often, see [Error ratio](runbook.md#coursesyncapierrorratiohigh)"
)
PEOPLE = {
    "`PLATFORM.AUTHENTICATION_INVALID`<br>`PLATFORM.IP_NOT_WHITELISTED`": People(
        "nothing: it ends a change only if a newer change of the course waits",
        "correct the key or the address: see [CourseSyncHalted](runbook.md#coursesynchalted)",
    ),
    "`PLATFORM.RATE_LIMIT_EXCEEDED`": _LATER,
    "`PLATFORM.CONCURRENCY_LIMIT_EXCEEDED`": _LATER,
    "`REMOTE.RATE_LIMIT_EXCEEDED`": _LATER,
    "`REMOTE.SERVICE_UNAVAILABLE`": _LATER,
    "`REMOTE.UNKNOWN_HTTP_ERROR`": _LATER,
    "`*.UNKNOWN_ERROR`": People(
        "publish again later", "if it stays, report it to the API's support with `log_url`"
    ),
    "`*.INPUT_INVALID`": People("correct the course as `error.message` says, and publish again", NOTHING),
    "`INTEGRATION.*`, all others": People(
        "after the customer has repaired the connection, publish again",
        "ask the customer to repair the connection in Kombo. Afterwards, `coursesyncd republish` sends the changes again "
        "([how](operating.md#send-again))",
    ),
    "`PLATFORM.INTEGRATION_NOT_FOUND`": People("correct `integration_id`, and publish again", NOTHING),
    "`LMS.*`": People(
        "the learning system refuses this course: correct what `error.message` says, and publish again",
        NOTHING,
    ),
    UNKNOWN: People(
        "look it up in the API's documentation; publish again if it is transient",
        "report it to the developers of the daemon, which does not know it",
    ),
}

_SUBMIT = {
    SubmitVerdict.RETRY: "retried until it is answered otherwise",
    SubmitVerdict.SPLIT: "final for the item that is refused alone",
    SubmitVerdict.PARK: "parked: waits, at most `wait.age_max`",
    SubmitVerdict.FAIL: "final",
    SubmitVerdict.OUR_SIDE: "retried without end; all calls halt if our key or address is refused for another integration too",
}
_TASK = {
    TaskVerdict.RESUBMIT: "retried, `retry.attempts_max` times",
    TaskVerdict.SPLIT: "final for the item that is refused alone",
    TaskVerdict.PARK: "parked: waits, at most `wait.age_max`",
    TaskVerdict.FAIL: "final",
    TaskVerdict.OUR_SIDE: "retried without end",
    TaskVerdict.TIMED_OUT: "final: `TIMED_OUT`",
}
_ITEM = {
    ItemVerdict.RESUBMIT: "retried, `retry.attempts_max` times",
    ItemVerdict.FAIL: "final",
    ItemVerdict.SPLIT: "sent again in halves, because one item may have failed the others",
    ItemVerdict.OUR_SIDE: "retried without end",
}


def page() -> str:
    return HEADER + "\n".join([*_own(), "", *_of_the_api(), ""])


def codes_in_the_source() -> set[str]:
    text = "".join(path.read_text(encoding="utf-8") for path in DAEMON.rglob("*.py"))
    return set(re.findall(r'"(COURSESYNC\.[A-Z_]+)"', text))


def _own() -> Iterator[str]:
    assert codes_in_the_source() == set(OWN), f"not described, or gone: {codes_in_the_source() ^ set(OWN)}"
    rejected = {code for code, own in OWN.items() if own.status == "REJECTED"}
    assert rejected == set(CODE_OF_REASON.values()), "the statuses here differ from the code"
    yield "## Codes of the daemon\n"
    yield "| code | status | meaning | before that | publisher | operator |"
    yield "|---|---|---|---|---|---|"
    for code, own in OWN.items():
        yield f"| `{code}` | `{own.status}` | {' | '.join(own[1:])} |"


def _of_the_api() -> Iterator[str]:
    assert set(PEOPLE) == set(FAMILIES), f"not described, or gone: {set(PEOPLE) ^ set(FAMILIES)}"
    yield "## Codes of the API\n"
    yield (
        "What the daemon does depends on where the code comes: in the answer to a submission, as the error of a task that "
        "could not run, or as the outcome of one item of a task. A change that failed and waits for a retry ends `FAILED` with "
        "its last error if a newer change of its course comes (R10), so any code of the API may appear in a result. "
        "[verdicts.md](verdicts.md) has every answer in detail.\n"
    )
    yield "| code | submission | task | item | publisher | operator |"
    yield "|---|---|---|---|---|---|"
    for name, codes in FAMILIES.items():
        submitted = {of_submit(code, status) for code in codes for status in CONCLUSIVE}
        submission = "by the HTTP status" if len(submitted) > 1 else _SUBMIT[submitted.pop()]
        (task,) = {of_task(code) for code in codes}
        (item,) = {of_item(code) for code in codes}
        yield f"| {' | '.join((name, submission, _TASK[task], _ITEM[item], *PEOPLE[name]))} |"
    timed_out = _TASK[of_task(TASK_TIMED_OUT)]
    yield (
        f"| `{TASK_TIMED_OUT}` | by the HTTP status | {timed_out} | {_ITEM[of_item(TASK_TIMED_OUT)]} | the API gave the task up: "
        "publish again | if it happens often, report it to the API's support |"
    )


if __name__ == "__main__":
    sys.stdout.write(page())
