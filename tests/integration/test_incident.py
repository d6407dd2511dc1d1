"""The script of docs/incident.md, without its pictures: the same commands, on a sandbox that a user has started."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.daemon_world import change
from tests.integration.sandbox_command import DEADLINE, SANDBOX, Running, running, wait_until
from tests.sandbox.checker.verdict import Kind
from tests.sandbox.local_http import get, post

pytestmark = [pytest.mark.endurance, pytest.mark.kafka, pytest.mark.usefixtures("startable_kafka")]

COURSESYNCD = str(Path(sys.executable).with_name("coursesyncd"))
CODE = "INTEGRATION.PERMISSION_MISSING"
BROKEN, OTHER = "docebo:1", "workday:1"
PART = 20
"""Changes of each customer that are published at a time."""


class Operator:
    """Somebody in another terminal, who has sourced the file `env`."""

    def __init__(self, sandbox: Running, env: Path) -> None:
        self.sandbox = sandbox
        exports = (line for line in env.read_text().splitlines() if not line.startswith("export PATH"))
        pairs = (shlex.split(line)[1].partition("=") for line in exports)
        self.environment = {**os.environ, **{name: value for name, _, value in pairs}}

    def types(self, *words: str, typed: str | None = None) -> str:
        done = subprocess.run(
            words,
            input=typed,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr, self.sandbox.output())
        return done.stdout

    def results(self, *options: str) -> list[dict[str, Any]]:
        lines = self.types(COURSESYNCD, "results", "--since", "1h", "--json", *options).splitlines()
        return [json.loads(line)["data"] for line in lines]

    def publishes(self, file: Path, first: int) -> None:
        """Changes of courses of their own, so that each one that fails can be sent again."""
        changes = [
            change(number, integration_id=customer)
            for number in range(first, first + PART)
            for customer in (BROKEN, OTHER)
        ]
        file.write_text("".join(f"{json.dumps(each)}\n" for each in changes))
        self.types(COURSESYNCD, "publish", str(file))

    def waiting(self) -> int:
        """Changes of the broken customer that wait, by `coursesyncd integrations`."""
        rows = self.types(COURSESYNCD, "integrations", "list", BROKEN, "--json").splitlines()
        return sum(json.loads(row)["waiting"] for row in rows)

    def decisions_were_read_at(self) -> float:
        """Unix time, by the daemon."""
        metrics = get(f"http://127.0.0.1:{self.environment['COURSESYNC_ADMIN_PORT']}/metrics").decode()
        return float(
            re.findall(r"^coursesync_control_read_timestamp_seconds(?:\{.*\})? (\S+)", metrics, re.MULTILINE)[
                0
            ]
        )

    def faults(self, plan: str) -> None:
        post(f"{self.environment['SIMULATOR']}/_sim/faults", plan.encode())

    def until(self, condition: Callable[[], bool]) -> None:
        wait_until(condition, self.sandbox)


def test_a_customer_breaks_and_is_repaired_and_nothing_is_lost(tmp_path: Path) -> None:
    with running(tmp_path, "up") as sandbox:
        wait_until(lambda: "Everything is running" in sandbox.output(), sandbox)
        operator = Operator(sandbox, tmp_path / "env")
        broken = {"fault": "item_fails", "integrations": ["docebo:*"], "codes": [CODE]}
        operator.faults(json.dumps({"rules": [broken]}))
        operator.publishes(tmp_path / "first.jsonl", 0)
        operator.until(lambda: len(operator.results()) == 2 * PART)
        failed = operator.results("--status", "failed", "--integration", BROKEN)
        assert {each["error"]["code"] for each in failed} == {CODE}
        assert len(failed) == PART

        said = operator.types(COURSESYNCD, "pause", BROKEN, "--by", "maria", "--reason", "ticket 4712")
        assert "paused until it is resumed" in said
        decided_at = time.time()
        operator.until(lambda: operator.decisions_were_read_at() > decided_at)
        operator.publishes(tmp_path / "second.jsonl", PART)
        operator.until(lambda: len(operator.results()) == 3 * PART and operator.waiting() == PART)

        operator.faults("none")
        assert "resumed" in operator.types(COURSESYNCD, "resume", BROKEN)
        republish = (COURSESYNCD, "republish", "--status", "failed", "--integration", BROKEN, "--since", "1h")
        assert f"{PART} changes to be sent again" in operator.types(*republish, "--dry-run")
        assert f"{PART} changes sent again." in operator.types(*republish, typed="y\n")
        operator.until(lambda: len(operator.results()) == 5 * PART)
        statuses = Counter(each["status"] for each in operator.results())
        assert statuses == {"FAILED": PART, "SUCCEEDED": 4 * PART}
        assert "Nothing to send." in operator.types(*republish)

        verdict = json.loads(operator.types(*SANDBOX, "check", "--json"))
        assert verdict["changes"] == 5 * PART
        assert {kind: verdict[kind.value] for kind in Kind if verdict[kind.value]} == {}
