"""`cvntrade preflight` on stored candles: what it counts, judges, shows and records, and when it cannot tell."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa
from rich.console import Console
from services import QUICK, Graph, make_graph

from cvntrade_assets.commands.backfill import Request
from cvntrade_assets.commands.connection import Connection
from cvntrade_assets.commands.errors import CommandError
from cvntrade_assets.commands.plan import stage_facts
from cvntrade_assets.commands.preflight import Preflight, judge_cryptos, print_preflight, variants_to_judge
from cvntrade_assets.learning.features import FEATURE_NAMES
from cvntrade_assets.operations.factors import FACTORS, FactorError
from cvntrade_assets.operations.guardrails import PREFLIGHT, Verdict
from cvntrade_assets.operations.preflight import SIZED
from cvntrade_assets.settings import resolve
from resources.tables import GUARDRAIL_EVALUATIONS

CRYPTO, UNBUILT = "BTCUSDC", "ETHUSDC"
OFF = {"CVN_CUSUM_TRAINING_ENABLED": "0"}
DISABLED = {"cusum_training_mode": "disabled"}

SILENT = Console(quiet=True)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory, warehouse_url: str, mlflow_store: Path) -> Iterator[Graph]:
    """The training set of CRYPTO is built; of UNBUILT there is nothing."""
    made = make_graph(tmp_path_factory.mktemp("preflight"), warehouse_url, mlflow_store=mlflow_store)
    with closing(made.warehouse), made.instance:
        made.warehouse.set_group("both", [CRYPTO, UNBUILT])
        assert made.run(CRYPTO, ["candles", "features", "labels", "training_set"]).success
        yield made


@pytest.fixture(scope="module")
def connection(graph: Graph, warehouse_url: str) -> Connection:
    environment = {"CVN_WAREHOUSE_URL": warehouse_url, "CVN_ARTIFACTS": str(graph.folder / "artifacts")}
    return Connection("http://127.0.0.1:1", environment)


@pytest.fixture
def base_env(graph: Graph) -> Iterator[Any]:
    yield lambda values: graph.warehouse.set_base_env(values, "tests")
    graph.warehouse.set_base_env(dict.fromkeys(graph.warehouse.base_env()), "tests")


@pytest.fixture
def judge(graph: Graph, connection: Connection) -> Any:
    """`judge(settings, variants, crypto)`: the preflight of one run."""

    def one(
        settings: Mapping[str, str] | None = None, variants: Mapping[str, str] | None = None, crypto: str = CRYPTO
    ) -> Preflight:
        request = Request(None, (crypto,), None, {**QUICK, **(settings or {})})
        [found] = judge_cryptos(connection, graph.instance, request, [variants or {}], SILENT)
        return found

    return one


def of(found: Preflight, guardrail: str) -> Any:
    return next(each for each in found.evaluations if each.guardrail == guardrail)


def newest(graph: Graph) -> list[Mapping[str, Any]]:
    """What the last evaluation left on record."""
    table = GUARDRAIL_EVALUATIONS
    last = sa.select(sa.func.max(table.c.recorded_at)).scalar_subquery()
    with graph.warehouse.begin() as connection:
        return [dict(row) for row in connection.execute(sa.select(table).where(table.c.recorded_at == last)).mappings()]


def shown(judged: list[Preflight]) -> tuple[int, str]:
    console = Console(width=10_000)
    with console.capture() as captured:
        code = print_preflight(judged, console)
    return code, captured.get()


def test_it_counts_what_the_training_set_holds(graph: Graph, judge: Any) -> None:
    version = graph.store.require("training_set", CRYPTO, _current(graph)).manifest.summary
    found = judge()
    assert found.size is not None
    assert (found.size.train_rows, found.size.candles) == (version["train_rows"], version["candles"])
    assert (found.size.offered_features, found.size.model_features) == (len(FEATURE_NAMES), 10)
    assert found.verdict is Verdict.PASSED
    assert [each.guardrail for each in found.evaluations] == list(PREFLIGHT)


def test_it_counts_other_settings_than_those_of_the_training_set(graph: Graph, judge: Any) -> None:
    usual, off = judge(), judge(OFF)
    assert off.size.train_rows > 2 * usual.size.train_rows
    assert _current(graph), "nothing was run"


def test_nothing_of_it_is_a_run(graph: Graph, judge: Any) -> None:
    before = graph.instance.get_runs_count()
    judge()
    assert graph.instance.get_runs_count() == before


def test_rows_nobody_chose_are_blocked_and_chosen_ones_allowed(judge: Any, base_env: Any) -> None:
    base_env({"CVN_GUARDRAIL_MAX_ROWS": "1000", **OFF})
    blocked, allowed = judge(), judge(OFF)
    assert (blocked.verdict, of(blocked, "rows_within_limit").layer) == (Verdict.BLOCKED, "base_env")
    assert (allowed.verdict, of(allowed, "rows_within_limit").layer) == (Verdict.ALLOWED, "run")

    code, text = shown([blocked, allowed])
    assert code == 1
    assert "1 of 2 are blocked or unknown; nothing was run." in text
    assert "rows_within_limit: " in text and "CVN_CUSUM_TRAINING_ENABLED=0 (layer base_env)" in text
    assert shown([allowed])[0] == 0


def test_what_was_judged_is_on_record(graph: Graph, judge: Any) -> None:
    found = judge(variants={"calibration": "isotonic"})
    rows = newest(graph)
    assert {row["guardrail"] for row in rows} == {each.guardrail for each in found.evaluations}
    assert {(row["source"], row["crypto"], row["run_id"], row["variant"]) for row in rows} == {
        ("command", CRYPTO, None, "isotonic")
    }


def test_a_critical_factor_needs_its_rollout_first(judge: Any) -> None:
    found = judge(variants=DISABLED)
    assert of(found, "rollout_passed").verdict is Verdict.BLOCKED
    assert "cvntrade rollout --factor cusum_training_mode" in of(found, "rollout_passed").message


@pytest.mark.parametrize(
    ("settings", "why", "command"),
    [
        ({"CVN_DEFAULT_HISTORY_MONTHS": "6"}, "_MONTHS='4' (this run: '6')", "--set CVN_DEFAULT_HISTORY_MONTHS=6"),
        ({"CVN_TIMEFRAME": "1h"}, "CVN_TIMEFRAME='30m' (this run: '1h')", "--set CVN_TIMEFRAME=1h"),
        ({"CVN_MARKET": "binance"}, "CVN_MARKET='simulated' (this run: 'binance')", "--set CVN_MARKET=binance"),
        ({"CVN_AS_OF": "2025-08-01"}, "knows candles until 2025-09-01", "--set CVN_AS_OF=2025-08-01"),
    ],
)  # fmt: skip
def test_other_candles_than_the_settings_ask_for_are_no_answer(
    judge: Any, settings: Mapping[str, str], why: str, command: str
) -> None:
    found = judge(settings)
    assert found.verdict is Verdict.UNKNOWN
    assert {each.guardrail for each in found.evaluations if each.verdict is Verdict.UNKNOWN} == set(SIZED)
    told = of(found, "rows_within_limit").message
    assert why in told
    assert f"cvntrade backfill --crypto {CRYPTO} --select candles" in told and command in told
    assert shown([found])[0] == 1


def test_candles_that_were_never_fetched_are_no_answer(judge: Any) -> None:
    found = judge(variants={"n_features": "top_30", "label_smoothing": "mild"}, crypto=UNBUILT)
    told = of(found, "rows_enough").message
    assert found.verdict is Verdict.BLOCKED, "n_features needs a rollout, candles or none"
    assert of(found, "rows_enough").verdict is Verdict.UNKNOWN
    assert f"candles of {UNBUILT} was never built" in told
    # As it stands, without the factor that `cvntrade backfill` would refuse.
    command = f"`cvntrade backfill --crypto {UNBUILT} --select candles --factor label_smoothing --variant mild --set "
    assert command in told and "n_features" not in told


def test_no_variant_that_is_left_out_of_the_advice_sets_what_candles_read() -> None:
    [candles] = [stage for stage in stage_facts() if stage.name == "candles"]
    critical = [factor for factor in FACTORS.values() if factor.staged]
    assert critical and not any(factor.keys & set(candles.settings) for factor in critical)


def test_candles_behind_a_closed_gate_are_no_answer(graph: Graph, judge: Any) -> None:
    crypto = "SOLUSDC"
    graph.instance.add_dynamic_partitions("crypto", [crypto])
    graph.warehouse.set_group("third", [crypto])
    job = graph.defs.resolve_job_def("candles_to_report")
    config = {"resources": {"run_settings": {"config": {"settings": dict(graph.run_settings)}}}}
    keys = {key for key in graph.defs.resolve_asset_graph().get_all_asset_keys() if key.path[-1] == "candles"}
    job.get_subset(asset_selection=keys, asset_check_selection=set()).execute_in_process(
        instance=graph.instance, partition_key=crypto, run_config=config
    )
    found = judge(crypto=crypto)
    assert found.verdict is Verdict.UNKNOWN
    assert "check schema is missing" in of(found, "rows_enough").message


def test_an_empty_slice_is_blocked_however_many_training_rows(judge: Any) -> None:
    found = judge({"CVN_EMBARGO_HOURS": "240"})
    assert of(found, "rows_enough").verdict is Verdict.BLOCKED
    assert "no row is left in the slice(s) validation" in of(found, "rows_enough").message


def test_settings_that_a_run_would_refuse_are_blocked_for_every_crypto(graph: Graph, connection: Connection) -> None:
    request = Request("both", (), None, {**QUICK, "CVN_CUSUM_TRAINING_MODE": "enabled"})
    judged = judge_cryptos(connection, graph.instance, request, [{}], SILENT)
    assert [(each.crypto, each.verdict) for each in judged] == [(CRYPTO, Verdict.BLOCKED), (UNBUILT, Verdict.BLOCKED)]
    assert "CVN_CUSUM_TRAINING_MODE is retired" in of(judged[0], "settings_valid").message
    [row] = newest(graph)
    assert (row["guardrail"], row["verdict"], row["source"]) == ("settings_valid", "blocked", "command")
    code, text = shown(judged)
    assert code == 1
    assert text.count("settings_valid: ") == 1, "one reason, told once for both"
    assert f"blocked {CRYPTO}, {UNBUILT}: settings_valid: CVN_CUSUM_TRAINING_MODE is retired" in text


def test_a_factor_alone_stands_for_each_of_its_variants(graph: Graph, connection: Connection) -> None:
    choices = variants_to_judge(["calibration", "cost"], {})
    assert len(choices) == len(FACTORS["calibration"].variants) + len(FACTORS["cost"].variants)
    judged = judge_cryptos(connection, graph.instance, Request("both", (), None, QUICK), choices, SILENT)
    assert len(judged) == 2 * len(choices)
    assert {each.verdict for each in judged if each.crypto == CRYPTO} == {Verdict.PASSED}
    code, text = shown(judged)
    assert code == 1, "the other crypto has no candles"
    assert "calibration=isotonic" in text and "cost=bps_40" in text


def test_at_120_columns_nothing_is_cut_off_and_commands_can_be_copied(judge: Any) -> None:
    judged = [judge(variants={"cusum_training_mode": name}) for name in FACTORS["cusum_training_mode"].variants]
    judged.append(judge(crypto=UNBUILT))
    console = Console(width=120)
    with console.capture() as captured:
        print_preflight(judged, console)
    text = captured.get()
    assert "…" not in text.split("Or override")[0]
    assert all(f"cusum_training_mode={name}" in text for name in FACTORS["cusum_training_mode"].variants)
    assert (
        f"rows_enough, features_within_limit, memory_within_limit, minutes_within_limit: candles of {UNBUILT}" in text
    )
    assert any(f"`cvntrade backfill --crypto {UNBUILT} --select candles --set" in line for line in text.splitlines())


def test_variants_that_are_given_are_one_run() -> None:
    chosen = {"calibration": "isotonic", "cost": "bps_40"}
    assert variants_to_judge(["calibration", "cost"], chosen) == [chosen]
    assert variants_to_judge([], {}) == [{}]


def test_an_unknown_factor_names_those_there_are() -> None:
    with pytest.raises(FactorError, match="factor 'colour' does not exist; there are cusum_training_mode, "):
        variants_to_judge(["colour"], {})


def test_a_store_that_nobody_names_is_one_message(graph: Graph, warehouse_url: str, monkeypatch: Any) -> None:
    monkeypatch.delenv("CVN_ARTIFACTS", raising=False)
    nowhere = Connection("http://127.0.0.1:1", {"CVN_WAREHOUSE_URL": warehouse_url})
    with pytest.raises(CommandError, match="CVN_ARTIFACTS is not set"):
        judge_cryptos(nowhere, graph.instance, Request(None, (CRYPTO,), None, QUICK), [{}], SILENT)


def test_candles_are_read_once_for_all_variants(
    graph: Graph, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []
    read = pd.read_parquet

    def counting(path: Any, **more: Any) -> Any:
        reads.append(Path(path))
        return read(path, **more)

    monkeypatch.setattr(pd, "read_parquet", counting)
    choices = variants_to_judge(["calibration"], {})
    judge_cryptos(connection, graph.instance, Request(None, (CRYPTO,), None, QUICK), choices, SILENT)
    assert len(choices) > 3
    assert len(reads) == 1


def _current(graph: Graph) -> str:
    from resources.gate import Gate

    return Gate(graph.instance, {}).current_version("training_set", CRYPTO)


@pytest.mark.parametrize(("place", "expected"), [("pods", 6.0), ("processes", None)])
def test_commands_hold_training_against_the_pod_that_it_would_have(place: str, expected: float | None) -> None:
    """Preflight and plan, which a run of the same settings must not contradict."""
    settings = resolve(base_env={"CVN_POD_TRAINING_MEMORY_GIB": "6"}, run={}, now=pd.Timestamp("2025-09-01", tz="UTC"))
    assert Connection("http://127.0.0.1:1", {"CVN_RUNS_IN": place}).training_pod_gib(settings) == expected
