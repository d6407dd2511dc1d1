"""The dashboards that ship: Grafana's JSON, of which every query is one that a running daemon answers."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Iterator
from itertools import combinations, product
from pathlib import Path
from typing import Any

import pytest

from daemon.telemetry.catalogue import CATALOGUE
from daemon.telemetry.metric import Kind
from tests.unit.promql import PROMETHEUS, Shown, of_a_running_daemon, selectors

FOLDER = Path(__file__).parents[2] / "helm" / "course-sync-daemon" / "files" / "dashboards"
UIDS = {"overview": "coursesync-overview", "internals": "coursesync-internals"}
"""Links and bookmarks hold them: they never change."""
COLUMNS = 24
"""Of Grafana's grid."""


def dashboard(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return found


def panels(name: str) -> list[dict[str, Any]]:
    return [panel for panel in dashboard(name)["panels"] if panel["type"] != "row"]


def targets() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each with where it stands."""
    for name in UIDS:
        for panel in panels(name):
            for target in panel["targets"]:
                yield f"{name}, {panel['title']}, {target['refId']}", target


def expressions() -> list[tuple[str, str]]:
    """Of all panels and annotations."""
    found = [(where, target["expr"]) for where, target in targets()]
    for name in UIDS:
        found += [(f"{name}, {a['name']}", a["expr"]) for a in dashboard(name)["annotations"]["list"]]
    return found


def filled_in(expression: str) -> str:
    """As Grafana sends it when all is chosen."""
    for variable, value in {
        "job": ".+",
        "namespace": ".*",
        "release": ".*",
        "instance": ".+",
        "__rate_interval": "5m",
        "__range": "6h",
    }.items():
        expression = re.sub(rf"\${variable}\b", value, expression)
    assert "$" not in expression
    return expression


@pytest.fixture(scope="module")
def shown() -> Shown:
    return asyncio.run(of_a_running_daemon())


each_dashboard = pytest.mark.parametrize("name", UIDS)


# --- form -----------------------------------------------------------------------------------------


def test_these_are_all() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {f"{name}.json" for name in UIDS}


@each_dashboard
def test_it_is_found_by_its_uid_and_asks_which_source_job_release_and_replica(name: str) -> None:
    found = dashboard(name)
    assert found["uid"] == UIDS[name]
    assert "id" not in found, "the number is given by the Grafana that loads it"
    assert found["title"]
    assert found["description"]
    assert found["schemaVersion"] == 38, "that of Grafana 10.0: newer ones bring it up to theirs"
    variables = found["templating"]["list"]
    assert [(v["name"], v["type"]) for v in variables] == [
        ("datasource", "datasource"),
        ("job", "query"),
        ("namespace", "query"),
        ("release", "query"),
        ("instance", "query"),
    ]
    for variable in variables[1:]:
        assert variable["multi"]
        assert variable["includeAll"]
        # Without Kubernetes there may be neither namespace nor release.
        assert variable["allValue"] == (".*" if variable["name"] in ("namespace", "release") else ".+")


@each_dashboard
def test_each_panel_says_what_it_shows_in_which_unit(name: str) -> None:
    for panel in panels(name):
        title = panel["title"]
        assert title
        assert panel["description"].endswith("."), title
        assert panel["fieldConfig"]["defaults"]["unit"], title
        assert panel["targets"], title
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references), title
        for target in panel["targets"]:
            assert target.get("format") == "table" or target["legendFormat"], title


@each_dashboard
def test_whatever_asks_a_source_asks_the_one_that_is_chosen(name: str) -> None:
    found = dashboard(name)
    asking = [*panels(name), *found["annotations"]["list"], *found["templating"]["list"][1:]]
    assert {json.dumps(each["datasource"]) for each in asking} == {
        '{"type": "prometheus", "uid": "${datasource}"}'
    }


@each_dashboard
def test_panels_lie_side_by_side_each_with_a_number_of_its_own(name: str) -> None:
    placed = dashboard(name)["panels"]
    assert len({panel["id"] for panel in placed}) == len(placed)
    titles = [panel["title"] for panel in placed]
    assert len(set(titles)) == len(titles)
    assert placed[0]["type"] == "row"
    taken: dict[tuple[int, int], str] = {}
    for panel in placed:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= COLUMNS, panel["title"]
        for cell in product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])):
            assert taken.setdefault(cell, panel["title"]) == panel["title"]
    for above, below in combinations(placed, 2):
        assert above["gridPos"]["y"] <= below["gridPos"]["y"], "in the order of reading"


# --- queries --------------------------------------------------------------------------------------


def test_each_query_keeps_to_the_job_the_release_and_the_replica_that_are_chosen() -> None:
    for where, expression in expressions():
        asked = selectors(expression)
        assert asked, where
        for selector in asked:
            # An alert that concerns no single replica has no instance, and CourseSyncDown may have no release.
            none = "|" if selector.metric == "ALERTS" else ""
            assert ("job", "=~", "$job") in selector.matchers, where
            for label in ("namespace", "release", "instance"):
                assert (label, "=~", f"${label}{none}") in selector.matchers, where


def test_counters_are_asked_for_their_rate_and_gauges_are_not() -> None:
    counting = {metric.name for metric in CATALOGUE if metric.kind is Kind.COUNTER}
    for metric in CATALOGUE:
        if metric.kind is Kind.HISTOGRAM:
            counting.update(metric.name + suffix for suffix in ("_bucket", "_sum", "_count"))
    rated: set[str] = set()
    for where, expression in expressions():
        for call, metric in re.findall(r"(\w*)\(?\b(coursesync_\w+)\{", expression):
            if call in {"rate", "increase"}:
                assert metric in counting, where
                rated.add(metric)
            else:
                assert metric not in counting, where
    assert len(rated) > 20


def test_legends_name_labels_that_the_query_leaves(shown: Shown) -> None:
    for where, target in targets():
        wanted = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        if grouped := re.search(r"\bby \(([^)]*)\)", target["expr"]):
            assert wanted <= set(grouped[1].split(", ")), where
        elif wanted:
            [first, *_] = selectors(target["expr"])
            assert wanted <= {"instance", *shown.series[first.metric][0]}, where


def test_ranges_follow_the_zoom() -> None:
    for where, target in targets():
        over = set(re.findall(r"\[([^]]*)\]", target["expr"]))
        if target.get("instant"):
            assert over <= {"$__range"}, where
        else:
            assert over <= {"$__rate_interval"}, where


def test_a_running_daemon_shows_all_that_is_asked_for(shown: Shown) -> None:
    missing = {
        where: shown.missing(selector)
        for where, expression in expressions()
        for selector in selectors(expression)
        if shown.missing(selector) is not None
    }
    assert missing == {}


def test_every_metric_has_its_panel() -> None:
    asked = {s.metric for _, expression in expressions() for s in selectors(expression)} - PROMETHEUS
    bare = {re.sub(r"_(bucket|sum|count)$", "", name) for name in asked}
    assert bare == {metric.name for metric in CATALOGUE}


def test_prometheus_answers_each_query(shown: Shown, promtool: str, tmp_path: Path) -> None:
    """Understood, and not empty where every series is there: what is combined has labels that match."""
    own = {"job": "course-sync-daemon", "instance": "a"}
    there = [
        ("up", own),
        ("ALERTS", {"job": own["job"], "alertname": "CourseSyncDown", "alertstate": "firing"}),
    ]
    there += [(name, own | labels) for name, all_labels in shown.series.items() for labels in all_labels]
    test = {
        "rule_files": [],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": f"{name}{{{matching(labels)}}}", "values": "1x20"} for name, labels in there
                ],
                "promql_expr_test": [
                    {"eval_time": "15m", "expr": f"absent({filled_in(target['expr'])})"}
                    for _, target in targets()
                ],
            }
        ],
    }
    path = tmp_path / "queries.yaml"
    path.write_text(json.dumps(test), encoding="utf-8")
    done = subprocess.run(
        [promtool, "test", "rules", path], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("chosen", "share"), [(".*", 0.9), ("short", 0.5), ("long", 0.9), ("none", 0)])
def test_the_age_of_a_task_is_a_share_of_the_timeout_of_its_own_release(
    promtool: str, tmp_path: Path, chosen: str, share: float
) -> None:
    """Two releases in one namespace, one with a time-out of 100 s and a task of 50 s, the other with 1000 s and 900 s."""
    (expression,) = (
        text for where, text in expressions() if where.startswith("overview, Oldest pending task")
    )
    query = filled_in(re.sub(r"\$release\b", chosen, expression))
    labels = 'job="course-sync-daemon", namespace="prod", instance="{0}", release="{0}"'
    ages, timeouts = {"short": 50, "long": 900}, {"short": 100, "long": 1000}
    series = [
        {"series": f"{name}{{{labels.format(release)}}}", "values": f"{value}x60"}
        for release in ages
        for name, value in {
            "coursesync_pending_oldest_created_timestamp_seconds": 1800 - ages[release],
            "coursesync_task_timeout_seconds": timeouts[release],
        }.items()
    ]
    expected = {"eval_time": "30m", "expr": query, "exp_samples": [{"labels": "{}", "value": share}]}
    tests = [{"interval": "1m", "input_series": series, "promql_expr_test": [expected]}]
    path = tmp_path / "share.yaml"
    path.write_text(
        json.dumps({"rule_files": [], "evaluation_interval": "1m", "tests": tests}), encoding="utf-8"
    )

    done = subprocess.run(
        [promtool, "test", "rules", path], capture_output=True, text=True, timeout=120, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


def matching(labels: dict[str, str]) -> str:
    return ", ".join(f'{label}="{value}"' for label, value in labels.items())
