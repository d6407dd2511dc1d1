"""The API and the LMS behind it as a pure state machine.

Time (milliseconds since the epoch) and randomness are arguments, so the same requests at the same times with the same seed
give the same answers, both in this process and over HTTP. Events between two requests (a task applies its items) are
processed at the next call, with their own times and in the order of those times.

A caller brackets each action request with `arrive` and `leave`, which the concurrency limit counts. It delivers the reply
according to its `delivery` and `delay_seconds`.
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from tests.sandbox.simulator.faults import (
    AnswerLost,
    AnswerSlow,
    ClockSkewed,
    Dice,
    FaultPlan,
    Integration,
    LimitLow,
    PollFails,
    SubmitRefused,
    SubmitThrottled,
    TaskIdShared,
    TimesAbsurd,
)
from tests.sandbox.simulator.lms import ALREADY_INACTIVE, Deactivation, LmsCourse, find
from tests.sandbox.simulator.tasks import SimulatedTask, TaskMaker, new_id, task_data
from tests.sandbox.simulator.wire import (
    Delivery,
    InvalidBodyError,
    Reply,
    balancer_body,
    canonical,
    error_body,
    error_object,
    http_date,
    parse_items,
    success_body,
)

OutageKind = Literal["cut", "error"]


class Simulator:
    """The complete state of the API. One instance is one API with all its integrations."""

    def __init__(
        self, *, rng: random.Random, now: int, api_key: str, plan: FaultPlan, task_seconds: float
    ) -> None:
        """`task_seconds` is the average duration of a task. With 0, a task is done at the first poll."""
        self.api_key = api_key
        self.tasks: dict[str, SimulatedTask] = {}
        self.lms: dict[str, dict[str, LmsCourse]] = {}
        """By integration and origin_id."""
        self.deactivations: list[Deactivation] = []
        self.requests: Counter[str] = Counter()
        """By endpoint and status, or by delivery if there was no status."""
        self.fault_hits: Counter[str] = Counter()
        self.in_flight_max = 0
        self._rng = rng
        self._task_seconds = task_seconds
        self._known: dict[tuple[str, bytes], SimulatedTask] = {}
        self._integrations: dict[str, Integration] = {}
        self._in_flight: Counter[str] = Counter()
        self._applications: list[tuple[int, int, SimulatedTask]] = []  # heap: time, then order of creation
        self._outage: tuple[int, OutageKind] | None = None
        self._interactions = 0
        self._date = (-1, "")
        self.set_plan(now, plan)

    # --- for the operator of the simulator --------------------------------------------------------

    def set_plan(self, now: int, plan: FaultPlan) -> None:
        """Set the faults from now on. Existing tasks keep their fate."""
        self.plan = plan
        self._dice = Dice(plan, self._rng, now, self.fault_hits)
        self._maker = TaskMaker(self._rng, self._dice, self._task_seconds)

    def set_outage(self, now: int, seconds: float, kind: OutageKind) -> None:
        """Answer no API request for `seconds`; 0 ends an outage. Tasks continue meanwhile."""
        self._outage = (now + round(seconds * 1000), kind)

    def advance(self, now: int) -> None:
        """Process all events that are due."""
        while self._applications and self._applications[0][0] <= now:
            at, _, task = heapq.heappop(self._applications)
            self._apply(task, at)

    # --- for a client -----------------------------------------------------------------------------

    def arrive(self, integration_id: str) -> None:
        """An action request (a POST; polls do not count) of this integration is in flight from now on."""
        self._in_flight[integration_id] += 1
        self.in_flight_max = max(self.in_flight_max, self._in_flight[integration_id])

    def leave(self, integration_id: str) -> None:
        self._in_flight[integration_id] -= 1

    def in_flight(self, integration_id: str) -> int:
        return self._in_flight[integration_id]

    def submit(self, now: int, authorization: str | None, integration_id: str | None, body: bytes) -> Reply:
        """`POST /lms/courses/bulk`."""
        self.advance(now)
        reply = self._turned_away(now, authorization, integration_id)
        if reply is None:
            assert integration_id
            integration = self._integration(integration_id, now)
            reply = self._delayed(self._submit(now, integration, body), now, integration)
            reply = self._redated(reply, now, integration)
        self._count("submit", reply)
        return reply

    def deactivate(
        self, now: int, authorization: str | None, integration_id: str | None, course_id: str
    ) -> Reply:
        """`POST /lms/courses/{course_id}/deactivate`."""
        self.advance(now)
        reply = self._turned_away(now, authorization, integration_id)
        if reply is None:
            assert integration_id
            integration = self._integration(integration_id, now)
            reply = self._delayed(self._deactivate(now, integration, course_id), now, integration)
            reply = self._redated(reply, now, integration)
        self._count("deactivate", reply)
        return reply

    def poll(self, now: int, authorization: str | None, integration_id: str | None, task_id: str) -> Reply:
        """`GET /lms/courses/bulk/{task_id}`."""
        self.advance(now)
        reply = self._turned_away(now, authorization, integration_id)
        if reply is None:
            assert integration_id
            integration = self._integration(integration_id, now)
            reply = self._delayed(self._poll(now, integration, task_id), now, integration)
            reply = self._redated(reply, now, integration)
        self._count("poll", reply)
        return reply

    # --- steps of a request -----------------------------------------------------------------------

    def _turned_away(self, now: int, authorization: str | None, integration_id: str | None) -> Reply | None:
        self._interactions += 1
        if self._outage is not None:
            until, kind = self._outage
            if now < until:
                return self._silence(Delivery.CUT) if kind == "cut" else self._balancer(now, 503)
            self._outage = None
        if authorization != f"Bearer {self.api_key}":
            return self._error(now, 401, "PLATFORM.AUTHENTICATION_INVALID", "The API key is not known.")
        if not integration_id:
            return self._error(now, 400, "PLATFORM.INPUT_INVALID", "The header X-Integration-Id is missing.")
        return None

    def _action_refused(self, now: int, integration: Integration) -> tuple[Reply | None, dict[str, str]]:
        """The refusal of an action request that is not about its content, and the headers of any other answer."""
        limit, in_flight = self.plan.concurrency_limit, self._in_flight[integration.id]
        low = self._dice.roll(LimitLow, now, integration)
        if low is not None:
            limit, in_flight = min(limit, low.limit), in_flight + low.others
        concurrency = {
            "Concurrency-Limit": str(limit),
            "Concurrency-Remaining": str(max(0, limit - in_flight)),
        }
        if in_flight > limit:
            code = "PLATFORM.CONCURRENCY_LIMIT_EXCEEDED"
            message = f"At most {limit} requests at the same time."
            return self._error(now, 429, code, message, concurrency), concurrency
        return self._refused(now, integration), concurrency

    def _submit(self, now: int, integration: Integration, body: bytes) -> Reply:
        reply, concurrency = self._action_refused(now, integration)
        if reply is not None:
            return reply
        try:
            task = self._existing_or_new(now, integration, body)
        except InvalidBodyError as error:
            return self._error(now, 400, "PLATFORM.INPUT_INVALID", str(error), concurrency)
        warnings = None if task.form.warnings is None else list(task.form.warnings)
        answer = success_body({"task_id": task.task_id}, warnings)
        reply = Reply(200, answer, self._headers(now, concurrency))
        lost = self._dice.roll(AnswerLost, now, integration)
        if lost is not None:
            return self._spoiled(now, reply, lost)
        task.posts_answered += 1
        return reply

    def _deactivate(self, now: int, integration: Integration, course_id: str) -> Reply:
        reply, concurrency = self._action_refused(now, integration)
        if reply is not None:
            return reply
        found = find(self.lms.get(integration.id, {}), course_id)
        again = found is not None and not found[1].is_active
        done = found is not None and not (again and self.plan.inactive.again == "refused")
        number, origin_id = len(self.deactivations) + 1, None if found is None else found[0]
        self.deactivations.append(Deactivation(number, integration.id, course_id, origin_id, now, done))
        if found is None:
            return self._error(now, 404, None, f"There is no course {course_id!r}.", concurrency)
        origin_id, course = found
        if not done:
            return self._error(now, 400, ALREADY_INACTIVE, "The course is inactive already.", concurrency)
        course.is_active = False
        data = {
            "id": course.course_id,
            "remote_id": course.remote_id,
            "origin_id": origin_id,
            "revisions": [],
        }
        reply = Reply(200, success_body(data, []), self._headers(now, concurrency))
        lost = self._dice.roll(AnswerLost, now, integration)
        return reply if lost is None else self._spoiled(now, reply, lost)

    def _refused(self, now: int, integration: Integration) -> Reply | None:
        throttled = self._dice.roll(SubmitThrottled, now, integration)
        if throttled is not None:
            retry_after = {"Retry-After": str(throttled.retry_after)}
            return self._error(now, 429, "PLATFORM.RATE_LIMIT_EXCEEDED", "Too many requests.", retry_after)
        refused = self._dice.roll(SubmitRefused, now, integration)
        if refused is not None:
            status = self._rng.choice(refused.statuses)
            if refused.code is None:
                return self._balancer(now, status)
            return self._error(now, status, refused.code, "The request was not accepted.")
        return None

    def _existing_or_new(self, now: int, integration: Integration, body: bytes) -> SimulatedTask:
        """Raises InvalidBodyError. A known body is valid: it was checked when it was received first."""
        rules = self.plan.idempotency
        sha256 = hashlib.sha256(body).digest()
        if rules.compare == "json":
            items = parse_items(body)
            key = (integration.id, hashlib.sha256(canonical(body)).digest())
        else:
            items = None
            key = (integration.id, sha256)
        task = self._known.get(key)
        if task is not None and self._remembered(task, now):
            task.posts += 1
            self.requests["submit of a known body"] += 1
            return task
        if items is None:
            items = parse_items(body)
        other = self._pending_of_others(now, integration, {item.origin_id for item in items})
        if other is not None and self._dice.roll(TaskIdShared, now, integration) is not None:
            other.strangers += items
            other.stranger_bodies.add(sha256)
            self._known[key] = other  # a second copy of the POST gets the same answer
            return other
        task = self._maker.make(now, integration, items, body_sha256=sha256, interaction=self._interactions)
        skewed = self._dice.roll(ClockSkewed, now, integration)
        if skewed is not None:
            task.stated_offset_ms = round(skewed.seconds * 1000)
        self.tasks[task.task_id] = self._known[key] = task
        if task.fate.applies_at is not None:
            heapq.heappush(self._applications, (task.fate.applies_at, len(self.tasks), task))
        return task

    def _pending_of_others(
        self, now: int, integration: Integration, courses: set[str]
    ) -> SimulatedTask | None:
        """The newest pending task of the integration, if a rule asks for one, that holds none of these courses."""
        if not self._dice.active(TaskIdShared, now, integration):
            return None
        return next(
            (
                task
                for task in reversed(self.tasks.values())
                if task.integration_id == integration.id
                and task.status(now) == "PENDING"
                and courses.isdisjoint(item.origin_id for item in task.items)
            ),
            None,
        )

    def _remembered(self, task: SimulatedTask, now: int) -> bool:
        rules = self.plan.idempotency
        forget = rules.forget_after_seconds
        if forget is not None and now - task.created_at >= forget * 1000:
            return False
        return rules.return_finished or task.status(now) == "PENDING"

    def _poll(self, now: int, integration: Integration, task_id: str) -> Reply:
        task = self.tasks.get(task_id)
        if task is None or task.integration_id != integration.id:
            return self._error(now, 404, None, f"There is no task {task_id!r} in this integration.")
        task.polls += 1
        courses = self.lms.get(integration.id, {})
        data = task_data(task, now, lambda origin_id: courses[origin_id].course_id)
        absurd = self._dice.roll(TimesAbsurd, now, integration)
        headers = self._headers(now)
        if absurd is not None:
            _distort(data, headers, absurd)
        reply = Reply(200, success_body(data), headers)
        failing = self._dice.roll(PollFails, now, integration)
        if failing is not None:
            return self._spoiled(now, reply, failing)
        if task.told_at is None and task.status(now) != "PENDING":
            task.told_at = now
        return reply

    def _spoiled(self, now: int, reply: Reply, rule: AnswerLost | PollFails) -> Reply:
        match rule.how:
            case "error":
                return self._balancer(now, self._rng.choice(rule.statuses))
            case "truncated":
                return msgspec.structs.replace(reply, delivery=Delivery.TRUNCATED)
            case _:
                return self._silence(Delivery(rule.how), rule.hang_seconds)

    def _delayed(self, reply: Reply, now: int, integration: Integration) -> Reply:
        slow = self._dice.roll(AnswerSlow, now, integration)
        if slow is None:
            return reply
        return msgspec.structs.replace(
            reply, delay_seconds=self._rng.uniform(slow.seconds_min, slow.seconds_max)
        )

    def _redated(self, reply: Reply, now: int, integration: Integration) -> Reply:
        """The reply with the `Date` of a wrong clock, if the integration has one."""
        rules = self._dice.active(ClockSkewed, now, integration)
        skewed = next((rule for rule in rules if rule.date), None)
        right = http_date(now)
        if skewed is None or reply.headers.get("Date") != right:
            return reply
        headers = {**reply.headers, "Date": http_date(now + round(skewed.seconds * 1000))}
        return msgspec.structs.replace(reply, headers=headers)

    # --- the LMS ----------------------------------------------------------------------------------

    def _apply(self, task: SimulatedTask, at: int) -> None:
        courses = self.lms.setdefault(task.integration_id, {})
        errors, task_id = task.fate.item_errors, task.task_id
        for index, item in enumerate(task.items):
            if index in errors:
                continue
            course = courses.get(item.origin_id)
            if course is None:
                courses[item.origin_id] = LmsCourse(
                    new_id(self._rng), item.course, at, task_id, 1, remote_id=item.origin_id
                )
            else:
                course.write(item.course, at, task_id, self.plan.inactive)
        task.applied_at = at

    # --- helpers ----------------------------------------------------------------------------------

    def courses(self) -> Iterator[tuple[str, str, LmsCourse]]:
        """Integration, origin_id and course of everything in the LMS."""
        for integration_id, courses in self.lms.items():
            for origin_id, course in courses.items():
                yield integration_id, origin_id, course

    def _count(self, endpoint: str, reply: Reply) -> None:
        self.requests[f"{endpoint} {reply.status or reply.delivery.value}"] += 1

    def _integration(self, integration_id: str, now: int) -> Integration:
        integration = self._integrations.get(integration_id)
        if integration is None:
            integration = Integration(integration_id, len(self._integrations) + 1, now)
            self._integrations[integration_id] = integration
        return integration

    def _headers(self, now: int, more: dict[str, str] | None = None) -> dict[str, str]:
        if self._date[0] != now // 1000:
            self._date = (now // 1000, http_date(now))
        return {"Content-Type": "application/json; charset=utf-8", "Date": self._date[1], **(more or {})}

    def _error(
        self, now: int, status: int, code: str | None, message: str, headers: dict[str, str] | None = None
    ) -> Reply:
        body = error_body(error_object(code, message, self._interactions))
        return Reply(status, body, self._headers(now, headers))

    def _balancer(self, now: int, status: int) -> Reply:
        headers = {**self._headers(now), "Content-Type": "text/html"}
        return Reply(status, balancer_body(status), headers)

    def _silence(self, delivery: Delivery, hang_seconds: float = 0.0) -> Reply:
        """A reply without any answer: status 0."""
        return Reply(0, b"", {}, delivery, hang_seconds=hang_seconds)


def _distort(data: dict[str, Any], headers: dict[str, str], absurd: TimesAbsurd) -> None:
    if absurd.created_at is not None:
        data["created_at"] = absurd.created_at
    if absurd.completed_at is not None:
        data["completed_at"] = absurd.completed_at
    if absurd.date is not None:
        headers.pop("Date")
        if absurd.date:
            headers["Date"] = absurd.date
