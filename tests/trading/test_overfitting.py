"""Probability of backtest overfitting against a slow, literal account of it, on noise, and on one good point."""

import math
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from cvntrade_assets.trading.overfitting import Overfitting, OverfittingError, overfitting_probability


def slow_sharpe(column: np.ndarray) -> float:
    if not column.any():
        return 0.0
    if len(set(column)) == 1:
        return math.copysign(math.inf, column[0])
    return float(column.mean() / column.std(ddof=1))


def slow_logits(values: np.ndarray, n_blocks: int) -> list[float]:
    """One per combination, step by step as in the paper, with rows copied together for every one."""
    blocks = np.array_split(np.arange(len(values)), n_blocks)
    found = []
    for chosen in combinations(range(n_blocks), n_blocks // 2):
        training = np.concatenate([blocks[block] for block in chosen])
        testing = np.concatenate([blocks[block] for block in range(n_blocks) if block not in chosen])
        seen = [slow_sharpe(values[training, column]) for column in range(values.shape[1])]
        then = [slow_sharpe(values[testing, column]) for column in range(values.shape[1])]
        # Equal but for their rounding.
        best = [column for column, sharpe in enumerate(seen) if round(sharpe, 9) == round(max(seen), 9)]
        ranks = stats.rankdata([round(sharpe, 9) for sharpe in then])
        relative = np.mean([ranks[column] for column in best]) / (len(seen) + 1)
        found.append(float(np.log(relative / (1 - relative))))
    return found


def assert_agrees(values: np.ndarray, n_blocks: int) -> Overfitting:
    found, expected = overfitting_probability(pd.DataFrame(values), n_blocks), slow_logits(values, n_blocks)
    assert found.n_combinations == len(expected) == math.comb(n_blocks, n_blocks // 2)
    np.testing.assert_allclose(found.logits, expected, atol=1e-12)
    below = [1.0 if logit < -1e-9 else 0.5 if logit <= 1e-9 else 0.0 for logit in expected]
    assert found.pbo == pytest.approx(np.mean(below))
    return found


def returns(rows: int, columns: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.01, (rows, columns))


@pytest.mark.parametrize(("rows", "columns", "blocks"), [(12, 2, 4), (13, 3, 4), (31, 7, 8), (40, 20, 8), (47, 12, 10)])
def test_it_is_what_the_paper_says_step_by_step(rows: int, columns: int, blocks: int) -> None:
    found = assert_agrees(returns(rows, columns, seed=rows), blocks)
    assert found.n_blocks == blocks


# Few different values, days without a trade, copies of columns: ties in sample and out of sample.
TRADED = st.lists(
    st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.01, -0.01, 0.02]), min_size=14, max_size=14), min_size=1, max_size=5
)


@settings(deadline=None, max_examples=60)
@given(TRADED, st.lists(st.integers(0, 4), min_size=1, max_size=4))
def test_ties_are_shared(columns: list[list[float]], copies: list[int]) -> None:
    assert_agrees(np.array(columns + [columns[number % len(columns)] for number in copies]).T, 4)


def test_a_single_trade_ties_with_any_other_that_earns() -> None:
    values = np.zeros((24, 3))
    values[4, 0], values[4, 1], values[16, 2] = 0.013, 0.07, 0.02
    found = assert_agrees(values, 8)
    assert set(np.round(found.logits, 9)) <= set(np.round(np.log([1 / 3, 0.6, 1.0, 3.0]), 9))


def test_columns_that_do_nothing_stand_between_winners_and_losers() -> None:
    values = returns(24, 6, seed=5)
    values[:, 2] = 0.0
    values[:12, 3] = 0.0
    values[12:, 4] = 0.0
    assert_agrees(values, 8)
    # The others lose in every half: doing nothing is the best choice, and stays it.
    losing = np.column_stack([np.zeros(24), -np.abs(returns(24, 4, seed=6))])
    assert overfitting_probability(pd.DataFrame(losing), 8).pbo == 0.0
    # And the worst one among those that earn.
    earning = np.column_stack([np.zeros(24), np.abs(returns(24, 1, seed=6))])
    assert overfitting_probability(pd.DataFrame(earning), 8).pbo == 0.0


