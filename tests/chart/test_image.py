"""The Dockerfile: linted, its steps carried out, and the daemon run from what they made: with the chart's settings, and as
compose.yaml starts it.
"""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.log.port import Topics
from tests.sandbox.ports import free_ports

from .compose_services import Services
from .image_steps import (
    DOCKERFILE,
    ROOT,
    SETTINGS,
    ImageSteps,
    instructions,
    stages,
    status,
    wait_until,
)
from .rendering import MINIMAL, Helm

BIN = Path(sys.executable).parent
CANARY = "canary-4711"
"""The content of each file with a secret."""
CHANGES = 20
GENERATED = 30


def test_hadolint_finds_nothing() -> None:
    done = subprocess.run(
        [BIN / "hadolint", DOCKERFILE], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_hadolint_would_find_something() -> None:
    bad = "FROM python:latest\nRUN cd /x\n"
    done = subprocess.run(
        [BIN / "hadolint", "-"], input=bad, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "DL3007" in done.stdout


def test_one_argument_pins_the_base_of_every_stage_that_has_one() -> None:
    """So `--build-arg PYTHON=…@sha256:…` leaves no other image that could change."""
    froms = [rest.split() for keyword, rest in instructions() if keyword == "FROM"]
    built = {name for _, _, name in froms}
    assert {base for base, _, _ in froms if base not in built} == {"${PYTHON}"}
    before_the_first = [keyword for keyword, _ in instructions()][:2]
    assert before_the_first == ["ARG", "FROM"]
    images = [rest for keyword, rest in instructions() if keyword == "COPY" and rest.startswith("--from=")]
    assert {rest.split()[0].removeprefix("--from=") for rest in images} <= built


def test_what_is_built_without_a_target_is_the_daemon_alone() -> None:
    """The last stage: it runs nothing as root and ends with a process that hears signals."""
    name, stage = list(stages().items())[-1]
    assert name == "daemon"
    assert "RUN" not in dict(stage)
    assert dict(stage)["USER"] == "65532:65532"
    assert json.loads(dict(stage)["ENTRYPOINT"]) == ["coursesyncd"]  # exec form: JSON
    assert json.loads(dict(stage)["CMD"]) == ["run"]
    (copied,) = (rest for keyword, rest in stage if keyword == "COPY")
    assert copied == "--from=build /opt/course-sync-daemon /opt/course-sync-daemon"


def test_the_sandbox_has_besides_the_daemon_only_what_it_is_made_of() -> None:
    daemon, sandbox = stages()["daemon"], stages()["sandbox"]
    assert "RUN" not in dict(sandbox)
    assert dict(sandbox)["USER"] == dict(daemon)["USER"]
    copied = [rest for keyword, rest in sandbox if keyword == "COPY"]
    assert [rest for rest in copied if rest.startswith("--from=")] == [
        rest for keyword, rest in daemon if keyword == "COPY"
    ]
    own = {rest.split()[0] for rest in copied if not rest.startswith("--from=")}
    assert own == {"tests/__init__.py", "tests/sandbox/", "tests/embedded_log/"}


def test_dependencies_are_pinned_by_hash_and_installed_before_the_source_is_there() -> None:
    steps = [rest for keyword, rest in instructions() if keyword in ("COPY", "RUN")]
    dependencies = next(
        index for index, rest in enumerate(steps) if "requirements/${REQUIREMENTS}" in rest and "pip" in rest
    )
    source = next(index for index, rest in enumerate(steps) if rest.startswith("daemon/"))
    assert dependencies < source
    assert steps[dependencies].count("--require-hashes") == steps[dependencies].count("-r requirements/")
    assert "--no-index" in steps[source + 1]


def test_only_what_the_dockerfile_copies_is_sent_to_the_builder() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    copied = {
        source
        for keyword, rest in instructions()
        if keyword == "COPY" and not rest.startswith("--")
        for source in rest.split()[:-1]
    }
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == copied
    assert all((ROOT / source).exists() for source in copied)


def test_the_environment_belongs_to_root_and_has_no_installer(image: ImageSteps) -> None:
    files = [path for path in image.environment.rglob("*") if not path.is_symlink()]

    assert {path.name for path in files} >= {"coursesyncd", "entry.py"}
    assert not any(path.name in ("pip", "setuptools", "hatchling") for path in files)
    assert {path.stat().st_uid for path in files} == {0}
    assert not any(path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH) for path in files)
    assert any(path.name.startswith("entry.cpython") for path in files)  # compiled: it could not be later on
    (package,) = image.environment.glob("lib/python*/site-packages/daemon")
    assert not (package.parent / "tests").exists()
    assert {path.suffix for path in package.rglob("*") if path.is_file()} == {".py", ".pyc"}


@pytest.mark.parametrize("user", [None, "1000680000:0"], ids=["of the image", "as OpenShift assigns it"])
def test_it_runs_as_process_1_with_the_charts_settings_and_ends_by_sigterm(
    image: ImageSteps, helm: Helm, tmp_path: Path, user: str | None
) -> None:
    """No directory is writable, /tmp neither, and there is no Kafka: up, alive, and not ready."""
    (port,) = free_ports(1)
    config = {
        "kafka": {
            "bootstrap_servers": "127.0.0.1:1",
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "PLAIN",
            "sasl_username": "course-sync",
            "sasl_password_file": {"secret": "course-sync-kafka"},
        },
        "kombo": {"base_url": "http://127.0.0.1:1/v1"},
        "admin": {"port": port},
        "log": {"level": "debug"},
    }
    rendered = helm.render(MINIMAL, {"config": config})
    toml = rendered.settings_file.replace("/etc/course-sync-daemon", SETTINGS)
    (image.settings / "coursesync.toml").write_text(toml)
    for path in rendered.mounted_files:
        (image.settings / Path(path).name).write_text(CANARY)
    variables = {
        "COURSESYNC_CONFIG": f"{SETTINGS}/coursesync.toml",
        "COURSESYNC_KAFKA_GROUP_INSTANCE_ID": "prod-sync-0",
    }

    with image.running(
        *rendered.container["args"], variables=variables, log=tmp_path / "log", user=user
    ) as child:

        def probe(name: str) -> int:
            return status(port, rendered.container[name]["httpGet"]["path"], child)

        wait_until(lambda: probe("startupProbe") == 200, "started")
        assert probe("livenessProbe") == 200
        assert probe("readinessProbe") == 503
        wait_until(lambda: "library.kafka" in child.output(), "an attempt to reach Kafka")
        child.terminate()
        assert child.wait(60) == 0, child.obituary()
        assert CANARY not in child.output()


def test_the_pod_of_helm_test_says_what_is_missing(image: ImageSteps, helm: Helm, tmp_path: Path) -> None:
    """Without Kafka and API it fails, and its output names both."""
    config = {
        "kafka": {"bootstrap_servers": "127.0.0.1:1", "security_protocol": "PLAINTEXT"},
        "kombo": {"base_url": "http://127.0.0.1:1/v1"},
    }
    rendered = helm.render(MINIMAL, {"config": config})
    (container,) = rendered.one("Pod")["spec"]["containers"]
    (image.settings / "coursesync.toml").write_text(
        rendered.settings_file.replace("/etc/course-sync-daemon", SETTINGS)
    )
    (image.settings / "kombo.api_key_file").write_text(CANARY)
    variables = {"COURSESYNC_CONFIG": f"{SETTINGS}/coursesync.toml"}

    with image.running(*container["args"], variables=variables, log=tmp_path / "log") as check:
        assert check.wait(120) == 1, check.obituary()
        assert "no mistakes" in check.output()
        assert "Kafka at 127.0.0.1:1 refuses connections" in check.output()
        assert "kombo.base_url" in check.output()
        assert CANARY not in check.output()


@pytest.mark.kafka
def test_changes_go_through_what_compose_starts(
    image: ImageSteps, kafka_bootstrap: str, topic_names: Topics, tmp_path: Path
) -> None:
    services = Services(image, kafka_bootstrap, topic_names, tmp_path)
    changes = tmp_path / "changes.jsonl"
    course = {"type": "EXTERNAL", "title": "Title", "course_url": "https://example.com/c/1"}
    lines = [
        {
            "id": f"chg-{number}",
            "type": "course.upserted",
            "integration_id": "tool:1",
            "origin_id": f"c-{number}",
        }
        for number in range(CHANGES)
    ]
    changes.write_text("".join(json.dumps(line | {"course": course}) + "\n" for line in lines))

    with services.running("topics") as topics:
        assert topics.wait(120) == 0, topics.obituary()
    with services.running("simulator") as simulator, services.running("daemon") as daemon:
        wait_until(lambda: status(services.simulator_port, "/_sim/stats", simulator) == 200, "a simulator")
        wait_until(lambda: status(services.admin_port, "/readyz", daemon) == 200, "a daemon that is ready")
        services.outside("publish", str(changes))
        with services.generating(GENERATED) as generator:
            assert generator.wait(120) == 0, generator.obituary()

        def all_resolved() -> bool:
            return len(services.outside("results", "--json").splitlines()) >= CHANGES + GENERATED

        wait_until(all_resolved, "all results", timeout=180)
        daemon.terminate()
        assert daemon.wait(120) == 0, daemon.obituary()

    events = [json.loads(line) for line in services.outside("results", "--json").splitlines()]
    assert len(events) == CHANGES + GENERATED
    assert {event["data"]["change_id"] for event in events} >= {line["id"] for line in lines}
