"""A real Prometheus that scrapes real daemons and evaluates the alert rules that ship, and what their dashboards show.

All durations of the rules and of the dashboards' fixed ranges are scaled down by `SPEED`, in `scaled` and nowhere else: a rule
that waits for five minutes waits for five seconds here, of a scrape a second. Thresholds stay as they are, except that of
`CourseSyncPollBlind`, which is an age of 15 minutes.
"""

from __future__ import annotations

import json
import re
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tests.integration.daemon_world import DEADLINE
from tests.sandbox.generator import Plan
from tests.sandbox.local_http import get
from tests.sandbox.ports import free_ports
from tests.sandbox.process import Child
from tests.sandbox.publishing import Publishing
from tests.sandbox.replica import Replica
from tests.sandbox.stack import API_KEY, Stack

FILES = Path(__file__).parents[2] / "helm" / "course-sync-daemon" / "files"
SPEED = 60
RANGE_MIN = 5
"""Seconds: a range holds several scrapes, also of a machine that is short of time."""
TASK_TIMEOUT = 20
"""Seconds, of the observed release."""
SETTINGS = {
    "http.deadline": "5s",
    "kafka.session_timeout": "10s",
    "task.timeout": f"{TASK_TIMEOUT}s",
    "retry.backoff_max": "1s",
}
PAUSE = 0.3
"""Seconds between two looks at Prometheus, which has news once a second."""
RATE = 5.0
"""Changes per second of each release."""
BLIND = "> 900"
"""The threshold of `CourseSyncPollBlind`, 15 minutes."""


def scaled(text: str) -> str:
    """Rules or a query, with all durations divided by `SPEED`."""

    def shorter(found: re.Match[str]) -> str:
        seconds = int(found[2]) * {"s": 1, "m": 60, "h": 3600}[found[3]] / SPEED
        return f"{found[1]}{max(round(seconds), 1 if found[1].startswith('for') else RANGE_MIN)}s"

    return re.sub(r"(for: |\[|offset )(\d+)([smh])\b", shorter, text)


def scaled_rules() -> str:
    rules = scaled((FILES / "alerts.yaml").read_text(encoding="utf-8"))
    assert rules.count(BLIND) == 1
    return rules.replace(BLIND, f"> {900 // SPEED}")


class Sample(NamedTuple):
    labels: Mapping[str, str]
    value: float


