"""The Dockerfile without Docker: its own RUN lines, and the process as the image would start it.

There is no container engine where the tests run, but there are the namespaces that containers are made of. In one
of mount points the interpreter stands in for the base image, and what is written to /opt goes to a folder of the
test; in one of processes the daemon is process 1, as user 65532 on a root that cannot be written. Nothing outside
that folder is changed. What is not tried: the base image itself.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from tests.sandbox import local_http
from tests.sandbox.process import Child

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"
NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"

_BASE = """
set -eu
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work
mount -t overlay overlay -o lowerdir="$PYTHON_PREFIX",upperdir=/mnt/upper,workdir=/mnt/work /usr/local
"""
_BUILD = """
mount -t overlay overlay -o lowerdir=/opt,upperdir="$FOLDER/opt",workdir="$FOLDER/opt-work" /opt
cd {context}
{run_lines}
"""
# Only the build writes to /opt: several run at the same time, and two mounts cannot share what they write to.
_RUN = """
mount -t overlay overlay -o lowerdir="$FOLDER/opt":/opt /opt
mkdir /mnt/settings
cp "$FOLDER"/settings/* /mnt/settings
chmod 0444 /mnt/settings/*
mount -t tmpfs tmpfs /tmp
for mounted in / /opt /usr/local /mnt /tmp; do mount -o remount,ro,bind $mounted; done
cd {workdir}
exec setpriv --reuid {user} --regid {group} --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all \\
  env -i {environment} {command}
"""
SETTINGS = "/mnt/settings"
"""Where the process finds the files of `ImageSteps.settings`."""


class Instruction(NamedTuple):
    keyword: str
    rest: str


def instructions() -> list[Instruction]:
    """Of the Dockerfile, continued lines joined."""
    text = re.sub(r"\\\n\s*", " ", DOCKERFILE.read_text(encoding="utf-8"))
    lines = (line for line in text.splitlines() if line and not line.startswith("#"))
    return [Instruction(keyword, rest) for keyword, _, rest in (line.partition(" ") for line in lines)]


def stages() -> dict[str, list[Instruction]]:
    """By name, in their order; each with the instructions of the stages that it is built from before its own. All have
    names.
    """
    found: dict[str, list[Instruction]] = {}
    name = ""
    for instruction in instructions():
        if instruction.keyword == "FROM":
            base, _, name = instruction.rest.partition(" AS ")
            found[name] = list(found.get(base, ()))
        elif name:
            found[name].append(instruction)
    return found


def workdir(stage: list[Instruction]) -> str:
    return dict(stage).get("WORKDIR", "/")


def reason_against(folder: Path) -> str | None:
    """Why this machine cannot; None if it can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "it takes root on Linux to make namespaces"
    if not all(map(shutil.which, ("unshare", "setpriv"))):
        return "unshare and setpriv of util-linux are missing"
    tried = subprocess.run(
        [*NAMESPACES, "bash", "-c", _BASE],
        env=ImageSteps(folder).outside,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return None if tried.returncode == 0 else f"namespaces are not allowed: {tried.stderr.strip()}"


class ImageSteps:
    """A folder that other users may enter, with what the build makes in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.environment = folder / "opt" / "course-sync-daemon"
        self.settings = folder / "settings"
        for made in (folder, folder / "opt", folder / "opt-work", self.settings):
            made.mkdir(exist_ok=True)
            made.chmod(0o755)

    def build(self) -> None:
        """Copy what the Dockerfile copies, and run what it runs.

        Raises:
            subprocess.CalledProcessError: one of its lines failed.
        """
        run_lines = [rest for keyword, rest in instructions() if keyword == "RUN"]
        for stage in stages().values():
            for keyword, rest in stage:
                words = rest.split()
                if keyword == "COPY" and not words[0].startswith("--"):
                    for source in words[:-1]:
                        _copy(ROOT / source, self._at(PurePosixPath(workdir(stage), words[-1])))
        context = self._at(PurePosixPath(workdir(stages()["build"])))
        arguments = [rest for keyword, rest in stages()["build"] if keyword == "ARG"]  # with their defaults
        script = _BASE + _BUILD.format(
            context=shlex.quote(str(context)), run_lines="\n".join([*arguments, *run_lines])
        )
        subprocess.run(
            [*NAMESPACES, "bash", "-c", script],
            env=self.outside,
            check=True,
            timeout=600,
            stdout=subprocess.DEVNULL,
        )

    def _at(self, path: PurePosixPath) -> Path:
        """Where this path of the image is, before the mounts: below /opt it is seen there."""
        return self._folder / path.relative_to("/")

    @contextmanager
    def running(
        self,
        *words: str,
        variables: Mapping[str, str],
        log: Path,
        target: str = "daemon",
        user: str | None = None,
    ) -> Iterator[Child]:
        """Process 1 of the image of this target, with these arguments. `user` is UID:GID, by default that of the image. No
        directory is writable. The `Child` is `unshare`, which ends with the exit code of the one inside; signals reach both,
        and `unshare` waits on. What still runs at the end is killed.
        """
        stage = stages()[target]
        command = [*json.loads(dict(stage)["ENTRYPOINT"]), *words]
        given = {"PATH": SYSTEM_PATH} | _variables_of(stage) | dict(variables)
        # The stand-in's libpython is where the base image's loader would find it by itself.
        given["LD_LIBRARY_PATH"] = "/usr/local/lib"
        uid, _, gid = (user or dict(stage)["USER"]).partition(":")
        script = _BASE + _RUN.format(
            user=uid,
            group=gid,
            environment=shlex.join(f"{name}={value}" for name, value in given.items()),
            command=shlex.join(command),
            workdir=shlex.quote(workdir(stage)),
        )
        child = Child.start(words[0], [*NAMESPACES, "bash", "-c", script], log=log, env=self.outside)
        try:
            yield child
        finally:
            child.kill()  # the whole group, of which one is process 1: with it all of its namespace

    @property
    def outside(self) -> dict[str, str]:
        """The environment of what makes the namespaces."""
        own = {
            "FOLDER": str(self._folder),
            "PYTHON_PREFIX": sys.base_prefix,
            "PATH": SYSTEM_PATH + ":/usr/sbin:/sbin",
        }
        kept = {
            name: value for name, value in os.environ.items() if name.startswith("PIP_") or name == "HOME"
        }
        return kept | own | {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_QUIET": "1"}


def status(port: int, path: str, child: Child) -> int:
    """Of the answer, 0 when there is none yet. The process must live."""
    assert child.running, child.obituary()
    try:
        local_http.get(f"http://127.0.0.1:{port}{path}")
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0
    return 200


def wait_until(condition: Callable[[], bool], what: str, timeout: float = 120.0) -> None:
    """Ask until it says yes; `timeout` in seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        time.sleep(0.1)


@contextmanager
def enterable_folder() -> Iterator[Path]:
    """Unlike pytest's own, which only its user may enter."""
    with tempfile.TemporaryDirectory(prefix="course-sync-image-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def _variables_of(stage: list[Instruction]) -> dict[str, str]:
    pairs = (word.partition("=") for keyword, rest in stage if keyword == "ENV" for word in rest.split())
    return {name: value.replace("$PATH", SYSTEM_PATH) for name, _, value in pairs}


def _copy(source: Path, to: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, to, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        to.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, to)
