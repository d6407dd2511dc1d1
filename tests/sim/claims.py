"""Claims of results that can only be verified by someone who knows every moment of the history."""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from typing import Any

import msgspec

from tests.sandbox.simulator.faults import PASSING_CODES, PERMANENT_CODES
from tests.sandbox.simulator.lms import ALREADY_INACTIVE
from tests.sandbox.simulator.wire import canonical
from tests.sim.evidence import records
from tests.sim.journal_view import BatchRecord
from tests.sim.obedience import Known
from tests.sim.outcome import Outcome
from tests.sim.world import World

GIVEN_UP_BY_API = "PLATFORM.TASK_TIMED_OUT"
GIVEN_UP = "COURSESYNC.TASK_TIMED_OUT"
STALE_REPLAY = "COURSESYNC.STALE_REPLAY"
SHARED_SPLITS = 3
BY_OPERATOR = "COURSESYNC.GIVEN_UP"
REPEAT_OUTDATED = "COURSESYNC.REPEAT_OUTDATED"
COURSE_UNKNOWN = "COURSESYNC.COURSE_UNKNOWN"
INDEX_MAX = 1000
"""`courses.index_max` from which on no history has more courses."""
UNCONFIRMED = "COURSESYNC.DEACTIVATION_UNCONFIRMED"
OPTIONAL_FIELDS = ("description", "thumbnail_url", "duration", "languages")
URLS = ("course_url", "thumbnail_url")
OUTCOME_MISSING = "COURSESYNC.OUTCOME_MISSING"
CONTENT_REFUSED = "PLATFORM.INPUT_INVALID"
NOT_FOUND = "PLATFORM.INTEGRATION_NOT_FOUND"

RETRYABLE = frozenset((*PASSING_CODES, "PLATFORM.UNKNOWN_ERROR", OUTCOME_MISSING))
OUR_OWN = "PLATFORM.AUTHENTICATION_INVALID"
PARKED = frozenset(("INTEGRATION.AUTHENTICATION_INVALID", "INTEGRATION.SETUP_SYNC_PENDING", None))
"""What waits for its customer, `wait.age_max` at most; None: the 403 without a code."""


REPLAYS = 8
"""Bodies of one batch that the daemon tries, where there are so many."""
_HOST = re.compile(r"https?://([^/]*)")


def ways_to_say(body: bytes) -> int:
    """Bodies that mean the same and differ as JSON: items in another order, languages after the first in another order,
    null for what is not there, host names in upper and lower case.
    """
    items = msgspec.json.decode(body).get("items", [])  # a mutant may seal anything
    ways = math.factorial(len(items))
    for item in items:
        course = item["course"]
        free = sum(course.get(name) is None for name in OPTIONAL_FIELDS)
        hosts = (_HOST.match(course.get(name) or "") for name in URLS)
        free += sum(char.isalpha() for host in hosts if host for char in host[1])
        ways *= 2**free * len(set(itertools.permutations((course.get("languages") or ())[1:])))
    return ways


