"""Bugs against the rules of what an answer means: R10 to R14."""

from __future__ import annotations

from typing import Any

import msgspec

from daemon.core import journal, restoring, settle, settle_late, upsert
from daemon.core import judge as judge_module
from daemon.core import step as step_module
from daemon.core import verdict as table
from daemon.core.admission import Admission
from daemon.core.answers import NoAnswer, TaskPending
from daemon.core.batch import Batch, LateTask, OpenTask
from daemon.core.judge import Judge, PollRuling, SubmitRuling
from daemon.core.memory import Memory
from daemon.core.model import Change, Error, Item, Now, Rejection, Status
from daemon.core.result_factory import attempt_of
from daemon.core.stale_tasks import API_FLOOR_TOLERANCE_MS, ApiFloors, has_outlived
from daemon.core.step import Draft, TaskOutcome, Trigger
from daemon.core.verdict import PollVerdict, SubmitVerdict
from daemon.kombo import times, wire
from tests.sim.mutants.registry import Patch, mutant
from tests.sim.parameters import WATCHED, Kind

# --- R10 Superseding ------------------------------------------------------------------------------


@mutant("R10", "A change that was sent and waits for its next attempt is superseded by a newer one.")
def sent_is_superseded(patch: Patch) -> None:
    end = Memory.end
    admit = Admission._admit

    def admit_and_supersede(admission: Admission, change: Change, now: Now) -> None:
        def superseding(
            memory: Memory, operation: Any, integration_id: str, item: Item, status: Status, at: Now, **_: Any
        ) -> None:
            end(memory, operation, integration_id, item, Status.SUPERSEDED, at, superseded_by=change.offset)

        original, Memory.end = Memory.end, superseding  # type: ignore[method-assign,assignment]
        try:
            admit(admission, change, now)
        finally:
            Memory.end = original  # type: ignore[method-assign]

    patch(Admission, "_admit", admit_and_supersede)


@mutant(
    "R10",
    "The journal does not record that a waiting change was sent before, so it is superseded after a restart.",
)
def attempts_not_journalled(patch: Patch) -> None:
    def wait(item: Item, body: Any, not_before: int | None = None, _: Any = None) -> Any:
        return real_wait(item, body, not_before, None)

    real_wait = journal.Wait

    class Journal:
        """`daemon.core.journal` as `step` sees it."""

        Wait = staticmethod(wait)

        def __getattr__(self, name: str) -> Any:
            return getattr(journal, name)

    patch(step_module, "journal", Journal())


@mutant("R10", "A change whose POST had no answer is superseded by a newer one.")
def unknown_fate_is_superseded(patch: Patch) -> None:
    admit = Admission._admit

    def admit_over(admission: Admission, change: Change, now: Now) -> None:
        memory = admission._memory
        for batch in list(memory.batches.values()):
            mine = [item for item in batch.items if item.origin_id == change.origin_id]
            if (
                mine
                and batch.integration_id == change.integration_id
                and batch.task_id is None
                and batch.fate_unknown
            ):
                memory.close(batch)
                for item in batch.items:
                    by = change.offset if item in mine else None
                    status = Status.SUPERSEDED if item in mine else Status.FAILED
                    memory.end(batch.operation, batch.integration_id, item, status, now, superseded_by=by)
                memory.free_courses()
        admit(admission, change, now)

    patch(Admission, "_admit", admit_over)


@mutant("R10", "A rejected record supersedes the waiting change of its course.")
def rejected_record_supersedes(patch: Patch) -> None:
    reject = Admission._reject

    def reject_and_supersede(admission: Admission, rejection: Rejection, now: Now) -> None:
        reject(admission, rejection, now)
        memory = admission._memory
        integration_id, origin_id = rejection.integration_id, rejection.origin_id
        if integration_id is None or origin_id is None:
            return
        lane = memory.waiting.lane(integration_id)
        held = lane.held.get(origin_id)
        if held is not None and not held.ready and held.last is None:
            del lane.held[origin_id]
            memory.backlog.left(len(lane.held) + 1, len(lane.held), len(held.body))
            memory.draft.wait_changed(integration_id, origin_id, durable=held.durable)
            memory.end(
                held.operation,
                integration_id,
                held.item,
                Status.SUPERSEDED,
                now,
                superseded_by=rejection.offset,
            )

    patch(Admission, "_reject", reject_and_supersede)


# --- R11 Time-outs are evidence, not clocks -------------------------------------------------------


