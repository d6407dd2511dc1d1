"""The installation, step by step as the chart's README says, and its pods."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.chart.container_engine import IMAGES
from tests.cluster.kubernetes import Api, Shell
from tests.cluster.places import API_HOST, API_PORT, CHART, KAFKA_HOST, KAFKA_PORT, PARTITIONS, REPLICAS
from tests.cluster.services import API_KEY, LOGIN, Services
from tests.sandbox import local_http
from tests.sandbox.process import SandboxError

NAMESPACE = "course-sync"
WORKLOAD = "sync-course-sync-daemon"
PATIENCE = 600.0
"""Seconds after which anything that does not happen counts as stuck."""
_CALM = 2.0
"""Seconds for which all partitions must have run."""
_README = CHART / "README.md"
_EXAMPLE = "helm/course-sync-daemon/examples/minimal.yaml"


class Pod(NamedTuple):
    name: str
    uid: str
    address: str | None
    node: str | None
    ready: bool
    restarts: int
    annotations: dict[str, str]


class Release:
    """Installed as `sync` in the namespace `course-sync`, whose Pod Security is *restricted*."""

    def __init__(self, api: Api, shell: Shell, folder: Path, services: Services) -> None:
        """`folder` is that of the shell."""
        self._api, self.shell, self._folder, self._services = api, shell, folder, services
        self._config: dict[str, Any] = {}
        self._others: dict[str, Any] = {}

    # --- as a person does it ------------------------------------------------------------------------

    def install(self) -> None:
        """All commands of the section *Installation*, in their order. What differs: our values are given besides those of the
        example, because they name our image and our services, and Kafka has one broker.
        """
        self._write_files()
        for command in installation_commands():
            if command.startswith("kubectl --namespace course-sync exec"):
                wait_until(self._all_answer, "pods that run", self.describe)
            self.shell(command)
            if command.startswith("kubectl create namespace"):
                self.shell(
                    "kubectl label namespace course-sync pod-security.kubernetes.io/enforce=restricted"
                    " pod-security.kubernetes.io/warn=restricted"
                )
                self.put_authorities(self._services.ca_file.read_text())

    def upgrade(self, *options: str, helm: str = "helm") -> str:
        """The README's command, with these options besides. Raises SandboxError if Helm refuses it."""
        (command,) = (line for line in installation_commands() if line.startswith("helm upgrade"))
        return self.shell(" ".join((command.replace("helm", helm, 1), *options)))

    def kubectl(self, words: str) -> str:
        return self.shell(f"kubectl --namespace {NAMESPACE} {words}")

    def put_authorities(self, pem: str) -> None:
        """Into the ConfigMap that the values name."""
        (self._folder / "ca.crt").write_text(pem)
        self.kubectl(
            "create configmap services-ca --from-file=ca.crt --dry-run=client -o yaml | kubectl apply -f -"
        )

    def put_key(self, key: str) -> None:
        """Into the Secret with the API key."""
        (self._folder / "kombo-api-key").write_text(f"{key}\n")
        self.kubectl(
            "create secret generic course-sync-kombo --from-file=api-key=kombo-api-key --dry-run=client -o yaml"
            " | kubectl apply -f -"
        )

    # --- its pods -------------------------------------------------------------------------------------

    def pods(self) -> list[Pod]:
        """Those of the StatefulSet, by name, without those that are being deleted. Raises OSError."""
        selector = "app.kubernetes.io%2Fname%3Dcourse-sync-daemon"
        found = self._api.get(f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector={selector}")
        return sorted(_pod(item) for item in found["items"] if "deletionTimestamp" not in item["metadata"])

    def pod(self, number: int) -> Pod:
        (found,) = (pod for pod in self.pods() if pod.name == f"{WORKLOAD}-{number}")
        return found

    def partitions(self, pod: Pod) -> dict[int, str] | None:
        """The state of each partition that it holds. None if it does not answer."""
        try:
            state = self.state(pod)
        except (OSError, ValueError):
            return None
        return {int(number): partition["state"] for number, partition in state["partitions"].items()}

    def state(self, pod: Pod) -> Any:
        """Its /state. Raises OSError."""
        if pod.address is None:
            raise OSError("no address yet")
        return json.loads(local_http.get(f"http://{pod.address}:8080/state", timeout=2.0))

    def metrics(self, pod: Pod) -> str:
        """Empty if it does not answer."""
        try:
            return local_http.get(f"http://{pod.address}:8080/metrics", timeout=2.0).decode()
        except OSError:
            return ""

    def console_address(self) -> str:
        """Of the one pod of the console, which is ready."""
        selector = "app.kubernetes.io%2Fname%3Dcourse-sync-daemon-console"
        found = self._api.get(f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector={selector}")
        (pod,) = (_pod(item) for item in found["items"] if "deletionTimestamp" not in item["metadata"])
        assert pod.address is not None
        return pod.address

    def running(self, replicas: int = REPLICAS) -> bool:
        """Whether there are so many pods, all ready, and each partition runs in one of them."""
        try:
            pods = self.pods()
        except OSError:
            return False
        if len(pods) != replicas or not all(pod.ready for pod in pods):
            return False
        held: list[int] = []
        for pod in pods:
            partitions = self.partitions(pod)
            if partitions is None or any(state != "running" for state in partitions.values()):
                return False
            held += partitions
        return sorted(held) == list(range(PARTITIONS))

    def await_running(self, replicas: int = REPLICAS) -> None:
        """Until `running`, and stays so for a moment. Raises SandboxError."""
        since: float | None = None

        def calm() -> bool:
            nonlocal since
            if not self.running(replicas):
                since = None
                return False
            since = since or time.monotonic()
            return time.monotonic() - since >= _CALM

        wait_until(calm, f"all partitions to run in {replicas} pods", self.describe)

    def describe(self) -> str:
        try:
            return "\n".join(f"{pod._replace(annotations={})}: {self.partitions(pod)}" for pod in self.pods())
        except OSError as error:
            return str(error)

    def process_of(self, pod: Pod) -> int:
        """The process id of its daemon. Raises SandboxError if there is none."""
        for found in Path("/proc").iterdir():
            if not found.name.isdigit():
                continue
            try:
                groups, command = (found / "cgroup").read_text(), (found / "cmdline").read_bytes()
            except OSError:
                continue
            if pod.uid in groups and b"coursesyncd" in command:
                return int(found.name)
        raise SandboxError(f"{pod.name} has no process")

    def _all_answer(self) -> bool:
        pods = self.pods()
        return len(pods) == REPLICAS and all(self.partitions(pod) is not None for pod in pods)

    def _write_files(self) -> None:
        (self._folder / "helm").symlink_to(CHART.parent)
        (self._folder / "kombo-api-key").write_text(f"{API_KEY}\n")
        (self._folder / "kafka-password").write_text(f"{self._services.password}\n")
        self.change_values({})

    def change_values(self, config: Mapping[str, Any], **others: Any) -> None:
        """Further groups of `config`, and other values. They stay, and take effect with the next upgrade."""
        self._config |= config
        self._others |= others
        values = _values() | self._others
        values["config"] |= self._config
        (self._folder / "values.yaml").write_text(yaml.safe_dump(values))


def readme_commands(title: str) -> list[str]:
    """Those of this section of the chart's README."""
    section = _README.read_text(encoding="utf-8").partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^ *```sh\n(.*?)^ *```", section, re.MULTILINE | re.DOTALL)
    return [line.strip() for block in blocks for line in block.splitlines() if line.strip()]


def installation_commands() -> list[str]:
    """Those of the README, with the differences that `Release.install` names."""
    kept = [line for line in readme_commands("Installation") if not line.startswith("docker ")]
    ours = [
        line.replace(f"--values {_EXAMPLE}", f"--values {_EXAMPLE} --values values.yaml") for line in kept
    ]
    return [line.replace("--replication-factor 3", "--replication-factor 1") for line in ours]


def _values() -> dict[str, Any]:
    repository, _, _ = IMAGES["daemon"].rpartition(":")
    authorities = {"configMap": "services-ca"}
    kafka = {
        "bootstrap_servers": f"{KAFKA_HOST}:{KAFKA_PORT}",
        "security_protocol": "SASL_SSL",
        **LOGIN,
        "sasl_password_file": {"secret": "course-sync-kafka"},
        "tls_ca_file": authorities,
    }
    return {
        "image": {"repository": repository},
        "replicas": REPLICAS,
        "config": {
            "kafka": kafka,
            "kombo": {"base_url": f"https://{API_HOST}:{API_PORT}/v1", "ca_file": authorities},
            # Shorter, so that results show the disturbances and not the API's faults. All others are those of production.
            "poll": {"first_after": "500ms", "interval_max": "2s"},
            "retry": {"backoff_min": "100ms", "backoff_max": "2s"},
            "park": {"probe_min": "500ms", "probe_max": "2s"},
        },
        # Three of them and everything else share one machine.
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}},
    }


def _pod(item: Any) -> Pod:
    status = item.get("status", {})
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions", ()))
    return Pod(
        item["metadata"]["name"],
        item["metadata"]["uid"],
        status.get("podIP"),
        item["spec"].get("nodeName"),
        ready,
        sum(container["restartCount"] for container in status.get("containerStatuses", ())),
        item["metadata"].get("annotations", {}),
    )


def wait_until(condition: Callable[[], bool], what: str, describe: Callable[[], str] = str) -> float:
    """Returns the seconds that it took. Raises SandboxError."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > PATIENCE:
            raise SandboxError(f"Waited {PATIENCE:g} s without success for {what}.\n{describe()}")
        time.sleep(0.25)
    return time.monotonic() - began


def signal_pod(release: Release, pod: Pod, number: int) -> None:
    """To its daemon, as somebody on its node could."""
    os.kill(release.process_of(pod), number)
