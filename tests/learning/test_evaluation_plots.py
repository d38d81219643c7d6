"""Plots of an evaluation: valid PNGs that show the baseline beside the model and say which market it is."""

import io
import sys

import numpy as np
import pandas as pd
import pytest

from cvntrade_assets.learning import evaluation_plots as plots
from cvntrade_assets.learning.plot_look import PlotError

PLACE = {"crypto": "BTCUSDT", "market": "simulated"}
SHARES = {
    "test": {"tp": 0.3, "sl": 0.65, "timeout": 0.05},
    "rolling": {"tp": None, "sl": None, "timeout": None},
}


def make_equity(candles: int = 17_280, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    index = pd.date_range("2025-07-03", periods=candles, freq="5min", tz="UTC", name="open_time")
    returns = rng.normal(0, 0.001, (candles, 3))
    return pd.DataFrame(np.exp(np.cumsum(returns, axis=0)), index, ["0x", "1x", "2x"])


def make_folds() -> pd.DataFrame:
    months = pd.date_range("2025-03-01", periods=4, freq="MS", tz="UTC")
    return pd.DataFrame(
        {
            "f1_buy": [0.40, 0.45, 0.38],
            "baseline_f1_buy": [0.39, 0.41, 0.40],
            "test_from": months[:-1],
            "test_until": months[1:],
        }
    )


def draw_all(**place: str) -> dict[str, bytes]:
    place = PLACE | place
    curves = [make_equity(seed=seed) for seed in range(3)]
    return {
        "equity": plots.equity_curves(*curves, name="Test backtest", **place),
        "exits": plots.exit_shares(SHARES, **place),
        "folds": plots.fold_bars(make_folds(), **place),
    }


def test_plots_are_small_opaque_pngs_drawn_without_pyplot(monkeypatch: pytest.MonkeyPatch):
    from matplotlib.image import imread

    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    for name, png in draw_all().items():
        assert png.startswith(b"\x89PNG\r\n\x1a\n"), name
        assert len(png) < 150_000, name
        pixels = imread(io.BytesIO(png), format="png")
        assert 150 < pixels.shape[0] < pixels.shape[1] < 1_100, name
        assert pixels.shape[2] == 3 or (pixels[:, :, 3] == 1).all(), name
        assert pixels[:, :, :3].std() > 0.05, name


def test_the_same_drawing_is_the_same_bytes():
    assert draw_all() == draw_all()


@pytest.mark.parametrize(("market", "mark"), [("simulated", "SIMULATED market"), ("binance", "binance")])
def test_titles_name_crypto_and_market(texts: list[str], market: str, mark: str):
    draw_all(crypto="LDOUSDT", market=market)
    titles = [text for text in texts if "LDOUSDT" in text]
    assert len(titles) == 3
    assert all(title.endswith(f"LDOUSDT · {mark}") for title in titles)


def test_an_equity_stands_beside_both_baselines_at_every_cost_level(texts: list[str]):
    plots.equity_curves(*(make_equity(500, seed) for seed in range(3)), name="Test backtest", **PLACE)
    assert {"model, costs 0x", "model, costs 1x", "model, costs 2x", "always BUY", "buy and hold"} <= set(texts)
    assert {"equity, from 1.0 on", "drawdown"} <= set(texts)


def test_an_equity_without_a_trade_says_so(texts: list[str]):
    traded, *baselines = (make_equity(500, seed) for seed in range(3))
    plots.equity_curves(traded * 0.0 + 1.0, *baselines, name="Test backtest", **PLACE)
    assert "model: no trade" in texts
    assert not [text for text in texts if text.startswith("model, costs")]


def test_every_fold_stands_beside_its_baseline(texts: list[str]):
    plots.fold_bars(make_folds(), **PLACE)
    assert {"model", "always BUY", "0.400", "0.450", "0.380", "0.390", "0.410"} <= set(texts)
    assert "01 Mar 25\nto 01 Apr 25" in texts


def test_a_backtest_without_a_trade_says_so(texts: list[str]):
    plots.exit_shares(SHARES, **PLACE)
    assert texts.count("no trade") == 1
    assert {"30%", "65%", "test", "rolling", "target", "stop", "time-out"} <= set(texts)
    assert "5%" not in texts, "too narrow to be written in"


def test_thinning_keeps_the_last_equity_and_the_lowest_drawdown():
    equity = make_equity(7_001)["1x"]
    fallen = plots._drawdown(equity)
    thin, low = plots._thin(equity, "last"), plots._thin(fallen, "min")
    assert len(thin) == len(low) <= plots.MOST_POINTS
    assert thin.index.equals(low.index)
    assert thin.iloc[-1] == equity.iloc[-1] and thin.index[-1] == equity.index[-1]
    assert low.min() == fallen.min()
    pd.testing.assert_series_equal(thin, equity.loc[thin.index])


def test_a_drawdown_counts_from_the_beginning():
    index = pd.date_range("2025-01-01", periods=4, freq="5min", tz="UTC")
    fallen = plots._drawdown(pd.Series([0.9, 1.2, 0.6, 1.2], index))
    np.testing.assert_allclose(fallen, [-0.1, 0.0, -0.5, 0.0])


def test_what_cannot_be_drawn_is_an_error():
    equity = make_equity(100)
    with pytest.raises(PlotError, match="the same ones"):
        plots.equity_curves(equity, equity.iloc[1:], equity, name="", **PLACE)
    with pytest.raises(PlotError, match="the column 1x"):
        plots.equity_curves(equity, equity, equity.drop(columns="1x"), name="", **PLACE)
    with pytest.raises(PlotError, match="needs candles"):
        plots.equity_curves(equity[:0], equity[:0], equity[:0], name="", **PLACE)
    with pytest.raises(PlotError, match="no fold"):
        plots.fold_bars(make_folds()[:0], **PLACE)
    with pytest.raises(PlotError, match="at least one backtest"):
        plots.exit_shares({}, **PLACE)
