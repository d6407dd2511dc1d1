"""`make sandbox`: starts all parts and keeps them running for experiments."""

from __future__ import annotations

import shlex
import sys
import time
from pathlib import Path

import msgspec
from rich.console import Console

from tests.sandbox.stack import Stack

_LOOK_EVERY = 0.2
_LIFE_MIN = 5.0
"""Seconds for which a daemon must have run to be restarted. One that ends at once would do so again and again."""

_EXAMPLE = {
    "id": "chg-1",
    "type": "course.upserted",
    "integration_id": "workday:HWUTwvyx2wLoSUHphiWVrp28",
    "origin_id": "cybersecurity-101",
    "time": "2026-11-23T10:00:00Z",
    "course": {
        "type": "EXTERNAL",
        "title": "Introduction to Cybersecurity",
        "course_url": "https://example.com/c/1",
        "duration": 45,
        "languages": ["en"],
    },
}


def stay_up(directory: Path, *, faults: str, seed: int, console: Console) -> None:
    """Start everything, print instructions, and restart the daemon when it is killed.

    Never returns: Ctrl-C (KeyboardInterrupt) ends it.

    Raises:
        SandboxError, LogError: a part failed; everything has been ended.
    """
    with Stack(directory, faults=faults, seed=seed, say=console.print) as stack:
        console.print("Starting coursesyncd …")
        stack.start_daemon()
        stack.await_ready()
        console.print(_instructions(stack), highlight=False, markup=False, soft_wrap=True)
        started = time.monotonic()
        while True:
            time.sleep(_LOOK_EVERY)
            if not stack.daemon_running:
                if time.monotonic() - started < _LIFE_MIN:
                    stack.assert_running()
                stack.start_daemon()
                console.print(f"coursesyncd had ended; it was restarted as process {stack.daemon_pid}.")
                started = time.monotonic()
            stack.assert_running()


def _instructions(stack: Stack) -> str:
    at, folder = stack.addresses, stack.directory
    env = folder / "env"
    env.write_text(_shell_environment(stack))
    example = folder / "example.jsonl"
    example.write_bytes(msgspec.json.encode(_EXAMPLE) + b"\n")
    return f"""
Everything is running. In another terminal, first run:

  source {env}

Publish a change, and watch the results:

  coursesyncd publish {example}
  coursesyncd results --follow

Publish many changes, valid and invalid, 100 per second:

  python -m tests.sandbox generate --changes 1000 --rate 100

Inspect the daemon, and the learning systems and tasks of the simulated API:

  curl -s {at.admin_url}/metrics
  curl -s {at.simulator.url}/_sim/lms
  curl -s {at.simulator.url}/_sim/tasks

Look at all of it in a browser, and check everything when every change has its result:

  coursesyncd console
  python -m tests.sandbox check

Kill the daemon (it is restarted), and let the API misbehave:

  kill -9 {stack.daemon_pid}
  curl -d demo {at.simulator.url}/_sim/faults

Give the API another key, publish a change and see why the daemon is not ready; then give the daemon the new key:

  curl -d '{{"api_key": "another"}}' {at.simulator.url}/_sim/key
  curl -s {at.admin_url}/readyz
  echo another > {shlex.quote(str(stack.api_key_file))}

Logs are in {folder}. Ctrl-C ends everything.
"""


def _shell_environment(stack: Stack) -> str:
    """Lines for `source`: the settings of this sandbox, the simulator's root, and `coursesyncd` on the PATH."""
    settings = {name: value for name, value in stack.environment.items() if name.startswith("COURSESYNC_")}
    settings["SIMULATOR"] = stack.addresses.simulator.url
    lines = [f"export {name}={shlex.quote(value)}" for name, value in settings.items()]
    return "\n".join([*lines, f'export PATH={shlex.quote(str(Path(sys.executable).parent))}:"$PATH"', ""])
