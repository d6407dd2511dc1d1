"""The halt: the API refuses our own key or address. Only occasional probes are sent until the key works or the key file
contains another one (C7: a wrong key ends no change).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import assert_never

from daemon.core.flow import Flow
from daemon.core.judge import Judge, KeyEvidence
from daemon.core.model import Error, Now
from daemon.runtime.batch_ref import BatchRef
from daemon.runtime.ports import Ports
from daemon.telemetry.events import Halted, Resumed

KEY_CHECK_INTERVAL = 1.0
"""Seconds between two checks of the key file while halted."""
REMIND_INTERVAL = 60.0
"""Seconds between two log lines while halted."""


class Halt:
    """Halts and resumes according to the judge's evidence about the key. `key_changed` reads the key file again and
    returns whether it contains another key. `on_resume` is called when calls are allowed again, `on_suspicion` when a call
    that is made for no integration should show whether the key works.
    """

    def __init__(
        self,
        ports: Ports,
        flow: Flow[BatchRef],
        judge: Judge,
        key_changed: Callable[[], bool],
        on_resume: Callable[[], None],
        on_suspicion: Callable[[], None],
    ) -> None:
        self._ports = ports
        self._flow = flow
        self._judge = judge
        self._key_changed = key_changed
        self._on_resume = on_resume
        self._on_suspicion = on_suspicion
        self._halted = asyncio.Event()
        self._code = self._reason = ""

    def follow(self, evidence: KeyEvidence, error: Error | None, now: Now) -> None:
        """`error` is the API's error if the key was refused."""
        match evidence:
            case KeyEvidence.REFUSED:
                assert error is not None
                self._halt(error, now)
            case KeyEvidence.WORKS:
                if self._halted.is_set():
                    self._resume("the API accepted a call")
            case KeyEvidence.SUSPECTED:
                self._on_suspicion()
            case KeyEvidence.NONE:
                pass
            case _:
                assert_never(evidence)

    def _halt(self, error: Error, now: Now) -> None:
        self._flow.halt(error, now.mono)
        self._code = error.code or "no code"
        self._reason = f"{self._code}: {error.message}"
        self._ports.observer.notify(Halted(self._code, self._reason, is_news=not self._halted.is_set()))
        self._halted.set()

    def _resume(self, why: str) -> None:
        self._flow.resume(self._ports.clock.now().mono)
        self._halted.clear()
        self._ports.observer.notify(Resumed(why))
        self._on_resume()

    async def run(self) -> None:
        """While halted, check the key file for another key and log a reminder once a minute."""
        while True:
            await self._halted.wait()
            remind_at = self._ports.clock.now().mono + REMIND_INTERVAL
            while self._halted.is_set():
                await asyncio.sleep(KEY_CHECK_INTERVAL)
                if self._halted.is_set() and self._key_changed():
                    self._judge.key_replaced()
                    self._resume("the key file contains another key")
                elif self._halted.is_set() and self._ports.clock.now().mono >= remind_at:
                    remind_at += REMIND_INTERVAL
                    self._ports.observer.notify(Halted(self._code, self._reason, is_news=True))
