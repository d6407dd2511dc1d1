"""The `simulator` command."""

from __future__ import annotations

import asyncio
import os

import click
import msgspec

from tests.sandbox.simulator.faults import PRESETS, FaultPlan, PlanError, load_plan
from tests.sandbox.simulator.server import serve

DEFAULT_API_KEY = "sandbox-key"


def _read_plan(_ctx: click.Context, _param: click.Parameter, value: str) -> FaultPlan:
    try:
        return load_plan(value)
    except PlanError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0 (default): a free port.")
@click.option("--seed", type=int, default=1, show_default=True, help="Decides which faults happen.")
@click.option("--api-key", default=DEFAULT_API_KEY, show_default=True, help="The accepted key.")
@click.option(
    "--faults",
    "plan",
    callback=_read_plan,
    metavar="PLAN",
    default="none",
    show_default=True,
    help=f"One of {', '.join(PRESETS)}, a TOML or JSON file, or a JSON object.",
)
@click.option(
    "--task-seconds",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    help="Average duration of a task; 0: done at the first poll.",
)
def simulator(*, host: str, port: int, seed: int, api_key: str, plan: FaultPlan, task_seconds: float) -> None:
    """Simulate the Kombo LMS API, with faults.

    Prints one line of JSON when it listens: `url` (its root, for /_sim/…), `base_url` (of the API),
    `pid` and `seed`. Ends on SIGTERM and SIGINT.
    """

    def announce(url: str) -> None:
        line = {"url": url, "base_url": f"{url}/v1", "pid": os.getpid(), "seed": seed}
        click.echo(msgspec.json.encode(line))

    try:
        asyncio.run(
            serve(
                host,
                port,
                seed=seed,
                api_key=api_key,
                plan=plan,
                task_seconds=task_seconds,
                announce=announce,
            )
        )
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
