"""What must be there before a cluster can be started: programs, Kubernetes, Helm, and the image."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from tests.chart.container_engine import IMAGES, NoEngineError, find_engine
from tests.chart.helm_binary import NoHelmError, find_helm
from tests.cluster.node import PAUSE
from tests.sandbox.process import SandboxError

_BUILD = Path(__file__).with_name("kubernetes.sh")
_PACKAGES = Path(__file__).parents[1] / "tools" / "debian_packages.sh"
_PAUSE_FILE = f'FROM {IMAGES["daemon"]}\nENTRYPOINT ["sleep", "infinity"]\n'


def assert_possible() -> None:
    """Raises SandboxError: this machine lacks something. The message says what."""
    if os.geteuid() != 0:
        raise SandboxError("A cluster needs root, for namespaces, mounts and network devices.")
    if not Path("/sys/fs/cgroup/cpuset").is_dir():
        raise SandboxError("The nodes need cgroups of version 1, which this machine does not have.")
    done = subprocess.run([_PACKAGES, "cluster"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SandboxError(done.stderr.strip())


def binaries(into: Path) -> Path:
    """A folder with links to all of them; the first time, after building them.

    Raises:
        SandboxError: they cannot be built.
    """
    folder = _build()
    into.mkdir()
    for program in folder.iterdir():
        if program.is_file() and os.access(program, os.X_OK):
            (into / program.name).symlink_to(program)
    try:
        (into / "helm").symlink_to(find_helm())
    except NoHelmError as error:
        raise SandboxError(str(error)) from error
    return into


def image_archive(folder: Path) -> Path:
    """The image of this checkout, and one for the pods' namespaces, made of the same layers.

    Raises:
        SandboxError: they cannot be built.
    """
    try:
        engine = find_engine()
        engine.build()
        (folder / "Dockerfile.pause").write_text(_PAUSE_FILE)
        context = folder / "empty"
        context.mkdir()
        engine(
            "build",
            *engine.build_options,
            f"--file={folder}/Dockerfile.pause",
            f"--tag={PAUSE}",
            str(context),
        )
        archive = folder / "images.tar"
        several = () if engine.command == ("docker",) else ("--multi-image-archive",)
        engine("save", *several, f"--output={archive}", IMAGES["daemon"], PAUSE)
    except NoEngineError as error:
        raise SandboxError(str(error)) from error
    return archive


def _build() -> Path:
    """All processes of the build are ended if this one is interrupted."""
    process = subprocess.Popen([_BUILD], stdout=subprocess.PIPE, text=True, process_group=0)
    try:
        printed, _ = process.communicate()
    except BaseException:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        raise
    if process.returncode:
        raise SandboxError("Kubernetes could not be built.")
    return Path(printed.strip())
