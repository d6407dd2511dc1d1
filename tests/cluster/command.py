"""`python -m tests.cluster`."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import click

from tests.cluster.binaries import assert_possible, binaries, image_archive
from tests.cluster.namespaces import be_process_1, remove_cgroups, run_apart
from tests.cluster.phases import PHASES, QUICK
from tests.cluster.places import Places
from tests.cluster.run import run
from tests.sandbox.kafka_jars import fetch_kafka
from tests.sandbox.terminal import directory_option, ending_in_order, plain_console, seed_option


def _phases(_context: click.Context, _parameter: click.Parameter, value: str) -> list[str]:
    names = {"all": list(PHASES), "quick": list(QUICK)}.get(value, value.split(","))
    if unknown := [name for name in names if name not in PHASES]:
        raise click.BadParameter(f"{', '.join(unknown)}: not among all, quick, {', '.join(PHASES)}")
    return names


@click.group()
def cluster() -> None:
    """A real Kubernetes of two nodes in namespaces of their own, for the image and the chart."""


@cluster.command()
@click.option(
    "--phases",
    "names",
    callback=_phases,
    default="all",
    show_default=True,
    help=f"all, quick, or names separated by commas: {', '.join(PHASES)}.",
)
@seed_option
@directory_option
def disturb(names: list[str], seed: int, directory: Path) -> None:
    """Install the chart as its README says, and disturb it while changes are published.

    The last line is JSON. The exit code is 1 if the contract was broken, or if something was not as documented. Nothing is left
    running, however it ends.
    """
    with ending_in_order():
        assert_possible()
        logs = directory.absolute() / "cluster"
        shutil.rmtree(logs, ignore_errors=True)
        logs.mkdir(parents=True)
        prefix = f"course-sync-{os.getpid()}"
        with tempfile.TemporaryDirectory(prefix="course-sync-cluster-", ignore_cleanup_errors=True) as name:
            work = Path(name)
            fetch_kafka()  # now: inside there is no network
            places = Places(work, logs, binaries(work / "bin"), image_archive(work), prefix)
            words = [
                str(places.work),
                str(places.logs),
                str(places.binaries),
                str(places.image),
                places.cgroup,
            ]
            inside = [sys.executable, "-m", "tests.cluster", "inside", *words, str(seed), *names]
            try:
                code = run_apart(inside)
            finally:
                remove_cgroups(prefix)
    sys.exit(code)


@cluster.command(hidden=True)
@click.argument("work", type=click.Path(path_type=Path))
@click.argument("logs", type=click.Path(path_type=Path))
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("image", type=click.Path(path_type=Path))
@click.argument("prefix")
@click.argument("seed", type=int)
@click.argument("names", nargs=-1)
def inside(
    work: Path, logs: Path, folder: Path, image: Path, prefix: str, seed: int, names: tuple[str, ...]
) -> None:
    """What `disturb` runs as process 1 of the namespaces."""
    places = Places(work, logs, folder, image, prefix)

    def program() -> int:
        console = plain_console()
        try:
            with ending_in_order():
                outcome = run(places, names, seed, console)
        except click.ClickException as error:
            error.show()
            return 1
        except SystemExit as end:
            return int(end.code or 0)
        outcome.print(console)
        click.echo(json.dumps(outcome.as_dict()))
        return 0 if outcome.verdict.ok else 1

    sys.exit(be_process_1(program))
