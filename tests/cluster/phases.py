"""The disturbances, one after the other, each as a person or a cluster does it.

A phase ends when every partition runs in a ready pod again. What it must do besides is asserted here; what it measures is
returned as notes.
"""

from __future__ import annotations

import json
import signal
import time
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

import httpx
import msgspec

from tests.cluster.node import Node
from tests.cluster.places import PARTITIONS, REPLICAS
from tests.cluster.release import WORKLOAD, Pod, Release, readme_commands, signal_pod, wait_until
from tests.cluster.services import Services
from tests.integration.console_visit import decide, sign_in
from tests.sandbox.process import SandboxError
from tests.tls_files import Authority

BASELINE_SECONDS = 20.0
"""Of publishing without any disturbance, to compare with."""
NEW_KEY = "key-after-the-rotation"
PAUSED = "docebo:*"
"""A fifth of the integrations."""


@dataclass(frozen=True)
class Stage:
    """What the phases act on."""

    release: Release
    services: Services
    nodes: list[Node]
    other_authority: Authority
    """Nobody has a certificate of it."""


Notes = list[str]


def _must(condition: bool, what: str) -> None:
    if not condition:
        raise SandboxError(f"This is not so: {what}.")


def _uids(release: Release) -> dict[str, str]:
    return {pod.name: pod.uid for pod in release.pods()}


def _rolled_out(release: Release) -> None:
    release.kubectl(f"rollout status statefulset/{WORKLOAD} --timeout=600s")


def steady(stage: Stage) -> Notes:
    time.sleep(BASELINE_SECONDS)
    _must(stage.release.running(), "nothing disturbed the partitions")
    return []


def delete_pod(stage: Stage) -> Notes:
    stage.release.kubectl(f"delete pod {WORKLOAD}-0")
    stage.release.await_running()
    return []


def forced_delete(stage: Stage) -> Notes:
    stage.release.kubectl(f"delete pod {WORKLOAD}-1 --grace-period=0 --force")
    stage.release.await_running()
    return []


def rollout_restart(stage: Stage) -> Notes:
    before = _uids(stage.release)
    stage.release.kubectl(f"rollout restart statefulset/{WORKLOAD}")
    _rolled_out(stage.release)
    stage.release.await_running()
    _must(not set(before.values()) & set(_uids(stage.release).values()), "every pod was replaced")
    return []


def upgrade(stage: Stage) -> Notes:
    """With another setting, which every pod has afterwards."""
    release = stage.release
    release.change_values({"batch": {"linger": "500ms"}})
    release.upgrade()
    _rolled_out(release)
    release.await_running()
    setting = 'linger = "500ms"'
    _must(
        all(any(setting in text for text in pod.annotations.values()) for pod in release.pods()),
        "every pod has the new setting",
    )
    return []


def secret_changed(stage: Stage) -> Notes:
    """What the daemon does not read restarts nothing. Changed authorities restart the pods with the next upgrade."""
    release, before = stage.release, _uids(stage.release)
    release.kubectl("annotate secret course-sync-kafka somebody=else")
    release.upgrade()
    _rolled_out(release)
    _must(_uids(release) == before, "an annotation of a Secret restarts nothing")
    release.put_authorities(stage.services.ca_file.read_text() + stage.other_authority.file.read_text())
    release.upgrade()
    _rolled_out(release)
    release.await_running()
    _must(not set(before.values()) & set(_uids(release).values()), "other authorities restart every pod")
    return []


def key_rotated(stage: Stage) -> Notes:
    """The old key is refused before the new one is in the Secret. No pod restarts."""
    release, before = stage.release, stage.release.pods()
    stage.services.tell_simulator("key", msgspec.json.encode({"api_key": NEW_KEY}))
    halted = wait_until(
        lambda: not any(pod.ready for pod in release.pods()), "pods that are halted", release.describe
    )
    release.put_key(NEW_KEY)
    began = time.monotonic()
    release.await_running()
    seconds = time.monotonic() - began
    after = {pod.uid: pod.restarts for pod in release.pods()}
    _must(after == {pod.uid: pod.restarts for pod in before}, "a rotated key restarts nothing")
    return [
        f"all pods not ready {halted:.0f} s after the API refused the key",
        f"running {seconds:.0f} s after the Secret had the new one",
    ]


