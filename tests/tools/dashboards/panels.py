"""The kinds of panels, and what colours mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import TypeVar

from grafana_foundation_sdk.builders import common as parts
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import gauge, heatmap, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import common
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from tests.tools.dashboards.queries import Query

SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")

GREEN, YELLOW, ORANGE, RED, PURPLE, BLUE = "green", "yellow", "orange", "red", "purple", "blue"
DARK_RED, LIGHT_BLUE, DARK_BLUE, GREY = "dark-red", "light-blue", "semi-dark-blue", "#808080"

STATUSES = {
    "SUCCEEDED": GREEN,
    "FAILED": RED,
    "TIMED_OUT": ORANGE,
    "REJECTED": PURPLE,
    "SUPERSEDED": GREY,
    "UNCHANGED": LIGHT_BLUE,
}
OUTCOMES = {"completed": GREEN, "failed": RED, "timed_out": ORANGE, "stale": PURPLE}
STATES = {"starting": BLUE, "restoring": YELLOW, "running": GREEN, "draining": GREY, "halted": RED}
INTEGRATIONS = {
    "healthy": GREEN,
    "throttled": YELLOW,
    "breaker_open": ORANGE,
    "parked": PURPLE,
    "halted": RED,
}
ANSWERS = {
    "2xx": GREEN,
    "3xx": BLUE,
    "4xx": PURPLE,
    "429": YELLOW,
    "5xx": RED,
    "timeout": ORANGE,
    "connect_error": DARK_RED,
    "protocol_error": "light-red",
}
LEVELS = {"debug": GREY, "info": BLUE, "warning": YELLOW, "error": RED, "critical": DARK_RED}
QUANTILES = {"median": LIGHT_BLUE, "mean": LIGHT_BLUE, "90 %": BLUE, "99 %": DARK_BLUE}
PARTITIONS = {"held": GREEN, "in the topic": GREY, "paused": YELLOW, "blocked": RED, "stopped": DARK_RED}

Panel = TypeVar(
    "Panel", stat.Panel, gauge.Panel, timeseries.Panel, statetimeline.Panel, heatmap.Panel, table.Panel
)
Steps = Sequence[tuple[float | None, str]]
"""Colours from these values on, ascending; the first value is None."""


def _targets(
    panel: Panel, queries: Sequence[Query], *, instant: bool, shape: PromQueryFormat | None = None
) -> None:
    for reference, query in zip(ascii_uppercase, queries, strict=False):
        target = prometheus.Dataquery().ref_id(reference).expr(query.expr).legend_format(query.legend)
        target = target.instant() if instant else target.range()
        if shape is not None:
            target = target.format(shape)
        panel.with_target(target)


def _framed(panel: Panel, title: str, description: str, unit: str, width: int, height: int) -> Panel:
    panel.title(title).description(description).unit(unit).datasource(SOURCE).span(width).height(height)
    return panel


def _steps(steps: Steps) -> build.ThresholdsConfig:
    config = build.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE)
    return config.steps([model.Threshold(value=value, color=colour) for value, colour in steps])


def _fixed(colour: str) -> model.DynamicConfigValue:
    return model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})


def _nothing(text: str, colour: str) -> model.SpecialValueMap:
    """Without this, "no data" has the colour of the first threshold."""
    result = model.ValueMappingResult(text=text, color=colour)
    options = (
        build.DashboardSpecialValueMapOptions().match(model.SpecialValueMatch.NULL_AND_NAN).result(result)
    )
    return model.SpecialValueMap(options.build())


def names(values: Mapping[str, tuple[str, str]]) -> model.ValueMap:
    """Text and colour of single values."""
    return model.ValueMap(
        {value: model.ValueMappingResult(text=text, color=colour) for value, (text, colour) in values.items()}
    )


def _now() -> parts.ReduceDataOptions:
    return parts.ReduceDataOptions().calcs(["lastNotNull"])


# --- numbers --------------------------------------------------------------------------------------


def number(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    steps: Steps,
    nothing: tuple[str, str] = ("no data", GREY),
    named: Mapping[str, tuple[str, str]] | None = None,
    own_steps: Mapping[str, Steps] | None = None,
    own_units: Mapping[str, str] | None = None,
    filled: bool = False,
    width: int,
    height: int,
) -> stat.Panel:
    """Values of this moment: the queries are instant, because the last value of a range would outlive its replica.

    `nothing` is what is shown when there is no series, `named` what is shown for single values, and the `own_…` are for the
    queries of these legends.
    """
    panel = _framed(stat.Panel(), title, description, unit, width, height)
    _targets(panel, queries, instant=True)
    panel.thresholds(_steps(steps)).no_value(nothing[0])
    panel.mappings([_nothing(*nothing), *([names(named)] if named else [])])
    for legend, special in (own_steps or {}).items():
        panel.override_by_name(legend, [model.DynamicConfigValue("thresholds", _steps(special).build())])
    for legend, special_unit in (own_units or {}).items():
        panel.override_by_name(legend, [model.DynamicConfigValue("unit", special_unit)])
    panel.reduce_options(_now()).graph_mode(common.BigValueGraphMode.NONE)
    mode = common.BigValueColorMode.BACKGROUND if filled else common.BigValueColorMode.VALUE
    return panel.color_mode(mode).text_mode(common.BigValueTextMode.AUTO)


def dial(title: str, description: str, query: Query, *, steps: Steps, width: int, height: int) -> gauge.Panel:
    """A share."""
    panel = _framed(gauge.Panel(), title, description, "percentunit", width, height)
    _targets(panel, [query], instant=True)
    panel.min(0).max(1).thresholds(_steps(steps)).no_value("no data").mappings([_nothing("no data", GREY)])
    return panel.reduce_options(_now())


# --- over time ------------------------------------------------------------------------------------


def graph(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    colours: Mapping[str, str] | None = None,
    stacked: bool = False,
    width: int = 6,
    height: int = 8,
) -> timeseries.Panel:
    """`colours` by what the legend says, or by its last word; the other series get a colour that depends on their names."""
    panel = _framed(timeseries.Panel(), title, description, unit, width, height)
    _targets(panel, queries, instant=False)
    panel.min(0).show_points(common.VisibilityMode.NEVER).fill_opacity(60 if stacked else 10)
    panel.color_scheme(build.FieldColor().mode(model.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
    if stacked:
        panel.line_width(0)
        panel.stacking(parts.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
    for name, colour in (colours or {}).items():
        panel.override_by_regexp(f"/(^|: ){name}$/", [_fixed(colour)])
    panel.legend(
        parts.VizLegendOptions()
        .show_legend(show_legend=True)
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
        .calcs([])
    )
    return panel.tooltip(
        parts.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING)
    )


def bands(title: str, description: str, unit: str, query: Query, *, width: int) -> heatmap.Panel:
    """A heat map of the buckets of a gauge histogram."""
    panel = _framed(heatmap.Panel(), title, description, unit, width, 8)
    _targets(panel, [query], instant=False, shape=PromQueryFormat.HEATMAP)
    colour = heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges").steps(64)
    panel.calculate(calculate=False).color(colour).y_axis(heatmap.YAxisConfig().unit(unit))
    return panel.cell_gap(1).filter_values(heatmap.FilterValueRange().le(1e-9)).show_legend().show_tooltip()


def states(
    title: str, description: str, query: Query, named: Mapping[str, tuple[str, str]], *, width: int
) -> statetimeline.Panel:
    panel = _framed(statetimeline.Panel(), title, description, "none", width, 8)
    _targets(panel, [query], instant=False)
    panel.mappings([names(named)]).fill_opacity(80).line_width(0).row_height(0.8)
    return panel.show_value(common.VisibilityMode.AUTO).merge_values(merge_values=True)


# --- tables ---------------------------------------------------------------------------------------


def listing(
    title: str,
    description: str,
    query: Query,
    columns: Mapping[str, str],
    *,
    nothing: str,
    width: int,
    height: int,
) -> table.Panel:
    """`columns`: the titles of the labels that are shown, in this order; `Value` is the value."""
    panel = _framed(table.Panel(), title, description, "none", width, height)
    _targets(panel, [query], instant=True, shape=PromQueryFormat.TABLE)
    panel.no_value(nothing).show_header(show_header=True).cell_height(common.TableCellHeight.SM)
    panel.with_transformation(
        model.DataTransformerConfig("filterFieldsByName", options={"include": {"names": [*columns]}})
    )
    order = {label: place for place, label in enumerate(columns)}
    renamed = {label: shown for label, shown in columns.items() if label != shown}
    return panel.with_transformation(
        model.DataTransformerConfig("organize", options={"indexByName": order, "renameByName": renamed})
    )


def alerts(
    title: str,
    description: str,
    query: Query,
    severities: Mapping[str, str],
    runbook: str,
    *,
    width: int,
    height: int,
) -> table.Panel:
    """`query` has the labels severity, alertname and release, and a value. The first severity in the alphabet comes first."""
    columns = {"severity": "severity", "alertname": "alert", "release": "release", "Value": "series"}
    panel = listing(title, description, query, columns, nothing="No alert fires.", width=width, height=height)
    panel.sort_by([parts.TableSortByFieldState().display_name("severity").desc(desc=False)])
    painted = {name: (name, colour) for name, colour in severities.items()}
    panel.override_by_name(
        "severity",
        [
            model.DynamicConfigValue("custom.cellOptions", {"type": "color-background", "mode": "basic"}),
            model.DynamicConfigValue("mappings", [names(painted)]),
            model.DynamicConfigValue("custom.width", 80),
        ],
    )
    link = {"title": "Runbook", "url": f"{runbook}#${{__value.raw}}", "targetBlank": True}
    panel.override_by_name("alert", [model.DynamicConfigValue("links", [link])])
    panel.override_by_name("release", [model.DynamicConfigValue("custom.width", 110)])
    return panel.override_by_name("series", [model.DynamicConfigValue("custom.width", 60)])
