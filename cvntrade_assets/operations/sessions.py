"""Sessions: how each pipeline stands crypto by crypto, and the command that resumes what failed."""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pandas as pd

SESSION_TAG = "cvntrade/session"
"""Ties the runs that one command or one tick of a schedule started."""

GROUP_TAG = "cvntrade/group"
"""The group that a run was started for."""

State = Literal["succeeded", "failed", "cancelled", "running", "waiting"]

_STATES: Mapping[str, State] = {
    "SUCCESS": "succeeded",
    "FAILURE": "failed",
    "CANCELED": "cancelled",
    "STARTED": "running",
    "CANCELING": "running",
}

_FROM_WHAT_IS_BUILT = ("backtesting", "walkforward", "retrain")
"""Pipelines that take the last screening as it stands."""

_REFUSED_INPUTS = ("refuses its inputs", "is refused as an input", "was never built")
"""How stages and the gate say that an input can not be had."""


@dataclass(frozen=True)
class PipelineRun:
    """One run of a pipeline.

    Attributes:
        run_id: The run.
        pipeline: The pipeline, which is the job's name.
        crypto: Its crypto.
        session: What ties it to the runs that were started with it.
        group: The group that it was started for; None without one.
        status: Dagster's word for how it stands.
        created: When it was asked for, UTC.
        settings: What it sets, as it was given.
        variants: Factor to variant.
        is_forced: Whether it recomputes although nothing changed.
        will_retry: Whether it failed, and Dagster starts it again by itself.
    """

    run_id: str
    pipeline: str
    crypto: str
    session: str
    group: str | None
    status: str
    created: pd.Timestamp
    settings: Mapping[str, str] = field(default_factory=dict)
    variants: Mapping[str, str] = field(default_factory=dict)
    is_forced: bool = False
    will_retry: bool = False

    @property
    def state(self) -> State:
        """How it stands; what Dagster will start again is waiting, and so is everything that has no worker yet."""
        return "waiting" if self.will_retry else _STATES.get(self.status, "waiting")

    @property
    def needs_resuming(self) -> bool:
        """Whether it ended without success, and nothing goes on by itself."""
        return self.state in ("failed", "cancelled")

    def resume_command(self, reasons: Sequence[str] = ()) -> str:
        """The command that runs just this crypto again with everything it was given; what was built is reused.

        Args:
            reasons: Why it failed: a run of what is already built that was refused its inputs would be refused again,
                and is resumed by the discovery that builds them.
        """
        refused = any(phrase in reason for reason in reasons for phrase in _REFUSED_INPUTS)
        pipeline = "discovery" if refused and self.pipeline in _FROM_WHAT_IS_BUILT else self.pipeline
        pairs = [part for key, text in self.settings.items() for part in ("--set", f"{key}={text}")]
        chosen = [part for factor, name in self.variants.items() for part in ("--factor", factor, "--variant", name)]
        forced = ["--force"] if self.is_forced else []
        return shlex.join(["cvntrade", pipeline, "--crypto", self.crypto, *pairs, *chosen, *forced])


@dataclass(frozen=True)
class Standing:
    """How a pipeline stands.

    Attributes:
        pipeline: Its name.
        latest: The newest runs of the cryptos of its latest session, by crypto.
        unmended: Runs of earlier sessions that ended without success and that no newer run of their crypto replaced.
    """

    pipeline: str
    latest: tuple[PipelineRun, ...]
    unmended: tuple[PipelineRun, ...]

    @property
    def to_resume(self) -> tuple[PipelineRun, ...]:
        """Every run that ended without success, those of the latest session first."""
        return (*(run for run in self.latest if run.needs_resuming), *self.unmended)


def standings(runs: Iterable[PipelineRun]) -> dict[str, Standing]:
    """How every pipeline stands that has ever run, by name.

    Args:
        runs: Runs of any pipelines; of each crypto the newest counts.
    """
    newest: dict[tuple[str, str], PipelineRun] = {}
    for run in sorted(runs, key=lambda run: run.created):
        newest[run.pipeline, run.crypto] = run
    pipelines = sorted({pipeline for pipeline, _ in newest})
    return {name: _standing(name, [run for run in newest.values() if run.pipeline == name]) for name in pipelines}


def _standing(pipeline: str, runs: list[PipelineRun]) -> Standing:
    session = max(runs, key=lambda run: run.created).session
    by_crypto = sorted(runs, key=lambda run: run.crypto)
    latest = tuple(run for run in by_crypto if run.session == session)
    return Standing(pipeline, latest, tuple(run for run in by_crypto if run.session != session and run.needs_resuming))
