"""Calibration: from a model's score to a probability of BUY, with the threshold from which to say BUY.

Both are chosen on the calibration slice, which neither training nor tuning has seen and whose labels no
smoothing has touched, and are frozen from then on. Calibrating on smoothed labels is refused
(`assert_discrete_targets`).

Every calibrator is non-decreasing in the score. A sigmoid fitted to a model that ranks backwards would have
a negative slope and turn the ranking around, which would hide that the model is worse than useless. Its
slope is therefore held at zero or above: the likelihood is concave, so the best such sigmoid is then the
constant base rate. Isotonic regression does the same by construction. `Calibration.notes` says when it
happened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, get_args

import numpy as np
import numpy.typing as npt
import pandas as pd

Floats: TypeAlias = npt.NDArray[np.float64]
Method: TypeAlias = Literal["none", "sigmoid", "platt", "isotonic", "hybrid"]
ThresholdMethod: TypeAlias = Literal["expected_value", "f1_binary"]

METHODS: tuple[str, ...] = get_args(Method)
THRESHOLD_METHODS: tuple[str, ...] = get_args(ThresholdMethod)
PARTS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "sigmoid": ("sigmoid",),
    "platt": ("sigmoid",),
    "isotonic": ("isotonic",),
    "hybrid": ("sigmoid", "isotonic"),
}
"""The fitted estimators that each method consists of, by name."""

MINIMUM_ROWS = 100
MINIMUM_ROWS_PER_CLASS = 10
MINIMUM_PREDICTED_BUYS = 30
CANDIDATE_QUANTILES = np.linspace(0.0, 0.98, 50)
ALWAYS_BUY = 0.0
NEVER_BUY = 2.0
"""A threshold above every probability: no candle is a BUY."""

FLAT_NOTE = (
    "the score ranks backwards or not at all on the calibration slice: "
    "every candle gets the base rate as its probability"
)
SLOPE_NOTE = "the best sigmoid falls with the score: its slope is held at zero, only isotonic regression ranks"
NEVER_EARNS = "no threshold earns its costs on the calibration slice"
SCORE_MARGIN = 1e-6
UNPENALISED = 1e6
MONOTONE_TOLERANCE = 1e-12
MONOTONE_GRID = 1_001


class CalibrationError(ValueError):
    """A calibration slice, setting or stored calibration that cannot be used."""


class SigmoidEstimator(Protocol):
    """What is used of scikit-learn's LogisticRegression."""

    coef_: Floats
    intercept_: Floats

    def predict_proba(self, X: Floats) -> Floats:  # noqa: N803
        """Return class probabilities, shape (n, 2)."""
        ...


class IsotonicEstimator(Protocol):
    """What is used of scikit-learn's IsotonicRegression."""

    y_thresholds_: Floats

    def predict(self, T: Floats) -> Floats:  # noqa: N803
        """Return calibrated probabilities, shape (n,)."""
        ...


@dataclass(frozen=True, eq=False)
class Calibration:
    """A fitted calibrator and its frozen thresholds.

    Two, because they answer two questions: a model is scored by what it says, F1 and all, and paid by what is traded.

    Attributes:
        method: how scores become probabilities; see `calibrate`.
        estimators: fitted scikit-learn estimators by part name, exactly `PARTS[method]`.
        threshold: BUY is said when the calibrated probability is at least this. `ALWAYS_BUY` (0) says it for
            every candle, `NEVER_BUY` (2) for none.
        threshold_method: what the threshold maximises on the calibration slice.
        trade_threshold: a candle is a signal to trade when its probability is at least this; read as `threshold`.
        trade_threshold_method: what that one maximises.
        n_rows: rows of the calibration slice.
        base_rate: share of BUY labels in it.
        notes: what an operator should know about the fit, in plain sentences; usually empty.
    """

    method: Method
    estimators: Mapping[str, Any]
    threshold: float
    threshold_method: ThresholdMethod
    trade_threshold: float
    trade_threshold_method: ThresholdMethod
    n_rows: int
    base_rate: float
    notes: tuple[str, ...] = ()

    @property
    def is_flat(self) -> bool:
        """Whether every score gets the same probability, so that the ranking of the model is lost."""
        return _is_flat(self.estimators)

    def describe(self) -> dict[str, Any]:
        """Return everything but the estimators, as JSON takes it; `restore` is the way back."""
        return {
            "method": self.method,
            "threshold": self.threshold,
            "threshold_method": self.threshold_method,
            "trade_threshold": self.trade_threshold,
            "trade_threshold_method": self.trade_threshold_method,
            "n_rows": self.n_rows,
            "base_rate": self.base_rate,
            "notes": list(self.notes),
        }


