"""Dashboards as Grafana sees them: every query runs as the read-only role, and each debt has its panel."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pandas as pd
import psycopg2
import pytest
import sqlalchemy as sa
from grafana_queries import DASHBOARDS, Query, choices, expanded, panels, queries, variables
from seeded_operations import seed
from services import create_database

from cvntrade_assets.operations.run_watch import HISTORY
from cvntrade_assets.operations.signals import SIGNALS, Scope
from cvntrade_assets.settings import SETTINGS
from helm.dashboards.__main__ import FOLDER
from helm.dashboards.catalogue import DASHBOARDS as MADE
from helm.dashboards.catalogue import as_json
from helm.dashboards.signals import SHOWN
from resources.embedded_postgres import EmbeddedPostgres
from resources.roles import READ_ONLY_ROLE, ensure_read_only_role
from resources.tables import METADATA
from resources.warehouse import Warehouse

POSTGRES = "grafana-postgresql-datasource"
# The manual's §5, its 6.5.5, and the guardrails' §8.
TITLES = {
    "mlops-overview": "MLOps Overview",
    "testing-backtest": "Testing & Backtest",
    "pipeline-health": "Pipeline Health",
    "model-registry": "Model Registry",
    "infra-monitoring": "Infra Monitoring",
    "fine-tuning-results": "Fine-Tuning Results",
    "slow-runs": "Slow Runs",
}
# Each row of §14, and the panel that pays it, with the columns that it must show.
DEBT = {
    "f1_buy vs baseline_f1_buy": ("testing-backtest", "f1_buy beside always-BUY", ("f1_buy", "baseline_f1_buy")),
    "screening_f1_buy vs last_fold_f1_buy": (
        "testing-backtest",
        "screening_f1_buy beside last_fold_f1_buy",
        ("screening_f1_buy", "last_fold_f1_buy"),
    ),
    "tp_pct / sl_pct / timeout_pct": (
        "testing-backtest",
        "How trades ended: tp_pct, sl_pct, timeout_pct",
        ("tp_pct", "sl_pct", "timeout_pct"),
    ),
    "code diagnostic principal": ("mlops-overview", "Newest diagnosis of every crypto", ("primary_code", "severity")),
    "état global CVNTrade": ("mlops-overview", "Global state", ("state", "ops_state")),
}
SQL = queries(POSTGRES)
PASSWORD = "canary-91aa-of-dashboards"


@pytest.fixture(scope="module")
def reader(postgres_server: EmbeddedPostgres) -> Iterator[Any]:
    """A cursor of the role that Grafana logs in as, on a seeded schema."""
    with closing(Warehouse(create_database(postgres_server))) as warehouse:
        warehouse.migrate()
        seed(warehouse, pd.Timestamp.now("UTC").floor("us"))
        ensure_read_only_role(warehouse, PASSWORD)
        url = warehouse.address.set(drivername="postgresql", username=READ_ONLY_ROLE, password=PASSWORD)
        with closing(psycopg2.connect(url.render_as_string(hide_password=False))) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("set time zone 'Asia/Kathmandu'")
                yield cursor
        with warehouse.begin() as connection:
            connection.execute(sa.text(f"drop owned by {READ_ONLY_ROLE}"))
            connection.execute(sa.text(f"drop role {READ_ONLY_ROLE}"))


def run(reader: Any, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    reader.execute(sql)
    return [column.name for column in reader.description], reader.fetchall()


def every_choice(reader: Any, uid: str) -> list[dict[str, str]]:
    return list(choices(uid, lambda query: [str(row[0]) for row in run(reader, query)[1]]))


def range_of() -> tuple[str, str]:
    now = pd.Timestamp.now("UTC")
    return (now - pd.Timedelta("40D")).isoformat(), (now + pd.Timedelta("1min")).isoformat()


# what stands in the files


def test_the_files_are_what_the_code_makes():
    assert sorted(file.name for file in FOLDER.iterdir()) == sorted(f"{uid}.json" for uid in MADE)
    for uid, make in MADE.items():
        assert (FOLDER / f"{uid}.json").read_text() == as_json(make()), f"{uid}: run `make dashboards`"


def test_the_manuals_dashboards_are_there_under_uids_that_stay():
    assert {uid: (found["uid"], found["title"]) for uid, found in DASHBOARDS.items()} == {
        uid: (uid, title) for uid, title in TITLES.items()
    }


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_every_panel_says_what_it_shows(uid):
    found = list(panels(DASHBOARDS[uid]))
    titles = Counter(panel["title"] for panel in found)
    assert max(titles.values()) == 1, titles.most_common(2)
    ids = Counter(panel["id"] for panel in DASHBOARDS[uid]["panels"])
    assert max(ids.values()) == 1
    for panel in found:
        assert len(panel["description"]) > 20, panel["title"]
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["fieldConfig"]["defaults"]["thresholds"]["steps"], panel["title"]
        assert {target["datasource"]["uid"] for target in panel["targets"]} <= {
            "cvntrade-postgres",
            "cvntrade-prometheus",
        }


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_no_panel_lies_on_another(uid):
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARDS[uid]["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies on {taken.get((x, y))}"
                taken[x, y] = panel["title"]


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_the_state_and_the_market_stand_on_every_dashboard(uid):
    first = [panel["title"] for panel in DASHBOARDS[uid]["panels"][:4]]
    assert first == ["Global state", "Why", "Market in force", "Alerts not acknowledged"]


# §2 and §14 of the manual


@pytest.mark.parametrize("signal", [signal.name for signal in SIGNALS.values() if signal.is_golden])
def test_every_golden_signal_is_seen_without_reading_a_log(reader, signal):
    shown = [query for query in SQL if query.dashboard == "mlops-overview" and f"signal = '{signal}'" in query.text]
    assert len(shown) == 1
    since, until = range_of()
    everything = every_choice(reader, "mlops-overview")[0]
    names, rows = run(reader, expanded(shown[0].text, everything, since, until))
    assert names[-1] == "value" and rows


@pytest.mark.parametrize("row", DEBT)
def test_each_row_of_the_manuals_debt_has_its_panel(reader, row):
    uid, title, told = DEBT[row]
    [query] = [query for query in SQL if (query.dashboard, query.panel) == (uid, title)]
    for name in told:
        assert re.search(rf"\b{name}\b", query.text), name
    since, until = range_of()
    _, rows = run(reader, expanded(query.text, every_choice(reader, uid)[0], since, until))
    assert any(all(value is not None for value in row) for row in rows)


def thresholds(uid: str, title: str) -> dict[float | None, str]:
    [panel] = [panel for panel in panels(DASHBOARDS[uid]) if panel["title"] == title]
    return {step["value"]: step["color"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]}


# Typed from the manual's table, in the units of the panels: what each colour begins at.
LIMITS = {
    "pipeline_success_rate": {None: "red", 0.7: "yellow", 0.9: "green"},
    "pipeline_latency": {None: "green", 0.3: "yellow", 1.0: "red"},
    "pass_rate": {None: "green", 1: "yellow", 3: "red"},
    "f1_buy_delta_vs_baseline": {None: "red", 0.0: "yellow", 0.15: "green"},
    "screening_testing_gap": {None: "green", 0.15: "yellow", 0.3: "red"},
    "std_f1_buy": {None: "green", 0.05: "yellow", 0.1: "red"},
    "sortino": {None: "red", 0.0: "yellow", 0.5: "green"},
    "sl_pct": {None: "green", 0.35: "yellow", 0.5: "red"},
    "timeout_pct": {None: "green", 0.3: "yellow", 0.4: "red"},
    "model_freshness": {None: "green", 7: "yellow", 14: "red"},
    "challenger_count": {None: "green", 5: "yellow", 10: "red"},
}


@pytest.mark.parametrize("signal", LIMITS)
def test_limits_are_the_manuals(signal):
    assert thresholds("mlops-overview", SHOWN[signal].title) == LIMITS[signal]


def test_slow_runs_are_told_by_the_guardrails_limits():
    assert thresholds("slow-runs", "Longest run of the last hour, by job") == {
        None: "green",
        600: "yellow",
        1800: "red",
    }
    assert thresholds("slow-runs", "Average of each factor's newest runs") == {None: "green", 300: "yellow"}
    [query] = [query for query in SQL if query.panel == "Slow runs (more than 10 minutes)"]
    assert "seconds > 600" in query.text


# every query


@pytest.mark.parametrize("query", SQL, ids=str)
def test_every_sql_panel_runs_as_the_read_only_role(reader, query: Query):
    since, until = range_of()
    for number, chosen in enumerate(every_choice(reader, query.dashboard)):
        sql = expanded(query.text, chosen, since, until)
        names, rows = run(reader, sql)
        run(reader, f"explain {sql}")
        if number == 0:
            assert rows, "shows nothing of a schema in which everything happened"
        if query.format == "time_series":
            assert names[0] == "time" and names[-1] == "value" and set(names) <= {"time", "metric", "value"}
        assert len(set(names)) == len(names), "two columns of one name"


@pytest.mark.parametrize("query", SQL, ids=str)
def test_every_sql_panel_says_nothing_rather_than_fail_on_an_empty_schema(empty_reader, query: Query):
    since, until = range_of()
    run(empty_reader, expanded(query.text, every_choice(empty_reader, query.dashboard)[0], since, until))


@pytest.fixture(scope="module")
def empty_reader(warehouse: Warehouse) -> Iterator[Any]:
    """A cursor on a schema without a row."""
    address = warehouse.address.set(drivername="postgresql").render_as_string(hide_password=False)
    with closing(psycopg2.connect(address)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_every_variable_lists_something_and_is_used(reader, uid):
    texts = [query.text for query in [*SQL, *queries("prometheus")] if query.dashboard == uid]
    links = json.dumps(DASHBOARDS[uid])
    for name, variable in variables(uid).items():
        if variable["type"] == "query":
            _, rows = run(reader, variable["query"])
            assert rows and len(rows[0]) == 1
            run(reader, f"select 1 where 'x' in ({variable['allValue']})")
            assert any(f"${{{name}:sqlstring}}" in text for text in texts), f"{name} is not used"
        else:
            assert f"${{{name}}}" in links, f"{name} is not used"


def test_no_panel_reads_a_table():
    tables = "|".join(METADATA.tables)
    for query in SQL:
        assert not re.search(rf"\b(?:from|join)\s+(?:{tables})\b", query.text), str(query)


# the simulated market


@pytest.mark.parametrize("query", SQL, ids=str)
def test_what_is_simulated_is_marked(reader, query: Query):
    """Wherever a row is about the simulated crypto, its label or its market says so."""
    since, until = range_of()
    names, rows = run(reader, expanded(query.text, every_choice(reader, query.dashboard)[0], since, until))
    for row in rows:
        told = dict(zip(names, row, strict=True))
        is_about = any(str(value).startswith("ETHUSDC") for value in told.values())
        if (
            is_about
            and "ops_freshness" not in query.text
            and "signal" not in query.text
            and "ops_guardrails" not in query.text
        ):
            assert (told.get("market") in ("simulated", None) and "market" in told) or any(
                "(SIMULATED)" in str(value) for value in told.values()
            ), told


@pytest.mark.parametrize(("market", "label"), [("simulated", "ETHUSDC (SIMULATED)"), ("binance", "ETHUSDC")])
def test_signals_are_marked_by_the_market_in_force(postgres_server, market, label):
    from seeded_operations import insert, set_signal, set_state

    from resources.tables import SIGNAL_POINTS

    now = pd.Timestamp.now("UTC").floor("us")
    with closing(Warehouse(create_database(postgres_server))) as warehouse:
        warehouse.migrate()
        other = "binance" if market == "simulated" else "simulated"
        set_state(warehouse, "GREEN", now - pd.Timedelta("2D"), other)
        set_state(warehouse, "GREEN", now, market)
        for subject in ("", "discovery", "ETHUSDC"):
            set_signal(warehouse, "sortino", subject, 1.0, "ok", now)
            for moment in (now, now - pd.Timedelta("1D")):
                told = {"signal": "sortino", "subject": subject, "value": 1.0, "level": "ok", "reason": "so"}
                insert(warehouse, SIGNAL_POINTS, told | {"observed_at": moment.to_pydatetime()})
        with warehouse.begin() as connection:
            shown = set(connection.scalars(sa.text("select label from ops_signals")))
            points = connection.execute(
                sa.text(
                    "select label, market from ops_signal_points where subject = 'ETHUSDC' order by observed_at desc"
                )
            ).all()
    assert shown == {"platform", "discovery", label}
    before = "ETHUSDC" if market == "simulated" else "ETHUSDC (SIMULATED)"
    assert points == [(label, market), (before, other)], "a point is of the market that was in force then"


# what views type that the code holds too


def test_views_use_the_defaults_and_the_history_of_the_code():
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    import resources.warehouse

    config = Config()
    config.set_main_option("script_location", resources.warehouse.__file__.replace("warehouse.py", "migrations"))
    module = ScriptDirectory.from_config(config).get_revision("0005").module
    assert f"'{SETTINGS['CVN_STATE_STALE_MINUTES'].default}'" in module.STALE_SECONDS
    assert f"place <= {HISTORY}" in module.FACTOR_TIMES


def test_every_scope_of_a_signal_has_its_variable():
    assert {Scope.JOB, Scope.CRYPTO, Scope.PLATFORM} == set(Scope)
    assert {"job", "crypto"} <= set(variables("mlops-overview"))
