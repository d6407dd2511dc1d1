"""The image as a person runs it: built from the Dockerfile, as an unprivileged user, on a root that cannot be written."""

from __future__ import annotations

import json
import re
import time
from importlib.metadata import version
from pathlib import Path

import pytest

from daemon.log.port import Topics
from tests.sandbox.ports import free_ports

from .compose_services import Services
from .container_engine import IMAGES, SETTINGS, Engine
from .rendering import MINIMAL, Helm
from .waiting import status, wait_until

CANARY = "canary-4711"
"""The content of each file with a secret."""
CHANGES = 20
GENERATED = 30
MOMENTS = [0.0, 0.0, 0.0, 0.3, 3.0]
"""Seconds between the start of a container and SIGTERM. The earliest ones are before Python has started."""

_LOOK_INSIDE = """
import json, os, pathlib, sys
files = [path for path in pathlib.Path(sys.prefix).rglob("*") if not path.is_symlink()]
looked = [[str(path), path.is_dir(), path.stat().st_uid, path.stat().st_mode] for path in files]
def writable(folder):
    try:
        (pathlib.Path(folder) / "x").touch()
    except OSError:
        return False
    return True
capabilities = dict(line.split(":", 1) for line in open("/proc/self/status"))["CapEff"].strip()
print(json.dumps({"uid": os.getuid(), "gid": os.getgid(), "capabilities": int(capabilities, 16), "files": looked,
    "writable": [folder for folder in ("/", "/tmp", "/opt", "/etc", sys.prefix) if writable(folder)]}))
"""


def settings_folder(tmp_path: Path, toml: str = "", secrets: tuple[str, ...] = ()) -> Path:
    folder = tmp_path / "settings"
    folder.mkdir()
    (folder / "coursesync.toml").write_text(toml)
    for name in secrets:
        (folder / name).write_text(CANARY)
    for made in folder.iterdir():
        made.chmod(0o444)
    folder.chmod(0o755)
    return folder


def test_it_runs_without_any_privilege_from_files_that_it_cannot_change(
    engine: Engine, tmp_path: Path
) -> None:
    """The entry point is replaced, to look at what the daemon would find."""
    with engine.running("-c", _LOOK_INSIDE, log=tmp_path / "log", options=["--entrypoint=python"]) as child:
        assert child.wait(120) == 0, child.obituary()
        found = json.loads(child.output())

    assert (found["uid"], found["gid"], found["capabilities"]) == (65532, 65532, 0)
    assert found["writable"] == []
    names = {Path(path).name for path, *_ in found["files"]}
    assert names >= {"coursesyncd", "entry.py"}
    assert not names & {"pip", "setuptools", "hatchling"}
    assert {uid for _, _, uid, _ in found["files"]} == {0}
    assert not any(mode & 0o022 for *_, mode in found["files"])
    packages = [path.partition("/site-packages/")[2] for path, *_ in found["files"]]
    assert "tests" not in packages
    ours = {Path(path).suffix for path, folder, *_ in found["files"] if "/daemon/" in path and not folder}
    # Compiled, because it could not be later on; and the pages of the console.
    assert ours == {".py", ".pyc", ".html", ".css", ".js", ".svg"}


def test_its_version_is_that_of_the_project(engine: Engine, tmp_path: Path) -> None:
    with engine.running("--version", log=tmp_path / "log") as child:
        assert child.wait(120) == 0, child.obituary()
        assert version("course-sync-daemon") in child.output()


@pytest.mark.parametrize("command", ["run", "check"])
def test_without_settings_it_ends_with_2_and_names_them(engine: Engine, tmp_path: Path, command: str) -> None:
    with engine.running(command, log=tmp_path / "log") as child:
        assert child.wait(120) == 2, child.obituary()
        assert "kafka.bootstrap_servers" in child.output()
        assert "kombo.api_key_file" in child.output()


def test_it_ends_with_0_by_a_sigterm_at_any_moment(engine: Engine, tmp_path: Path) -> None:
    """As process 1, which ignores a signal that it does not handle. A container that did not hear it would never end."""
    toml = """
        kafka.bootstrap_servers = "127.0.0.1:1"
        kombo.api_key_file = "/etc/course-sync-daemon/key"
        admin.port = 0
    """
    folder = settings_folder(tmp_path, re.sub(r"^ +", "", toml, flags=re.MULTILINE), ("key",))
    given = [f"--volume={folder}:{SETTINGS}:ro", f"--env=COURSESYNC_CONFIG={SETTINGS}/coursesync.toml"]
    for moment in MOMENTS:
        name = engine.create(IMAGES["daemon"], ["run"], *given)
        try:
            engine("start", name)
            time.sleep(moment)  # the subject of the test, not a wait for anything
            engine("kill", "--signal=TERM", name)
            assert engine("wait", name).strip() == "0", (moment, engine("logs", name))
        finally:
            engine("rm", "--force", name)


@pytest.mark.parametrize("user", [None, "1000680000:0"], ids=["of the image", "as OpenShift assigns it"])
def test_it_runs_with_the_charts_settings(
    engine: Engine, helm: Helm, tmp_path: Path, user: str | None
) -> None:
    """There is no Kafka: up, alive, and not ready."""
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
    secrets = tuple(Path(path).name for path in rendered.mounted_files)
    variables = {
        "COURSESYNC_CONFIG": f"{SETTINGS}/coursesync.toml",
        "COURSESYNC_KAFKA_GROUP_INSTANCE_ID": "prod-sync-0",
    }

    with engine.running(
        *rendered.container["args"],
        variables=variables,
        settings=settings_folder(tmp_path, rendered.settings_file, secrets),
        log=tmp_path / "log",
        options=[f"--user={user}"] if user else [],
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


def test_the_pod_of_helm_test_says_what_is_missing(engine: Engine, helm: Helm, tmp_path: Path) -> None:
    """Without Kafka and API it fails, and its output names both."""
    config = {
        "kafka": {"bootstrap_servers": "127.0.0.1:1", "security_protocol": "PLAINTEXT"},
        "kombo": {"base_url": "http://127.0.0.1:1/v1"},
    }
    rendered = helm.render(MINIMAL, {"config": config})
    (container,) = rendered.one("Pod")["spec"]["containers"]

    with engine.running(
        *container["args"],
        variables={"COURSESYNC_CONFIG": f"{SETTINGS}/coursesync.toml"},
        settings=settings_folder(tmp_path, rendered.settings_file, ("kombo.api_key_file",)),
        log=tmp_path / "log",
    ) as check:
        assert check.wait(120) == 1, check.obituary()
        assert "no mistakes" in check.output()
        assert "Kafka at 127.0.0.1:1 refuses connections" in check.output()
        assert "kombo.base_url" in check.output()
        assert CANARY not in check.output()


@pytest.mark.kafka
def test_changes_go_through_what_compose_starts(
    engine: Engine, kafka_bootstrap: str, topic_names: Topics, tmp_path: Path
) -> None:
    services = Services(engine, kafka_bootstrap, topic_names, tmp_path)
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