@mutant("R11", "A task times out by the host's clock, whatever the poll reports.")
def timed_out_by_host_clock(patch: Patch) -> None:
    poll = Judge.poll

    def by_our_clock(judge: Judge, task: OpenTask, answer: Any, sent_with: int, now: Now) -> PollRuling:
        if now.wall - task.accepted_at > judge._policy(task.integration_id).task.timeout * 1000:
            return PollRuling(PollVerdict.OVERDUE)
        return poll(judge, task, answer, sent_with, now)

    patch(Judge, "poll", by_our_clock)


@mutant("R11", "If a poll reports no API time, the host's clock is used.", Kind.WILD)
def host_clock_for_api_time(patch: Patch) -> None:
    poll = Judge.poll

    def by_our_clock(judge: Judge, task: OpenTask, answer: Any, sent_with: int, now: Now) -> PollRuling:
        if isinstance(answer, TaskPending) and answer.api_time is None:
            answer = TaskPending(answer.created_at, now.wall)
        return poll(judge, task, answer, sent_with, now)

    patch(Judge, "poll", by_our_clock)


@mutant("R11", "A task times out by the API's clock alone, however recently it was accepted.")
def timed_out_by_the_apis_clock(patch: Patch) -> None:
    outlived = has_outlived
    patch(
        judge_module,
        "has_outlived",
        lambda limit, created, api_time, _: outlived(limit, created, api_time, 2.0**60),
    )


@mutant("R11", "A task times out when its polls have had no answer for too long.")
def blindness_times_out(patch: Patch) -> None:
    poll = Judge.poll

    def impatient(judge: Judge, task: OpenTask, answer: Any, sent_with: int, now: Now) -> PollRuling:
        if (
            isinstance(answer, NoAnswer)
            and now.wall - task.accepted_at > judge._policy(task.integration_id).task.timeout * 1000
        ):
            return PollRuling(PollVerdict.OVERDUE)
        return poll(judge, task, answer, sent_with, now)

    patch(Judge, "poll", impatient)


# --- R12 TIMED_OUT ends the change, not the course ------------------------------------------------


@mutant("R12", "A time-out frees the course.")
def time_out_frees_the_course(patch: Patch) -> None:
    def time_out(memory: Memory, batch: Batch, error: Error, now: Now) -> None:
        attempt = attempt_of(batch, error)
        settle._end_all(memory, batch, TaskOutcome.TIMED_OUT, attempt, now)

    patch(settle, "time_out", time_out)


@mutant("R12", "The watch over a timed-out task is not journalled, so its courses are free after a restart.")
def watch_not_journalled(patch: Patch) -> None:
    put = Draft.put

    def put_less(draft: Draft, key: bytes, value: Any) -> None:
        if not isinstance(value, journal.Late):
            put(draft, key, value)

    patch(Draft, "put", put_less)


@mutant("R12", "A timed-out task is polled only once more.")
def watch_is_short(patch: Patch) -> None:
    late_answered = settle_late.late_answered

    def answered(memory: Memory, late: LateTask, answer: Any, ruling: PollRuling, now: Now) -> None:
        late_answered(memory, late, answer, ruling, now)
        if late.batch_id in memory.late:
            memory.forget_late(late)

    patch(settle_late, "late_answered", answered)


@mutant("R12", "Watched tasks are keyed by task id, which several batches may share.", Kind.CROWDED)
def watched_by_task(patch: Patch) -> None:
    watch_late = Memory.watch_late

    def watch(memory: Memory, late: LateTask) -> None:
        for other in [each for each in memory.late.values() if each.task_id == late.task_id]:
            del memory.late[other.batch_id]
        watch_late(memory, late)

    patch(Memory, "watch_late", watch)


@mutant("R12", "The end of a timed-out task causes no correction.")
def late_end_is_not_told(patch: Patch) -> None:
    patch(settle_late, "_correct", lambda *a, **k: None)


# --- R13 Unknown fate -----------------------------------------------------------------------------


@mutant("R13", "After a POST without an answer, the items are sent in a different body.")
def new_body_after_silence(patch: Patch) -> None:
    submit_answered = settle.submit_answered

    def answered(memory: Memory, batch: Batch, answer: Any, ruling: SubmitRuling, now: Now) -> None:
        if not isinstance(answer, NoAnswer) or batch.body is None:
            submit_answered(memory, batch, answer, ruling, now)
            return
        entries = list(zip(batch.items, batch.operation.split(batch.body), strict=True))
        spaced = [(item, b" " + body) for item, body in reversed(entries)]
        memory.close(batch)
        memory.seal(batch.operation, batch.integration_id, spaced, Trigger.ITEMS, now, bulk=batch.bulk)

    patch(settle, "submit_answered", answered)


