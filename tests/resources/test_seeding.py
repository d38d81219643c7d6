"""Seeding on a real PostgreSQL: whole or not at all, never over anybody's edit, also several at once."""

import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pandas as pd
import pytest
import sqlalchemy as sa
from operators_table import forget_settings, forget_universes, settings_changes
from services import create_database

from cvntrade_assets.operations.seeds import SeedAction, SeedPlan, wanted_texts
from cvntrade_assets.settings import SettingsError
from resources.embedded_postgres import EmbeddedPostgres
from resources.secrets import learn_secrets
from resources.seeding import apply_seeds, preview
from resources.settings_history import settings_history
from resources.table_rights import RIGHTS
from resources.warehouse import FIRST_UNIVERSES, Warehouse, WarehouseError

NOW = pd.Timestamp("2025-09-15", tz="UTC")
WANTED = wanted_texts({})
ALL = len(WANTED)
DEPTH = "CVN_HPO_XGBOOST_30M_MAX_DEPTH"


@pytest.fixture
def empty(warehouse: Warehouse) -> Iterator[Warehouse]:
    """The operators' table without a row, and without a past."""
    forget_settings(warehouse)
    yield warehouse


def counts(plan: SeedPlan) -> Counter[str]:
    return Counter(str(seed.action) for seed in plan.seeds)


def test_everything_is_inserted_once_and_stays_on_record(empty: Warehouse):
    # Every hyperparameter, and the Baseline Config.
    assert ALL == 487
    assert counts(preview(empty, WANTED, NOW)) == {"insert": ALL}
    assert empty.base_env() == {}
    assert counts(apply_seeds(empty, WANTED, NOW)) == {"insert": ALL}
    assert empty.base_env() == WANTED
    recorded = settings_changes(empty)
    assert {(key, old, new) for key, old, new, *_ in recorded} == {(key, None, text) for key, text in WANTED.items()}
    assert {(author, reason) for *_, author, reason in recorded} == {
        ("seed", "canonical value, inserted where there was none")
    }
    with empty.begin() as connection:
        assert set(connection.scalars(sa.text("select distinct updated_by from base_env"))) == {"seed"}

    assert counts(apply_seeds(empty, WANTED, NOW)) == {"present": ALL}
    assert settings_changes(empty) == recorded and empty.base_env() == WANTED


def test_edits_and_removals_are_kept(empty: Warehouse):
    empty.set_base_env({DEPTH: "3", "CVN_SEED": "7"}, "maria", "shallow trees")
    apply_seeds(empty, WANTED, NOW)
    empty.set_base_env({"CVN_DEFAULT_N_TRIALS": "20", "CVN_DEFAULT_N_FOLDS": None}, "maria", "quicker")
    before = settings_changes(empty)
    plan = apply_seeds(empty, {**WANTED, "CVN_DEFAULT_N_TRIALS": "30"}, NOW)
    assert counts(plan) == {"present": ALL - 1, "removed_by_operator": 1}
    (removed,) = plan.of(SeedAction.REMOVED)
    assert (removed.key, removed.told) == ("CVN_DEFAULT_N_FOLDS", "removed by maria")
    told = {seed.key: seed.told for seed in plan.of(SeedAction.PRESENT) if seed.told}
    assert told == {DEPTH: "stays '3'", "CVN_DEFAULT_N_TRIALS": "stays '20'"}
    kept = WANTED | {DEPTH: "3", "CVN_SEED": "7", "CVN_DEFAULT_N_TRIALS": "20"}
    assert empty.base_env() == {key: text for key, text in kept.items() if key != "CVN_DEFAULT_N_FOLDS"}
    assert settings_changes(empty) == before

    # Who sets it again has it again, and a new release adds what is new to it.
    empty.set_base_env({"CVN_DEFAULT_N_FOLDS": "5"}, "maria")
    plan = apply_seeds(empty, {**WANTED, "CVN_MAX_FEATURES": "60"}, NOW)
    assert plan.inserts == {"CVN_MAX_FEATURES": "60"}
    assert empty.base_env()["CVN_DEFAULT_N_FOLDS"] == "5"


def test_what_was_removed_by_hand_is_an_edit_too(empty: Warehouse):
    apply_seeds(empty, WANTED, NOW)
    with empty.begin() as connection:
        connection.execute(sa.text("delete from base_env where key = :key"), {"key": DEPTH})
    assert [seed.key for seed in apply_seeds(empty, WANTED, NOW).of(SeedAction.REMOVED)] == [DEPTH]
    assert DEPTH not in empty.base_env()


def test_what_is_refused_writes_nothing(empty: Warehouse):
    empty.set_base_env({f"{DEPTH}_LOW": "5"}, "maria")
    before = settings_changes(empty)
    for given in ({f"{DEPTH}_HIGH": "4"}, {"CVN_SEED": "seven"}):
        plan = apply_seeds(empty, wanted_texts(given), NOW)
        assert plan.refusal
    learn_secrets({"EXCHANGE_API_SECRET": "seed-canary-0123"})
    with pytest.raises(SettingsError, match="holds a secret"):
        apply_seeds(empty, wanted_texts({"CVN_BINANCE_ARCHIVE_URL": "https://host/seed-canary-0123"}), NOW)
    assert empty.base_env() == {f"{DEPTH}_LOW": "5"} and settings_changes(empty) == before


