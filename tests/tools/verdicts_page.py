"""``python -m tests.tools.verdicts_page > docs/verdicts.md``: what each answer of the API leads to, as the judge rules.

No verdict is written here. Each row asks `core.judge` about examples of it, which must agree; `HAPPENS` says in words what
`core.settle`, `core.integration` and the runtime do then, and a test holds it to the verdicts that exist.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

import msgspec

from daemon.config import Policies, Settings
from daemon.core import journal
from daemon.core.answers import (
    Accepted,
    Done,
    ItemOutcome,
    NoAnswer,
    NoAnswerReason,
    PollAnswer,
    Refused,
    SubmitAnswer,
    TaskCompleted,
    TaskFailed,
    TaskPending,
)
from daemon.core.batch import LateTask, OpenTask
from daemon.core.deactivate import DEACTIVATE
from daemon.core.items import Items
from daemon.core.judge import SHARED_SPLITS_MAX, Judge, PollRuling
from daemon.core.model import Error, Item, Now
from daemon.core.operation import REPLAYS_MAX
from daemon.core.upsert import UPSERT
from daemon.core.verdict import ItemVerdict, PollVerdict, SubmitVerdict, TaskVerdict

Verdict = SubmitVerdict | PollVerdict | TaskVerdict | ItemVerdict

HEADER = """\
<!-- Made from daemon/core/judge.py by `python -m tests.tools.verdicts_page`; do not edit here. -->
# Verdicts

What each answer of the API means to `coursesyncd`, and what happens then. An answer comes at one of these places:

| place | the answer |
|---|---|
| submit | to the POST of a batch |
| deactivate | to the POST that deactivates a course; its answer is the outcome (R18) |
| poll | to a poll of the batch's task |
| task | the error of a task that ended `FAILED`: no item was processed |
| item | the entry of one item in a task that ended `COMPLETED` |
| watch | to a poll of a task that timed out and is still watched (R12) |

