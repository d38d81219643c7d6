"""`cvntrade seed` and `cvntrade settings history`: what operators and a deployment's logs are told."""

import getpass
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from dagster_on_postgres import open_instance
from operators_table import forget_settings, forget_universes, settings_changes
from scripted_webserver import Cvntrade, Webserver

from cvntrade_assets.operations.seeds import wanted_texts
from cvntrade_assets.settings import HYPERPARAMETER_SETTINGS
from resources.embedded_postgres import EmbeddedPostgres
from resources.warehouse import FIRST_UNIVERSES, Warehouse

ALL = len(wanted_texts({}))
CRYPTOS = sum(map(len, FIRST_UNIVERSES.values()))
DEPTH = "CVN_HPO_XGBOOST_30M_MAX_DEPTH"
NOBODY = "postgresql+psycopg2://app:seed-canary-4711@127.0.0.1:1/cvntrade"


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch, warehouse_url: str, warehouse: Warehouse) -> Iterator[Warehouse]:
    """What CVN_WAREHOUSE_URL names, as on the first day; nothing else is named, as in a job of the chart."""
    forget_settings(warehouse)
    forget_universes(warehouse)
    for name in ("CVN_UI_URL", "DAGSTER_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CVN_WAREHOUSE_URL", warehouse_url)
    yield warehouse


def summary(error: str) -> dict[str, str]:
    (line,) = error.splitlines()
    return dict(field.split("=") for field in line.split())


def test_what_is_missing_is_inserted_and_counted(cvntrade: Cvntrade, database: Warehouse) -> None:
    code, out, error = cvntrade("seed", "--set", "CVN_DEFAULT_N_TRIALS=20")
    told = summary(error)
    assert code == 0 and float(told.pop("seconds")) >= 0
    expected = {"event": "seed_summary", "planned": str(ALL), "inserted": str(ALL), "present": "0", "kept_removed": "0"}
    assert told == expected | {"cryptos_inserted": str(CRYPTOS)}
    assert "Pools keep their limits: Dagster's storage is not named here" in out
    assert database.base_env()["CVN_DEFAULT_N_TRIALS"] == "20"

    code, out, error = cvntrade("seed")
    assert (code, summary(error)["inserted"], summary(error)["present"]) == (0, "0", str(ALL))
    assert "present             CVN_DEFAULT_N_TRIALS=50  stays '20'" in out
    assert len(settings_changes(database)) == ALL


def test_a_deployment_has_cryptos_from_its_first_seed_on(cvntrade: Cvntrade, database: Warehouse) -> None:
    assert database.universes() == {}
    assert "cryptos_inserted=6" in cvntrade("seed")[2]
    assert database.universes() == {group: tuple(sorted(cryptos)) for group, cryptos in FIRST_UNIVERSES.items()}
    # Whoever has groups of their own keeps them, and those alone.
    forget_universes(database)
    database.set_group("mine", ["DOGEUSDC"])
    assert "cryptos_inserted=0" in cvntrade("seed")[2]
    assert database.universes() == {"mine": ("DOGEUSDC",)}


def test_universes_that_cannot_be_written_fail_the_job_until_they_can(cvntrade: Cvntrade, database: Warehouse) -> None:
    rename = "alter table {} rename to {}"
    with database.begin() as connection:
        connection.execute(sa.text(rename.format("cvntrade_universes", "elsewhere")))
    try:
        code, _, error = cvntrade("seed")
        assert code == 1 and error.count("\n") == 1
        assert error.startswith("event=seed_apply_failed ") and "cvntrade_universes" in error
    finally:
        with database.begin() as connection:
            connection.execute(sa.text(rename.format("elsewhere", "cvntrade_universes")))
    code, _, error = cvntrade("seed")
    assert (code, summary(error)["cryptos_inserted"]) == (0, str(CRYPTOS))


