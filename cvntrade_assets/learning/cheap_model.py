"""The model of screening: few shallow trees with fixed hyperparameters, on matrices that all points of a grid share.

The points of a grid differ in their labels, hardly in their rows: only near a slice's end do they disagree on which
labels were known in time. So features are binned once for all points, and a row that one point must not learn from
weighs 0 there: its gradient and its hessian are 0, and no split, no leaf and no `min_child_weight` can tell that it is
in the matrix. What it does have a part in are the edges of the bins, which know its features and no label.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cvntrade_assets.hyperparameters import default_values
from cvntrade_assets.learning.boosting import DEFAULT_MAX_BIN, FixedTrees, Loss, booster_params
from cvntrade_assets.learning.training import first_difference

Floats: TypeAlias = NDArray[np.float64]

CHEAP = FixedTrees.of(default_values("SCREENING"))
"""The cheap model as declared: for one or two thousand weakly predictable rows, chosen once and never tuned.

There is no early stopping, so that validation is left to the threshold.
"""


class CheapModelError(ValueError):
    """Rows that no model can be fitted to."""


class SharedMatrices:
    """Features of the rows to learn from and of the rows to score, binned once.

    Args:
        learned: Features of every row that some point learns from; finite.
        scored: Features of every row that is scored; the same columns in the same order.
        trees: The model that every point is fitted with.

    Raises:
        CheapModelError: The columns differ.
    """

    def __init__(self, learned: pd.DataFrame, scored: pd.DataFrame, trees: FixedTrees = CHEAP) -> None:
        import xgboost as xgb

        difference = first_difference(list(learned.columns), list(scored.columns))
        if difference is not None:
            raise CheapModelError(f"the features to score differ from those to learn from: {difference}")
        # Compared here once, names are left out of the matrices: XGBoost would read all of them again in every round.
        options: dict[str, Any] = {"max_bin": trees.params.get("max_bin", DEFAULT_MAX_BIN), "nthread": 1}
        self._learned = xgb.QuantileDMatrix(learned.to_numpy(), np.zeros(len(learned)), **options)
        self._scored = xgb.QuantileDMatrix(scored.to_numpy(), ref=self._learned, **options)
        self._trees = trees

    def scores(self, labels: Floats, weights: Floats, *, seed: int) -> Floats:
        """Fit to one point's labels and score the rows to score.

        Args:
            labels: 1 BUY, 0 not, one per learned row; of any value where the weight is 0.
            weights: One per learned row; 0 leaves the row out.
            seed: Of row and column sampling; the same for all points, so that they differ in their labels only.

        Returns:
            The score of BUY in (0, 1), one per scored row.

        Raises:
            CheapModelError: No row is left, or all that are left have the same label.
        """
        import xgboost as xgb

        share = _weighted_share(labels, weights)
        self._learned.set_label(np.where(weights > 0.0, labels, 0.0))
        self._learned.set_weight(weights)
        used = booster_params(Loss("logistic"), self._trees.params, seed=seed, base_score=share)
        booster = xgb.train(used, self._learned, num_boost_round=self._trees.rounds)
        return np.asarray(booster.predict(self._scored), dtype=np.float64)


def _weighted_share(labels: Floats, weights: Floats) -> float:
    """Share of BUY by weight, the score that the trees start from."""
    kept = weights > 0.0
    if not kept.any():
        raise CheapModelError("no training row is left: every label is undecided or purged")
    share = float(np.average(labels[kept], weights=weights[kept]))
    if not 0.0 < share < 1.0:
        raise CheapModelError(f"each of the {int(kept.sum())} training labels is {'BUY' if share else 'not BUY'}")
    return share
