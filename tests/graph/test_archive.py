"""The exchange's archive through the graph: a month that is replaced, and a month that is bad."""

from collections.abc import Mapping
from pathlib import Path

import dagster as dg
import pytest
import sqlalchemy as sa
from conftest import make_random_candles
from exchange_server import ExchangeServer
from services import Graph, make_graph

from resources.tables import ARCHIVE_FILES

CRYPTO, MONTHS = "BTCUSDT", ("2024-01", "2024-02")


@pytest.fixture
def graph(exchange: ExchangeServer, tmp_path: Path, warehouse_url: str, mlflow_store: Path) -> Graph:
    """Two months in the archive of an exchange on the loopback."""
    publish(exchange, seed=1)
    settings = {
        "CVN_MARKET": "binance",
        "CVN_BINANCE_ARCHIVE_URL": exchange.base,
        "CVN_BINANCE_API_URL": exchange.base,
        "CVN_AS_OF": "2024-03-01",
        "CVN_DEFAULT_HISTORY_MONTHS": "2",
    }
    return make_graph(tmp_path, warehouse_url, settings, (CRYPTO,), mlflow_store)


def publish(exchange: ExchangeServer, seed: int, months: tuple[str, ...] = MONTHS) -> None:
    candles = make_random_candles(2_880, seed)
    for month in months:
        exchange.publish(CRYPTO, "30m", month, candles[candles.index.strftime("%Y-%m") == month])


def fetch(graph: Graph, settings: Mapping[str, str] | None = None) -> dg.ExecuteInProcessResult:
    result = graph.run(CRYPTO, ["candles"], settings)
    assert result.success
    return result


def said(result: dg.ExecuteInProcessResult, name: str) -> object:
    [event] = result.get_asset_materialization_events()
    return event.materialization.metadata[name].value


def month_record(graph: Graph, month: str) -> sa.RowMapping:
    with graph.warehouse.begin() as connection:
        return connection.execute(sa.select(ARCHIVE_FILES).where(ARCHIVE_FILES.c.month == month)).mappings().one()


def test_a_replaced_month_is_noticed_when_checksums_are_asked_for_again(graph: Graph, exchange: ExchangeServer) -> None:
    first = fetch(graph)
    before = month_record(graph, "2024-02")["sha256"]
    publish(exchange, seed=2, months=("2024-02",))

    unasked = fetch(graph)
    assert said(unasked, "archive_requests") == 0
    assert said(unasked, "version") == said(first, "version")

    verified = fetch(graph, {"CVN_BINANCE_VERIFY_ARCHIVE": "1"})
    assert said(verified, "archive_requests") == 3  # two checksums, and the one file that changed
    assert said(verified, "version") != said(first, "version")
    record = month_record(graph, "2024-02")
    assert (record["status"], record["replaced_sha256"]) == ("good", before)
    assert record["sha256"] != before


def test_a_bad_month_is_quarantined_warns_and_stops_nothing(graph: Graph, exchange: ExchangeServer) -> None:
    exchange.publish_bytes(CRYPTO, "30m", "2024-01", b"<html>Service unavailable</html>", checksum="0" * 64)
    result = fetch(graph)
    [failed] = [check for check in result.get_asset_check_evaluations() if not check.passed]
    assert (failed.check_name, failed.severity) == ("archive_good", dg.AssetCheckSeverity.WARN)
    assert "2024-01" in str(failed.description)
    record = month_record(graph, "2024-01")
    assert record["status"] == "quarantined"
    assert record["reason"]
    assert said(result, "rows") == 29 * 48
