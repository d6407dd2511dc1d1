"""Admission: what becomes of each record of the input once it is its turn. It waits, supersedes, or ends at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec
from msgspec import UnsetType

from daemon.core import give_up
from daemon.core.backlog import rejection_of
from daemon.core.journal import Rejections
from daemon.core.lane import Held
from daemon.core.memory import Memory
from daemon.core.model import Change, Item, Now, Rejection, Status
from daemon.core.repeats import Accepted, end_repeat
from daemon.core.result_factory import result_of_rejection
from daemon.core.sealing import Sealing


class Admission:
    """Admits the records of one shard, in offset order. Where the backlog rejects, what can be sealed makes room first."""

    def __init__(self, memory: Memory, sealing: Sealing) -> None:
        self._memory = memory
        self._sealing = sealing
        self._accepted = Accepted(memory.position.next_offset)
        self._nothing_to_seal = False
        """No waiting change could be sealed, and no course has been admitted since."""

    def admit(
        self,
        entries: Sequence[Change | Rejection],
        next_offset: int,
        rejections: Rejections | UnsetType,
        now: Now,
    ) -> None:
        """Admit records, and move the position to `next_offset`. `rejections` as in `journal.Position`."""
        memory, rejects = self._memory, self._memory.backlog.rejects
        self._nothing_to_seal = False
        for entry in entries:
            if isinstance(entry, Change):
                repeats = entry.repeats
                if repeats is not None and end_repeat(memory, self._accepted, entry, repeats, now):
                    continue
                if rejects and (why := self._lacks_room(entry, now)) is not None:
                    self._reject(rejection_of(entry, why), now)
                else:
                    self._admit(entry, now)
            else:
                self._reject(entry, now)
        position = msgspec.structs.replace(memory.position, next_offset=next_offset, rejections=rejections)
        if position != memory.position:
            memory.position = position
            types = (entry.operation.event_type for entry in entries if isinstance(entry, Change))
            memory.draft.position_moved(len(entries), Counter(types))

    def _lacks_room(self, change: Change, now: Now) -> str | None:
        """Why this change cannot be held; None if it can. Changes that may be sealed leave the backlog first, so no
        change is rejected because of changes that only wait to be sealed.
        """
        waiting, integration_id = self._memory.waiting, change.integration_id
        lane = waiting.lanes.get(integration_id)
        if lane is not None and change.origin_id in lane.held:
            return None
        why = waiting.backlog.lacks_room(len(lane.held) if lane else 0, len(change.body))
        if why is not None and not self._nothing_to_seal:
            before = waiting.backlog.courses
            give_up.end_waiting(self._memory, now)
            for each in list(waiting.ready_lanes()):
                self._sealing.seal_lane(each, now, partial=True)
            self._nothing_to_seal = waiting.backlog.courses == before
            why = waiting.backlog.lacks_room(len(lane.held) if lane else 0, len(change.body))
        if why is None:
            self._nothing_to_seal = False
        return why

    def _admit(self, change: Change, now: Now) -> None:
        """R10: the newest change of a course waits. The previous one ends here: as `SUPERSEDED` if it was never sent,
        otherwise as `FAILED` with the error of its last attempt.
        """
        memory, integration_id = self._memory, change.integration_id
        self._accepted.add(integration_id, change.origin_id, change.offset)
        item = Item(
            change.origin_id, change.offset, change.change_id, change.consumed_at, 0, 0, change.content
        )
        held = Held(change.operation, item, change.body, resend=change.resend, bulk=change.bulk)
        memory.traces.keep(change.offset, change.trace)
        old = memory.hold(integration_id, held, None)
        if old is None:
            return
        held.resend = held.resend or old.resend  # the request to send the course is not superseded
        if old.last is None:
            memory.end(
                old.operation, integration_id, old.item, Status.SUPERSEDED, now, superseded_by=change.offset
            )
        else:
            memory.end(old.operation, integration_id, old.item, Status.FAILED, now, attempt=old.last)

    def _reject(self, rejection: Rejection, now: Now) -> None:
        self._memory.draft.reject(rejection, result_of_rejection(rejection, now))
