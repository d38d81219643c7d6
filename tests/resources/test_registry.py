"""The registry on a real PostgreSQL: what the tables allow, who wins, and what stays on record."""

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import product
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from recorded_evaluation import record_evaluation_of

from cvntrade_assets.operations.lifecycle import PIPELINE, TRANSITIONS, ModelState
from cvntrade_assets.operations.taxonomy import Role
from resources.registry import (
    Actor,
    ModelVersion,
    NewModel,
    RegistryError,
    StaleModelError,
    TransitionRefusedError,
    events,
    find_model,
    models,
    note_mirrored,
    offer_candidate,
    register,
    require_model,
    transition,
    unmirrored,
)
from resources.secrets import learn_secrets
from resources.warehouse import Warehouse

FORK = multiprocessing.get_context("fork")
PATIENCE = 30.0
CANARY = "canary-77c1-of-the-registry"
CRYPTO, PTE = "BTCUSDC", "H4_SL1.0_TP2.0"
CANDIDATE, CHALLENGER, CHAMPION, QUARANTINED, ARCHIVED = ModelState
UNTIL = pd.Timestamp("2025-09-01", tz="UTC").to_pydatetime()
FITTED = UNTIL - pd.Timedelta("10D")
RUN = Actor("the pipeline", PIPELINE, "a test", "run-1")
MAINTAINER = Actor("ann", Role.MLOPS_MAINTAINER, "a test")
NEW = NewModel(CRYPTO, "binance", PTE, "rolling-1", "ab" * 32, "evaluation-1", FITTED, UNTIL)


@pytest.fixture
def fresh(warehouse: Warehouse) -> Warehouse:
    """This module's database with an empty registry; only here are the guards taken down for a moment."""
    with warehouse.begin() as connection:
        for table in ("model_versions", "model_events"):
            connection.execute(sa.text(f"alter table {table} disable trigger {table}_append_only"))
        connection.execute(sa.text("truncate model_versions, model_events, evaluations restart identity"))
        for table in ("model_versions", "model_events"):
            connection.execute(sa.text(f"alter table {table} enable always trigger {table}_append_only"))
    return warehouse


def evaluate(warehouse: Warehouse, new: NewModel = NEW, *, passed: bool = True) -> None:
    record_evaluation_of(warehouse, new, passed=passed)


def challenger(warehouse: Warehouse, number: int = 1, crypto: str = CRYPTO, market: str = "binance") -> ModelVersion:
    new = replace(NEW, crypto=crypto, market=market, rolling_version=f"r-{number}", evaluation_version=f"e-{number}")
    evaluate(warehouse, new)
    return offer_candidate(warehouse, new, {}, "the pipeline", "run-1").model


def put(warehouse: Warehouse, model: ModelVersion, state: ModelState) -> ModelVersion:
    """Put a model into a state, around every guard."""
    with warehouse.begin() as connection:
        connection.execute(sa.text("alter table model_versions disable trigger user"))
        statement = sa.text("update model_versions set state = :state, champion_at = now() where id = :id")
        connection.execute(statement, {"state": state, "id": model.id})
        for name in ("guarded", "noted", "append_only"):
            connection.execute(sa.text(f"alter table model_versions enable always trigger model_versions_{name}"))
    return require_model(warehouse, model)


def by_hand(warehouse: Warehouse, statement: str, **values: Any) -> None:
    with warehouse.begin() as connection:
        connection.execute(sa.text(statement), values)


def states(warehouse: Warehouse, crypto: str = CRYPTO) -> list[tuple[int, str, int]]:
    return [(model.number, str(model.state), model.epoch) for model in models(warehouse, [crypto])]


# what the tables allow


def test_postgresql_allows_the_changes_of_the_lifecycle_and_no_others(fresh):
    model = challenger(fresh)
    allowed = set()
    for before, after in product(ModelState, ModelState):
        if before is after:
            continue
        current = put(fresh, model, before)
        try:
            statement = "update model_versions set state = :state, epoch = epoch + 1 where id = :id"
            by_hand(fresh, statement, state=after, id=current.id)
        except sa.exc.IntegrityError as error:
            assert f"BTCUSDC model 1 cannot go from {before} to {after}" in str(error), (before, after)
        else:
            allowed.add((before, after))
    assert allowed == set(TRANSITIONS)


