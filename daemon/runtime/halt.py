"""Our own key or address is refused: stop all calls, say so loudly, try again now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from daemon.core.answers import Refused
from daemon.core.flow import Flow
from daemon.core.model import Error, Now
from daemon.core.verdict import Verdict
from daemon.runtime.partition import Claim
from daemon.runtime.ports import Ports

log = structlog.get_logger()

KEY_CHECK_INTERVAL = 1.0
"""Seconds between two looks at the key file while halted."""
REMIND_INTERVAL = 60.0
"""Seconds between two log lines while halted."""


class Halt:
    """Contract 7: a wrong key ends no change. `key_changed` reads the key file again and tells whether it
    holds another key; `on_resume` is told when calls may go out again.
    """

    def __init__(
        self,
        ports: Ports,
        flow: Flow[Claim],
        key_changed: Callable[[], bool],
        on_resume: Callable[[], None],
    ) -> None:
        self._ports = ports
        self._flow = flow
        self._key_changed = key_changed
        self._on_resume = on_resume
        self._halted = asyncio.Event()
        self._denied: set[str] = set()
        """Integrations that have heard a 401 or 403 without a code since the key was last seen to work."""
        self.key_number = 0
        """Counts the keys that were in use. A call notes it when it starts: an answer may come when its key
        is no longer the one in use, and then says nothing about that one.
        """

    def judge(
        self, integration_id: str, answer: Refused, verdict: Verdict | None, sent_with: int, now: Now
    ) -> Verdict | None:
        """A refusal that names our key halts at once; a 401 or 403 without a code when a second
        integration says the same (API table, submit), and no answer between the two has shown that the
        key is known, as any other one does.

        A key of before (`sent_with`) that is refused halts nothing, and the integration need not stand
        back: the call goes out again with the key of now.
        """
        denied = answer.error.code is None and answer.status in (401, 403)
        if (verdict is Verdict.HALT or denied) and sent_with != self.key_number:
            return Verdict.HALT
        if verdict is Verdict.HALT or (denied and self._second_denial(integration_id)):
            self.halt(answer.error, now)
            return Verdict.HALT
        if not denied and answer.error.code is not None:
            self.key_works(sent_with)
        return verdict

    def _second_denial(self, integration_id: str) -> bool:
        self._denied.add(integration_id)
        return len(self._denied) > 1

    def halt(self, error: Error, now: Now) -> None:
        self._flow.halt(error, now.mono)
        reason = f"{error.code or 'no code'}: {error.message}"
        if not self._halted.is_set():
            log.error("api.halted", reason=reason, action="put the right API key into the key file")
        self._ports.health.halted(reason)
        self._halted.set()

    def key_works(self, sent_with: int) -> None:
        """The API has taken a call with this key."""
        if sent_with != self.key_number:
            return
        self._denied.clear()
        if self._halted.is_set():
            self._resume("the API has taken a call")

    def _resume(self, why: str) -> None:
        self._denied.clear()
        self._flow.resume()
        self._ports.health.halted(None)
        self._halted.clear()
        log.warning("api.resumed", reason=why)
        self._on_resume()

    async def run(self) -> None:
        """Look for another key while halted, and remind once a minute."""
        while True:
            await self._halted.wait()
            remind_at = self._ports.clock.now().mono + REMIND_INTERVAL
            while self._halted.is_set():
                await asyncio.sleep(KEY_CHECK_INTERVAL)
                if self._halted.is_set() and self._key_changed():
                    self.key_number += 1
                    self._resume("the key file holds another key")
                elif self._halted.is_set() and self._ports.clock.now().mono >= remind_at:
                    remind_at += REMIND_INTERVAL
                    log.error(
                        "api.halted",
                        reason=self._ports.health.halt_reason,
                        action="put the right API key into the key file",
                    )
