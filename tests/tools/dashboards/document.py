"""What both dashboards have: variables, links, annotations."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from daemon.telemetry import catalogue as c
from tests.tools.dashboards.panels import BLUE, SOURCE
from tests.tools.dashboards.queries import of

RUNBOOK = "docs/runbook.md"
"""Where the runbook is, in both dashboards and in the alert rules. The chart puts a URL in its place."""

SCHEMA_VERSION = 38
"""Of Grafana 10.0 and 10.1."""

LINE_LENGTH = 120

Row = tuple[str, Sequence[Builder[model.Panel]]]


def document(uid: str, title: str, description: str, rows: Sequence[Row]) -> build.Dashboard:
    made = (
        build.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags(["coursesync"])
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .timezone("browser")
        .refresh("30s")
        .time("now-6h", "now")
    )
    made.link(
        build.DashboardLink("coursesyncd")
        .type(model.DashboardLinkType.DASHBOARDS)
        .tags(["coursesync"])
        .include_vars(include_vars=True)
        .keep_time(keep_time=True)
    )
    made.link(
        build.DashboardLink("Runbook")
        .type(model.DashboardLinkType.LINK)
        .url(RUNBOOK)
        .icon("doc")
        .target_blank(target_blank=True)
    )
    made.annotation(
        build.AnnotationQuery().name("Starts").datasource(SOURCE).icon_color(BLUE).enable(enable=True)
    )
    made.with_variable(
        build.DatasourceVariable("datasource").id("datasource").label("Data source").type("prometheus")
    )
    chosen: list[str] = []
    for name in ("job", "namespace", "release", "instance"):
        made.with_variable(_variable(name, chosen))
        chosen.append(name)
    for row, panels in rows:
        made.with_row(build.Row(row))
        for panel in panels:
            made.with_panel(panel)
    return made


def _variable(name: str, chosen_before: Sequence[str]) -> build.QueryVariable:
    matchers = ", ".join(f'{other}=~"${other}"' for other in chosen_before)
    source = c.BUILD_INFO.name + (f"{{{matchers}}}" if matchers else "")
    variable = (
        build.QueryVariable(name)
        .id(name)  # the builders give all variables the same one, by which Grafana keeps them
        .label(name.capitalize())
        .datasource(SOURCE)
        .query({"query": f"label_values({source}, {name})", "refId": name})
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
        .current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))
    )
    # `job` is limited to the daemon's jobs, because `up` exists for every job. Outside Kubernetes a target has neither
    # `namespace` nor `release`.
    return variable if name == "job" else variable.all_value(".+" if name == "instance" else ".*")


def text_of(made: build.Dashboard) -> str:
    """The file."""
    found: dict[str, Any] = json.loads(JSONEncoder().encode(made.build()))
    found["schemaVersion"] = SCHEMA_VERSION
    for number, panel in enumerate(found["panels"], 1):
        panel["id"] = number
    # The builders do not know the fields of an annotation that belong to its data source. The value of the series is the
    # time: a replica that is new has one, and one that was restarted has another.
    (starts,) = found["annotations"]["list"]
    starts |= {
        "expr": f"{of(c.PROCESS_START)} * 1000",
        "useValueForTime": True,
        "titleFormat": "started",
        "textFormat": "{{instance}}",
    }
    return "".join(_lines(found)) + "\n"


def _lines(value: Any, indent: str = "\n") -> Iterator[str]:
    """JSON of which each container is on one line if it fits, as the formatters of code have it."""
    short = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(short) <= LINE_LENGTH or not isinstance(value, dict | list):
        yield short
        return
    start, end = "{}" if isinstance(value, dict) else "[]"
    inner = indent + "  "
    entries = value.items() if isinstance(value, dict) else (("", each) for each in value)
    separator = start
    for name, each in entries:
        yield separator + inner + (f'"{name}": ' if isinstance(value, dict) else "")
        yield from _lines(each, inner)
        separator = ","
    yield indent + end
