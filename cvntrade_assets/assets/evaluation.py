"""Evaluation: what the candidates of one crypto are worth, why, and what to do next.

What was measured is the version's, and is kept with it. How the platform stands and how long it took are the run's: a
run that finds nothing changed says how it was itself, and its diagnosis is made anew.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from cvntrade_assets.assets.evaluation_page import draw, show_evaluation
from cvntrade_assets.assets.stage import Made, Stage, Summary, stage
from cvntrade_assets.learning.from_settings import GATE_SETTINGS, gate_limits
from cvntrade_assets.market.candles import timeframe_delta
from resources.artifacts import Artifact
from resources.code_version import code_version
from resources.codecs import StoredScreening
from resources.evaluation_codecs import StoredEvaluation
from resources.evaluations import EarlierTrials, EvaluationOf, earlier_trials, record_evaluations
from resources.guardrail_log import session_of
from resources.platform_of_record import platform_of
from resources.run_duration import duration_of

if TYPE_CHECKING:
    from cvntrade_assets.learning.rolling import Rolled
    from cvntrade_assets.learning.walk_forward import Tested
    from cvntrade_assets.operations.evaluate import Occasion


def read_earlier(stage: Stage) -> EarlierTrials:
    """What was tested before on windows that overlap this one's: trying again and again is choosing too."""
    tested = stage.inputs["walk_forward"]
    begins, ends = _window(tested)
    return earlier_trials(stage.resources.warehouse, stage.crypto, tested.market, begins, ends, tested.version)


def show_of_run(stored: StoredEvaluation, _: Summary, stage: Stage) -> Mapping[str, Any]:
    """The page, and what goes on record, as of this run: the platform can be why a candidate came to nothing."""
    from cvntrade_assets.operations.correlation_metadata import as_metadata
    from cvntrade_assets.operations.diagnosis import diagnose

    run, instance, settings = stage.context.run, stage.context.instance, stage.settings
    now = pd.Timestamp.now("UTC")
    of_run = {
        "platform": platform_of(stage.resources.warehouse, run.job_name, settings, now),
        "duration": duration_of(instance, run.run_id, settings, now),
    }
    here = replace(stored, records=tuple(record.model_copy(update=of_run) for record in stored.records))
    described = as_metadata(here.leading, diagnose(here.leading))
    return {
        **show_evaluation(here, described),
        **described,
        "records": [record.to_record() for record in here.records],
        "daily_sharpes": dict(here.daily_sharpes),
    }


def record_evaluation(said: Summary, stage: Stage) -> None:
    """One row of evaluations per tested candidate of the run, also when the run found nothing changed."""
    from cvntrade_assets.operations.correlation_data import from_record

    run, tested = stage.context.run, stage.inputs["walk_forward"]
    begins, ends = _window(tested)
    whose = EvaluationOf(
        run_id=run.run_id,
        session=session_of(run.run_id, run.tags),
        crypto=stage.crypto,
        evaluation_version=said["version"],
        walk_forward_version=tested.version,
        rolling_version=stage.inputs["rolling_backtest"].version,
        reused=said["reused"],
        window_from=begins,
        window_to=ends,
    )
    records = [from_record(record, stage.crypto) for record in said["records"]]
    sharpes = said["daily_sharpes"]
    record_evaluations(stage.resources.warehouse, whose, [(record, sharpes[record.pte]) for record in records])


@stage(
    settings=(*GATE_SETTINGS, "CVN_BACKTEST_TIMEFRAME", "CVN_SEED"),
    code_version="2",
    group="discovery",
    owner="ml-owner",
    kinds={"matplotlib", "postgres"},
    show=show_of_run,
    record=record_evaluation,
    on_demand=True,
    beside=read_earlier,
)
def evaluation(
    stage: Stage,
    screening_matrix: Artifact[StoredScreening],
    walk_forward: Artifact["tuple[Tested, ...]"],
    rolling_backtest: Artifact["tuple[Rolled, ...]"],
) -> Made:
    """The record of every tested candidate (CORRELATION DATA), its gates with reasons, and the diagnosis of the leader.

    The leading candidate is the best-ranked by screening among those that passed every gate, else the best-ranked of
    all: of several that passed, no result out of sample chooses. How many candidates were ever tried on these periods
    deflates what the best of them shows.
    """
    from cvntrade_assets.operations.evaluate import Earlier, evaluate

    screening, tested, rolled = screening_matrix.load(), walk_forward.load(), rolling_backtest.load()
    earlier = Earlier(stage.beside.count, stage.beside.sharpes)
    judged = evaluate(_occasion(stage), screening.screening, tested, rolled, earlier, gate_limits(stage.settings))
    [leading] = [each.record for each in judged if each.record.leading]
    walked = next(each for each in tested if str(each.pte) == leading.pte)
    after = next(each for each in rolled if str(each.pte) == leading.pte)
    plots = {**screening.plots, **draw(walked, after, stage.crypto, leading.market)}
    stored = StoredEvaluation(
        tuple(each.record for each in judged),
        {each.record.pte: each.daily_sharpe for each in judged},
        plots,
    )
    return Made(stored, {"earlier_trials": earlier.count})


def _occasion(stage: Stage) -> "Occasion":
    from cvntrade_assets.operations.evaluate import Occasion

    run, settings = stage.context.run, stage.settings
    rolled = stage.inputs["rolling_backtest"]
    market: Literal["binance", "simulated"] = rolled.market  # type: ignore[assignment]
    made_from = {name: artifact.version for name, artifact in stage.inputs.items()}
    return Occasion(
        crypto=stage.crypto,
        market=market,
        run_id=run.run_id,
        session=session_of(run.run_id, run.tags),
        run_settings=settings.set_by_run,
        variants=settings.variants,
        versions={**rolled.manifest.provenance.inputs, **made_from, "code": code_version()},
        fine_interval=timeframe_delta(settings.text("CVN_BACKTEST_TIMEFRAME")),
        seed=settings.whole("CVN_SEED"),
        complete=_is_complete(stage.inputs["screening_matrix"], stage.inputs["walk_forward"]),
    )


def _is_complete(screening: Artifact[Any], tested: Artifact[Any]) -> bool:
    """Whether the screening was made on the very candles that were tested, and is none of an earlier run."""
    ours, theirs = screening.manifest.provenance.inputs, tested.manifest.provenance.inputs
    return all(ours[name] == theirs[name] for name in ("candles", "features"))


def _window(tested: Artifact[Any]) -> tuple[pd.Timestamp, pd.Timestamp]:
    """From the first test period's begin to the last one's end."""
    summary: Mapping[str, Any] = tested.manifest.summary
    return pd.Timestamp(summary["from"]), pd.Timestamp(summary["to"])
