"""The judge: decides once what each answer of the API means, before anything acts on it.

`core.verdict` defines what an error means by itself. Three things can change that meaning, and they are decided here:

* **The key.** A refusal of our key or address, or a denial without a code (401, 403), concerns one integration until
  there is more evidence: a second integration is denied and no answer in between has shown that the key works, or the
  API refuses a call that is made for no integration (`key_probed`). Then it concerns every integration. An integration
  that was denied while the key worked is no evidence again until it gets a good answer. A refusal of a call that was
  sent with a key that has been replaced since is no evidence either.
* **The fate of a POST.** While an earlier POST of the same bytes may have created a task, a refusal is accepted only
  if it is a function of the bytes alone (R13).
* **Time.** An earlier task of equal bytes does not belong to this batch (R14), and a task may have been pending for
  too long (R11).

The whole process has one judge, because it has one key. A ruling is a frozen value, which takes effect in four places:
`runtime.halt` (the key), `core.settle` (the changes), `core.memory` (what the integration waits for) and
`core.integration` (when it is sent to again; it distinguishes an overload, a throttle and a failure by the error).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

import msgspec

from daemon.config import Policies
from daemon.core import verdict as table
from daemon.core.answers import (
    Accepted,
    Done,
    ItemOutcome,
    NoAnswer,
    PollAnswer,
    Refused,
    SubmitAnswer,
    TaskCompleted,
    TaskFailed,
    TaskPending,
)
from daemon.core.batch import LateTask, OpenTask
from daemon.core.model import Error, Item, Now
from daemon.core.operation import Operation
from daemon.core.stale_tasks import has_outlived, is_stale
from daemon.core.verdict import ItemVerdict, PollVerdict, SubmitVerdict, TaskVerdict

SHARED_SPLITS_MAX = 3
"""How often a batch is halved whose items have failed together. That costs at most 14 submissions, and a bad item fails no more
than an eighth of its batch.
"""
OUTCOME_MISSING = Error(
    "COURSESYNC.OUTCOME_MISSING",
    "The task completed, but its result does not contain this course.",
    "No outcome for this item",
)
OUTCOME_CONTRADICTORY = Error(
    "COURSESYNC.OUTCOME_CONTRADICTORY",
    "The task completed, but its result contains this course more than once, with different outcomes.",
    "Contradictory outcomes for this item",
)


class KeyEvidence(StrEnum):
    """What an answer shows about the API key in use."""

    NONE = "none"
    WORKS = "works"
    SUSPECTED = "suspected"  # one integration was denied: a call that is made for no integration shows more
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class SubmitRuling:
    verdict: SubmitVerdict
    key: KeyEvidence = KeyEvidence.NONE
    fate_unknown: bool = False
    """Whether a POST of these bytes may have created a task whose id is not known (R13)."""


class ItemRuling(msgspec.Struct, frozen=True, gc=False):
    verdict: ItemVerdict
    course_id: str | None = None
    error: Error | None = None
    """Why the item did not succeed; None exactly if it succeeded."""


@dataclass(frozen=True, slots=True)
class PollRuling:
    verdict: PollVerdict
    key: KeyEvidence = KeyEvidence.NONE
    task: TaskVerdict | None = None
    """Present exactly if `verdict` is `FAILED`."""
    items: tuple[ItemRuling, ...] = ()
    """For a `COMPLETED` task: one ruling for each item of the batch, in its order."""

    @property
    def needs_body(self) -> bool:
        """Whether the ruling requires the payload, because some of it must be sent again. The payload was dropped
        when the API accepted the batch.
        """
        match self.verdict:
            case PollVerdict.LOST | PollVerdict.REPLAYED:
                return True
            case PollVerdict.COMPLETED:
                return any(
                    item.verdict not in (ItemVerdict.SUCCEEDED, ItemVerdict.FAIL) for item in self.items
                )
            case PollVerdict.FAILED:
                return self.task not in (TaskVerdict.FAIL, TaskVerdict.TIMED_OUT)
            case (
                PollVerdict.PENDING
                | PollVerdict.OVERDUE
                | PollVerdict.BLIND
                | PollVerdict.HALT
                | PollVerdict.REKEYED
            ):
                return False
            case _:
                assert_never(self.verdict)


class Judge:
    """Its only state is what the answers so far show about the key; it holds no more ids than there are integrations."""

    def __init__(self, policy: Policies) -> None:
        self._policy = policy
        self._denied: set[str] = set()
        """Integrations that were denied since the key last worked."""
        self._denied_alone: set[str] = set()
        """Integrations that were denied while the key worked, and have not had a good answer since."""
        self.key_number = 0
        """Counts the keys that were in use. A call records this number when it starts. If its answer arrives after
        the key was replaced, the answer says nothing about the new key.
        """

    def key_replaced(self) -> None:
        """From now on, calls use another key."""
        self.key_number += 1
        self._denied.clear()
        self._denied_alone.clear()

    @property
    def suspects_key(self) -> bool:
        """Whether an integration was denied and nothing has shown since that the key works."""
        return bool(self._denied)

    def key_probed(self, answer: PollAnswer, sent_with: int) -> KeyEvidence:
        """Judge the answer to a GET for a task and an integration that cannot exist (`kombo.probe`). The API checks the
        key first, so it has accepted the key if it answers that there is no such task.
        """
        if sent_with != self.key_number or not isinstance(answer, Refused):
            return KeyEvidence.NONE
        if self._concerns_key(answer):
            return KeyEvidence.REFUSED
        if not table.shows_working_key(answer.error.code, answer.status):
            return KeyEvidence.NONE
        return self._works(sent_with)

    def submit(
        self,
        integration_id: str,
        operation: Operation,
        answer: SubmitAnswer,
        sent_with: int,
        *,
        fate_unknown: bool,
    ) -> SubmitRuling:
        """Judge the answer to a POST. `fate_unknown`: whether an earlier POST of the same bytes may have created a
        task, or was carried out.
        """
        match answer:
            case NoAnswer():
                return SubmitRuling(SubmitVerdict.RETRY, fate_unknown=True)
            case Accepted():
                return SubmitRuling(SubmitVerdict.ACCEPTED, self._works(sent_with, integration_id))
            case Done():
                return SubmitRuling(SubmitVerdict.DONE, self._works(sent_with, integration_id))
            case Refused():
                key = self._evidence(integration_id, answer, sent_with)
                verdict, unknown = _refused(operation, answer, fate_unknown=fate_unknown)
                if key is KeyEvidence.REFUSED:
                    verdict = SubmitVerdict.HALT
                elif self._concerns_key(answer) and sent_with != self.key_number:
                    verdict = SubmitVerdict.REKEYED
                return SubmitRuling(verdict, key, unknown)
            case _:
                assert_never(answer)

    def poll(self, task: OpenTask, answer: PollAnswer, sent_with: int, now: Now) -> PollRuling:
        """Judge the answer to a GET for the task of an open batch."""
        match answer:
            case NoAnswer():
                return PollRuling(PollVerdict.BLIND)
            case Refused():
                return self._poll_refused(task.integration_id, answer, sent_with)
            case TaskPending() | TaskCompleted() | TaskFailed():
                return self._task_answered(task, answer, sent_with, now)
            case _:
                assert_never(answer)

    def late(self, late: LateTask, answer: PollAnswer, sent_with: int, now: Now) -> PollRuling:
        """Judge the answer to a GET for a task that timed out and is still watched (R12). `OVERDUE`: its watch is
        over.
        """
        record = late.record
        limits = self._policy(record.integration_id).task
        watched = limits.timeout + limits.watch_after_timeout
        accepted_for = now.mono - late.accepted_mono

        def is_over(api_time: int | None) -> bool:
            return has_outlived(watched, record.created_at, api_time, accepted_for)

        match answer:
            case NoAnswer():
                return PollRuling(PollVerdict.BLIND)
            case Refused():
                ruling = self._poll_refused(record.integration_id, answer, sent_with)
                if ruling.verdict is not PollVerdict.LOST:
                    return ruling
                # A task that the API no longer knows may still apply its content.
                over = is_over(answer.api_time)
                return PollRuling(PollVerdict.OVERDUE if over else PollVerdict.BLIND, ruling.key)
            case TaskPending():
                verdict = PollVerdict.OVERDUE if is_over(answer.api_time) else PollVerdict.PENDING
                return PollRuling(verdict, self._works(sent_with, record.integration_id))
            case TaskCompleted():
                items = tuple(_item_rulings(late.items, answer.outcomes))
                key = self._works(sent_with, record.integration_id)
                return PollRuling(PollVerdict.COMPLETED, key, items=items)
            case TaskFailed():
                key = self._works(sent_with, record.integration_id)
                return PollRuling(PollVerdict.FAILED, key, table.of_task(answer.error.code))
            case _:
                assert_never(answer)

    def _task_answered(
        self, task: OpenTask, answer: TaskPending | TaskCompleted | TaskFailed, sent_with: int, now: Now
    ) -> PollRuling:
        key = self._works(sent_with, task.integration_id)
        stale = is_stale(task.api_floor, answer.created_at)
        match answer:
            case TaskPending():
                # A task that looks stale may belong to this batch, created while the API's clock was behind
                # the floor. No other body is sent while it may still run (contract C2).
                limits = self._policy(task.integration_id).task
                limit = limits.timeout + (limits.watch_after_timeout if stale else 0.0)
                accepted_for = now.mono - task.accepted_mono
                if not has_outlived(limit, answer.created_at, answer.api_time, accepted_for):
                    return PollRuling(PollVerdict.PENDING, key)
                return PollRuling(PollVerdict.REPLAYED if stale else PollVerdict.OVERDUE, key)
            case TaskCompleted() | TaskFailed() if stale:
                return PollRuling(PollVerdict.REPLAYED, key)
            case TaskCompleted():
                items = tuple(_item_rulings(task.items, answer.outcomes))
                if task.splits < SHARED_SPLITS_MAX and failed_together(items):
                    items = tuple(_split_instead_of_fail(items))
                return PollRuling(PollVerdict.COMPLETED, key, items=items)
            case TaskFailed():
                # Even an error that names our key says nothing against the key in use, with which the API has just
                # answered: the task may have been created with an earlier key.
                return PollRuling(PollVerdict.FAILED, key, table.of_task(answer.error.code))
            case _:
                assert_never(answer)

    def _poll_refused(self, integration_id: str, answer: Refused, sent_with: int) -> PollRuling:
        key = self._evidence(integration_id, answer, sent_with)
        if key is KeyEvidence.REFUSED:
            return PollRuling(PollVerdict.HALT, key)
        if self._concerns_key(answer) and sent_with != self.key_number:
            return PollRuling(PollVerdict.REKEYED)
        return PollRuling(table.of_poll(answer.error.code, answer.status), key)

    # --- the key ----------------------------------------------------------------------------------

    @staticmethod
    def _concerns_key(answer: Refused) -> bool:
        """Whether the answer concerns our key, or may concern it."""
        code = answer.error.code
        return code in table.HALTING or table.is_denial(code, answer.status)

    def _evidence(self, integration_id: str, answer: Refused, sent_with: int) -> KeyEvidence:
        if self._concerns_key(answer):
            if sent_with != self.key_number:
                return KeyEvidence.NONE
            if integration_id not in self._denied_alone:
                self._denied.add(integration_id)
            return KeyEvidence.REFUSED if len(self._denied) > 1 else KeyEvidence.SUSPECTED
        return KeyEvidence.NONE if answer.error.code is None else self._works(sent_with, integration_id)

    def _works(self, sent_with: int, integration_id: str | None = None) -> KeyEvidence:
        """The API processed one of our calls, so it accepts the key that the call was sent with."""
        if sent_with != self.key_number:
            return KeyEvidence.NONE
        self._denied_alone |= self._denied
        self._denied.clear()
        self._denied_alone.discard(integration_id or "")
        return KeyEvidence.WORKS


def _refused(operation: Operation, answer: Refused, *, fate_unknown: bool) -> tuple[SubmitVerdict, bool]:
    """The verdict on a refused POST, whoever's key it was, and whether its fate is unknown from now on (R13)."""
    code, status = answer.error.code, answer.status
    if operation.makes_task:
        unknown = fate_unknown or not table.is_understood(code, status)
        verdict = table.of_submit(code, status)
        if unknown and verdict in table.INCONCLUSIVE:
            verdict = SubmitVerdict.FATE_UNKNOWN  # only the same bytes find the task that may exist
        return verdict, unknown
    verdict = table.of_call(code, status)
    if verdict is not SubmitVerdict.FAIL:
        return verdict, fate_unknown or not table.is_understood(code, status)
    if not table.is_final(code, status, is_documented=answer.is_documented):
        return SubmitVerdict.FATE_UNKNOWN, True
    # No earlier call can still be carried out: the same bytes are sent again only after the deadline of the one before. But
    # one may have been, and this refusal be its consequence: the course is inactive already.
    return SubmitVerdict.UNCONFIRMED if fate_unknown else SubmitVerdict.FAIL, fate_unknown


