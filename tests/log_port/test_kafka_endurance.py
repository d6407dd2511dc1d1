"""What the consumer of the input rides out, and what ends it: on a real broker, with errors put in where no
broker can be made to answer them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import pytest
from kafka import errors as e
from kafka.coordinator.base import BaseCoordinator

from daemon.log.errors import FatalLogError
from daemon.log.kafka import KafkaLog, clients, consumer
from daemon.log.port import Assigned
from tests.sandbox.broker import Broker

from .harness import PARTITIONS
from .kafka_harness import SESSION_TIMEOUT, KafkaHarness, eventually
from .world import Member

pytestmark = [pytest.mark.endurance, pytest.mark.kafka]

ALL = frozenset(range(PARTITIONS))
PASSING = [
    e.BrokerNotAvailableError,
    e.CommitFailedError,
    e.CorrelationIdError,
    e.IllegalGenerationError,
    e.KafkaTimeoutError,
    e.MemberIdRequiredError,
    e.NotCoordinatorError,
    e.RebalanceInProgressError,
    e.RequestTimedOutError,
    e.UnknownBrokerIdError,
    e.UnknownError,
    e.UnknownMemberIdError,
]
FATAL = [
    e.GroupAuthorizationFailedError,
    e.IncompatibleBrokerVersion,
    e.InvalidSessionTimeoutError,
    e.KafkaConfigurationError,
    e.KafkaError,  # an exception in the rebalance listener
    e.SaslAuthenticationFailedError,
    e.TopicAuthorizationFailedError,
]


@asynccontextmanager
async def member_on(bootstrap: str, session_timeout: float = SESSION_TIMEOUT) -> AsyncIterator[Reading]:
    """The only member of a group, which holds all partitions."""
    harness = await KafkaHarness.create(bootstrap)
    member = Reading(harness, harness.member("m", session_timeout=session_timeout))
    try:
        yield member
    finally:
        await member.stop()
        await harness.close()


class Reading(Member):
    """Reads every partition that it is given from its beginning."""

    def __init__(self, harness: KafkaHarness, log: KafkaLog) -> None:
        super().__init__(log, asyncio.Event())
        self.harness = harness
        self.token = 0

    async def join(self) -> None:
        await self.log.start()
        self.read()

    async def until(self, condition: Callable[[], bool]) -> None:
        async def holds() -> bool:
            return condition()

        await eventually(holds, self.harness.patience)

    async def still_works(self) -> None:
        """What is published now comes, to one whose assignment is confirmed."""
        [offset] = await self.harness.publish(0, [b"x"])
        began: Assigned | None = None

        async def comes() -> bool:
            nonlocal began
            assert self.fatal is None
            if self.assigned is not began and await self.log.confirm_assignment(0, self.harness.patience):
                began, self.token = self.assigned, self.token + 1
                self.log.begin(0, offset, self.token)
            return bool(self.records(0, self.token))

        await eventually(comes, 2 * self.harness.patience)

    @property
    def assigned(self) -> Assigned | None:
        """The last time, by identity."""
        return next((event for event in reversed(self.events) if isinstance(event, Assigned)), None)


async def test_a_broker_that_stands_still_is_ridden_out(
    own_broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For less and for more than each time-out: a heartbeat's interval 1 s, a request 3 s, the session 6 s."""
    monkeypatch.setitem(clients._EVERY_CONSUMER, "request_timeout_ms", 3000)
    async with member_on(own_broker.bootstrap, session_timeout=6.0) as member:
        await member.join()
        await member.still_works()
        for seconds in (0.5, 1.5, 3.5, 5.5, 6.5):
            _consumer_of(member).note_position(1, 0)  # so that a commit of group offsets is under way
            own_broker.freeze()
            await asyncio.sleep(seconds)
            own_broker.thaw()
            await member.still_works()


async def test_what_a_broker_in_trouble_may_answer_is_borne(
    kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "RETRY_PAUSE", 0.01)
    async with member_on(kafka_bootstrap) as member:
        await member.join()
        for error in PASSING:
            raised = raise_out_of_poll(member, error, monkeypatch, times=3)
            await member.until(partial(_ended_or_raised, member, raised))
            assert member.fatal is None
        await member.still_works()