def drain(stage: Stage) -> Notes:
    """Of the second node. Without an option for local data, and never two pods at a time."""
    release, node = stage.release, stage.nodes[1]
    moved = [pod for pod in release.pods() if pod.node == node.name]
    _must(bool(moved), f"{node.name} has a pod")
    began = time.monotonic()
    release.shell(f"kubectl drain {node.name} --ignore-daemonsets --timeout=600s")
    seconds = time.monotonic() - began
    release.await_running()
    _must(all(pod.node != node.name for pod in release.pods()), f"{node.name} is empty")
    release.shell(f"kubectl uncordon {node.name}")
    return [f"kubectl drain moved {len(moved)} of {REPLICAS} pods in {seconds:.0f} s"]


def kill_inside(stage: Stage) -> Notes:
    pod = stage.release.pod(0)
    signal_pod(stage.release, pod, signal.SIGKILL)
    _await_restart(stage.release, pod)
    stage.release.await_running()
    return []


def hang(stage: Stage) -> Notes:
    """SIGSTOP: nothing in the process can end it."""
    release, pod = stage.release, stage.release.pod(1)
    signal_pod(release, pod, signal.SIGSTOP)
    seconds = _await_restart(release, pod)
    release.await_running()
    return [f"the kubelet restarted the container after {seconds:.0f} s"]


def node_dies(stage: Stage) -> Notes:
    """And comes back. Meanwhile the others have its partitions; Kubernetes moves no pod of a StatefulSet by itself."""
    release, node = stage.release, stage.nodes[1]
    victim = next((pod for pod in release.pods() if pod.node == node.name), None)
    if victim is None:  # where a drain has left it empty
        release.kubectl(f"delete pod {WORKLOAD}-2")
        release.await_running()
        victim = next((pod for pod in release.pods() if pod.node == node.name), None)
    _must(victim is not None, f"{node.name} has a pod")
    survivors = [pod.name for pod in release.pods() if pod.node != node.name]
    node.die()

    def taken_over() -> bool:
        held = [release.partitions(pod) or {} for pod in release.pods() if pod.name in survivors]
        running = [number for one in held for number, state in one.items() if state == "running"]
        return sorted(running) == list(range(PARTITIONS))

    seconds = wait_until(taken_over, "the partitions to be taken over", release.describe)
    node.start()
    release.await_running()
    return [f"its partitions ran elsewhere after {seconds:.0f} s"]


def scale(stage: Stage) -> Notes:
    """As the chart's README describes, with Helm 4."""
    release = stage.release
    release.kubectl(f"scale statefulset/{WORKLOAD} --replicas={REPLICAS - 1}")
    began = time.monotonic()
    release.await_running(REPLICAS - 1)
    seconds = time.monotonic() - began
    refused = _refusal(release)
    _must("conflict" in refused and ".spec.replicas" in refused, f"Helm 4 names the conflict: {refused}")
    release.upgrade("--force-conflicts")
    release.await_running()
    return [f"all partitions ran in {REPLICAS - 1} pods after {seconds:.0f} s"]


def bad_upgrade(stage: Stage) -> Notes:
    """New pods cannot start. The old ones go on, also one that is killed, until the rollback."""
    release = stage.release
    before = _uids(release)
    release.upgrade(
        "--set config.kafka.tls_ca_file=/etc/passwd"
    )  # only the pod sees that it has no certificate

    def broken() -> list[Pod]:
        return [pod for pod in release.pods() if pod.uid not in before.values() and pod.restarts > 0]

    wait_until(lambda: bool(broken()), "a new pod that does not start", release.describe)
    _must(len(broken()) == 1, "one pod at a time is replaced")
    old = next(pod for pod in release.pods() if pod.uid in before.values())
    signal_pod(release, old, signal.SIGKILL)
    _await_restart(release, old)
    wait_until(
        lambda: release.pod(int(old.name[-1])).ready, f"{old.name} with its old settings", release.describe
    )
    release.shell("helm rollback sync --namespace course-sync")
    began = time.monotonic()
    release.await_running()
    return [f"all partitions ran {time.monotonic() - began:.0f} s after the rollback"]


