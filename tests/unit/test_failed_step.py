"""A step that fails inside the daemon: it blocks its partition, and neither the process nor another partition."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from daemon import config
from daemon.codec import decode_change
from daemon.codec.result import Encoded, encode_result
from daemon.core import settle
from daemon.core.model import Result
from daemon.core.shard import Shard
from daemon.runtime import intake, step_transaction
from tests.unit.log_world import LogWorld, read

POISON = "poison"


class DefectError(Exception):
    pass


def break_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(result: Result, partition: int, **topics: Any) -> Encoded:
        if result.origin_id == POISON:
            raise DefectError("year 10000 is out of range")
        return encode_result(result, partition, **topics)

    monkeypatch.setattr(step_transaction, "encode_result", encode)


def break_verdict(name: str) -> Any:
    def break_it(monkeypatch: pytest.MonkeyPatch) -> None:
        judge = getattr(settle, name)

        def judged(memory: Any, batch: Any, *rest: Any) -> Any:
            if batch.items[0].origin_id == POISON:
                raise DefectError("nobody thought of this answer")
            return judge(memory, batch, *rest)

        monkeypatch.setattr(settle, name, judged)

    return break_it


def break_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(offset: int, key: Any, value: bytes, *rest: Any, **more: Any) -> Any:
        if POISON.encode() in value:
            raise DefectError("nobody thought of this record")
        return decode_change(offset, key, value, *rest, **more)

    monkeypatch.setattr(intake, "decode_change", decoded)


def break_sealing(monkeypatch: pytest.MonkeyPatch) -> None:
    tick = Shard.tick

    def ticked(shard: Shard, now: Any) -> None:
        tick(shard, now)
        if any(item.origin_id == POISON for batch in shard._memory.batches.values() for item in batch.items):
            raise DefectError("nobody thought of this batch")

    monkeypatch.setattr(Shard, "tick", ticked)


@pytest.mark.parametrize(
    ("break_it", "named"),
    [
        (break_encoding, "the result of offset 0"),
        (break_verdict("poll_answered"), "the answer to a poll cannot be applied"),
        (break_verdict("submit_answered"), "the answer to batch 0-0-1"),
        (break_decoding, "records before offset 1"),
        (break_sealing, "each time: DefectError"),
    ],
    ids=["encoding", "poll", "submit", "decoding", "sealing"],
)
async def test_a_defect_blocks_the_partition_that_meets_it_and_is_gone_after_a_restart(
    break_it: Any, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with LogWorld() as world:
        world.settings = dataclasses.replace(world.settings, http=config.HttpSettings(deadline=1.0))
        with monkeypatch.context() as broken:
            break_it(broken)
            await world.start()
            await world.running(0)
            world.publish(0, [POISON])
            sentence = await world.blocked(0)
            assert "partition 0" in sentence
            assert named in sentence
            assert "DefectError" in sentence
            assert "runbook.md#failed-step" in sentence

            await read(world, 1, "ab")
            assert {partition for _, partition, _, _ in world.results()} == {1}
            await world.stop()
        await world.start()
        await world.until(lambda: len(world.results()) == 3, "the result of the change that was held up")
        assert ("SUCCEEDED", 0, 0, POISON) in world.results()
