"""What is off by default: monitoring, network policy, autoscaling, extra objects."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from daemon.config import Settings

from .rendering import AWS_MSK_IAM, CHART, MINIMAL, OAUTHBEARER, Helm, Values

ALERTS = CHART / "files" / "alerts.yaml"
RUNBOOK = {"runbookUrl": "https://git.example.com/course-sync-daemon/blob/main/docs/runbook.md"}
DASHBOARDS = sorted((CHART / "files" / "dashboards").glob("*.json"))
LOGIN = {
    "kafka": {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_username": "u",
        "sasl_password_file": {"secret": "s"},
    }
}


def test_by_default_there_is_nothing_that_needs_anything_else(helm: Helm) -> None:
    assert helm.render(MINIMAL).kinds == {
        "StatefulSet",
        "Service",
        "ServiceAccount",
        "PodDisruptionBudget",
        "ConfigMap",
        "Pod",
    }


def test_every_pod_that_runs_is_scraped_as_the_job_that_the_alerts_select(helm: Helm) -> None:
    monitor = helm.render(MINIMAL, {"podMonitor": {"enabled": True, "labels": {"release": "stack"}}}).one(
        "PodMonitor"
    )

    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("admin", "/metrics")
    assert endpoint["relabelings"] == [
        {"targetLabel": "job", "replacement": "course-sync-daemon"},
        {"targetLabel": "release", "replacement": "sync"},
    ]
    assert monitor["metadata"]["labels"]["release"] == "stack"


def with_links(path: Path) -> str:
    return path.read_text(encoding="utf-8").replace("docs/runbook.md", RUNBOOK["runbookUrl"])


def test_the_rules_are_the_file_that_is_tested(helm: Helm) -> None:
    """With Prometheus' own {{ … }} left alone, and links that lead somewhere."""
    enabled = {"prometheusRule": {"enabled": True, "labels": {"release": "stack"}}}
    rule = helm.render(MINIMAL, enabled, RUNBOOK).one("PrometheusRule")

    assert rule["spec"] == yaml.safe_load(with_links(ALERTS))
    (group,) = rule["spec"]["groups"]
    for alert in group["rules"]:
        assert alert["annotations"]["runbook_url"].startswith("https://git.example.com/"), alert["alert"]
    assert "{{ $" in json.dumps(rule["spec"])
    assert 'job=\\"course-sync-daemon\\"' in json.dumps(rule["spec"])
    assert rule["metadata"]["labels"]["release"] == "stack"