def failed_together(items: Sequence[ItemRuling]) -> bool:
    """Whether all items, and more than one, have failed with the same error: the connected tool may report one outcome for
    all items of a batch.
    """
    errors = {None if item.error is None else (item.error.code, item.error.message) for item in items}
    return len(items) > 1 and len(errors) == 1 and None not in errors


def _split_instead_of_fail(items: tuple[ItemRuling, ...]) -> Iterator[ItemRuling]:
    for item in items:
        yield (
            msgspec.structs.replace(item, verdict=ItemVerdict.SPLIT)
            if item.verdict is ItemVerdict.FAIL
            else item
        )


def _item_rulings(items: Iterable[Item], outcomes: tuple[ItemOutcome, ...]) -> Iterator[ItemRuling]:
    """One ruling for each item. An outcome that is missing or contradicts another one is not a success
    (`docs/kombo-api.md`, "Idempotency and the three traps").
    """
    found = outcomes_by_course(outcomes)
    for item in items:
        outcome = found.get(item.origin_id)
        if outcome is None:
            yield ItemRuling(ItemVerdict.RESUBMIT, error=OUTCOME_MISSING)
        elif outcome.succeeded:
            yield ItemRuling(ItemVerdict.SUCCEEDED, outcome.course_id)
        else:
            assert outcome.error is not None
            yield ItemRuling(table.of_item(outcome.error.code), error=outcome.error)


def outcomes_by_course(outcomes: tuple[ItemOutcome, ...]) -> dict[str, ItemOutcome]:
    """One outcome per course. A course with several different outcomes did not succeed: only a course that the API
    reported as succeeded, and with no other outcome, may be published as such.
    """
    found: dict[str, ItemOutcome] = {}
    for outcome in outcomes:
        earlier = found.get(outcome.origin_id)
        if earlier is None:
            found[outcome.origin_id] = outcome
        elif earlier.succeeded != outcome.succeeded:
            found[outcome.origin_id] = ItemOutcome(
                outcome.origin_id, succeeded=False, course_id=None, error=OUTCOME_CONTRADICTORY
            )
    return found