@pytest.mark.parametrize("before", [before for before, after in TRANSITIONS if after is CHAMPION])
def test_no_simulated_model_becomes_champion(fresh, before):
    model = put(fresh, challenger(fresh, market="simulated"), before)
    with pytest.raises(TransitionRefusedError, match="nothing of that ever trades"):
        transition(fresh, model, CHAMPION, MAINTAINER)
    statement = "update model_versions set state = 'champion', epoch = epoch + 1"
    with pytest.raises(sa.exc.IntegrityError, match="model_versions_no_simulated_champion"):
        by_hand(fresh, statement)
    # Not even around the guards.
    with pytest.raises(sa.exc.IntegrityError, match="model_versions_no_simulated_champion"):
        put(fresh, model, CHAMPION)
    assert require_model(fresh, model).state is before


def test_a_crypto_has_one_champion(fresh):
    first, second = challenger(fresh, 1), challenger(fresh, 2)
    other = challenger(fresh, 3, crypto="ETHUSDC")
    transition(fresh, first, CHAMPION, MAINTAINER)
    with pytest.raises(TransitionRefusedError, match="has a champion already"):
        transition(fresh, second, CHAMPION, MAINTAINER)
    with pytest.raises(sa.exc.IntegrityError, match="model_versions_one_champion"):
        put(fresh, second, CHAMPION)
    assert transition(fresh, other, CHAMPION, MAINTAINER).state is CHAMPION
    assert states(fresh) == [(2, "challenger", 2), (1, "champion", 3)]


@pytest.mark.parametrize(
    "change",
    [
        "crypto = 'ETHUSDC'",
        "number = 9",
        "market = 'simulated'",
        "pte = 'H1_SL1.0_TP2.0'",
        "rolling_version = 'x'",
        "model_sha256 = 'x'",
        "evaluation_version = 'x'",
        "fitted_until = fitted_until - interval '1 day'",
        "data_until = now()",
        "run_id = 'x'",
        "run_id = null",
        "created_at = created_at - interval '1 day'",
    ],
)
def test_what_was_registered_stays_as_it_was(fresh, change):
    before = challenger(fresh)
    with pytest.raises(sa.exc.IntegrityError, match="stays what it was registered as"):
        by_hand(fresh, f"update model_versions set {change}")
    assert require_model(fresh, before) == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("epoch = epoch + 1", "keeps its epoch"),
        ("champion_at = now()", "keeps its epoch"),
        ("changed_at = now() + interval '1 day'", "keeps its epoch"),
        ("state = 'archived'", "a change of its state makes that 3"),
        ("state = 'archived', epoch = epoch + 2", "a change of its state makes that 3"),
        ("state = 'odd', epoch = epoch + 1", "cannot go from challenger to odd"),
    ],
)
def test_epoch_and_state_change_together(fresh, change, said):
    before = challenger(fresh)
    with pytest.raises(sa.exc.IntegrityError, match=said):
        by_hand(fresh, f"update model_versions set {change}")
    assert require_model(fresh, before) == before


@pytest.mark.parametrize(
    "values", ["'challenger', 1, null", "'champion', 1, null", "'candidate', 2, null", "'candidate', 1, now()"]
)
def test_a_model_begins_as_a_candidate(fresh, values):
    columns = (
        "crypto, number, market, pte, rolling_version, model_sha256, evaluation_version, fitted_until, data_until, "
        "state, epoch, champion_at"
    )
    with pytest.raises(sa.exc.IntegrityError, match="begins as a candidate"):
        by_hand(
            fresh,
            f"insert into model_versions ({columns}) "
            f"values ('B', 1, 'binance', 'p', 'r', 's', 'e', now(), now(), {values})",
        )


