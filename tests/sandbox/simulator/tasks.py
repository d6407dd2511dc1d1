"""One task of the API: its fate, decided when it is created, and the answer to a poll.

A task applies all its successful items at one moment, `applies_at`, in their order. The state does that, because it holds the
simulated LMS. `applies_at` is never later than `ends_at`, so the report of a COMPLETED task is always true.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from tests.sandbox.simulator.faults import (
    Dice,
    EntryDuplicated,
    EntryForeign,
    EntryMissing,
    FateShared,
    Integration,
    ItemFails,
    TaskEndless,
    TaskFails,
    TaskSlow,
)
from tests.sandbox.simulator.wire import ErrorObject, Item, error_object, iso

Status = Literal["PENDING", "COMPLETED", "FAILED"]


class Fate(msgspec.Struct, frozen=True, gc=False):
    """Everything that will happen to a task. Times are milliseconds since the epoch. None: never."""

    ends_at: int | None
    applies_at: int | None
    error: ErrorObject | None = None
    """The error with which the task ends FAILED."""
    item_errors: dict[int, ErrorObject] = msgspec.field(default_factory=dict)
    """By index of the item. The other items succeed."""
    missing: int | None = None
    """Index of the item that the result omits."""
    duplicated: int | None = None
    foreign: str | None = None
    """An origin_id that was never sent, reported as succeeded."""


class Form(msgspec.Struct, frozen=True, gc=False):
    """Where the vendor's guide and OpenAPI differ: which of them this task follows."""

    id_field: Literal["id", "course_id"]
    full_errors: bool
    """False: only code and message, as in the guide."""
    warnings: tuple[str, ...] | None
    """Warnings in the answer to a POST. None omits the field."""


class SimulatedTask(msgspec.Struct, kw_only=True, gc=False):
    """A task and what happened to it."""

    task_id: str
    integration_id: str
    body_sha256: bytes
    items: list[Item]
    created_at: int
    fate: Fate
    form: Form
    applied_at: int | None = None
    posts: int = 1
    """Number of accepted POSTs of this body, whether or not the client got the answer."""
    posts_answered: int = 0
    polls: int = 0
    stated_offset_ms: int = 0
    """Error of the API's clock when it created the task. It is added to the times of the task in every answer."""
    told_at: int | None = None
    """When a poll first returned the end of the task."""
    strangers: list[Item] = msgspec.field(default_factory=list)
    """Items of other POSTs that were answered with its id."""
    stranger_bodies: set[bytes] = msgspec.field(default_factory=set)
    """SHA-256 of the bodies of these POSTs."""

    def status(self, now: int) -> Status:
        ends_at = self.fate.ends_at
        if ends_at is None or now < ends_at:
            return "PENDING"
        return "COMPLETED" if self.fate.error is None else "FAILED"

    def reported(self, index: int) -> int:
        """Number of entries of the result that mention this item."""
        if index == self.fate.missing:
            return 0
        return 2 if index == self.fate.duplicated else 1


