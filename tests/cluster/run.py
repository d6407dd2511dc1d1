"""Starts everything, publishes changes during the phases, and asks the checker. Runs inside the namespaces."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import msgspec
from rich.console import Console

from daemon.log.port import Topics
from daemon.log.topic_access import read_topic
from tests.cluster.control_plane import start_control_plane
from tests.cluster.figures import Ending, Phase, Row, Source, rows
from tests.cluster.kubernetes import Shell
from tests.cluster.node import Node
from tests.cluster.outcome import Outcome
from tests.cluster.phases import PHASES, Stage
from tests.cluster.places import NODES, Places
from tests.cluster.release import Release
from tests.cluster.services import Services
from tests.sandbox.checker.command import print_verdict
from tests.sandbox.checker.readers import check_run
from tests.sandbox.generator import Plan
from tests.sandbox.publishing import Publishing
from tests.sandbox.results_view import RESOLVED, ResultsView
from tests.tls_files import Authority

RATE = 24.0
"""Changes per second: about two for each partition, so that no pause of a second is missed."""
CHANGES_MAX = 10_000_000
"""More than any run needs: publishing is stopped after the last phase."""
READING_MS = 1000
"""A change that is published so long before a disturbance may not be read yet when that begins, so it counts for it."""
RESULTS_PATIENCE = 180.0
"""Seconds without any new result after which those that are missing count as lost."""
_GROUND = Path(__file__).with_name("ground.sh")

Say = Callable[[str], None]


class _Change(msgspec.Struct):
    partition: int
    offset: int


class _Data(msgspec.Struct):
    change: _Change
    consumed_at: str


class _Event(msgspec.Struct):
    type: str
    data: _Data


def run(places: Places, names: Sequence[str], seed: int, console: Console) -> Outcome:
    """Raises SandboxError, LogError, EvidenceError: a part failed."""
    environment = {"WORK": str(places.work), "NODES": str(NODES)}
    subprocess.run([_GROUND], env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **environment}, check=True)
    places.keys.mkdir()
    authority = Authority.make(places.keys, "cluster")
    began = time.monotonic()

    def say(text: str) -> None:
        console.print(f"{time.monotonic() - began:6.0f} s  {text}", soft_wrap=True)

    say("starting Kubernetes")
    api = start_control_plane(places, authority)
    nodes = [Node(places, number) for number in range(1, NODES + 1)]
    for node in nodes:
        node.prepare()
        node.start()
    api.await_nodes(NODES)
    say("starting Kafka and the API")
    services_authority = Authority.make(places.keys, "services")
    with Services(places, services_authority) as services:
        shell = _shell(places)
        release = Release(api, shell, places.work / "person", services)
        stage = Stage(release, services, nodes, Authority.make(places.keys, "other"))
        say("installing the chart, as its README says")
        release.install()
        release.await_running()
        phases, ended_at = _disturb(stage, names, seed, say)
        say("waiting for the last results")
        _await_results(services)
        release.shell("helm test sync --namespace course-sync --logs")
        verdict = check_run(
            services.connection,
            Topics().changes,
            Topics().results,
            services.simulator_url,
            courses_topic=Topics().courses,
        )
        print_verdict(console, verdict)
        return Outcome(_measure(services, phases, ended_at), verdict, time.monotonic() - began)


def _shell(places: Places) -> Shell:
    folder = places.work / "person"
    folder.mkdir()
    helm = {f"HELM_{kind}_HOME": str(places.work / "helm") for kind in ("CACHE", "CONFIG", "DATA")}
    variables = {"KUBECONFIG": str(places.work / "kubeconfig"), **helm}
    return Shell(folder, places.log("commands"), variables, places.binaries)


def _disturb(stage: Stage, names: Sequence[str], seed: int, say: Say) -> tuple[list[Phase], int]:
    """Returns the phases, and when the last one ended."""
    plan = Plan(seed=seed, changes=CHANGES_MAX, integrations=60, first_time_ms=_now())
    phases: list[Phase] = []
    with Publishing(stage.services.connection, Topics().changes, plan, RATE) as publishing:
        for name in names:
            say(f"{name} ({publishing.published:,} changes so far)")
            phases.append(Phase(name, _now() - READING_MS))
            phases[-1].notes += PHASES[name](stage)
            assert not publishing.done
            for note in phases[-1].notes:
                say(f"  {note}")
            for node in stage.nodes:
                node.assert_running()
    return phases, _now()


def _await_results(services: Services) -> None:
    total = sum(1 for _ in read_topic(services.connection, Topics().changes))
    with ResultsView(services.connection, Topics().results) as view:
        since = time.monotonic()
        while len(view.resolved) < total and time.monotonic() - since < RESULTS_PATIENCE:
            if view.poll(0.5):
                since = time.monotonic()


def _measure(services: Services, phases: Sequence[Phase], ended_at: int) -> list[Row]:
    decoder = msgspec.json.Decoder(_Event)
    endings: dict[Source, Ending] = {}
    for record in read_topic(services.connection, Topics().results):
        assert record.value is not None
        event = decoder.decode(record.value)
        if event.type == RESOLVED:
            source = (event.data.change.partition, event.data.change.offset)
            endings.setdefault(source, Ending(_milliseconds(event.data.consumed_at), record.timestamp))
    published = (
        ((record.partition, record.offset), record.timestamp)
        for record in read_topic(services.connection, Topics().changes)
    )
    return rows(phases, ended_at, published, endings)


def _now() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def _milliseconds(time_of_event: str) -> int:
    return round(datetime.fromisoformat(time_of_event).timestamp() * 1000)
