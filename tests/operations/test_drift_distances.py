"""PSI, Kolmogorov-Smirnov and Wasserstein distance, against scipy and against the formulas written out."""

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from scipy import stats

from cvntrade_assets.operations.drift_distances import BINS, DistanceError, Reference, distances

Floats = npt.NDArray[np.float64]


def psi_by_hand(window: Floats, reference: Floats, edges: Floats) -> float:
    """The index as practitioners write it, with half a row in every bin."""
    inner = [-np.inf, *edges, np.inf]
    counts = [pd.cut(values, inner, labels=False) for values in (window, reference)]
    shares = []
    for places in counts:
        rows = np.array([(places == place).sum() for place in range(len(inner) - 1)]) + 0.5
        shares.append(rows / rows.sum())
    p, q = shares
    return float(((p - q) * np.log(p / q)).sum())


def drawn(ties: bool) -> tuple[Floats, Floats]:
    random = np.random.default_rng(3)
    reference, windows = random.normal(size=1003), random.normal(0.4, 1.5, size=(5, 61))
    return (np.round(reference, 1), np.round(windows, 1)) if ties else (reference, windows)


@pytest.mark.parametrize("ties", [False, True])
def test_distances_from_a_reference_are_scipys(ties: bool) -> None:
    reference, windows = drawn(ties)
    prepared = Reference.of(reference)
    found = distances(prepared, windows, within=False)
    ks = [stats.ks_2samp(window, reference).statistic for window in windows]
    moved = [stats.wasserstein_distance(window, reference) / reference.std() for window in windows]
    psi = [psi_by_hand(window, reference, prepared.edges) for window in windows]
    np.testing.assert_allclose(found.ks, ks, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.wasserstein, moved, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.psi, psi, rtol=0, atol=1e-12)


@pytest.mark.parametrize("ties", [False, True])
def test_a_references_own_windows_are_held_against_the_rest_of_it(ties: bool) -> None:
    reference, _ = drawn(ties)
    windows = reference[:1000].reshape(10, 100)
    prepared = Reference.of(reference)
    found = distances(prepared, windows, within=True)
    for number, window in enumerate(windows):
        rest = np.concatenate([reference[: number * 100], reference[(number + 1) * 100 :]])
        assert found.ks[number] == pytest.approx(stats.ks_2samp(window, rest).statistic, abs=1e-12)
        moved = stats.wasserstein_distance(window, rest) / reference.std()
        assert found.wasserstein[number] == pytest.approx(moved, abs=1e-12)
        assert found.psi[number] == pytest.approx(psi_by_hand(window, rest, prepared.edges), abs=1e-12)


def test_bins_are_equal_shares_of_the_reference() -> None:
    prepared = Reference.of(np.random.default_rng(0).normal(size=1000))
    assert prepared.counts.tolist() == [100.0] * BINS
    few = Reference.of(np.array([0.0] * 70 + [1.0] * 30))
    assert few.counts.sum() == 100 and (few.counts[:2] > 0).all()


def test_a_constant_reference_is_left_by_anything_else() -> None:
    prepared = Reference.of(np.full(50, 2.0))
    same, other = distances(prepared, np.array([[2.0, 2.0], [3.0, 2.5]]), within=False).ks
    assert (same, other) == (0.0, 1.0)
    assert distances(prepared, np.array([[3.0, 2.5]]), within=False).wasserstein == pytest.approx(0.75)


def test_nothing_depends_on_order_or_scale() -> None:
    reference, windows = drawn(False)
    found = distances(Reference.of(reference), windows, within=False)
    other = distances(Reference.of(reference[::-1] * 7.0 + 1.0), windows[:, ::-1] * 7.0 + 1.0, within=False)
    for name in ("psi", "ks", "wasserstein"):
        np.testing.assert_allclose(getattr(found, name), getattr(other, name), rtol=1e-9)


@pytest.mark.parametrize(
    ("reference", "windows", "within", "said"),
    [
        ([1.0], [[1.0]], False, "two or more"),
        ([1.0, np.nan], [[1.0]], False, "1 values of the reference are not finite"),
        ([1.0, 2.0], [[np.inf]], False, "1 values of the windows are not finite"),
        ([1.0, 2.0], [1.0], False, "got shape"),
        ([1.0, 2.0], [[1.0, 2.0]], True, "leave nothing"),
    ],
)
def test_what_cannot_be_compared_is_refused(reference: object, windows: object, within: bool, said: str) -> None:
    with pytest.raises(DistanceError, match=said):
        distances(Reference.of(reference), windows, within=within)  # type: ignore[arg-type]
