"""The simulator over real sockets, and as a process of its own."""

import asyncio
import json
import os
import random
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
import pytest

from tests.sandbox.simulator.faults import FaultPlan
from tests.sandbox.simulator.server import listening
from tests.sandbox.simulator.state import Simulator

DEADLINE = 60  # seconds; for what is to happen at once, also on a busy machine
HEADERS = {"Authorization": "Bearer k", "X-Integration-Id": "w:1"}
BODY = b'{"items":[{"origin_id":"a","course":{"type":"EXTERNAL","title":"T","course_url":"https://example.com/c"}}]}'


@asynccontextmanager
async def running(*rules: object, **plan: object) -> AsyncIterator[tuple[Simulator, aiohttp.ClientSession]]:
    faults = msgspec.convert({"rules": rules, **plan}, FaultPlan)
    now = time.time_ns() // 1_000_000
    simulator = Simulator(rng=random.Random(1), now=now, api_key="k", plan=faults, task_seconds=0)
    async with listening(simulator) as url, aiohttp.ClientSession(url, headers=HEADERS) as client:
        yield simulator, client


async def submit(client: aiohttp.ClientSession, data: bytes = BODY) -> str:
    async with client.post("/v1/lms/courses/bulk", data=data) as response:
        assert response.status == 200
        task_id: str = (await response.json())["data"]["task_id"]
        return task_id


async def lines(client: aiohttp.ClientSession, path: str) -> list[dict[str, Any]]:
    async with client.get(path) as response:
        assert response.status == 200
        return [json.loads(line) for line in (await response.text()).splitlines()]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - the state machine has no events, it is pure
            await asyncio.sleep(0.01)


async def raw_exchange(client: aiohttp.ClientSession, request: bytes) -> bytes:
    """All bytes that come back until the server closes."""
    url = client._base_url
    assert url is not None
    reader, writer = await asyncio.open_connection(url.host, url.port)
    try:
        writer.write(request)
        async with asyncio.timeout(DEADLINE):
            return await reader.read()
    finally:
        writer.close()


POST = (
    b"POST /v1/lms/courses/bulk HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\nX-Integration-Id: w:1\r\n"
    b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
)


async def test_submit_poll_and_read_what_was_done() -> None:
    async with running() as (_, client):
        async with client.post("/v1/lms/courses/bulk", data=BODY) as response:
            assert response.headers["Concurrency-Limit"] == "30"
            assert response.headers["Concurrency-Remaining"] == "29"
            assert response.headers.getall("Date")[0].endswith("GMT")
            assert len(response.headers.getall("Date")) == 1
            task_id = (await response.json())["data"]["task_id"]
        async with client.get(f"/v1/lms/courses/bulk/{task_id}") as response:
            answer = await response.json()
        assert (answer["status"], answer["data"]["status"]) == ("success", "COMPLETED")
        (course,) = await lines(client, "/_sim/lms")
        (task,) = await lines(client, "/_sim/tasks")
        assert (course["origin_id"], course["course"]["title"], course["task_id"]) == ("a", "T", task_id)
        assert (task["task_id"], task["status"], task["polls"], task["posts"]) == (task_id, "COMPLETED", 1, 1)
        async with client.get("/_sim/stats") as response:
            stats = await response.json()
        assert stats["requests"] == {"poll 200": 1, "submit 200": 1}
        assert (stats["tasks"], stats["courses"]) == ({"COMPLETED": 1}, 1)


@pytest.mark.parametrize("how", ["cut", "truncated"])
async def test_a_connection_cut_after_acceptance_leaves_a_task_and_half_an_answer_at_most(how: str) -> None:
    async with running({"fault": "answer_lost", "how": how}) as (_, client):
        answer = await raw_exchange(client, POST)
        if how == "cut":
            assert answer == b""
        else:
            head, _, rest = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            promised = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            assert 0 < len(rest) < promised
        (task,) = await lines(client, "/_sim/tasks")
        assert (task["posts"], task["posts_answered"]) == (1, 0)
        assert [item["applied"] for item in task["items"]] == [True]

        async with client.post("/_sim/faults", data="none") as response:
            assert response.status == 200
        assert await submit(client) == task["task_id"]


async def test_a_client_sees_a_cut_connection_as_an_error() -> None:
    async with running({"fault": "answer_lost", "how": "cut"}) as (simulator, client):
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await submit(client)
        assert len(simulator.tasks) == 1


async def test_a_load_balancer_answers_without_json_after_the_task_was_made() -> None:
    async with running({"fault": "answer_lost", "how": "error"}) as (simulator, client):
        async with client.post("/v1/lms/courses/bulk", data=BODY) as response:
            assert response.status in {502, 503}
            assert response.content_type == "text/html"
        assert len(simulator.tasks) == 1


async def test_a_hanging_answer_holds_its_place_until_the_client_gives_up() -> None:
    async with running({"fault": "answer_lost", "how": "hang", "end_seconds": 3600}) as (simulator, client):
        hanging = asyncio.create_task(submit(client))
        await until(lambda: simulator.in_flight("w:1") == 1 and bool(simulator.tasks))
        assert not hanging.done()
        hanging.cancel()
        await until(lambda: simulator.in_flight("w:1") == 0)


