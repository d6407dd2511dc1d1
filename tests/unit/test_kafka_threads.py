"""The bridge between the Kafka clients' threads and the asyncio loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial

import pytest

from daemon.log.errors import FatalLogError
from daemon.log.kafka.loop_queue import LoopQueue
from daemon.log.kafka.worker import Worker, WorkerProgress, report_progress
from daemon.log.port import Assigned, Event, Record, Records

PATIENCE = 60.0


def records(count: int) -> Records:
    records = [Record(number, 0, b"key", None, (("v", b"alue"),)) for number in range(count)]
    return Records(0, 1, records, count)


async def given_up(worker: Worker, hang: Callable[[], object], begun: threading.Event) -> None:
    """Nobody waits for this call any more, but it has begun: one that has not would not run at all."""
    call = asyncio.create_task(worker.call(hang, PATIENCE))
    await asyncio.to_thread(begun.wait, PATIENCE)
    assert begun.is_set()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_calls_run_one_after_the_other_in_one_thread_that_is_not_the_loops() -> None:
    worker = Worker("w", WorkerProgress())
    seen: list[tuple[int, int]] = []

    def note(number: int) -> int:
        seen.append((number, threading.get_ident()))
        return number

    results = await asyncio.gather(*(worker.call(partial(note, n), PATIENCE) for n in range(5)))
    worker.retire()
    assert results == list(range(5))
    assert [number for number, _ in seen] == list(range(5))
    (thread,) = {thread for _, thread in seen}
    assert thread != threading.get_ident()


async def test_an_error_comes_back_to_the_caller_and_the_thread_goes_on() -> None:
    worker = Worker("w", WorkerProgress())
    with pytest.raises(ZeroDivisionError):
        await worker.call(lambda: 1 // 0, PATIENCE)
    worker.post(lambda: 1 // 0)
    assert await worker.call(lambda: "alive", PATIENCE) == "alive"
    worker.retire()


async def test_a_call_that_hangs_is_given_up_and_what_nobody_waits_for_does_not_run() -> None:
    worker = Worker("w", WorkerProgress())
    begun, release = threading.Event(), threading.Event()
    ran: list[str] = []

    def hang() -> None:
        begun.set()
        release.wait()

    while (
        not begun.is_set()
    ):  # a thread that comes late finds a call that nobody waits for, and leaves it out
        with pytest.raises(TimeoutError):
            await worker.call(hang, 0.01)
    with pytest.raises(TimeoutError):
        await worker.call(lambda: ran.append("abandoned"), 0.01)
    release.set()
    await worker.call(lambda: ran.append("next"), PATIENCE)
    worker.retire()
    assert ran == ["next"]


def test_a_result_that_comes_after_the_end_of_the_loop_harms_nobody() -> None:
    begun, release = threading.Event(), threading.Event()
    thread: list[threading.Thread] = []

    def hang() -> None:
        thread.append(threading.current_thread())
        begun.set()
        release.wait()

    async def main() -> Worker:
        worker = Worker("w", WorkerProgress())
        await given_up(worker, hang, begun)
        return worker

    worker = asyncio.run(main())
    release.set()
    worker.retire()
    thread[0].join(PATIENCE)
    assert not thread[0].is_alive()


async def test_events_pass_in_order_and_records_are_counted_until_they_are_taken() -> None:
    loop_queue = LoopQueue()
    waiting = asyncio.create_task(loop_queue.get())
    three, four = records(3), records(4)
    events: list[Event] = [Assigned(frozenset({0})), three, four]

    def put() -> None:
        for event in events:
            loop_queue.put(event)

    await asyncio.to_thread(put)
    assert await waiting == events[0]
    assert loop_queue.records_waiting == 7
    assert loop_queue.bytes_waiting == sum(record.size for event in (three, four) for record in event.records)
    assert await loop_queue.get() == events[1]
    assert loop_queue.records_waiting == 4
    assert await loop_queue.get() == events[2]
    assert loop_queue.records_waiting == 0
    assert loop_queue.bytes_waiting == 0


async def test_a_caller_that_stops_waiting_loses_nothing() -> None:
    loop_queue = LoopQueue()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await loop_queue.get()
    loop_queue.put(records(1))
    assert await loop_queue.get() == records(1)


async def test_a_failure_wakes_the_caller_and_stays() -> None:
    loop_queue = LoopQueue()
    loop_queue.put(records(1))
    await loop_queue.get()
    waiting = asyncio.create_task(loop_queue.get())
    await asyncio.sleep(0)
    threading.Thread(target=loop_queue.fail, args=[FatalLogError("fenced")]).start()
    with pytest.raises(FatalLogError, match="fenced"):
        await waiting
    with pytest.raises(FatalLogError):
        await loop_queue.get()


async def test_worker_progress_tells_how_long_a_call_has_been_silent_also_when_nobody_waits_for_it_any_more() -> (
    None
):
    now = 1000.0
    progress = WorkerProgress(clock=lambda: now)
    busy, idle = Worker("busy", progress), Worker("idle", progress)
    release, report = threading.Event(), threading.Event()
    begun, reported = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        report.wait()
        report_progress()
        reported.set()
        release.wait()

    await idle.call(lambda: None, PATIENCE)
    assert progress.silence() == 0.0
    await given_up(busy, hang, begun)
    now += 7.0
    assert progress.silence() == 7.0

    report.set()
    assert reported.wait(PATIENCE)
    assert progress.silence() == 0.0
    now += 3.0
    assert progress.silence() == 3.0

    release.set()
    await busy.call(lambda: None, PATIENCE)
    assert progress.silence() == 0.0
    for worker in (busy, idle):
        worker.retire()


def test_a_function_that_reports_progress_runs_in_any_thread() -> None:
    report_progress()
