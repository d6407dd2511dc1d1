"""Batches that were made to fill the memory, before a running daemon: the process lives, their partitions are named."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import record_batch as wire
from tests.integration.daemon_world import DEADLINE, UNHURRIED, change, log_lines, probe, results, wait_until
from tests.sandbox.profile import PARTITIONS
from tests.sandbox.stack import Stack

COURSESYNCD = str(Path(sys.executable).with_name("coursesyncd"))
MIB = 1024 * 1024
PEAK_MAX = 400
"""MiB of memory, ever. The process alone takes 85; what is published here would take thousands."""

pytestmark = [pytest.mark.endurance, pytest.mark.kafka]


@pytest.fixture
def stack(tmp_path: Path, kafka_bootstrap: str) -> Iterator[Stack]:
    """Topics of its own, a well-behaved API, and a daemon that is not yet started."""
    with Stack(
        tmp_path,
        faults="none",
        seed=1,
        say=print,
        kafka=kafka_bootstrap,
        task_seconds=0.2,
        settings=UNHURRIED,
    ) as stack:
        yield stack


def zstd(*records: bytes) -> bytes:
    return wire.batch(wire.compressed(wire.ZSTD, records), codec=wire.ZSTD, count=len(records))


def with_many_headers() -> bytes:
    return zstd(wire.record(b"{}", headers=[(b"", None)] * 4_000_000))


def with_many_languages() -> bytes:
    languages = b",".join([b'"en"'] * (30 * MIB // 5))
    return zstd(wire.record(b'{"id":"chg-many","course":{"languages":[' + languages + b"]}}"))


def produce(stack: Stack, partition: int, batch: bytes) -> int:
    at = stack.addresses
    return wire.produce(at.bootstrap, at.topics.changes, partition, batch)


def publish(stack: Stack, partition: int, number: int) -> tuple[int, int]:
    """A change; partition and offset."""
    value = json.dumps(change(number, integration_id=f"tool:{partition}")).encode()
    return partition, produce(stack, partition, wire.batch(wire.record(value)))


def ended(stack: Stack) -> dict[tuple[int, int], str]:
    """The status of each change that has a result. One has one."""
    found = [
        (data["change"]["partition"], data["change"]["offset"], data["status"]) for data in results(stack)
    ]
    assert len({(partition, offset) for partition, offset, _ in found}) == len(found)
    return {(partition, offset): status for partition, offset, status in found}


def peak(stack: Stack) -> float:
    """MiB of resident memory at most, since the process was started."""
    status = Path(f"/proc/{stack.daemon_pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024


def blocked(stack: Stack) -> dict[int, str]:
    """The sentence of each partition that is."""
    _, state = probe(stack.addresses.admin_url, "state")
    partitions: dict[str, Any] = state.get("partitions", {})
    return {int(p): at["reason"] for p, at in partitions.items() if at["state"] == "blocked"}


def test_poison_blocks_its_partitions_and_nothing_else_and_skip_leads_out(stack: Stack) -> None:
    stack.start_daemon()
    stack.await_ready()
    good = {publish(stack, partition, partition) for partition in range(PARTITIONS)}
    wait_until(lambda: ended(stack).keys() >= good, "the results of what comes before")

    poison = {0: wire.bomb(wire.ZSTD, 700 * MIB), 1: wire.bomb(wire.GZIP, 300 * MIB), 2: with_many_headers()}
    for partition, batch in poison.items():
        assert produce(stack, partition, batch) == 1
    # What fits is read, and rejected: one record of many objects, and many batches at once that are large.
    rejected = {(3, produce(stack, 3, with_many_languages()))}
    large = wire.bomb(wire.ZSTD, 30 * MIB)
    rejected |= {(4, produce(stack, 4, large)) for _ in range(12)}
    behind = {publish(stack, partition, 10 + partition) for partition in range(PARTITIONS)}
    held = {(partition, 2) for partition in poison}

    wait_until(lambda: blocked(stack).keys() == poison.keys(), "three blocked partitions")
    wait_until(lambda: ended(stack).keys() >= good | rejected | (behind - held), "the results of the others")
    assert {ended(stack)[at] for at in rejected} == {"REJECTED"}
    assert peak(stack) < PEAK_MAX
    sentences = blocked(stack)
    assert "decompresses to more than 33,554,432 bytes (kafka.record_batch_bytes_max)" in sentences[0]
    assert "headers, more than 10,000" in sentences[2]
    told = [line for line in log_lines(stack, "partition.blocked") if line["partition"] in poison]
    assert {line["error"] for line in told} == set(sentences.values())

    print(f"peak: {peak(stack):.0f} MiB")
    stack.kill_daemon()
    stack.start_daemon()
    wait_until(lambda: blocked(stack) == sentences, "the same sentences after a restart")
    more = {publish(stack, partition, 20 + partition) for partition in (3, 4, 5)}
    wait_until(lambda: ended(stack).keys() >= more, "results of the other partitions")
    assert peak(stack) < PEAK_MAX
    assert stack.daemon_running

    assert coursesyncd(stack, "inspect", "partitions").returncode == 0
    refused = coursesyncd(stack, "topics", "grow", "--partitions", str(PARTITIONS + 1), "--yes")
    assert refused.returncode == 1
    assert "cannot be read at the offsets 1 to 1" in refused.stderr

    for partition, sentence in sentences.items():
        (command,) = re.findall(r"`coursesyncd (skip[^`]*)`", sentence)
        dry = coursesyncd(stack, *command.split(), "--dry-run")
        assert "up to 1 records (1 to 1) never get a result" in dry.stdout
        done = coursesyncd(stack, *command.split(), "--yes")
        assert f"Done: partition {partition} continues at offset 2" in done.stdout, done.stderr
    good |= more | behind
    wait_until(lambda: ended(stack).keys() >= good | rejected, "a result of each change that can be read")
    assert ended(stack).keys() == good | rejected
    assert {ended(stack)[at] for at in good} == {"SUCCEEDED"}
    wait_until(lambda: not blocked(stack), "no blocked partition")
    assert peak(stack) < PEAK_MAX
    print(f"peak: {peak(stack):.0f} MiB")


def coursesyncd(stack: Stack, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [COURSESYNCD, *words],
        env=stack.environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
