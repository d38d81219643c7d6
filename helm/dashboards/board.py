"""A dashboard: its variables, its banner, its rows of panels; all dashboards are put together here, alike."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.models import dashboard as model

from helm.dashboards import limits
from helm.dashboards.panels import number
from helm.dashboards.sources import POSTGRES, Sql

TAG = "cvntrade"


@dataclass(frozen=True)
class Choice:
    """A variable whose values a query lists; `All` is a subquery, so that an empty list is no error.

    Attributes:
        label: What people see.
        query: One column: what can be chosen.
        all: What stands between the parentheses of `in (…)` when everything is chosen.
    """

    label: str
    query: str
    all: str


# Those with a signal too: Dagster's own records have runs that nobody watched.
_JOBS = "select job from ops_runs union select subject from ops_signals where signal = 'pipeline_success_rate'"
CHOICES: Mapping[str, Choice] = {
    "market": Choice(
        "Market",
        "select market from (values ('binance'), ('simulated')) known (market) order by market",
        "'binance', 'simulated'",
    ),
    "crypto": Choice("Crypto", "select crypto from ops_universe order by crypto", "select crypto from ops_universe"),
    "job": Choice("Job", f"{_JOBS} order by job", _JOBS),
    "factor": Choice(
        "Factor", "select distinct factor from ops_results order by factor", "select factor from ops_results"
    ),
    "session": Choice(
        "Session", "select distinct session from ops_results order by session", "select session from ops_results"
    ),
}
UI_ADDRESS = "http://127.0.0.1:3000"
"""Where Dagster's UI is on one machine; a deployment sets its own in the variable dagster_url."""


def dashboard(
    uid: str,
    title: str,
    description: str,
    rows: Sequence[tuple[str, Sequence[build.Panel]]],
    *,
    choices: Sequence[str] = (),
    since: str = "now-7d",
    texts: Mapping[str, str] | None = None,
) -> model.Dashboard:
    """Put a dashboard together.

    Args:
        uid: What links to it; never changes.
        title: What people call it.
        description: What it is for, a sentence.
        rows: Titles with their panels.
        choices: Names from `CHOICES`.
        since: Begin of the time range.
        texts: Variables that people type, with their defaults.
    """
    board = build.Dashboard(title).uid(uid).description(description).tags([TAG]).timezone("utc").readonly()
    board = board.time(since, "now").refresh("1m").tooltip(model.DashboardCursorSync.CROSSHAIR)
    others = build.DashboardLink("CVNTrade").type(model.DashboardLinkType.DASHBOARDS).tags([TAG]).as_dropdown(True)
    board = board.link(others.keep_time(True).include_vars(True))
    for name in choices:
        board = board.with_variable(_variable(name, CHOICES[name]))
    for name, default in {**(texts or {}), "dagster_url": UI_ADDRESS}.items():
        board = board.with_variable(_typed(name, default))
    ids = _ids()
    for panel in _banner():
        board = board.with_panel(panel.id(next(ids)))
    for name, panels in rows:
        board = board.with_row(build.Row(name).id(next(ids)))
        for panel in panels:
            board = board.with_panel(panel.id(next(ids)))
    return board.build()


def _ids() -> Iterator[int]:
    yield from range(1, 1000)


def _variable(name: str, choice: Choice) -> build.QueryVariable:
    everything = model.VariableOption(selected=True, text=["All"], value=["$__all"])
    variable = build.QueryVariable(name).label(choice.label).datasource(POSTGRES).query(choice.query)
    variable = variable.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED).multi(True).include_all(True)
    return variable.all_value(choice.all).current(everything)


def _typed(name: str, default: str) -> build.TextBoxVariable:
    chosen = model.VariableOption(selected=True, text=default, value=default)
    label = {"dagster_url": "Dagster's UI"}.get(name, name.capitalize())
    return build.TextBoxVariable(name).label(label).default_value(default).current(chosen).options([chosen])


def _banner() -> tuple[build.Panel, ...]:
    """What every reader has to know first: the global state, and whether any of this is real."""
    return (
        number(
            "Global state",
            "GREEN, YELLOW, ORANGE or RED; UNKNOWN when it was not computed lately, which is never fine.",
            Sql("select state from ops_state"),
            unit="string",
            width=4,
            texts=limits.STATES,
        ),
        number(
            "Why",
            "The state's reasons, or why there is none.",
            Sql("select coalesce(reasons, 'nothing is wrong') as reasons from ops_state"),
            unit="string",
            width=12,
        ),
        number(
            "Market in force",
            "Numbers of the simulated market say nothing of a real one, and are marked (SIMULATED).",
            Sql("select coalesce(market, 'unknown') as market from ops_state"),
            unit="string",
            width=4,
            texts={**limits.MARKETS, "unknown": limits.GREY},
        ),
        number(
            "Alerts not acknowledged",
            "Open alerts that nobody has acknowledged yet.",
            Sql("select count(*) as alerts from ops_alerts where status = 'open'"),
            unit="short",
            width=4,
            thresholds=limits.rising(1, None),
        ),
    )
