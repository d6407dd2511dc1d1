"""What is for Prometheus' operator and for KEDA, against the schemas of their custom resources."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.tools.npm_packages import fetched

from .rendering import EXAMPLES, MINIMAL, Helm, Manifest

SOURCES = Path(__file__).parents[1] / "tools" / "crd"
GROUPS = ("monitoring.coreos.com/", "keda.sh/")
SCALED = {"autoscaling": {"enabled": True, "maxReplicas": 6}}


@pytest.fixture(scope="module")
def checker() -> Path:
    """The script beside the packages that it needs."""
    return fetched(SOURCES) / "check.mjs"


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
