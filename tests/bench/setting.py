"""What every measurement stands on: the cluster, and fresh topics, simulator and daemon on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.sandbox.stack import Stack


@dataclass(frozen=True, slots=True)
class Setting:
    directory: Path
    bootstrap: str
    broker_pid: int | None
    """None where the broker is not ours, and perhaps on another machine."""

    def stack(self, name: str, *, task_seconds: float, settings: Mapping[str, str]) -> Stack:
        """Topics of its own, a simulator without faults, and a daemon that is not yet started; all gone at
        the end. Logs go into a folder of this name."""
        return Stack(
            self.directory / name,
            faults="none",
            seed=1,
            say=lambda _: None,
            kafka=self.bootstrap,
            task_seconds=task_seconds,
            settings=settings,
        )
