"""The dashboards that ship: Grafana's JSON, of which every query is one that a running daemon answers.

`tests/integration/test_observed.py` has what they show in incidents, on a real Prometheus.
"""

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
from daemon.telemetry.labels import Lifecycle
from daemon.telemetry.metric import Kind
from tests.tools.dashboards.__main__ import DASHBOARDS
from tests.tools.dashboards.document import text_of
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
        "job": "course-sync-daemon",
        "namespace": ".*",
        "release": ".*",
        "instance": ".+",
        "__rate_interval": "5m",
    }.items():
        expression = re.sub(rf"\${variable}\b", value, expression)
    assert "$" not in expression
    return expression


@pytest.fixture(scope="module")
def shown() -> Shown:
    return asyncio.run(of_a_running_daemon())


each_dashboard = pytest.mark.parametrize("name", UIDS)


# --- form -----------------------------------------------------------------------------------------


def test_these_are_all_and_as_their_code_makes_them() -> None:
    assert set(DASHBOARDS) == {path.name for path in FOLDER.iterdir()} == {f"{name}.json" for name in UIDS}
    for name, made in DASHBOARDS.items():
        assert (FOLDER / name).read_text(encoding="utf-8") == text_of(made()), (
            f"{name} differs from its code: python -m tests.tools.dashboards helm/course-sync-daemon/files/dashboards"
        )


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
    assert [v["id"] for v in variables] == [v["name"] for v in variables], "or they overwrite each other"
    for variable in variables[1:]:
        assert variable["multi"]
        assert variable["includeAll"]
        # All jobs are those that have the daemon's metrics: a pattern would count `up` of everything. Without Kubernetes there
        # may be neither namespace nor release.
        every = {"job": None, "namespace": ".*", "release": ".*", "instance": ".+"}
        assert variable.get("allValue") == every[variable["name"]]


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


def test_ranges_of_graphs_follow_the_zoom_and_those_of_numbers_do_not() -> None:
    for where, target in targets():
        over = set(re.findall(r"\[([^]]*)\]", target["expr"]))
        assert over <= ({"2m", "15m", "30m"} if target["instant"] else {"$__rate_interval"}), where


def test_ages_are_those_at_the_scrape() -> None:
    """`time()` adds up to one scrape interval, in which a healthy loop looks silent."""
    for where, expression in expressions():
        assert not re.search(r"\btime\(\)", expression), where


@each_dashboard
def test_no_number_outlives_its_replica(name: str) -> None:
    """The last value of a range would."""
    for panel in panels(name):
        instant = {target["instant"] for target in panel["targets"]}
        assert instant == {panel["type"] in {"stat", "gauge", "table"}}, panel["title"]


@each_dashboard
def test_each_number_has_thresholds_and_says_what_no_data_means(name: str) -> None:
    """Without a colour of its own, "no data" has that of the first threshold: red, or a green that lies."""
    for panel in panels(name):
        if panel["type"] in {"stat", "gauge"}:
            defaults = panel["fieldConfig"]["defaults"]
            assert defaults["thresholds"]["steps"], panel["title"]
            (nothing,) = (each for each in defaults["mappings"] if each["type"] == "special")
            assert nothing["options"]["match"] == "null+nan"
            assert nothing["options"]["result"]["text"] == defaults["noValue"]
            assert nothing["options"]["result"]["color"] != "green", panel["title"]


MEANINGFUL = ("status", "outcome", "state", "level")
"""Labels whose values are good or bad."""


def test_colours_have_a_meaning() -> None:
    seen: set[str] = set()
    for name in UIDS:
        for panel in panels(name):
            for target in panel["targets"]:
                label = re.search(r"{{(\w+)}}$", target["legendFormat"])
                if label is None or label[1] not in MEANINGFUL:
                    continue
                seen.add(label[1])
                found = re.search(r"coursesync_\w+?(?=(_bucket)?{)", target["expr"])
                assert found is not None
                (metric,) = (each for each in CATALOGUE if each.name == found[0])
                values = next(each.values for each in metric.labels if each.name == label[1]) or ()
                for value in values:
                    legend = target["legendFormat"].replace(label[0], value)
                    assert colours_of(panel, legend), (panel["title"], legend)
    assert seen == set(MEANINGFUL)


def colours_of(panel: dict[str, Any], legend: str) -> list[str]:
    """By the overrides, of which each names series by a regular expression between slashes."""
    return [
        each["properties"][0]["value"]["fixedColor"]
        for each in panel["fieldConfig"]["overrides"]
        if re.search(each["matcher"]["options"].strip("/"), legend)
    ]


