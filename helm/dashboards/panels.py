"""The kinds of panel: numbers, tables, lines, bars and bands, all built alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.cog import builder, variants
from grafana_foundation_sdk.models import barchart, common, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import dashboard as model

from helm.dashboards import limits
from helm.dashboards.sources import POSTGRES, PROMETHEUS, Sql

Target = builder.Builder[variants.Dataquery]

WIDTH = 24
"""Columns of Grafana's grid."""

DAGSTER = "${dagster_url}"
RUN_PAGE = f"{DAGSTER}/runs/${{__data.fields.run_id}}"
EVALUATION_PAGE = f"{DAGSTER}/assets/evaluation?partition=${{__data.fields.crypto}}"
DAEMONS_PAGE = f"{DAGSTER}/deployment/daemons"
SIGNALS_PAGE = f"{DAGSTER}/assets/golden_signals?view=checks&partition=${{__data.fields.crypto}}"

_LINES = common.VizLegendOptions(
    display_mode=common.LegendDisplayMode.LIST, placement=common.LegendPlacement.BOTTOM, show_legend=True
)
_ALL_SERIES = common.VizTooltipOptions(mode=common.TooltipDisplayMode.MULTI, sort=common.SortOrder.DESCENDING)


@dataclass(frozen=True)
class Column:
    """How a table shows one column.

    Attributes:
        unit: Of its values, in Grafana's words.
        decimals: Shown; None leaves that to Grafana.
        limits: Colours its cells by their value.
        colours: Colours its cells by their text.
        link: Address of the page behind a cell.
        width: In pixels; None leaves that to Grafana.
    """

    unit: str | None = None
    decimals: int | None = None
    limits: build.ThresholdsConfig | None = None
    colours: Mapping[str, str] | None = None
    link: str | None = None
    width: int | None = None

    def properties(self) -> list[model.DynamicConfigValue]:
        """As Grafana keeps them."""
        found: dict[str, object | None] = {
            "unit": self.unit,
            "decimals": self.decimals,
            "custom.width": self.width,
            "thresholds": None if self.limits is None else self.limits.build(),
            "mappings": None if self.colours is None else limits.colours(self.colours),
            "links": None if self.link is None else [page_link(self.link).build()],
        }
        if self.limits is not None or self.colours is not None:
            found["custom.cellOptions"] = {"type": "color-text"}
        return [model.DynamicConfigValue(name, value) for name, value in found.items() if value is not None]


F1 = Column("none", 3)
SHARE = Column("percentunit", 1)
RATIO = Column("none", 2)
RUN = Column(link=RUN_PAGE)
MARKET = Column(colours=limits.MARKETS)
SEVERITY = Column(colours=limits.SEVERITIES)
LEVEL = Column(colours=limits.LEVELS)
SECONDS = Column("s")
WHEN = Column("dateTimeAsIso")


def page_link(url: str) -> build.DashboardLink:
    """A link to a page of Dagster's UI."""
    return build.DashboardLink("Open in Dagster").type(model.DashboardLinkType.LINK).url(url).target_blank(True)


def number(
    title: str,
    description: str,
    target: Target,
    *,
    unit: str,
    width: int = 4,
    height: int = 4,
    thresholds: build.ThresholdsConfig | None = None,
    texts: Mapping[str, str] | None = None,
) -> build.Panel:
    """One value, large; `texts` gives its colour when it is a text."""
    options = stat.Options(
        graph_mode=common.BigValueGraphMode.NONE,
        color_mode=common.BigValueColorMode.BACKGROUND,
        reduce_options=common.ReduceDataOptions(calcs=["lastNotNull"], fields="/.*/"),
    )
    panel = _panel("stat", title, description, [target], width, height).unit(unit).options(options)
    panel = panel.thresholds(thresholds or limits.none())
    return panel if texts is None else panel.mappings(limits.colours(texts))