def test_the_dashboards_are_the_files_that_are_tested(helm: Helm) -> None:
    enabled = {"dashboards": {"enabled": True, "annotations": {"folder": "Learning"}}}
    rendered = helm.render(MINIMAL, enabled, RUNBOOK)

    (dashboards,) = (
        found for found in rendered.all("ConfigMap") if "grafana_dashboard" in found["metadata"]["labels"]
    )
    assert dashboards["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert dashboards["metadata"]["annotations"] == {"folder": "Learning"}
    assert {name: json.loads(text) for name, text in dashboards["data"].items()} == {
        path.name: json.loads(with_links(path)) for path in DASHBOARDS
    }
    links = re.findall(r'"url": "([^"]+)"', dashboards["data"]["overview.json"])
    assert links == [
        f"{RUNBOOK['runbookUrl']}#${{__value.raw}}",
        RUNBOOK["runbookUrl"],
    ], "of the alerts, and of the whole dashboard"
    assert {path.stem for path in DASHBOARDS} == {"overview", "internals"}


@pytest.mark.parametrize(
    ("config", "ports"),
    [
        ({}, [9093, 443]),
        ({"kafka": {"bootstrap_servers": "a:9092, b:9093,[::1]:9092"}}, [9092, 9093, 443]),
        ({"kombo": {"base_url": "https://kombo.example.com:8443/v1"}}, [9093, 8443]),
        ({"kombo": {"base_url": "http://127.0.0.1/v1"}}, [9093, 80]),
        ({"kombo": {"proxy": "http://proxy.example.com:3128"}}, [9093, 3128]),
        ({"kombo": {"proxy": "http://user@proxy.example.com:3128"}}, [9093, 3128]),
        (
            {"kafka": OAUTHBEARER | {"sasl_oauth_token_url": "https://idp.example.com:8443/token"}},
            [9093, 443, 8443],
        ),
        ({"kafka": OAUTHBEARER}, [9093, 443]),
        ({"kafka": OAUTHBEARER, "kombo": {"proxy": "http://10.0.0.1:3128"}}, [9093, 3128, 443]),
        ({"kafka": AWS_MSK_IAM}, [9093, 443, 80]),
    ],
)
def test_the_network_policy_lets_out_what_the_settings_name(
    helm: Helm, config: dict[str, Any], ports: list[int]
) -> None:
    extra = {"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}
    policy = helm.render(
        MINIMAL, {"config": config, "networkPolicy": {"enabled": True, "extraEgress": [extra]}}
    ).one("NetworkPolicy")["spec"]

    dns, calls, last = policy["egress"]
    assert [(found["port"], found["protocol"]) for found in dns["ports"]] == [(53, "UDP"), (53, "TCP")]
    assert [found["port"] for found in calls["ports"]] == ports
    assert last == extra
    assert policy["policyTypes"] == ["Ingress", "Egress"]


def test_the_network_policy_lets_in_only_to_the_admin_port(helm: Helm) -> None:
    def ingress(**values: object) -> list[Any]:
        policy = helm.render(MINIMAL, {"networkPolicy": {"enabled": True, **values}}).one("NetworkPolicy")
        return list(policy["spec"]["ingress"])

    port = {"port": "admin", "protocol": "TCP"}
    peer = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    assert ingress() == [{"ports": [port]}]
    assert ingress(ingressFrom=[peer]) == [{"ports": [port], "from": [peer]}]


@pytest.mark.parametrize("kind", ["StatefulSet", "Deployment"])
def test_keda_scales_by_the_lag_slowly_down_and_never_to_zero(helm: Helm, kind: str) -> None:
    rendered = helm.render(MINIMAL, {"kind": kind, "autoscaling": {"enabled": True, "maxReplicas": 6}})

    spec = rendered.one("ScaledObject")["spec"]
    workload = rendered.workload
    assert spec["scaleTargetRef"] == {
        "apiVersion": "apps/v1",
        "kind": kind,
        "name": workload["metadata"]["name"],
    }
    assert "replicas" not in workload["spec"]
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (1, 6)
    assert "idleReplicaCount" not in spec
    down = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    assert down["policies"] == [{"type": "Pods", "value": 1, "periodSeconds": 600}]
    (trigger,) = spec["triggers"]
    own = Settings()
    assert trigger["type"] == "kafka"
    assert trigger["metadata"] == {
        "bootstrapServers": "kafka.example.com:9093",
        "consumerGroup": own.kafka.group_id,
        "topic": own.topics.changes,
        "lagThreshold": "1000",
        "offsetResetPolicy": own.input.start_at,
        "allowIdleConsumers": "false",
        "tls": "enable",
        "sasl": "none",
    }
    assert "authenticationRef" not in trigger


def test_keda_asks_for_the_group_and_topic_of_the_settings_and_logs_in(helm: Helm) -> None:
    config = LOGIN | {"topics": {"changes": "in"}, "input": {"start_at": "latest"}}
    config["kafka"] = config["kafka"] | {"group_id": "g"}
    values = {
        "config": config,
        "autoscaling": {"enabled": True, "maxReplicas": 6, "authenticationRef": "login"},
    }

    (trigger,) = helm.render(MINIMAL, values).one("ScaledObject")["spec"]["triggers"]

    asked = trigger["metadata"]
    assert (asked["consumerGroup"], asked["topic"], asked["offsetResetPolicy"]) == ("g", "in", "latest")
    assert (asked["tls"], asked["sasl"]) == ("enable", "scram_sha512")
    assert trigger["authenticationRef"] == {"name": "login"}


@pytest.mark.parametrize(
    ("login", "asked"),
    [
        (OAUTHBEARER, {"sasl": "oauthbearer"}),
        (
            AWS_MSK_IAM,
            {"sasl": "oauthbearer", "saslTokenProvider": "aws_msk_iam", "awsRegion": "eu-central-1"},
        ),
    ],
)
def test_keda_logs_in_with_tokens(helm: Helm, login: Values, asked: dict[str, str]) -> None:
    values = {
        "config": {"kafka": login},
        "autoscaling": {"enabled": True, "maxReplicas": 6, "authenticationRef": "login"},
    }
    (trigger,) = helm.render(MINIMAL, values).one("ScaledObject")["spec"]["triggers"]
    metadata = trigger["metadata"]
    assert {name: value for name, value in metadata.items() if name.startswith(("sasl", "aws"))} == asked


def test_extra_objects_are_rendered_as_they_stand(helm: Helm) -> None:
    objects = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name},
            "data": {"text": "{{ .Values }}"},
        }
        for name in ("one", "two")
    ]

    rendered = helm.render(MINIMAL, {"extraObjects": objects})

    assert [found for found in rendered.manifests if found["metadata"]["name"] in ("one", "two")] == objects