@mutant("R13", "A refusal ends the changes although an earlier POST may have created a task.")
def refusal_is_believed(patch: Patch) -> None:
    patch(table, "INCONCLUSIVE", frozenset())


@mutant("R13", "A 408 ends the changes of its batch.")
def time_out_is_final(patch: Patch) -> None:
    of_submit = table.of_submit

    def final(code: str | None, status: int) -> SubmitVerdict:
        return SubmitVerdict.FAIL if status == 408 else of_submit(code, status)

    patch(table, "of_submit", final)
    patch(table, "is_understood", lambda code, status: True)


@mutant("R13", "A restored batch counts as never POSTed.")
def restored_fate_is_known(patch: Patch) -> None:
    load = restoring.load

    def load_sure(memory: Memory, fold: Any, now: Now, fenced_at: float) -> None:
        load(memory, fold, now, fenced_at)
        for batch in memory.batches.values():
            batch.fate_unknown = False

    patch(restoring, "load", load_sure)


@mutant("R13", "A server error counts as proof that nothing was accepted.")
def server_error_is_understood(patch: Patch) -> None:
    patch(table, "is_understood", lambda code, status: True)


# --- R14 Freshness --------------------------------------------------------------------------------


@mutant("R14", "Tasks are not checked for being older than their batch.")
def no_floor(patch: Patch) -> None:
    patch(judge_module, "is_stale", lambda api_floor, created_at: False)


@mutant("R14", "The floor is taken when the answer arrives instead of at sealing.")
def floor_after_sealing(patch: Patch) -> None:
    saw_times = Memory.saw_times

    def saw(memory: Memory, integration_id: str, answer: Any, now: Now) -> None:
        saw_times(memory, integration_id, answer, now)
        for batch in memory.batches.values():
            if batch.integration_id == integration_id:
                batch.api_floor = memory.api_floors.floor(integration_id)

    patch(Memory, "saw_times", saw)


@mutant("R14", "The floor is lost with the process.")
def floor_not_durable(patch: Patch) -> None:
    load = restoring.load

    def load_less(memory: Memory, fold: Any, now: Now, fenced_at: float) -> None:
        fold.floors.clear()
        memory.api_floors = ApiFloors(now.wall - API_FLOOR_TOLERANCE_MS)
        load(memory, fold, now, fenced_at)

    patch(restoring, "load", load_less)


@mutant("R14", "The floor is not journalled.")
def floor_not_journalled(patch: Patch) -> None:
    carry = Draft.put_lazily

    def carry_less(draft: Draft, key: bytes, value: Any) -> None:
        if not isinstance(value, journal.Floor):
            carry(draft, key, value)

    patch(Draft, "put_lazily", carry_less)


@mutant("R14", "The journal does not say that the API's clock fell behind the floor.", Kind.WILD)
def clock_set_back_not_journalled(patch: Patch) -> None:
    saw_date = ApiFloors.saw_date

    def saw(api_floors: ApiFloors, integration_id: str, date: int | None, now: Now) -> None:
        floor = api_floors.floors.get(integration_id)
        if saw_date(api_floors, integration_id, date, now) is not None:
            assert floor is not None
            api_floors.floors[integration_id] = floor

    patch(ApiFloors, "saw_date", saw)


@mutant("R14", "All integrations of a shard share one floor.")
def one_floor_for_all(patch: Patch) -> None:
    floor = ApiFloors.floor

    def of_all(api_floors: ApiFloors, integration_id: str) -> int:
        return max(floor(api_floors, each) for each in (integration_id, *api_floors.floors))

    patch(ApiFloors, "floor", of_all)


@mutant("R14", "A task that looks stale is replaced by another body while it is still pending.")
def overtaken_while_pending(patch: Patch) -> None:
    outlived = has_outlived

    def at_once(limit: float, created_at: int, api_time: int | None, accepted_for: float) -> bool:
        return limit == WATCHED or outlived(limit, created_at, api_time, accepted_for)

    patch(judge_module, "has_outlived", at_once)


@mutant("R14", "A batch is sent although its floor is ahead of the API's clock.")
def floor_ahead_of_the_clock(patch: Patch) -> None:
    patch(ApiFloors, "delay", lambda *_: 0.0)


