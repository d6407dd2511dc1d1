"""The console: off by default, without what it does not need, and selected by nothing that is made for the daemon."""

from __future__ import annotations

from typing import Any

import pytest

from .rendering import CHART, MINIMAL, Helm, Manifest, Rendered

NAME = "sync-course-sync-daemon-console"
ON: dict[str, Any] = {"console": {"enabled": True}}
WITH_TOKEN: dict[str, Any] = {"console": {"enabled": True, "token": {"secret": "operators"}}}


def container_of(rendered: Rendered) -> Manifest:
    (container,) = rendered.named("Deployment", NAME)["spec"]["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def sources_of(rendered: Rendered) -> list[dict[str, Any]]:
    (volume,) = rendered.named("Deployment", NAME)["spec"]["template"]["spec"]["volumes"]
    sources: list[dict[str, Any]] = volume["projected"]["sources"]
    return sources


def test_it_is_off_by_default(helm: Helm) -> None:
    assert "console" not in helm.render(MINIMAL).text


def test_it_has_the_settings_of_the_daemon_and_not_its_api_key(helm: Helm) -> None:
    password = {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "PLAIN",
        "sasl_username": "u",
        "sasl_password_file": {"secret": "login"},
    }
    rendered = helm.render(MINIMAL, ON, {"config": {"kafka": password}})
    secrets = {source["secret"]["name"] for source in sources_of(rendered) if "secret" in source}
    assert secrets == {"login"}
    annotations = rendered.named("Deployment", NAME)["spec"]["template"]["metadata"]["annotations"]
    assert annotations["course-sync-daemon/coursesync.toml"] == rendered.settings_file
    daemon = {name for _, name, _ in rendered.mounted_files.values()}
    assert daemon == {"login", "course-sync-kombo"}


def test_without_a_token_it_only_shows(helm: Helm) -> None:
    rendered = helm.render(MINIMAL, ON)
    replicas = "--replicas=http://sync-course-sync-daemon:8080"
    assert container_of(rendered)["args"] == ["console", "--host=0.0.0.0", "--port=8090", replicas]


def test_it_asks_the_replicas_by_the_service_that_names_them_all(helm: Helm) -> None:
    rendered = helm.render(MINIMAL, ON, {"config": {"admin": {"port": 9999}}})
    service = rendered.named("Service", "sync-course-sync-daemon")
    assert service["spec"]["clusterIP"] == "None"
    assert f"--replicas=http://{service['metadata']['name']}:9999" in container_of(rendered)["args"]
    deployment = helm.render(MINIMAL, ON, {"kind": "Deployment"})
    assert not any(each.startswith("--replicas") for each in container_of(deployment)["args"])


def test_the_policies_let_it_reach_the_admin_ports(helm: Helm) -> None:
    scraper = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
    rendered = helm.render(MINIMAL, ON, {"networkPolicy": {"enabled": True, "ingressFrom": [scraper]}})
    (ingress,) = rendered.named("NetworkPolicy", "sync-course-sync-daemon")["spec"]["ingress"]
    labels = rendered.named("Deployment", NAME)["spec"]["selector"]["matchLabels"]
    assert ingress["from"] == [scraper, {"podSelector": {"matchLabels": labels}}]
    own = rendered.workload["spec"]["selector"]["matchLabels"]
    to = [rule for rule in rendered.named("NetworkPolicy", NAME)["spec"]["egress"] if "to" in rule]
    assert to == [
        {"to": [{"podSelector": {"matchLabels": own}}], "ports": [{"port": 8080, "protocol": "TCP"}]}
    ]
    without = helm.render(MINIMAL, {"networkPolicy": {"enabled": True, "ingressFrom": [scraper]}})
    assert without.one("NetworkPolicy")["spec"]["ingress"][0]["from"] == [scraper]


@pytest.mark.parametrize(("given", "key"), [({}, "token"), ({"key": "other"}, "other")])
def test_the_token_is_a_file_from_a_secret(helm: Helm, given: dict[str, str], key: str) -> None:
    rendered = helm.render(MINIMAL, WITH_TOKEN, {"console": {"token": given}})
    assert "--token-file=/etc/course-sync-daemon/console.token" in container_of(rendered)["args"]
    found = [source["secret"] for source in sources_of(rendered) if "secret" in source]
    assert {"name": "operators", "items": [{"key": key, "path": "console.token"}]} in found
    assert "operators" not in {name for _, name, _ in rendered.mounted_files.values()}


def test_nothing_that_selects_the_daemon_selects_it(helm: Helm) -> None:
    rendered = helm.render(CHART / "examples" / "monitored.yaml", WITH_TOKEN)
    labels = rendered.named("Deployment", NAME)["spec"]["template"]["metadata"]["labels"]
    selectors = {
        (found["kind"], found["metadata"]["name"]): selector
        for found in rendered.manifests
        if (selector := _selector(found)) is not None
    }
    selecting = {name for name, selector in selectors.items() if selector.items() <= labels.items()}
    assert selecting == {("Deployment", NAME), ("Service", NAME), ("NetworkPolicy", NAME)}
    own = rendered.template["metadata"]["labels"]
    assert all(not selectors[each].items() <= own.items() for each in selecting)


def _selector(found: Manifest) -> dict[str, str] | None:
    spec = found.get("spec", {})
    selector = spec.get("podSelector" if found["kind"] == "NetworkPolicy" else "selector")
    if not selector:
        return None
    labels: dict[str, str] = selector.get("matchLabels", selector)
    return labels


def test_the_policy_lets_in_to_the_pages_and_out_to_kafka_alone(helm: Helm) -> None:
    peers = [{"podSelector": {"matchLabels": {"app": "proxy"}}}]
    rendered = helm.render(
        MINIMAL, ON, {"networkPolicy": {"enabled": True}, "console": {"ingressFrom": peers, "port": 9000}}
    )
    policy = rendered.named("NetworkPolicy", NAME)["spec"]
    assert policy["ingress"] == [{"ports": [{"port": "console", "protocol": "TCP"}], "from": peers}]
    assert [port["port"] for rule in policy["egress"] for port in rule["ports"]] == [53, 53, 9093, 8080]
    (port,) = rendered.named("Service", NAME)["spec"]["ports"]
    assert port == {"name": "console", "port": 9000, "targetPort": "console"}
    assert container_of(rendered)["ports"] == [{"name": "console", "containerPort": 9000}]
    daemon = rendered.named("NetworkPolicy", "sync-course-sync-daemon")["spec"]
    assert 443 in [port["port"] for rule in daemon["egress"] for port in rule["ports"]]


def test_the_pod_passes_pod_security_restricted(helm: Helm) -> None:
    rendered = helm.render(MINIMAL, WITH_TOKEN)
    pod = rendered.named("Deployment", NAME)["spec"]["template"]["spec"]
    assert pod["securityContext"] == rendered.pod["securityContext"]
    assert container_of(rendered)["securityContext"] == rendered.container["securityContext"]
    assert pod["automountServiceAccountToken"] is False
    assert container_of(rendered)["resources"]["limits"] == {"memory": "768Mi"}


def test_a_misspelt_value_is_refused(helm: Helm) -> None:
    assert "tokn" in helm.refusal({"console": {"tokn": "x"}})
