"""What is unusual among windows that depend on each other: rates of false alarms, with naive tests beside them."""

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from cvntrade_assets.operations.drift_columns import Past, drift_of_columns
from cvntrade_assets.operations.drift_dependence import LEAST_WINDOWS, DependenceError, Usual, cut, effective_size

Floats = npt.NDArray[np.float64]

WINDOW, WINDOWS = 96, 40
SERIES = 150


def remembering(random: np.random.Generator, memory: float, columns: int) -> Floats:
    """Gaussian columns that remember their past, as indicators do; they share some of their noise, as indicators do."""
    from scipy.signal import lfilter

    n = WINDOW * (WINDOWS + 2)
    shared = random.normal(size=(n + 500, 1))
    noise = 0.6 * shared + 0.8 * random.normal(size=(n + 500, columns))
    return np.asarray(lfilter([np.sqrt(1 - memory**2)], [1.0, -memory], noise, axis=0)[500:], dtype=np.float64)


def turbulent(random: np.random.Generator, columns: int) -> Floats:
    """Columns whose spread comes and goes over days: the volatility of returns that know regimes."""
    calm = remembering(random, 0.995, 1)
    return remembering(random, 0.5, columns) * np.exp(0.5 * calm)


def halves(series: Floats) -> tuple[Floats, Floats]:
    """Reference and window, apart by a window so that neither continues the other."""
    return series[: WINDOW * WINDOWS], series[-WINDOW:]


def false_alarms(kind: str, columns: int, alpha: float) -> float:
    random = np.random.default_rng(17)
    alarms = 0
    for _ in range(SERIES):
        series = turbulent(random, columns) if kind == "turbulent" else remembering(random, float(kind), columns)
        reference, window = halves(series)
        told = {str(i): (Past.of(reference[:, i], WINDOW), window[:, i]) for i in range(columns)}
        alarms += any(column.drifted for column in drift_of_columns(told, alpha))
    return alarms / SERIES


@pytest.mark.parametrize("kind", ["0.0", "0.9", "0.97", "turbulent"])
def test_false_alarms_are_as_rare_as_promised_however_much_rows_remember(kind: str) -> None:
    """Nominal 5 % over six columns; two and a half standard errors of 150 series are four and a half points."""
    assert false_alarms(kind, 6, 0.05) <= 0.095


def test_a_naive_test_of_the_same_series_alarms_nearly_always() -> None:
    random = np.random.default_rng(17)
    naive, thinned = [], []
    for _ in range(SERIES):
        reference, window = halves(remembering(random, 0.97, 1))
        naive.append(stats.ks_2samp(window[:, 0], reference[:, 0]).pvalue)
        # The independent oracle: rows so far apart that they have forgotten each other.
        thinned.append(stats.ks_2samp(window[::95, 0], reference[::95, 0]).pvalue)
    assert np.mean(np.array(naive) < 0.05) > 0.8
    assert np.mean(np.array(thinned) < 0.05) < 0.1


def test_a_shift_is_found_where_thinned_rows_find_it_too() -> None:
    """A window that moved by two and a half deviations, of rows that remember a little."""
    random = np.random.default_rng(4)
    found, thinned = [], []
    for _ in range(100):
        reference, window = halves(remembering(random, 0.8, 4))
        moved = window + 2.5
        told = {str(i): (Past.of(reference[:, i], WINDOW), moved[:, i]) for i in range(4)}
        found.append(all(column.drifted for column in drift_of_columns(told, 0.05)))
        thinned.append(stats.ks_2samp(moved[::20, 0], reference[::20, 0]).pvalue < 0.05)
    assert np.mean(found) > 0.9 and np.mean(thinned) > 0.9


def test_unusual_is_a_prediction_intervals_p_value() -> None:
    numbers = np.random.default_rng(1).normal(3.0, 2.0, size=30)
    usual = Usual(float(numbers.mean()), float(numbers.std(ddof=1)), 30.0)
    for number in (2.0, 5.0, 9.0):
        t = (number - numbers.mean()) / (numbers.std(ddof=1) * np.sqrt(1 + 1 / 30))
        assert usual.unusual(number) == pytest.approx(stats.t.sf(t, 29))
        assert usual.unusual(number, two_sided=True) == pytest.approx(2 * stats.t.sf(abs(t), 29))


def test_p_values_of_independent_windows_are_even() -> None:
    random = np.random.default_rng(2)
    p_values = [Usual.of(numbers[:-1]).unusual(numbers[-1]) for numbers in random.normal(size=(1000, 41))]
    assert stats.kstest(p_values, "uniform").pvalue > 0.001


def test_windows_that_resemble_their_neighbours_count_as_fewer() -> None:
    random = np.random.default_rng(0)
    alone = random.normal(size=400)
    pairs = np.repeat(random.normal(size=200), 2)
    assert effective_size(alone) == pytest.approx(400, rel=0.25)
    assert effective_size(pairs) == pytest.approx(200, rel=0.25)
    assert effective_size(np.full(20, 1.5)) == 20.0
    assert effective_size(np.arange(40.0)) < 6
    # So much that is hidden by likeness is given back to the deviation.
    walk = np.cumsum(random.normal(size=60))
    assert Usual.of(walk).deviation > walk.std(ddof=1)


def test_where_nothing_ever_differs_any_difference_is_unusual() -> None:
    usual = Usual.of(np.full(LEAST_WINDOWS, 0.1))
    assert usual.unusual(0.1) == 1.0 and usual.unusual(0.05) == 1.0
    assert usual.unusual(0.2) == 0.0 and usual.unusual(0.05, two_sided=True) == 0.0


def test_too_few_windows_say_nothing() -> None:
    Usual.of(np.arange(LEAST_WINDOWS))
    with pytest.raises(DependenceError, match="9 windows"):
        Usual.of(np.arange(LEAST_WINDOWS - 1))
    with pytest.raises(DependenceError, match="1 of them without a number"):
        Usual.of([*np.arange(LEAST_WINDOWS), np.nan])


def test_windows_lie_back_to_back_and_end_with_the_last_row() -> None:
    assert cut(10, 3).tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    assert cut(2, 3).shape == (0, 3)
