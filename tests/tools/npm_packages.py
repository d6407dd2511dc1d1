"""Packages from npm that tests need: fetched once, by the hashes of a lock file beside the test's own files."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest


def fetched(sources: Path) -> Path:
    """A folder of the cache with the files of `sources` and the packages of its lock file. Without npm the test is skipped, and
    fails where CI=true.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "course-sync-daemon"
    files = sorted(path for path in sources.iterdir() if path.is_file())
    content = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]
    kept = cache / f"{sources.name}-{content}"
    if not kept.is_dir() and (said := _fetch(files, kept)):
        sentence = f"NO PACKAGES OF {sources.name}: {said}"
        if os.environ.get("CI") == "true":
            pytest.fail(sentence, pytrace=False)
        pytest.skip(sentence)
    return kept


def _fetch(files: list[Path], kept: Path) -> str | None:
    """Why it did not work."""
    npm = shutil.which("npm")
    if npm is None:
        return "npm, which they are fetched with, is not installed"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as name:
        fresh = Path(name) / "packages"
        fresh.mkdir()
        for path in files:
            shutil.copy(path, fresh)
        command = [npm, "ci", "--ignore-scripts", "--silent", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=fresh, capture_output=True, text=True, timeout=300, check=False)  # noqa: S603 - nothing from outside
        if done.returncode:
            return f"npm ci failed: {(done.stderr or done.stdout).strip()[-500:]}"
        try:
            fresh.rename(kept)
        except OSError:  # another run was faster
            assert kept.is_dir()
    return None