@pytest.mark.parametrize("error", FATAL)
async def test_what_no_attempt_can_cure_ends_it_at_once(
    kafka_bootstrap: str, error: type[e.KafkaError], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with member_on(kafka_bootstrap) as member:
        await member.join()
        raised = raise_out_of_poll(member, error, monkeypatch, times=3)
        await member.until(lambda: member.fatal is not None)
        assert raised() == 1
        denied = issubclass(error, e.AuthorizationError)
        assert ("does not allow this user the operation Read" if denied else error.__name__) in str(
            member.fatal
        )


async def test_an_error_that_does_not_pass_ends_it_after_a_while(
    kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "UNEXPLAINED_MAX", 1.0)
    async with member_on(kafka_bootstrap) as member:
        await member.join()
        raised = raise_out_of_poll(member, e.UnknownError, monkeypatch, times=1000)
        await member.until(lambda: member.fatal is not None)
        assert raised() > 1
        assert "UnknownError" in str(member.fatal)


def raise_out_of_poll(
    member: Reading, error: type[e.KafkaError], monkeypatch: pytest.MonkeyPatch, times: int
) -> Callable[[], int]:
    """The next polls raise it instead of looking at the group; how often they have."""
    coordinator = _consumer_of(member)._consumer._coordinator
    look = coordinator.poll
    raised = 0

    def poll(*args: Any, **kwargs: Any) -> Any:
        nonlocal raised
        if raised < times:
            raised += 1
            raise error("put in by the test")
        return look(*args, **kwargs)

    monkeypatch.setattr(coordinator, "poll", poll)
    return lambda: raised


# --- an instance id that another member still has -------------------------------------------------
#
# Brokers answer UNRELEASED_INSTANCE_ID to members of the consumer protocol only (KIP-848), and the client speaks
# the classic one: so the answer to its JoinGroup is replaced.


def refuse_joins(monkeypatch: pytest.MonkeyPatch, while_held: Callable[[], bool]) -> Callable[[], int]:
    """How often one has been refused."""
    refused = 0
    real = BaseCoordinator._process_join_group_response

    def process(self: Any, response: Any, send_time: Any) -> Any:
        nonlocal refused
        if while_held():
            refused += 1
            time.sleep(0.2)  # longer than a poll takes: some of them end before it
            raise e.UnreleasedInstanceIdError("put in by the test")
        return real(self, response, send_time)

    monkeypatch.setattr(BaseCoordinator, "_process_join_group_response", process)
    return lambda: refused


async def test_an_instance_id_that_is_released_in_time_is_waited_for(
    kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = True
    refused = refuse_joins(monkeypatch, lambda: held)
    async with member_on(kafka_bootstrap) as member:
        await member.join()
        await member.until(lambda: refused() >= 5)
        assert member.fatal is None
        held = False
        await member.still_works()


async def test_an_instance_id_that_is_not_released_ends_it_after_the_session_time_out(
    kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = refuse_joins(monkeypatch, lambda: True)
    async with member_on(kafka_bootstrap, session_timeout=2.0) as member:
        await member.join()
        await member.until(lambda: member.fatal is not None)
        assert isinstance(member.fatal, FatalLogError)
        assert "UNRELEASED_INSTANCE_ID" in str(member.fatal)
        assert refused() > 1


# --- a process that stood still, and was replaced ---------------------------------------------------


async def test_a_member_that_has_been_replaced_while_it_stood_still_does_not_throw_out_its_replacement(
    kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For longer than max_poll_interval_ms, after which the library forgot who it was and joined anew."""
    async with member_on(kafka_bootstrap) as member:
        with monkeypatch.context() as impatient:
            impatient.setitem(clients._EVERY_CONSUMER, "max_poll_interval_ms", 4000)
            await member.join()
        await member.still_works()
        with standing_still(member):
            await asyncio.sleep(5.0)  # the subject of the test
            replacement = Reading(member.harness, member.harness.member("m"))
            await replacement.join()
            await replacement.until(lambda: replacement.held == ALL)
            assert member.fatal is None

        await member.until(lambda: member.fatal is not None)
        assert "FENCED_INSTANCE_ID" in str(member.fatal)
        await replacement.still_works()
        await replacement.stop()


@contextmanager
def standing_still(member: Reading) -> Iterator[None]:
    """Both threads of the consumer, as if the process had been stopped."""
    thawed = threading.Event()
    client = _consumer_of(member)._consumer._client
    client._manager._net.call_soon_threadsafe(thawed.wait)
    _consumer_of(member)._commands.put(thawed.wait)
    try:
        yield
    finally:
        thawed.set()


def _consumer_of(member: Reading) -> Any:
    assert isinstance(member.log, KafkaLog)
    return member.log._consumer


def _ended_or_raised(member: Reading, raised: Callable[[], int]) -> bool:
    return raised() == 3 or member.fatal is not None
