"""What a backfill came to: a table a newcomer understands, and why a crypto failed."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cvntrade_assets.commands.dagster_api import BackfillState, DagsterApi

_SHOWN = ("candles", "training_set", "test_report")
_HEADINGS = (
    "crypto",
    "market",
    "candles",
    "training\nrows",
    "f1_buy",
    "always-BUY\nf1",
    "Brier\nbefore",
    "Brier\nafter",
    "trades",
    "seconds",
    "run",
)


def print_results(api: DagsterApi, state: BackfillState, cryptos: Sequence[str], console: Console) -> None:
    """A row per crypto that reached its report in this backfill, with every F1 beside its always-BUY baseline."""
    found = api.latest_metadata(_SHOWN, cryptos)
    table = Table(*_HEADINGS, title="Test slice, reported once")
    never = []
    for run in newest_runs(state.runs):
        crypto = crypto_of(run)
        candles, training, report = (found.get((name, crypto), {}) for name in _SHOWN)
        if report.get("run_id") == run["runId"]:
            table.add_row(*_row(crypto, candles, training, report, run))
            if not report["n_trades"]:
                never.append(f"{crypto}: no trade. The model {report['in_words']}.")
    if table.row_count:
        console.print(table)
        console.print(
            "f1_buy means something only beside always-BUY, the F1 of saying BUY every time. "
            "Brier scores, before and after calibration, are better when lower."
        )
    for verdict in never:
        console.print(verdict, markup=False, highlight=False, soft_wrap=True)


def print_failures(api: DagsterApi, state: BackfillState, cryptos: Sequence[str], console: Console) -> bool:
    """Say for every crypto of a backfill without success why; True when there is none."""
    if state.error:
        console.print(f"[red]The backfill failed:[/red] {escape(state.error)}")
    return not print_failed_runs(api, state.runs, cryptos, console)


def print_failed_runs(
    api: DagsterApi, of: Sequence[Mapping[str, Any]], cryptos: Sequence[str], console: Console
) -> list[str]:
    """Say for every crypto without success why; returns those cryptos.

    Args:
        api: The webserver.
        of: The runs, retries among them.
        cryptos: The cryptos that runs were asked for.
        console: Where to say it.
    """
    runs = {crypto_of(run): run for run in newest_runs(of)}
    failed = [crypto for crypto in cryptos if crypto not in runs or runs[crypto]["status"] != "SUCCESS"]
    for crypto in failed:
        run = runs.get(crypto)
        reasons = api.failures(run["runId"]) if run else ["it got no run"]
        link = f" ({api.url}/runs/{run['runId']})" if run else ""
        console.print(f"[red]{escape(crypto)} failed[/red]{escape(link)}")
        for reason in reasons or [f"its run ended as {run['status'] if run else 'unknown'}"]:
            console.print(f"  {reason}", markup=False, highlight=False, soft_wrap=True)
    return failed


def newest_runs(runs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """One run per crypto: a retry replaces the run that it retries."""
    newest: dict[str, Mapping[str, Any]] = {}
    for run in sorted(runs, key=lambda run: run["startTime"] or float("inf")):
        newest[crypto_of(run)] = run
    return [newest[crypto] for crypto in sorted(newest)]


def crypto_of(run: Mapping[str, Any]) -> str:
    """The crypto of a run that the webserver told of."""
    tags = {tag["key"]: str(tag["value"]) for tag in run["tags"]}
    return tags["dagster/partition"]


def _row(
    crypto: str,
    candles: Mapping[str, Any],
    training: Mapping[str, Any],
    report: Mapping[str, Any],
    run: Mapping[str, Any],
) -> list[str]:
    return [
        escape(crypto),
        escape(str(report["market"])),
        f"{candles['rows']:,}",
        f"{training['train_rows']:,}",
        f"{report['f1_buy']:.3f}",
        f"{report['baseline_f1_buy']:.3f}",
        f"{report['brier_before']:.4f}",
        f"{report['brier_after']:.4f}",
        f"{report['n_trades']:,}",
        f"{run['endTime'] - run['startTime']:.1f}",
        "done" if run["status"] == "SUCCESS" else "[red]failed in part[/red]",
    ]
