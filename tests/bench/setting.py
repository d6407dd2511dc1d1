"""What every measurement stands on: the cluster, and fresh topics, simulator and daemon on it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from tests.sandbox.broker import Broker, external_kafka
from tests.sandbox.profile import PARTITIONS
from tests.sandbox.stack import Stack

DIRECTORY = Path(".sandbox/bench")


@dataclass(frozen=True, slots=True)
class Setting:
    directory: Path
    bootstrap: str
    broker_pid: int | None
    """None where the broker is not ours, and perhaps on another machine."""

    def stack(
        self,
        name: str,
        *,
        task_seconds: float,
        settings: Mapping[str, str],
        partitions: int = PARTITIONS,
        faults: str = "none",
        seed: int = 1,
        program: Sequence[str] | None = None,
    ) -> Stack:
        """Topics of its own, a simulator, and a daemon (or `program`) that is not yet started; all gone at the end. Logs go
        into a folder of this name."""
        return Stack(
            self.directory / name,
            faults=faults,
            seed=seed,
            say=lambda _: None,
            kafka=self.bootstrap,
            task_seconds=task_seconds,
            settings=settings,
            partitions=partitions,
            program=program,
        )


@contextlib.contextmanager
def kafka(console: Console) -> Iterator[tuple[str, int | None]]:
    """``host:port`` and, if it is ours, the process of the broker; one for all measurements, since a
    broker that has just started is slower."""
    if external := external_kafka():
        console.print(f"Using the Kafka at {external}.")
        yield external, None
        return
    console.print("Starting Kafka (on the first start, Maven fetches 44 MB) …")
    with Broker(brief=False) as broker:
        yield broker.bootstrap, broker.pid
