"""The image, built from the Dockerfile, and its containers: by Docker, or by podman.

`python -m tests.chart.container_engine` builds it and prints its layers.

podman builds on the Dockerfile's own base image if one of the machine's registries has it, else on a stand-in from Debian's
packages (stand_in_base.sh). Containers get as little as in the cluster: the user of the image, a root that cannot be written,
/tmp neither, and no capability. They share the network of the machine.
"""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.sandbox.process import Child

from .dockerfile import ROOT, instructions

VERSION = "0.1.0"
IMAGES = {
    "daemon": f"localhost/course-sync-daemon:{VERSION}",
    "sandbox": f"localhost/course-sync-sandbox:{VERSION}",
}
"""By target of the Dockerfile."""
SETTINGS = "/etc/course-sync-daemon"
"""Where the chart mounts the settings."""

_STAND_IN = "localhost/course-sync-base:trixie"
_STAND_IN_SCRIPT = Path(__file__).with_name("stand_in_base.sh")
_HARDENED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--network=host")
# A machine's own way to the packages: its certificate authorities and pip's settings. Nothing of them stays in the image.
_FOR_PIP = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")
_BUILD_TIMEOUT = 900.0
_TIMEOUT = 120.0
"""Seconds for anything else."""


class NoEngineError(Exception):
    """There is none, or it cannot build or run; the message says why, and what to do."""


@dataclass(frozen=True)
class Engine:
    command: tuple[str, ...]
    build_options: tuple[str, ...] = ()
    run_options: tuple[str, ...] = ()

    def __call__(self, *words: str, timeout: float = _TIMEOUT) -> str:
        """What it prints.

        Raises:
            NoEngineError: it failed.
        """
        done = subprocess.run(
            [*self.command, *words], capture_output=True, text=True, timeout=timeout, check=False
        )
        if done.returncode:
            raise NoEngineError(f"{' '.join((*self.command, *words))}:\n{done.stderr.strip()[-2000:]}")
        return done.stdout

    def build(self) -> None:
        """All targets. Seconds if nothing has changed.

        Raises:
            NoEngineError: it failed.
        """
        for target, image in IMAGES.items():
            options = (
                *self.build_options,
                f"--target={target}",
                f"--build-arg=VERSION={VERSION}",
                f"--tag={image}",
            )
            self("build", *options, str(ROOT), timeout=_BUILD_TIMEOUT)

    def create(self, image: str, words: Sequence[str], *options: str) -> str:
        """A hardened container that is not started yet. Returns its name."""
        name = f"course-sync-{uuid.uuid4().hex[:12]}"
        self("create", f"--name={name}", *_HARDENED, *self.run_options, *options, image, *words)
        return name

    @contextmanager
    def running(
        self,
        *words: str,
        log: Path,
        target: str = "daemon",
        variables: Mapping[str, str] | None = None,
        settings: Path | None = None,
        options: Sequence[str] = (),
    ) -> Iterator[Child]:
        """A container with these arguments, in the foreground: the `Child` passes signals on and ends with its exit code. The
        folder `settings` is mounted at `SETTINGS`. What still runs at the end is removed.
        """
        given = [f"--env={name}={value}" for name, value in (variables or {}).items()]
        mounted = [f"--volume={settings}:{SETTINGS}:ro"] if settings else []
        name = self.create(IMAGES[target], words, *given, *mounted, *options)
        try:
            child = Child.start(words[0], [*self.command, "start", "--attach", name], log=log)
            try:
                yield child
            finally:
                child.kill()
        finally:
            self("rm", "--force", name)

    def layers(self) -> list[str]:
        """Size of each layer of the daemon's image, and what made it, the lowest first."""
        lines = self(
            "history", "--no-trunc", "--format={{.Size}}\t{{.CreatedBy}}", IMAGES["daemon"]
        ).splitlines()
        return [line for line in reversed(lines) if not re.match(r"0 ?B\t", line)]


def find_engine() -> Engine:
    """One that can build. The first time, making the stand-in for the base image takes a minute.

    Raises:
        NoEngineError
    """
    if (
        shutil.which("docker")
        and not subprocess.run(["docker", "info"], capture_output=True, check=False).returncode
    ):
        return Engine(("docker",))
    if not shutil.which("podman"):
        raise NoEngineError(
            "there is neither a running Docker nor podman: apt install podman runc mmdebstrap"
        )
    command: tuple[str, ...] = ("podman",)
    if not Path("/sys/fs/cgroup/cgroup.controllers").exists():
        # crun refuses a mixture of the two versions of cgroups.
        command += ("--runtime=runc", "--cgroup-manager=cgroupfs", "--events-backend=file")
    run_options = ("--read-only-tmpfs=false", *_ulimits())
    mounts = tuple(f"--volume={path}:{path}:ro" for path in _FOR_PIP if Path(path).exists())
    # Without namespaces, which are not allowed everywhere. The network is that of the machine.
    build_options = ("--isolation=chroot", "--layers", "--quiet", *mounts)
    engine = Engine(command, run_options=run_options)
    base = dict(instructions())["ARG"].partition("=")[2]
    try:
        engine("pull", "--quiet", base, timeout=_BUILD_TIMEOUT)
    except NoEngineError:
        _import_stand_in(engine)
        build_options += ("--pull=never", f"--build-arg=PYTHON={_STAND_IN}")
    return Engine(command, build_options, run_options)


def _ulimits() -> Iterator[str]:
    """Not above those of this process: podman's own defaults are, and not everywhere root may raise them."""
    for name, number, most in (
        ("nofile", resource.RLIMIT_NOFILE, 20_000),
        ("nproc", resource.RLIMIT_NPROC, 30_000),
    ):
        hard = resource.getrlimit(number)[1]
        limit = most if hard == resource.RLIM_INFINITY else min(hard, most)
        yield f"--ulimit={name}={limit}:{limit}"


def _import_stand_in(engine: Engine) -> None:
    found = subprocess.run(
        [_STAND_IN_SCRIPT], capture_output=True, text=True, timeout=_BUILD_TIMEOUT, check=False
    )
    if found.returncode:
        raise NoEngineError(found.stderr.strip())
    made = Path(found.stdout.strip())
    stamp = f"made={made.stat().st_mtime_ns}"
    images = json.loads(engine("images", "--format=json", f"--filter=label={stamp}"))
    if not images:
        engine("import", "--quiet", f"--change=LABEL {stamp}", str(made), _STAND_IN, timeout=_BUILD_TIMEOUT)


def main() -> None:
    """Build the image, and print what it consists of."""
    try:
        engine = find_engine()
        engine.build()
        layers = engine.layers()
    except NoEngineError as error:
        sys.exit(str(error))
    for layer in layers:
        size, _, made_by = layer.partition("\t")
        print(f"{size:>10}  {made_by[:120]}")
    print(f"Built by {engine.command[0]}: {IMAGES['daemon']}")


if __name__ == "__main__":
    main()
