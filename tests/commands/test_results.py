"""The table that a backfill ends with: every F1 beside its baseline, and words where nothing is traded."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from scripted_webserver import Webserver

from cvntrade_assets.commands.dagster_api import BackfillState, DagsterApi
from cvntrade_assets.commands.results import print_results

NEVER = "says BUY on 87.5% of the candles; trades no candle: no threshold earns its costs on the calibration slice"
REPORT = {
    "market": "SIMULATED",
    "f1_buy": 0.421,
    "baseline_f1_buy": 0.4,
    "brier_before": 0.2,
    "brier_after": 0.19,
    "n_trades": 1054,
    "in_words": "says BUY on 12.3% of the candles; trades 4.0% of the candles",
}
SILENT = REPORT | {"n_trades": 0, "in_words": NEVER}


class ReportingWebserver(Webserver):
    """Answers with what was stored of two cryptos."""

    def __init__(self, reports: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__()
        self.reports = reports

    def answer(self, query: str) -> dict[str, Any]:
        if "latestMaterializationByPartition" not in query:
            return super().answer(query)
        said = {crypto: {"candles": {"rows": 35040}, "training_set": {"train_rows": 1559}} for crypto in self.reports}
        return {
            "assetNodes": [
                {
                    "assetKey": {"path": [asset]},
                    "latestMaterializationByPartition": [
                        _event(crypto, said[crypto].get(asset) or self.reports[crypto]) for crypto in self.reports
                    ],
                }
                for asset in ("candles", "training_set", "test_report")
            ]
        }


def _event(crypto: str, said: Mapping[str, Any]) -> dict[str, Any]:
    kinds = {int: "intValue", float: "floatValue", str: "text"}
    entries = [{"label": name, kinds[type(value)]: value} for name, value in said.items()]
    return {"partition": crypto, "runId": f"run of {crypto}", "timestamp": "0", "metadataEntries": entries}


def printed(reports: Mapping[str, Mapping[str, Any]]) -> str:
    runs = [
        {
            "runId": f"run of {crypto}",
            "status": "SUCCESS",
            "startTime": 0.0,
            "endTime": 12.3,
            "tags": [{"key": "dagster/partition", "value": crypto}],
        }
        for crypto in reports
    ]
    console = Console(width=120, record=True)
    with ReportingWebserver(reports) as server:
        print_results(DagsterApi(server.url), BackfillState("COMPLETED_SUCCESS", None, runs), list(reports), console)
    return console.export_text()


def test_every_f1_stands_beside_its_baseline() -> None:
    shown = printed({"BTCUSDC": REPORT})
    [row] = [line for line in shown.splitlines() if line.startswith("│ BTCUSDC")]
    assert [text.strip() for text in row.strip("│").split("│")][4:9] == ["0.421", "0.400", "0.2000", "0.1900", "1,054"]
    assert "no trade" not in shown and "…" not in shown


def test_where_nothing_is_traded_the_reason_stands_in_words() -> None:
    shown = printed({"BTCUSDC": SILENT, "ETHUSDC": REPORT})
    assert f"BTCUSDC: no trade. The model {NEVER}." in shown
    assert shown.count("no trade") == 1
