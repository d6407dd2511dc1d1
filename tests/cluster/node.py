"""A node: containerd and a kubelet, with their own folders and address."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.cluster.places import CONTROL_PLANE, Places, node_address
from tests.sandbox.process import Child, SandboxError

PAUSE = "localhost/course-sync-pause:1"
"""Holds the namespaces of a pod."""

_CNI = """{{"cniVersion": "0.4.0", "name": "pods", "plugins": [{{"type": "bridge", "bridge": "pods{number}", "isGateway": true,
 "hairpinMode": true, "ipam": {{"type": "host-local", "dataDir": "{folder}/addresses",
 "ranges": [[{{"subnet": "10.88.{number}.0/24"}}]], "routes": [{{"dst": "0.0.0.0/0"}}]}}}}]}}
"""
_CONTAINERD = """
version = 2
root = "{folder}/containerd"
state = "{run}/containerd"
oom_score = 0
[grpc]
  address = "{run}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true      # not everywhere root may lower it
  disable_apparmor = true
  tolerate_missing_hugetlb_controller = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = "{run}/runc"
"""
_KUBELET = """
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: {address}
readOnlyPort: 0
healthzPort: 0
cgroupDriver: cgroupfs
cgroupRoot: /{cgroup}
failCgroupV1: false                  # the last Kubernetes that is sure to know it: 1.34
failSwapOn: false
authentication: {{anonymous: {{enabled: true}}, webhook: {{enabled: false}}}}
authorization: {{mode: AlwaysAllow}}
containerRuntimeEndpoint: unix://{run}/containerd.sock
resolvConf: {folder}/resolv.conf
featureGates: {{KubeletInUserNamespace: true}}   # tolerates what root may not do here
enforceNodeAllocatable: [pods]
imageGCHighThresholdPercent: 100
evictionHard: {{memory.available: 100Mi, nodefs.available: 1%, imagefs.available: 1%, nodefs.inodesFree: 1%}}
nodeStatusUpdateFrequency: 4s
volumePluginDir: {folder}/plugins
podLogsDir: {folder}/pod-logs        # a kubelet deletes the logs of pods that are not its own
"""
_TIMEOUT = 180.0


class Node:
    """It can die and come back. Its name is that in the cluster."""

    def __init__(self, places: Places, number: int) -> None:
        self.name = f"node{number}"
        self._places = places
        self._number = number
        self._folder = places.work / self.name
        self._run = Path("/run/k8s") / self.name
        self._cgroup = f"{places.cgroup}-{self.name}"
        self._children: list[Child] = []

    def prepare(self) -> None:
        """Write its configuration and load the images. Once."""
        for folder in (self._folder / "cni", self._folder / "plugins", self._run):
            folder.mkdir(parents=True)
        values = {
            "number": self._number,
            "folder": self._folder,
            "run": self._run,
            "pause": PAUSE,
            "address": node_address(self._number),
            "cgroup": self._cgroup,
        }
        (self._folder / "cni" / "10-pods.conflist").write_text(_CNI.format(**values))
        (self._folder / "containerd.toml").write_text(_CONTAINERD.format(**values))
        (self._folder / "kubelet.yaml").write_text(_KUBELET.format(**values))
        (self._folder / "resolv.conf").write_text(f"nameserver {CONTROL_PLANE}\n")
        for controller in Path("/sys/fs/cgroup").iterdir():
            if controller.is_dir() and not controller.is_symlink():
                (controller / self._cgroup).mkdir(exist_ok=True)
        cpuset = Path("/sys/fs/cgroup/cpuset")
        for name in ("cpuset.cpus", "cpuset.mems"):
            (cpuset / self._cgroup / name).write_text((cpuset / name).read_text())
        # As much as ten processes get. Otherwise all pods of the node together would get as much as any one process outside,
        # and would not answer their probes while the machine is busy.
        (Path("/sys/fs/cgroup/cpu") / self._cgroup / "cpu.shares").write_text("10240")
        self._start_containerd()
        self._ctr("--namespace=k8s.io", "images", "import", str(self._places.image))

    def start(self) -> None:
        """Start it, or switch it on again after `die`."""
        if not self._children:
            self._start_containerd()
        command = [str(self._places.binaries / "kubelet"), f"--config={self._folder}/kubelet.yaml"]
        command += [f"--kubeconfig={self._places.work}/kubeconfig", f"--hostname-override={self.name}"]
        command += [f"--node-ip={node_address(self._number)}", f"--root-dir={self._folder}/kubelet"]
        command += [
            f"--cert-dir={self._folder}/keys",
            f"--node-labels=topology.kubernetes.io/zone=zone{self._number}",
        ]
        log = self._places.log(f"kubelet-{self.name}")
        self._children.append(Child.start(f"kubelet of {self.name}", command, log=log))

    def die(self) -> None:
        """End everything that runs on it as kill -9 does, as if its power were cut."""
        for child in self._children:
            child.kill()
        self._children.clear()
        deadline = time.monotonic() + _TIMEOUT
        while found := list(self._processes()):
            for pid in found:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise SandboxError(f"processes of {self.name} do not end: {found}")
            time.sleep(0.1)

    def assert_running(self) -> None:
        """Raises SandboxError."""
        for child in self._children:
            if not child.running:
                raise SandboxError(child.obituary())

    def _processes(self) -> Iterator[int]:
        """Of its pods, and what containerd has started for them. Not those that have ended and are only not reaped yet."""
        for found in Path("/proc").iterdir():
            if not found.name.isdigit():
                continue
            try:
                groups = (found / "cgroup").read_text()
                command = (found / "cmdline").read_bytes()
            except OSError:
                continue
            if command and (f"/{self._cgroup}/" in groups or str(self._run).encode() in command):
                yield int(found.name)

    def _start_containerd(self) -> None:
        command = ["containerd", "--config", str(self._folder / "containerd.toml")]
        log = self._places.log(f"containerd-{self.name}")
        self._children.append(Child.start(f"containerd of {self.name}", command, log=log))
        deadline = time.monotonic() + _TIMEOUT
        while True:
            try:
                self._ctr("version")
                return
            except SandboxError:
                self.assert_running()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _ctr(self, *words: str) -> None:
        command = ["ctr", f"--address={self._run}/containerd.sock", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
        if done.returncode:
            raise SandboxError(f"{' '.join(command)}: {done.stderr.strip()[-500:]}")