def test_returns_without_risk_stand_above_all_others() -> None:
    values = returns(24, 5, seed=7)
    values[:, 1] = 0.001
    values[:, 3] = -0.3
    values[:12, 4] = 0.1
    assert_agrees(values, 4)


def test_equal_columns_are_a_coin_toss() -> None:
    column = returns(40, 1, seed=8)
    for copies in (2, 5, 60):
        found = overfitting_probability(pd.DataFrame(np.repeat(column, copies, axis=1)), 8)
        assert found.pbo == 0.5
        assert (found.logits == 0.0).all()


def test_nothing_traded_is_a_coin_toss() -> None:
    assert overfitting_probability(pd.DataFrame(np.zeros((48, 30)))).pbo == 0.5


def test_choosing_among_noise_is_a_coin_toss() -> None:
    found = [overfitting_probability(pd.DataFrame(returns(60, 25, seed)), 8).pbo for seed in range(250)]
    assert np.mean(found) == pytest.approx(0.5, abs=3.5 * np.std(found) / math.sqrt(len(found)))
    assert np.std(found) / math.sqrt(len(found)) < 0.02


def test_one_point_that_is_good_is_no_overfitting() -> None:
    for seed in range(10):
        values = returns(60, 25, seed)
        values[:, 11] += 0.02
        found = overfitting_probability(pd.DataFrame(values))
        assert found.pbo == 0.0
        assert found.n_combinations == 12_870


def test_what_was_fitted_to_single_blocks_is_overfitting() -> None:
    values = returns(64, 8, seed=3) * 0.1 - 0.002
    for block in range(8):
        values[8 * block : 8 * block + 8, block] += 0.02
    assert overfitting_probability(pd.DataFrame(values), 8).pbo == 1.0


@pytest.mark.parametrize(
    ("rows", "blocks"), [(12, 4), (17, 4), (18, 6), (30, 10), (47, 14), (48, 16), (60, 16), (90, 16)]
)
def test_few_days_make_fewer_blocks(rows: int, blocks: int) -> None:
    found = overfitting_probability(pd.DataFrame(returns(rows, 3, seed=1)))
    assert (found.n_blocks, found.n_combinations) == (blocks, math.comb(blocks, blocks // 2))
    assert found.logits.shape == (found.n_combinations,)


@pytest.mark.parametrize(("shape", "reason"), [((11, 5), "11 rows"), ((60, 1), "1 column"), ((60, 0), "0 column")])
def test_what_is_undefined_is_none_and_says_why(shape: tuple[int, int], reason: str) -> None:
    found = overfitting_probability(pd.DataFrame(np.zeros(shape)))
    assert found.pbo is None
    assert reason in found.reason
    assert (found.n_blocks, found.n_combinations, found.logits.size) == (0, 0, 0)


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_returns_that_are_no_numbers_are_refused(wrong: float) -> None:
    table = pd.DataFrame(returns(60, 3, 0), columns=["a", "b", "c"], index=pd.date_range("2025-01-01", periods=60))
    table.loc["2025-01-05", "b"] = wrong
    with pytest.raises(OverfittingError, match=r"return of b at 2025-01-05.*without a trade has the return 0"):
        overfitting_probability(table)


@pytest.mark.parametrize("blocks", [0, 2, 5, 22])
def test_blocks_that_cannot_be_halved_or_are_too_many_are_refused(blocks: int) -> None:
    with pytest.raises(OverfittingError, match="even number from 4 to 20"):
        overfitting_probability(pd.DataFrame(returns(60, 3, 0)), blocks)


def test_rows_out_of_time_order_are_refused() -> None:
    with pytest.raises(OverfittingError, match="time order"):
        overfitting_probability(pd.DataFrame(returns(60, 3, 0)).iloc[::-1])
