"""Whether the API takes our key, and whether our clock agrees with its: for ``coursesyncd check``.

The question asked does no harm: the status of a task that cannot exist, for an integration that cannot
exist. The API looks at the key first, so any refusal of its own but that of the key or of our address
means that the key is good.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from daemon.core.answers import NoAnswer, Refused
from daemon.kombo.port import KomboApi

INTEGRATION_ID = "coursesyncd:check"
TASK_ID = "coursesyncd-check"

_REFUSED_BECAUSE = {
    "PLATFORM.AUTHENTICATION_INVALID": "the API refuses the API key; put a valid one into its file",
    "PLATFORM.IP_NOT_WHITELISTED": "the API refuses our address; add it to the allowed ones of the API key",
}


class KeyState(StrEnum):
    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    """The API could not be asked, or the answer says nothing about the key."""


@dataclass(frozen=True, slots=True)
class KeyCheck:
    key: KeyState
    message: str
    """For people: what was found, and what to do."""
    clock_ahead: float | None
    """Seconds by which our clock is ahead of the API's, to about a second; None where it told no time."""


async def check_key(api: KomboApi, wall_clock: Callable[[], int]) -> KeyCheck:
    """Ask once; `wall_clock` tells ms since the epoch. Never raises for what the network does."""
    asked = wall_clock()
    answer = await api.poll(INTEGRATION_ID, TASK_ID)
    halfway = (asked + wall_clock()) / 2
    if isinstance(answer, NoAnswer):
        return KeyCheck(
            KeyState.UNKNOWN,
            f"no answer ({answer.reason}: {answer.detail}); look at kombo.base_url, kombo.proxy, kombo.ca_file and the network",
            None,
        )
    if not isinstance(answer, Refused):
        return KeyCheck(
            KeyState.UNKNOWN, "the API knows a task that cannot exist; look at kombo.base_url", None
        )
    key, message = _judge(answer)
    # The Date header is cut to the second; half a second later is the best guess.
    ahead = None if answer.api_time is None else (halfway - answer.api_time - 500) / 1000
    return KeyCheck(key, message, ahead)


def _judge(answer: Refused) -> tuple[KeyState, str]:
    code, status = answer.error.code, answer.status
    if code in _REFUSED_BECAUSE:
        return KeyState.REFUSED, f"{_REFUSED_BECAUSE[code]} ({code}, HTTP {status})"
    if code is None and status in (401, 403):
        return KeyState.REFUSED, f"HTTP {status} without an error code: the API key or our address is refused"
    if status == 429 or status >= 500:
        return KeyState.UNKNOWN, f"the API is busy or down (HTTP {status}); try again"
    if code is None and status != 404:
        return (
            KeyState.UNKNOWN,
            f"HTTP {status} without an error code; look at kombo.base_url and kombo.proxy",
        )
    if code is None:
        return KeyState.ACCEPTED, (
            "the API accepts the API key (it told no error code, HTTP 404: if submissions are refused like that, "
            "look at kombo.base_url)"
        )
    return KeyState.ACCEPTED, "the API accepts the API key"
