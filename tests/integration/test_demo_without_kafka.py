"""On a machine without Java and Maven the demo still shows the main job, and says what it is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path


def run(*arguments: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if name not in ("JAVA_HOME", "KAFKA", "PATH")
    }
    environment |= {"PATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "COLUMNS": "120"}
    command = [sys.executable, "-m", "tests.sandbox", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_the_demo_runs_in_one_process_and_says_so(tmp_path: Path) -> None:
    ended = run(
        "demo", "--changes", "300", "--rate", "600", "--directory", str(tmp_path / "out"), tmp_path=tmp_path
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr
    shown = " ".join(ended.stdout.split())
    assert "Not on a real Kafka" in shown
    assert "never used in production" in shown
    assert "The contract was kept." in shown
    report = json.loads((tmp_path / "out" / "report.json").read_bytes())
    assert report["log"] == "embedded"
    assert report["changes"] == 300
    assert sum(report["results"].values()) == 300
    assert report["kills"] == 1


def test_what_needs_several_processes_names_what_is_missing(tmp_path: Path) -> None:
    ended = run("up", "--directory", str(tmp_path / "out"), tmp_path=tmp_path)

    assert ended.returncode != 0
    assert "Apache Kafka needs Java 17" in " ".join(ended.stderr.split())
