"""Validation audit: what the stored X and y themselves say about the validation's integrity, and the anchor S22A1.

Probes look at the captured rows alone: features, labels, spans, slices. None looks at a model. A probe measures, says
what it found and what is allowed, and passes or not; one that finds nothing to measure on does not pass.

The kinds of leak are those of Kaufman, Rosset, Perlich and Stitelman, "Leakage in data mining" (TKDD 2012), Kapoor and
Narayanan, "Leakage and the reproducibility crisis in machine-learning-based science" (Patterns 2023), and Lopez de
Prado, *Advances in Financial Machine Learning*, chapter 7.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from cvntrade_assets.learning.boosting import HYPERPARAMETERS, predict_buy
from cvntrade_assets.learning.label_pipeline import PreparedLabels
from cvntrade_assets.learning.splits import SLICES, slice_overlaps
from cvntrade_assets.learning.training import TrainedModel, train_model
from cvntrade_assets.operations.audit_verdict import Anchor, ProbeResult

Floats: TypeAlias = npt.NDArray[np.float64]
OnProbe: TypeAlias = Callable[[str], None]

LARGEST_AUC = 0.75
"""One feature alone may tell BUY from the rest this well. Real candles: at most 0.62 on three symbols and two PTEs; the
simulated market at signal 1: 0.72; a feature that knows the next candle: 0.77 and more."""

LARGEST_RETURN_CORRELATION = 0.45
"""Spearman's, of one feature with the return that the label is made of. Real candles: at most 0.25 (volatility: a wider
stop loses more); the simulated market at signal 1: 0.42; a feature that knows the next of eight candles: at least
0.47."""

LARGEST_TIME_CORRELATION = 0.9
"""Spearman's, of one feature with the row's time. Real candles: at most 0.38."""

NULL_SHIFTS = 20
NOISE_DRAWS = 5
NOISE_MARGIN = 0.02
NOISE_SIGMAS = 4.0
NOISE_TRAIN_ROWS = 4000
"""The last rows of the train slice: where a leak across its boundary would be."""
_NOISE_ROUNDS = 30
_NOISE_PARAMS = {
    "objective": "binary:logistic",
    "base_score": 0.5,
    "max_bin": 64,
    "max_depth": 4,
    "eta": 0.3,
    "min_child_weight": 2.0,
    "subsample": 0.8,
    "colsample_bytree": 0.3,
    "nthread": 1,
    "verbosity": 0,
}

ANCHOR_ROUNDS = 300
ANCHOR_TOLERANCE = 1e-6
"""Scores are float32; the same fit on another processor may differ in the last digits."""


@dataclass(frozen=True)
class CapturedRows:
    """Features and targets as they were stored; nothing says yet that they fit each other.

    Attributes:
        features: one column per feature.
        targets: columns label, return, entry_time, exit_time, slice.
        embargo: what the slices were to be kept apart by.
        interval: of a candle.
        seed: of everything drawn at random.
    """

    features: pd.DataFrame
    targets: pd.DataFrame
    embargo: pd.Timedelta
    interval: pd.Timedelta
    seed: int

    @property
    def buy(self) -> Floats:
        """1 where the label is BUY, else 0."""
        buy: Floats = (self.targets["label"] == 1).to_numpy().astype(np.float64)
        return buy


def run_probes(rows: CapturedRows, on_probe: OnProbe = lambda _: None) -> tuple[ProbeResult, ...]:
    """Ask every probe. Rows that do not even fit each other are all that the first one says.

    Args:
        rows: what was captured.
        on_probe: called with the name of each probe before it is asked.
    """
    found = []
    for probe in PROBES:
        on_probe(probe.__name__)
        found.append(probe(rows))
        if probe is rows_aligned and not found[-1].passed:
            break
    return tuple(found)


def rows_aligned(rows: CapturedRows) -> ProbeResult:
    """X and y are of the same candles in the same order, in time order, and X holds numbers.

    Everything else rests on it: one row's shift between X and y is the oldest of leaks.
    """
    x, y = rows.features.index, rows.targets.index
    faults = []
    if not x.equals(y):
        faults.append(f"X has {len(x)} rows and y {len(y)}, and they are not the same candles in the same order")
    if not (len(x) and y.is_monotonic_increasing and y.is_unique):
        faults.append(f"the {len(y)} rows of y are not in strict time order")
    missing = int((~np.isfinite(rows.features.to_numpy())).sum())
    if missing:
        faults.append(f"X holds {missing} values that are not finite")
    said = "; ".join(faults) or f"X and y are of the same {len(x)} candles, in time order, without a gap in X"
    return _found("rows_aligned", not faults, said, float(len(faults)), 0.0)


def classes_in_every_slice(rows: CapturedRows) -> ProbeResult:
    """Every slice holds BUY rows and others: a slice of one class stops early, calibrates and judges on nothing."""
    rates = {name: float(rows.buy[(rows.targets["slice"] == name).to_numpy()].mean()) for name in _present(rows)}
    absent = [name for name in SLICES if name not in rates]
    single = [f"{name} ({rate:.0%} BUY)" for name, rate in rates.items() if rate in (0.0, 1.0)]
    wrong = [*(f"{name} (no row)" for name in absent), *single]
    said = f"without both classes: {', '.join(wrong)}" if wrong else "every slice holds BUY and other rows"
    return _found("classes_in_every_slice", not wrong, said, float(len(wrong)), 0.0)


def spans_apart(rows: CapturedRows) -> ProbeResult:
    """No label's span, entry to exit, reaches into another slice's period (purging: Lopez de Prado, 7.4.1)."""
    overlaps = slice_overlaps(rows.targets)
    said = "no label span reaches into another slice"
    if len(overlaps):
        first = overlaps.iloc[0]
        said = (
            f"{len(overlaps)} label spans reach into another slice, expected none; the first, of the {first['slice']} "
            f"row at {overlaps.index[0]}, ends {first['exit_time']} inside {first['other']}"
        )
    return _found("spans_apart", overlaps.empty, said, float(len(overlaps)), 0.0)


def embargo_kept(rows: CapturedRows) -> ProbeResult:
    """Every slice opens at least the embargo after the labels of those before it had ended (Lopez de Prado, 7.4.2)."""
    needed = rows.embargo / pd.Timedelta(hours=1)
    gaps = {}
    for name in _present(rows)[1:]:
        here = (rows.targets["slice"] == name).to_numpy()
        opens = rows.targets.index[here][0]
        before = rows.targets[np.isin(rows.targets["slice"].to_numpy(), SLICES[: SLICES.index(name)])]
        gaps[name] = (opens - before["exit_time"].max()) / pd.Timedelta(hours=1)
    if not gaps:
        return _found("embargo_kept", False, "there is only one slice, and nothing to keep apart", None, needed)
    name, least = min(gaps.items(), key=lambda item: item[1])
    said = f"{name} opens {least:g} h after the last label before it ended; at least {needed:g} h is expected"
    return _found("embargo_kept", least >= needed, said, float(least), needed)


def rows_once(rows: CapturedRows) -> ProbeResult:
    """No row of one slice stands in another with the very same features (Kapoor and Narayanan 2023, L1.4)."""
    values = np.ascontiguousarray(rows.features.to_numpy()) + 0.0  # No -0.0, whose bytes differ from 0.0's.
    digests = pd.Series([hash(row.tobytes()) for row in values], index=rows.features.index)
    slices = rows.targets["slice"].astype(str)
    shared = slices.groupby(digests.to_numpy()).transform("nunique").to_numpy() > 1
    said = "no row of one slice stands in another"
    if shared.any():
        first = rows.features.index[int(np.argmax(shared))]
        said = f"{int(shared.sum())} rows stand in more than one slice, the first at {first}; expected none"
    return _found("rows_once", not shared.any(), said, float(shared.sum()), 0.0)


def no_feature_tells_time(rows: CapturedRows) -> ProbeResult:
    """No feature rises or falls with time alone: by it a tree finds a period again instead of learning from it."""
    time = _standard_ranks(np.arange(len(rows.features), dtype=np.float64)[:, np.newaxis])[:, 0]
    strength = np.abs(_standard_ranks(rows.features.to_numpy()).T @ time)
    worst = int(np.argmax(strength))
    value = float(strength[worst])
    said = (
        f"{rows.features.columns[worst]} follows time most, rank correlation {value:.2f}; "
        f"at most {LARGEST_TIME_CORRELATION:g} is expected"
    )
    return _found("no_feature_tells_time", value <= LARGEST_TIME_CORRELATION, said, value, LARGEST_TIME_CORRELATION)


def no_feature_is_the_label(rows: CapturedRows) -> ProbeResult:
    """No feature alone tells BUY from the rest better than honest features do (Kaufman et al. 2012, 5: "too good").

    Measured by the area under the ROC curve, beside what the same feature gets on labels shifted in time, which keeps
    how labels overlap and features persist. The limit is `LARGEST_AUC`, or the best of those shifts where few rows give
    them more.
    """
    buys = rows.buy
    if buys.min(initial=1.0) == buys.max(initial=0.0) or not len(buys):
        return _found("no_feature_is_the_label", False, "there is one class only", None, LARGEST_AUC)
    ranks = rows.features.rank().to_numpy()
    areas = _areas(ranks, buys)
    null = max(float(_areas(ranks, np.roll(buys, shift)).max()) for shift in _shifts(rows))
    worst, limit = int(np.argmax(areas)), max(LARGEST_AUC, null)
    value = float(areas[worst])
    said = (
        f"{rows.features.columns[worst]} alone tells BUY from the rest with an AUC of {value:.3f}; by chance the best "
        f"feature gets {null:.3f}, and at most {limit:.3f} is expected of an honest one"
    )
    return _found("no_feature_is_the_label", value <= limit, said, value, limit)


def no_feature_is_the_return(rows: CapturedRows) -> ProbeResult:
    """No feature at t goes with the return after t more than honest features do: one that does looks ahead.

    Spearman's correlation with the return that the label is made of, beside what the same feature gets on returns
    shifted in time. It sees a feature that knows a single candle of the next eight; the causality of every feature is
    tested apart.
    """
    ranks = _standard_ranks(rows.features.to_numpy())
    gain = _standard_ranks(rows.targets[["return"]].to_numpy(dtype=np.float64))[:, 0]
    strength = np.abs(ranks.T @ gain)
    null = max(float(np.abs(ranks.T @ np.roll(gain, shift)).max()) for shift in _shifts(rows))
    worst, limit = int(np.argmax(strength)), max(LARGEST_RETURN_CORRELATION, null)
    value = float(strength[worst])
    said = (
        f"{rows.features.columns[worst]} goes with the return that follows, rank correlation {value:.3f}; by chance "
        f"the best feature gets {null:.3f}, and at most {limit:.3f} is expected of an honest one"
    )
    return _found("no_feature_is_the_return", value <= limit, said, value, limit)


def noise_is_not_learned(rows: CapturedRows) -> ProbeResult:
    """A model fitted on labels made of noise scores at chance on the other slices.

    A permutation test of the whole split (Ojala and Garriga, "Permutation tests for studying classifier performance",
    JMLR 2010), with labels that keep what real ones have in common: every candle gets a random step, and a row is BUY
    when the steps over its own span add up to much. There is nothing to learn, but rows whose spans share candles share
    their luck; a model that beats chance elsewhere has found such rows, or copies, on both sides. Chance is how the
    same models score other draws.
    """
    train, held_out = _noise_rows(rows)
    if not len(train) or not len(held_out):
        return _found("noise_is_not_learned", False, "there is no train slice, or nothing else", None, NOISE_MARGIN)
    random = np.random.default_rng(rows.seed)
    draws = [_noise_labels(rows, random) for _ in range(NOISE_DRAWS)]
    if any(part.min() == part.max() for draw in draws for part in (draw[train], draw[held_out])):
        return _found("noise_is_not_learned", False, "there are too few rows for two classes", None, NOISE_MARGIN)
    scores = _noise_scores(rows, draws, train, held_out)
    areas = np.array([[_area(scored, draw[held_out]) for draw in draws] for scored in scores])
    others = areas[~np.eye(NOISE_DRAWS, dtype=bool)]
    value = float(areas.diagonal().mean() - others.mean())
    limit = max(NOISE_MARGIN, NOISE_SIGMAS * float(others.std()) / np.sqrt(NOISE_DRAWS))
    said = (
        f"fitted on noise, a model scores {value:+.3f} above chance (mean AUC {areas.diagonal().mean():.3f} of "
        f"{NOISE_DRAWS} draws); at most {limit:.3f} is expected where no slice knows another"
    )
    return _found("noise_is_not_learned", value <= limit, said, value, limit)


PROBES: tuple[Callable[[CapturedRows], ProbeResult], ...] = (
    rows_aligned,
    classes_in_every_slice,
    spans_apart,
    embargo_kept,
    rows_once,
    no_feature_tells_time,
    no_feature_is_the_label,
    no_feature_is_the_return,
    noise_is_not_learned,
)


def refit_anchor(
    recorded: TrainedModel,
    reference: pd.DataFrame,
    prepared: PreparedLabels,
    valid_features: pd.DataFrame,
    valid_labels: "pd.Series[int]",
    most_rounds: int,
    patience: int,
    on_round: Callable[[int, float], None] | None = None,
) -> Anchor:
    """S22A1: fit the recorded model again, 300 rounds from the stored inputs, and compare.

    The manual names this anchor `run_s22a1`, a re-proof of 300 rounds that certifies the reproduction of the S22A1
    symptom, and says no more. It is taken to mean: the model on record is what its stored inputs, hyperparameters and
    seed give. The second fit goes on for 300 rounds whatever the validation slice says. A tree does not depend on those
    after it, so the first trees must be the recorded ones, and the recorded patience, laid over the losses of as many
    rounds as the recorded fit was allowed, must cut it where the recorded model was cut. A longer recorded model is
    compared by its first 300, in which that patience must not have run out.

    Args:
        recorded: the model on record.
        reference: stored rows to score.
        prepared: the training rows that it was fitted on.
        valid_features: the validation rows that it was stopped on; the model's columns are taken from them.
        valid_labels: their hard labels.
        most_rounds: rounds after which the recorded fit ended in any case.
        patience: rounds without a better validation loss after which it ended before.
        on_round: called after each round with its index and validation loss.

    Raises:
        ModelContractError, BoostingError: the stored inputs do not even fit each other.
    """
    losses: list[float] = []

    def remember(index: int, loss: float) -> None:
        losses.append(loss)
        if on_round is not None:
            on_round(index, loss)

    names = list(recorded.feature_names)
    again = train_model(
        prepared.features,
        prepared.labels,
        prepared.weights,
        valid_features[names],
        valid_labels,
        params={name: value for name, value in recorded.params.items() if name in HYPERPARAMETERS},
        rounds=ANCHOR_ROUNDS,
        early_stopping_rounds=ANCHOR_ROUNDS,
        objective=recorded.objective,
        focal_gamma=float(recorded.params.get("focal_gamma", 0.0)),
        seed=int(recorded.params["seed"]),
        on_round=remember,
    )
    best = recorded.best_iteration
    trees = min(best + 1, again.best_iteration + 1)
    difference = np.abs(_first_trees(recorded, reference, trees) - _first_trees(again, reference, trees))
    return Anchor(
        rounds=len(losses),
        compared_trees=trees,
        rows=len(reference),
        largest_difference=float(difference.max(initial=0.0)),
        tolerance=ANCHOR_TOLERANCE,
        recorded_best_round=best,
        refitted_best_round=_best_round(losses[:most_rounds], patience, best),
    )


def _best_round(losses: Sequence[float], patience: int, recorded: int) -> int | None:
    """Where early stopping cuts a fit of these validation losses; None when a longer one had not stopped by then."""
    best = 0
    for index, loss in enumerate(losses):
        if loss < losses[best]:
            best = index
        elif index - best >= patience:
            return best
    return best if recorded < len(losses) else None


def _first_trees(model: TrainedModel, rows: pd.DataFrame, trees: int) -> Floats:
    import xgboost as xgb

    booster = xgb.Booster({"nthread": 1})
    booster.load_model(bytearray(model.ubj))
    scores: Floats = predict_buy(booster[:trees], xgb.DMatrix(rows, nthread=1), model.objective)
    return scores


def _found(name: str, passed: bool | np.bool_, message: str, value: float | None, limit: float) -> ProbeResult:
    """Plain numbers, as JSON takes them."""
    return ProbeResult(name, bool(passed), message, None if value is None else float(value), float(limit))


def _present(rows: CapturedRows) -> list[str]:
    return [name for name in SLICES if (rows.targets["slice"] == name).any()]


def _standard_ranks(values: npt.NDArray[np.generic]) -> Floats:
    """Ranks of each column (ties averaged), centred and of length 1; zeros for a constant column."""
    ranks = pd.DataFrame(values).rank().to_numpy(dtype=np.float64)
    ranks -= ranks.mean(axis=0)
    length = np.linalg.norm(ranks, axis=0)
    standard: Floats = ranks / np.where(length > 0, length, 1.0)
    return standard


def _areas(ranks: Floats, truth: Floats) -> Floats:
    """How well each column tells the classes apart, whichever way round: an AUC of at least one half."""
    positives = truth.sum()
    area = (ranks.T @ truth - positives * (positives + 1) / 2) / (positives * (truth.size - positives))
    either: Floats = np.maximum(area, 1.0 - area)
    return either


def _area(scores: Floats, truth: Floats) -> float:
    ranks = pd.Series(scores).rank().to_numpy()
    positives = truth.sum()
    return float((ranks @ truth - positives * (positives + 1) / 2) / (positives * (truth.size - positives)))


def _shifts(rows: CapturedRows) -> npt.NDArray[np.int64]:
    """Circular shifts by at least a tenth of the rows either way: beyond what any label's span reaches."""
    count = len(rows.targets)
    return np.random.default_rng(rows.seed).integers(count // 10, count - count // 10, NULL_SHIFTS)


def _noise_rows(rows: CapturedRows) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    train = (rows.targets["slice"] == "train").to_numpy()
    return np.flatnonzero(train)[-NOISE_TRAIN_ROWS:], np.flatnonzero(~train)


def _noise_labels(rows: CapturedRows, random: np.random.Generator) -> Floats:
    """As many BUY as there are, given to the rows over whose spans a random walk rises most."""
    begins = rows.targets["entry_time"].min()
    entry = ((rows.targets["entry_time"] - begins) // rows.interval).to_numpy()
    # A trade that ends inside its first candle still lives through it.
    end = np.maximum(-(-(rows.targets["exit_time"] - begins) // rows.interval).to_numpy(), entry + 1)
    walk = np.concatenate([[0.0], np.cumsum(random.standard_normal(int(end.max())))])
    gain = walk[end] - walk[entry]
    labels: Floats = (gain > np.quantile(gain, 1.0 - rows.buy.mean())).astype(np.float64)
    return labels


def _noise_scores(
    rows: CapturedRows, draws: list[Floats], train: npt.NDArray[np.intp], held_out: npt.NDArray[np.intp]
) -> list[Floats]:
    """What a small model, fitted on each draw, says of the held-out rows."""
    import xgboost as xgb

    values = rows.features.to_numpy()
    fitted = xgb.QuantileDMatrix(values[train], max_bin=_NOISE_PARAMS["max_bin"], nthread=1)
    judged = xgb.QuantileDMatrix(values[held_out], ref=fitted, max_bin=_NOISE_PARAMS["max_bin"], nthread=1)
    scores = []
    for number, draw in enumerate(draws):
        fitted.set_label(draw[train])
        booster = xgb.train({**_NOISE_PARAMS, "seed": rows.seed + number}, fitted, num_boost_round=_NOISE_ROUNDS)
        scores.append(np.asarray(booster.predict(judged), dtype=np.float64))
    return scores
