"""What runs in the cluster: the workload, its pods, and what protects them."""

from __future__ import annotations

import re
from typing import Any

import pytest

from daemon.admin import ENDPOINTS
from daemon.config import Settings

from .dockerfile import DOCKERFILE
from .rendering import MINIMAL, Helm

SCALED = {"autoscaling": {"enabled": True, "maxReplicas": 6}}
DEPLOYMENT = {"kind": "Deployment"}


def test_a_statefulset_of_two_whose_replicas_have_names_of_their_own(helm: Helm) -> None:
    rendered = helm.render(MINIMAL, release="eu", namespace="learning")

    spec = rendered.one("StatefulSet")["spec"]
    assert spec["replicas"] == 2
    assert spec["podManagementPolicy"] == "Parallel"
    assert spec["serviceName"] == rendered.one("Service")["metadata"]["name"]
    assert rendered.one("Service")["spec"]["clusterIP"] == "None"
    names = rendered.environment
    assert names["COURSESYNC_KAFKA_GROUP_INSTANCE_ID"] == "$(POD_NAMESPACE)-eu-$(POD_NAME)"
    assert names["POD_NAME"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert names["POD_NAMESPACE"] == {"fieldRef": {"fieldPath": "metadata.namespace"}}
    order = list(names)  # $(…) is only replaced by what stands before it
    assert order.index("COURSESYNC_KAFKA_GROUP_INSTANCE_ID") > max(
        order.index("POD_NAME"), order.index("POD_NAMESPACE")
    )


def test_a_deployment_has_no_static_membership_and_no_surge(helm: Helm) -> None:
    rendered = helm.render(MINIMAL, DEPLOYMENT)

    assert rendered.one("Deployment")["spec"]["strategy"]["rollingUpdate"] == {
        "maxSurge": 0,
        "maxUnavailable": 1,
    }
    assert "COURSESYNC_KAFKA_GROUP_INSTANCE_ID" not in rendered.environment
    assert "group_instance_id" not in rendered.settings_file
    assert rendered.kinds == {"Deployment", "PodDisruptionBudget", "ServiceAccount", "ConfigMap", "Pod"}


@pytest.mark.parametrize("values", [{}, DEPLOYMENT, SCALED], ids=["StatefulSet", "Deployment", "scaled"])
def test_everything_selects_the_pods_and_only_them(helm: Helm, values: dict[str, Any]) -> None:
    rendered = helm.render(
        MINIMAL, values, {"networkPolicy": {"enabled": True}, "podMonitor": {"enabled": True}}
    )

    labels = rendered.workload["spec"]["template"]["metadata"]["labels"]
    selectors = [
        rendered.workload["spec"]["selector"]["matchLabels"],
        rendered.one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        rendered.one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        rendered.one("PodMonitor")["spec"]["selector"]["matchLabels"],
        *(found["labelSelector"]["matchLabels"] for found in rendered.pod["topologySpreadConstraints"]),
        *(service["spec"]["selector"] for service in rendered.all("Service")),
    ]
    for selector in selectors:
        assert selector.items() <= labels.items()
        assert selector["app.kubernetes.io/instance"] == "sync"


@pytest.mark.parametrize("values", [{}, DEPLOYMENT], ids=["StatefulSet", "Deployment"])
def test_the_pod_passes_pod_security_restricted(helm: Helm, values: dict[str, Any]) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted"""
    rendered = helm.render(MINIMAL, values)
    pod, container = rendered.pod, rendered.container

    assert "initContainers" not in pod
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert all(set(volume) - {"name"} <= {"projected"} for volume in pod["volumes"])
    assert not any("hostPort" in port for port in container["ports"])


def test_the_user_is_that_of_the_image_or_one_that_the_cluster_assigns(helm: Helm) -> None:
    """OpenShift assigns an id if none is asked for. Without a group of its own the files must be readable for all, and
    runAsNonRoot needs a number in the image (tests/chart/test_image.py runs the image as either user).
    """
    rendered = helm.render(MINIMAL)

    assert not {"runAsUser", "runAsGroup", "fsGroup"} & rendered.pod["securityContext"].keys()
    (settings,) = rendered.pod["volumes"]
    assert settings["projected"]["defaultMode"] == 0o444
    assert re.search(r"^USER [1-9][0-9]*:[0-9]+$", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)
    own = helm.render(MINIMAL, {"podSecurityContext": {"runAsUser": 1000680000, "fsGroup": 0}})
    assert own.pod["securityContext"]["runAsUser"] == 1000680000
    assert own.pod["securityContext"]["fsGroup"] == 0


def test_the_pod_has_no_token_no_variables_of_services_and_no_local_data(helm: Helm) -> None:
    """Local data would keep the cluster autoscaler and `kubectl drain` from moving the pod."""
    rendered = helm.render(MINIMAL)

    assert rendered.pod["automountServiceAccountToken"] is False
    assert rendered.one("ServiceAccount")["automountServiceAccountToken"] is False
    assert rendered.pod["enableServiceLinks"] is False
    assert not any(
        local in volume for volume in rendered.pod["volumes"] for local in ("emptyDir", "hostPath")
    )


def test_a_memory_limit_and_no_cpu_limit(helm: Helm) -> None:
    assert helm.render(MINIMAL).container["resources"] == {
        "requests": {"cpu": "250m", "memory": "512Mi"},
        "limits": {"memory": "2Gi"},
    }


def test_the_memory_limit_holds_the_backlog_of_twelve_partitions(helm: Helm) -> None:
    """As values.yaml says of the two."""
    rendered = helm.render(MINIMAL)
    found = re.search(r'bytes_max = "(\d+)MiB"', rendered.settings_file)
    assert found is not None
    mib = int(found[1])

    assert rendered.container["resources"]["limits"]["memory"] == "2Gi"
    assert 12 * mib * 1.5 + 150 <= 2048


def test_the_probes(helm: Helm) -> None:
    container = helm.render(MINIMAL).container

    probes = {
        name: (probe["httpGet"]["path"], probe["periodSeconds"], probe["failureThreshold"])
        for name, probe in container.items()
        if name.endswith("Probe")
    }
    assert probes == {
        "startupProbe": ("/startupz", 5, 24),
        "livenessProbe": ("/livez", 10, 6),
        "readinessProbe": ("/readyz", 5, 3),
    }
    assert {path for path, _, _ in probes.values()} <= set(ENDPOINTS)
    assert all(container[name]["httpGet"]["port"] == "admin" for name in probes)
    assert container["ports"] == [{"name": "admin", "containerPort": Settings().admin.port}]
    # A process that hangs is not waited for, while a drain has its time.
    assert container["livenessProbe"]["terminationGracePeriodSeconds"] == 5
    assert "terminationGracePeriodSeconds" not in container["readinessProbe"]  # Kubernetes refuses it there
    assert "lifecycle" not in container  # nothing routes traffic to the pod: no sleep before SIGTERM


def test_another_admin_port_is_the_one_that_is_probed(helm: Helm) -> None:
    rendered = helm.render(MINIMAL, {"config": {"admin": {"port": 9100}}})

    assert rendered.container["ports"] == [{"name": "admin", "containerPort": 9100}]
    assert "port = 9100" in rendered.settings_file
    assert rendered.one("Service")["spec"]["ports"] == [
        {"name": "admin", "port": 9100, "targetPort": "admin"}
    ]


def test_the_entry_point_of_the_image_gets_the_signal(helm: Helm) -> None:
    container = helm.render(MINIMAL).container

    assert container["args"] == ["run"]
    assert "command" not in container
    assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"


def test_a_disruption_budget_where_there_is_something_to_protect(helm: Helm) -> None:
    budget = helm.render(MINIMAL).one("PodDisruptionBudget")["spec"]
    assert budget["maxUnavailable"] == 1
    assert "minAvailable" not in budget
    assert budget["unhealthyPodEvictionPolicy"] == "AlwaysAllow"

    assert helm.render(MINIMAL, SCALED).all("PodDisruptionBudget")
    assert not helm.render(MINIMAL, {"replicas": 1}).all("PodDisruptionBudget")
    assert not helm.render(MINIMAL, {"replicas": 0}).all("PodDisruptionBudget")
    assert not helm.render(MINIMAL, {"podDisruptionBudget": {"enabled": False}}).all("PodDisruptionBudget")
    other = helm.render(MINIMAL, {"podDisruptionBudget": {"minAvailable": "50%"}}).one("PodDisruptionBudget")[
        "spec"
    ]
    assert (other["minAvailable"], "maxUnavailable" in other) == ("50%", False)
    none = helm.render(MINIMAL, {"podDisruptionBudget": {"maxUnavailable": 0}}).one("PodDisruptionBudget")[
        "spec"
    ]
    assert none["maxUnavailable"] == 0


def test_replicas_are_spread_softly(helm: Helm) -> None:
    spread = helm.render(MINIMAL).pod["topologySpreadConstraints"]

    assert [found["topologyKey"] for found in spread] == [
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
    ]
    assert {found["whenUnsatisfiable"] for found in spread} == {"ScheduleAnyway"}
    own = {"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule"}
    assert helm.render(MINIMAL, {"topologySpreadConstraints": [own]}).pod["topologySpreadConstraints"] == [
        own
    ]
    assert helm.render(MINIMAL, {"topologySpreadConstraints": []}).pod["topologySpreadConstraints"] == []


def test_a_changed_setting_restarts_the_pods_and_a_label_of_the_chart_does_not(helm: Helm) -> None:
    def template(**values: object) -> dict[str, Any]:
        return dict(helm.render(MINIMAL, values).workload["spec"]["template"])

    before = template()
    assert template(config={"log": {"level": "debug"}}) != before
    assert template(podMonitor={"enabled": True}) == before
    assert not any("helm.sh/chart" in label for label in before["metadata"]["labels"])


def test_the_image(helm: Helm) -> None:
    digest = "sha256:" + "ab" * 32

    def image(**values: str) -> str:
        return str(helm.render(MINIMAL, {"image": values}).container["image"])

    assert image() == "course-sync-daemon:0.1.0"
    assert image(repository="r.example.com/sync", tag="7") == "r.example.com/sync:7"
    assert image(repository="r.example.com/sync", tag="7", digest=digest) == f"r.example.com/sync@{digest}"


def test_names_fit_into_labels_however_long_the_release_is(helm: Helm) -> None:
    rendered = helm.render(MINIMAL, release="r" * 53)

    name = rendered.workload["metadata"]["name"]
    assert len(f"{name}-1234567890") <= 63  # the label controller-revision-hash
    assert (
        helm.render(MINIMAL, release="course-sync-daemon").workload["metadata"]["name"]
        == "course-sync-daemon"
    )
    assert helm.render(MINIMAL, {"fullnameOverride": "cs"}).workload["metadata"]["name"] == "cs"


def test_what_a_user_adds_to_the_pod_is_there(helm: Helm) -> None:
    rendered = helm.render(
        MINIMAL,
        {
            "podLabels": {"team": "learning"},
            "podAnnotations": {"reloader.stakater.com/auto": "true"},
            "podSecurityContext": {"fsGroup": 7},
            "extraEnv": [{"name": "SSL_CERT_FILE", "value": "/certs/ca.pem"}],
            "extraVolumes": [{"name": "certs", "csi": {"driver": "csi.example.com"}}],
            "extraVolumeMounts": [{"name": "certs", "mountPath": "/certs"}],
            "nodeSelector": {"pool": "batch"},
            "tolerations": [{"operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "priorityClassName": "high",
            "imagePullSecrets": [{"name": "login"}],
            "serviceAccount": {"create": False, "name": "mine"},
        },
    )
    pod = rendered.pod

    template = rendered.workload["spec"]["template"]["metadata"]
    assert template["labels"]["team"] == "learning"
    assert template["annotations"]["reloader.stakater.com/auto"] == "true"
    assert pod["securityContext"]["fsGroup"] == 7
    assert rendered.environment["SSL_CERT_FILE"] == "/certs/ca.pem"
    assert {"name": "certs", "csi": {"driver": "csi.example.com"}} in pod["volumes"]
    assert {"name": "certs", "mountPath": "/certs"} in rendered.container["volumeMounts"]
    assert (pod["nodeSelector"], pod["tolerations"]) == ({"pool": "batch"}, [{"operator": "Exists"}])
    assert (pod["affinity"], pod["priorityClassName"]) == ({"nodeAffinity": {}}, "high")
    assert pod["imagePullSecrets"] == [{"name": "login"}]
    assert pod["serviceAccountName"] == "mine"
    assert not rendered.all("ServiceAccount")


@pytest.mark.parametrize("kind", ["StatefulSet", "Deployment"])
def test_replicas_are_left_to_whoever_scales(helm: Helm, kind: str) -> None:
    def replicas(**values: object) -> object:
        return helm.render(MINIMAL, {"kind": kind}, values).workload["spec"].get("replicas")

    assert replicas() == 2
    assert replicas(replicas=5) == 5
    assert replicas(replicas=0) == 0
    assert replicas(replicas=None) is None
    assert replicas(replicas=5, **SCALED) is None
    # How many there are is not known, and there may be several.
    assert helm.render(MINIMAL, {"kind": kind, "replicas": None}).all("PodDisruptionBudget")


@pytest.mark.parametrize("kind", ["StatefulSet", "Deployment"])
def test_helm_test_checks_with_what_the_daemon_has(helm: Helm, kind: str) -> None:
    files = {"config": {"kafka": {"tls_ca_file": {"configMap": "authorities"}}}}
    extra = {
        "extraEnv": [{"name": "X", "value": "y"}],
        "extraVolumes": [{"name": "certs", "csi": {"driver": "csi.example.com"}}],
        "extraVolumeMounts": [{"name": "certs", "mountPath": "/certs"}],
        "imagePullSecrets": [{"name": "login"}],
        "nodeSelector": {"pool": "batch"},
    }
    rendered = helm.render(MINIMAL, files, extra, {"kind": kind, "networkPolicy": {"enabled": True}})
    pod, daemon = rendered.one("Pod"), rendered.pod
    (container,) = pod["spec"]["containers"]

    assert pod["metadata"]["annotations"].pop("helm.sh/hook") == "test"
    assert container["args"] == ["check"]
    assert pod["spec"]["restartPolicy"] == "Never"
    for same in ("volumes", "securityContext", "serviceAccountName", "imagePullSecrets", "nodeSelector"):
        assert pod["spec"][same] == daemon[same]
    for same in ("image", "securityContext", "volumeMounts", "resources"):
        assert container[same] == rendered.container[same]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert environment == {
        name: rendered.environment[name] for name in ("COURSESYNC_CONFIG", "COURSESYNC_INTEGRATIONS", "X")
    }
    annotation = "course-sync-daemon/coursesync.toml"
    assert pod["metadata"]["annotations"][annotation] == rendered.settings_file
    # No Service, budget or workload takes it for one of the daemon's pods.
    selector = rendered.workload["spec"]["selector"]["matchLabels"]
    assert not selector.items() <= pod["metadata"]["labels"].items()