def test_a_dry_run_prints_every_key_and_writes_nothing(cvntrade: Cvntrade, database: Warehouse) -> None:
    database.set_base_env({DEPTH: "3", "CVN_DEFAULT_N_FOLDS": "4"}, "maria")
    database.set_base_env({"CVN_DEFAULT_N_FOLDS": None}, "maria")
    before = settings_changes(database)
    code, out, error = cvntrade("seed", "--dry-run")
    assert (code, error) == (0, "")
    lines = out.splitlines()
    assert len(lines) == ALL + 2
    assert f"present             {DEPTH}=(empty)  stays '3'" in lines
    assert f"insert              {DEPTH}_LOW=2" in lines
    assert "removed_by_operator CVN_DEFAULT_N_FOLDS=3  removed by maria" in lines
    assert lines[-1] == f"Nothing was written. Of {ALL}: {ALL - 2} insert, 1 present, 1 removed_by_operator."
    first = "btc-core (BTCUSDC ETHUSDC), defi (SOLUSDC ADAUSDC BONKUSDC XRPUSDC)"
    assert lines[-2] == f"Universes that are inserted where there are none: {first}; there are none."
    assert settings_changes(database) == before and database.base_env() == {DEPTH: "3"}
    assert database.universes() == {}
    database.set_group("mine", ["DOGEUSDC"])
    assert "Universes stay as they are: mine (DOGEUSDC)." in cvntrade("seed", "--dry-run")[1].splitlines()