def restore(meta: Mapping[str, Any], estimators: Mapping[str, Any]) -> Calibration:
    """Put a stored calibration together again from `describe()` and its estimators.

    Raises:
        CalibrationError: a key is missing or unknown, or the estimators are not those of the method.
    """
    expected = {
        *("method", "threshold", "threshold_method", "trade_threshold", "trade_threshold_method"),
        *("n_rows", "base_rate", "notes"),
    }
    if set(meta) != expected:
        raise CalibrationError(
            f"stored calibration has keys {sorted(meta)}, expected {sorted(expected)}; rebuild the calibration asset"
        )
    _known("method", meta["method"], METHODS)
    for name in ("threshold_method", "trade_threshold_method"):
        _known(name, meta[name], THRESHOLD_METHODS)
    if tuple(sorted(estimators)) != tuple(sorted(PARTS[meta["method"]])):
        raise CalibrationError(
            f"stored estimators {sorted(estimators)} are not those of method {meta['method']!r}, "
            f"{sorted(PARTS[meta['method']])}; rebuild the calibration asset"
        )
    return Calibration(
        method=meta["method"],
        estimators={name: estimators[name] for name in PARTS[meta["method"]]},
        threshold=float(meta["threshold"]),
        threshold_method=meta["threshold_method"],
        trade_threshold=float(meta["trade_threshold"]),
        trade_threshold_method=meta["trade_threshold_method"],
        n_rows=int(meta["n_rows"]),
        base_rate=float(meta["base_rate"]),
        notes=tuple(meta["notes"]),
    )


def assert_discrete_targets(labels: pd.Series[Any]) -> None:
    """Refuse targets other than hard 0 and 1, naming the likely cause.

    Raises:
        CalibrationError: a label is soft, missing or of another class.
    """
    values = labels.to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = ~np.isin(values, (0.0, 1.0))
    if not wrong.any():
        return
    row = int(np.argmax(wrong))
    where = (
        f"{int(wrong.sum())} of {values.size} calibration targets are not 0 or 1, "
        f"first {values[row]} at {labels.index[row]}"
    )
    if np.isin(values, (-1.0, 0.0, 1.0)).all():
        raise CalibrationError(f"{where}: these are three classes; pass BUY against the rest, labels == 1")
    raise CalibrationError(
        f"{where}: soft labels come from label smoothing, which belongs to the training slice only; "
        "pass the hard labels of the calibration slice, as the labels asset holds them (incident 17.3)"
    )


def calibrate(
    scores: pd.Series[Any],
    labels: pd.Series[Any],
    returns: pd.Series[Any],
    *,
    method: Method,
    threshold_method: ThresholdMethod,
    trade_threshold_method: ThresholdMethod,
    cost: float,
    seed: int,
) -> Calibration:
    """Fit the calibrator and choose both thresholds on the calibration slice.

    Methods, with z = log(s / (1 - s)) the log-odds of the score, kept away from 0 and 1 by `SCORE_MARGIN`:

    - none: the score is the probability.
    - sigmoid: logistic regression of the label on z, practically unpenalised; it changes nothing when the
      score is calibrated already.
    - platt: the same with the targets (n_pos + 1) / (n_pos + 2) and 1 / (n_neg + 2) of Platt 1999,
      "Probabilistic outputs for support vector machines". A target t enters as two weighted hard rows, BUY
      with weight t and the rest with 1 - t, which is the same likelihood.
    - isotonic: the best non-decreasing step function of s (Zadrozny and Elkan 2002), clipped outside the
      range of scores seen.
    - hybrid: the plain average of sigmoid and isotonic. The sigmoid keeps scores apart that isotonic
      regression ties; the steps correct a shape that no sigmoid has. The average of non-decreasing maps is
      one too.

    Thresholds are tried at `CANDIDATE_QUANTILES` of the calibrated probabilities, few on purpose: the best
    of many noisy values is mostly noise. Candidates with fewer than `MINIMUM_PREDICTED_BUYS` rows at or
    above them are left out, and the highest of equally good thresholds wins, which trades least.

    - expected_value: the largest mean net return per candle, the sum of (return - cost) over rows at or above
      the threshold divided by all rows. `ALWAYS_BUY` when every row above the lowest candidate is best;
      `NEVER_BUY` when nothing earns more than not trading, which is worth 0.
    - f1_binary: the largest F1 of the BUY class; never `NEVER_BUY`. Without skill that is nearly always
      BUY, so F1 then equals its baseline. An expected-value threshold says BUY rarely, so its F1 may lie
      below the baseline while the model earns: judge it by precision and net return.

    Args:
        scores: the model's score of BUY, in [0, 1], index of the calibration slice.
        labels: hard labels 0/1, same index.
        returns: gross long return of each label as a fraction, same index.
        method: calibration method.
        threshold_method: what the threshold maximises from which BUY is said.
        trade_threshold_method: what the threshold maximises from which a candle is traded.
        cost: cost of a round trip as a fraction of the position, 0.002 for 20 basis points.
        seed: random state handed to scikit-learn; the solver in use draws nothing.

    Raises:
        CalibrationError: unequal indices, scores outside [0, 1], soft labels, a return or cost that is
            not finite, fewer than `MINIMUM_ROWS` rows or `MINIMUM_ROWS_PER_CLASS` of a class, an unknown
            method.
    """
    _known("method", method, METHODS)
    _known("threshold_method", threshold_method, THRESHOLD_METHODS)
    _known("trade_threshold_method", trade_threshold_method, THRESHOLD_METHODS)
    score, truth, gain = _checked_slice(scores, labels, returns, cost)
    estimators = _fit_parts(method, score, truth, seed)
    probability = _probabilities(estimators, score)
    trade_threshold = _best_threshold(probability, truth, gain - cost, trade_threshold_method)
    return Calibration(
        method=method,
        estimators=estimators,
        threshold=_best_threshold(probability, truth, gain - cost, threshold_method),
        threshold_method=threshold_method,
        trade_threshold=trade_threshold,
        trade_threshold_method=trade_threshold_method,
        n_rows=int(score.size),
        base_rate=float(truth.mean()),
        notes=_notes(estimators, trade_threshold),
    )


