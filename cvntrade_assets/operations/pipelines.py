"""The pipelines that operators start by name: what each is for, and which assets it builds of one crypto."""

from collections.abc import Mapping
from dataclasses import dataclass

_DATA = ("candles", "backtest_candles", "features")
_TESTING = ("walk_forward", "rolling_backtest", "evaluation")


BESIDE = "f1_buy means something only beside always-BUY, the F1 of saying BUY every time; `-` is undefined, never 0."
"""Stands below every table of verdicts."""


@dataclass(frozen=True)
class Pipeline:
    """One pipeline; a Dagster job and a command carry its name.

    Attributes:
        name: How people ask for it.
        dag: The manual's name of what it replaces (its section 10).
        assets: What a run builds, upstream first; what did not change is reused.
        meaning: What it does, a sentence.
    """

    name: str
    dag: str
    assets: tuple[str, ...]
    meaning: str

    @property
    def is_evaluated(self) -> bool:
        """Whether its runs end with a verdict on record."""
        return "evaluation" in self.assets


PIPELINES: Mapping[str, Pipeline] = {
    pipeline.name: pipeline
    for pipeline in (
        Pipeline(
            "discovery",
            "launch__discovery",
            (*_DATA, "screening_matrix", *_TESTING, "challenger"),
            "Screen the PTE grid, test the candidates walk-forward, backtest the best, judge, register what passes.",
        ),
        Pipeline(
            "backtesting",
            "launch__backtesting",
            _TESTING,
            "Test and backtest the candidates of the last screening, and judge them.",
        ),
        Pipeline(
            "walkforward",
            "launch__walkforward",
            ("walk_forward",),
            "Test the candidates of the last screening walk-forward.",
        ),
        Pipeline(
            "retrain",
            "launch__retrain",
            (*_DATA, *_TESTING, "challenger"),
            "Fetch new candles, test and train the last screening's candidates on them, register what passes.",
        ),
        Pipeline(
            "monitoring",
            "launch__monitoring",
            (*_DATA, "labels", "drift", "model_health"),
            "Fetch new candles, look whether they left what the chain's model knows, and how registered models do.",
        ),
    )
}


def is_discoverys(asset: str) -> bool:
    """Whether discovery builds it and the chain does not: `cvntrade backfill` builds it alone, and nothing after it."""
    return asset in PIPELINES["discovery"].assets and asset not in _DATA