def test_a_dry_run_does_without_a_database(cvntrade: Cvntrade, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVN_WAREHOUSE_URL", NOBODY)
    code, out, error = cvntrade("seed", "--dry-run", "--set", "CVN_MARKET=simulated")
    assert code == 0
    assert len([line for line in out.splitlines() if line.startswith("unknown ")]) == ALL + 1
    assert f"Nothing was written. Of {ALL + 1}: {ALL + 1} unknown." in out
    assert "XRPUSDC); whether there are any is unknown." in out
    assert "Which of them are missing is unknown: PostgreSQL at 127.0.0.1:1/cvntrade did not answer" in out
    assert error.startswith('event=seed_db_connect_failed error="PostgreSQL at 127.0.0.1:1/cvntrade did not answer')
    assert "seed-canary" not in out + error


def test_a_dry_run_does_without_any_cvntrade(
    cvntrade: Cvntrade, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CVN_WAREHOUSE_URL", raising=False)
    monkeypatch.setenv("CVN_HOME", str(tmp_path))
    code, out, error = cvntrade("seed", "--dry-run")
    assert code == 0 and f"Of {ALL}: {ALL} unknown." in out
    assert error.startswith('event=seed_db_connect_failed error="no CVNTrade runs on')


@pytest.mark.parametrize("url", [NOBODY, "seed-canary-4711"])
def test_a_database_out_of_reach_fails_the_job(cvntrade: Cvntrade, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("CVN_WAREHOUSE_URL", url)
    code, out, error = cvntrade("seed")
    assert (code, out) == (1, "")
    assert error.startswith("event=seed_db_connect_failed error=") and error.count("\n") == 1
    assert "seed-canary" not in error


def test_what_is_refused_fails_the_job_and_says_why(cvntrade: Cvntrade, database: Warehouse) -> None:
    database.set_base_env({f"{DEPTH}_LOW": "5"}, "maria")
    before = settings_changes(database)
    for given, said in (
        ("CVN_MAX_FEATURE=30", "is not a setting"),
        (f"{DEPTH}_HIGH=4", "do not go together with what operators set"),
    ):
        code, out, error = cvntrade("seed", "--set", given)
        assert (code, out) == (1, "")
        assert error.startswith("event=seed_apply_failed ") and said in error and error.count("\n") == 1
        code, out, error = cvntrade("seed", "--dry-run", "--set", given)
        assert code == 1 and said in error and "Nothing was written." in out
    assert settings_changes(database) == before and database.universes() == {}


def test_the_pools_get_their_limits_where_dagsters_storage_is_named(
    cvntrade: Cvntrade, database: Warehouse, postgres_server: EmbeddedPostgres, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with open_instance(postgres_server, tmp_path) as instance:
        code, out, error = cvntrade("seed", "--set", "CVN_POOL_TRAINING=5")
        assert (code, summary(error)["event"]) == (0, "seed_summary")
        assert "Pools: exchange 1, training 5." in out
        limits = {each.name: each.limit for each in instance.event_log_storage.get_pool_limits()}
        assert limits == {"exchange": 1, "training": 5}
        # A storage that is named and does not answer is a failure.
        monkeypatch.setenv("CVN_PG_PORT", "1")
        code, _, error = cvntrade("seed")
        assert code == 1 and error.splitlines()[1].startswith("event=seed_pools_failed error=")
        assert postgres_server.password not in error


# The console


@pytest.fixture
def console(database: Warehouse, webserver: Webserver) -> Warehouse:
    """The database with a webserver beside it, as `connect` wants it."""
    return database


def test_every_hyperparameter_can_be_set_and_unset(cvntrade: Cvntrade, console: Warehouse) -> None:
    # A search keeps its bounds apart: each is moved inwards.
    moved = {key: _another(key) for key in HYPERPARAMETER_SETTINGS}
    words = [word for pair in moved.items() for word in pair]
    code, _, error = cvntrade("settings", "set", *words, "--reason", "try every knob")
    assert (code, error) == (0, "")
    assert len(moved) == 483
    assert {key: float(text) for key, text in console.base_env().items()} == {
        key: float(text) for key, text in moved.items()
    }
    author = getpass.getuser()
    assert {(row[3], row[4]) for row in settings_changes(console)} == {(author, "try every knob")}
    assert cvntrade("settings", "show")[0] == 0
    assert cvntrade("settings", "unset", *moved, "--reason", "and back")[0] == 0
    assert console.base_env() == {}


def _another(key: str) -> str:
    """A value that differs from the default, in range; a bound's goes inwards."""
    setting = HYPERPARAMETER_SETTINGS[key]
    kind = setting.kind
    low, high = kind.low, kind.high  # type: ignore[attr-defined]
    if key.endswith("_LOW"):
        upper = float(HYPERPARAMETER_SETTINGS[key.removesuffix("_LOW") + "_HIGH"].default)
        value = float(setting.default) + (upper - float(setting.default)) / 4
    elif key.endswith("_HIGH"):
        lower = float(HYPERPARAMETER_SETTINGS[key.removesuffix("_HIGH") + "_LOW"].default)
        value = float(setting.default) - (float(setting.default) - lower) / 4
    else:
        value = low + (high - low) * 0.4
    return str(int(value)) if isinstance(low, int) else str(value)


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        (DEPTH, "9", "expected a whole number from 1 to 8"),
        (f"{DEPTH}_LOW", "6", f"{DEPTH}_LOW=6 must be below {DEPTH}_HIGH=6"),
        (f"{DEPTH}_HIGH", "2", f"{DEPTH}_LOW=2 must be below {DEPTH}_HIGH=2"),
        ("CVN_HPO_XGBOOST_1H_REG_ALPHA_LOW", "0", "must be above 0: its logarithm is searched"),
        ("CVN_HPO_SCREENING_30M_MAX_DEPTH_LOW", "3", "SCREENING has no max_depth_low"),
        ("CVN_HPO_JUDGE_30M_EARLY_STOPPING_ROUNDS", "9", "JUDGE has no early_stopping_rounds"),
    ],
)
def test_what_no_search_could_use_is_not_set(
    cvntrade: Cvntrade, console: Warehouse, key: str, text: str, said: str
) -> None:
    code, _, error = cvntrade("settings", "set", key, text, "--reason", "x")
    assert code == 2 and said in error
    assert console.base_env() == {}


def test_the_history_of_a_key_and_of_all(cvntrade: Cvntrade, console: Warehouse) -> None:
    assert cvntrade("settings", "history")[1] == "No change is on record.\n"
    assert cvntrade("seed")[0] == 0
    assert cvntrade("settings", "set", DEPTH, "3", "--reason", "shallow\ntrees")[0] == 0
    assert cvntrade("settings", "unset", DEPTH, "--reason", "deep [again]")[0] == 0
    code, out, _ = cvntrade("settings", "history", DEPTH)
    me = getpass.getuser()
    lines = out.splitlines()
    assert code == 0 and len(lines) == 6
    assert [line.split(" UTC  ")[1] for line in lines[::2]] == [
        f"{DEPTH}: '3' → not set",
        f"{DEPTH}: '' → '3'",
        f"{DEPTH}: not set → ''",
    ]
    assert lines[1::2] == [
        f"  by {me}: deep [again]",
        f"  by {me}: shallow trees",
        "  by seed: canonical value, inserted where there was none",
    ]
    # What seeding wrote would bury what people did.
    assert cvntrade("settings", "history")[1].splitlines() == lines[:4]
    code, out, _ = cvntrade("settings", "history", "--seeds", "--limit", "3")
    assert out.count(" UTC ") == 3 and "These are the newest 3" in out
    assert cvntrade("settings", "history", "--limit", "0")[0] == 2
    assert cvntrade("settings", "history", "CVN_NOTHING")[1] == "No change of CVN_NOTHING is on record.\n"


def test_a_key_that_is_not_there_is_told_its_neighbours(cvntrade: Cvntrade, console: Warehouse) -> None:
    assert cvntrade("seed")[0] == 0
    code, _, error = cvntrade("settings", "unset", "CVN_HPO_XGBOOST_30M_MAX_DEPT", "--reason", "x")
    assert code == 2
    assert f"which holds {ALL} keys, the closest" in error and DEPTH in error and error.count("CVN_HPO") == 4
