"""Test report: what the frozen model, calibrator and threshold are worth on the test slice, looked at once."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd

from cvntrade_assets.assets.page import picture
from cvntrade_assets.assets.stage import Made, Stage, Summary, stage
from cvntrade_assets.market.candles import timeframe_delta
from cvntrade_assets.market.shown import shown_market
from resources.artifacts import Artifact
from resources.codecs import StoredCalibration, StoredModel, StoredReport
from resources.evaluation_codecs import StoredBacktest
from resources.guardrail_log import session_of
from resources.results import ResultOf, record_result

if TYPE_CHECKING:
    from cvntrade_assets.learning.report import TestReport
    from cvntrade_assets.learning.training_set import TrainingSet

# The square ones side by side, the wide one beneath.
_PLOT_ROWS = (("reliability_diagram", "precision_recall_curve"), ("equity",), ("label_timeline",))
# What the backtest's own page shows in full.
_TRADED = ("n_trades", "sortino", "sortino_low", "sortino_high", "sharpe", "expectancy_net", "max_drawdown")
_BESIDE = ("total_return", "always_buy_total_return", "buy_and_hold_total_return", "covered")


def show_report(stored: StoredReport, summary: Summary, stage: Stage) -> Mapping[str, Any]:
    """The plots, as pictures behind one click on the asset's page, and the way to MLflow."""
    rows = (" ".join(picture(name, stored.plots[name]) for name in row) for row in _PLOT_ROWS)
    link = stage.resources.tracking.link(summary["mlflow_run"])
    return {"plots": dg.MetadataValue.md("\n\n".join(rows)), "mlflow": dg.MetadataValue.url(link)}


def record_report(said: Summary, stage: Stage) -> None:
    """One row of results per run and crypto, also when the run found nothing changed."""
    run, settings = stage.context.run, stage.settings
    record_result(
        stage.resources.warehouse,
        ResultOf(
            run_id=run.run_id,
            crypto=stage.crypto,
            session=session_of(run.run_id, run.tags),
            variants=settings.variants,
            market=settings.text("CVN_MARKET"),
            report_version=said["version"],
            reused=said["reused"],
            override_reason=settings.override_reason,
        ),
        said,
    )


@stage(
    settings=("CVN_TIMEFRAME", "CVN_DEFAULT_PTE", "CVN_SEED"),
    code_version="2",
    group="evaluation",
    owner="ml-owner",
    kinds={"scikitlearn", "matplotlib", "mlflow"},
    show=show_report,
    record=record_report,
)
def test_report(
    stage: Stage,
    training_set: Artifact["TrainingSet"],
    labels: Artifact[pd.DataFrame],
    model: Artifact[StoredModel],
    calibration: Artifact[StoredCalibration],
    backtest: Artifact[StoredBacktest],
) -> Made:
    """F1 of BUY beside always-BUY, PR-AUC beside the buy rate, how honest the probabilities are, and what they earn.

    The test slice is the last one in time. Nothing was fitted, tuned or chosen on it. Real markets give little: a
    result far above the baseline is a leak until shown otherwise.
    """
    from cvntrade_assets.learning.answers import answers
    from cvntrade_assets.learning.calibration import in_words
    from cvntrade_assets.learning.report import report_test_slice
    from cvntrade_assets.learning.scores import block_length

    settings, trained, frozen = stage.settings, model.load().model, calibration.load().calibration
    whole = training_set.load()
    rows = whole.slice("test")
    said = answers(trained, frozen, rows.features)
    scores, probability = said["score"], said["probability"]
    block = block_length(settings.pte.horizon, timeframe_delta(settings.text("CVN_TIMEFRAME")))
    seed = settings.whole("CVN_SEED")
    report = report_test_slice(rows.targets, scores, probability, frozen.threshold, block=block, seed=seed)
    predictions = rows.targets[["label", "return"]].join(said[["score", "probability", "predicted"]])
    plots = _plots(stage, predictions, labels.load(), whole, model.market)
    stored = StoredReport(report, predictions, {**plots, "equity": backtest.load().plots["equity"]})
    traded = _traded(backtest)
    run = _track(stage, stored, traded, model, calibration)
    trades = in_words(frozen.trade_threshold, float(said["signal"].mean()), "trades")
    words = {"in_words": f"{report.in_words}; {trades}"}
    return Made(stored, {**words, **_summary(report, rows.targets, traded), "mlflow_run": run})


def _traded(backtest: Artifact[StoredBacktest]) -> dict[str, float | None]:
    """What the test slice's trades came to; None where it is undefined."""
    summary = backtest.manifest.summary
    return {name: summary.get(name) for name in (*_TRADED, *_BESIDE)}


def _summary(report: "TestReport", targets: pd.DataFrame, traded: Mapping[str, float | None]) -> dict[str, Any]:
    numbers = {**asdict(report), **traded}
    defined = {name: value for name, value in numbers.items() if value is not None}
    span = {"from": targets.index[0].isoformat(), "to": targets.index[-1].isoformat()}
    return {**span, **defined, "undefined": [name for name in numbers if name not in defined]}


def _plots(
    stage: Stage, predictions: pd.DataFrame, labels: pd.DataFrame, whole: "TrainingSet", market: str
) -> dict[str, bytes]:
    from cvntrade_assets.learning.plots import label_timeline, precision_recall_curve, reliability_diagram

    truth, crypto = (predictions["label"] == 1).astype("int8"), stage.crypto
    score, probability, predicted = (predictions[name] for name in ("score", "probability", "predicted"))
    return {
        "reliability_diagram": reliability_diagram(truth, score, probability, crypto=crypto, market=market),
        "precision_recall_curve": precision_recall_curve(truth, score, predicted, crypto=crypto, market=market),
        "label_timeline": label_timeline(labels, whole.targets["slice"], crypto=crypto, market=market),
    }


def _track(
    stage: Stage,
    stored: StoredReport,
    traded: Mapping[str, float | None],
    model: Artifact[StoredModel],
    calibration: Artifact[StoredCalibration],
) -> str:
    """Log parameters, metrics, model and plots to MLflow; returns the run's place there."""
    lineage = {**model.manifest.provenance.lineage, **calibration.manifest.provenance.lineage}
    params = {
        **{name.replace("*", "pinned"): text for name, text in lineage.items()},
        **{f"xgboost.{name}": value for name, value in model.load().model.params.items()},
    }
    tags = {
        "market": shown_market(model.market),
        "model_version": model.version,
        "calibration_version": calibration.version,
    }
    files = {
        **{f"plots/{name}.png": png for name, png in stored.plots.items()},
        "model/model.ubj": (model.folder / "model.ubj").read_bytes(),
        "model/model.json": (model.folder / "model.json").read_bytes(),
    }
    metrics = stored.report.as_metrics() | {name: float(value) for name, value in traded.items() if value is not None}
    run = stage.resources.tracking.log(params, metrics, tags, files)
    return str(run)
