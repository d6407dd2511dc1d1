"""Bugs of what is known of a course: R15, R16, R17."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import UNSET

from daemon.codec import content_digest, decode
from daemon.codec.change import Course
from daemon.core import restoring, settle, settle_late
from daemon.core.admission import Admission
from daemon.core.awaited_index import AwaitedIndex
from daemon.core.course import CourseState, KnownCourse, course_key
from daemon.core.journal_fold import Fold
from daemon.core.known_courses import Budget, KnownCourses, _digest
from daemon.core.known_state import KnownState
from daemon.core.lane import Held
from daemon.core.memory import Memory
from daemon.core.model import Change, Item, Now, Status
from daemon.core.step import Step
from tests.embedded_log import EmbeddedShardLog
from tests.sim.mutants.registry import Patch, mutant
from tests.sim.mutants.rules_log import NOTHING, in_two
from tests.sim.parameters import Kind

# --- R15 The record is part of the verdict's transaction -------------------------------------------


@mutant(
    "R15",
    "What is known of courses is committed before the verdict, in a transaction of its own.",
    Kind.REPUBLISHED,
)
def courses_first(patch: Patch) -> None:
    def divide(step: Step) -> tuple[Step | None, Step | None]:
        if not step.courses:
            return step, None
        first = dataclasses.replace(step, **NOTHING | {"journal": [], "batches": [], "courses": step.courses})
        return first, dataclasses.replace(step, courses=[])

    in_two(patch, divide)


@mutant(
    "R15",
    "What is known of courses is committed after the verdict, in a transaction of its own.",
    Kind.REPUBLISHED,
)
def courses_afterwards(patch: Patch) -> None:
    def divide(step: Step) -> tuple[Step | None, Step | None]:
        if not step.courses:
            return step, None
        position = [step.journal[-1]]
        last = dataclasses.replace(
            step, **NOTHING | {"journal": position, "batches": [], "courses": step.courses}
        )
        return dataclasses.replace(step, courses=[]), last

    in_two(patch, divide)


@mutant("R15", "A success is not recorded.", Kind.REPUBLISHED)
def success_without_record(patch: Patch) -> None:
    patch(KnownState, "confirmed", lambda *_: None)


def _uncertain_but(patch: Patch, is_forgotten: Any) -> None:
    uncertain = KnownState.uncertain

    def write(known: KnownState, draft: Any, integration_id: str, item: Item, attempt: Any, now: Now) -> None:
        if not is_forgotten(attempt):
            uncertain(known, draft, integration_id, item, attempt, now)

    patch(KnownState, "uncertain", write)


@mutant("R15", "`UNKNOWN` is never written.", Kind.REPUBLISHED)
def unknown_is_not_written(patch: Patch) -> None:
    _uncertain_but(patch, lambda attempt: True)


@mutant("R15", "A time-out leaves what was known before.", Kind.REPUBLISHED)
def time_out_leaves_the_record(patch: Patch) -> None:
    _uncertain_but(patch, lambda attempt: attempt.error == settle.TASK_TIMED_OUT)


@mutant("R15", "An answer with an earlier task leaves what was known before.", Kind.REPUBLISHED)
def stale_answer_leaves_the_record(patch: Patch) -> None:
    _uncertain_but(patch, lambda attempt: attempt.error == settle.STALE_REPLAY)


@mutant(
    "R15",
    "An item that failed leaves what was known before, though it may share the fate of others.",
    Kind.REPUBLISHED,
)
def failed_item_leaves_the_record(patch: Patch) -> None:
    complete = settle._completed

    def do_not_record(memory: Memory, *arguments: Any) -> None:
        known, memory.known = memory.known, _Certain(memory.policy, memory.known.courses)
        try:
            complete(memory, *arguments)
        finally:
            memory.known = known

    class _Certain(KnownState):
        def uncertain(self, *_: Any) -> None: ...

    patch(
        settle,
        "_completed",
        do_not_record,
    )


@mutant(
    "R15",
    "A refusal counts as if nothing was processed, although an earlier POST was not answered.",
    Kind.REPUBLISHED,
)
def lost_answers_are_forgotten(patch: Patch) -> None:
    patch(settle, "_processed_nothing", lambda memory, batch, attempt, now: None)


@mutant("R15", "The journal does not say that the fate of an earlier POST is unknown.", Kind.REPUBLISHED)
def unknown_fate_is_not_journalled(patch: Patch) -> None:
    load = restoring.load

    def forget(memory: Memory, fold: Fold, now: Now, fenced_at: float) -> None:
        for batch in fold.batches.values():
            if batch.task is not None:
                batch.task = msgspec.structs.replace(batch.task, fate_unknown=UNSET)
        load(memory, fold, now, fenced_at)

    patch(restoring, "load", forget)


@mutant("R15", "A late success leaves the course `UNKNOWN`.", Kind.REPUBLISHED)
def late_success_without_record(patch: Patch) -> None:
    late_answered = settle_late.late_answered

    class _Silent(KnownState):
        def confirmed(self, *_: Any) -> None: ...

    def do_not_record(memory: Memory, late: Any, answer: Any, ruling: Any, now: Now) -> None:
        known, memory.known = memory.known, _Silent(memory.policy, memory.known.courses)
        try:
            late_answered(memory, late, answer, ruling, now)
        finally:
            memory.known = known

    patch(settle_late, "late_answered", do_not_record)


def _confirmed_with(patch: Patch, change: Callable[[Item, str | None], tuple[Item, str | None]]) -> None:
    """A success is recorded with the item and the id of the course that `change` makes of the real ones."""
    confirmed = KnownState.confirmed

    def record(
        known: KnownState,
        draft: Any,
        state: CourseState,
        integration_id: str,
        item: Item,
        attempt: Any,
        course_id: str | None,
        now: Now,
    ) -> None:
        item, course_id = change(item, course_id)
        confirmed(known, draft, state, integration_id, item, attempt, course_id, now)

    patch(KnownState, "confirmed", record)


@mutant("R15", "The record of a success has the content of another change of the batch.", Kind.REPUBLISHED)
def content_of_another_change(patch: Patch) -> None:
    last = [b"\0" * 16]

    def mix_up(item: Item, course_id: str | None) -> tuple[Item, str | None]:
        other = msgspec.structs.replace(item, content=last[0])
        last[0] = item.content or last[0]
        return other, course_id

    _confirmed_with(patch, mix_up)


@mutant("R15", "The record of a success has the id of another course.", Kind.REPUBLISHED)
def id_of_another_course(patch: Patch) -> None:
    last = ["none"]

    def mix_up(item: Item, course_id: str | None) -> tuple[Item, str | None]:
        other, last[0] = last[0], course_id or last[0]
        return item, other

    _confirmed_with(patch, mix_up)


# --- R16 UNCHANGED --------------------------------------------------------------------------------


def _unchanged_with(patch: Patch, change: Any) -> None:
    """`UNCHANGED` is decided about a change that `change` has made of the real one."""
    unchanged = KnownState.unchanged

    def decide(known: KnownState, integration_id: str, held: Held, now: Now) -> KnownCourse | None:
        return unchanged(known, integration_id, change(held), now)

    patch(KnownState, "unchanged", decide)


def _held(held: Held, **changes: Any) -> Held:
    return Held(
        held.operation,
        msgspec.structs.replace(held.item, **changes.get("item", {})),
        held.body,
        resend=changes.get("resend", held.resend),
        bulk=held.bulk,
    )


@mutant("R16", "`UNCHANGED` does not wait for the open submission of its course.", Kind.REPUBLISHED)
def unchanged_while_open(patch: Patch) -> None:
    admit = Admission._admit

    def end_at_once(admission: Admission, change: Change, now: Now) -> None:
        memory = admission._memory
        item = Item(
            change.origin_id, change.offset, change.change_id, change.consumed_at, 0, 0, change.content
        )
        held = Held(change.operation, item, change.body, resend=change.resend)
        known = memory.known.unchanged(change.integration_id, held, now)
        lane = memory.waiting.lanes.get(change.integration_id)
        if known is None or (lane is not None and change.origin_id in lane.held):
            admit(admission, change, now)
        else:
            memory.traces.keep(change.offset, change.trace)
            memory.end(
                change.operation,
                change.integration_id,
                item,
                Status.UNCHANGED,
                now,
                course_id=known.course_id,
            )

    patch(Admission, "_admit", end_at_once)


@mutant("R16", "A course that has become `UNKNOWN` counts as what it was before.", Kind.REPUBLISHED)
def unknown_counts_as_known(patch: Patch) -> None:
    put = KnownCourses.put

    def keep(known: KnownCourses, integration_id: str, origin_id: str, course: KnownCourse) -> None:
        if course.state is not CourseState.UNKNOWN:
            put(known, integration_id, origin_id, course)

    patch(KnownCourses, "put", keep)


@mutant("R16", "A request to send is ignored.", Kind.REPUBLISHED)
def resend_is_ignored(patch: Patch) -> None:
    _unchanged_with(patch, lambda held: _held(held, resend=False))


@mutant("R16", "A request to send is forgotten by a restart.", Kind.REPUBLISHED)
def resend_is_not_journalled(patch: Patch) -> None:
    load = restoring.load

    def forget(memory: Memory, fold: Fold, now: Now, fenced_at: float) -> None:
        for course, wait in fold.waits.items():
            fold.waits[course] = msgspec.structs.replace(wait, resend=UNSET)
        load(memory, fold, now, fenced_at)

    patch(restoring, "load", forget)


@mutant("R16", "A change that was submitted before may end as `UNCHANGED`.", Kind.REPUBLISHED)
def retries_are_compared(patch: Patch) -> None:
    _unchanged_with(patch, lambda held: _held(held, item={"seal_count": 0}))


@mutant("R16", "What was confirmed never becomes too old.", Kind.REPUBLISHED)
def trust_without_end(patch: Patch) -> None:
    patch(KnownState, "_is_trusted", lambda _, integration_id, known, now: True)


def _digest_of(patch: Patch, change: Any) -> None:
    digest = content_digest.content_digest
    patch(decode, "content_digest", lambda course: digest(change(course)))


@mutant("R16", "Courses with different titles count as equal.", Kind.REPUBLISHED)
def digest_without_title(patch: Patch) -> None:
    _digest_of(patch, lambda course: msgspec.structs.replace(course, title="t"))


@mutant("R16", "Courses with different languages count as equal.", Kind.REPUBLISHED)
def digest_without_languages(patch: Patch) -> None:
    _digest_of(patch, lambda course: msgspec.structs.replace(course, languages=None))


@mutant("R16", "All courses have the same digest.", Kind.REPUBLISHED)
def digest_is_constant(patch: Patch) -> None:
    def same(_: Course) -> bytes:
        return b"\0" * content_digest.CONTENT_BYTES

    patch(decode, "content_digest", same)


# --- R17 The index --------------------------------------------------------------------------------


@mutant("R17", "The index is used before it is loaded.", Kind.REPUBLISHED)
def index_before_it_is_loaded(patch: Patch) -> None:
    def get(known: KnownCourses, integration_id: str, origin_id: str) -> KnownCourse | None:
        was, known.is_loaded = known.is_loaded, True
        try:
            return real(known, integration_id, origin_id)
        finally:
            known.is_loaded = was

    real = KnownCourses.get
    patch(KnownCourses, "get", get)


@mutant("R17", "What waits for the index waits on when it is loaded.", Kind.LOADED)
def index_is_awaited_without_end(patch: Patch) -> None:
    patch(AwaitedIndex, "is_awaited", lambda index, now: index.until is not None)


@mutant("R17", "The newest records of earlier owners are not loaded.", Kind.REPUBLISHED)
def index_ends_too_early(patch: Patch) -> None:
    courses_end = EmbeddedShardLog.courses_end

    async def too_early(log: EmbeddedShardLog) -> int:
        return max(0, await courses_end(log) - 3)

    patch(EmbeddedShardLog, "courses_end", too_early)


@mutant("R17", "Records of earlier owners replace what this owner has decided meanwhile.", Kind.REPUBLISHED)
def loaded_over_own_decisions(patch: Patch) -> None:
    patch(KnownCourses, "_is_own", lambda _, at: False)


@mutant("R17", "Of each course, the first record that is loaded counts.", Kind.REPUBLISHED)
def first_record_counts(patch: Patch) -> None:
    load = KnownCourses.load

    def keep(known: KnownCourses, key: bytes, course: KnownCourse | None) -> None:
        if known._find(_digest(key))[1] is None:
            load(known, key, course)

    patch(KnownCourses, "load", keep)


@mutant(
    "R17", "Courses of different integrations with the same origin id are one to the index.", Kind.REPUBLISHED
)
def index_without_integration(patch: Patch) -> None:
    put, get, load = KnownCourses.put, KnownCourses.get, KnownCourses.load

    patch(
        KnownCourses,
        "put",
        lambda known, integration_id, origin_id, course: put(known, "", origin_id, course),
    )
    patch(KnownCourses, "get", lambda known, integration_id, origin_id: get(known, "", origin_id))

    def load_it(known: KnownCourses, key: bytes, course: KnownCourse | None) -> None:
        load(known, course_key("", msgspec.json.decode(key)[1]), course)

    patch(KnownCourses, "load", load_it)


@mutant("C6", "The index grows without a limit.")
def index_without_limit(patch: Patch) -> None:
    patch(Budget, "take", lambda _: True)


@mutant("C6", "The places of a shard that has ended are not given back to the others.")
def places_are_not_given_back(patch: Patch) -> None:
    patch(KnownCourses, "close", lambda _: None)
