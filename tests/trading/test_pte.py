"""Trade execution parameters: spelling, ranges, grids."""

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvntrade_assets.trading.pte import PTE, PteError, PteGrid

multiples = st.floats(min_value=1e-12, max_value=1e12)


@pytest.mark.parametrize(
    ("text", "pte", "canonical"),
    [
        ("H4_SL1.0_TP2.0", PTE(4, 1.0, 2.0), "H4_SL1.0_TP2.0"),
        ("H1_SL0.75_TP1.5", PTE(1, 0.75, 1.5), "H1_SL0.75_TP1.5"),
        ("H6_SL1_TP10", PTE(6, 1.0, 10.0), "H6_SL1.0_TP10.0"),
    ],
)
def test_a_pte_reads_and_writes(text: str, pte: PTE, canonical: str) -> None:
    assert PTE.parse(text) == pte
    assert str(pte) == canonical


@given(st.integers(1, 6), multiples, multiples)
def test_every_pte_survives_its_spelling(hours: int, stop: float, target: float) -> None:
    pte = PTE(hours, stop, target)
    assert PTE.parse(str(pte)) == pte


def test_whole_multiples_are_floats_so_that_equal_ptes_are_spelt_alike() -> None:
    assert str(PTE(4, 1, 2)) == str(PTE(4, 1.0, 2.0)) == "H4_SL1.0_TP2.0"


def test_the_horizon_is_a_duration() -> None:
    assert PTE(4, 1.0, 2.0).horizon == pd.Timedelta("4h")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "H4",
        "H4_SL1.0",
        "h4_sl1.0_tp2.0",
        "H4_SL-1.0_TP2.0",
        "H4_SL1e0_TP2.0",
        " H4_SL1.0_TP2.0",
        "H4_SL1.0_TP2.0\n",
        "H4_SLnan_TP2.0",
        "H4_SL1._TP2.0",
        "H٤_SL1.0_TP2.0",
    ],
)
def test_a_misspelt_pte_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(PteError, match=r"like H4_SL1\.0_TP2\.0"):
        PTE.parse(text)


@pytest.mark.parametrize(
    ("hours", "stop", "target", "named"),
    [
        (0, 1.0, 2.0, "horizon is 0"),
        (7, 1.0, 2.0, "horizon is 7"),
        (True, 1.0, 2.0, "horizon is True"),
        (2.5, 1.0, 2.0, "horizon is 2.5"),
        (4, 0.0, 2.0, "stop_loss is 0.0"),
        (4, -1.0, 2.0, "stop_loss is -1.0"),
        (4, float("nan"), 2.0, "stop_loss is nan"),
        (4, 1.0, float("inf"), "take_profit is inf"),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(hours: int, stop: float, target: float, named: str) -> None:
    with pytest.raises(PteError, match=named):
        PTE(hours, stop, target)


def test_a_grid_lists_its_combinations_with_the_target_turning_fastest() -> None:
    grid = PteGrid((1, 2), (0.5, 1.0), (1.0, 2.0))
    assert [str(pte) for pte in grid] == [
        "H1_SL0.5_TP1.0",
        "H1_SL0.5_TP2.0",
        "H1_SL1.0_TP1.0",
        "H1_SL1.0_TP2.0",
        "H2_SL0.5_TP1.0",
        "H2_SL0.5_TP2.0",
        "H2_SL1.0_TP1.0",
        "H2_SL1.0_TP2.0",
    ]
    assert len(grid) == 8


@pytest.mark.parametrize(
    ("hours", "stops", "targets", "named"),
    [
        ((), (1.0,), (1.0,), "horizon_hours"),
        ((2, 1), (1.0,), (1.0,), "horizon_hours"),
        ((1,), (1.0, 1.0), (1.0,), "stop_losses"),
        ((1,), (1.0,), (2.0, 1.0), "take_profits"),
        ((1, 9), (1.0,), (2.0,), "horizon is 9"),
    ],
)
def test_a_grid_axis_must_increase(
    hours: tuple[int, ...], stops: tuple[float, ...], targets: tuple[float, ...], named: str
) -> None:
    with pytest.raises(PteError, match=named):
        PteGrid(hours, stops, targets)
