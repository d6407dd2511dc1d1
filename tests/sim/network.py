"""Calls to the simulated API over a network that delays, loses and repeats."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from daemon.core.answers import NoAnswer, NoAnswerReason, PollAnswer, SubmitAnswer
from daemon.core.operation import Operation
from daemon.kombo import wire
from tests.sandbox.simulator.state import Simulator
from tests.sandbox.simulator.wire import Delivery, Reply
from tests.sim.journal_view import deactivation_body
from tests.sim.seen import Who
from tests.sim.witness import Witness

After = Callable[[float, Callable[[], None]], None]


@dataclass(slots=True)
class NetworkFaults:
    """How likely, per call."""

    request_lost: float = 0.0
    request_late: float = 0.0
    """Arrives at any time up to the deadline of the call."""
    request_twice: float = 0.0
    answer_lost: float = 0.0
    date_missing: float = 0.0
    """The answer comes without its `Date`: it tells no API time."""
    shuffled: bool = False
    """The result of a task names its items in any order."""
    wordy: bool = False
    """An item's error comes with a message of megabytes (R7)."""
    latency_max: float = 0.05
    """Seconds, each way."""
    service_max: float = 0.0
    """Seconds that the API has a POST in flight before it answers. One that it refuses, it refuses at once."""

    def heal(self) -> None:
        self.request_lost = self.request_late = self.request_twice = self.answer_lost = 0.0
        self.date_missing = 0.0


def not_valid(concurrency_limit: int) -> Reply:
    """Refuses the content. Like each answer of an action, it reports the limit (`docs/kombo-api.md`, "Limits")."""
    return Reply(
        400,
        b'{"status":"error","error":{"code":"PLATFORM.INPUT_INVALID","title":null,'
        b'"message":"The tool does not take this content.","log_url":null}}',
        {"Content-Type": "application/json", "Concurrency-Limit": str(concurrency_limit)},
    )


ITEM_ERROR = b"The connected tool returned an error."
WORDS = ITEM_ERROR + b" It says so at length." * 130_000
"""More than any record may hold."""


class Network:
    """What lies between all replicas and the one API."""

    def __init__(
        self,
        simulator: Simulator,
        faults: NetworkFaults,
        rng: random.Random,
        api_now: Callable[[], int],
        after: After,
        witness: Witness,
    ) -> None:
        self.simulator = simulator
        self.faults = faults
        self.is_wordy = faults.wordy
        """Whether errors of the items of a task may have different messages in this history."""
        self.rng = rng
        self.api_now = api_now
        self.after = after
        self.witness = witness
        self.refused_content: bytes | None = None
        """A body that holds this is refused as not valid, every time: refusals of content are a function
        of the bytes (R13)."""

    def submit(
        self, key: str, integration_id: str, body: bytes, deadline: float, answer: Callable[[Reply], None]
    ) -> None:
        def process() -> Reply:
            return self.simulator.submit(self.api_now(), f"Bearer {key}", integration_id, body)

        is_refused = self.refused_content is not None and self.refused_content in body
        self._act(process, integration_id, deadline, answer, is_refused=is_refused, may_lag=True)

    def deactivate(
        self, key: str, integration_id: str, course_id: str, deadline: float, answer: Callable[[Reply], None]
    ) -> None:
        def process() -> Reply:
            return self.simulator.deactivate(self.api_now(), f"Bearer {key}", integration_id, course_id)

        self._act(process, integration_id, deadline, answer, is_refused=False, may_lag=False)

    def _act(
        self,
        process: Callable[[], Reply],
        integration_id: str,
        deadline: float,
        answer: Callable[[Reply], None],
        *,
        is_refused: bool,
        may_lag: bool,
    ) -> None:
        def arrive() -> Reply:
            if is_refused:
                return not_valid(self.simulator.plan.concurrency_limit)
            self.simulator.arrive(integration_id)
            reply = process()
            busy = reply.delay_seconds + self._service(reply, deadline)
            self.after(busy, lambda: self.simulator.leave(integration_id))
            return msgspec.structs.replace(reply, delay_seconds=busy)

        self._carry(arrive, deadline, answer, may_lag=may_lag)

    def _service(self, reply: Reply, deadline: float) -> float:
        if reply.delivery is Delivery.HANG:
            return deadline
        return self.rng.uniform(0.0, self.faults.service_max) if reply.status < 400 else 0.0

    def poll(
        self, key: str, integration_id: str, task_id: str, deadline: float, answer: Callable[[Reply], None]
    ) -> None:
        self._carry(
            lambda: self.simulator.poll(self.api_now(), f"Bearer {key}", integration_id, task_id),
            deadline,
            answer,
        )

    def _carry(
        self,
        arrive: Callable[[], Reply],
        deadline: float,
        answer: Callable[[Reply], None],
        *,
        may_lag: bool = True,
    ) -> None:
        """`may_lag`: a copy of the request may arrive after its answer. A component that repeats a request does so because it
        has no answer. A copy of a bulk submission finds its task, whenever it arrives; one of a deactivation would be carried
        out, so that no order could be kept (C8).
        """
        faults, rng = self.faults, self.rng
        delay = rng.uniform(0.001, faults.latency_max)
        if rng.random() < faults.request_lost:
            return
        if rng.random() < faults.request_late:
            delay = rng.uniform(delay, deadline)
        heard = rng.random() >= faults.answer_lost
        back = rng.uniform(0.001, faults.latency_max)

        refused: list[bool] = []

        def at_the_api() -> None:
            reply = self._disfigured(arrive())
            refused.append(400 <= reply.status < 500)
            if heard and reply.delivery is not Delivery.HANG:
                self.after(back + reply.delay_seconds, lambda: answer(reply))

        def copy() -> None:
            """Its answer reaches nobody. What the API has refused it does not take from a copy: the daemon
            believes a refusal in the API's own words where no POST before it went unanswered (R13).
            """
            if True not in refused:
                arrive()

        if rng.random() < faults.request_twice:
            self.after(rng.uniform(delay, deadline if may_lag or not heard else delay + back), copy)
        self.after(delay, at_the_api)

    def _disfigured(self, reply: Reply) -> Reply:
        faults = self.faults
        if faults.wordy and ITEM_ERROR in reply.body:
            reply = msgspec.structs.replace(reply, body=reply.body.replace(ITEM_ERROR, WORDS, 1))
        if faults.shuffled and b'"data":[{' in reply.body:
            answer = msgspec.json.decode(reply.body)
            self.rng.shuffle(answer["data"]["data"])
            reply = msgspec.structs.replace(reply, body=msgspec.json.encode(answer))
        if faults.date_missing and self.rng.random() < faults.date_missing:
            headers = {name: value for name, value in reply.headers.items() if name != "Date"}
            reply = msgspec.structs.replace(reply, headers=headers)
        return reply