def rows(
    title: str,
    description: str,
    sql: str,
    *,
    columns: Mapping[str, Column] | None = None,
    width: int = WIDTH,
    height: int = 9,
) -> build.Panel:
    """A table."""
    panel = _panel("table", title, description, [Sql(sql)], width, height).unit("none").options(table.Options())
    panel = panel.thresholds(limits.none())
    for name, column in (columns or {}).items():
        panel = panel.override_by_name(name, column.properties())
    return panel


def lines(
    title: str,
    description: str,
    targets: Sequence[Target] | str,
    *,
    unit: str,
    width: int = 12,
    height: int = 8,
    thresholds: build.ThresholdsConfig | None = None,
    points: bool = False,
) -> build.Panel:
    """Values over time; SQL gives `time`, `metric` and `value`. Limits are drawn as lines."""
    found = [Sql(targets, is_series=True)] if isinstance(targets, str) else targets
    style = common.GraphThresholdsStyleMode.OFF if thresholds is None else common.GraphThresholdsStyleMode.LINE
    custom = common.GraphFieldConfig(
        draw_style=common.GraphDrawStyle.POINTS if points else common.GraphDrawStyle.LINE,
        line_interpolation=common.LineInterpolation.STEP_AFTER,
        show_points=common.VisibilityMode.ALWAYS if points else common.VisibilityMode.AUTO,
        thresholds_style=common.GraphThresholdsStyleConfig(mode=style),
    )
    panel = _panel("timeseries", title, description, found, width, height).unit(unit).custom(custom)
    return panel.options(timeseries.Options(legend=_LINES, tooltip=_ALL_SERIES)).thresholds(thresholds or limits.none())


def stacks(
    title: str,
    description: str,
    sql: str,
    *,
    unit: str = "short",
    width: int = 12,
    height: int = 8,
    texts: Mapping[str, str] | None = None,
) -> build.Panel:
    """Counts over time, stacked; `texts` gives the colour of each series by its name."""
    custom = common.GraphFieldConfig(
        draw_style=common.GraphDrawStyle.BARS,
        fill_opacity=80,
        stacking=common.StackingConfig(mode=common.StackingMode.NORMAL, group="A"),
    )
    panel = _panel("timeseries", title, description, [Sql(sql, is_series=True)], width, height).unit(unit)
    panel = panel.custom(custom).options(timeseries.Options(legend=_LINES, tooltip=_ALL_SERIES))
    for name, colour in (texts or {}).items():
        fixed = model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})
        panel = panel.override_by_name(name, [fixed])
    return panel.thresholds(limits.none())


def bars(
    title: str,
    description: str,
    sql: str,
    *,
    unit: str,
    width: int = 12,
    height: int = 8,
    thresholds: build.ThresholdsConfig | None = None,
) -> build.Panel:
    """One group of bars a row: the first column is its name, the others are its bars."""
    options = barchart.Options(
        orientation=common.VizOrientation.HORIZONTAL,
        show_value=common.VisibilityMode.ALWAYS,
        legend=_LINES,
        tooltip=_ALL_SERIES,
    )
    panel = _panel("barchart", title, description, [Sql(sql)], width, height).unit(unit).options(options)
    return panel.custom(barchart.FieldConfig()).thresholds(thresholds or limits.none())


def bands(
    title: str, description: str, sql: str, *, texts: Mapping[str, str], width: int = WIDTH, height: int = 5
) -> build.Panel:
    """What held when: a coloured band for each series of texts."""
    options = statetimeline.Options(merge_values=True, legend=_LINES, tooltip=_ALL_SERIES)
    panel = _panel("state-timeline", title, description, [Sql(sql, is_series=True)], width, height).unit("string")
    panel = panel.options(options).custom(statetimeline.FieldConfig(fill_opacity=80))
    return panel.mappings(limits.colours(texts)).thresholds(limits.none())


def _panel(kind: str, title: str, description: str, targets: Sequence[Target], width: int, height: int) -> build.Panel:
    panel = build.Panel().type(kind).title(title).description(description).span(width).height(height)
    panel = panel.datasource(POSTGRES if isinstance(targets[0], Sql) else PROMETHEUS)
    for target in targets:
        panel = panel.with_target(target)
    return panel
