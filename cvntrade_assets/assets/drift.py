"""Drift: whether the newest candles are still those that the chain's frozen model was made for."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd

from cvntrade_assets.assets.page import picture, table
from cvntrade_assets.assets.stage import Made, Stage, Summary, stage
from cvntrade_assets.operations.drift_look import LOOK_SETTINGS
from resources.artifacts import Artifact
from resources.drift_reports import ReportOf, record_drift
from resources.evaluation_codecs import StoredDrift
from resources.frozen_chain import FrozenChain, NoChainError, current_chain, learnt

if TYPE_CHECKING:
    from cvntrade_assets.operations.drift import DriftReport

_COLUMNS = (
    *(("name", "string"), ("drifted", "bool"), ("adjusted", "float"), ("p_value", "float"), ("psi", "float")),
    *(("usual_psi", "float"), ("ks", "float"), ("wasserstein", "float")),
)


def read_chain(stage: Stage) -> FrozenChain | str:
    """Which frozen model to compare with; or why there is none."""
    io_manager, instance = stage.resources.io_manager, stage.context.instance
    try:
        return current_chain(io_manager, instance, stage.crypto, stage.settings)
    except NoChainError as error:
        return str(error)


def show_drift(stored: StoredDrift, summary: Summary, stage: Stage) -> Mapping[str, Any]:
    """The plots behind one click, and every column as a table, the one that lies furthest off first."""
    del summary, stage
    shown: dict[str, Any] = {}
    if stored.plots:
        shown["plots"] = dg.MetadataValue.md("\n\n".join(picture(name, png) for name, png in stored.plots.items()))
    if stored.report.columns:
        shown["columns"] = table(_COLUMNS, [asdict(column) for column in stored.report.columns])
    return shown


def record_report(said: Summary, stage: Stage) -> None:
    """One row of drift reports per run and crypto, also when the run found nothing changed."""
    from cvntrade_assets.operations.drift import from_record

    whose = ReportOf(
        run_id=stage.context.run.run_id,
        crypto=stage.crypto,
        market=stage.settings.text("CVN_MARKET"),
        drift_version=said["version"],
        model_version="" if isinstance(stage.beside, str) else stage.beside.model,
    )
    record_drift(stage.resources.warehouse, whose, from_record(said["report"]))


@stage(
    settings=LOOK_SETTINGS,
    code_version="1",
    group="operations",
    owner="ml-owner",
    kinds={"xgboost", "matplotlib", "postgres"},
    show=show_drift,
    record=record_report,
    on_demand=True,
    beside=read_chain,
)
def drift(stage: Stage, features: Artifact[pd.DataFrame], labels: Artifact[pd.DataFrame]) -> Made:
    """Features, scores, rate of BUY and calibration on candles that the chain's model does not know, beside its past.

    Each is held against windows of the same length out of the model's own past, so that neither the likeness of
    neighbouring candles nor the number of features makes an alarm. Where there is no model, or there are too few
    candles, the level is unknown, and the report says why.
    """
    from cvntrade_assets.learning.drift_plot import drifted_columns, probabilities_now
    from cvntrade_assets.operations.drift import unknown
    from cvntrade_assets.operations.drift_evidence import TooLittleError
    from cvntrade_assets.operations.drift_look import look_at

    chain = stage.beside
    if isinstance(chain, str):
        return _made(unknown(chain), None, {})
    then = learnt(stage.resources.io_manager.store, stage.crypto, chain)
    try:
        evidence, report = look_at(then, features.load(), labels.load(), stage.settings)
    except TooLittleError as error:
        return _made(unknown(str(error)), chain, {})
    about = {"crypto": stage.crypto, "market": features.market}
    plots = {"by_column": drifted_columns(report, **about), "probabilities": probabilities_now(evidence, **about)}
    return _made(report, chain, plots)


def _made(report: "DriftReport", chain: FrozenChain | None, plots: Mapping[str, bytes]) -> Made:
    return Made(StoredDrift(report, {} if chain is None else asdict(chain), plots), _summary(report, chain))


def _summary(report: "DriftReport", chain: FrozenChain | None) -> dict[str, Any]:
    """What is kept; `record_report` reads the report from it. What is undefined is left out of the flat numbers."""
    score, rate, error = report.score, report.buy_rate, report.calibration
    numbers: dict[str, float | int | None] = {
        "share": report.share,
        "score_psi": None if score is None else score.psi,
        "buy_rate": None if rate is None else rate.value,
        "usual_buy_rate": None if rate is None else rate.usual,
        "calibration_error": None if error is None else error.value,
        "usual_calibration_error": None if error is None else error.usual,
    }
    return {
        "level": str(report.level),
        "reason": report.reason,
        "rows": report.rows,
        "labelled": report.labelled,
        "drifted": [column.name for column in report.drifted],
        **{name: value for name, value in numbers.items() if value is not None},
        "undefined": [name for name, value in numbers.items() if value is None],
        "compared_with": {} if chain is None else asdict(chain),
        "report": report.to_record(),
    }
