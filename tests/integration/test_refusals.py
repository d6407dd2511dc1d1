"""Refusals of one integration each, side by side: none of them is put on its customer, on the others or on our key."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.daemon_world import (
    DEADLINE,
    UNHURRIED,
    await_results,
    good,
    log_lines,
    metric,
    probe,
    publish,
    wait_until,
)
from tests.sandbox.stack import Stack

pytestmark = [pytest.mark.endurance, pytest.mark.kafka]

KEY, ADDRESS = "PLATFORM.AUTHENTICATION_INVALID", "PLATFORM.IP_NOT_WHITELISTED"
COURSESYNCD = str(Path(sys.executable).with_name("coursesyncd"))
PROBE_MAX = 4.0
REFUSED: dict[str, dict[str, Any]] = {
    "key:1": {"fault": "submit_refused", "statuses": [401], "code": KEY},
    "timeout:1": {"fault": "submit_refused", "statuses": [408]},
    "early:1": {"fault": "submit_refused", "statuses": [425]},
    "method:1": {"fault": "submit_refused", "statuses": [405]},
    "absent:1": {"fault": "submit_refused", "statuses": [404]},
    "asks-an-hour:1": {"fault": "submit_throttled", "retry_after": 3600},
    "asks-three-years:1": {"fault": "submit_throttled", "retry_after": 99_999_999},
}
GOOD = ("good:1", "good:2")
SETTINGS = {
    **UNHURRIED,
    "park.probe_min": "1s",
    "park.probe_max": f"{PROBE_MAX:g}s",
    "retry.backoff_min": "1s",
    "retry.backoff_max": "1s",
    "http.deadline": "20s",
}


@pytest.fixture
def stack(tmp_path: Path, kafka_bootstrap: str) -> Iterator[Stack]:
    with Stack(
        tmp_path, faults="none", seed=1, say=print, kafka=kafka_bootstrap, task_seconds=0.2, settings=SETTINGS
    ) as stack:
        yield stack


def refusals(stack: Stack, integration: str, count: int) -> list[dict[str, Any]]:
    """The first log lines of this integration's refusals, when there are so many."""

    def enough() -> list[dict[str, Any]] | None:
        lines = [line for line in log_lines(stack, "batch.refused") if line["integration"] == integration]
        return lines[:count] if len(lines) >= count else None

    return wait_until(enough, f"{count} refusals of {integration}")


def submissions(stack: Stack) -> dict[str, dict[str, Any]]:
    command = [COURSESYNCD, "inspect", "submissions", "--json"]
    told = subprocess.run(
        command, env=stack.environment, capture_output=True, text=True, timeout=DEADLINE, check=True
    )
    return {row["integration_id"]: row for row in map(json.loads, told.stdout.splitlines())}


def test_refusals_of_single_integrations(stack: Stack) -> None:
    rules = [{**rule, "integrations": [name]} for name, rule in REFUSED.items()]
    stack.tell_simulator("faults", json.dumps({"rules": rules}).encode())
    stack.start_daemon()
    stack.await_ready()
    names = [*REFUSED, *GOOD]
    publish(stack, *(good(n, integration_id=name) for n, name in enumerate(names)))
    verdicts = {}
    for name in REFUSED:
        lines = refusals(stack, name, 4 if name == "key:1" else 2)
        verdicts[name] = lines[-1]["verdict"]
    assert verdicts == {
        "key:1": "our_side",
        "timeout:1": "retry",
        "early:1": "retry",
        "method:1": "retry",
        "absent:1": "fate_unknown",
        "asks-an-hour:1": "retry",
        "asks-three-years:1": "retry",
    }

    # The refusal of one integration's key neither halts nor hurries: ready at any time, and a wait that grows.
    waits = [line["again_in_s"] for line in refusals(stack, "key:1", 4)]
    assert waits == [pytest.approx(each, rel=0.15) for each in (1.0, 2.0, 4.0, 4.0)]
    assert not log_lines(stack, "api.halted")
    assert {line["key"] for line in log_lines(stack, "api.key_probed")} == {"works"}
    assert probe(stack.addresses.admin_url, "readyz")[0] == 200

    # Retry-After counts up to the longest probe interval, and not at all if it is absurd.
    (hour, _), (years, _) = (refusals(stack, f"asks-{time}:1", 2) for time in ("an-hour", "three-years"))
    assert (hour["retry_after_s"], hour["again_in_s"]) == (3600, PROBE_MAX)
    assert years["retry_after_s"] == 99_999_999
    assert years["again_in_s"] <= 1.0

    # Whatever backs off is told, with the reason and the end, and nobody waits for a customer.
    def told() -> dict[str, dict[str, Any]] | None:
        rows = submissions(stack)
        known = [row for row in rows.values() if row["last_error"] and row["not_before"]]
        return rows if len(known) == len(rows) == len(REFUSED) else None

    rows = wait_until(told, "the reason of each refusal")
    assert rows["key:1"]["last_error"]["code"] == KEY
    assert rows["timeout:1"]["last_error"]["message"].startswith("HTTP 408")
    _, state = probe(stack.addresses.admin_url, "state")
    reasons = {group["reason"]: group["state"] for group in state["back_offs"]}
    assert reasons.pop("PLATFORM.RATE_LIMIT_EXCEEDED") == "throttled"
    assert reasons == dict.fromkeys((KEY, "HTTP 408", "HTTP 425", "HTTP 405", "HTTP 404"), "breaker_open")
    assert metric(stack, "coursesync_integrations_by_state", state="parked") == 0
    assert metric(stack, "coursesync_changes_waiting", reason="refused") == len(REFUSED)

    stack.tell_simulator("faults", b"none")
    ended = await_results(stack, len(names))
    assert {data["status"] for data in ended} == {"SUCCEEDED"}
    assert {data["attempts"] for data in ended} == {1}, "the same bytes, whatever was refused"
    wait_until(lambda: not submissions(stack), "an empty journal")


def test_the_only_integration_of_all_halts_when_a_call_of_our_own_is_refused_too(stack: Stack) -> None:
    """No second integration could ever say the same. The right key in the file ends the wait of the batch as well."""
    stack.tell_simulator("key", b'{"api_key": "the-right-key-1234"}')
    stack.start_daemon()
    stack.await_ready()
    publish(stack, good(1))
    wait_until(lambda: log_lines(stack, "api.halted"), "the halt")
    assert [line["key"] for line in log_lines(stack, "api.key_probed")] == ["refused"]
    assert probe(stack.addresses.admin_url, "readyz")[0] == 503
    stack.api_key_file.write_text("the-right-key-1234\n")
    assert [data["status"] for data in await_results(stack, 1)] == ["SUCCEEDED"]
    wait_until(lambda: probe(stack.addresses.admin_url, "readyz")[0] == 200, "readiness")
