"""What observations and the global state ask of whom: severity (§8), owner (§4), and the playbook's next step (§9)."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from cvntrade_assets.operations.condition import Condition
from cvntrade_assets.operations.crypto_signals import NEXT_COMMAND, PLAYBOOKS
from cvntrade_assets.operations.global_state import Reason, State, headline, told
from cvntrade_assets.operations.platform_signals import NO_COMPLETE_RUN
from cvntrade_assets.operations.playbook import usual_move, wider_grid
from cvntrade_assets.operations.signals import SIGNALS, Level, Observation, Scope
from cvntrade_assets.operations.taxonomy import TAXONOMY, Code, Role, Severity
from cvntrade_assets.settings import Settings

ESCALATES_TO: Mapping[Role, Role] = {
    Role.OPERATOR: Role.MLOPS_MAINTAINER,
    Role.ML_OWNER: Role.MLOPS_MAINTAINER,
    Role.MLOPS_MAINTAINER: Role.PLATFORM_OWNER,
    # Nobody stands above; the other one who can act on the platform is told.
    Role.PLATFORM_OWNER: Role.MLOPS_MAINTAINER,
}
"""Who is told of an alert that its owner does not acknowledge."""


@dataclass(frozen=True)
class Stance:
    """Who answers for a signal, and how bad each level of it is; None is nothing to alert anybody of."""

    owner: Role
    critical: Severity | None
    warning: Severity | None
    unknown: Severity | None

    def of(self, level: Level) -> Severity | None:
        """How bad a level is."""
        by_level = {Level.CRITICAL: self.critical, Level.WARNING: self.warning, Level.UNKNOWN: self.unknown}
        return by_level.get(level)


_P0, _P1, _P2, _P3 = Severity
# A crypto that was never evaluated or traded is no alarm: it shows in its checks and in the state's reasons.
_OF_A_MODEL = Stance(Role.ML_OWNER, _P2, _P3, None)
STANCES: Mapping[str, Stance] = {
    "infra_health": Stance(Role.PLATFORM_OWNER, _P0, _P2, _P2),
    "pipeline_success_rate": Stance(Role.MLOPS_MAINTAINER, _P1, _P2, _P2),
    # Unknown until enough runs have succeeded, which only time mends.
    "pipeline_latency": Stance(Role.MLOPS_MAINTAINER, _P2, _P3, None),
    "pass_rate": Stance(Role.MLOPS_MAINTAINER, _P1, _P1, _P2),
    **dict.fromkeys(PLAYBOOKS, _OF_A_MODEL),
    "model_freshness": _OF_A_MODEL,
    "model_overdue": _OF_A_MODEL,
    "drift": _OF_A_MODEL,
    "challenger_count": Stance(Role.ML_OWNER, _P2, _P3, _P2),
    "candle_freshness": Stance(Role.MLOPS_MAINTAINER, _P2, _P3, _P3),
    "barren_days": Stance(Role.MLOPS_MAINTAINER, _P1, None, _P2),
    "useful_run_age": Stance(Role.MLOPS_MAINTAINER, None, _P3, _P2),
}
"""The stance of every signal."""

STATE_STANCES: Mapping[State, tuple[Severity, Role]] = {
    State.RED: (_P0, Role.PLATFORM_OWNER),
    State.ORANGE: (_P1, Role.MLOPS_MAINTAINER),
    State.YELLOW: (_P2, Role.OPERATOR),
}
"""How bad each state is, and who answers for it; GREEN is nobody's."""

_STATE_STEPS: Mapping[State, str] = {
    State.RED: "`cvntrade status`: what is down, full or killed, every reason, and what to do about each",
    State.ORANGE: "`cvntrade status`: every reason, and the command that resumes what failed",
    State.YELLOW: "`cvntrade status`: every reason; watch it more closely than usual",
}


def condition_of(observation: Observation, since: pd.Timestamp, *, settings: Settings) -> Condition | None:
    """What an observation is to be alerted of; None when nobody has to be.

    Args:
        observation: Of any signal.
        since: Since when its level holds, UTC.
        settings: In force.
    """
    stance = STANCES[observation.signal]
    severity = stance.of(observation.level)
    # Where nothing has run yet, what a run would tell is no alarm: the state is not GREEN, and says why.
    if severity is None or (observation.level is Level.UNKNOWN and observation.inputs == NO_COMPLETE_RUN):
        return None
    signal, subject = observation.signal, observation.subject
    of = f" of {subject}" if subject else ""
    return Condition(
        key="/".join(("signal", signal, subject) if subject else ("signal", signal)),
        source="signals",
        kind=f"signal/{signal}",
        severity=severity,
        owner=stance.owner,
        what=f"{signal}{of} is {observation.level}: {observation.reason}",
        where=subject or "platform",
        since=since,
        next_step=next_step(observation, settings),
        link=_link(observation),
    )