class Claims:
    """What a result says that no reader of results can verify."""

    def __init__(self, world: World, outcome: Outcome) -> None:
        self._world = world
        self._outcome = outcome
        self._witness = world.witness
        self._tasks = world.network.simulator.tasks
        self._newest: dict[tuple[int, str, str], int] = {}
        self._content: dict[tuple[int, int], bytes] = {}
        self._repeats: set[tuple[int, int]] = set()
        self._resolved: list[tuple[tuple[int, int], dict[str, Any]]] = []

    def judge(self) -> None:
        resolved, corrected = [], set()
        for record in records(self._world, self._world.topics.results):
            event = msgspec.json.decode(record.value or b"")
            data = event["data"]
            place = (data["change"]["partition"], data["change"]["offset"])
            if event["type"] == "course.sync.corrected":
                corrected.add(place)
            else:
                resolved.append((place, data))
        for record in records(self._world, self._world.topics.changes):
            self._content[record.partition, record.offset] = record.value or b""
            if any(name == "coursesync-repeats" for name, _ in record.headers):
                self._repeats.add((record.partition, record.offset))
        self._resolved = resolved
        for (partition, offset), data in resolved:
            if data["status"] != "REJECTED":
                course = (partition, data["integration_id"], data["origin_id"])
                self._newest[course] = max(offset, self._newest.get(course, -1))
        for place, data in resolved:
            match data["status"]:
                case "FAILED":
                    complaint = self._untrue_failure(place, data)
                case "TIMED_OUT":
                    complaint = self._untrue_time_out(place, data, told=place in corrected)
                case _:
                    complaint = None
            if complaint is not None:
                kind = "corrections" if "correction" in complaint else "false_failures"
                self._outcome.add(kind, f"change {place[0]}/{place[1]} {data['status']}, but {complaint}")

    def _untrue_failure(self, place: tuple[int, int], data: dict[str, Any]) -> str | None:
        if data["error"] is None:
            return "it does not tell why"
        code = data["error"]["code"]
        if code == COURSE_UNKNOWN:
            return self._untrue_ignorance(place, data)
        if code == BY_OPERATOR:
            return self._untrue_order(place, data)
        if code == REPEAT_OUTDATED:
            return "it repeats no change" if place not in self._repeats else self._unsent(data)
        batch = self._witness.batches.get(data["batch_id"] or "")
        if batch is None:
            return f"its batch {data['batch_id']} was never written"
        if code == STALE_REPLAY:
            task = self._tasks.get(data["task_id"] or "")
            ways = ways_to_say(batch.record.body)
            as_bytes = self._world.network.simulator.plan.idempotency.compare == "bytes"
            alone = ways == 1 and task is not None and self._is_skewed(task.integration_id)
            if task is not None and task.created_at > batch.api_ms and not alone:
                return (
                    f"the task {task.task_id} was made after batch {batch.record.batch_id} was sealed (R14)"
                )
            # White space alone is worth one try: an API that ignored it once ignores it always. One that answers with the
            # id of another task, or with times that are not right, looks the same.
            looks_so = alone or (task is not None and bool(task.stranger_bodies))
            tries = REPLAYS if ways > 1 or (as_bytes and not looks_so) else 2
            if data["attempts"] < tries:
                return f"there are {ways} ways to say it, and {data['attempts']} were tried (R14)"
            if not as_bytes and ways > 1 and len(self._different_as_json(batch.record)) < 2:
                return f"there are {ways} ways to say it, and those that were tried are equal as JSON (R14)"
            return None
        # A change that waits for its retry ends with its failure when a newer one comes (R10).
        newer = self._newest[place[0], data["integration_id"], data["origin_id"]] > place[1]
        if code == OUR_OWN and not newer:
            return f"{code} ends no change (C7)"
        is_deactivation = batch.record.operation == "deactivate"
        unknown_course = is_deactivation and code is None
        if (
            code in PARKED
            and not unknown_course
            and not newer
            and not self._waited_long(place, data["integration_id"])
        ):
            return f"{code} ends no change before `wait.age_max`"
        if is_deactivation:
            return self._untrue_refusal_to_deactivate(data, code)
        if (complaint := self._untrue_scope(data)) is not None:
            return complaint
        if data["task_id"] is None:
            return self._untrue_refusal(place, data, code)
        early = data["attempts"] < self._least(data["integration_id"], "retry.attempts_max")
        if code in RETRYABLE and early and not newer:
            return f"it was given up after {data['attempts']} attempts for {code}, which is retryable"
        return None

    def _untrue_scope(self, data: dict[str, Any]) -> str | None:
        """Whose failure it was, and whether the batch was halved before."""
        task = self._tasks.get(data["task_id"] or "")
        batch = self._witness.batches[data["batch_id"]]
        several = len(batch.record.offsets) > 1
        told = data.get("failure_scope")
        if (data["error"]["code"] or "").startswith("COURSESYNC."):
            return None if told is None else f"its failure_scope is {told}, and the API did not report it"
        if (
            task is None
            or task.fate.error is not None
            or hashlib.sha256(batch.record.body).digest() != task.body_sha256
        ):
            expected = "batch" if several else "own"
        else:
            together = [
                task.fate.item_errors.get(n) for n in range(len(task.items)) if n != task.fate.missing
            ]
            same = len({None if each is None else (each.code, each.message) for each in together}) == 1
            shared = several and same and None not in together and task.fate.missing is None
            expected = "batch" if shared else "own"
            if self._world.network.is_wordy and told == "own":
                return None  # the messages of the items may have been different
            if shared and data["attempts"] <= SHARED_SPLITS and data["error"]["code"] in PERMANENT_CODES:
                return f"its batch of {len(batch.record.offsets)} failed together, and was not halved {SHARED_SPLITS} times"
        return None if told == expected else f"its failure_scope is {told}, not {expected}"

    def _orders(self, place: tuple[int, int], data: dict[str, Any]) -> list[Known]:
        """The decisions by which this change is given up."""
        return [
            order
            for order in self._world.orders
            if order.covers(data["integration_id"], data["origin_id"], *place)
        ]

    def _untrue_order(self, place: tuple[int, int], data: dict[str, Any]) -> str | None:
        """A change that operators have given up: its last batch, if it has no task, must have been carried out by nobody."""
        if not self._orders(place, data):
            return "no operator has given it up (R19)"
        batch = self._witness.batches.get(data["batch_id"] or "")
        if batch is None or data["task_id"] is not None:
            return None
        digest, again = hashlib.sha256(batch.record.body).digest(), self._witness.sealed_again(batch)
        made = [
            task.task_id
            for task in self._tasks.values()
            if (task.integration_id, task.body_sha256) == (batch.record.integration_id, digest)
            and batch.api_ms <= task.created_at < again
        ]
        return f"its batch {batch.record.batch_id} was carried out as task {made[0]} (R19)" if made else None

    def _is_skewed(self, integration_id: str) -> bool:
        """Whether some task of the integration has a time that is not the right one. Then a floor may be ahead of the
        clock unnoticed, until an answer reports the time: of a course with one body as JSON, the first task decides.
        """
        return any(
            task.stated_offset_ms for task in self._tasks.values() if task.integration_id == integration_id
        )

    def _different_as_json(self, last: BatchRecord) -> set[bytes]:
        """The bodies of these changes, as an API sees them that compares parsed JSON."""
        return {
            canonical(batch.record.body)
            for batch in self._witness.batches.values()
            if batch.record.batch_id.split("-")[0] == last.batch_id.split("-")[0]
            and set(batch.record.offsets) == set(last.offsets)
        }

    def _least(self, integration_id: str, setting: str) -> float:
        """Which of the values of this setting it was does not matter."""
        return float(min(value for (value,) in self._witness.in_force.ever(integration_id, setting)))

    def _waited_long(self, place: tuple[int, int], integration_id: str) -> bool:
        """As far as the clocks of hosts can tell, which are set in some histories."""
        told = next(t.at for t in self._witness.told if (t.partition, t.offset) == place)
        waited = told - self._world.published[place]
        return (
            waited > self._least(integration_id, "wait.age_max") - 1
            or self._outcome.faults["clock jumps"] > 0
        )

    def _untrue_refusal(self, place: tuple[int, int], data: dict[str, Any], code: str | None) -> str | None:
        """A change that failed without a task: the API must have refused its very content, or not know the
        integration; and no task may have been made of the batch."""
        batch = self._witness.batches[data["batch_id"]]
        if code == CONTENT_REFUSED:
            refused = self._world.network.refused_content
            if refused is None or refused not in self._content[place]:
                return "the API takes its content"
        elif code not in PARKED and code != NOT_FOUND:
            return f"{code or 'an answer without a code'} is not about the change (C7)"
        digest = hashlib.sha256(batch.record.body).digest()
        until = self._witness.sealed_again(batch)
        for task in self._tasks.values():
            mine = task.integration_id == batch.record.integration_id and task.body_sha256 == digest
            if mine and batch.api_ms <= task.created_at < until:
                return f"the API has made the task {task.task_id} of its batch (R13)"
        return None

    @staticmethod
    def _unsent(data: dict[str, Any]) -> str | None:
        return "it was submitted" if data["attempts"] or data["batch_id"] is not None else None

    def _untrue_ignorance(self, place: tuple[int, int], data: dict[str, Any]) -> str | None:
        """An earlier result had the id of the course, and the index has room for every course."""
        if (complaint := self._unsent(data)) is not None:
            return complaint
        if self._world.settings.courses.index_max < INDEX_MAX:
            return None
        told = {(each.partition, each.offset): each.at for each in self._witness.told}
        for other, event in self._resolved:
            is_earlier = (
                other[0] == place[0] and other[1] < place[1] and told.get(other, 0.0) < told.get(place, 0.0)
            )
            same = (event["integration_id"], event["origin_id"]) == (
                data["integration_id"],
                data["origin_id"],
            )
            if is_earlier and same and event["course_id"] is not None:
                return f"the result of {other[0]}/{other[1]} has the id {event['course_id']} of its course"
        return None

    def _untrue_refusal_to_deactivate(self, data: dict[str, Any], code: str | None) -> str | None:
        """The API must have refused the last call of the batch, and carried out none, unless that is left open."""
        batch = self._witness.batches[data["batch_id"]]
        until = self._witness.sealed_again(batch)
        course_id = msgspec.json.decode(batch.record.body).get("course_id")
        calls = [
            call
            for call in self._world.network.simulator.deactivations
            if call.integration_id == batch.record.integration_id
            and call.course_id == course_id
            and batch.api_ms <= call.at < until
        ]
        if code == UNCONFIRMED:
            owners = {post.ownership for post in batch.posts.values()}
            if not batch.is_doubtful and owners <= {batch.ownership}:
                return "each of its calls was answered"
            return None
        if code in PARKED - {None} or code == NOT_FOUND:
            return None
        if code not in (None, ALREADY_INACTIVE):
            return f"{code} is not about the change (C7)"
        if not calls:
            return "the API was not asked"
        done = [call for call in calls if call.is_done]
        return f"the API has carried out its call {done[0].number} (R13)" if done else None

    def _untrue_time_out(self, place: tuple[int, int], data: dict[str, Any], *, told: bool) -> str | None:
        task_id, code = data["task_id"], data["error"]["code"]
        if code == GIVEN_UP:
            if task_id not in self._witness.overdue:
                return f"no poll of the task {task_id} has told that it is pending and too old (R11)"
            ended = self._witness.heard_end.get(task_id)
            task = self._tasks[task_id]
            watched_ms = self._witness.watched_ms(task.integration_id)
            watched = ended is not None and ended < task.created_at + watched_ms
            if watched and not told:
                return f"its task {task_id} has ended since and no correction tells (R12)"
        elif code == BY_OPERATOR:
            if not any(order.value["open_tasks"] for order in self._orders(place, data)):
                return "no operator has given it up together with its task (R19)"
        elif code != GIVEN_UP_BY_API:
            return f"{code} is no time-out"
        return None
