"""The bridge between the Kafka clients' threads and the asyncio loop."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from daemon.log.kafka import KafkaConnection, KafkaLog
from daemon.log.kafka.handover import Handover
from daemon.log.kafka.worker import HANGING_AFTER, HANGING_MAX, Worker, hanging
from daemon.log.port import Assigned, FatalLogError, Record, Records, Topics

PATIENCE = 5.0


def records(count: int) -> Records:
    return Records(0, 1, [Record(number, 0, b"key", None, (("v", b"alue"),)) for number in range(count)])


async def test_calls_run_one_after_the_other_in_one_thread_that_is_not_the_loops():
    worker = Worker("w")
    seen: list[tuple[int, int]] = []

    def note(number: int) -> int:
        seen.append((number, threading.get_ident()))
        return number

    results = await asyncio.gather(*(worker.call(lambda n=n: note(n), PATIENCE) for n in range(5)))
    worker.retire()
    assert results == list(range(5))
    assert [number for number, _ in seen] == list(range(5))
    (thread,) = {thread for _, thread in seen}
    assert thread != threading.get_ident()


async def test_an_error_comes_back_to_the_caller_and_the_thread_goes_on():
    worker = Worker("w")
    with pytest.raises(ZeroDivisionError):
        await worker.call(lambda: 1 // 0, PATIENCE)
    worker.post(lambda: 1 // 0)
    assert await worker.call(lambda: "alive", PATIENCE) == "alive"
    worker.retire()


async def test_a_call_that_hangs_is_given_up_and_what_nobody_waits_for_does_not_run():
    worker = Worker("w")
    release = threading.Event()
    ran: list[str] = []
    with pytest.raises(TimeoutError):
        await worker.call(release.wait, 0.01)
    with pytest.raises(TimeoutError):
        await worker.call(lambda: ran.append("abandoned"), 0.01)
    release.set()
    await worker.call(lambda: ran.append("next"), PATIENCE)
    worker.retire()
    assert ran == ["next"]


def test_a_result_that_comes_after_the_end_of_the_loop_harms_nobody():
    release = threading.Event()
    thread: list[threading.Thread] = []

    def hang() -> None:
        thread.append(threading.current_thread())
        release.wait()

    async def main() -> Worker:
        worker = Worker("w")
        with pytest.raises(TimeoutError):
            await worker.call(hang, 0.01)
        return worker

    worker = asyncio.run(main())
    release.set()
    worker.retire()
    thread[0].join(PATIENCE)
    assert not thread[0].is_alive()


async def test_a_thread_that_was_told_to_end_and_does_not_is_named():
    """`KafkaLog` ends the process at some number of them: each keeps a client."""
    release, began = threading.Event(), threading.Event()
    worker = Worker("hangs")

    def hang() -> None:
        began.set()
        release.wait()

    with pytest.raises(TimeoutError):
        await worker.call(hang, 0.01)
    assert await asyncio.to_thread(began.wait, PATIENCE)
    long_after = time.monotonic() + 2 * HANGING_AFTER
    assert "hangs" not in hanging(long_after), "it may be slow"
    worker.retire()
    assert "hangs" not in hanging(time.monotonic()), "it was only just told"
    assert "hangs" in hanging(long_after)
    release.set()
    worker._thread.join(PATIENCE)
    assert "hangs" not in hanging(long_after)


async def test_too_many_threads_that_hang_end_the_process(monkeypatch):
    topics = Topics()
    log = KafkaLog(KafkaConnection(("127.0.0.1:1",)), topics, "g", None, 6.0)
    names = [f"kafka-shard-{number}" for number in range(HANGING_MAX)]
    monkeypatch.setattr("daemon.log.kafka.log.hanging", lambda now: names)
    with pytest.raises(FatalLogError, match="16 threads hang inside the Kafka client"):
        await log.open_shard(0)


async def test_events_pass_in_order_and_records_are_counted_until_they_are_taken():
    handover = Handover()
    waiting = asyncio.create_task(handover.get())
    events = [Assigned(frozenset({0})), records(3), records(4)]

    def put() -> None:
        for event in events:
            handover.put(event)

    await asyncio.to_thread(put)
    assert await waiting == events[0]
    assert handover.records_waiting == 7
    assert handover.bytes_waiting == 7 * len("keyvalue")
    assert await handover.get() == events[1]
    assert handover.records_waiting == 4
    assert await handover.get() == events[2]
    assert handover.records_waiting == 0
    assert handover.bytes_waiting == 0


async def test_a_caller_that_stops_waiting_loses_nothing():
    handover = Handover()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await handover.get()
    handover.put(records(1))
    assert await handover.get() == records(1)


async def test_a_failure_wakes_the_caller_and_stays():
    handover = Handover()
    handover.put(records(1))
    await handover.get()
    waiting = asyncio.create_task(handover.get())
    await asyncio.sleep(0)
    threading.Thread(target=handover.fail, args=[FatalLogError("fenced")]).start()
    with pytest.raises(FatalLogError, match="fenced"):
        await waiting
    with pytest.raises(FatalLogError):
        await handover.get()