def test_no_model_is_fitted_on_what_comes_after_its_data(fresh):
    assert register(fresh, replace(NEW, fitted_until=UNTIL), RUN).fitted_until == UNTIL
    with pytest.raises(TransitionRefusedError, match="model_versions_moments"):
        register(fresh, replace(NEW, rolling_version="r-2", fitted_until=UNTIL + pd.Timedelta("1s")), RUN)
    assert states(fresh) == [(1, "candidate", 1)]


@pytest.mark.parametrize("table", ["model_versions", "model_events"])
@pytest.mark.parametrize(
    "statement",
    [
        "delete from {table}",
        "delete from {table} where false",
        "truncate {table} cascade",
        "set local session_replication_role = replica; delete from {table}",
    ],
)
def test_nothing_is_removed(fresh, table, statement):
    challenger(fresh)
    with pytest.raises(sa.exc.IntegrityError, match=r"is append-only: (DELETE|TRUNCATE) is refused"):
        by_hand(fresh, statement.format(table=table))
    assert len(events(fresh, CRYPTO)) == 2


@pytest.mark.parametrize("where", ["", " where false"])
def test_no_event_is_changed(fresh, where):
    challenger(fresh)
    with pytest.raises(sa.exc.IntegrityError, match="append-only: UPDATE is refused"):
        by_hand(fresh, f"update model_events set reason = 'another'{where}")


def test_the_guards_hold_in_a_session_that_plays_the_replica(fresh):
    model = challenger(fresh)
    replica = "set local session_replication_role = replica; update model_versions set state = 'candidate'"
    with pytest.raises(sa.exc.IntegrityError, match="cannot go from challenger to candidate"):
        by_hand(fresh, f"{replica}, epoch = epoch + 1")
    by_hand(fresh, f"{replica.replace('candidate', 'archived')}, epoch = epoch + 1")
    assert require_model(fresh, model).state is ARCHIVED
    assert [event["to_state"] for event in events(fresh, CRYPTO)] == ["candidate", "challenger", "archived"]


# gates


def test_nobody_becomes_a_challenger_without_an_evaluation_that_passed(fresh):
    model = register(fresh, NEW, RUN)
    evaluate(fresh, passed=False)
    # Of another model, of which one was good.
    for other in (replace(NEW, pte="H1_SL1.0_TP2.0"), replace(NEW, crypto="ETHUSDC"), replace(NEW, market="simulated")):
        evaluate(fresh, replace(other, evaluation_version="evaluation-2"))
    evaluate(fresh, replace(NEW, evaluation_version="evaluation-3", rolling_version="rolling-2"))
    with pytest.raises(TransitionRefusedError, match="no evaluation in which it passed every gate is on record"):
        transition(fresh, model, CHALLENGER, RUN)
    for version in ("evaluation-1", "evaluation-2", "evaluation-3", "unheard of"):
        statement = "update model_versions set state = 'challenger', epoch = 2, evaluation_version = :version"
        with pytest.raises(sa.exc.IntegrityError, match="has no evaluation on record in which it passed every gate"):
            by_hand(fresh, statement, version=version)
    assert states(fresh) == [(1, "candidate", 1)]


def test_a_rollback_of_what_never_was_champion_is_refused_by_the_table_too(fresh):
    model = transition(fresh, challenger(fresh), ARCHIVED, MAINTAINER)
    with pytest.raises(TransitionRefusedError, match="it never was"):
        transition(fresh, model, CHAMPION, MAINTAINER)
    with pytest.raises(sa.exc.IntegrityError, match="was never champion"):
        by_hand(fresh, "update model_versions set state = 'champion', epoch = epoch + 1")


def test_a_champion_that_was_replaced_comes_back(fresh):
    model = challenger(fresh)
    for state in (CHAMPION, ARCHIVED, CHAMPION):
        model = transition(fresh, model, state, MAINTAINER)
    assert model.epoch == 5
    assert model.champion_at is not None and model.challenger_at is not None
    assert model.challenger_at < model.champion_at < model.changed_at


# offering candidates


