"""The graph on real candles, read from a folder laid out as the exchange's archive; nothing leaves the machine."""

import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from services import Graph, make_graph

from cvntrade_assets.operations.pipelines import PIPELINES

# The file of November lacks its last candle, that of December has its last day only.
DECEMBER = "2024-11-30T23:30:00+00:00 to 2024-12-30T23:30:00+00:00: 1441 candles"
OUTAGE = "2023-03-24T12:30:00+00:00 to 2023-03-24T13:30:00+00:00: 3 candles"
TO_TRAINING_SET = ("candles", "features", "labels", "training_set")


@pytest.fixture(scope="module")
def dead_port() -> Iterator[str]:
    """An address on the loopback that refuses every connection: the port is bound and nobody listens."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{holder.getsockname()[1]}"


@pytest.fixture(scope="module")
def graph(
    market_folder: Path,
    dead_port: str,
    tmp_path_factory: pytest.TempPathFactory,
    warehouse_url: str,
    mlflow_store: Path,
) -> Graph:
    """The defaults, but for two trials of tuning on ten features."""
    settings = {
        "CVN_MARKET": "binance",
        "CVN_BINANCE_ARCHIVE_URL": str(market_folder),
        "CVN_BINANCE_API_URL": dead_port,
        "CVN_AS_OF": "2025-09-01",
        "CVN_DEFAULT_HISTORY_MONTHS": "24",
        "CVN_BACKTEST_DAYS": "60",
        "CVN_CUSUM_THRESHOLD_H": "3.0",
    }
    folder = tmp_path_factory.mktemp("real")
    return make_graph(folder, warehouse_url, settings, ("ADAUSDT", "BTCUSDT"), mlflow_store)


@pytest.fixture(scope="module")
def ada(graph: Graph) -> Mapping[str, dg.AssetMaterialization]:
    return build(graph, "ADAUSDT")


def build(
    graph: Graph, crypto: str, selection: Any = None, settings: Mapping[str, str] | None = None
) -> Mapping[str, dg.AssetMaterialization]:
    """Run to the end; the materialization of every asset, every check passed."""
    result = graph.run(crypto, selection, settings)
    wrong = [
        (check.check_name, check.description) for check in result.get_asset_check_evaluations() if not check.passed
    ]
    assert wrong == []
    assert result.success
    events = [event.materialization for event in result.get_asset_materialization_events()]
    return {event.asset_key.to_user_string(): event for event in events}


def said(event: dg.AssetMaterialization, *names: str) -> tuple[Any, ...]:
    return tuple(event.metadata[name].value for name in names)


def test_crypto_with_a_hole_reaches_the_report(ada: Mapping[str, dg.AssetMaterialization]) -> None:
    assert len(ada) == 12
    market, rows, lift = said(ada["test_report"], "market", "rows", "pr_auc_lift")
    assert market == "binance"
    assert 1_500 < rows < 2_500
    assert abs(lift) < 0.1, "real markets give little: more than this is a leak"


def test_december_that_was_never_recorded_is_in_the_gap_report(ada: Mapping[str, dg.AssetMaterialization]) -> None:
    count, missing, largest, listed = said(ada["candles"], "gaps", "missing_candles", "largest_gap", "gap_list")
    assert (count, missing, largest, listed) == (1, 1441, "30 days 00:30:00", [DECEMBER])
    assert said(ada["candles"], "from", "to") == ("2023-09-01T00:00:00+00:00", "2025-08-31T23:30:00+00:00")
    assert said(ada["candles"], "rows") == (731 * 48 - 1441,)
    assert said(ada["candles"], "incomplete_candles") == (2,), "the candles on both sides of the hole"
    assert said(ada["candles"], "months_quarantined", "months_absent") == ({}, [])


def test_outage_of_the_exchange_is_in_a_longer_history(graph: Graph, ada: object) -> None:
    longer = build(graph, "ADAUSDT", ["candles"], {"CVN_DEFAULT_HISTORY_MONTHS": "32"})
    assert said(longer["candles"], "gap_list") == ([OUTAGE, DECEMBER],)
    assert said(longer["candles"], "from") == ("2023-01-01T00:00:00+00:00",)
    assert said(longer["candles"], "archive_requests") == (2 * 8,), "eight months more, a checksum and a file each"


def test_unchanged_rerun_fetches_nothing(graph: Graph, ada: Mapping[str, dg.AssetMaterialization]) -> None:
    assert said(ada["candles"], "archive_requests", "rest_requests") == (2 * 24, 0)
    # The longer history of another test may be the current version: it is cut, not fetched again.
    again = build(graph, "ADAUSDT", ["candles", "backtest_candles"])
    for asset in ("candles", "backtest_candles"):
        assert said(again[asset], "reused") == (True,), asset
        assert said(again[asset], "archive_requests", "rest_requests") == (0, 0), asset


def test_gate_stays_open_over_real_gaps(graph: Graph, ada: object) -> None:
    assert set(build(graph, "ADAUSDT", ["features", "labels"])) == {"features", "labels"}


def test_training_rows_are_what_the_manual_says(graph: Graph, ada: Mapping[str, dg.AssetMaterialization]) -> None:
    with_cusum = build(graph, "BTCUSDT", TO_TRAINING_SET)
    without = build(graph, "BTCUSDT", TO_TRAINING_SET, {"CVN_CUSUM_TRAINING_ENABLED": "0"})

    for events in (ada, with_cusum):
        [rows] = said(events["training_set"], "train_rows")
        assert 1_000 <= rows <= 2_000
    [rows] = said(without["training_set"], "train_rows")
    assert 27_000 <= rows <= 28_500
    assert all(said(without[asset], "reused") == (True,) for asset in TO_TRAINING_SET[:3])


def test_stored_candles_are_those_of_the_archive(
    graph: Graph, real_candles: Callable[..., Any], ada: Mapping[str, dg.AssetMaterialization]
) -> None:
    stored = graph.store.require("candles", "ADAUSDT", str(said(ada["candles"], "version")[0])).load().candles
    assert stored.equals(real_candles("ADAUSDT", "30m", "2023-09-01", "2025-09-01"))


def test_discovery_ends_with_a_verdict(graph: Graph) -> None:
    small = {
        "horizons": "H4,H6",
        "sl_range": "1.0",
        "tp_range": "2.0,3.0",
        "n_folds": "2",
        "CVN_CANDIDATES": "1",
        "CVN_ROLLING_STEP_DAYS": "30",
    }
    found = build(graph, "BTCUSDT", PIPELINES["discovery"].assets, small)
    assert said(found["evaluation"], "market") == ("binance",)
    assert said(found["challenger"], "state") == ("candidate",), "a challenger on real candles is a leak until shown"
