"""`check_key` through the real client and a real socket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from daemon.kombo.api_key import ApiKeyFile
from daemon.kombo.client import KomboClient
from daemon.kombo.probe import INTEGRATION_ID, TASK_ID, KeyCheck, KeyState, check_key
from tests.unit.misbehaving_server import answers, sends, serving

DATE = "Wed, 12 Mar 2025 14:31:00 GMT"
DATE_MS = 1741789860000


def error(code: str | None) -> dict[str, Any]:
    return {"status": "error", "error": {"code": code, "title": None, "message": "m", "log_url": None}}


async def check(tmp_path: Path, *behaviour: Any, now: int = DATE_MS) -> tuple[KeyCheck, list[Any]]:
    (tmp_path / "key").write_text("some-api-key")
    async with serving(*behaviour) as server:
        api = KomboClient(f"{server.address}/v1", ApiKeyFile(tmp_path / "key"), 60.0, 1)
        try:
            return await check_key(api, lambda: now), server.requests
        finally:
            await api.close()


@pytest.mark.parametrize(
    ("status", "body", "state", "says"),
    [
        (401, error("PLATFORM.AUTHENTICATION_INVALID"), KeyState.REFUSED, "write a valid key into the file"),
        (403, error("PLATFORM.IP_NOT_WHITELISTED"), KeyState.REFUSED, "our IP address"),
        (401, b"", KeyState.REFUSED, "401"),
        (404, error("PLATFORM.INTEGRATION_NOT_FOUND"), KeyState.ACCEPTED, "accepts"),
        (404, error(None), KeyState.ACCEPTED, "kombo.base_url"),
        (400, error("PLATFORM.INPUT_INVALID"), KeyState.ACCEPTED, "accepts"),
        (400, b"<html>", KeyState.UNKNOWN, "kombo.base_url"),
        (302, b"", KeyState.UNKNOWN, "kombo.base_url"),
        (429, error("PLATFORM.RATE_LIMIT_EXCEEDED"), KeyState.UNKNOWN, "try again"),
        (503, b"", KeyState.UNKNOWN, "try again"),
        (200, b"<html>", KeyState.UNKNOWN, "kombo.proxy"),
    ],
)
async def test_what_the_answer_says_of_the_key(
    tmp_path: Path, status: int, body: Any, state: KeyState, says: str
) -> None:
    found, requests = await check(tmp_path, answers(status, body))
    assert found.key is state
    assert says in found.message
    assert [(r.method, r.target) for r in requests] == [("GET", f"/v1/lms/courses/bulk/{TASK_ID}")]
    assert requests[0].headers["x-integration-id"] == INTEGRATION_ID


async def test_nobody_answers(tmp_path: Path) -> None:
    found, _ = await check(tmp_path, sends(b"", then="close"))
    assert (found.key, found.clock_ahead) == (KeyState.UNKNOWN, None)


async def test_how_far_our_clock_is_ahead(tmp_path: Path) -> None:
    behaviour = answers(404, error(None), Date=DATE)
    ahead, _ = await check(tmp_path, behaviour, now=DATE_MS + 90_500)
    behind, _ = await check(tmp_path, behaviour, now=DATE_MS - 89_500)
    assert (ahead.clock_ahead, behind.clock_ahead) == (90.0, -90.0)
    unknown, _ = await check(tmp_path, answers(404, error(None)))
    assert unknown.clock_ahead is None
