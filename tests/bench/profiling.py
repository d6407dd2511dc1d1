"""`make profile`: where the daemon's time goes while it works at full speed.

py-spy reads the stacks of another process from outside, so nothing is added to what is measured. Only a thread that holds
the interpreter's lock is counted, because no other one computes. Sampling begins after the first results and ends before
the last ones, so neither the start nor the end of the process is part of it.

py-spy must not stop the process for a sample: a program with 20 threads that is stopped 200 times a second hands the lock
over differently, and the main thread looks twice as busy as it is. Therefore no frames of C extensions either: those need
a stopped process, and their time counts as that of the Python function that calls them. The first table shows, beside the
samples of each thread, the CPU time that Linux has counted for it meanwhile. Where both agree, the profile can be trusted.

A sample belongs to the innermost frame that has a named area. So what the JSON decoder does for the decoding of changes
counts as decoding, and what asyncio does for itself as asyncio.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from daemon.log.errors import LogError
from daemon.log.kafka.clients import Clients
from tests.bench.end_to_end import LOOK_EVERY, result_partitions, stable_end
from tests.bench.load import distinct_changes, preload
from tests.bench.setting import DIRECTORY, Setting, kafka
from tests.bench.usage import thread_seconds
from tests.sandbox.process import SandboxError
from tests.sandbox.stack import Stack

RATE = 200
"""Samples a second."""
FROM, UNTIL = 0.1, 0.9
"""Shares of the results between which samples are taken."""
PATIENCE = 120.0
"""Seconds until the results of a run must have come so far."""

AREAS: Sequence[tuple[str, str]] = (
    ("daemon/codec/result", "result: encode"),
    ("daemon/codec/course_record", "courses topic: encode"),
    ("daemon/codec", "change: decode"),
    ("daemon/core/journal", "journal: encode"),
    ("daemon/core", "core: decide"),
    ("daemon/kombo", "API: encode, send, understand"),
    ("aiohttp", "API: HTTP client"),
    ("yarl", "API: HTTP client"),
    ("daemon/telemetry", "metrics, logs"),
    ("prometheus_client", "metrics, logs"),
    ("structlog", "metrics, logs"),
    ("daemon/log/kafka/cures/record_batches", "Kafka: read record batches"),
    ("daemon/log/kafka/cures/sending", "Kafka: send records"),
    ("daemon/log/kafka/cures/partitioner", "Kafka: send records"),
    ("daemon/log/kafka/producer", "Kafka: send records"),
    ("kafka/record", "Kafka: build and read batches"),
    ("kafka/producer", "Kafka: send records"),
    ("kafka/consumer", "Kafka: consume"),
    ("daemon/log/kafka", "Kafka: our threads and hand-over"),
    ("kafka/protocol", "Kafka: protocol and network"),
    ("kafka/net", "Kafka: protocol and network"),
    ("kafka", "Kafka: protocol and network"),
    ("daemon/runtime", "runtime: carry out"),
    ("asyncio", "asyncio"),
    ("selectors", "asyncio"),
    ("threading", "threads"),
    ("queue", "threads"),
    ("concurrent/futures", "threads"),
)
"""Beginnings of paths below the packages' folder, and the name of the area. The first one that fits counts."""

OTHER = "other"
_THREAD = re.compile(r"thread \((\d+)\): (.*)")
_NUMBERED = re.compile(r"[-_]\d+$")
_PACKAGES = re.compile(r"^.*?(site-packages/|lib/python3\.\d+/|(?=daemon/))")


def area_of(stack: Sequence[str]) -> str:
    """`stack`: frames as py-spy writes them, ``function (path:line)``, outermost first."""
    for frame in reversed(stack):
        path = frame.rpartition("(")[2].rstrip(")").rpartition(":")[0]
        for beginning, name in AREAS:
            if path.startswith(beginning) or f"/{beginning}" in path:
                return name
    return OTHER


def read_samples(lines: Iterable[str]) -> Counter[tuple[str, ...]]:
    """py-spy's raw format: frames with semicolons between them, a space, a count."""
    samples: Counter[tuple[str, ...]] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        samples[tuple(stack.split(";"))] += int(count)
    return samples