@mutant("R14", "A time from the API is used however far from now it is.")
def absurd_times_are_believed(patch: Patch) -> None:
    patch(wire, "implausible", lambda *_: None)


@mutant("R14", "A `Date` is used however far it is from our own clock.")
def absurd_date_is_believed(patch: Patch) -> None:
    patch(times, "DATE_OFF_MAX_MS", 2**60)


@mutant("R14", "The floor is the host's time of sealing.")
def floor_by_host_clock(patch: Patch) -> None:
    seal = Memory.seal

    def seal_now(
        memory: Memory,
        operation: Any,
        integration_id: str,
        entries: Any,
        trigger: Trigger,
        now: Now,
        **more: Any,
    ) -> None:
        api_floors, memory.api_floors = memory.api_floors, ApiFloors(now.wall)
        seal(memory, operation, integration_id, entries, trigger, now, **more)
        memory.api_floors = api_floors

    patch(Memory, "seal", seal_now)


@mutant("R14", "A task created exactly at the floor counts as fresh.")
def floor_itself_is_fresh(patch: Patch) -> None:
    patch(judge_module, "is_stale", lambda api_floor, created_at: created_at < api_floor)


@mutant("R14", "A stale task ends its changes although an equivalent body is left to try.")
def given_up_at_the_first_replay(patch: Patch) -> None:
    patch(settle, "REPLAYS_MAX", 1)


@mutant("R14", "When no equivalent body is left, the same body is sent again and again.")
def replayed_for_ever(patch: Patch) -> None:
    equivalent = settle._equivalent

    def equivalent_or_equal(memory: Memory, batch: Batch, items: list[bytes], replays: int) -> Any:
        return equivalent(memory, batch, items, 1) or list(zip(batch.items, items, strict=True))

    patch(settle, "REPLAYS_MAX", 10**9)
    patch(settle, "_equivalent", equivalent_or_equal)


@mutant("R14", "An equivalent body drops a field of the course.")
def reencoded_with_less(patch: Patch) -> None:
    equivalent = settle._equivalent

    def with_less(*args: Any) -> Any:
        entries = equivalent(*args)
        return entries and [(item, _without(body, "languages")) for item, body in entries]

    patch(settle, "_equivalent", with_less)


def _without(body: bytes, name: str) -> bytes:
    item = msgspec.json.decode(body)
    item["course"].pop(name, None)
    return msgspec.json.encode(item)


@mutant("R14", "Equivalent bodies never differ in white space.")
def no_white_space(patch: Patch) -> None:
    patch(upsert, "_WHITE_SPACE_CHARS", 0)


@mutant("R14", "Equivalent bodies differ only in white space.")
def white_space_only(patch: Patch) -> None:
    reencoded = upsert._reencode_item

    def spaced(item: bytes, rng: Any, *, hosts: bool) -> bytes:
        white_space = reencoded(item, rng, hosts=hosts).partition(b'"')[0]
        return white_space + item[item.index(b'"') :]

    patch(upsert, "_reencode_item", spaced)


@mutant(
    "R14", "An equivalent body changes the first language, which is the one that single-language tools use."
)
def first_language_changes(patch: Patch) -> None:
    swap = upsert._swap_languages

    def turn(course: Any, rng: Any) -> None:
        swap(course, rng)
        languages = upsert._languages(course)
        if languages:
            course["languages"] = msgspec.Raw(b"[" + b",".join(reversed(languages)) + b"]")

    patch(upsert, "_swap_languages", turn)


@mutant("R14", "An equivalent body changes the case of a whole URL instead of its host.")
def path_changes_case(patch: Patch) -> None:
    letters = upsert._host_letters

    def all_letters(course: Any) -> Any:
        found = letters(course)
        if found:
            text = upsert._decode_text(course["course_url"])
            found += [
                ("course_url", n) for n, char in enumerate(text) if n > len("https://") and char.isalpha()
            ]
        return found

    patch(upsert, "_host_letters", all_letters)


@mutant("R14", "The items of an equivalent body change places, but their results do not.")
def items_not_reordered(patch: Patch) -> None:
    equivalent = settle._equivalent

    def bodies_only(memory: Memory, batch: Batch, items: list[bytes], replays: int) -> Any:
        entries = equivalent(memory, batch, items, replays)
        return entries and [(item, body) for item, (_, body) in zip(batch.items, entries, strict=True)]

    patch(settle, "_equivalent", bodies_only)
