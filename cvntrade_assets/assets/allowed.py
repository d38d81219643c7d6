"""What preflight says of a fit whose training rows are no asset of their own: asked before anything is fitted."""

import time

import dagster as dg

from cvntrade_assets.assets.stage import Stage
from cvntrade_assets.operations.preflight import judge_rollout, judge_size, sized
from cvntrade_assets.operations.rollout import ROLLOUT_TAG
from cvntrade_assets.operations.run_pods import given_memory_gib
from resources.guardrail_log import Occasion, record_evaluations, session_of
from resources.rollouts import standing


def require_allowed(stage: Stage, candles: int, train_rows: int, offered_features: int) -> None:
    """Let a fit of this size begin only when no guardrail blocks it; what was found goes on record either way.

    Args:
        stage: Whose settings chose the size.
        candles: Candles of the history.
        train_rows: Rows of the largest training slice.
        offered_features: Features to choose from.

    Raises:
        dg.Failure: names every guardrail that blocks, why and what to do; never retried.
    """
    began, settings, run, warehouse = time.perf_counter(), stage.settings, stage.context.run, stage.resources.warehouse
    rollout = standing(warehouse, settings.variants, run.tags.get(ROLLOUT_TAG))
    size = sized(candles, train_rows, offered_features, settings)
    judged = [*judge_size(size, settings, given_memory_gib(run.tags)), judge_rollout(settings, rollout)]
    occasion = Occasion(run.run_id, stage.crypto, session_of(run.run_id, run.tags), settings.variants, "check")
    record_evaluations(warehouse, occasion, judged, time.perf_counter() - began)
    stopping = [each for each in judged if each.stops]
    if stopping:
        reasons = "; ".join(f"{each.guardrail}: {each.message}" for each in stopping)
        raise dg.Failure(f"{stage.asset} of {stage.crypto} is not begun: {reasons}", allow_retries=False)
