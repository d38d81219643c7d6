"""What is compared when drift is looked for: which candles are the reference, which the window, and why these.

Like is compared with like. The model was fitted on the CUSUM events of the training slice, which are moments of
movement; it is asked about every candle. So the reference is every candle of the slice's time, events or not. Scores,
and what probabilities are worth, are another matter: on rows that it was fitted on, and on their neighbours, a model is
surer than on any others. Their reference is what it was not fitted on: every candle of the other three slices' time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from cvntrade_assets.operations.drift_dependence import LEAST_WINDOWS

if TYPE_CHECKING:
    from cvntrade_assets.learning.calibration import Calibration
    from cvntrade_assets.learning.training import TrainedModel

SCORE, PROBABILITY, LABEL = "score", "probability", "label"


class TooLittleError(ValueError):
    """There are not enough candles to say anything; the message says how many, and how many it takes."""


@dataclass(frozen=True, eq=False)
class Learnt:
    """A frozen model, and what it was made from.

    Attributes:
        model: The trees.
        calibration: From its score to a probability.
        features: The features that the training set was cut from, every candle.
        labels: The labels that it was cut from, every decided candle.
        targets: The training set's targets, with their slices.
    """

    model: TrainedModel
    calibration: Calibration
    features: pd.DataFrame
    labels: pd.DataFrame
    targets: pd.DataFrame

    @property
    def train_ends(self) -> pd.Timestamp:
        """The open of the first candle that is no longer the training slice's."""
        ends: pd.Timestamp = self.targets.index[(self.targets["slice"] != "train").to_numpy()][0]
        return ends

    @property
    def known_until(self) -> pd.Timestamp:
        """The last moment of which anything entered the training set."""
        until: pd.Timestamp = self.targets["exit_time"].max()
        return until


@dataclass(frozen=True, eq=False)
class Fresh:
    """What has happened since.

    Attributes:
        features: Of the newest candles.
        labels: Of those that are decided.
        now: Close of the newest candle.
        settles: How long after a candle's open its outcome is known, whatever it is.
    """

    features: pd.DataFrame
    labels: pd.DataFrame
    now: pd.Timestamp
    settles: pd.Timedelta


@dataclass(frozen=True, eq=False)
class Evidence:
    """The two sides of the comparison; tables in time order.

    Attributes:
        reference: The model's features over the training slice's time.
        window: The same of the newest candles.
        held_out: Score, probability and, where decided, label over the time of the other slices.
        asked: Score, probability and, where its outcome is settled, label of the window.
        label_reference: Labels over the training slice's time: 1 BUY, 0 not.
    """

    reference: pd.DataFrame
    window: pd.DataFrame
    held_out: pd.DataFrame
    asked: pd.DataFrame
    label_reference: pd.Series[float]


def gather(learnt: Learnt, fresh: Fresh, *, longest: int, least: int) -> Evidence:
    """Choose reference and window.

    The window is the newest candles after everything that the training set knows, `longest` at most, and so many that
    at least `LEAST_WINDOWS` of its length fit into either reference.

    Args:
        learnt: The model.
        fresh: What has happened since.
        longest: Most candles of the window.
        least: Fewest.

    Raises:
        TooLittleError: there are fewer.
    """
    from cvntrade_assets.learning.answers import answers

    begins = learnt.features.index < learnt.train_ends
    names = tested_features(learnt.model.feature_names)
    before, after = learnt.features[begins], learnt.features[~begins]
    after = after[after.index < learnt.known_until]
    unseen = fresh.features[fresh.features.index >= learnt.known_until]
    length = _length(len(before), len(after), len(unseen), longest, least, learnt.known_until)
    newest = unseen.iloc[-length:]
    settled = fresh.labels[fresh.labels.index + fresh.settles <= fresh.now]
    return Evidence(
        reference=before[names],
        window=newest[names],
        held_out=_answered(answers(learnt.model, learnt.calibration, after), learnt.labels),
        asked=_answered(answers(learnt.model, learnt.calibration, newest), settled),
        label_reference=_bought(learnt.labels[learnt.labels.index < learnt.train_ends]),
    )


def tested_features(names: tuple[str, ...]) -> list[str]:
    """Those of a model's features that can drift: what only the clock decides is the same every week."""
    # The indicators' library is slow to import.
    from cvntrade_assets.learning.features import FAMILIES
    from cvntrade_assets.learning.indicators import clock

    told = {column for family in FAMILIES if family.compute is clock for column in family.columns()}
    return [name for name in names if name not in told]


def _length(before: int, after: int, unseen: int, longest: int, least: int, known_until: pd.Timestamp) -> int:
    if unseen < least:
        raise TooLittleError(
            f"{unseen} candles have closed since {known_until:%Y-%m-%d %H:%M} UTC, where the training set's knowledge "
            f"ends: at least {least} are needed"
        )
    fits = min(before, after) // LEAST_WINDOWS
    if fits < least:
        raise TooLittleError(
            f"the training slice has {before} candles and the other slices {after}: {LEAST_WINDOWS} windows of at "
            f"least {least} must fit into each; load a longer history (CVN_DEFAULT_HISTORY_MONTHS)"
        )
    return min(unseen, longest, fits)


def _answered(said: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Score and probability beside the label; not a number where there is none."""
    return said[[SCORE, PROBABILITY]].assign(**{LABEL: _bought(labels).reindex(said.index)})


def _bought(labels: pd.DataFrame) -> pd.Series[float]:
    return (labels["label"] == 1).astype("float64")
