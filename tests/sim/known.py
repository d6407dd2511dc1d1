"""Watches what is said of courses when it is said: R15 to R17 (C9).

At the end, the checker compares the courses topic with the LMS. Here each transaction is held against what the witness has
seen up to then: a verdict and the record of its course come together, and `UNCHANGED` is written only while the LMS
holds that content and nothing is open that could replace it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from daemon.log.port import Transaction
from tests.sandbox.checker import content_digest
from tests.sandbox.simulator.state import Simulator
from tests.sim.journal_view import JournalView
from tests.sim.policies import InForce
from tests.sim.seen import Course, SeenEvent, Who

EPSILON = 0.1
"""Seconds. Between a decision and its commit."""
GIVEN_UP = "TIMED_OUT"


class _Confirmed(NamedTuple):
    offset: int
    at: float
    """Virtual time."""


class Known:
    """What the topic says of each course, and since when."""

    def __init__(
        self,
        in_force: InForce,
        simulator: Simulator,
        clock: Callable[[], float],
        value_of: Callable[[int, int], bytes | None],
        accuse: Callable[[str, str], None],
    ) -> None:
        """`value_of` returns the value of an input record by partition and offset; None if it is gone."""
        self._in_force = in_force
        self._simulator = simulator
        self._clock = clock
        self._value_of = value_of
        self._accuse = accuse
        self._confirmed: dict[Course, _Confirmed | None] = {}
        """The last record of each course; None: `UNKNOWN`."""
        self._stated: dict[Course, int] = {}
        """The change in the last record of each course."""
        self._pauses: dict[Who, tuple[float, float]] = {}
        """When a process was last paused, and when it went on: infinite while it is paused."""
        self.clocks_are_set = False
        """Whether clocks of hosts jump in this history, so that ages cannot be judged exactly."""

    def paused(self, who: Who) -> None:
        self._pauses[who] = (self._clock(), math.inf)

    def went_on(self, who: Who) -> None:
        self._pauses[who] = (self._pauses[who][0], self._clock())

    def _decided_since(self, who: Who) -> float:
        """Since when what it commits now may have been decided. A commit that was under way when the process was paused may be
        written during the pause, and soon after.
        """
        now = self._clock()
        paused_at, went_on_at = self._pauses.get(who, (now, now))
        return paused_at if now - went_on_at <= EPSILON else now

    def committed(
        self,
        who: Who,
        partition: int,
        transaction: Transaction,
        events: Sequence[SeenEvent],
        journal: JournalView,
    ) -> None:
        stated = {}
        for key, value in transaction.courses:
            integration_id, origin_id = json.loads(key)
            if (integration_id, origin_id) in stated:
                self._accuse("known", f"one transaction has two records of {integration_id} {origin_id}")
            stated[integration_id, origin_id] = json.loads(value or b"null")
        self._judge_records(partition, stated, events)
        for course, record in stated.items():
            is_known = record["state"] != "UNKNOWN"
            offset = record["change"]["offset"]
            before = self._confirmed.get(course)
            self._stated[course] = offset
            if is_known and before is not None and before.offset == offset:
                continue  # the same again, with the id of the course
            self._confirmed[course] = _Confirmed(offset, self._clock()) if is_known else None
        for event in events:
            if event.type == "course.sync.resolved" and event.data.status == "UNCHANGED":
                self._judge_unchanged(who, partition, event, journal)

    def _judge_records(
        self, partition: int, stated: dict[Course, dict[str, Any]], events: Sequence[SeenEvent]
    ) -> None:
        ended: dict[Course, dict[int, str]] = {}
        for event in events:
            data = event.data
            if data.integration_id is None or data.origin_id is None:
                continue
            course = (data.integration_id, data.origin_id)
            ended.setdefault(course, {})[data.change.offset] = data.status
            if data.status not in ("SUCCEEDED", GIVEN_UP):
                continue
            record = stated.get(course)
            if record is None or record["change"]["offset"] < data.change.offset:
                self._accuse(
                    "known",
                    f"change {partition}/{data.change.offset} ended {data.status}, and its transaction has no record "
                    "of its course (R15)",
                )
            elif record["change"]["offset"] == data.change.offset:
                value = self._value_of(partition, data.change.offset)
                is_upsert = value is None or b'"course.deactivated"' not in value
                made = "ACTIVE" if is_upsert else "INACTIVE"
                expected = made if data.status == "SUCCEEDED" else "UNKNOWN"
                if record["state"] != expected:
                    self._accuse(
                        "known",
                        f"change {partition}/{data.change.offset} ended {data.status}, and its course is {record['state']}",
                    )
        for course, record in stated.items():
            if record["change"]["partition"] != partition:
                self._accuse("known", f"a record of {' '.join(course)} names a change of another partition")
            offset = record["change"]["offset"]
            has_ended = ended.get(course, {}).get(offset) == "SUCCEEDED"
            if record["state"] != "UNKNOWN" and not has_ended and self._stated.get(course) != offset:
                self._accuse(
                    "known",
                    f"{' '.join(course)} is {record['state']} by {partition}/{offset}, which does not succeed in this "
                    "transaction (R15)",
                )

    def _judge_unchanged(self, who: Who, partition: int, event: SeenEvent, journal: JournalView) -> None:
        data = event.data
        assert data.integration_id is not None
        assert data.origin_id is not None
        course, offset = (data.integration_id, data.origin_id), data.change.offset
        named = f"change {partition}/{offset} of {' '.join(course)} is UNCHANGED"
        value = self._value_of(partition, offset)
        if value is None:
            return
        change = msgspec.json.decode(value)
        held, meant = self._simulator.lms.get(course[0], {}).get(course[1]), _meaning(change)
        if meant is None and (held is None or held.is_active):
            self._accuse("known", f"{named}, and the LMS offers the course (C9)")
        elif meant is None and change.get("course_id") is not None:
            self._accuse("known", f"{named}, and it names the course itself (R18)")
        elif meant is not None and (
            held is None or content_digest(dict(msgspec.to_builtins(held.content))) != meant
        ):
            self._accuse("known", f"{named}, and the LMS does not hold its content (C9)")
        for batch in journal.batches.values():
            if batch.integration_id == course[0] and any(
                origin_id == course[1] and other < offset
                for origin_id, other in zip(batch.courses, batch.offsets, strict=False)
            ):
                self._accuse("known", f"{named}, and batch {batch.batch_id} of its course is open (R16)")
        if change.get("resend") is True:
            self._accuse("known", f"{named}, though it is to be sent again (R16)")
        confirmed = self._confirmed.get(course)
        if confirmed is None:
            self._accuse("known", f"{named}, and no record says that its course is known (R16)")
            return
        before = self._value_of(partition, confirmed.offset)
        if before is not None and _meaning(msgspec.json.decode(before)) != meant:
            self._accuse("known", f"{named}, and its course has the content of {confirmed.offset} (R16)")
        age = self._decided_since(who) - confirmed.at
        trusted = max(self._in_force.values(who, course[0], "unchanged.trust_for"))
        if trusted == 0 or (age > trusted + EPSILON and not self.clocks_are_set):
            self._accuse(
                "known", f"{named}, and what is known of its course is {age:.1f} s old (unchanged.trust_for)"
            )


def _meaning(change: dict[str, Any]) -> bytes | None:
    """The digest of the content that it asks for; None: the course shall be inactive."""
    return content_digest(change["course"]) if change["type"] == "course.upserted" else None
