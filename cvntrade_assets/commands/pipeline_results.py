"""What a pipeline's runs came to: a row a crypto, every number beside what it is judged against."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cvntrade_assets.commands.connection import Connection
from cvntrade_assets.commands.results import crypto_of
from cvntrade_assets.market.shown import shown_market
from cvntrade_assets.operations.pipelines import BESIDE, Pipeline
from resources.evaluations import evaluations_of
from resources.registry import ModelVersion, models
from resources.warehouse import Warehouse

_CELLS: Mapping[str, Callable[[Mapping[str, Any], ModelVersion | None], str]] = {
    "crypto": lambda row, _: escape(row["crypto"]),
    "verdict": lambda row, _: escape(row["primary_code"]),
    "PTE": lambda row, _: escape(row["pte"]),
    "f1_buy / always-BUY": lambda row, _: f"{_number(row['f1_buy'])} / {_number(row['baseline_f1_buy'])}",
    "Sortino": lambda row, _: _number(row["sortino"], 2),
    "trades": lambda row, _: _number(row["n_trades"], 0),
    "gates\nheld": lambda row, _: _gates(row["record"]["gates"]),
    "registered": lambda _, model: "no" if model is None else f"{model.state} {model.number}",
    "market": lambda row, _: escape(shown_market(row["market"])),
}
_FOLDS = ("crypto", "PTE", "f1_buy", "always-BUY f1", "f1_buy of the screening's model", "folds", "market")
_HEALTH = ("crypto", "model", "age", "candles unseen", "f1_buy", "always-BUY f1", "Sortino", "tp/sl/timeout", "market")


def print_pipeline_results(
    connection: Connection, pipeline: Pipeline, runs: Sequence[Mapping[str, Any]], console: Console
) -> None:
    """Show what the runs came to that got as far.

    Args:
        connection: Which CVNTrade.
        pipeline: What ran.
        runs: The newest run of every crypto, as the webserver tells it.
        console: Where to show it.
    """
    if pipeline.is_evaluated:
        warehouse = connection.warehouse()
        rows = evaluations_of(warehouse, [run["runId"] for run in runs])
        _print_verdicts(warehouse, rows, f"What {pipeline.name} came to", console)
        for row in rows:
            _print_reasons(row, console)
        return
    [last] = pipeline.assets[-1:]
    cryptos = [crypto_of(run) for run in runs]
    said = connection.api().latest_metadata([last], cryptos)
    made = {crypto: said.get((last, crypto), {}) for crypto in cryptos}
    ran = {crypto_of(run): run["runId"] for run in runs}
    fresh = {crypto: one for crypto, one in made.items() if one.get("run_id") == ran[crypto]}
    if last == "walk_forward":
        _print_folds(fresh, console)
    else:
        _print_health(fresh, console)


def _print_verdicts(warehouse: Warehouse, rows: Sequence[Mapping[str, Any]], title: str, console: Console) -> None:
    if not rows:
        return
    cryptos = {row["crypto"] for row in rows}
    registered = {(model.crypto, model.rolling_version, model.pte): model for model in models(warehouse, cryptos)}
    table = Table(*_CELLS, title=title)
    for column in table.columns[:3]:
        column.no_wrap = True
    for row in rows:
        model = registered.get((row["crypto"], row["rolling_version"], row["pte"]))
        table.add_row(*(cell(row, model) for cell in _CELLS.values()))
    console.print(table)
    console.print(BESIDE)


def _gates(gates: Sequence[Mapping[str, Any]]) -> str:
    return f"{sum(gate['passed'] for gate in gates)} of {len(gates)}"


def _print_reasons(row: Mapping[str, Any], console: Console) -> None:
    """The diagnosis in a sentence, every gate that refused with its reason, and the next command on its own line."""
    from cvntrade_assets.operations.correlation_data import from_record
    from cvntrade_assets.operations.diagnosis import diagnose
    from cvntrade_assets.operations.verdict_text import one_sentence

    record = from_record(row["record"], row["crypto"])
    diagnosis = diagnose(record)
    lines = [one_sentence(record, diagnosis)]
    lines += [f"  gate {gate.name} refuses it: {gate.reason}" for gate in record.gates if not gate.passed]
    if diagnosis.slow_run is not None:
        lines.append(f"  {diagnosis.slow_run.because}; next `{diagnosis.slow_run.command}`")
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print(f"    [bold]{escape(diagnosis.primary.next_command)}[/bold]", soft_wrap=True)


def _print_folds(made: Mapping[str, Mapping[str, Any]], console: Console) -> None:
    table = Table(*_FOLDS, title="What walkforward came to: every candidate on the last of its test periods")
    for crypto, said in made.items():
        for pte in said["candidates"]:
            names = ("last_fold_f1_buy", "baseline_f1_buy", "screening_f1_buy")
            numbers = [_number(said[name][pte]) for name in names]
            table.add_row(escape(crypto), escape(pte), *numbers, str(said["folds"]), escape(said["market"]))
    if table.row_count:
        console.print(table)
        console.print(BESIDE)
    for crypto, said in made.items():
        for reason in said["untestable"].values():
            console.print(f"{crypto}: not tested: {reason}", markup=False, highlight=False, soft_wrap=True)


def _print_health(made: Mapping[str, Mapping[str, Any]], console: Console) -> None:
    table = Table(*_HEALTH, title="Registered models on candles that they have never seen")
    for crypto, said in made.items():
        for model in said["models"]:
            table.add_row(*_health(crypto, model))
    if table.row_count:
        console.print(table)
        console.print(BESIDE)
    for crypto, said in made.items():
        notes = (f"{model['name']}: {note}" for model in said["models"] for note in model["notes"])
        for line in (f"{crypto}: {said['health']}", *notes):
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def _health(crypto: str, model: Mapping[str, Any]) -> list[str]:
    shares = "/".join(_share(model.get(name)) for name in ("tp_pct", "sl_pct", "timeout_pct"))
    return [
        escape(crypto),
        escape(f"{model['state']} {model['number']} {model['pte']}"),
        f"{model['age_days']:.1f} d",
        _number(model.get("candles"), 0),
        _number(model.get("f1_buy")),
        _number(model.get("baseline_f1_buy")),
        _number(model.get("sortino"), 2),
        shares,
        escape(shown_market(model["market"])),
    ]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
