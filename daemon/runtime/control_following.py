"""Follows the control topic: what operators decide reaches flow and shards within a second or two (R19)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from daemon.codec import decode_control
from daemon.codec.texts import ERROR_CHARS_MAX, describe
from daemon.core.control import Control
from daemon.log.errors import LogError
from daemon.log.port import Record
from daemon.runtime.ports import Ports
from daemon.telemetry.events import ControlChanged, ControlRecordInvalid, ControlUnreadable

RETRY_PAUSE = 1.0
"""Seconds between two attempts to read the topic."""


class ControlFollower:
    """While the topic cannot be read, what was known last holds. Before it was read once, everything is paused."""

    def __init__(self, ports: Ports, control: Control, on_changed: Callable[[], None]) -> None:
        self._ports = ports
        self.control = control
        self._on_changed = on_changed
        self.read_ms = ports.clock.now().wall
        """When the topic was last read to its end, or the start."""
        self._seen = control.version

    async def run(self) -> None:
        """Follow until cancelled."""
        offset: int | None = None
        while True:
            try:
                read = await self._ports.log.read_control(offset)
            except LogError as error:
                self._ports.observer.notify(ControlUnreadable(describe(error, ERROR_CHARS_MAX), self.read_ms))
                await asyncio.sleep(RETRY_PAUSE)
            else:
                if read.is_first and offset is not None:
                    self.control.clear()  # the topic was created again
                self._apply(read.records)
                offset = read.next_offset
                if read.at_end:
                    self.read_ms = self._ports.clock.now().wall
                    self.control.loaded()
            self._obey()

    def _apply(self, records: Sequence[Record]) -> None:
        for record in records:
            if record.value is None:
                continue  # compaction will remove the decision; until then it holds
            try:
                decision = decode_control(record.value)
            except ValueError as error:
                self._ports.observer.notify(
                    ControlRecordInvalid(record.offset, describe(error, ERROR_CHARS_MAX))
                )
            else:
                self.control.apply(record.offset, decision)

    def _obey(self) -> None:
        control = self.control
        control.advance(self._ports.clock.now().wall)
        if control.version != self._seen:
            self._seen = control.version
            self._on_changed()
            if control.is_loaded:
                self._ports.observer.notify(ControlChanged(control.pauses, len(control.given_up)))
