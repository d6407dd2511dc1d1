"""compose.yaml, as far as it can be looked at without a container engine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from daemon.cli import main as coursesyncd
from daemon.config import load_settings
from tests.sandbox.cli import sandbox
from tests.sandbox.kafka_jars import kafka_version

from .dockerfile import stages
from .rendering import CHART

ROOT = CHART.parents[1]
COMPOSE = ROOT / "compose.yaml"
BIN = Path(sys.executable).parent
PARSED: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
OURS = {name: service for name, service in PARSED["services"].items() if "build" in service}


PROGRAMS: dict[str, tuple[str, click.Command]] = {
    "daemon": ("coursesyncd", coursesyncd),
    "sandbox": ("python -m tests.sandbox", sandbox),
}
"""What each target of the Dockerfile starts."""


def parse(command: click.Command, words: list[str]) -> None:
    """As the program would; raises click.UsageError. Nothing is run."""
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words[0])
        assert found is not None, f"{command.name} has no {words[0]}"
        command, words = found, words[1:]
    command.make_context(command.name, list(words))


def test_it_keeps_to_the_specification() -> None:
    check = [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(check, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", OURS)
def test_the_commands_of_its_services_are_ones_of_their_programs(name: str) -> None:
    program, command = PROGRAMS[OURS[name]["build"]["target"]]
    entry = json.loads(dict(stages()[OURS[name]["build"]["target"]])["ENTRYPOINT"])
    assert entry[-len(program.split()) :] == program.split()
    parse(command, OURS[name]["command"])


def test_only_what_needs_the_sandbox_is_built_from_it() -> None:
    targets = {name: service["build"]["target"] for name, service in OURS.items()}
    assert targets == {"topics": "daemon", "simulator": "sandbox", "daemon": "daemon"}
    assert OURS["simulator"]["image"] != OURS["daemon"]["image"]


def test_the_commands_in_its_head_are_ones_of_the_services_programs() -> None:
    head = COMPOSE.read_text(encoding="utf-8").partition("name:")[0]
    typed = re.findall(r"exec (\w+) (.+)", head)
    assert len(typed) == 2
    for service, line in typed:
        program, command = PROGRAMS[OURS[service]["build"]["target"]]
        assert line.startswith(f"{program} ")
        parse(command, line.removeprefix(program).split())


def test_a_command_that_is_not_one_would_be_found() -> None:
    with pytest.raises(click.UsageError):
        parse(coursesyncd, ["topics", "create", "--partition-count", "6"])


def test_the_daemon_takes_its_settings_and_meets_the_simulator(tmp_path: Path) -> None:
    (api_key,) = (PARSED["configs"][name]["content"] for name in OURS["daemon"]["configs"])
    key_file = tmp_path / "api-key"
    key_file.write_text(api_key)
    variables = dict(OURS["daemon"]["environment"])
    assert variables["COURSESYNC_KOMBO_API_KEY_FILE"] == "/api-key"  # where a config of this name is mounted

    settings = load_settings(variables | {"COURSESYNC_KOMBO_API_KEY_FILE": str(key_file)})

    simulator = OURS["simulator"]["command"]
    port = simulator[simulator.index("--port") + 1]
    assert settings.kombo.base_url == f"http://127.0.0.1:{port}/v1"
    assert simulator[simulator.index("--api-key") + 1] == api_key
    assert {service["network_mode"] for service in OURS.values()} == {"service:kafka"}
    published = {entry.split(":")[-1] for entry in PARSED["services"]["kafka"]["ports"]}
    assert published == {"9092", port, str(settings.admin.port)}


def test_kafka_is_the_one_of_the_tests() -> None:
    assert PARSED["services"]["kafka"]["image"] == f"apache/kafka:{kafka_version()}"


def test_nothing_listens_beyond_this_machine() -> None:
    ports = [port for service in PARSED["services"].values() for port in service.get("ports", ())]
    assert len(ports) >= 5
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_what_it_mounts_is_there() -> None:
    mounted = [entry for service in PARSED["services"].values() for entry in service.get("volumes", ())]
    assert mounted
    assert all((ROOT / entry.split(":")[0]).exists() for entry in mounted)


def test_prometheus_takes_its_configuration(promtool: str, tmp_path: Path) -> None:
    (tmp_path / "prometheus.yml").write_text(PARSED["configs"]["prometheus"]["content"])
    (tmp_path / "alerts.yaml").write_bytes((CHART / "files" / "alerts.yaml").read_bytes())

    check = [promtool, "check", "config", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(check, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rules found" in done.stdout
    assert "job_name: course-sync-daemon" in PARSED["configs"]["prometheus"]["content"]
