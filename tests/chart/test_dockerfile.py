"""The Dockerfile, linted and read. test_image.py builds it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from daemon.stop_signals import STOPS

from .dockerfile import DOCKERFILE, ROOT, instructions, stages

BIN = Path(sys.executable).parent


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
    *blocking, program = json.loads(dict(stage)["ENTRYPOINT"])  # exec form: JSON
    assert program == "coursesyncd"
    assert blocking == ["env", *(f"--block-signal={number.name.removeprefix('SIG')}" for number in STOPS)]
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
