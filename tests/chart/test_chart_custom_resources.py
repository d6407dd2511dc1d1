"""What is for Prometheus' operator and for KEDA, against the schemas of their custom resources."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from .rendering import EXAMPLES, MINIMAL, Helm, Manifest

SOURCES = Path(__file__).parents[1] / "tools" / "crd"
GROUPS = ("monitoring.coreos.com/", "keda.sh/")
SCALED = {"autoscaling": {"enabled": True, "maxReplicas": 6}}


@pytest.fixture(scope="module")
def checker() -> Path:
    """The script beside the packages that it needs; they are fetched once, by the lock file's hashes."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "course-sync-daemon"
    files = sorted(path for path in SOURCES.iterdir() if path.is_file())
    kept = cache / f"crd-{hashlib.sha256(b''.join(path.read_bytes() for path in files)).hexdigest()[:12]}"
    if not kept.is_dir() and (said := _fetch(files, kept)):
        if os.environ.get("CI") == "true":
            pytest.fail(f"NO SCHEMAS: {said}", pytrace=False)
        pytest.skip(f"NO SCHEMAS: {said}")
    return kept / "check.mjs"


def _fetch(files: list[Path], kept: Path) -> str | None:
    """Why it did not work."""
    if shutil.which("npm") is None:
        return "npm, which they are fetched with, is not installed"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as name:
        fresh = Path(name) / "crd"
        fresh.mkdir()
        for path in files:
            shutil.copy(path, fresh)
        command = ["npm", "ci", "--ignore-scripts", "--silent", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=fresh, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            return f"npm ci failed: {(done.stderr or done.stdout).strip()[-500:]}"
        try:
            fresh.rename(kept)
        except OSError:  # another run was faster
            assert kept.is_dir()
    return None


def check(checker: Path, manifests: list[Manifest]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["node", checker],
        input=json.dumps(manifests),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_their_schemas_take_what_is_rendered(helm: Helm, checker: Path) -> None:
    manifests = [found for example in EXAMPLES for found in helm.render(example).manifests]
    custom = [found for found in manifests if found["apiVersion"].startswith(GROUPS)]

    done = check(checker, custom)

    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {
        "PodMonitor",
        "PrometheusRule",
        "ScaledObject",
        "TriggerAuthentication",
    }


@pytest.mark.parametrize("wrong", [{"triggers": None}, {"minReplicaCount": "one"}])
def test_the_schemas_would_find_something(helm: Helm, checker: Path, wrong: dict[str, Any]) -> None:
    scaled = helm.render(MINIMAL, SCALED).one("ScaledObject")
    scaled["spec"] |= wrong

    done = check(checker, [scaled])

    assert done.returncode == 1
    assert next(iter(wrong)) in done.stderr