def test_a_candidate_that_every_gate_lets_through_is_a_challenger_and_stays_one(fresh):
    evaluate(fresh)
    offered = [offer_candidate(fresh, NEW, {}, "the pipeline", f"run-{number}") for number in (1, 2, 3)]
    assert {offer.model for offer in offered} == {offered[0].model}
    assert {offer.reason for offer in offered} == {"it passed every gate, and is challenger"}
    assert states(fresh) == [(1, "challenger", 2)]
    assert [(event["to_state"], event["run_id"]) for event in events(fresh, CRYPTO)] == [
        ("candidate", "run-1"),
        ("challenger", "run-1"),
    ]


def test_a_candidate_that_a_gate_refuses_stays_one_and_says_why(fresh):
    evaluate(fresh, passed=False)
    refusals = {"f1_delta": "0.01 is below 0.05", "dsr": "it is undefined"}
    offered = offer_candidate(fresh, NEW, refusals, "the pipeline")
    assert offered.reason == (
        "not registered as a challenger: gate f1_delta: 0.01 is below 0.05; gate dsr: it is undefined"
    )
    assert states(fresh) == [(1, "candidate", 1)]


def test_a_later_evaluation_of_the_same_model_counts(fresh):
    evaluate(fresh, passed=False)
    offer_candidate(fresh, NEW, {"dsr": "0.94 is below 0.95"}, "the pipeline")
    later = replace(NEW, evaluation_version="evaluation-2")
    evaluate(fresh, later)
    offered = offer_candidate(fresh, later, {}, "the pipeline")
    assert (offered.model.state, offered.model.evaluation_version) == (CHALLENGER, "evaluation-2")
    # What it became is not undone behind people's back, and it is said.
    latest = replace(NEW, evaluation_version="evaluation-3")
    evaluate(fresh, latest, passed=False)
    refused = offer_candidate(fresh, latest, {"dsr": "0.90 is below 0.95"}, "the pipeline")
    assert (refused.model.state, refused.model.evaluation_version) == (CHALLENGER, "evaluation-2")
    assert refused.reason == (
        "it is challenger since an earlier evaluation; this one refuses it: gate dsr: 0.90 is below 0.95"
    )


def test_a_simulated_challenger_keeps_its_mark(fresh):
    new = replace(NEW, market="simulated")
    evaluate(fresh, new)
    offered = offer_candidate(fresh, new, {}, "the pipeline")
    assert offered.model.state is CHALLENGER
    assert offered.model.shown_market == "SIMULATED"
    assert offered.reason.endswith("SIMULATED: it can never be champion")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_sha256": "cd" * 32}, "is registered with model_sha256 abab"),
        ({"market": "simulated"}, "is registered with market binance"),
        ({"fitted_until": FITTED - pd.Timedelta("1h")}, "is registered with fitted_until 2025-08-22"),
        ({"data_until": UNTIL + pd.Timedelta("1h")}, "is registered with data_until 2025-09-01"),
    ],
)
def test_the_same_version_with_other_content_is_refused(fresh, change, said):
    register(fresh, NEW, RUN)
    with pytest.raises(RegistryError, match=said):
        register(fresh, replace(NEW, **change), RUN)
    assert states(fresh) == [(1, "candidate", 1)]


def test_another_rolling_backtest_pte_or_crypto_is_another_model(fresh):
    for new in (NEW, replace(NEW, rolling_version="rolling-2"), replace(NEW, pte="H1_SL1.0_TP2.0")):
        register(fresh, new, RUN)
    register(fresh, replace(NEW, crypto="ETHUSDC"), RUN)
    assert [number for number, *_ in states(fresh)] == [3, 2, 1]
    assert [number for number, *_ in states(fresh, "ETHUSDC")] == [1]


# events