def reinstall(stage: Stage) -> Notes:
    """Topics and group stay. The second time with Helm 3, which sets the replicas back without a conflict."""
    release = stage.release
    release.shell("helm uninstall sync --namespace course-sync --wait")
    wait_until(lambda: not release.pods(), "no pods")
    release.upgrade(helm="helm3")
    began = time.monotonic()
    release.await_running()
    seconds = time.monotonic() - began
    release.kubectl(f"scale statefulset/{WORKLOAD} --replicas={REPLICAS - 1}")
    release.await_running(REPLICAS - 1)
    release.upgrade(helm="helm3")
    release.await_running()
    return [f"all partitions ran {seconds:.0f} s after the second installation"]


def console(stage: Stage) -> Notes:
    """Installed as the chart's README says. What one operator pauses on the command line, another one resumes on the pages."""
    release, before = stage.release, _uids(stage.release)
    for command in readme_commands("Console"):
        if command.startswith("kubectl --namespace course-sync create secret"):
            release.shell(command)
    release.change_values({}, console={"enabled": True, "token": {"secret": "course-sync-console"}})
    release.upgrade()
    release.kubectl(f"rollout status deployment/{WORKLOAD}-console --timeout=600s")
    _must(_uids(release) == before, "a console restarts no replica")

    began = time.monotonic()
    release.kubectl(f"exec {WORKLOAD}-0 -- coursesyncd pause '{PAUSED}' --reason rehearsal")
    paused = time.monotonic() - began
    _await_pauses(release, 1)
    token = b64decode(json.loads(release.kubectl("get secret course-sync-console -o json"))["data"]["token"])
    pages = f"http://{release.console_address()}:8090"
    with httpx.Client(base_url=pages, timeout=30.0, trust_env=False) as client:
        sign_in(client, token.decode())
        about = f"/integration?id={quote(PAUSED)}"

        def page() -> str:
            return client.get(about).text

        wait_until(lambda: "rehearsal" in page(), "a page that shows the pause", page)
        answer = decide(client, "resume", PAUSED, "the rehearsal is over")
        _must(answer.status_code == 303, f"the page resumes it: {answer.text}")
        resumed = _await_pauses(release, 0)
    return [
        f"paused with kubectl exec within {paused:.0f} s",
        f"every replica had resumed {resumed:.1f} s after the click",
    ]


def _await_pauses(release: Release, count: int) -> float:
    def obeyed() -> bool:
        line = f"\ncoursesync_operator_pauses {count}.0\n"
        return all(line in release.metrics(pod) for pod in release.pods())

    return wait_until(obeyed, f"{count} pauses in each pod", release.describe)


def policies(stage: Stage) -> Notes:
    """Settings of single integrations are a mounted ConfigMap, which the kubelet renews."""
    release, before = stage.release, stage.release.pods()
    release.change_values({"integrations": {"workday:*": {"batch": {"items_max": 3}}}})
    release.upgrade()

    def reads(pod: Pod) -> bool:
        return "policies.read" in release.kubectl(f"logs {pod.name}")

    seconds = wait_until(lambda: all(map(reads, before)), "pods that read their policies", release.describe)
    shown = release.kubectl(f"exec {WORKLOAD}-0 -- coursesyncd integrations show workday:any")
    _must("workday:*" in shown, f"the command names the table: {shown}")
    release.await_running()
    _must(_uids(release) == {pod.name: pod.uid for pod in before}, "other policies restart nothing")
    return [f"every replica had read them after {seconds:.0f} s"]


def _refusal(release: Release) -> str:
    try:
        release.upgrade()
    except SandboxError as error:
        return str(error)
    raise SandboxError("Helm 4 did not refuse to undo `kubectl scale`.")


def _await_restart(release: Release, pod: Pod) -> float:
    number = int(pod.name.rpartition("-")[2])
    return wait_until(
        lambda: release.pod(number).restarts > pod.restarts, f"a restart of {pod.name}", release.describe
    )


PHASES: dict[str, Callable[[Stage], Notes]] = {
    "steady": steady,
    "delete": delete_pod,
    "force-delete": forced_delete,
    "restart": rollout_restart,
    "upgrade": upgrade,
    "console": console,
    "policies": policies,
    "secret": secret_changed,
    "key": key_rotated,
    "drain": drain,
    "kill": kill_inside,
    "hang": hang,
    "node": node_dies,
    "scale": scale,
    "bad-upgrade": bad_upgrade,
    "reinstall": reinstall,
}
"""By name, in the order in which all of them run."""
QUICK = ("delete", "upgrade")