def condition_of_state(state: State, reasons: Sequence[Reason], since: pd.Timestamp) -> Condition | None:
    """What the global state is to be alerted of; None when it is GREEN."""
    if state is State.GREEN:
        return None
    severity, owner = STATE_STANCES[state]
    return Condition(
        key="state",
        source="state",
        kind="state",
        severity=severity,
        owner=owner,
        what=f"the global state is {state}: {headline(reasons)}. {told(reasons, of=state)}",
        where="platform",
        since=since,
        next_step=_STATE_STEPS[state],
        link=_check_page("global_state", "state_is_green"),
    )


def next_step(observation: Observation, settings: Settings) -> str:
    """What to do about an observation: a command between backticks, and why that one."""
    if observation.signal in PLAYBOOKS:
        return _by_playbook(observation, settings)
    return _STEPS[observation.signal](observation, settings)


def _by_playbook(observation: Observation, settings: Settings) -> str:
    """The command for the very evaluation behind it; without one, the manual's own as of what is traded by now."""
    crypto, command = observation.subject, observation.inputs.get(NEXT_COMMAND)
    if command is not None:
        code = Code(str(observation.inputs["code"]))
        return f"`{command}`: the playbook of {code}, {TAXONOMY[code].meaning}"
    if observation.level is Level.UNKNOWN:
        return _step("discovery", crypto, "a complete evaluation tells")
    if observation.level is Level.WARNING and observation.signal != "negative_sortino_runs":
        return _step("monitoring", crypto, "nothing has to change yet: see how it does on candles that it has not seen")
    move = usual_move(PLAYBOOKS[observation.signal][0], crypto, settings)
    return f"`{move.command}`: {move.because}"


def _step(job: str, crypto: str, why: str) -> str:
    return f"`cvntrade {job} --crypto {shlex.quote(crypto)}`: {why}"


def _platform(observation: Observation, settings: Settings) -> str:
    if observation.level is Level.UNKNOWN:
        return "`cvntrade status`: does what tells of memory, processors and volumes answer (CVN_PROMETHEUS_URL)?"
    if observation.inputs.get("down"):
        return (
            "`cvntrade watchdog --once`: see whether it still is down; its log says why it ended, and on one machine "
            "`cvntrade up` starts it again"
        )
    move = usual_move(Code.INFRA_SATURATED, "", settings)
    return f"`{move.command}`: {move.because}"


def _success(_: Observation, settings: Settings) -> str:
    move = usual_move(Code.PIPELINE_DEGRADED, "", settings)
    return f"`{move.command}`: {move.because}"


def _latency(_observation: Observation, _settings: Settings) -> str:
    return "`cvntrade status`: see which stage takes longest, and whether more is computed than usual"


def _candidates(observation: Observation, settings: Settings) -> str:
    group = _core_group(settings)
    if observation.level is Level.UNKNOWN or observation.signal == "useful_run_age":
        return f"`cvntrade discovery --group {group}`: a complete run says whether there are candidates"
    look = "see on the page of its evaluation which gate refused all candidates, then look on a wider grid"
    return f"`{wider_grid(group)}`: {look}, or at another group"


def _challengers(_observation: Observation, _settings: Settings) -> str:
    return "`cvntrade registry list`: the ML owner decides which are promoted and which are archived"


def _candles(observation: Observation, _settings: Settings) -> str:
    fetch = f"cvntrade backfill --crypto {shlex.quote(observation.subject)} --select candles --wait"
    return f"`{fetch}`: fetch them now; is the exchange, or its archive, in reach?"


def _model(observation: Observation, _settings: Settings) -> str:
    if observation.level is Level.UNKNOWN:
        return _step("discovery", observation.subject, "it finds and registers a model, if one passes every gate")
    return _step("retrain", observation.subject, "fit its candidates on new candles, and register what passes")


def _drift(observation: Observation, _settings: Settings) -> str:
    if observation.level is Level.CRITICAL:
        # Drift is that of the chain's model, which a retrain leaves as it is.
        return _step("backfill", observation.subject, "its data are no longer those that its model learned from")
    return _step("monitoring", observation.subject, "a new report says whether what it sees still is what it learned")


_STEPS: Mapping[str, Callable[[Observation, Settings], str]] = {
    "infra_health": _platform,
    "pipeline_success_rate": _success,
    "pipeline_latency": _latency,
    "pass_rate": _candidates,
    "barren_days": _candidates,
    "useful_run_age": _candidates,
    "challenger_count": _challengers,
    "candle_freshness": _candles,
    "model_freshness": _model,
    "model_overdue": _model,
    "drift": _drift,
}


def _core_group(settings: Settings) -> str:
    return settings.text("CVN_CORE_GROUPS").split(",")[0]


def _link(observation: Observation) -> str:
    if SIGNALS[observation.signal].scope is Scope.CRYPTO:
        # The UI shows the check of every crypto there, the newest first; the partition is for who reads the address.
        return f"{_check_page('golden_signals', observation.signal)}&partition={observation.subject}"
    return _check_page("global_state", observation.signal)


def _check_page(asset: str, check: str) -> str:
    return f"/assets/{asset}?view=checks&checkDetail={check}"
