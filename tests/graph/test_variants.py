"""Variants in a run: resolved as the factor layer, tagged on the run, and refused before anything is done."""

import os
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from services import CRYPTOS, Graph, make_graph

from resources.code_version import code_version
from resources.secrets import process_mask

SECRET = "hunter2-swordfish-99"
OVERRIDE = {
    "CVN_GUARDRAIL_OVERRIDE": "1",
    "CVN_GUARDRAIL_OVERRIDE_REASON": "retraining after a flash crash, approved by @ceven",
}
WRONG = [
    ({"calibration": "isotone"}, {}, "factor calibration has no variant 'isotone'"),
    ({"caliber": "isotonic"}, {}, "factor 'caliber' does not exist"),
    (
        {"threshold_method": "f1_binary"},
        {"CVN_BINARY_CLASSIFICATION": "0"},
        "CVN_THRESHOLD_METHOD=f1_binary (layer fac",
    ),
    ({"sl_multiplier": "sl_1_5"}, {"CVN_TP_MULT": "1.4"}, "lies nearer than the stop-loss"),
    ({}, {"CVN_SL_MULT": "nan"}, "CVN_SL_MULT='nan' (layer run) is not valid"),
    ({}, {"CVN_GUARDRAIL_MAX_ROWS": "50000"}, "CVN_GUARDRAIL_MAX_ROWS cannot be set by a run"),
    ({}, {"CVN_GUARDRAIL_OVERRIDE": "1"}, "CVN_GUARDRAIL_OVERRIDE=1 needs CVN_GUARDRAIL_OVERRIDE_REASON"),
]
# What a run must leave as it is when its settings are refused; only the record of the refusal is new.
RECORD = "guardrail_evaluations"


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory, warehouse_url: str) -> Iterator[Graph]:
    """One graph for the module: its runs build candles at most."""
    made = make_graph(tmp_path_factory.mktemp("variants"), warehouse_url)
    with closing(made.warehouse), made.instance:
        yield made


def tags(graph: Graph, result: dg.ExecuteInProcessResult) -> Mapping[str, str]:
    """The tags of ours that stand on a run."""
    run = graph.instance.get_run_by_id(result.run_id)
    assert run is not None
    return {name: text for name, text in run.tags.items() if name.startswith("cvntrade/")}


def rows(graph: Graph, table: str) -> list[dict[str, Any]]:
    with graph.warehouse.begin() as connection:
        return [dict(row) for row in connection.execute(sa.text(f"select * from {table} order by 1")).mappings()]


def everything(graph: Graph) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table of ours."""
    with graph.warehouse.begin() as connection:
        names = sa.inspect(connection).get_table_names()
    return {name: rows(graph, name) for name in names}


def environment() -> tuple[dict[str, str], bytes]:
    return dict(os.environ), Path("/proc/self/environ").read_bytes()


def failure(result: dg.ExecuteInProcessResult) -> str:
    """Everything that Dagster stored of a run's failure."""
    told = [getattr(event.event_specific_data, "error", None) for event in result.all_events]
    return "\n".join(error.to_string() for error in told if error is not None)


def test_a_run_is_tagged_with_its_code_and_nothing_that_was_not_chosen(graph: Graph) -> None:
    result = graph.run(CRYPTOS[0], ["candles"])
    assert result.success
    assert tags(graph, result) == {"cvntrade/code": code_version()}


def test_a_run_is_tagged_with_its_variants_and_its_override(graph: Graph) -> None:
    variants = {"cost": "bps_10", "calibration": "isotonic"}
    result = graph.run(CRYPTOS[0], ["candles"], OVERRIDE, variants=variants)
    assert result.success
    assert tags(graph, result) == {
        "cvntrade/code": code_version(),
        "cvntrade/factor": "calibration, cost",
        "cvntrade/variant": "isotonic, bps_10",
        "cvntrade/override": OVERRIDE["CVN_GUARDRAIL_OVERRIDE_REASON"],
    }
    assert not [row for row in rows(graph, RECORD) if row["run_id"] == result.run_id]


