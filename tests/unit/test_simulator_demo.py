"""The demo's faults, seen by a persistent client in virtual time: visible, and survivable."""

import heapq
import random
from collections.abc import Generator, Iterable, Iterator
from itertools import count
from typing import Any

import msgspec
import pytest

from tests.sandbox.simulator import readout
from tests.sandbox.simulator.faults import DEMO, PASSING_CODES
from tests.sandbox.simulator.state import Simulator
from tests.sandbox.simulator.wire import Delivery

DEADLINE = 5.0  # seconds for one HTTP call
TASK_TIMEOUT = 15.0
POLL_EVERY = 1.0


class Client:
    """Submits, polls and retries as the API's guide asks; each batch is a generator of waiting times."""

    def __init__(self, seed: int) -> None:
        self.now = 0.0
        self.results: dict[tuple[str, str], str] = {}
        self.numbers = count()
        self.simulator = Simulator(rng=random.Random(seed), now=0, api_key="k", plan=DEMO, task_seconds=1.0)

    def run(self, batches: Iterable[Iterator[float]]) -> None:
        due = [(0.0, index, batch) for index, batch in enumerate(batches)]
        tie = count(len(due))
        while due:
            self.now, _, batch = heapq.heappop(due)
            wait = next(batch, None)
            if wait is not None:
                heapq.heappush(due, (self.now + wait, next(tie), batch))

    def call(
        self, what: str, integration: str, argument: bytes | str
    ) -> Generator[float, None, dict[str, Any] | None]:
        """The answer, or None; takes as long as it takes."""
        reply = getattr(self.simulator, what)(int(self.now * 1000), "Bearer k", integration, argument)
        yield DEADLINE if reply.delivery is Delivery.HANG else reply.delay_seconds
        if reply.status == 200 and reply.delivery is Delivery.ANSWER:
            data: dict[str, Any] = msgspec.json.decode(reply.body)["data"]
            return data
        yield float(reply.headers.get("Retry-After", 0.5))
        return None

    def batch(self, integration: str, origin_ids: list[str]) -> Iterator[float]:
        """Submit these courses until each has a result."""
        while origin_ids:
            title = f"attempt {next(self.numbers)}"  # a fresh body: the same one brings the same task back
            course = {"type": "EXTERNAL", "title": title, "course_url": "https://example.com/c"}
            items = [{"origin_id": origin_id, "course": course} for origin_id in origin_ids]
            body = msgspec.json.encode({"items": items})
            while (accepted := (yield from self.call("submit", integration, body))) is None:
                pass
            origin_ids = yield from self.watch(integration, accepted["task_id"], origin_ids)

    def watch(
        self, integration: str, task_id: str, origin_ids: list[str]
    ) -> Generator[float, None, list[str]]:
        """Poll to the end; returns what is to be tried again."""
        gives_up_at = self.now + TASK_TIMEOUT
        while self.now < gives_up_at:
            yield POLL_EVERY
            task = yield from self.call("poll", integration, task_id)
            if task is None or task["status"] == "PENDING":
                continue
            if task["status"] == "FAILED":
                yield 1.0
                return origin_ids
            return self.settle(integration, task, origin_ids)
        self.results.update({(integration, origin_id): "TIMED_OUT" for origin_id in origin_ids})
        return []

    def settle(self, integration: str, task: dict[str, Any], origin_ids: list[str]) -> list[str]:
        told = {entry["origin_id"]: entry for entry in task["data"]}
        again = []
        for origin_id in origin_ids:
            entry = told.get(origin_id)
            if entry is None or entry.get("error", {}).get("code") in PASSING_CODES:
                again.append(origin_id)
            else:
                self.results[integration, origin_id] = entry["status"]
        return again


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_five_thousand_changes_in_twenty_integrations_are_through_in_less_than_a_minute(seed: int) -> None:
    client = Client(seed)
    integrations = [f"workday:{number}" for number in range(20)]
    client.run(
        client.batch(integration, [f"course-{batch}-{index}" for index in range(25)])
        for integration in integrations
        for batch in range(10)
    )
    assert client.now < 60
    assert len(client.results) == 5000
    by_status = {
        status: list(client.results.values()).count(status) for status in set(client.results.values())
    }
    assert set(by_status) == {"SUCCEEDED", "FAILED", "TIMED_OUT"}
    assert by_status["SUCCEEDED"] > 4500

    stats = readout.stats(client.simulator, int(client.now * 1000))
    kinds = {fault.split()[0] for fault in stats["faults"]}
    assert kinds == {type(rule).__struct_config__.tag for rule in DEMO.rules}
    assert {"submit 429", "submit cut", "poll 200", "poll cut", "submit of a known body"} <= set(
        stats["requests"]
    )

    lms = {(row["integration_id"], row["origin_id"]) for row in readout.course_rows(client.simulator)}
    assert {key for key, status in client.results.items() if status == "SUCCEEDED"} <= lms