def apply_calibration(calibration: Calibration, scores: pd.Series[Any]) -> pd.Series[float]:
    """Turn scores into probabilities of BUY: float64 within [0, 1], same index, named `probability`.

    Raises:
        CalibrationError: a score is not a finite number within [0, 1].
    """
    probability = _probabilities(calibration.estimators, _checked_scores(scores))
    return pd.Series(probability, index=scores.index, name="probability", dtype=np.float64)


def in_words(threshold: float, share: float, does: str = "says BUY on") -> str:
    """How often BUY is said, or a candle traded, and why when it never is.

    Args:
        threshold: the frozen threshold.
        share: share of the rows that reach it.
        does: what is done with a candle that reaches it.
    """
    if threshold == NEVER_BUY:
        return f"{does} no candle: {NEVER_EARNS}"
    if share == 0.0:
        return f"{does} no candle: no probability reaches the threshold {threshold:.3f}"
    return f"{does} every candle" if share == 1.0 else f"{does} {share:.1%} of the candles"


def is_monotone(calibration: Calibration) -> bool:
    """Whether the probability never falls as the score rises, tried on a fine grid over [0, 1]."""
    grid = np.linspace(0.0, 1.0, MONOTONE_GRID)
    steps = np.diff(_probabilities(calibration.estimators, grid))
    return bool((steps >= -MONOTONE_TOLERANCE).all())


def _fit_parts(method: Method, score: Floats, truth: Floats, seed: int) -> dict[str, Any]:
    fitted: dict[str, Any] = {}
    for part in PARTS[method]:
        if part == "isotonic":
            fitted[part] = _fit_isotonic(score, truth)
        else:
            fitted[part] = _fit_sigmoid(score, _targets(method, truth), seed)
    return fitted


def _targets(method: Method, truth: Floats) -> Floats:
    """Probability targets of the sigmoid: the labels, or Platt's, which stay off 0 and 1."""
    if method != "platt":
        return truth
    positives = truth.sum()
    negatives = truth.size - positives
    smoothed: Floats = np.where(truth == 1.0, (positives + 1.0) / (positives + 2.0), 1.0 / (negatives + 2.0))
    return smoothed


def _fit_sigmoid(score: Floats, targets: Floats, seed: int) -> SigmoidEstimator:
    """Logistic regression on the log-odds with a slope of at least 0."""
    from sklearn.linear_model import LogisticRegression

    log_odds = _log_odds(score)
    rows = np.concatenate([log_odds, log_odds])[:, np.newaxis]
    classes = np.repeat([1, 0], score.size)
    weights = np.concatenate([targets, 1.0 - targets])
    kept = weights > 0.0
    model = LogisticRegression(C=UNPENALISED, tol=1e-8, max_iter=1_000, random_state=seed)
    model.fit(rows[kept], classes[kept], sample_weight=weights[kept])
    if model.coef_[0, 0] <= 0.0 or np.ptp(log_odds) == 0.0:
        mean = targets.mean()
        model.coef_ = np.zeros((1, 1))
        model.intercept_ = np.array([np.log(mean) - np.log1p(-mean)])
    sigmoid: SigmoidEstimator = model
    return sigmoid


def _fit_isotonic(score: Floats, truth: Floats) -> IsotonicEstimator:
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(y_min=0.0, y_max=1.0, increasing=True, out_of_bounds="clip")
    isotonic: IsotonicEstimator = model.fit(score, truth)
    return isotonic