def take_samples(stack: Stack, changes: int, output: Path) -> Mapping[int, float]:
    """Sample the daemon from its first results to its last ones, into a file in py-spy's raw format. Returns the seconds of
    CPU that each thread has used meanwhile.

    Raises:
        SandboxError: the daemon did not come so far, or py-spy could not read it.
    """
    reader = Clients(stack.addresses.connection).reader()
    try:
        partitions = result_partitions(reader, stack.addresses)

        def wait(share: float) -> None:
            until = time.monotonic() + PATIENCE
            while stable_end(reader, partitions) < share * changes:
                if time.monotonic() > until:
                    raise SandboxError(f"less than {share:.0%} of the results after {PATIENCE:.0f} s")
                stack.assert_running()
                time.sleep(LOOK_EVERY)

        wait(FROM)
        before = thread_seconds(stack.daemon_pid)
        program = Path(sys.executable).with_name("py-spy")
        options = f"--gil --nonblocking --threads --full-filenames --rate {RATE} --format raw".split()
        spy = subprocess.Popen(
            [program, "record", *options, "--output", output, "--pid", str(stack.daemon_pid)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            wait(UNTIL)
            after = thread_seconds(stack.daemon_pid)
            spy.send_signal(signal.SIGINT)
            errors = spy.communicate(timeout=PATIENCE)[1]
        finally:
            spy.kill()
        if not output.exists():
            raise SandboxError(f"py-spy, which needs the right to trace, took no samples: {errors.strip()}")
        return {thread: seconds - before.get(thread, 0.0) for thread, seconds in after.items()}
    finally:
        reader.close()


def print_tables(
    console: Console, samples: Counter[tuple[str, ...]], cpu: Mapping[int, float], functions: int
) -> None:
    total, cpu_total = samples.total(), sum(cpu.values())
    threads: Counter[str] = Counter()
    areas: Counter[str] = Counter()
    selves: Counter[str] = Counter()
    cpu_of: defaultdict[str, float] = defaultdict(float)
    names = {}
    for stack, count in samples.items():
        number, name = _THREAD.fullmatch(stack[0]).groups()  # type: ignore[union-attr]
        names[int(number)] = _NUMBERED.sub("", name)
        threads[names[int(number)]] += count
        areas[area_of(stack)] += count
        selves[short(stack[-1])] += count
    for thread, seconds in cpu.items():
        cpu_of[names.get(thread, OTHER)] += seconds
    table = Table(title=f"{total:,} samples", title_justify="left")
    for column in "threads", "samples", "CPU":
        table.add_column(column, justify="left" if column == "threads" else "right")
    for name in sorted(cpu_of, key=cpu_of.__getitem__, reverse=True):
        table.add_row(name, f"{threads[name] / total:.1%}", f"{cpu_of[name] / cpu_total:.1%}")
    console.print(table)
    for title, counts in ("area", areas), ("line, without what it calls", selves):
        table = Table()
        table.add_column(title)
        table.add_column("samples", justify="right")
        for name, count in counts.most_common(functions):
            table.add_row(name, f"{count / total:.1%}")
        console.print(table)


def short(frame: str) -> str:
    """``function (folder/module.py:line)`` with a path below the packages' folder."""
    name, _, place = frame.partition(" (")
    return f"{name} ({_PACKAGES.sub('', place)}" if place else name


@click.command
@click.option("--changes", type=click.IntRange(min=10_000), default=150_000, show_default=True)
@click.option(
    "--functions", type=click.IntRange(min=1), default=30, show_default=True, help="How many to show."
)
def profile(*, changes: int, functions: int) -> None:
    """Where the daemon's time goes. Prints three tables, and writes the stacks for a flame graph."""
    console = Console(highlight=False)
    output = DIRECTORY / "profile.txt"
    output.unlink(missing_ok=True)
    try:
        with kafka(console) as (bootstrap, broker_pid):
            setting = Setting(DIRECTORY, bootstrap, broker_pid)
            with setting.stack("profile", task_seconds=0.0, settings={}) as stack:
                preload(stack.addresses, distinct_changes(changes, seed=1))
                stack.start_daemon()
                cpu = take_samples(stack, changes, output)
    except (SandboxError, LogError) as error:
        raise click.ClickException(str(error)) from error
    print_tables(console, read_samples(output.read_text().splitlines()), cpu, functions)
    console.print(f"The stacks, for speedscope or flamegraph.pl: {output}")


if __name__ == "__main__":
    profile()
