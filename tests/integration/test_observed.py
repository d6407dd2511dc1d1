"""What people see in incidents: the first screen of the dashboard, every other query, and the alerts, on a real Prometheus that
scrapes real daemons.

Each test begins with everything well, brings about one incident, and waits until it is shown: nothing here is timed.
`tests/alerts/` has the rules' exact times and thresholds, in series that are made up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.daemon_world import wait_until
from tests.integration.observed_world import (
    FAILED,
    HEALTHY,
    NOT_RUNNING,
    OLDEST,
    RUNNING,
    SUCCEEDED,
    Dashboards,
    Observed,
    Shown,
    address,
    observed,
    scaled,
    scaled_rules,
)
from tests.sandbox.profile import PARTITIONS

pytestmark = pytest.mark.kafka


@pytest.fixture(scope="module")
def world(
    prometheus: str, kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Observed]:
    with observed(prometheus, tmp_path_factory.mktemp("observed"), kafka_bootstrap) as world:
        yield world


@pytest.fixture
def healthy(world: Observed) -> Observed:
    world.heal()
    return world


def test_durations_of_the_rules_are_scaled_and_nothing_else_is() -> None:
    assert scaled("rate(x[10m]) offset 30m > 600, for: 1m") == "rate(x[10s]) offset 30s > 600, for: 1s"
    assert scaled("increase(x[1h]) and x[2m] and x[$__rate_interval]") == (
        "increase(x[60s]) and x[5s] and x[$__rate_interval]"
    )
    assert not re.search(r"(for: |\[)\d+[mh]", scaled_rules())


def test_all_is_well(healthy: Observed) -> None:
    """Both releases, and every query is answered: by all of the series that it asks for, or by none where that is the truth."""

    def empty() -> set[str]:
        return {
            panel["title"]
            for name in ("overview", "internals")
            for panel in healthy.dashboards.panels(name)
            for target in panel["targets"]
            if not healthy.dashboards.asked(target["expr"])
        }

    wait_until(lambda: empty() == {"Firing alerts", "Client certificate expiry"}, "answers to all queries")
    (group,) = healthy.prometheus.get("rules")["groups"]
    assert {rule["health"] for rule in group["rules"]} == {"ok"}, "every rule can be evaluated"


def test_variables_and_starts(healthy: Observed) -> None:
    named = healthy.dashboards.named("overview")
    values = {
        variable["name"]: offered(healthy, variable)
        for variable in named["templating"]["list"]
        if variable["type"] == "query"
    }
    assert values["job"] == ["course-sync-daemon"], "not those of the other jobs that Prometheus scrapes"
    assert values["namespace"] == ["prod"]
    assert values["release"] == ["one", "other"]
    assert len(values["instance"]) == 3

    (starts,) = named["annotations"]["list"]
    marked = healthy.dashboards.asked(starts["expr"])
    assert len(marked) == 2, "one for each replica, although none has restarted"
    assert all(abs(start.value / 1000 - now.value) < 3600 for start in marked for now in clock(healthy))


def clock(world: Observed) -> list[Any]:
    return world.prometheus.query("vector(time())")


def offered(world: Observed, variable: dict[str, Any]) -> list[str]:
    """What Grafana asks for to fill a drop-down, when everything is chosen before it."""
    found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
    assert found is not None
    series = re.sub(r"\$\w+", ".*", found[1])
    values: list[str] = world.prometheus.get(f"label/{found[2]}/values", **{"match[]": series})
    return values


def test_an_outage_of_the_api(healthy: Observed) -> None:
    healthy.outage(3600)

    healthy.until_shown(
        {
            FAILED: Shown("none ended", "#808080"),
            SUCCEEDED: Shown("0", "red"),
            OLDEST: "red",
            RUNNING: Shown("2", "green"),
            NOT_RUNNING: Shown("0", "green"),
        }
    )
    healthy.until_alerts(
        {"CourseSyncApiErrorRatioHigh", "CourseSyncPollBlind", "CourseSyncPendingTaskNearTimeout"}
    )
    assert {severity for severity, _ in healthy.dashboards.alerts()} == {"warning"}
    both = Dashboards(healthy.prometheus, "one|other")
    assert both.number(*OLDEST).colour == "red", (
        "against its own task.timeout, not the longer one of the other release"
    )
    healthy.until_other_is_well()


def test_a_key_that_is_refused_everywhere(healthy: Observed) -> None:
    healthy.accept_key("another key")

    consequences = ("CourseSyncPollBlind", "CourseSyncPendingTaskNearTimeout")
    healthy.until_alerts({"CourseSyncHalted"}, consequences)
    healthy.until_shown(
        {
            SUCCEEDED: Shown("0", "red"),
            OLDEST: "red",
            RUNNING: Shown("0", "red"),
            NOT_RUNNING: Shown("2", "yellow"),
        }
    )
    assert healthy.dashboards.alerts()[0] == ("critical", "CourseSyncHalted"), "before the warnings"
    healthy.until_other_is_well()
    states = integrations(healthy)
    assert states["healthy"] == 0
    assert states["halted"] > 0


def integrations(world: Observed) -> dict[str, float]:
    (panel,) = (p for p in world.dashboards.panels("overview") if p["title"] == "Integrations by state")
    asked = world.dashboards.asked(panel["targets"][0]["expr"])
    return {sample.labels["state"]: sample.value for sample in asked}


def test_one_replica_that_dies(healthy: Observed) -> None:
    """The other one takes over, so nobody is called."""
    healthy.replicas[1].process.kill()

    held = f'coursesync_kafka_assigned_partitions{{instance="{address(healthy.replicas[0])}"}}'
    wait_until(
        lambda: [sample.value for sample in healthy.prometheus.query(held)] == [PARTITIONS],
        "one replica holds all partitions",
    )
    healthy.until_shown(
        {
            **HEALTHY,
            RUNNING: Shown("1", "green"),
            NOT_RUNNING: Shown("1", "yellow"),
        }
    )
    healthy.until_alerts(set())


def test_all_replicas_down_of_one_release_and_then_of_both(healthy: Observed) -> None:
    """No figure of a replica that is dead stays on the screen."""
    for replica in healthy.replicas:
        replica.process.kill()

    healthy.until_alerts({"CourseSyncDown"})
    healthy.until_shown(
        {
            FAILED: Shown("none ended", "#808080"),
            SUCCEEDED: Shown("no data", "red"),
            OLDEST: Shown("no data", "#808080"),
            RUNNING: Shown("0", "red"),
            NOT_RUNNING: Shown("2", "yellow"),
        }
    )
    assert healthy.dashboards.alerts() == [("critical", "CourseSyncDown")]
    healthy.until_other_is_well()
    shown_as_alive = {
        panel["title"]
        for name in ("overview", "internals")
        for panel in healthy.dashboards.panels(name)
        if panel["type"] in {"stat", "gauge", "table"}
        for target in panel["targets"]
        if "[" not in target["expr"]  # what happened in the last minutes is still true
        and healthy.dashboards.asked(target["expr"])
    }
    assert shown_as_alive == {"Replicas", "Firing alerts"}

    # Then the other release too: a single alert about everything, whatever release is chosen.
    healthy.other.process.kill()

    def all_down() -> bool:
        found = healthy.prometheus.query('ALERTS{alertname="CourseSyncDown", alertstate="firing"}')
        return [each.labels.get("release", "all") for each in found] == ["all"]

    wait_until(all_down, "one alert about everything")
    assert healthy.dashboards.alerts() == [("critical", "CourseSyncDown")]
