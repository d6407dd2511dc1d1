"""What GitHub and pre-commit read has the form that they expect, and calls what exists."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")
CHECKED = [
    ("vendor.github-workflows", ROOT / ".github" / "workflows" / "test.yml"),
    ("vendor.github-issue-config", ROOT / ".github" / "ISSUE_TEMPLATE" / "config.yml"),
    *(("vendor.github-issue-forms", form) for form in FORMS),
]


def document(*parts: str) -> Any:
    return yaml.safe_load(ROOT.joinpath(*parts).read_text(encoding="utf-8"))


@pytest.mark.parametrize(("schema", "path"), CHECKED, ids=[path.stem for _, path in CHECKED])
def test_the_form_is_the_one_that_github_expects(schema: str, path: Path) -> None:
    checker = Path(sys.executable).parent / "check-jsonschema"
    done = subprocess.run(
        [checker, "--builtin-schema", schema, path], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_forms_for_bugs_and_features() -> None:
    assert {form.stem for form in FORMS} == {"bug", "feature"}


def test_the_workflow_runs_all_tests_on_the_oldest_python_and_on_that_of_the_image() -> None:
    job = document(".github", "workflows", "test.yml")["jobs"]["test"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    oldest = project["requires-python"].removeprefix(">=")
    image = (ROOT / "Dockerfile").read_text(encoding="utf-8").split("ARG PYTHON=python:")[1].split("-")[0]
    assert job["strategy"]["matrix"]["python"] == [oldest, image]
    tested = {
        name.rsplit(" ", 1)[1]
        for name in project["classifiers"]
        if name.startswith("Programming Language :: Python :: 3.")
    }
    assert {oldest, image} <= tested
    assert any(step.get("run", "").startswith("make test ") for step in job["steps"])


def test_hooks_are_the_linters_of_the_environment() -> None:
    (repository,) = document(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    entries = [hook["entry"] for hook in repository["hooks"]]
    assert {entry.split()[0] for entry in entries} == {".venv/bin/ruff", ".venv/bin/mypy"}
    assert all((ROOT / "Makefile").read_text(encoding="utf-8").count(word) for word in ("ruff check", "mypy"))