`error.code` decides. The HTTP status counts only where no code came, or one that the daemon does not know. The text of a
message never decides. Facts about the API and their sources are in [kombo-api.md](kombo-api.md); the rules (R12, R13 and
others) are in [architecture.md](architecture.md#the-rules).

The *fate* of a POST is unknown while a POST of the same bytes may have made a task that the daemon does not know of (R13):
after a POST without an understood answer, after a 3xx, a 408 or a 5xx, and after a refusal without a code whose status is not
400, 413, 422 or 429. An answer is *not understood* if it is missing, has the status 1xx, or is a 2xx of another form than
documented. The fate of a deactivation is unknown while an earlier POST of it may have been carried out. A refusal is *in the
documented form* if it has an error object as in the vendor's OpenAPI description. An *earlier task of equal bytes* is one that the API made before the batch was sealed (R14).

| place | answer | verdict | what happens |
|---|---|---|---|
"""

_ENDS = "All changes of the batch end `FAILED` with this error."
_SPLITS = (
    "The batch is halved, and the halves are submitted, down to the refused item. Its change ends `FAILED` with this "
    "error."
)
_HALTS = (
    "All calls stop for every integration, except for a probe every `park.probe_min`. The key file is read once a second. "
    "No change ends."
)
_WATCHED = "The task is polled again until its watch is over."
_CORRECTED = "`course.sync.corrected` is published for each change of the batch: `{}`. The courses are free for newer changes."
_NEWER = (
    "If a newer change of the course waits already, the change ends `FAILED` with this error instead (R10)."
)
_COUNTED = (
    "submitted again in another encoding after a back-off. After `retry.attempts_max` failed attempts it ends `FAILED` with "
    f"this error. {_NEWER}"
)

HAPPENS: dict[str, dict[Verdict, str]] = {
    "submit": {
        SubmitVerdict.ACCEPTED: "The task is committed to the journal, then polled.",
        SubmitVerdict.RETRY: "The integration backs off, at least for `Retry-After`, of which up to `park.probe_max` counts; "
        "more than a day is ignored. Then the same bytes are sent again. "
        "After a missing answer, not before `http.deadline` has passed (R6). "
        "`PLATFORM.CONCURRENCY_LIMIT_EXCEEDED` also halves the integration's concurrent submissions.",
        SubmitVerdict.SPLIT: _SPLITS,
        SubmitVerdict.PARK: "The integration is parked: its changes wait, and the same bytes are sent again as a probe, "
        "first after `park.probe_min`, later every `park.probe_max`. A change that was consumed more than `wait.age_max` ago "
        "ends `FAILED` with this error, unless the fate of a POST is unknown.",
        SubmitVerdict.FATE_UNKNOWN: "Only the same bytes can find the task that may exist: they are sent again, first after "
        "`park.probe_min`, later every `park.probe_max`. No change ends.",
        SubmitVerdict.OUR_SIDE: "The integration backs off, first for `park.probe_min`, later for `park.probe_max`; then the "
        "same bytes are sent again. At once, a call that is made for no integration checks our key: if it is refused as well, "
        "all calls stop as for *halt*. No change ends (C7).",
        SubmitVerdict.FAIL: _ENDS,
        SubmitVerdict.HALT: _HALTS,
        SubmitVerdict.REKEYED: "The same bytes are sent again with the new key.",
    },
    "deactivate": {
        SubmitVerdict.DONE: "The change ends `SUCCEEDED`.",
        SubmitVerdict.RETRY: "As for *submit*: the same request is sent again. Deactivating a course twice changes nothing.",
        SubmitVerdict.PARK: "As for *submit*.",
        SubmitVerdict.FATE_UNKNOWN: "It may be the refusal of a proxy: the same request is sent again, first after "
        "`park.probe_min`, later every `park.probe_max`. The change does not end.",
        SubmitVerdict.OUR_SIDE: "As for *submit*.",
        SubmitVerdict.FAIL: "The change ends `FAILED` with this error.",
        SubmitVerdict.UNCONFIRMED: "The change ends `FAILED` with `COURSESYNC.DEACTIVATION_UNCONFIRMED`: the refusal may be the "
        "consequence of an earlier POST, which has made the course inactive.",
        SubmitVerdict.HALT: _HALTS,
        SubmitVerdict.REKEYED: "The same request is sent again with the new key.",
    },
    "poll": {
        PollVerdict.PENDING: "The task is polled again, at intervals that grow up to `poll.interval_max`.",
        PollVerdict.OVERDUE: "All changes of the batch end `TIMED_OUT`. Their courses stay busy while the task is watched "
        "(place *watch*).",
        PollVerdict.COMPLETED: "Each item has a verdict of its own (place *item*).",
        PollVerdict.FAILED: "The error of the task has a verdict of its own (place *task*).",
        PollVerdict.REPLAYED: "It is an earlier task of equal bytes (R14). The changes are submitted in an equivalent body. "
        f"After {REPLAYS_MAX} bodies, or when no equivalent body is left, they end `FAILED` with `COURSESYNC.STALE_REPLAY`.",
        PollVerdict.LOST: "The same bytes are sent again: they find the task or make it anew. The fate of the POST is "
        "unknown.",
        PollVerdict.BLIND: "The task is polled again and counts in `coursesync_poll_blind_tasks`. No change ends.",
        PollVerdict.HALT: _HALTS,
        PollVerdict.REKEYED: "The task is polled again with the new key.",
    },
    "task": {
        TaskVerdict.RESUBMIT: f"Each change is {_COUNTED}",
        TaskVerdict.SPLIT: _SPLITS,
        TaskVerdict.PARK: "The integration is parked. The changes wait and are submitted again in another encoding. One that "
        f"was consumed more than `wait.age_max` ago ends `FAILED` with this error. {_NEWER}",
        TaskVerdict.FAIL: _ENDS,
        TaskVerdict.TIMED_OUT: "All changes of the batch end `TIMED_OUT` with this error. The task is terminal, so it is not "
        "watched.",
        TaskVerdict.OUR_SIDE: f"The changes are submitted again in another encoding, however often it takes (C7), after a wait that grows from `park.probe_min` to `park.probe_max`. A key that is still refused is noticed by the next call. {_NEWER}",
    },
    "item": {
        ItemVerdict.SUCCEEDED: "The change ends `SUCCEEDED`.",
        ItemVerdict.RESUBMIT: f"The change is {_COUNTED}",
        ItemVerdict.FAIL: "The change ends `FAILED` with this error.",
        ItemVerdict.SPLIT: f"The batch is halved, at most {SHARED_SPLITS_MAX} times: one item may have failed the others. After that, "
        "the changes end `FAILED` with this error and `failure_scope` `batch`.",
        ItemVerdict.OUR_SIDE: "The change is sent again, however often it takes (C7), after a wait that grows from "
        "`park.probe_min` to `park.probe_max`.",
    },
    "watch": {
        PollVerdict.PENDING: _WATCHED,
        PollVerdict.OVERDUE: "The watch ends. The courses are free for newer changes.",
        PollVerdict.COMPLETED: _CORRECTED.format("SUCCEEDED` or `FAILED"),
        PollVerdict.FAILED: _CORRECTED.format("FAILED"),
        PollVerdict.BLIND: f"{_WATCHED} It counts in `coursesync_poll_blind_tasks`.",
        PollVerdict.HALT: _HALTS,
        PollVerdict.REKEYED: _WATCHED,
    },
}
"""By place, in the order of the page. Verdicts that a place does not have are left out."""

# --- examples -------------------------------------------------------------------------------------

OUR_SIDE = ("PLATFORM.AUTHENTICATION_INVALID", "PLATFORM.IP_NOT_WHITELISTED")
NOT_FOUND = "PLATFORM.INTEGRATION_NOT_FOUND"
UNKNOWN = "any other code"
FAMILIES: dict[str, tuple[str, ...]] = {
    "`PLATFORM.AUTHENTICATION_INVALID`<br>`PLATFORM.IP_NOT_WHITELISTED`": OUR_SIDE,
    "`PLATFORM.RATE_LIMIT_EXCEEDED`": ("PLATFORM.RATE_LIMIT_EXCEEDED",),
    "`PLATFORM.CONCURRENCY_LIMIT_EXCEEDED`": ("PLATFORM.CONCURRENCY_LIMIT_EXCEEDED",),
    "`REMOTE.RATE_LIMIT_EXCEEDED`": ("REMOTE.RATE_LIMIT_EXCEEDED",),
    "`REMOTE.SERVICE_UNAVAILABLE`": ("REMOTE.SERVICE_UNAVAILABLE",),
    "`REMOTE.UNKNOWN_HTTP_ERROR`": ("REMOTE.UNKNOWN_HTTP_ERROR",),
    "`*.UNKNOWN_ERROR`": ("PLATFORM.UNKNOWN_ERROR", "INTEGRATION.UNKNOWN_ERROR", "NEVER_SEEN.UNKNOWN_ERROR"),
    "`*.INPUT_INVALID`": ("PLATFORM.INPUT_INVALID", "REMOTE.INPUT_INVALID", "INTEGRATION.INPUT_INVALID"),
    "`INTEGRATION.*`, all others": (
        "INTEGRATION.PERMISSION_MISSING",
        "INTEGRATION.AUTHENTICATION_INVALID",
        "INTEGRATION.AUTHENTICATION_FAILED",
        "INTEGRATION.QA_FAILED",
        "INTEGRATION.SETUP_SYNC_PENDING",
        "INTEGRATION.SETUP_INCOMPLETE",
        "INTEGRATION.INACTIVE",
        "INTEGRATION.MODEL_NOT_AVAILABLE",
        "INTEGRATION.MODEL_DISABLED",
        "INTEGRATION.ACTION_NOT_AVAILABLE",
        "INTEGRATION.ACTION_DISABLED",
        "INTEGRATION.NEVER_SEEN",
    ),
    f"`{NOT_FOUND}`": (NOT_FOUND,),
    "`LMS.*`": ("LMS.COURSE_UPDATE_NOT_SUPPORTED", "LMS.NEVER_SEEN"),
    UNKNOWN: (
        "HRIS.EMPLOYEE_ALREADY_EXISTS",
        "ATS.JOB_CLOSED",
        "ATS.APPLICATION_ALREADY_EXISTS",
        "AI_APPLY.JOB_FEED_IMPORT_ALREADY_RUNNING",
        "AI_APPLY.JOB_FEED_IMPORT_TIMED_OUT",
        "PLATFORM.NEVER_SEEN",
        "NO_FAMILY",
    ),
}
"""Codes that are treated alike, by what the page calls them: all codes of the vendor's OpenAPI description, and others."""
TASK_TIMED_OUT = "PLATFORM.TASK_TIMED_OUT"

STATUSES: dict[str, tuple[int, ...]] = {
    "400, 413 or 422": (400, 413, 422),
    "429": (429,),
    "3xx, 408, 421 or 425": (*range(300, 400), 408, 421, 425),
    "5xx": tuple(range(500, 600)),
    "404": (404,),
    "401 or 403": (401, 403),
}
_NAMED = {status for group in STATUSES.values() for status in group}
STATUSES["any other 4xx"] = tuple(status for status in range(400, 500) if status not in _NAMED)
"""Every status of a refusal; 1xx and 2xx are none."""
CONCLUSIVE = (400, 401, 403, 404, 409, 429)
"""Statuses with which a code leaves no doubt about the fate of the POST."""
EVERY_STATUS = tuple(status for group in STATUSES.values() for status in group)

ABOUT_KEY = f"{'<br>'.join(f'`{code}`' for code in OUR_SIDE)}<br>401 or 403 without a code"
SECOND = (
    f"{ABOUT_KEY}: each, if another integration got such an answer too, and no call has succeeded since. Also if the call "
    "that checks our key got one"
)
REPLACED = "such an answer about our key to a call with a key that was replaced since"

NOW = Now(wall=1_790_000_000_000, mono=10_000_000.0)
DAY = 86_400_000
ITEM = Item("course", 0, "change", NOW.wall, 1, 0)
TWO = (ITEM, Item("other", 1, "change", NOW.wall, 1, 0))


class Case(NamedTuple):
    """One line of a row: what the API answers, and the verdict on each example of it."""

    answer: str
    verdicts: Sequence[Verdict]

    @property
    def verdict(self) -> Verdict:
        assert len(set(self.verdicts)) == 1, f"the examples of {self.answer!r} differ: {set(self.verdicts)}"
        return self.verdicts[0]


def _judge(*, denied: bool = False, replaced: bool = False) -> Judge:
    judge = Judge(Policies(Settings()))
    if denied:
        judge.submit("other", UPSERT, _refused(None, 403), 0, fate_unknown=False)
    if replaced:
        judge.key_replaced()
    return judge


def _refused(code: str | None, status: int) -> Refused:
    return Refused(status, Error(code, "message"))


def _submit(answer: SubmitAnswer, judge: Judge | None = None, *, fate_unknown: bool = False) -> SubmitVerdict:
    return (judge or _judge()).submit("own", UPSERT, answer, 0, fate_unknown=fate_unknown).verdict


def _deactivate(
    answer: SubmitAnswer, judge: Judge | None = None, *, fate_unknown: bool = False
) -> SubmitVerdict:
    return (judge or _judge()).submit("own", DEACTIVATE, answer, 0, fate_unknown=fate_unknown).verdict


def _ruling(
    answer: PollAnswer,
    judge: Judge | None = None,
    *,
    floor: int = 0,
    age: int = 0,
    items: tuple[Item, ...] = (ITEM,),
    splits: int = 0,
) -> PollRuling:
    """`age`: of the task, in ms. Above `floor`, in API time, it is the batch's own."""
    task = OpenTask(
        "batch", "task", "own", Items.pack(items), floor, NOW.wall, NOW.mono - age / 1000, 0, b"", splits
    )
    return (judge or _judge()).poll(task, answer, 0, NOW)


def _poll(answer: PollAnswer, judge: Judge | None = None) -> PollVerdict:
    return _ruling(answer, judge).verdict


def _watch(answer: PollAnswer, judge: Judge | None = None, *, age: int = 2 * DAY - 1) -> PollVerdict:
    record = journal.Late("batch", "own", (), NOW.wall - age, NOW.wall - age)
    late = LateTask("task", record, Items.pack((ITEM,)), NOW.mono - age / 1000, b"")
    return (judge or _judge()).late(late, answer, 0, NOW).verdict


def _pending(age: int) -> TaskPending:
    return TaskPending(NOW.wall - age, NOW.wall)


# --- the places -----------------------------------------------------------------------------------


class _Ask(Protocol):
    def __call__(
        self, answer: SubmitAnswer, judge: Judge | None = None, *, fate_unknown: bool = False
    ) -> SubmitVerdict: ...


def _submit_cases() -> Iterator[Case]:
    yield Case("2xx with a `task_id`", [_submit(Accepted("task"))])
    yield from _post_cases(_submit, {})


def _deactivate_cases() -> Iterator[Case]:
    yield Case("2xx in the documented form", [_deactivate(Done(None))])
    unknown_course = msgspec.structs.replace(_refused(None, 404), is_documented=True)
    yield from _post_cases(_deactivate, {"404 in the documented form, without a code": [unknown_course]})


def _post_cases(ask: _Ask, more: dict[str, list[Refused]]) -> Iterator[Case]:
    """What operations have in common. `more`: further refusals."""
    yield Case("no understood answer", [ask(NoAnswer(NoAnswerReason.TIMEOUT, ""))])
    refusals = {
        name: [_refused(code, status) for code in codes for status in CONCLUSIVE]
        for name, codes in FAMILIES.items()
        if name != UNKNOWN
    }
    for name, statuses in STATUSES.items():
        refusals[f"{name} without a code"] = [_refused(None, status) for status in statuses]
    for name, statuses in STATUSES.items():
        codes = (*FAMILIES[UNKNOWN], TASK_TIMED_OUT)
        refusals[f"{name} with {UNKNOWN}"] = [_refused(code, status) for code in codes for status in statuses]
    refusals |= more
    for name, answers in refusals.items():
        yield Case(name, [ask(answer) for answer in answers])
    for name, answers in refusals.items():
        doubted = Case(
            f"{name}, while the fate of a POST is unknown",
            [ask(answer, fate_unknown=True) for answer in answers],
        )
        if doubted.verdict is not ask(answers[0]):
            yield doubted
    yield from _key_cases(ask)


def _key_cases(ask: Callable[[Refused, Judge], Verdict]) -> Iterator[Case]:
    """What depends on the key that the call was sent with, and on other integrations."""
    about_key = [_refused(code, status) for code in (None, *OUR_SIDE) for status in (401, 403)]
    yield Case(SECOND, [ask(answer, _judge(denied=True)) for answer in about_key])
    yield Case(REPLACED, [ask(answer, _judge(replaced=True)) for answer in about_key])


def _refused_poll_cases(ask: Callable[[PollAnswer, Judge | None], Verdict], *, over: bool) -> Iterator[Case]:
    yield Case("no understood answer", [ask(NoAnswer(NoAnswerReason.TIMEOUT, ""), None)])
    _, *others = FAMILIES
    codes = [None, TASK_TIMED_OUT, *(code for name in others for code in FAMILIES[name] if code != NOT_FOUND)]
    yield Case(
        f"404 without a code or with any code but `{NOT_FOUND}` and those about our key"
        + (", before the watch is over" if over else ""),
        [ask(_refused(code, 404), None) for code in codes],
    )
    rest = [_refused(code, status) for code in codes for status in EVERY_STATUS if status != 404]
    rest += [_refused(code, status) for code in (NOT_FOUND, *OUR_SIDE) for status in EVERY_STATUS]
    yield Case("any other refusal", [ask(answer, None) for answer in rest])
    yield from _key_cases(ask)


def _poll_cases() -> Iterator[Case]:
    completed = TaskCompleted(NOW.wall, NOW.wall, ())
    failed = TaskFailed(NOW.wall, NOW.wall, Error(None, "message"))
    old, watched_out = DAY + 1, 2 * DAY + 1  # ms; by the default settings
    yield Case("`PENDING`", [_ruling(_pending(DAY), age=DAY).verdict])
    yield Case(
        "`PENDING`, an earlier task of equal bytes", [_ruling(_pending(old), floor=NOW.wall, age=old).verdict]
    )
    yield Case(
        "`PENDING` for longer than `task.timeout`, by the API's clock and by ours (R11)",
        [_ruling(_pending(old), age=old).verdict],
    )
    yield Case("`COMPLETED`", [_ruling(completed).verdict])
    yield Case("`FAILED`", [_ruling(failed).verdict])
    yield Case(
        "`COMPLETED` or `FAILED`, an earlier task of equal bytes",
        [_ruling(answer, floor=NOW.wall).verdict for answer in (completed, failed)],
    )
    yield Case(
        "`PENDING`, an earlier task of equal bytes, for longer than `task.timeout` and `task.watch_after_timeout`",
        [_ruling(_pending(watched_out), floor=NOW.wall, age=watched_out).verdict],
    )
    yield from _refused_poll_cases(_poll, over=False)


def _task_cases() -> Iterator[Case]:
    for name, codes in {**FAMILIES, f"`{TASK_TIMED_OUT}`": (TASK_TIMED_OUT,), "no code": (None,)}.items():
        rulings = [_ruling(TaskFailed(NOW.wall, NOW.wall, Error(code, "message"))).task for code in codes]
        yield Case(name, [verdict for verdict in rulings if verdict is not None])


def _item_cases() -> Iterator[Case]:
    def rule(*outcomes: ItemOutcome) -> ItemVerdict:
        (ruling,) = _ruling(TaskCompleted(NOW.wall, NOW.wall, outcomes)).items
        return ruling.verdict

    def failed(code: str | None) -> ItemOutcome:
        return ItemOutcome(ITEM.origin_id, succeeded=False, course_id=None, error=Error(code, "message"))

    succeeded = ItemOutcome(ITEM.origin_id, succeeded=True, course_id="id", error=None)
    yield Case("`SUCCEEDED`", [rule(succeeded), rule(succeeded, succeeded)])
    yield Case("no entry (`COURSESYNC.OUTCOME_MISSING`)", [rule()])
    yield Case(
        "entries that contradict each other (`COURSESYNC.OUTCOME_CONTRADICTORY`)",
        [rule(succeeded, failed(None)), rule(failed(TASK_TIMED_OUT), succeeded)],
    )
    yield Case("no code, or an entry that is not as documented", [rule(failed(None))])
    together = TaskCompleted(
        NOW.wall,
        NOW.wall,
        tuple(msgspec.structs.replace(failed("LMS.NO"), origin_id=item.origin_id) for item in TWO),
    )
    yield Case(
        "any of the codes that fail, for all items of a batch of several, with the same message",
        [item.verdict for item in _ruling(together, items=TWO).items],
    )
    yield Case(
        f"the same, after the batch was halved {SHARED_SPLITS_MAX} times",
        [item.verdict for item in _ruling(together, items=TWO, splits=SHARED_SPLITS_MAX).items],
    )
    unknown = (*FAMILIES[UNKNOWN], TASK_TIMED_OUT)
    for name, codes in {**FAMILIES, UNKNOWN: unknown}.items():
        yield Case(name, [rule(failed(code)) for code in codes])


def _watch_cases() -> Iterator[Case]:
    over = 2 * DAY + 1
    yield Case("`PENDING`", [_watch(_pending(2 * DAY))])
    unknown = Refused(404, Error(None, "message"), api_time=NOW.wall)
    yield Case(
        "`PENDING`, or 404 as in *blind*, once the watch is over by the API's clock and by ours",
        [_watch(answer, age=over) for answer in (_pending(over), unknown)],
    )
    yield Case("`COMPLETED`", [_watch(TaskCompleted(NOW.wall, NOW.wall, ()))])
    yield Case("`FAILED`", [_watch(TaskFailed(NOW.wall, NOW.wall, Error(None, "message")))])
    yield from _refused_poll_cases(_watch, over=True)


CASES: dict[str, Callable[[], Iterator[Case]]] = {
    "submit": _submit_cases,
    "deactivate": _deactivate_cases,
    "poll": _poll_cases,
    "task": _task_cases,
    "item": _item_cases,
    "watch": _watch_cases,
}

# --- the page -------------------------------------------------------------------------------------


def page() -> str:
    return HEADER + "".join(f"| {' | '.join(row)} |\n" for row in rows())


def rows() -> Iterator[tuple[str, str, str, str]]:
    """One for each verdict of each place, in the order of `HAPPENS`."""
    for place, happens in HAPPENS.items():
        cases = list(CASES[place]())
        ruled = {case.verdict for case in cases}
        assert ruled == set(happens), (
            f"{place}: {ruled ^ set(happens)} is ruled and not described, or the other way round"
        )
        for verdict, then in happens.items():
            answers = "<br>".join(case.answer for case in cases if case.verdict is verdict)
            yield place, answers, f"**{verdict}**", then


if __name__ == "__main__":
    sys.stdout.write(page())