def test_every_change_is_on_record_with_who_and_why(fresh):
    learn_secrets({"EXCHANGE_API_SECRET": CANARY})
    model = challenger(fresh)
    leaky = Actor(f"ann {CANARY}", Role.MLOPS_MAINTAINER, f"because {CANARY} said so")
    transition(fresh, model, ARCHIVED, leaky)
    names = ("number", "from_state", "to_state", "epoch", "author", "role", "reason", "run_id")
    assert [tuple(event[name] for name in names) for event in events(fresh, CRYPTO)] == [
        (1, None, "candidate", 1, "the pipeline", "pipeline", "it leads evaluation e-1", "run-1"),
        (
            1,
            "candidate",
            "challenger",
            2,
            "the pipeline",
            "pipeline",
            "it passed every gate of evaluation e-1",
            "run-1",
        ),
        (1, "challenger", "archived", 3, "ann ***", "MLOps maintainer", "because *** said so", None),
    ]
    assert events(fresh, "ETHUSDC") == []


def test_a_change_by_hand_is_on_record_too(fresh):
    challenger(fresh)
    by_hand(fresh, "update model_versions set state = 'archived', epoch = epoch + 1")
    last = events(fresh, CRYPTO)[-1]
    with fresh.begin() as connection:
        user = connection.scalar(sa.text("select session_user"))
    assert [last[name] for name in ("author", "role", "reason", "run_id")] == [user, None, None, None]


def test_a_change_that_is_rolled_back_leaves_no_event(fresh):
    challenger(fresh)
    statement = sa.text("update model_versions set state = 'archived', epoch = epoch + 1")
    with pytest.raises(KeyError), fresh.begin() as connection:
        connection.execute(statement)
        raise KeyError("a mistake of the caller's")
    assert states(fresh) == [(1, "challenger", 2)]
    assert len(events(fresh, CRYPTO)) == 2


def test_a_refused_change_leaves_nothing(fresh):
    model = challenger(fresh)
    with pytest.raises(TransitionRefusedError, match="there is no such change"):
        transition(fresh, model, CANDIDATE, MAINTAINER)
    with pytest.raises(TransitionRefusedError, match="in the role operator: expected MLOps maintainer"):
        transition(fresh, model, CHAMPION, Actor("bob", Role.OPERATOR, "now"))
    assert len(events(fresh, CRYPTO)) == 2


# several at once


def at_once(url: str, works: list[Callable[[Warehouse], None]]) -> list[int | None]:
    """Exit codes of processes that begin together, each on connections of its own: 0 done, 3 lost, else an error."""
    start = FORK.Barrier(len(works))

    def main(work: Callable[[Warehouse], None]) -> None:
        code = 1
        try:
            with closing(Warehouse(url)) as warehouse:
                warehouse.universes()
                start.wait(PATIENCE)
                work(warehouse)
                code = 0
        except (StaleModelError, TransitionRefusedError):
            code = 3
        finally:
            os._exit(code)

    children = [FORK.Process(target=main, args=(work,)) for work in works]
    for child in children:
        child.start()
    for child in children:
        child.join(PATIENCE)
    return [child.exitcode for child in children]


def test_of_several_who_saw_the_same_epoch_one_wins(fresh, warehouse_url):
    model = challenger(fresh)
    ways = (CHAMPION, ARCHIVED, QUARANTINED, CHAMPION, ARCHIVED, QUARANTINED, CHAMPION, ARCHIVED)
    codes = at_once(warehouse_url, [lambda it, way=way: transition(it, model, way, MAINTAINER) for way in ways])
    assert sorted(codes) == [0] + [3] * 7
    won = ways[codes.index(0)]
    assert states(fresh) == [(1, str(won), 3)]
    assert [event["to_state"] for event in events(fresh, CRYPTO)] == ["candidate", "challenger", str(won)]
    with pytest.raises(
        StaleModelError, match=rf"was challenger \(epoch 2\) when it was read, and is {won} \(epoch 3\)"
    ):
        transition(fresh, model, CHAMPION, MAINTAINER)


def test_of_several_challengers_that_are_promoted_at_once_one_wins(fresh, warehouse_url):
    waiting = [challenger(fresh, number) for number in range(1, 9)]
    codes = at_once(warehouse_url, [lambda it, one=one: transition(it, one, CHAMPION, MAINTAINER) for one in waiting])
    assert sorted(codes) == [0] + [3] * 7
    assert len(models(fresh, states=[CHAMPION])) == 1
    assert len(events(fresh, CRYPTO)) == 2 * 8 + 1


