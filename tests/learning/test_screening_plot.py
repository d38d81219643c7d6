"""The heat map of a screening: every point in its place, marked for what it is."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from cvntrade_assets.learning.plot_look import PAPER, PlotError
from cvntrade_assets.learning.screening import Screening
from cvntrade_assets.learning.screening_plot import NO_SHARPE, screening_heat_map
from cvntrade_assets.trading.pte import PTE, PteGrid

GRID = PteGrid((2, 4), (1.0, 2.0), (1.5, 3.0))


def make_screening(grid: PteGrid = GRID, candidates: int = 1) -> Screening:
    """Points with the Sharpe ratios 3, 2, … in the grid's order, the last undefined; the first two are eligible."""
    chosen = [pte for pte in grid if pte.take_profit >= pte.stop_loss]
    sharpe = 3.0 - np.arange(len(chosen), dtype=np.float64)
    sharpe[-1] = np.nan
    points = pd.DataFrame(
        {
            "pte": [str(pte) for pte in chosen],
            "horizon_hours": [pte.horizon_hours for pte in chosen],
            "stop_loss": [pte.stop_loss for pte in chosen],
            "take_profit": [pte.take_profit for pte in chosen],
            "eligible": np.arange(len(chosen)) < 2,
            "sharpe": sharpe,
            "f1_buy_delta": np.where(np.isnan(sharpe), np.nan, 0.031 - 0.01 * np.arange(len(chosen))),
        }
    )
    left_out = tuple(pte for pte in grid if pte not in set(chosen))
    return Screening(points, pd.DataFrame(), tuple(chosen[:candidates]), left_out, 20)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Figure]]:
    seen: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *arguments: Any, **options: Any) -> None:
        save(figure, *arguments, **options)
        seen.append(figure)

    monkeypatch.setattr(Figure, "savefig", keep)
    yield seen


def cells(figure: Figure, name: str) -> dict[str, list[Any]]:
    """Texts by place, and colours and frames, of the panel of a horizon."""
    (axes,) = [each for each in figure.axes if each.get_title(loc="left") == name]
    boxes = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    return {
        "texts": [text.get_text() for text in axes.texts],
        "colours": [box.get_facecolor() for box in boxes if box.get_fill()],
        "frames": [box for box in boxes if not box.get_fill()],
        "ticks": [[label.get_text() for label in axis.get_ticklabels()] for axis in (axes.xaxis, axes.yaxis)],
    }


def test_it_is_an_opaque_png_and_the_same_bytes_again():
    from matplotlib.image import imread

    png = screening_heat_map(make_screening(), crypto="BTCUSDC", market="binance")
    assert png == screening_heat_map(make_screening(), crypto="BTCUSDC", market="binance")
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    pixels = imread(io.BytesIO(png), format="png")
    assert pixels.shape[2] == 3 or (pixels[:, :, 3] == 1).all()
    assert pixels[:, :, :3].std() > 0.05


@pytest.mark.parametrize(("market", "mark"), [("simulated", "SIMULATED market"), ("binance", "binance")])
def test_the_title_names_points_crypto_and_market(figures: list[Figure], market: str, mark: str):
    screening_heat_map(make_screening(), crypto="LDOUSDT", market=market)
    texts = [text.get_text() for text in figures[0].findobj(Text)]
    assert f"Screening, 6 points · LDOUSDT · {mark}" in texts
    one = make_screening(PteGrid((4,), (1.0,), (2.0,)))
    screening_heat_map(one, crypto="LDOUSDT", market=market)
    assert f"Screening, 1 point · LDOUSDT · {mark}" in [text.get_text() for text in figures[1].findobj(Text)]


def test_every_point_stands_in_its_cell_with_its_baseline_and_marks(figures: list[Figure]):
    screening_heat_map(make_screening(), crypto="BTCUSDC", market="binance")
    near, far = (cells(figures[0], name) for name in ("H2", "H4"))
    assert near["ticks"] == far["ticks"] == [["1.5", "3"], ["1", "2"]]
    assert near["texts"] == ["+3.1", "+2.1", "+1.1", "×", "–"], "two eligible, one not, one left out"
    assert far["texts"] == ["+0.1", "×", "-0.9", "×", "?", "×", "–"]
    assert (len(near["frames"]), len(far["frames"])) == (1, 0)
    assert len(near["colours"]) == len(far["colours"]) == 3
    blue, red = near["colours"][0], far["colours"][1]
    assert blue[2] > blue[0]
    assert red[0] > red[2], "what loses is of the other colour"
    from matplotlib.colors import to_rgba

    assert far["colours"][2] == to_rgba(NO_SHARPE)


def test_what_rounds_to_nothing_has_no_minus_sign(figures: list[Figure]):
    screening = make_screening()
    screening.points.loc[:1, "f1_buy_delta"] = [-0.0004, -0.0006]
    screening_heat_map(screening, crypto="BTCUSDC", market="binance")
    assert cells(figures[0], "H2")["texts"][:2] == ["+0.0", "-0.1"]


def test_frames_are_the_candidates(figures: list[Figure]):
    screening_heat_map(make_screening(candidates=2), crypto="BTCUSDC", market="binance")
    assert [len(cells(figures[0], name)["frames"]) for name in ("H2", "H4")] == [2, 0]


def test_numbers_are_readable_on_dark_cells(figures: list[Figure]):
    screening_heat_map(make_screening(), crypto="BTCUSDC", market="binance")
    inks = {
        text.get_text(): text.get_color()
        for axes in figures[0].axes
        for text in axes.texts
        if text.get_text()[0] in "+-"
    }
    assert inks["+3.1"] == PAPER
    assert inks["+0.1"] != PAPER


def test_horizons_that_were_left_out_have_a_panel(figures: list[Figure]):
    screening = make_screening()
    gone = Screening(screening.points, screening.returns, screening.candidates, (PTE(5, 1.0, 3.0),), 20)
    screening_heat_map(gone, crypto="BTCUSDC", market="binance")
    assert cells(figures[0], "H5")["texts"] == ["–"]


@pytest.mark.parametrize("kind", ["nothing traded", "flat"])
def test_without_any_sharpe_ratio_it_is_drawn_all_the_same(kind: str):
    screening = make_screening()
    screening.points["sharpe"] = np.nan if kind == "nothing traded" else 0.0
    assert screening_heat_map(screening, crypto="BTCUSDC", market="binance").startswith(b"\x89PNG")


def test_nothing_screened_is_an_error():
    screening = make_screening()
    nothing = Screening(screening.points[:0], screening.returns, (), (), 20)
    with pytest.raises(PlotError, match="BTCUSDC: a heat map needs at least one screened point"):
        screening_heat_map(nothing, crypto="BTCUSDC", market="binance")
