"""Deliberate bugs of the trace of a change, which belongs to its one result (C1)."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
from msgspec import UNSET

from daemon.core import next_attempt, settle_late
from daemon.core.admission import Admission
from daemon.core.batch import Batch, LateTask
from daemon.core.memory import Memory
from daemon.core.model import Change, Now
from daemon.core.trace import Traces
from tests.sim.mutants.registry import Patch, mutant


@mutant("C1", "The journal's record of a batch has no traces: a restart loses them.")
def batch_record_without_traces(patch: Patch) -> None:
    patch(Traces, "of", lambda traces, items: UNSET)


@mutant("C1", "The journal's record of a waiting change has no trace: a restart loses it.")
def wait_record_without_trace(patch: Patch) -> None:
    patch(Traces, "get", lambda traces, offset: None)


@mutant("C1", "A change that is superseded ends with the trace of the newer one.")
def superseded_with_the_newer_trace(patch: Patch) -> None:
    admit = Admission._admit

    def overwrite(admission: Admission, change: Change, now: Now) -> None:
        memory = admission._memory
        lane = memory.waiting.lanes.get(change.integration_id)
        held = None if lane is None else lane.held.get(change.origin_id)
        if held is not None:
            memory.traces.keep(held.item.offset, change.trace)
        admit(admission, change, now)

    patch(Admission, "_admit", overwrite)


@mutant("C1", "The trace of a change ends when it is sent: a change that is sent again has none.")
def retry_without_trace(patch: Patch) -> None:
    retry = next_attempt.retry

    def forget(memory: Memory, batch: Batch, entry: Any, attempt: Any, why: Any, now: Now) -> None:
        memory.traces.end(entry[0].offset)
        retry(memory, batch, entry, attempt, why, now)

    patch(next_attempt, "retry", forget)


@mutant("C1", "A correction has no trace.")
def correction_without_trace(patch: Patch) -> None:
    correct = settle_late._correct

    def forget(
        memory: Memory, late: LateTask, item: Any, attempt: Any, now: Now, course_id: str | None = None
    ) -> None:
        record = msgspec.structs.replace(late.record, traces=UNSET)
        correct(memory, dataclasses.replace(late, record=record), item, attempt, now, course_id)

    patch(settle_late, "_correct", forget)
