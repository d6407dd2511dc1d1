"""Text from outside stays text, a number stays a whole number, and nothing is named twice, whatever YAML makes of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import kubernetes_validate
import pytest
import yaml

from .rendering import MINIMAL, Helm, Manifest, Rendered
from .test_chart_examples import CUSTOM, KUBERNETES

EVERYTHING = {
    "networkPolicy": {"enabled": True},
    "podMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True},
    "dashboards": {"enabled": True},
    "runbookUrl": "https://git.example.com/runbook",
    "autoscaling": {"enabled": True, "maxReplicas": 6},
}
NUMERIC: dict[str, Any] = {
    "priorityClassName": "1000",
    "image": {"repository": "4711", "tag": "10"},
    "serviceAccount": {"name": "42", "annotations": {"a": "1"}},
    "podLabels": {"year": "2026", "on": "on", "exponent": "1e6"},
    "podAnnotations": {"octal": "0123", "empty": "", "no": "no"},
    "podMonitor": {"labels": {"release": "1"}, "interval": "30s"},
    "autoscaling": {"authenticationRef": "7"},
    "extraEnv": [{"name": "X", "value": "1000000"}],
    "config": {
        "kafka": {"bootstrap_servers": "10:9093", "group_id": "2026"},
        "topics": {
            "changes": "1",
            "journal": "2",
            "results": "0x3",
            "dead_letters": "1e6",
            "courses": "0b5",
            "control": "6_0",
        },
        "kombo": {"api_key_file": {"secret": "4711", "key": "0123"}},
    },
}


class _NoDuplicates(yaml.CSafeLoader):  # type: ignore[misc]
    """PyYAML takes the last of two equal keys; Helm and the API server refuse both or take either."""


def _mapping(loader: yaml.CSafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    assert len(set(keys)) == len(keys), keys
    found: dict[Any, Any] = loader.construct_mapping(node, deep=True)
    return found


_NoDuplicates.add_constructor("tag:yaml.org,2002:map", _mapping)


def texts(manifest: Manifest) -> Iterator[tuple[str, Any]]:
    """What must be text in every object: names, namespaces, and labels and annotations wherever they are."""

    def walk(found: Any, path: str) -> Iterator[tuple[str, Any]]:
        if isinstance(found, dict):
            for key, value in found.items():
                if key in ("name", "namespace", "secretName", "serviceName", "serviceAccountName"):
                    yield f"{path}.{key}", value
                if key in ("labels", "annotations", "matchLabels"):
                    yield from (
                        (f"{path}.{key}.{name}", text) for pair in value.items() for name, text in [pair]
                    )
                    yield from ((f"{path}.{key}", name) for name in value)
                yield from walk(value, f"{path}.{key}")
        elif isinstance(found, list):
            for number, each in enumerate(found):
                yield from walk(each, f"{path}[{number}]")

    yield from walk(manifest, manifest["kind"])


def check(rendered: Rendered) -> None:
    list(yaml.load_all(rendered.text, _NoDuplicates))
    for manifest in rendered.manifests:
        assert [(path, text) for path, text in texts(manifest) if not isinstance(text, str)] == []
        if manifest["kind"] not in CUSTOM:
            for version in KUBERNETES:
                kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize(
    ("release", "namespace", "values"),
    [
        ("4711", "20261", {}),
        ("1e6", "0x10", {}),
        ("sync", "prod", {"nameOverride": "0123"}),
        ("sync", "prod", {"fullnameOverride": "42"}),
        ("1", "2", {"nameOverride": "3", "serviceAccount": {"create": False, "name": "42"}}),
        ("0123", "prod", NUMERIC),
        ("null", "true", {}),
        ("no", "off", NUMERIC | {"kind": "Deployment"}),
    ],
)
def test_what_looks_like_a_number_stays_text(
    helm: Helm, release: str, namespace: str, values: dict[str, Any]
) -> None:
    for on in ({}, EVERYTHING):
        rendered = helm.render(MINIMAL, on, values, release=release, namespace=namespace)
        check(rendered)
        assert rendered.workload["metadata"]["namespace"] == namespace
        for service in rendered.all("Service"):
            # RFC 1035, which Kubernetes asks of Services and of nothing else.
            assert re.fullmatch(r"[a-z][-a-z0-9]{0,61}[a-z0-9]", service["metadata"]["name"])
            assert rendered.workload["spec"]["serviceName"] == service["metadata"]["name"]


def test_text_of_the_user_arrives_as_it_was_written(helm: Helm) -> None:
    rendered = helm.render(MINIMAL, EVERYTHING, NUMERIC)

    metadata = rendered.template["metadata"]
    assert NUMERIC["podLabels"].items() <= metadata["labels"].items()
    assert NUMERIC["podAnnotations"].items() <= metadata["annotations"].items()
    assert rendered.pod["serviceAccountName"] == rendered.one("ServiceAccount")["metadata"]["name"] == "42"
    assert rendered.container["image"] == "4711:10"
    assert rendered.environment["X"] == "1000000"
    assert set(rendered.mounted_files.values()) == {("secret", "4711", "0123")}
    (trigger,) = rendered.one("ScaledObject")["spec"]["triggers"]
    assert (trigger["metadata"]["topic"], trigger["metadata"]["consumerGroup"]) == ("1", "2026")
    assert trigger["authenticationRef"] == {"name": "7"}


@pytest.mark.parametrize("number", [1_000_000, 20_000_000])
def test_a_large_number_is_written_in_full(helm: Helm, number: int) -> None:
    """Numbers of a values file are floats in a template, which print as 1e+06."""
    scaled = {"enabled": True, "minReplicas": number, "maxReplicas": number, "lagThreshold": number}
    values = {"terminationGracePeriodSeconds": number, "podDisruptionBudget": {"maxUnavailable": number}}
    rendered = helm.render(MINIMAL, values, {"autoscaling": scaled})
    fixed = helm.render(MINIMAL, {"replicas": number, "podDisruptionBudget": {"minAvailable": number}})

    check(rendered)
    check(fixed)
    assert "e+" not in rendered.text + fixed.text
    spec = rendered.one("ScaledObject")["spec"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (number, number)
    assert spec["triggers"][0]["metadata"]["lagThreshold"] == str(number)
    assert rendered.pod["terminationGracePeriodSeconds"] == number
    assert rendered.one("PodDisruptionBudget")["spec"]["maxUnavailable"] == number
    assert fixed.one("PodDisruptionBudget")["spec"]["minAvailable"] == number
    assert fixed.workload["spec"]["replicas"] == number


def test_labels_that_the_chart_has_as_well_are_merged(helm: Helm) -> None:
    own = {"app.kubernetes.io/version": "mine", "helm.sh/chart": "mine", "team": "learning"}
    values = {
        "podLabels": {"app.kubernetes.io/version": "mine"},
        "podAnnotations": {"kubectl.kubernetes.io/default-container": "sidecar"},
        "podMonitor": {"enabled": True, "labels": own},
        "prometheusRule": {"enabled": True, "labels": own},
        "dashboards": {"enabled": True, "labels": own},
        "runbookUrl": "https://git.example.com/runbook",
    }
    rendered = helm.render(MINIMAL, values)

    check(rendered)
    assert rendered.template["metadata"]["labels"]["app.kubernetes.io/version"] == "mine"
    assert (
        rendered.template["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"] == "sidecar"
    )
    dashboards = rendered.named("ConfigMap", "sync-course-sync-daemon-dashboards")
    for labelled in (rendered.one("PodMonitor"), rendered.one("PrometheusRule"), dashboards):
        assert own.items() <= labelled["metadata"]["labels"].items()


@pytest.mark.parametrize("name", ["Upper", "under_score", "-first", "last-", "a.b"])
def test_names_that_kubernetes_would_refuse_are_refused(helm: Helm, name: str) -> None:
    for value in ("nameOverride", "fullnameOverride"):
        assert value in helm.refusal({value: name})