def test_failures_are_red_and_successes_green() -> None:
    by_title = {panel["title"]: panel for name in UIDS for panel in panels(name)}
    results = by_title["Results by status"]
    assert colours_of(results, "SUCCEEDED") == ["green"]
    assert colours_of(results, "FAILED") == ["red"]
    assert colours_of(by_title["Tasks created and finished"], "finished: failed") == ["red"]
    assert colours_of(by_title["Integrations by state"], "halted") == ["red"]
    (states,) = by_title["Replica state"]["fieldConfig"]["defaults"]["mappings"]
    assert {each["text"]: each["color"] for each in states["options"].values()}["halted"] == "red"
    assert {each["text"] for each in states["options"].values()} == set(Lifecycle)


def test_critical_alerts_stand_first_and_lead_to_the_runbook() -> None:
    (panel,) = (panel for panel in panels("overview") if panel["title"] == "Firing alerts")
    assert panel["options"]["sortBy"] == [{"displayName": "severity", "desc": False}]
    severities = set(re.findall(r"severity: (\w+)", (FOLDER.parent / "alerts.yaml").read_text("utf-8")))
    assert sorted(severities) == ["critical", "warning"], "the order of the alphabet is that of importance"
    overrides = {each["matcher"]["options"]: each["properties"] for each in panel["fieldConfig"]["overrides"]}
    (painted,) = (each["value"][0] for each in overrides["severity"] if each["id"] == "mappings")
    assert {name: each["color"] for name, each in painted["options"].items()} == {
        "critical": "red",
        "warning": "yellow",
    }
    ((link,),) = (each["value"] for each in overrides["alert"])
    assert link["url"] == "docs/runbook.md#${__value.raw}"


def test_starts_are_marked_where_they_were_and_new_replicas_too() -> None:
    """A replica with a new name has a new series, which has never changed."""
    for name in UIDS:
        (starts,) = dashboard(name)["annotations"]["list"]
        assert starts["useValueForTime"]
        assert re.fullmatch(r"coursesync_process_start_timestamp_seconds\{.*\} \* 1000", starts["expr"])


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
                    {"series": f"{name}{{{matching(labels)}}}", "values": "1+1x20"} for name, labels in there
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


@pytest.mark.parametrize(("chosen", "share"), [(".*", 0.9), ("short", 0.5), ("long", 0.9), ("none", None)])
def test_the_age_of_a_task_is_a_share_of_its_own_timeout(
    promtool: str, tmp_path: Path, chosen: str, share: float | None
) -> None:
    """Two releases in one namespace."""
    (expression,) = (text for where, text in expressions() if where.startswith("overview, Oldest task"))
    query = filled_in(re.sub(r"\$release\b", chosen, expression))
    labels = 'job="course-sync-daemon", namespace="prod", instance="{0}", release="{0}"'
    series = [
        {"series": f"coursesync_pending_timeout_ratio{{{labels.format(release)}}}", "values": f"{value}x60"}
        for release, value in {"short": 0.5, "long": 0.9}.items()
    ]
    samples = [] if share is None else [{"labels": "{}", "value": share}]
    expected = {"eval_time": "30m", "expr": query, "exp_samples": samples}
    tests = [{"interval": "1m", "input_series": series, "promql_expr_test": [expected]}]
    path = tmp_path / "share.yaml"
    path.write_text(
        json.dumps({"rule_files": [], "evaluation_interval": "1m", "tests": tests}), encoding="utf-8"
    )

    done = subprocess.run(
        [promtool, "test", "rules", path], capture_output=True, text=True, timeout=120, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_an_open_change_is_compared_with_the_timeout_of_where_it_is(promtool: str, tmp_path: Path) -> None:
    """A change that waits for 90 s of 100 s, and a task that has reached half of its own time-out; then the other way round."""
    (expression,) = [
        text for where, text in expressions() if "Oldest open change" in where and "ratio" in text
    ]
    labels = 'job="course-sync-daemon", namespace="prod", instance="a", release="r"'
    series = {
        f'coursesync_waiting_oldest_consumed_timestamp_seconds{{{labels}, reason="window"}}': "510x20 1750x20",
        f"coursesync_task_timeout_seconds{{{labels}}}": "100x60",
        f"coursesync_pending_timeout_ratio{{{labels}}}": "0.5x10 0.8x30",
    }
    checks = [(10, 0.9), (30, 0.8)]
    tests = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "eval_time": f"{minute}m",
                "expr": filled_in(expression),
                "exp_samples": [{"labels": "{}", "value": value}],
            }
            for minute, value in checks
        ],
    }
    path = tmp_path / "share.yaml"
    path.write_text(
        json.dumps({"rule_files": [], "evaluation_interval": "1m", "tests": [tests]}), encoding="utf-8"
    )
    done = subprocess.run(
        [promtool, "test", "rules", path], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def matching(labels: dict[str, str]) -> str:
    return ", ".join(f'{label}="{value}"' for label, value in labels.items())
