"""Model health: a frozen model on candles that it has never seen, held against scikit-learn and by hand."""

from dataclasses import replace

import evaluated_market as market
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss, f1_score

from cvntrade_assets.learning.barriers import label_candles
from cvntrade_assets.learning.model_health import LEAST_ROWS, LEAST_TRADES, Examined, Unseen, examine

FIRST = market.plans()[0]
SINCE = FIRST.end
"""The first fold's model knows nothing of what comes after its own test period."""


def unseen(until: pd.Timestamp = market.END, since: pd.Timestamp = SINCE) -> Unseen:
    history = market.history()
    coarse, fine = history.candles, history.fine
    return Unseen(
        coarse[coarse.index < until],
        history.features[history.features.index < until],
        fine[fine.index < until],
        since,
        market.INTERVAL,
        market.FINE_INTERVAL,
    )


def look(at: Unseen) -> Examined:
    return examine(market.outcome().folds[0].fitted, market.PTE_TESTED, at, market.small_execution())


@pytest.fixture(scope="module")
def found() -> Examined:
    return look(unseen())


def test_scores_are_those_of_scikit_learn_on_every_labelled_candle_since(found: Examined) -> None:
    labels = label_candles(market.coarse_candles(), market.PTE_TESTED, interval=market.INTERVAL, binary=True)
    truth = (labels.loc[labels.index >= SINCE, "label"] == 1).astype(int)
    rows, scores = found.rows, found.health.scores
    assert rows.index.equals(truth.index) and rows.index[0] == SINCE
    assert found.health.labelled == len(truth)
    assert found.health.candles == (market.history().features.index >= SINCE).sum() > len(truth)
    assert scores is not None
    assert scores.f1_buy == pytest.approx(f1_score(truth, rows["predicted"]))
    assert scores.brier == pytest.approx(brier_score_loss(truth, rows["probability"]))
    assert scores.buy_rate == pytest.approx(truth.mean())
    assert scores.baseline_f1_buy == pytest.approx(f1_score(truth, [1] * len(truth)))
    assert scores.brier_base_rate == pytest.approx(truth.mean() * (1 - truth.mean()))


def test_what_a_strong_market_taught_still_holds_after_the_test_period(found: Examined) -> None:
    assert found.health.scores is not None and found.health.trades is not None
    assert found.health.scores.brier < found.health.scores.brier_base_rate
    trades = found.health.trades
    assert trades.n_trades >= LEAST_TRADES
    assert trades.tp_pct is not None and trades.sl_pct is not None and trades.timeout_pct is not None
    assert trades.tp_pct + trades.sl_pct + trades.timeout_pct == pytest.approx(1.0)
    assert found.health.notes == ()


def test_the_threshold_is_the_frozen_one(found: Examined) -> None:
    threshold = market.outcome().folds[0].fitted.calibration.threshold
    assert (found.rows["predicted"] == (found.rows["probability"] >= threshold)).all()


def test_what_it_is_asked_does_not_depend_on_what_comes_later(found: Examined) -> None:
    earlier = look(unseen(SINCE + pd.Timedelta(days=5)))
    assert earlier.rows["probability"].equals(found.rows.loc[earlier.rows.index, "probability"])


@pytest.mark.parametrize(("candles", "is_scored"), [(LEAST_ROWS, True), (LEAST_ROWS - 1, False)])
def test_below_two_days_of_labels_nothing_is_scored_and_that_is_said(candles: int, is_scored: bool) -> None:
    labels = label_candles(market.coarse_candles(), market.PTE_TESTED, interval=market.INTERVAL, binary=True)
    health = look(unseen(since=labels.index[-candles])).health
    assert health.labelled == candles < health.candles
    assert (health.scores is not None) == is_scored
    said = [note for note in health.notes if "no F1 and no reliability" in note]
    assert bool(said) == (not is_scored)
    assert all(f"{candles} have a label" in note and str(LEAST_ROWS) in note for note in said)


def test_few_trades_give_their_number_and_no_share() -> None:
    health = look(unseen(SINCE + pd.Timedelta(hours=12))).health
    assert health.trades is not None and health.trades.n_trades < LEAST_TRADES
    assert health.trades.sortino is None and health.trades.tp_pct is None and health.trades.sl_pct is None
    assert any(f"{health.trades.n_trades} trades ended" in note for note in health.notes)


def test_without_fine_candles_there_are_scores_and_no_trades() -> None:
    health = look(replace(unseen(), fine=market.fine_candles().iloc[:0])).health
    assert health.scores is not None and health.trades is None
    assert health.notes == ("no trades: no fine candles lie beside the unseen candles",)


def test_a_model_that_has_seen_everything_is_asked_nothing() -> None:
    health = look(unseen(since=market.END)).health
    assert (health.candles, health.labelled, health.scores, health.trades) == (0, 0, None, None)
    assert health.notes == (f"no candle has closed since {market.END:%Y-%m-%d %H:%M} UTC, where its data end",)


def test_flat_names_every_number_and_keeps_what_is_undefined(found: Examined) -> None:
    full, empty = found.health.flat(), look(unseen(since=market.END)).health.flat()
    assert set(full) == set(empty) >= {"f1_buy", "baseline_f1_buy", "sortino", "tp_pct", "n_trades", "notes"}
    assert full["f1_buy"] == found.health.scores.f1_buy  # type: ignore[union-attr]
    assert [empty[name] for name in ("f1_buy", "sortino", "n_trades", "calibration_error")] == [None] * 4