async def test_a_hanging_answer_ends_with_the_connection() -> None:
    async with running({"fault": "answer_lost", "how": "hang", "hang_seconds": 0.05}) as (_, client):
        assert await raw_exchange(client, POST) == b""


async def test_more_than_the_limit_at_the_same_time_is_refused() -> None:
    rule = {"fault": "answer_slow", "seconds_min": 3600, "seconds_max": 3600}
    async with running(rule, concurrency_limit=3) as (simulator, client):
        waiting = [asyncio.create_task(submit(client)) for _ in range(3)]
        await until(lambda: simulator.requests["submit 200"] == 3)
        async with client.post("/_sim/faults", data='{"concurrency_limit":3}') as response:
            assert response.status == 200
        async with client.post("/v1/lms/courses/bulk", data=BODY) as response:
            assert response.status == 429
            assert response.headers["Concurrency-Remaining"] == "0"
            assert (await response.json())["error"]["code"] == "PLATFORM.CONCURRENCY_LIMIT_EXCEEDED"
        waiting[0].cancel()
        await until(lambda: simulator.in_flight("w:1") == 2)
        await submit(client)
        for task in waiting:
            task.cancel()


async def test_the_accepted_key_can_be_changed() -> None:
    async with running() as (_, client):
        async with client.post("/_sim/key", json={"api_key": "other"}) as response:
            assert response.status == 200
        async with client.post("/v1/lms/courses/bulk", data=BODY) as response:
            assert response.status == 401
            assert (await response.json())["error"]["code"] == "PLATFORM.AUTHENTICATION_INVALID"
        async with client.post("/_sim/key", json={"api_key": "k"}) as response:
            assert response.status == 200
        await submit(client)


async def test_an_outage_spares_only_those_who_control_it() -> None:
    async with running() as (_, client):
        async with client.post("/_sim/outage", json={"seconds": 3600}) as response:
            assert response.status == 200
        assert await raw_exchange(client, POST) == b""
        async with client.post("/_sim/outage", json={"seconds": 3600, "kind": "error"}) as response:
            assert response.status == 200
        async with client.post("/v1/lms/courses/bulk", data=BODY) as response:
            assert response.status == 503
        async with client.post("/_sim/outage", json={"seconds": 0}) as response:
            assert response.status == 200
        await submit(client)


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("/_sim/faults", "nightmare"),
        ("/_sim/faults", '{"rules":[{"fault":"x"}]}'),
        ("/_sim/faults", b"\xff"),
        ("/_sim/key", "{}"),
        ("/_sim/key", '{"api_key":""}'),
        ("/_sim/outage", '{"seconds":-1}'),
        ("/_sim/outage", '{"seconds":1,"kind":"fire"}'),
        ("/_sim/outage", b"\xff"),
    ],
)
async def test_a_wrong_order_to_the_simulator_is_refused_and_changes_nothing(
    path: str, data: str | bytes
) -> None:
    async with running({"fault": "entry_foreign"}) as (simulator, client):
        async with client.post(path, data=data) as response:
            assert response.status == 400
            assert (await response.json())["message"]
        assert len(simulator.plan.rules) == 1
        await submit(client)


async def test_a_large_state_is_read_in_whole() -> None:
    async with running() as (_, client):
        for number in range(40):
            items = [
                {
                    "origin_id": f"{number}-{index}",
                    "course": {"type": "EXTERNAL", "title": "T", "course_url": "u", "description": "d" * 400},
                }
                for index in range(100)
            ]
            await submit(client, json.dumps({"items": items}).encode())
        assert len(await lines(client, "/_sim/lms")) == 4000
        assert sum(len(task["items"]) for task in await lines(client, "/_sim/tasks")) == 4000


# --- as a process ---------------------------------------------------------------------------------


async def start_process(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.sandbox.simulator",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_process_says_where_it_listens_and_ends_on_a_signal(number: signal.Signals) -> None:
    plan = '{"rules":[{"fault":"answer_lost","how":"hang","hang_seconds":3600}]}'
    process = await start_process("--api-key", "k", "--faults", plan, "--task-seconds", "0")
    try:
        async with asyncio.timeout(DEADLINE * 3):
            assert process.stdout is not None
            said = json.loads(await process.stdout.readline())
            assert said["pid"] == process.pid
            assert said["base_url"] == said["url"] + "/v1"
            async with aiohttp.ClientSession(said["url"], headers=HEADERS) as client:
                hanging = asyncio.create_task(submit(client))
                while not await lines(client, "/_sim/tasks"):  # noqa: ASYNC110 - another process
                    await asyncio.sleep(0.01)
                os.kill(process.pid, number)
                with pytest.raises(aiohttp.ClientError):
                    await hanging
            out, err = await process.communicate()
        assert (process.returncode, out, err) == (0, b"", b"")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_taken_port_is_said_plainly() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = await start_process("--port", str(port))
        out, err = await asyncio.wait_for(process.communicate(), DEADLINE * 3)
    assert process.returncode == 1
    assert out == b""
    assert f"cannot listen on 127.0.0.1:{port}" in err.decode()
    assert "Traceback" not in err.decode()
