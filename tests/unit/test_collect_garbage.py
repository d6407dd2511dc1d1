"""Cycles do not pile up in a process that makes few of them."""

from __future__ import annotations

import asyncio
import gc
import weakref

import pytest

from daemon.commands import run


class Thing:
    itself: object = None


async def test_a_cycle_is_gone_though_the_threshold_is_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "GARBAGE_INTERVAL", 0.01)
    gone = asyncio.Event()
    gc.disable()
    try:
        thing = Thing()
        thing.itself = thing
        weakref.finalize(thing, gone.set)
        del thing
        assert not gone.is_set()
        task = asyncio.create_task(run.collect_garbage())
        async with asyncio.timeout(60):
            await gone.wait()
        task.cancel()
    finally:
        gc.enable()
