"""Model health: how a frozen model does on candles that it has never seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import pandas as pd

from cvntrade_assets.trading.cost_levels import JUDGED_LEVEL

if TYPE_CHECKING:
    from cvntrade_assets.learning.recipe import Fitted
    from cvntrade_assets.trading.execution import Execution
    from cvntrade_assets.trading.pte import PTE

LEAST_ROWS = 96
"""Labelled candles below which no score is given: two days of 30m candles, with a handful of BUY among them."""

LEAST_TRADES = 10
"""Trades below which neither a ratio nor a share of exits is given."""


@dataclass(frozen=True, eq=False)
class Unseen:
    """What a model is looked at on.

    Attributes:
        candles: Candle frame that the model is asked about, with its past.
        features: Of those candles, computed anew.
        fine: Candle frame that its trades are simulated on; it may begin later.
        since: Where its knowledge ends: only candles that open then or later count.
        interval: Timeframe of `candles`.
        fine_interval: Timeframe of `fine`.
    """

    candles: pd.DataFrame
    features: pd.DataFrame
    fine: pd.DataFrame
    since: pd.Timestamp
    interval: pd.Timedelta
    fine_interval: pd.Timedelta


@dataclass(frozen=True)
class Scores:
    """What was said of labelled candles, beside what they came to.

    Attributes:
        buy_rate: Share of BUY among the labels.
        f1_buy: F1 of BUY at the frozen threshold.
        baseline_f1_buy: F1 of always saying BUY on the same rows.
        brier: Brier score of the calibrated probabilities.
        brier_base_rate: Of always saying the buy rate.
        calibration_error: Expected calibration error of the probabilities (`scores.expected_calibration_error`).
    """

    buy_rate: float
    f1_buy: float
    baseline_f1_buy: float
    brier: float
    brier_base_rate: float
    calibration_error: float


@dataclass(frozen=True)
class Trades:
    """What acting on the answers came to, costs paid; None is undefined, or of too few trades to say.

    Attributes:
        n_trades: Trades that ended.
        sortino: See `trading.metrics`.
        total_return: Of the whole time.
        tp_pct: Share of the trades that ended at the take-profit, 0 to 1.
        sl_pct: At the stop-loss.
        timeout_pct: At the horizon.
    """

    n_trades: int
    sortino: float | None
    total_return: float | None
    tp_pct: float | None
    sl_pct: float | None
    timeout_pct: float | None


@dataclass(frozen=True)
class Health:
    """What was found.

    Attributes:
        candles: Candles that the model had never seen, and was asked about.
        labelled: Of these, how many have a label already.
        scores: None of too few labelled candles.
        trades: None without fine candles beside the unseen ones.
        notes: A sentence for everything that is not given.
    """

    candles: int
    labelled: int
    scores: Scores | None
    trades: Trades | None
    notes: tuple[str, ...]

    def flat(self) -> dict[str, Any]:
        """Every number by its name; None is undefined, or too little to say."""
        parts = ((Scores, self.scores), (Trades, self.trades))
        numbers = {field.name: getattr(part, field.name, None) for kind, part in parts for field in fields(kind)}
        return {"candles": self.candles, "labelled": self.labelled, **numbers, "notes": list(self.notes)}


@dataclass(frozen=True, eq=False)
class Examined:
    """A model's health, and the labelled rows behind it: label, score, probability, predicted."""

    health: Health
    rows: pd.DataFrame


def examine(fitted: Fitted, pte: PTE, unseen: Unseen, execution: Execution) -> Examined:
    """Ask a frozen model about candles that it has never seen, and hold its answers against what they came to.

    Args:
        fitted: The model with its calibration and thresholds; nothing of it is fitted anew.
        pte: What its labels and trades mean.
        unseen: The candles.
        execution: How its answers become trades.
    """
    # numba, which the kernels need, is slow to import.
    from cvntrade_assets.learning.barriers import label_candles
    from cvntrade_assets.learning.recipe import predict

    asked = unseen.features[unseen.features.index >= unseen.since]
    if asked.empty:
        why = f"no candle has closed since {unseen.since:%Y-%m-%d %H:%M} UTC, where its data end"
        return Examined(Health(0, 0, None, None, (why,)), pd.DataFrame())
    said = predict(fitted, asked)
    # BUY means the same whether a model was trained on two classes or on three.
    labels = label_candles(unseen.candles, pte, interval=unseen.interval, binary=True)
    rows = said.join(labels[["label"]], how="inner")
    scores, trades = _scores(rows), _trade(said["signal"], pte, unseen, execution)
    notes = (*_why_no_scores(len(asked), rows, pte), *_why_no_shares(trades))
    return Examined(Health(len(asked), len(rows), scores, trades, notes), rows)


def _scores(rows: pd.DataFrame) -> Scores | None:
    from cvntrade_assets.learning import scores

    if len(rows) < LEAST_ROWS:
        return None
    truth, probability = (rows["label"] == 1).to_numpy(dtype="float64"), rows["probability"].to_numpy()
    rate = float(truth.mean())
    return Scores(
        buy_rate=rate,
        f1_buy=scores.f1_buy(scores.confusion(truth, rows["predicted"].to_numpy())),
        baseline_f1_buy=scores.baseline_f1(rate),
        brier=scores.brier(truth, probability),
        brier_base_rate=rate * (1.0 - rate),
        calibration_error=scores.expected_calibration_error(truth, probability),
    )


def _trade(signal: pd.Series, pte: PTE, unseen: Unseen, execution: Execution) -> Trades | None:
    """What acting on the answers came to; None where no fine candles lie beside them."""
    from cvntrade_assets.trading.comparison import compare, covered
    from cvntrade_assets.trading.metrics import measure

    times = covered(pd.DatetimeIndex(signal.index), unseen.fine)
    if times.empty:
        return None
    compared = compare(
        unseen.fine,
        unseen.candles,
        signal.loc[times],
        pte,
        fine_interval=unseen.fine_interval,
        interval=unseen.interval,
        execution=execution,
        levels=(JUDGED_LEVEL,),
    )
    found = measure(compared.backtest, interval=unseen.fine_interval, level=JUDGED_LEVEL)
    if found.n_trades < LEAST_TRADES:
        return Trades(found.n_trades, None, None, None, None, None)
    return Trades(found.n_trades, found.sortino, found.total_return, found.tp_pct, found.sl_pct, found.timeout_pct)


def _why_no_scores(asked: int, rows: pd.DataFrame, pte: PTE) -> Iterator[str]:
    if len(rows) < LEAST_ROWS:
        yield (
            f"no F1 and no reliability: of {asked} unseen candles {len(rows)} have a label of {pte} yet, and at least "
            f"{LEAST_ROWS} are needed"
        )


def _why_no_shares(found: Trades | None) -> Iterator[str]:
    if found is None:
        yield "no trades: no fine candles lie beside the unseen candles"
    elif found.n_trades < LEAST_TRADES:
        yield (
            f"no Sortino ratio and no shares of exits: {found.n_trades} trades ended, and at least {LEAST_TRADES} are "
            "needed"
        )
