"""Plots: valid PNGs that say which market they show, drawn without pyplot."""

import io
import sys

import numpy as np
import pandas as pd
import pytest

from cvntrade_assets.learning import plots
from cvntrade_assets.learning.plot_look import PlotError

NAMES = {"crypto": "BTCUSDT", "market": "simulated"}


def make_predictions(n: int = 400):
    rng = np.random.default_rng(0)
    index = pd.date_range("2025-08-01", periods=n, freq="30min", tz="UTC", name="open_time")
    z = rng.normal(size=n)
    labels = pd.Series((rng.random(n) < 1 / (1 + np.exp(1 - z))).astype(int), index)
    return labels, pd.Series(1 / (1 + np.exp(-z)), index), pd.Series(1 / (1 + np.exp(1 - z)), index)


def make_labels(days: int = 200):
    rng = np.random.default_rng(0)
    index = pd.date_range("2025-01-01", periods=days * 48, freq="30min", tz="UTC", name="open_time")
    kinds = rng.choice(["tp", "sl", "timeout"], size=len(index), p=[0.25, 0.6, 0.15])
    labels = pd.DataFrame(
        {
            "label": (kinds == "tp").astype("int8"),
            "exit_kind": pd.Categorical(kinds, ["tp", "sl", "timeout"]),
        },
        index,
    )
    labels = labels.drop(labels.index[48 * 50 : 48 * 70])
    names = np.repeat(["train", "validation", "calibration", "test"], len(labels) // 4)
    return labels, pd.Series(names, labels.index[: len(names)], dtype="category")


def draw_all() -> dict[str, bytes]:
    labels, raw, calibrated = make_predictions()
    frame, slices = make_labels()
    return {
        "reliability": plots.reliability_diagram(labels, raw, calibrated, **NAMES),
        "precision-recall": plots.precision_recall_curve(labels, raw, calibrated >= 0.3, **NAMES),
        "timeline": plots.label_timeline(frame, slices, **NAMES),
    }


def test_plots_are_small_opaque_pngs_drawn_without_pyplot(monkeypatch: pytest.MonkeyPatch):
    from matplotlib.image import imread

    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    for name, png in draw_all().items():
        assert png.startswith(b"\x89PNG\r\n\x1a\n"), name
        assert len(png) < 150_000, name
        pixels = imread(io.BytesIO(png), format="png")
        assert 300 < pixels.shape[0] < pixels.shape[1] * 1.2 < 1_100, name
        assert pixels.shape[2] == 3 or (pixels[:, :, 3] == 1).all(), name
        assert pixels[:, :, :3].std() > 0.05, name


def test_the_same_drawing_is_the_same_bytes():
    labels, raw, calibrated = make_predictions()
    one, other = (plots.reliability_diagram(labels, raw, calibrated, **NAMES) for _ in range(2))
    assert one == other


@pytest.mark.parametrize(("market", "mark"), [("simulated", "SIMULATED market"), ("binance", "binance")])
def test_titles_name_crypto_and_market(texts: list[str], market: str, mark: str):
    labels, raw, calibrated = make_predictions()
    frame, slices = make_labels(30)
    plots.reliability_diagram(labels, raw, calibrated, crypto="LDOUSDT", market=market)
    plots.precision_recall_curve(labels, raw, calibrated >= 0.3, crypto="LDOUSDT", market=market)
    plots.label_timeline(frame, slices, crypto="LDOUSDT", market=market)
    titles = [text for text in texts if "LDOUSDT" in text]
    assert len(titles) == 3
    assert all(title.endswith(f"LDOUSDT · {mark}") for title in titles)


def test_baselines_are_always_shown(texts: list[str]):
    draw_all()
    shown = " | ".join(texts)
    assert "perfectly calibrated" in shown
    assert "always BUY, F1" in shown
    assert shown.count("buy rate 0.") == 3
    assert all(name in texts for name in ("train", "validation", "calibration", "test", "target", "stop", "time-out"))


def test_a_threshold_that_never_buys_is_said_so(texts: list[str]):
    labels, raw, _ = make_predictions()
    plots.precision_recall_curve(labels, raw, pd.Series(False, labels.index), **NAMES)
    assert "never says BUY: F1 0, no precision" in texts


@pytest.mark.parametrize(("days", "period"), [(30, "share of labels per day"), (200, "share of labels per week")])
def test_timeline_coarsens_with_length(texts: list[str], days: int, period: str):
    plots.label_timeline(*make_labels(days), **NAMES)
    assert period in texts


def test_timeline_leaves_holes_open():
    labels, _ = make_labels()
    shares = plots._exit_shares(labels, pd.Timedelta(days=1))
    assert shares["BUY"].isna().sum() == 20
    np.testing.assert_allclose(shares[["target", "stop", "time-out"]].sum(axis=1, skipna=False).dropna(), 1.0)
    assert shares.index[0] == pd.Timestamp("2025-01-01 12:00", tz="UTC")


def test_without_buy_labels_the_curve_says_so(texts: list[str]):
    labels, raw, calibrated = make_predictions()
    assert plots.precision_recall_curve(labels * 0, raw, labels > 0, **NAMES).startswith(b"\x89PNG")
    assert plots.reliability_diagram(labels * 0, raw, calibrated, **NAMES).startswith(b"\x89PNG")
    assert "no BUY label: no curve" in texts


def test_nothing_to_draw_is_an_error():
    frame, slices = make_labels(30)
    with pytest.raises(PlotError, match="label for every row"):
        plots.label_timeline(frame[10:], slices, **NAMES)
    with pytest.raises(PlotError, match="needs labels"):
        plots.label_timeline(frame[:0], slices[:0], **NAMES)
