"""Checks whether the API accepts the API key, and whether the local clock agrees with the API's: for ``coursesyncd
check``.

The request has no side effects: it asks for the status of a task that cannot exist, for an integration that cannot
exist. The API checks the key first. Any refusal by the API other than that of the key or of our address means that
the key is valid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from daemon.core.answers import NoAnswer, Refused
from daemon.core.verdict import is_denial, shows_working_key
from daemon.kombo.port import KomboApi

INTEGRATION_ID = "coursesyncd:check"
TASK_ID = "coursesyncd-check"

REFUSED_BECAUSE = {
    "PLATFORM.AUTHENTICATION_INVALID": "the API refuses the API key; write a valid key into the file kombo.api_key_file",
    "PLATFORM.IP_NOT_WHITELISTED": "the API refuses our IP address; add it to the allowed addresses of the API key",
}


class KeyState(StrEnum):
    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    """The API could not be reached, or its answer says nothing about the key."""


@dataclass(frozen=True, slots=True)
class KeyCheck:
    key: KeyState
    message: str
    """Text for people: the finding and the remedy."""
    clock_ahead: float | None
    """Seconds by which the local clock is ahead of the API's, to about a second; None if the answer had no time."""


async def check_key(api: KomboApi, wall_clock: Callable[[], int]) -> KeyCheck:
    """Make one call. `wall_clock` returns ms since the epoch. Never raises because of network errors."""
    asked = wall_clock()
    answer = await api.poll(INTEGRATION_ID, TASK_ID, items=0)
    halfway = (asked + wall_clock()) / 2
    if isinstance(answer, NoAnswer):
        return KeyCheck(
            KeyState.UNKNOWN,
            f"no answer ({answer.reason}: {answer.detail}); check kombo.base_url, kombo.proxy, kombo.ca_file and the network",
            None,
        )
    if not isinstance(answer, Refused):
        return KeyCheck(
            KeyState.UNKNOWN, "the API returned a task that cannot exist; check kombo.base_url", None
        )
    key, message = _judge(answer)
    # The Date header has whole seconds; adding half a second is the best estimate.
    ahead = None if answer.api_time is None else (halfway - answer.api_time - 500) / 1000
    return KeyCheck(key, message, ahead)


def _judge(answer: Refused) -> tuple[KeyState, str]:
    code, status = answer.error.code, answer.status
    if code in REFUSED_BECAUSE:
        return KeyState.REFUSED, f"{REFUSED_BECAUSE[code]} ({code}, HTTP {status})"
    if is_denial(code, status):
        return (
            KeyState.REFUSED,
            f"HTTP {status} without an error code: the API refuses the API key or our IP address",
        )
    if not shows_working_key(code, status):
        if status == 429 or status >= 500:
            return KeyState.UNKNOWN, f"the API is busy or down (HTTP {status}); try again"
        return (
            KeyState.UNKNOWN,
            f"HTTP {status} without an error code; check kombo.base_url and kombo.proxy",
        )
    if code is None:
        return KeyState.ACCEPTED, (
            "the API accepts the API key (HTTP 404 without an error code; if submissions get the same answer, "
            "check kombo.base_url)"
        )
    return KeyState.ACCEPTED, "the API accepts the API key"
