"""Bugs against R19: what operators decide."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterator
from typing import Any
from unittest import mock

import msgspec

from daemon.core import give_up, settle
from daemon.core.batch import Batch
from daemon.core.control import Control, GiveUp, Pause
from daemon.core.flow import Flow, Permit
from daemon.core.integration import Integration
from daemon.core.lane import Held, Lane
from daemon.core.memory import Memory
from daemon.core.model import Error, Item, Now
from daemon.core.result_factory import attempt_of
from daemon.core.step import Draft, TaskOutcome
from daemon.core.waiting import Waiting
from daemon.log.errors import LogError
from daemon.runtime.control_following import ControlFollower
from tests.sim.faulty import FaultyLog
from tests.sim.mutants.registry import Patch, mutant
from tests.sim.parameters import Kind

# --- following ------------------------------------------------------------------------------------


@mutant("R19", "Submissions leave before the control topic was read.", Kind.OPERATED)
def unread_is_not_paused(patch: Patch) -> None:
    patch(Control, "is_paused", lambda control, integration_id: control.pause(integration_id) is not None)


@mutant("R19", "The control topic is read once, at the start.", Kind.OPERATED)
def read_once(patch: Patch) -> None:
    run = ControlFollower.run

    async def once(follower: ControlFollower) -> None:
        read = follower._ports.log.read_control

        async def never_again(offset: int | None) -> Any:
            if follower.control.is_loaded:
                await _forever()
            return await read(offset)

        follower._ports.log.read_control = never_again  # type: ignore[method-assign]
        await run(follower)

    patch(ControlFollower, "run", once)


async def _forever() -> None:
    await asyncio.Event().wait()


@mutant("R19", "When the control topic cannot be read, nothing is paused.", Kind.OPERATED)
def unreadable_means_not_paused(patch: Patch) -> None:
    read_control = FaultyLog.read_control

    obey = ControlFollower._obey
    lost: set[int] = set()

    async def read(log: FaultyLog, offset: int | None) -> Any:
        try:
            return await read_control(log, offset)
        except LogError:
            lost.add(id(log))
            raise

    def forget(follower: ControlFollower) -> None:
        if id(follower._ports.log) in lost:
            lost.discard(id(follower._ports.log))
            follower.control._pauses.clear()
            follower.control.version += 1
        obey(follower)

    patch(FaultyLog, "read_control", read)
    patch(ControlFollower, "_obey", forget)


# --- which decision counts ------------------------------------------------------------------------


@mutant(
    "R19",
    "A decision about the id of an integration takes precedence over later ones about a pattern.",
    Kind.OPERATED,
)
def exact_decision_first(patch: Patch) -> None:
    pause = Control.pause

    def exact_first(control: Control, integration_id: str) -> Pause | None:
        exact = control._exact.get(integration_id)
        if exact is not None:
            return exact[1] if exact[1].paused else None
        return pause(control, integration_id)

    patch(Control, "pause", exact_first)


@mutant("R19", "The first decision counts, not the last one.", Kind.OPERATED)
def first_decision_counts(patch: Patch) -> None:
    apply = Control.apply

    def apply_once(control: Control, offset: int, decision: Pause | GiveUp) -> None:
        if not (isinstance(decision, Pause) and decision.integration in control._pauses):
            apply(control, offset, decision)

    patch(Control, "apply", apply_once)


@mutant(
    "R19", "A pattern pauses only an integration whose id is the pattern's first characters.", Kind.OPERATED
)
def pattern_is_compared_whole(patch: Patch) -> None:
    advance = Control.advance

    def whole(control: Control, wall: int) -> None:
        advance(control, wall)
        control._exact |= dict(control._patterns)
        control._patterns = []

    patch(Control, "advance", whole)


@mutant(
    "R19",
    "A pause ends when its time is over, also for a pattern that was paused before without an end.",
    Kind.OPERATED,
)
def ended_pause_resumes(patch: Patch) -> None:
    advance = Control.advance

    def keep_ended(control: Control, wall: int) -> None:
        for name, (offset, decision) in list(control._pauses.items()):
            if decision.until is not None and decision.until <= wall:
                resumed = msgspec.structs.replace(decision, paused=False, until=None)
                control._pauses[name] = offset, resumed
                control.version += 1
        advance(control, wall)

    patch(Control, "advance", keep_ended)


# --- pauses ---------------------------------------------------------------------------------------


@mutant("R19", "The flow does not learn of a pause of an integration that it knows already.", Kind.OPERATED)
def flow_does_not_obey(patch: Patch) -> None:
    patch(Flow, "obey", lambda flow, now: None)


@mutant("R19", "A paused integration is not sent to, but its changes are sealed.", Kind.OPERATED)
def paused_lanes_are_sealed(patch: Patch) -> None:
    def all_ready(waiting: Waiting) -> Iterator[Lane]:
        return (lane for lane in waiting.lanes.values() if lane.ready_count)

    patch(Waiting, "ready_lanes", all_ready)


@mutant(
    "R19",
    "A submission that waits for its lease leaves although its integration was paused meanwhile.",
    Kind.OPERATED,
)
def lease_outlives_the_pause(patch: Patch) -> None:
    try_send = Flow.try_send

    def send(flow: Flow[Any], permit: Permit[Any], now: float) -> bool:
        state: Integration[Any] = flow._integrations[permit.integration_id]
        paused, state.paused = state.paused, False
        try:
            return try_send(flow, permit, now)
        finally:
            state.paused = paused

    patch(Flow, "try_send", send)


@mutant("R19", "A paused integration is never resumed.", Kind.OPERATED)
def never_resumed(patch: Patch) -> None:
    obey = Waiting.obey

    def only_pause(waiting: Waiting) -> None:
        before = {lane.integration_id for lane in waiting.lanes.values() if lane.paused}
        obey(waiting)
        for integration_id in before & waiting.lanes.keys():
            waiting.lanes[integration_id].paused = True

    patch(Waiting, "obey", only_pause)


# --- giving up ------------------------------------------------------------------------------------


@mutant("R19", "What waits is not given up.", Kind.OPERATED)
def waiting_is_not_given_up(patch: Patch) -> None:
    patch(give_up, "find_given_up", lambda memory: None)


@mutant("R19", "What was not read when it was given up is sent.", Kind.OPERATED)
def unread_is_not_given_up(patch: Patch) -> None:
    hold = Memory.hold

    def hold_it(memory: Memory, integration_id: str, held: Held, due: float | None) -> Held | None:
        before = len(memory.given_up)
        old = hold(memory, integration_id, held, due)
        del memory.given_up[before:]
        return old

    patch(Memory, "hold", hold_it)


@mutant("R19", "Later changes are given up, too.", Kind.OPERATED)
def later_changes_are_given_up(patch: Patch) -> None:
    decision = Control.give_up

    def any_offset(
        control: Control, integration_id: str, origin_id: str, topic_id: str, partition: int, offset: int
    ) -> GiveUp | None:
        return decision(control, integration_id, origin_id, topic_id, partition, max(0, offset - 3))

    patch(Control, "give_up", any_offset)


@mutant("R19", "All courses are given up instead of one.", Kind.OPERATED)
def all_courses_are_given_up(patch: Patch) -> None:
    apply = Control.apply

    def of_all(control: Control, offset: int, decision: Pause | GiveUp) -> None:
        if isinstance(decision, GiveUp):
            decision = msgspec.structs.replace(decision, origin_id=None)
        apply(control, offset, decision)

    patch(Control, "apply", of_all)


@mutant("R19", "A batch ends when one of its changes is given up.", Kind.OPERATED)
def one_ends_its_batch(patch: Patch) -> None:
    def of_any(memory: Memory, batch: Batch) -> GiveUp | None:
        found = [memory.decision(batch.integration_id, item) for item in batch.items]
        return next((each for each in found if each is not None), None)

    patch(give_up, "_decision", of_any)


@mutant("R19", "A submission is given up while its POST is in flight.", Kind.OPERATED)
def given_up_in_flight(patch: Patch) -> None:
    end_batches = give_up.end_batches

    def end(memory: Memory, in_flight: Container[str], now: Now) -> None:
        del in_flight
        end_batches(memory, (), now)

    patch(give_up, "end_batches", end)


@mutant("R19", "A submission is given up although its fate is not known.", Kind.OPERATED)
def given_up_with_unknown_fate(patch: Patch) -> None:
    end_refused = give_up.end_refused

    def end(memory: Memory, batch: Batch, now: Now) -> None:
        batch.fate_unknown = False
        end_refused(memory, batch, now)

    patch(give_up, "end_refused", end)


@mutant("R19", "Open tasks are given up without having been asked for.", Kind.OPERATED)
def open_tasks_are_given_up(patch: Patch) -> None:
    apply = Control.apply

    def of_tasks(control: Control, offset: int, decision: Pause | GiveUp) -> None:
        if isinstance(decision, GiveUp):
            decision = msgspec.structs.replace(decision, open_tasks=True)
        apply(control, offset, decision)

    patch(Control, "apply", of_tasks)


@mutant("R19", "A task that is given up is not watched.", Kind.OPERATED)
def given_up_task_is_not_watched(patch: Patch) -> None:
    time_out = settle.time_out

    def end(memory: Memory, batch: Batch, error: Error, now: Now) -> None:
        if error.code != "COURSESYNC.GIVEN_UP":
            time_out(memory, batch, error, now)
            return
        attempt = attempt_of(batch, error)
        settle._end_all(memory, batch, TaskOutcome.TIMED_OUT, attempt, now)

    patch(settle, "time_out", end)


@mutant("R19", "A task that may be an earlier one is given up.", Kind.OPERATED)
def unpolled_task_is_given_up(patch: Patch) -> None:
    patch(give_up, "is_stale", lambda api_floor, created_at: False)
    end_task = give_up.end_task

    def end(memory: Memory, batch: Batch, now: Now) -> None:
        batch.created_at = batch.created_at or batch.accepted_at
        end_task(memory, batch, now)

    patch(give_up, "end_task", end)


@mutant("R19", "A given up change stays in the journal.", Kind.OPERATED)
def given_up_stays_in_the_journal(patch: Patch) -> None:
    end_waiting = give_up.end_waiting

    def end(memory: Memory, now: Now) -> None:
        with mock.patch.object(Draft, "wait_changed"):
            end_waiting(memory, now)

    patch(give_up, "end_waiting", end)


@mutant("R19", "A change whose retry was given up is sent again after its back-off.", Kind.OPERATED)
def retry_survives(patch: Patch) -> None:
    decision = Memory.decision

    def of_new(memory: Memory, integration_id: str, item: Item) -> GiveUp | None:
        return None if item.failures else decision(memory, integration_id, item)

    patch(Memory, "decision", of_new)