class Prometheus:
    def __init__(self, url: str) -> None:
        self.url = url

    def get(self, path: str, **parameters: str) -> Any:
        """The `data` of an answer. An error is an HTTP error."""
        answer = json.loads(get(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"))
        assert answer["status"] == "success", answer
        assert not answer.get("warnings"), answer
        return answer["data"]

    def query(self, expression: str) -> list[Sample]:
        """The samples of this moment."""
        data = self.get("query", query=expression)
        assert data["resultType"] == "vector", expression
        return [Sample(each["metric"], float(each["value"][1])) for each in data["result"]]

    def alerts(self, state: str, release: str) -> set[str]:
        """The names of the alerts about this release that are firing or pending."""
        found = self.query(f'ALERTS{{alertstate="{state}", release="{release}"}}')
        return {sample.labels["alertname"] for sample in found}


@contextmanager
def scraping(program: str, folder: Path, targets: Mapping[str, Sequence[str]]) -> Iterator[Prometheus]:
    """A Prometheus with these targets, by the release that they belong to; all releases are in one namespace."""
    folder.mkdir()
    (folder / "alerts.yaml").write_text(scaled_rules(), encoding="utf-8")
    jobs = [
        {
            "job_name": "course-sync-daemon",
            "static_configs": [
                {"targets": [*addresses], "labels": {"namespace": "prod", "release": release}}
                for release, addresses in targets.items()
            ],
        },
        {"job_name": "something-else", "static_configs": [{"targets": ["127.0.0.1:9"]}]},
    ]
    configuration = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["alerts.yaml"],
        "scrape_configs": jobs,
    }
    (folder / "prometheus.yml").write_text(json.dumps(configuration), encoding="utf-8")
    port = free_ports(1)[0]
    server = Child.start(
        "prometheus",
        [
            program,
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        log=folder / "prometheus.log",
    )
    try:
        server.wait_for_line("Server is ready to receive web requests", 120)
        yield Prometheus(f"http://127.0.0.1:{port}")
    finally:
        server.stop()


# --- dashboards -----------------------------------------------------------------------------------


class Shown(NamedTuple):
    text: str
    colour: str


@dataclass(frozen=True)
class Dashboards:
    """As Grafana shows them with everything chosen of the releases that match."""

    prometheus: Prometheus
    release: str

    @staticmethod
    def named(name: str) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads(
            (FILES / "dashboards" / f"{name}.json").read_text(encoding="utf-8")
        )
        return loaded

    def panels(self, name: str) -> list[dict[str, Any]]:
        return [panel for panel in self.named(name)["panels"] if panel["type"] != "row"]

    def asked(self, expression: str) -> list[Sample]:
        chosen = {
            "job": "course-sync-daemon",
            "namespace": ".*",
            "release": self.release,
            "instance": ".+",
            "__rate_interval": f"{RANGE_MIN}s",
        }
        filled = re.sub(r"\$(\w+)", lambda found: chosen[found[1]], scaled(expression))
        return self.prometheus.query(filled)

    def number(self, title: str, legend: str) -> Shown:
        """What a value of the first screen looks like."""
        (panel,) = (panel for panel in self.panels("overview") if panel["title"] == title)
        (target,) = (target for target in panel["targets"] if target["legendFormat"] == legend)
        return displayed(panel, legend, self.asked(target["expr"]))

    def alerts(self) -> list[tuple[str, str]]:
        """Severity and name, in the order of the table."""
        (panel,) = (panel for panel in self.panels("overview") if panel["title"] == "Firing alerts")
        (order,) = panel["options"]["sortBy"]
        rows = [sample.labels for sample in self.asked(panel["targets"][0]["expr"])]
        rows.sort(key=lambda row: row[order["displayName"]], reverse=order["desc"])
        return [(row["severity"], row["alertname"]) for row in rows]


def displayed(panel: Mapping[str, Any], legend: str, samples: Sequence[Sample]) -> Shown:
    """By value mappings first, then by the thresholds, of which an override may have others for this legend."""
    defaults = panel["fieldConfig"]["defaults"]
    special = [each["options"]["result"] for each in defaults["mappings"] if each["type"] == "special"]
    if not samples:
        return Shown(special[0]["text"], special[0]["color"])
    ((_, value),) = samples
    for mapping in defaults["mappings"]:
        if mapping["type"] == "value" and (named := mapping["options"].get(f"{value:g}")):
            return Shown(named["text"], named["color"])
    steps = defaults["thresholds"]["steps"]
    for override in panel["fieldConfig"]["overrides"]:
        for each in override["properties"]:
            if override["matcher"]["options"] == legend and each["id"] == "thresholds":
                steps = each["value"]["steps"]
    reached = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return Shown(f"{value:g}", reached[-1])


# --- the world ------------------------------------------------------------------------------------


class Observed:
    """Two releases in one namespace, each with its own topics, API and publisher. Things happen to the first one, which has two
    replicas; the other one is well."""

    def __init__(self, one: Stack, other: Stack, second: Replica, prometheus: Prometheus) -> None:
        self.prometheus = prometheus
        self.dashboards = Dashboards(prometheus, "one")
        self._by_release = {"one": self.dashboards, "other": Dashboards(prometheus, "other")}
        self._stack = one
        self.other = other.daemon
        self.replicas = (one.daemon, second)

    def outage(self, seconds: float) -> None:
        body = json.dumps({"seconds": seconds, "kind": "error"})
        self._stack.tell_simulator("outage", body.encode())

    def accept_key(self, key: str) -> None:
        self._stack.tell_simulator("key", json.dumps({"api_key": key}).encode())

    def heal(self) -> None:
        """End whatever a test has done, and wait until all is well again."""
        self.outage(0)
        self.accept_key(API_KEY)
        for replica in (*self.replicas, self.other):
            if not replica.running:
                replica.start()
        self.until_shown(HEALTHY)
        self.until_alerts(set())
        self.until_other_is_well()

    def until_other_is_well(self) -> None:
        self.until_shown({**HEALTHY, RUNNING: Shown("1", "green")}, release="other")
        self.until_alerts(set(), release="other")

    def until_alerts(
        self, firing: set[str], consequences: Sequence[str] = (), *, release: str = "one"
    ) -> None:
        """Wait until these alerts fire, and no other one fires or would if what it sees lasted. `consequences` may, later."""

        def as_expected() -> bool:
            now = self.prometheus.alerts("firing", release)
            pending = self.prometheus.alerts("pending", release)
            return firing <= now and (now | pending) - set(consequences) <= firing

        self._await(as_expected, lambda: f"alerts {firing}; now: {self._by_release[release].alerts()}")

    def until_shown(self, expected: Mapping[tuple[str, str], Shown | str], *, release: str = "one") -> None:
        """Wait until the first screen looks like this: values with a colour, or only the colour, by panel and legend."""
        screen = self._by_release[release]

        def differences() -> dict[tuple[str, str], Shown]:
            now = {place: screen.number(*place) for place in expected}
            return {
                place: now[place]
                for place, wanted in expected.items()
                if wanted not in (now[place], now[place].colour)
            }

        self._await(lambda: not differences(), lambda: f"first screen {expected}; different: {differences()}")

    def _await(self, holds: Callable[[], bool], what: Callable[[], str]) -> None:
        deadline = time.monotonic() + DEADLINE
        while not holds():
            assert time.monotonic() < deadline, f"not within {DEADLINE:g} s: {what()}"
            time.sleep(PAUSE)


FAILED = ("Failed changes, 15 min", "failed")
SUCCEEDED = ("Succeeded per second", "succeeded")
OLDEST = ("Oldest open change", "of task.timeout")
RUNNING = ("Replicas", "running")
NOT_RUNNING = ("Replicas", "not running")

HEALTHY: dict[tuple[str, str], Shown | str] = {
    FAILED: Shown("0", "green"),
    SUCCEEDED: "green",
    OLDEST: "green",
    RUNNING: Shown("2", "green"),
    NOT_RUNNING: Shown("0", "green"),
}


@contextmanager
def observed(program: str, folder: Path, kafka: str) -> Iterator[Observed]:
    with ExitStack() as cleanup:
        stacks = [
            cleanup.enter_context(
                Stack(
                    folder / release,
                    faults="none",
                    seed=1,
                    say=print,
                    kafka=kafka,
                    task_seconds=0.5,
                    settings=settings,
                )
            )
            for release, settings in {"one": SETTINGS, "other": {**SETTINGS, "task.timeout": "600s"}}.items()
        ]
        one, other = stacks
        second = one.add_replica()
        for replica in (one.daemon, second, other.daemon):
            replica.start()
        plan = Plan(changes=1_000_000, integrations=4, quiet_integrations=0, invalid_share=0)
        for stack in stacks:
            at = stack.addresses
            cleanup.enter_context(Publishing(at.connection, at.topics.changes, plan, RATE))
        targets = {
            "one": [address(one.daemon), address(second)],
            "other": [address(other.daemon)],
        }
        prometheus = cleanup.enter_context(scraping(program, folder / "prometheus", targets))
        world = Observed(one, other, second, prometheus)
        yield world


def address(replica: Replica) -> str:
    return replica.admin_url.removeprefix("http://")