def _log_odds(score: Floats) -> Floats:
    inner = np.clip(score, SCORE_MARGIN, 1.0 - SCORE_MARGIN)
    odds: Floats = np.log(inner) - np.log1p(-inner)
    return odds


def _probabilities(estimators: Mapping[str, Any], score: Floats) -> Floats:
    """Average over the parts; the score itself when there are none."""
    if not estimators:
        return score.copy()
    outputs = [_part_probability(name, part, score) for name, part in estimators.items()]
    mean: Floats = np.mean(outputs, axis=0)
    bounded: Floats = np.clip(mean, 0.0, 1.0)
    return bounded


def _part_probability(name: str, part: Any, score: Floats) -> Floats:
    if name == "isotonic":
        return np.asarray(part.predict(score), dtype=np.float64)
    return np.asarray(part.predict_proba(_log_odds(score)[:, np.newaxis])[:, 1], dtype=np.float64)


def _notes(estimators: Mapping[str, Any], trade_threshold: float) -> tuple[str, ...]:
    never = (f"never trades: {NEVER_EARNS}",) if trade_threshold == NEVER_BUY else ()
    if _is_flat(estimators):
        return (FLAT_NOTE, *never)
    if "sigmoid" in estimators and _is_flat_part("sigmoid", estimators["sigmoid"]):
        return (SLOPE_NOTE, *never)
    return never


def _is_flat(estimators: Mapping[str, Any]) -> bool:
    return bool(estimators) and all(_is_flat_part(name, part) for name, part in estimators.items())


def _is_flat_part(name: str, part: Any) -> bool:
    if name == "isotonic":
        return bool(np.ptp(part.y_thresholds_) == 0.0)
    return bool(part.coef_[0, 0] == 0.0)


def _best_threshold(probability: Floats, truth: Floats, net: Floats, method: ThresholdMethod) -> float:
    """Best candidate threshold for the method; see `calibrate`."""
    ranked = np.argsort(probability)
    candidates = np.unique(np.quantile(probability, CANDIDATE_QUANTILES, method="higher"))
    first = np.searchsorted(probability[ranked], candidates, side="left")
    said = probability.size - first
    enough = said >= MINIMUM_PREDICTED_BUYS
    candidates, first, said = candidates[enough], first[enough], said[enough]
    if method == "expected_value":
        value = _suffix_sums(net[ranked])[first] / probability.size
    else:
        value = 2.0 * _suffix_sums(truth[ranked])[first] / (said + truth.sum())
    best = int(np.flatnonzero(value == value.max())[-1])
    if method == "expected_value" and value[best] <= 0.0:
        return NEVER_BUY
    return ALWAYS_BUY if first[best] == 0 else float(candidates[best])


def _suffix_sums(values: Floats) -> Floats:
    """Sum of each value and all after it."""
    sums: Floats = np.cumsum(values[::-1])[::-1]
    return sums


def _checked_slice(
    scores: pd.Series[Any], labels: pd.Series[Any], returns: pd.Series[Any], cost: float
) -> tuple[Floats, Floats, Floats]:
    if not (scores.index.equals(labels.index) and scores.index.equals(returns.index)):
        raise CalibrationError(
            f"scores ({len(scores)} rows), labels ({len(labels)}) and returns ({len(returns)}) "
            "have different indices; pass the same rows of the calibration slice"
        )
    assert_discrete_targets(labels)
    _enough_rows(labels)
    gain = returns.to_numpy(dtype=np.float64)
    if not (np.isfinite(gain).all() and np.isfinite(cost) and cost >= 0.0):
        raise CalibrationError(f"returns must be finite, and the cost {cost} a finite fraction of at least 0")
    return _checked_scores(scores), labels.to_numpy(dtype=np.float64), gain


def _enough_rows(labels: pd.Series[Any]) -> None:
    rows, positives = len(labels), int((labels == 1).sum())
    rarer = min(positives, rows - positives)
    if rows < MINIMUM_ROWS or rarer < MINIMUM_ROWS_PER_CLASS:
        raise CalibrationError(
            f"the calibration slice has {rows} rows, {positives} of them BUY; calibrating needs at least "
            f"{MINIMUM_ROWS} rows, {MINIMUM_ROWS_PER_CLASS} of each class: take more history or another PTE"
        )


def _checked_scores(scores: pd.Series[Any]) -> Floats:
    values = scores.to_numpy(dtype=np.float64)
    wrong = ~((values >= 0.0) & (values <= 1.0))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise CalibrationError(
            f"{int(wrong.sum())} of {values.size} scores are not within [0, 1], "
            f"first {values[row]} at {scores.index[row]}; pass probabilities, not margins"
        )
    return values


def _known(name: str, value: str, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise CalibrationError(f"{name} {value!r} is unknown; valid are {', '.join(valid)}")