def test_a_key_that_cannot_be_written_takes_all_others_with_it(empty: Warehouse):
    with empty.begin() as connection:
        connection.execute(sa.text(f"alter table base_env add constraint no_depth check (key <> '{DEPTH}')"))
    try:
        with pytest.raises(sa.exc.IntegrityError):
            apply_seeds(empty, WANTED, NOW)
        assert empty.base_env() == {} and settings_changes(empty) == []
    finally:
        with empty.begin() as connection:
            connection.execute(sa.text("alter table base_env drop constraint no_depth"))


def test_many_at_once_insert_each_key_once(empty: Warehouse, warehouse_url: str):
    start = threading.Barrier(6)

    def one(_: int) -> SeedPlan:
        with closing(Warehouse(warehouse_url)) as own:
            own.base_env()
            start.wait()
            return apply_seeds(own, WANTED, NOW)

    with ThreadPoolExecutor(6) as pool:
        plans = list(pool.map(one, range(6)))
    assert sorted(len(plan.inserts) for plan in plans) == [0] * 5 + [ALL]
    assert empty.base_env() == WANTED
    assert Counter(key for key, *_ in settings_changes(empty)) == dict.fromkeys(WANTED, 1)


def test_two_jobs_at_once(empty: Warehouse, warehouse_url: str):
    forget_universes(empty)
    environment = {name: text for name, text in os.environ.items() if not name.startswith(("CVN_", "DAGSTER_"))}
    command = [sys.executable, "-m", "cvntrade_assets", "seed"]
    named = {**environment, "CVN_WAREHOUSE_URL": warehouse_url}
    jobs = [subprocess.Popen(command, env=named, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [job.communicate(timeout=120)[1] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], said
    told = [dict(field.split("=") for field in line.split()) for line in said]
    assert sorted(int(line["inserted"]) for line in told) == [0, ALL]
    assert sorted(int(line["cryptos_inserted"]) for line in told) == [0, sum(map(len, FIRST_UNIVERSES.values()))]
    assert {group: set(members) for group, members in empty.universes().items()} == {
        group: set(members) for group, members in FIRST_UNIVERSES.items()
    }
    assert empty.base_env() == WANTED
    assert Counter(key for key, *_ in settings_changes(empty)) == dict.fromkeys(WANTED, 1)


def test_an_operator_who_edits_meanwhile_is_waited_for_and_kept(empty: Warehouse, warehouse_url: str):
    with closing(Warehouse(warehouse_url)) as own, ThreadPoolExecutor(1) as pool:
        with empty.begin() as connection:
            connection.execute(sa.text(f"insert into base_env values ('{DEPTH}', '3', 'maria', now())"))
            waiting = pool.submit(apply_seeds, own, WANTED, NOW)
            pid = sa.text("select count(*) from pg_locks where not granted and relation = 'base_env'::regclass")
            while not connection.scalar(pid):
                assert not waiting.done()
        plan = waiting.result(timeout=60)
    assert counts(plan) == {"insert": ALL - 1, "present": 1}
    assert empty.base_env()[DEPTH] == "3"


def test_a_table_that_stays_locked_is_a_failure_and_not_a_wait(empty: Warehouse, warehouse_url: str):
    with closing(Warehouse(warehouse_url)) as own, empty.begin() as connection:
        connection.execute(sa.text("lock table base_env in row exclusive mode"))
        with pytest.raises(WarehouseError, match="lock timeout"):
            apply_seeds(own, WANTED, NOW, patience=0.05)
    assert empty.base_env() == {}


def test_a_database_without_tables_says_so(postgres_server: EmbeddedPostgres):
    with (
        closing(Warehouse(create_database(postgres_server))) as bare,
        pytest.raises(WarehouseError, match="lacks tables"),
    ):
        apply_seeds(bare, WANTED, NOW)


def test_the_history_is_told_newest_first(empty: Warehouse):
    empty.set_base_env({"CVN_SEED": "7"}, "maria", "another draw")
    apply_seeds(empty, {"CVN_SEED": "42", DEPTH: ""}, NOW)
    empty.set_base_env({"CVN_SEED": "8"}, "otto")
    found = settings_history(empty, None, 10)
    assert [(each.key, each.old_value, each.new_value, each.author) for each in found] == [
        ("CVN_SEED", "7", "8", "otto"),
        (DEPTH, None, "", "seed"),
        ("CVN_SEED", None, "7", "maria"),
    ]
    assert found[-1].reason == "another draw" and found[0].changed_at.tzname() == "UTC"
    assert [each.new_value for each in settings_history(empty, "CVN_SEED", 1)] == ["8"]
    assert {each.author for each in settings_history(empty, None, 10, leave_out="seed")} == {"maria", "otto"}


def test_the_role_of_pods_may_seed(empty: Warehouse):
    """With the rights that are declared for it, and no others."""
    role, password = "seeding_test", "seeding-test-password"
    forget_universes(empty)
    rights = {table: RIGHTS[table] for table in ("base_env", "base_env_history", "cvntrade_universes")}
    with empty.begin() as connection:
        connection.execute(sa.text(f"create role {role} login password '{password}'"))
        for table, right in rights.items():
            connection.execute(sa.text(f"grant {right} on {table} to {role}"))
    try:
        url = empty.address.set(username=role, password=password).render_as_string(hide_password=False)
        with closing(Warehouse(url)) as own:
            assert counts(apply_seeds(own, WANTED, NOW)) == {"insert": ALL}
            assert own.seed_universes() == sum(map(len, FIRST_UNIVERSES.values()))
    finally:
        with empty.begin() as connection:
            connection.execute(sa.text(f"drop owned by {role}"))
            connection.execute(sa.text(f"drop role {role}"))
    assert empty.base_env() == WANTED