def test_the_same_model_offered_by_several_runs_is_registered_once(fresh, warehouse_url):
    evaluate(fresh)
    works = [lambda it, run=run: offer_candidate(it, NEW, {}, "the pipeline", f"run-{run}") for run in range(8)]
    assert at_once(warehouse_url, works) == [0] * 8
    assert states(fresh) == [(1, "challenger", 2)]
    assert [event["to_state"] for event in events(fresh, CRYPTO)] == ["candidate", "challenger"]


def test_models_that_are_registered_at_once_are_numbered_without_holes(fresh, warehouse_url):
    works = [lambda it, n=n: register(it, replace(NEW, rolling_version=f"r-{n}"), RUN) for n in range(8)]
    assert at_once(warehouse_url, works) == [0] * 8
    assert [number for number, *_ in states(fresh)] == list(range(8, 0, -1))


# reading, and what MLflow lacks


@pytest.fixture
def several(fresh: Warehouse) -> Iterator[Warehouse]:
    challenger(fresh, 1)
    transition(fresh, challenger(fresh, 2), CHAMPION, MAINTAINER)
    register(fresh, replace(NEW, rolling_version="r-3"), RUN)
    challenger(fresh, 4, crypto="ETHUSDC", market="simulated")
    return fresh


def test_models_are_found_by_what_one_asks_for(several):
    def found(**asked: Any) -> list[tuple[str, int]]:
        return [(model.crypto, model.number) for model in models(several, **asked)]

    assert found() == [("BTCUSDC", 3), ("BTCUSDC", 2), ("BTCUSDC", 1), ("ETHUSDC", 1)]
    assert found(cryptos=["ETHUSDC"]) == [("ETHUSDC", 1)]
    assert found(cryptos=[]) == []
    assert found(states=[CHALLENGER]) == [("BTCUSDC", 1), ("ETHUSDC", 1)]
    assert found(states=[CHALLENGER, CHAMPION], market="binance") == [("BTCUSDC", 2), ("BTCUSDC", 1)]
    assert find_model(several, "BTCUSDC", "r-2", PTE) == models(several, states=[CHAMPION])[0]
    assert find_model(several, "ETHUSDC", "r-2", PTE) is None


def test_what_mlflow_lacks_is_known_until_it_shows_it(several):
    def lacking(crypto: str | None = None) -> list[tuple[str, int]]:
        return [(model.crypto, model.number) for model in unmirrored(several, crypto)]

    assert lacking() == [("BTCUSDC", 1), ("BTCUSDC", 2), ("ETHUSDC", 1)], "a candidate is not mirrored"
    assert lacking("ETHUSDC") == [("ETHUSDC", 1)]
    first = models(several, states=[CHALLENGER])[0]
    # It changes while it is being mirrored.
    transition(several, first, ARCHIVED, MAINTAINER)
    note_mirrored(several, first, "7")
    assert lacking("BTCUSDC") == [("BTCUSDC", 1), ("BTCUSDC", 2)]
    again = require_model(several, first)
    assert (again.mlflow_version, again.mirrored) == ("7", False)
    note_mirrored(several, again, "7")
    assert lacking("BTCUSDC") == [("BTCUSDC", 2)]
    assert require_model(several, again).mirrored


def test_pending_challengers_are_shown_with_what_they_came_to(several):
    with several.begin() as connection:
        rows = connection.execute(sa.text("select * from pending_challengers order by crypto")).mappings().all()
    assert [(row["crypto"], row["number"], row["market"], row["mirrored"]) for row in rows] == [
        ("BTCUSDC", 1, "binance", False),
        ("ETHUSDC", 1, "simulated", False),
    ]
    assert {row["primary_code"] for row in rows} == {"ML_SOLID"}
    assert {(row["fitted_until"], row["data_until"]) for row in rows} == {(FITTED, UNTIL)}