class TaskMaker:
    """Creates tasks and decides their fate. `task_seconds` is the average duration of a task."""

    def __init__(self, rng: random.Random, dice: Dice, task_seconds: float) -> None:
        self._rng = rng
        self._dice = dice
        self._task_seconds = task_seconds

    def make(
        self, now: int, integration: Integration, items: list[Item], *, body_sha256: bytes, interaction: int
    ) -> SimulatedTask:
        return SimulatedTask(
            task_id=new_id(self._rng),
            integration_id=integration.id,
            body_sha256=body_sha256,
            items=items,
            created_at=now,
            fate=self._decide(now, integration, len(items), interaction),
            form=_choose_form(self._rng),
        )

    def _decide(self, now: int, integration: Integration, count: int, interaction: int) -> Fate:
        rng, dice = self._rng, self._dice
        endless = dice.roll(TaskEndless, now, integration)
        if endless is not None:
            after = endless.applies_after_seconds
            return Fate(ends_at=None, applies_at=None if after is None else now + round(after * 1000))

        ends_at, applies_at = self._times(now, dice.roll(TaskSlow, now, integration))
        failing = dice.roll(TaskFails, now, integration)
        if failing is not None:
            error = error_object(rng.choice(failing.codes), "The task could not be processed.", interaction)
            return Fate(ends_at=ends_at, applies_at=None, error=error)

        def victim(kind: type[EntryMissing | EntryDuplicated]) -> int | None:
            return rng.randrange(count) if count and dice.roll(kind, now, integration) else None

        item_errors = self._item_errors(dice.active(ItemFails, now, integration), count, interaction)
        if item_errors and dice.roll(FateShared, now, integration) is not None:
            item_errors = dict.fromkeys(range(count), next(iter(item_errors.values())))
        return Fate(
            ends_at=ends_at,
            applies_at=applies_at,
            item_errors=item_errors,
            missing=victim(EntryMissing),
            duplicated=victim(EntryDuplicated),
            foreign=f"foreign-{new_id(rng)}" if dice.roll(EntryForeign, now, integration) else None,
        )

    def _times(self, now: int, slow: TaskSlow | None) -> tuple[int, int]:
        """The times at which the task ends and at which it applies its items."""
        if slow is not None:
            ends_at = now + round(self._rng.uniform(slow.seconds_min, slow.seconds_max) * 1000)
            return ends_at, ends_at
        if self._task_seconds == 0:
            return now, now
        length = max(1, round(self._rng.uniform(0.5, 1.5) * self._task_seconds * 1000))
        return now + length, now + round(self._rng.uniform(0.1, 0.9) * length)

    def _item_errors(
        self, rules: Sequence[ItemFails], count: int, interaction: int
    ) -> dict[int, ErrorObject]:
        if not rules:
            return {}
        message = "The connected tool returned an error."
        hits = ((index, self._dice.pick(rules)) for index in range(count))
        return {
            index: error_object(self._rng.choice(rule.codes), message, interaction)
            for index, rule in hits
            if rule is not None
        }


def new_id(rng: random.Random) -> str:
    """A random id of 24 characters, like the vendor's ids."""
    return f"{rng.getrandbits(96):024x}"


def _choose_form(rng: random.Random) -> Form:
    bits = rng.getrandbits(4)
    warnings: tuple[tuple[str, ...] | None, ...] = (None, (), ("This answer comes from a simulator.",), None)
    return Form(
        id_field="course_id" if bits & 1 else "id",
        full_errors=bool(bits & 2),
        warnings=warnings[bits >> 2],
    )


def task_data(task: SimulatedTask, now: int, course_id: Callable[[str], str]) -> dict[str, Any]:
    """The answer to a poll of the task: its `data`. `course_id` returns the course id of an origin_id."""
    status = task.status(now)
    data: dict[str, Any] = {
        "task_id": task.task_id,
        "status": status,
        "created_at": iso(task.created_at + task.stated_offset_ms),
        "completed_at": None,
    }
    fate = task.fate
    if status == "PENDING" or fate.ends_at is None:
        return data
    data["completed_at"] = iso(fate.ends_at + task.stated_offset_ms)
    if fate.error is not None:
        data["error"] = _spell(fate.error, task.form)
    else:
        data["data"] = _entries(task, course_id)
    return data


def _entries(task: SimulatedTask, course_id: Callable[[str], str]) -> list[dict[str, Any]]:
    fate, id_field = task.fate, task.form.id_field
    entries: list[dict[str, Any]] = [
        {"origin_id": item.origin_id, "status": "SUCCEEDED", "data": {id_field: course_id(item.origin_id)}}
        if (error := fate.item_errors.get(index)) is None
        else {"origin_id": item.origin_id, "status": "FAILED", "error": _spell(error, task.form)}
        for index, item in enumerate(task.items)
        if index != fate.missing
    ]
    if fate.duplicated is not None and fate.duplicated != fate.missing:
        origin_id = task.items[fate.duplicated].origin_id
        entries.append(next(entry for entry in entries if entry["origin_id"] == origin_id))
    if fate.foreign is not None:
        entries.append({"origin_id": fate.foreign, "status": "SUCCEEDED", "data": {id_field: "0" * 24}})
    return entries


def _spell(error: ErrorObject, form: Form) -> ErrorObject | dict[str, str | None]:
    return error if form.full_errors else {"code": error.code, "message": error.message}
