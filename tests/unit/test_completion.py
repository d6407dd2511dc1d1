"""Shell completion: what the README says for bash works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize(
    ("words", "completed"),
    [
        (["coursesyncd", "republ"], {"republish"}),
        (["coursesyncd", "dead-letters", ""], {"list", "show"}),
        (["coursesyncd", "results", "--stat"], {"--status"}),
        (["coursesyncd", "republish", "--status", ""], {"failed", "timed_out", "rejected"}),
    ],
)
def test_bash_completes_commands_options_and_values(words: list[str], completed: set[str]) -> None:
    (line,) = re.findall(r"^eval .*bash_source.*$", README.read_text(), re.MULTILINE)
    script = f"""
    {line}
    COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
    _coursesyncd_completion coursesyncd
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script, "bash", *words],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert set(done.stdout.split()) == completed
