"""The jars of Apache Kafka, fetched once by Maven, and what is made of them once. Both are kept in the user's cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.sandbox.process import SandboxError

POM = Path(__file__).with_name("kafka-pom.xml")
JAVA_MIN = 17


class MissingToolError(SandboxError):
    """A program that the sandbox needs is not installed."""


def kafka_version() -> str:
    version = ET.parse(POM).getroot().findtext("{*}version")
    assert version
    return version


def require_java() -> str:
    """The path of a Java that can run the broker.

    Raises:
        MissingToolError: no Java is installed, or it is too old.
    """
    java = _java_path()
    shown = subprocess.run(
        [java, "-XshowSettings:properties", "-version"], capture_output=True, text=True, check=False
    )
    for line in shown.stderr.splitlines():
        name, _, value = line.strip().partition(" = ")
        if name == "java.specification.version" and int(value.removeprefix("1.")) >= JAVA_MIN:
            return java
    raise MissingToolError(f"{java} is not Java {JAVA_MIN} or newer. {_HOW_TO_INSTALL}")


def fetch_kafka() -> Path:
    """The folder with all jars of the broker. They are fetched if necessary (44 MB, once).

    Concurrent calls of two processes are safe: one fetches, the other waits for it.

    Raises:
        MissingToolError: Maven is not installed, and the cache is empty.
        SandboxError: Maven could not fetch them. The message contains its last output.
    """
    jars = _cache() / f"kafka-{kafka_version()}"
    if _complete(jars):
        return jars
    maven = shutil.which("mvn")
    if maven is None:
        raise MissingToolError(
            f"Maven is needed to fetch Apache Kafka, and there is no mvn on the PATH. {_HOW_TO_INSTALL}"
        )
    with _alone(jars):
        if not _complete(jars):
            _fetch(maven, jars)
    return jars


def kept_template(java: str, jars: Path, make: Callable[[Path], None]) -> Path:
    """The folder that `make` fills once for this Java and these jars. Concurrent calls are safe, as above.

    Raises:
        SandboxError: what `make` raises.
    """
    files = [Path(java).resolve(), *sorted(jars.glob("*.jar"))]
    known_by = "".join(f"{file} {file.stat().st_mtime_ns}\n" for file in files)  # as Java compares them
    template = _cache() / f"{jars.name}-template-{hashlib.sha256(known_by.encode()).hexdigest()[:12]}"
    if template.is_dir():
        return template
    with _alone(template):
        if not template.is_dir():
            with tempfile.TemporaryDirectory(prefix=f"{template.name}-", dir=template.parent) as work:
                made = Path(work) / "template"
                made.mkdir()
                make(made)
                made.rename(template)
    return template


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "course-sync-daemon"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No other process makes this folder at the same time."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _java_path() -> str:
    if home := os.environ.get("JAVA_HOME"):
        java = Path(home) / "bin" / "java"
        if java.is_file():
            return str(java)
    if path := shutil.which("java"):
        return path
    raise MissingToolError(
        f"Apache Kafka needs Java {JAVA_MIN} or newer, and there is no java on the PATH. {_HOW_TO_INSTALL}"
    )


_HOW_TO_INSTALL = (
    "Install both with your package manager (Debian and Ubuntu: apt install openjdk-17-jre-headless maven; "
    "macOS: brew install openjdk@17 maven), or set KAFKA=host:port to use a Kafka that is already running."
)


def _complete(jars: Path) -> bool:
    """Whether the folder is complete. It contains the pom with which it was fetched; a changed pom means other jars."""
    kept = jars / POM.name
    return kept.is_file() and kept.read_bytes() == POM.read_bytes()


def _fetch(maven: str, jars: Path) -> None:
    """Fetch into a temporary folder and rename it, so that an incomplete fetch is never used."""
    with tempfile.TemporaryDirectory(prefix=f"{jars.name}-", dir=jars.parent) as work:
        fetched = Path(work) / "jars"
        command = [maven, "--batch-mode", "--quiet", "--file", str(POM), "dependency:copy-dependencies"]
        done = subprocess.run(
            [*command, f"-DoutputDirectory={fetched}", "-DincludeScope=runtime"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            last_lines = "\n".join(f"  {line}" for line in done.stdout.splitlines()[-15:])
            raise SandboxError(f"Maven could not fetch Apache Kafka (is there a network?):\n{last_lines}")
        shutil.copyfile(POM, fetched / POM.name)
        shutil.rmtree(jars, ignore_errors=True)
        fetched.rename(jars)
