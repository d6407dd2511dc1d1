"""The limit of open files: raised, compared with the settings at the start, and with the partitions later."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from daemon.admin.gate import DESCRIPTORS_MAX as ADMIN_MAX
from daemon.commands.check import open_files_finding
from daemon.commands.finding import Level
from daemon.commands.open_files import PARTITION_MAX, PROCESS_MAX, OpenFiles, watch_open_files
from daemon.core.model import Now
from daemon.telemetry.health import Health

COURSESYNCD = str(Path(sys.executable).with_name("coursesyncd"))


def run_with_limits(soft: int, hard: int, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    script = f'ulimit -S -n {soft}; ulimit -H -n {hard}; exec "$@"'
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COURSESYNC_")}
    return subprocess.run(
        ["sh", "-c", script, "sh", *command],
        env=environment | env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(("soft", "hard"), [(256, 900), (900, 900)])
def test_the_soft_limit_is_raised_to_the_hard_one(soft: int, hard: int) -> None:
    code = (
        "import resource; from daemon.commands.open_files import raise_limit; "
        "print(raise_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    assert run_with_limits(soft, hard, sys.executable, "-c", code).stdout.split() == [str(hard)] * 3


def test_too_many_calls_for_the_limit_are_a_mistake_of_the_configuration(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("k")
    done = run_with_limits(
        256,
        512,
        COURSESYNCD,
        "run",
        COURSESYNC_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:9",
        COURSESYNC_KOMBO_API_KEY_FILE=str(key),
        COURSESYNC_HTTP_IN_FLIGHT_MAX="400",
    )
    assert done.returncode == 2
    assert done.stderr == (
        "http.in_flight_max: 400 calls in flight, the admin port (160), the process (64) and one partition (12) need "
        "636 open files, but this process may have 512; lower http.in_flight_max to 276, or raise the hard limit of "
        "open files: ulimit -Hn in a shell, LimitNOFILE of systemd, --ulimit nofile of a container\n"
    )


def test_what_the_sentence_proposes_is_enough_and_no_more_is() -> None:
    assert OpenFiles(512, 277).mistake() is not None
    assert OpenFiles(512, 276).mistake() is None
    assert OpenFiles(512, 276).partitions_max == 1


def test_a_limit_that_is_too_low_for_any_setting_is_said_to_be_that() -> None:
    mistake = OpenFiles(200, 64).mistake()
    assert mistake is not None
    assert "lower" not in mistake
    assert "raise the hard limit" in mistake


def test_the_defaults_fit_into_1024_files_with_many_partitions() -> None:
    assert OpenFiles(1024, 64).partitions_max == (1024 - 64 - ADMIN_MAX - PROCESS_MAX) // PARTITION_MAX
    assert OpenFiles(1024, 64).partitions_max >= 60


def test_no_limit_is_never_short() -> None:
    files = OpenFiles(resource.RLIM_INFINITY, 1000)
    assert files.mistake() is None
    assert not files.is_short(10_000)


async def test_more_partitions_than_there_are_files_for_are_a_warning_each_time_there_are_more() -> None:
    files = OpenFiles(1024, 64)
    health = Health((), lambda: Now(0, 0.0))
    with structlog.testing.capture_logs() as lines:
        watching = asyncio.create_task(watch_open_files(files, health, interval=0.0))

        async def held(count: int) -> list[int]:
            health.assigned(range(count))
            for _ in range(10):
                await asyncio.sleep(0)
            return [line["partitions"] for line in lines]

        assert await held(files.partitions_max) == []
        assert await held(files.partitions_max + 1) == [62]
        assert await held(files.partitions_max + 1) == [62]
        assert await held(3) == [62]
        assert await held(100) == [62, 100]
        watching.cancel()
    assert lines[-1] == {
        "event": "open_files.short",
        "log_level": "warning",
        "partitions": 100,
        "partitions_max": 61,
        "needed": 64 + ADMIN_MAX + PROCESS_MAX + 100 * PARTITION_MAX,
        "limit": 1024,
    }


def test_check_finds_too_many_calls_for_the_limit(tmp_path: Path) -> None:
    """Before it asks Kafka, and beside whatever else is wrong."""
    key = tmp_path / "key"
    key.write_text("k")
    done = run_with_limits(
        256,
        512,
        COURSESYNCD,
        "check",
        COURSESYNC_KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:9",
        COURSESYNC_KOMBO_API_KEY_FILE=str(key),
        COURSESYNC_KOMBO_BASE_URL="http://127.0.0.1:9",
        COURSESYNC_HTTP_IN_FLIGHT_MAX="400",
    )
    assert done.returncode == 1
    assert "WRONG   open files: http.in_flight_max: 400 calls in flight" in done.stdout
    assert "WRONG   kafka: " in done.stdout


@pytest.mark.parametrize("spare", [-1, 0])
@pytest.mark.parametrize("partitions", [1, 2, 50])
def test_check_advises_a_limit_that_is_enough_for_all_partitions(partitions: int, spare: int) -> None:
    limit = 64 + ADMIN_MAX + PROCESS_MAX + partitions * PARTITION_MAX + spare
    found = open_files_finding(OpenFiles(limit, 64), partitions)
    assert found.level is (Level.OK if spare == 0 else Level.ADVICE)
    assert str(partitions) in found.found
    assert (f"needs {limit - spare}" in found.found) is (spare < 0)


def test_check_is_content_without_a_limit() -> None:
    assert open_files_finding(OpenFiles(resource.RLIM_INFINITY, 64), 10_000).level is Level.OK
