"""What the tests of a screening's candidates share: their settings, what they look at, and how one is left out."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

import dagster as dg
import pandas as pd

from cvntrade_assets.assets.stage import Stage
from cvntrade_assets.learning.from_settings import EXECUTION_SETTINGS, PLAN_SETTINGS, RECIPE_SETTINGS
from cvntrade_assets.market.candles import timeframe_delta
from cvntrade_assets.market.history import CandleHistory
from resources.artifacts import Artifact

if TYPE_CHECKING:
    from cvntrade_assets.learning.history import History

T = TypeVar("T")

TESTING_SETTINGS = tuple(
    sorted({*EXECUTION_SETTINGS, *PLAN_SETTINGS, *RECIPE_SETTINGS, "CVN_BACKTEST_TIMEFRAME", "CVN_COST_LEVELS"})
)


def gather(
    stage: Stage,
    candles: Artifact[CandleHistory],
    features: Artifact[pd.DataFrame],
    backtest_candles: Artifact[CandleHistory],
) -> "History":
    """What every fold and step of one crypto shares."""
    from cvntrade_assets.learning.history import History

    settings = stage.settings
    return History.gather(
        candles.load().candles,
        features.load(),
        backtest_candles.load().candles,
        cusum_threshold=settings.number("CVN_CUSUM_THRESHOLD_H"),
        interval=timeframe_delta(settings.text("CVN_TIMEFRAME")),
        fine_interval=timeframe_delta(settings.text("CVN_BACKTEST_TIMEFRAME")),
    )


def through_all(stage: Stage, work: Mapping[str, Callable[[], T]], done: str) -> tuple[tuple[T, ...], dict[str, str]]:
    """What the work on each candidate came to, of those on which it can be done; and why it cannot on the others.

    Args:
        stage: The stage that does it.
        work: By candidate.
        done: What the work does, as a participle, for the message.

    Raises:
        dg.Failure: it can be done on no candidate; says why for each. Never retried.
    """
    from cvntrade_assets.learning.walk_forward import UntestableCandidateError

    found, untestable = [], {}
    for name, do in work.items():
        try:
            found.append(do())
        except UntestableCandidateError as error:
            stage.context.log.warning(f"{name} is left out: {error}")
            untestable[name] = str(error)
    if not found:
        reasons = "; ".join(untestable.values())
        raise dg.Failure(f"no candidate of {stage.crypto} can be {done}: {reasons}", allow_retries=False)
    return tuple(found), untestable