def test_tags_that_a_run_took_over_from_another_do_not_stay(graph: Graph) -> None:
    """A run that is started again carries the tags of the one before, whatever was changed in its config."""
    old = {"cvntrade/factor": "cost", "cvntrade/variant": "bps_40", "cvntrade/override": "an old reason"}
    result = graph.run(CRYPTOS[0], ["candles"], tags=old, variants={"calibration": "none"})
    assert result.success
    assert tags(graph, result) == {
        "cvntrade/code": code_version(),
        "cvntrade/factor": "calibration",
        "cvntrade/variant": "none",
        "cvntrade/override": "",
    }


def test_variants_are_the_factor_layer_of_what_is_built(graph: Graph) -> None:
    """The manifest tells the value that held; the operators' own stands behind the variant."""
    graph.warehouse.set_base_env({"CVN_SL_MULT": "0.5"}, "an operator")
    try:
        for variants, stop in (({"sl_multiplier": "sl_0_8"}, "0.8"), ({}, "0.5")):
            result = graph.run(CRYPTOS[0], ["candles", "labels"], variants=variants)
            assert result.success
            [made] = [
                event.materialization
                for event in result.get_asset_materialization_events()
                if event.materialization.asset_key.to_user_string() == "labels"
            ]
            assert made.metadata["settings_used"].value["CVN_SL_MULT"] == stop
    finally:
        graph.warehouse.set_base_env({"CVN_SL_MULT": None}, "an operator")


@pytest.mark.parametrize(("variants", "settings", "said"), WRONG)
def test_a_refused_run_does_nothing_and_is_on_record(
    graph: Graph, variants: dict[str, str], settings: dict[str, str], said: str
) -> None:
    before, process = everything(graph), environment()
    backfill = {"dagster/backfill": "b1"}
    result = graph.run(CRYPTOS[1], ["candles"], settings, variants=variants, tags=backfill)

    assert not result.success
    assert said in failure(result)
    assert not result.get_asset_materialization_events()
    assert not result.get_step_success_events()
    assert environment() == process
    assert tags(graph, result) == {}

    after = everything(graph)
    [*earlier, row] = after.pop(RECORD)
    assert earlier == before.pop(RECORD)
    assert after == before
    factors = ", ".join(variants) or None
    assert (row["run_id"], row["session"], row["crypto"], row["factor"]) == (result.run_id, "b1", CRYPTOS[1], factors)
    assert (row["guardrail"], row["verdict"], row["source"]) == ("settings_valid", "blocked", "settings")
    assert said in row["message"]
    assert row["message"] in failure(result)


def test_a_refusal_and_a_reason_tell_no_secret(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVN_PG_PASSWORD", SECRET)
    process_mask.cache_clear()
    try:
        result = graph.run(CRYPTOS[1], ["candles"], {"CVN_TIMEFRAME": SECRET}, variants={"cost": "bps_10"})
        assert not result.success
        assert SECRET not in failure(result)
        assert SECRET not in str(rows(graph, RECORD))
        reason = f"the password {SECRET} leaked, approved by @ceven"
        result = graph.run(CRYPTOS[1], ["candles"], {**OVERRIDE, "CVN_GUARDRAIL_OVERRIDE_REASON": reason})
        assert result.success
        assert tags(graph, result)["cvntrade/override"] == "the password *** leaked, approved by @ceven"
    finally:
        process_mask.cache_clear()


@pytest.mark.parametrize("text", ["a\x00b", "\udc80", "[/red]", "'; drop table guardrail_evaluations; --"])
def test_a_refusal_of_any_text_is_on_record(graph: Graph, text: str) -> None:
    before = len(rows(graph, RECORD))
    result = graph.run(CRYPTOS[1], ["candles"], {"CVN_TIMEFRAME": text})
    assert not result.success
    assert "CVN_TIMEFRAME=" in failure(result)
    assert len(rows(graph, RECORD)) == before + 1


def test_a_refusal_that_cannot_be_recorded_is_still_the_reason(graph: Graph) -> None:
    """As before the operations schema has the newest tables."""
    with graph.warehouse.begin() as connection:
        connection.execute(sa.text(f"alter table {RECORD} rename to elsewhere"))
    try:
        result = graph.run(CRYPTOS[1], ["candles"], {"CVN_TIMEFRAME": "7m"})
    finally:
        with graph.warehouse.begin() as connection:
            connection.execute(sa.text(f"alter table elsewhere rename to {RECORD}"))
    assert not result.success
    told = failure(result)
    assert "CVN_TIMEFRAME='7m' (layer run) is not valid" in told
    assert "could not be recorded" in told