class SimulatedApi:
    """`KomboApi` of one replica."""

    def __init__(self, network: Network, who: Who, key: Callable[[], str], deadline: float) -> None:
        self._network = network
        self._who = who
        self._key = key
        self._deadline = deadline

    async def submit(self, operation: Operation, integration_id: str, body: bytes) -> SubmitAnswer:
        network = self._network
        started = network.witness.clock()
        future = asyncio.get_running_loop().create_future()
        path, content = operation.call(body)
        # The witness sees only what goes over the wire.
        match path:
            case ("lms", "courses", "bulk"):
                body, parse = content, wire.parse_submit
                number = network.witness.posted(self._who, integration_id, body)
                network.submit(self._key(), integration_id, body, self._deadline, _resolver(future))
            case ("lms", "courses", course_id, "deactivate"):
                assert content == b"{}"
                body, parse = deactivation_body(course_id), wire.parse_done
                number = network.witness.posted(self._who, integration_id, body)
                network.deactivate(self._key(), integration_id, course_id, self._deadline, _resolver(future))
            case _:
                raise AssertionError(f"there is no {path}")
        reply = await self._reply(future)
        answer: SubmitAnswer
        if isinstance(reply, NoAnswer):
            answer = reply
        else:
            answer = parse(reply.status, _lower(reply), reply.body, network.api_now())
        network.witness.post_answered(self._who, number, integration_id, body, started, answer)
        return answer

    async def poll(self, integration_id: str, task_id: str, items: int) -> PollAnswer:
        network = self._network
        network.witness.polls(self._who, integration_id, task_id)
        future = asyncio.get_running_loop().create_future()
        network.poll(self._key(), integration_id, task_id, self._deadline, _resolver(future))
        reply = await self._reply(future)
        if isinstance(reply, NoAnswer):
            return reply
        answer = wire.parse_poll(task_id, reply.status, _lower(reply), reply.body, network.api_now())
        network.witness.poll_answered(self._who, integration_id, task_id, answer)
        return answer

    async def _reply(self, future: asyncio.Future[Reply]) -> Reply | NoAnswer:
        try:
            async with asyncio.timeout(self._deadline):
                reply = await future
        except TimeoutError:
            return NoAnswer(NoAnswerReason.TIMEOUT, "no answer within the deadline")
        if reply.delivery is Delivery.CUT:
            return NoAnswer(NoAnswerReason.CONNECT_ERROR, "cut")
        if reply.delivery is Delivery.TRUNCATED:
            return NoAnswer(NoAnswerReason.PROTOCOL_ERROR, "truncated")
        return reply

    async def close(self) -> None:
        pass


def _lower(reply: Reply) -> dict[str, str]:
    return {name.lower(): value for name, value in reply.headers.items()}


def _resolver(future: asyncio.Future[Reply]) -> Callable[[Reply], None]:
    def resolve(reply: Reply) -> None:
        loop = future.get_loop()
        if not loop.is_closed():
            loop.call_soon_threadsafe(_set, future, reply)

    return resolve


def _set(future: asyncio.Future[Reply], reply: Reply) -> None:
    if not future.done():
        future.set_result(reply)
