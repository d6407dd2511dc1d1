"""A refused key halts all calls until it is known again or another one is in the file; and says so."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from daemon.config import Policies, Settings
from daemon.core.answers import Accepted, Refused, SubmitAnswer
from daemon.core.flow import Flow
from daemon.core.judge import Judge
from daemon.core.model import Error, Now
from daemon.core.upsert import UPSERT
from daemon.core.verdict import SubmitVerdict
from daemon.runtime import halt as module
from daemon.runtime.halt import REMIND_INTERVAL, Halt
from daemon.runtime.ports import Ports
from daemon.telemetry.events import Observers
from daemon.telemetry.health import Health
from daemon.telemetry.subscribers import HealthSubscriber, LogSubscriber

KEY_REFUSED = Refused(401, Error("PLATFORM.AUTHENTICATION_INVALID", "no such key"))
ADDRESS = Refused(403, Error("PLATFORM.IP_NOT_WHITELISTED", "not from here"))
DENIED = Refused(403, Error(None, "Forbidden"))
ACCEPTED = Accepted("task")


class World:
    """A halt on a clock that the test moves, and the file that its key comes from."""

    def __init__(self) -> None:
        self.time = Now(1_790_000_000_000, 100.0)
        self.file = self.key = "old"
        self._look = asyncio.Event()
        self.resumed = self.suspicions = 0
        self.health = Health((), self.now)
        settings = Settings()
        self.flow: Flow[Any] = Flow(settings, Policies(settings), random.Random(1))
        clock: Any = self
        no_part: Any = None
        observer = Observers(HealthSubscriber(self.health), LogSubscriber())
        ports = Ports(settings, Policies(settings), no_part, no_part, clock, random.Random(1), observer)
        self.judge_of_answers = Judge(Policies(settings))
        self.halt = Halt(
            ports, self.flow, self.judge_of_answers, self.key_changed, self.on_resume, self.on_suspicion
        )

    def now(self) -> Now:
        return self.time

    def pass_seconds(self, seconds: float) -> None:
        self.time = Now(self.time.wall + int(seconds * 1000), self.time.mono + seconds)

    def key_changed(self) -> bool:
        self._look.set()
        changed, self.key = self.key != self.file, self.file
        return changed

    def on_resume(self) -> None:
        self.resumed += 1

    def on_suspicion(self) -> None:
        self.suspicions += 1

    def refuse(self, sent_with: int) -> SubmitVerdict:
        """The key is refused for two integrations."""
        self.judge(KEY_REFUSED, sent_with, "i")
        return self.judge(KEY_REFUSED, sent_with, "j")

    @property
    def key_number(self) -> int:
        return self.judge_of_answers.key_number

    def judge(self, answer: SubmitAnswer, sent_with: int, integration: str = "i") -> SubmitVerdict:
        """The answer to a POST, judged and followed."""
        ruling = self.judge_of_answers.submit(integration, UPSERT, answer, sent_with, fate_unknown=False)
        self.halt.follow(ruling.key, getattr(answer, "error", None), self.time)
        return ruling.verdict

    async def looked(self) -> None:
        """The file has been looked at once more, and what that found is done."""
        self._look.clear()
        async with asyncio.timeout(60):
            await self._look.wait()


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    monkeypatch.setattr(module, "KEY_CHECK_INTERVAL", 0.0)
    world = World()
    running = asyncio.create_task(world.halt.run())
    yield world
    running.cancel()


async def test_another_key_in_the_file_resumes(world: World) -> None:
    assert world.refuse(world.key_number) is SubmitVerdict.HALT
    assert world.health.halt_reason == "PLATFORM.AUTHENTICATION_INVALID"
    await world.looked()
    assert world.flow.halted is not None

    world.file = "new"

    await world.looked()
    assert world.health.halt_reason is None
    assert world.flow.halted is None
    assert world.resumed == 1


@pytest.mark.parametrize("late", [KEY_REFUSED, DENIED])
async def test_a_refusal_of_the_key_of_before_that_comes_late_halts_nothing(
    world: World, late: Refused
) -> None:
    old = world.key_number
    world.refuse(old)
    world.file = "new"
    await world.looked()

    for integration in ("i", "j", "k"):
        # Neither parked nor failed: it is sent again, with the new key.
        assert world.judge(late, old, integration) is SubmitVerdict.REKEYED

    assert world.flow.halted is None
    assert world.health.halt_reason is None
    assert world.refuse(world.key_number) is SubmitVerdict.HALT
    assert world.flow.halted is not None


async def test_what_was_taken_with_the_key_of_before_says_nothing_about_this_one(world: World) -> None:
    old = world.key_number
    world.refuse(old)
    world.file = "new"
    await world.looked()
    world.refuse(world.key_number)

    world.judge(ACCEPTED, old)
    assert world.flow.halted is not None

    world.judge(ACCEPTED, world.key_number)
    assert world.flow.halted is None


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [(DENIED, SubmitVerdict.PARK), (KEY_REFUSED, SubmitVerdict.OUR_SIDE), (ADDRESS, SubmitVerdict.OUR_SIDE)],
)
async def test_one_integration_that_is_denied_is_not_about_the_key_and_asks_for_a_probe(
    world: World, answer: Refused, verdict: SubmitVerdict
) -> None:
    assert world.judge(answer, world.key_number, "i") is verdict
    assert world.judge(answer, world.key_number, "i") is verdict
    assert world.flow.halted is None
    assert world.health.halt_reason is None
    assert world.suspicions == 2

    assert world.judge(answer, world.key_number, "j") is SubmitVerdict.HALT
    assert world.flow.halted is not None


async def test_two_integrations_that_are_denied_are_not_about_a_key_that_works_for_others(
    world: World,
) -> None:
    key = world.key_number
    for integration in ("i", "j", "i", "k"):
        assert world.judge(DENIED, key, integration) is SubmitVerdict.PARK
        world.judge(ACCEPTED, key)
    assert world.flow.halted is None


async def test_said_at_once_and_then_once_a_minute_until_it_goes_on(world: World) -> None:
    with capture_logs() as lines:
        world.refuse(world.key_number)
        world.refuse(world.key_number)
        await world.looked()
        assert told(lines) == 1

        world.pass_seconds(REMIND_INTERVAL - 1)
        await world.looked()
        assert told(lines) == 1
        for times in (2, 3, 4):
            world.pass_seconds(REMIND_INTERVAL)
            await world.looked()
            assert told(lines) == times

        world.file = "new"
        await world.looked()
        world.pass_seconds(REMIND_INTERVAL)
        assert told(lines) == 4
        assert [line["event"] for line in lines][-1] == "api.resumed"
    assert {line["log_level"] for line in lines if line["event"] == "api.halted"} == {"error"}
    assert all("PLATFORM.AUTHENTICATION_INVALID" in line["reason"] for line in lines[:-1])
    assert REMIND_INTERVAL == 60.0


def told(lines: list[Any]) -> int:
    return sum(line["event"] == "api.halted" for line in lines)
