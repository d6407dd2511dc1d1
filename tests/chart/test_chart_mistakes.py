"""Values that cannot work together are refused by Helm, each with a sentence that says why and what to do."""

from __future__ import annotations

from typing import Any

import pytest

from daemon.config import Settings

from .rendering import MINIMAL, Helm, HelmError

SCALED = {"enabled": True, "maxReplicas": 6}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"podDisruptionBudget": {"maxUnavailable": 1, "minAvailable": 1}},
            "podDisruptionBudget.maxUnavailable and podDisruptionBudget.minAvailable are both set",
        ),
        (
            {"config": {"drain": {"timeout": "41s"}}},
            "is 60, but config.drain.timeout is 41s and closing takes up to 20 s more: it must be at least 61",
        ),
        (
            {
                "config": {"drain": {"timeout": "1.5m"}, "kafka": {"session_timeout": "2m"}},
                "terminationGracePeriodSeconds": 109,
            },
            "it must be at least 110",
        ),
        (
            {"kind": "Deployment", "config": {"kafka": {"group_instance_id": "$(POD_NAME)"}}},
            "the pods of a Deployment have no names that outlive a restart; static membership needs kind: StatefulSet",
        ),
        (
            {"config": {"kafka": {"group_instance_id": "one"}}},
            "config.kafka.group_instance_id is the same for every replica",
        ),
        *(
            ({linked: {"enabled": True}}, "runbookUrl must be set with prometheusRule.enabled or dashboards")
            for linked in ("prometheusRule", "dashboards")
        ),
        ({"autoscaling": {"enabled": True}}, "autoscaling.maxReplicas must be set"),
        (
            {"autoscaling": SCALED | {"minReplicas": 7}},
            "autoscaling.maxReplicas is 6, less than autoscaling.minReplicas, which is 7",
        ),
        (
            {
                "autoscaling": SCALED,
                "config": {
                    "kafka": {
                        "security_protocol": "SASL_SSL",
                        "sasl_mechanism": "PLAIN",
                        "sasl_username": "u",
                        "sasl_password_file": {"secret": "s"},
                    }
                },
            },
            "autoscaling.authenticationRef must be set, since config.kafka has a login or certificates",
        ),
        (
            {"autoscaling": SCALED, "config": {"kafka": {"tls_ca_file": {"secret": "ca"}}}},
            "KEDA connects to Kafka itself, with what that TriggerAuthentication holds",
        ),
        (
            {"config": {"kafka": {"security_protocol": "SASL_PLAINTEXT"}}},
            "SASL_PLAINTEXT, which sends the password or token in clear text over the cluster's network; SASL_SSL logs in over TLS",
        ),
        (
            {"config": {"kombo": {"proxy": "http://user:canary@proxy.example.com:3128"}}},
            "config.kombo.proxy: contains a password, which everybody who may read the pods could read",
        ),
        ({"config": {"admin": {"host": "127.0.0.1"}}}, "neither the kubelet's probes nor Prometheus reach it"),
        (
            {"extraEnv": [{"name": "COURSESYNC_BATCH_LINGER", "value": "1s"}]},
            "extraEnv sets COURSESYNC_BATCH_LINGER: settings of the daemon belong into config",
        ),
        ({"extraEnv": [{"name": "POD_NAME", "value": "one"}]}, "extraEnv sets POD_NAME, which the chart sets itself"),
        ({"extraVolumes": [{"name": "settings", "emptyDir": {}}]}, "extraVolumes has a volume named settings"),
        (
            {"podLabels": {"app.kubernetes.io/instance": "other"}},
            "podLabels sets app.kubernetes.io/instance, by which everything selects the pods",
        ),
        ({"podLabels": {"app.kubernetes.io/name": "course-sync-daemon"}}, "podLabels sets app.kubernetes.io/name"),
        (
            {"podAnnotations": {"course-sync-daemon/coursesync.toml": ""}},
            "podAnnotations sets course-sync-daemon/coursesync.toml, which the chart sets itself",
        ),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_with_a_sentence(
    helm: Helm, values: dict[str, Any], sentence: str
) -> None:
    assert sentence in helm.refusal(values)


def test_what_must_be_given_is_told_in_one_message(helm: Helm) -> None:
    with pytest.raises(HelmError) as refused:
        helm.render()

    assert "config.kafka.bootstrap_servers must be set" in str(refused.value)
    assert "config.kombo.api_key_file must be set" in str(refused.value)


def test_missing_settings_are_told_whatever_else_is_on(helm: Helm) -> None:
    everything_on = {"networkPolicy": {"enabled": True}, "autoscaling": SCALED}

    with pytest.raises(HelmError, match=r"config\.kafka\.bootstrap_servers must be set"):
        helm.render(everything_on, {"config": {"kafka": None, "drain": None, "backlog": None}})
    with pytest.raises(HelmError, match=r"config"):
        helm.render(everything_on, {"config": None})


@pytest.mark.parametrize(("timeout", "grace"), [("500ms", 21), ("20s", 40), ("1.5m", 110), ("10m", 620)])
def test_a_grace_period_that_is_just_long_enough_is_taken(helm: Helm, timeout: str, grace: int) -> None:
    def values(seconds: int) -> dict[str, Any]:
        config = {"drain": {"timeout": timeout}, "kafka": {"session_timeout": "20m"}}
        return {"config": config, "terminationGracePeriodSeconds": seconds}

    assert helm.render(MINIMAL, values(grace)).pod["terminationGracePeriodSeconds"] == grace
    assert f"it must be at least {grace}" in helm.refusal(values(grace - 1))


def test_the_chart_knows_the_daemons_own_drain(helm: Helm) -> None:
    """When the user takes the chart's value back, the daemon's default counts."""
    own = int(Settings().drain.timeout)
    taken_back = {"config": {"drain": {"timeout": None}}}

    assert f"at least {own + 20}" in helm.refusal(taken_back, {"terminationGracePeriodSeconds": own + 19})
    helm.render(MINIMAL, taken_back, {"terminationGracePeriodSeconds": own + 20})
