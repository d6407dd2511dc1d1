"""Bugs against R18: the order, the request and the answers of deactivations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from daemon.core import addressing, deactivate, sealing, settle
from daemon.core import verdict as table
from daemon.core.admission import Admission
from daemon.core.answers import Done, NoAnswer, Refused
from daemon.core.batch import Batch
from daemon.core.course import CourseState, KnownCourse
from daemon.core.deactivate import DEACTIVATE
from daemon.core.flow import Flow, Permit
from daemon.core.judge import Judge, SubmitRuling
from daemon.core.known_courses import KnownCourses
from daemon.core.known_state import KnownState
from daemon.core.lane import Held, Lane, ReadyQueue
from daemon.core.memory import Memory
from daemon.core.model import Item, Now, Status
from daemon.core.step import Draft
from daemon.core.verdict import SubmitVerdict
from daemon.core.waiting import Waiting
from daemon.runtime.submitter import Submitter
from tests.sim.mutants.registry import Patch, mutant
from tests.sim.parameters import Kind

# --- order ----------------------------------------------------------------------------------------


@mutant("R18", "A deactivation overtakes the open upsert of its course.")
def deactivation_overtakes(patch: Patch) -> None:
    hold = Waiting.hold

    def hold_ready(waiting: Waiting, lane: Lane, held: Held, due: float | None) -> Held | None:
        if held.operation is not DEACTIVATE:
            return hold(waiting, lane, held, due)
        busy = lane.busy.pop(held.item.origin_id, None)
        old = hold(waiting, lane, held, due)
        if busy is not None:
            lane.busy[held.item.origin_id] = busy
        return old

    patch(Waiting, "hold", hold_ready)
    share_busy_courses(patch)


@mutant(
    "R18",
    "A deactivation does not wait for a task of its course that timed out and is still watched.",
    Kind.RETIRED,
)
def deactivation_ignores_the_watch(patch: Patch) -> None:
    hold = Memory.hold

    def hold_ready(memory: Memory, integration_id: str, held: Held, due: float | None) -> Held | None:
        lane, origin_id = memory.waiting.lane(integration_id), held.item.origin_id
        if held.operation is not DEACTIVATE or lane.busy.get(origin_id) not in memory.late:
            return hold(memory, integration_id, held, due)
        watched = lane.busy.pop(origin_id)
        old = hold(memory, integration_id, held, due)
        lane.busy[origin_id] = watched
        return old

    patch(Memory, "hold", hold_ready)
    share_busy_courses(patch)


def share_busy_courses(patch: Patch) -> None:
    """A course may have two open submissions; the earlier one keeps it busy."""
    occupy, close, leave = Memory.occupy, Memory.close, Memory._leave

    def close_beside(memory: Memory, batch: Batch) -> None:
        lane = memory.waiting.lane(batch.integration_id)
        others = {item.origin_id: lane.busy.get(item.origin_id) for item in batch.items}
        close(memory, batch)
        lane.busy |= {
            origin_id: id_ for origin_id, id_ in others.items() if id_ is not None and id_ != batch.id
        }

    def occupy_beside(memory: Memory, batch: Batch, courses: Any) -> None:
        lane = memory.waiting.lane(batch.integration_id)
        busy = {origin_id: lane.busy.pop(origin_id, None) for origin_id in courses}
        occupy(memory, batch, courses)
        lane.busy |= {origin_id: id_ for origin_id, id_ in busy.items() if id_ is not None}

    def leave_if_there(memory: Memory, integration_id: str, items: Any) -> None:
        busy = memory.waiting.lane(integration_id).busy
        leave(memory, integration_id, [item for item in items if item.origin_id in busy])
        memory._freed += [(integration_id, item.origin_id) for item in items]

    patch(Memory, "occupy", occupy_beside)
    patch(Memory, "close", close_beside)
    patch(Memory, "_leave", leave_if_there)


@mutant("R18", "A course is free as soon as its deactivation is refused or not answered.")
def deactivation_is_no_barrier(patch: Patch) -> None:
    answered = settle.submit_answered

    def free(memory: Memory, batch: Batch, answer: Any, ruling: SubmitRuling, now: Now) -> None:
        answered(memory, batch, answer, ruling, now)
        if batch.operation is DEACTIVATE and batch.id in memory.batches:
            busy = memory.waiting.lane(batch.integration_id).busy
            if busy.pop(batch.items[0].origin_id, None) is not None:
                memory._freed.append((batch.integration_id, batch.items[0].origin_id))

    def leave(memory: Memory, integration_id: str, items: Any) -> None:
        busy = memory.waiting.lane(integration_id).busy
        left(memory, integration_id, [item for item in items if item.origin_id in busy])

    left = Memory._leave
    patch(settle, "submit_answered", free)
    patch(Memory, "_leave", leave)


def _admit(admission: Admission, change: Any, now: Now, *, keeps: Any) -> None:
    """As `Admission._admit`, except that the waiting change stays if `keeps` returns true."""
    memory, integration_id = admission._memory, change.integration_id
    item = Item(change.origin_id, change.offset, change.change_id, change.consumed_at, 0, 0, change.content)
    lane = memory.waiting.lanes.get(integration_id)
    waiting = None if lane is None else lane.held.get(change.origin_id)
    if waiting is not None and keeps(waiting, change):
        memory.traces.keep(change.offset, change.trace)
        memory.end(
            change.operation, integration_id, item, Status.SUPERSEDED, now, superseded_by=waiting.item.offset
        )
    else:
        _ADMIT(admission, change, now)


_ADMIT = Admission._admit


@mutant(
    "R18", "An upsert does not supersede the waiting deactivation of its course, but is superseded by it."
)
def deactivation_wins(patch: Patch) -> None:
    def keeps(waiting: Held, change: Any) -> bool:
        return waiting.operation is DEACTIVATE and change.operation is not DEACTIVATE

    patch(Admission, "_admit", lambda admission, change, now: _admit(admission, change, now, keeps=keeps))


@mutant("R18", "A deactivation does not supersede the waiting upsert of its course, but is superseded by it.")
def upsert_wins(patch: Patch) -> None:
    def keeps(waiting: Held, change: Any) -> bool:
        return waiting.operation is not DEACTIVATE and change.operation is DEACTIVATE

    patch(Admission, "_admit", lambda admission, change, now: _admit(admission, change, now, keeps=keeps))


@mutant("R18", "A change that is superseded by one with another operation has no result.")
def superseded_across_operations_is_lost(patch: Patch) -> None:
    def admit(admission: Admission, change: Any, now: Now) -> None:
        lane = admission._memory.waiting.lanes.get(change.integration_id)
        waiting = None if lane is None else lane.held.get(change.origin_id)
        if waiting is None or waiting.operation is change.operation:
            _ADMIT(admission, change, now)
            return
        original = Memory.end
        Memory.end = lambda *_, **__: None  # type: ignore[method-assign]
        try:
            _ADMIT(admission, change, now)
        finally:
            Memory.end = original  # type: ignore[method-assign]

    patch(Admission, "_admit", admit)


@mutant("R18", "Deactivations and upserts are sealed into one batch.")
def one_batch_for_all(patch: Patch) -> None:
    def take(lane: Lane, queue: ReadyQueue, items_max: int, bytes_max: int) -> list[Held]:
        taken = real_take(lane, queue, items_max, bytes_max)
        if taken and taken[0].operation is not DEACTIVATE:
            for held in lane.held.values():
                if queue.get(held.item.origin_id) is held and held.operation is DEACTIVATE:
                    taken.append(held)
                    queue._courses.remove(held.item.origin_id)
                    queue.count -= 1
                    queue.bytes -= held.size()
                    held.ready = False
                    if held.ages is not None:
                        held.count_in(None)
            for held in taken:
                lane.held.pop(held.item.origin_id, None)
        return taken

    real_take = Lane.take
    patch(Lane, "take", take)


# --- the request ----------------------------------------------------------------------------------


@mutant("R18", "The id of the course joins the request when it is POSTed, and is not in the journal.")
def id_not_journalled(patch: Patch) -> None:
    seal = Draft.seal

    def seal_without(draft: Draft, batch_id: str, record: Any, sealed: Any) -> None:
        if record.operation == DEACTIVATE.name:
            record = type(record)(
                record.integration_id,
                record.sealed_at,
                record.api_floor,
                record.items,
                type(record.body)(deactivate.item(None)),
                record.replays,
                record.operation,
            )
        seal(draft, batch_id, record, sealed)

    patch(Draft, "seal", seal_without)


@mutant("R18", "A deactivation is POSTed before its record is committed.")
def posted_before_its_record(patch: Patch) -> None:
    seal = Draft.seal

    def seal_nothing(draft: Draft, batch_id: str, record: Any, sealed: Any) -> None:
        if record.operation == DEACTIVATE.name:
            draft.report(sealed)
            draft.want()
        else:
            seal(draft, batch_id, record, sealed)

    patch(Draft, "seal", seal_nothing)


@mutant("R18", "The id is that of some other course of the integration.")
def another_course_id(patch: Patch) -> None:
    course_id, put = KnownCourses.course_id, KnownCourses.put
    ids: dict[str, dict[str, str]] = {}

    def remember(known: KnownCourses, integration_id: str, origin_id: str, course: KnownCourse) -> None:
        if course.course_id is not None:
            ids.setdefault(integration_id, {})[origin_id] = course.course_id
        put(known, integration_id, origin_id, course)

    def of_another(known: KnownCourses, integration_id: str, origin_id: str) -> str | None:
        others = (id_ for other, id_ in ids.get(integration_id, {}).items() if other != origin_id)
        return next(others, course_id(known, integration_id, origin_id))

    patch(KnownCourses, "put", remember)
    patch(KnownCourses, "course_id", of_another)


@mutant("R18", "The index takes precedence over the id that the publisher gives.")
def publishers_id_ignored(patch: Patch) -> None:
    def address(item: bytes, course_id: str | None) -> bytes | None:
        return item if course_id is None else deactivate.item(course_id)

    _replace_address(patch, address)


@mutant("R18", "A deactivation without a known id is sent with the origin id instead.")
def origin_id_for_course_id(patch: Patch) -> None:
    real = addressing.addressed

    def addressed(memory: Memory, integration_id: str, taken: Any, now: Now) -> Any:
        for held in taken:
            if held.operation is DEACTIVATE and held.body == deactivate.item(None):
                held.body = deactivate.item(f"remote:{held.item.origin_id}")
        return real(memory, integration_id, taken, now)

    patch(sealing, "addressed", addressed)


def _replace_address(patch: Patch, address: Any) -> None:
    real = addressing.addressed

    def addressed(memory: Memory, integration_id: str, taken: Any, now: Now) -> Any:
        known = memory.known.courses
        for held in taken:
            if held.operation is DEACTIVATE:
                body = address(held.body, known.course_id(integration_id, held.item.origin_id))
                held.body = held.body if body is None else body
        return real(memory, integration_id, taken, now)

    patch(sealing, "addressed", addressed)


@mutant(
    "R18", "While the index is being loaded, a deactivation without an id of its own fails.", Kind.RETIRED
)
def fails_before_the_index_is_loaded(patch: Patch) -> None:
    real = addressing.addressed

    def addressed(memory: Memory, integration_id: str, taken: Any, now: Now) -> Any:
        known = memory.known.courses
        before, known.is_loaded = known.is_loaded, True
        try:
            return real(memory, integration_id, taken, now)
        finally:
            known.is_loaded = before

    patch(sealing, "addressed", addressed)


@mutant("R18", "Deactivations do not count against the concurrency limit of their integration.")
def not_counted(patch: Patch) -> None:
    submit = Submitter._submit

    async def uncounted(submitter: Submitter, permit: Permit[Any]) -> None:
        batch = permit.ref.submission()
        if batch is None or batch.operation is not DEACTIVATE:
            await submit(submitter, permit)
            return
        flow = submitter._flow
        state = flow._integrations[permit.integration_id]
        state.in_flight -= 1
        flow._list(permit.integration_id, state)
        try:
            await submit(submitter, permit)
        finally:
            flow._list(permit.integration_id, state)

    def released(flow: Flow[Any], permit: Permit[Any], now: float) -> None:
        state = flow._integrations[permit.integration_id]
        state.in_flight = max(1, state.in_flight)
        real_released(flow, permit, now)

    real_released = Flow.released
    patch(Submitter, "_submit", uncounted)
    patch(Flow, "released", released)


# --- answers --------------------------------------------------------------------------------------


def _ruling(patch: Patch, change: Any) -> None:
    submit = Judge.submit

    def judged(
        own: Judge, integration_id: str, operation: Any, answer: Any, sent_with: int, *, fate_unknown: bool
    ) -> SubmitRuling:
        ruling = submit(own, integration_id, operation, answer, sent_with, fate_unknown=fate_unknown)
        if operation is not DEACTIVATE:
            return ruling
        verdict = change(answer, ruling, fate_unknown)
        return ruling if verdict is None else replace(ruling, verdict=verdict)

    patch(Judge, "submit", judged)


@mutant("R18", "A deactivation is given up when a call was refused and an earlier one had no answer.")
def given_up_after_unknown_fate(patch: Patch) -> None:
    def fail(answer: Any, _: SubmitRuling, fate_unknown: bool) -> SubmitVerdict | None:
        return SubmitVerdict.FAIL if fate_unknown and isinstance(answer, Refused) else None

    _ruling(patch, fail)


@mutant("R18", "A deactivation is given up when the API is overloaded or down.")
def given_up_when_the_api_is_down(patch: Patch) -> None:
    def fail(answer: Any, ruling: SubmitRuling, _: bool) -> SubmitVerdict | None:
        refused = isinstance(answer, Refused) and ruling.verdict is SubmitVerdict.RETRY
        return SubmitVerdict.FAIL if refused else None

    _ruling(patch, fail)


@mutant(
    "R18",
    "A refusal that may follow from an earlier call fails the deactivation like any other.",
    Kind.RETIRED,
)
def doubt_is_not_told(patch: Patch) -> None:
    def fail(_: Any, ruling: SubmitRuling, __: bool) -> SubmitVerdict | None:
        return SubmitVerdict.FAIL if ruling.verdict is SubmitVerdict.UNCONFIRMED else None

    _ruling(patch, fail)


@mutant(
    "R18",
    "After a deactivation that is unconfirmed, its course is known to be what it was before.",
    Kind.RETIRED,
)
def doubt_leaves_the_state(patch: Patch) -> None:
    patch(settle, "_uncertain", _uncertain_except_deactivations)


_UNCERTAIN = settle._uncertain


def _uncertain_except_deactivations(memory: Memory, batch: Batch, attempt: Any, now: Now) -> None:
    if batch.operation is not DEACTIVATE:
        _UNCERTAIN(memory, batch, attempt, now)


def _successful(patch: Patch, is_success: Any) -> None:
    """Some other answers count as success."""
    answered = settle.submit_answered

    def succeed(memory: Memory, batch: Batch, answer: Any, ruling: SubmitRuling, now: Now) -> None:
        if batch.operation is DEACTIVATE and is_success(answer):
            answer, ruling = Done(None), SubmitRuling(SubmitVerdict.DONE)
        answered(memory, batch, answer, ruling, now)

    patch(settle, "submit_answered", succeed)


@mutant("R18", "An unknown course counts as inactive, so its deactivation succeeds.")
def unknown_course_succeeds(patch: Patch) -> None:
    _successful(patch, lambda answer: isinstance(answer, Refused) and answer.status == 404)


@mutant("R18", "A call without an answer counts as a success.")
def silence_succeeds(patch: Patch) -> None:
    _successful(patch, lambda answer: isinstance(answer, NoAnswer))


@mutant("R18", "A load balancer's error counts as a success.", Kind.RETIRED)
def server_error_succeeds(patch: Patch) -> None:
    _successful(patch, lambda answer: isinstance(answer, Refused) and answer.status >= 500)


@mutant("R18", "A 404 that is not in the form of the API's errors fails a deactivation.", Kind.RETIRED)
def any_404_is_final(patch: Patch) -> None:
    is_final = table.is_final
    patch(
        table,
        "is_final",
        lambda code, status, *, is_documented: is_final(code, status, is_documented=True),
    )


@mutant("R18", "A deactivation that succeeds leaves no record of its course.")
def inactive_is_not_recorded(patch: Patch) -> None:
    def done(memory: Memory, batch: Batch, answer: Done, now: Now) -> None:
        memory.close(batch)
        for item in batch.items:
            memory.end(
                batch.operation, batch.integration_id, item, Status.SUCCEEDED, now, course_id=answer.course_id
            )

    patch(settle, "_done", done)


@mutant("R18", "A course that was deactivated is recorded as active, with the content that it had.")
def inactive_is_recorded_as_active(patch: Patch) -> None:
    confirmed = KnownState.confirmed

    def active(own: KnownState, draft: Any, state: Any, integration_id: str, *rest: Any) -> None:
        confirmed(own, draft, CourseState.ACTIVE, integration_id, *rest)

    patch(KnownState, "confirmed", active)
