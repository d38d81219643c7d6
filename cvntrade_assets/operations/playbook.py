"""The playbooks of the manual's §9: what to do next about a code, as a command to paste, and when it is over.

Every command speaks of the one crypto of the record. A range in it is the manual's where that moves away from what the
record was made with, and else the next values that do; where none is left, the grid is widened and the reason says so.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from cvntrade_assets.operations.taxonomy import Code
from cvntrade_assets.settings import SHORT_NAMES, Settings, whole_names
from cvntrade_assets.trading.gates import exceeds
from cvntrade_assets.trading.pte import HORIZON_HOURS, PTE

if TYPE_CHECKING:
    # Only named here, and dear to import where no record is read.
    from cvntrade_assets.operations.correlation_data import AnyRecord

# §9.1's own values; the widest and the nearest are for records that are beyond those already.
_WIDER_STOPS = (1.2, 1.5, 1.8, 2.0)
_WIDEST_STOPS = (2.2, 2.5, 3.0)
_NEARER_TARGETS = (1.5, 2.0, 2.5)
_NEAREST_TARGETS = (0.8, 1.0, 1.2)
# Targets further away make BUY labels rarer.
_FURTHER_TARGETS = (2.0, 2.5, 3.0, 4.0, 5.0)
# §9.3: more horizons, wider ATR ranges. 294 points of the 450 that a grid may have.
_WIDE_GRID: Mapping[str, str] = {
    "horizons": "H1,H2,H3,H4,H5,H6",
    "sl_range": "0.6,0.8,1.0,1.2,1.5,1.8,2.0",
    "tp_range": "1.0,1.5,2.0,2.5,3.0,3.5,4.0",
}
_FREQUENT_BUY = 0.5
# More folds are dearer than another way to learn.
_MANY_FOLDS = 7
_FEWER_TRIALS = 20
_USUAL_TRIALS = 50
_USUAL_BACKTEST_DAYS = 60
_LONG_RUN_MINUTES = 180.0
_LONG_RUN_RATIO = 1.3

_SHORT = {name: short for short, name in SHORT_NAMES.items()}
_PASSES = "at least one candidate passes its gates"
_ATTEMPTS = "to the ML owner after 3 attempts without improvement"


@dataclass(frozen=True)
class Move:
    """What to do next.

    Attributes:
        command: to be pasted.
        because: why this command, and what to look at.
        exit_when: when the incident is over.
        escalation: who takes over, and when.
    """

    command: str
    because: str
    exit_when: str
    escalation: str


class _Traded(Protocol):
    """What a command is made from: a record, or what stands for one."""

    @property
    def crypto(self) -> str: ...
    @property
    def execution(self) -> PTE: ...
    @property
    def run_settings(self) -> Mapping[str, str]: ...
    @property
    def variants(self) -> Mapping[str, str]: ...


@dataclass(frozen=True)
class _Usual:
    """What stands for a record that the settings in force had made, with nothing set by its run."""

    crypto: str
    execution: PTE
    run_settings: Mapping[str, str] = field(default_factory=dict)
    variants: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Change:
    """What one symptom changes of the grid; nothing when its values are used up."""

    sets: Mapping[str, str]
    why: str


def next_move(code: Code, record: AnyRecord, triggered: Collection[Code]) -> Move:
    """What the playbook says of a code, where `triggered` are all codes that triggered on the record."""
    return _PLAYS[code](record, triggered)


def usual_move(code: Code, crypto: str, settings: Settings) -> Move:
    """What the playbook says of a code when no record is at hand: as of one that the settings in force had made.

    Args:
        code: One of those whose playbook does not ask which gate refused what.
        crypto: Whose command it is to be; empty for the platform.
        settings: In force.

    Raises:
        KeyError: the code's playbook needs a record.
    """
    return _USUAL[code](_Usual(crypto, settings.pte), settings.whole("CVN_DEFAULT_N_FOLDS"))


def wider_grid(group: str) -> str:
    """The command that looks for candidates of a whole group on a wide grid (§9.3)."""
    pairs = " ".join(f"--set {name}={values}" for name, values in _WIDE_GRID.items())
    return f"cvntrade discovery --group {shlex.quote(group)} {pairs}"


def slow_run_move(record: AnyRecord) -> Move | None:
    """§9.5: what to do about a run over 3 hours, or over its usual time by more than 30 %; None when it is neither."""
    took = record.duration
    if took is None:
        return None
    usual = took.p95_minutes
    reasons = []
    if took.minutes > _LONG_RUN_MINUTES:
        reasons.append(f"over {_LONG_RUN_MINUTES:g} minutes")
    if usual is not None and exceeds(took.minutes, _LONG_RUN_RATIO * usual):
        reasons.append(f"more than 30 % over the {usual:.6g} minutes that 95 of 100 runs take at most")
    if not reasons:
        return None
    command, look = _slow_stage(took.slowest_stage or "", record)
    said = f"the run took {took.minutes:.6g} minutes, {' and '.join(reasons)}: {look}"
    return Move(command, said, "a run takes less than the 95th percentile", "to the MLOps maintainer")


def _slow_stage(stage: str, record: AnyRecord) -> tuple[str, str]:
    if stage in ("candles", "backtest_candles"):
        fetch = f"cvntrade backfill --crypto {shlex.quote(record.crypto)} --select {stage} --wait"
        return fetch, f"{stage} took longest: is the exchange, or its archive, in reach?"
    if stage in ("hyperparameters", "walk_forward", "rolling_backtest"):
        look = f"{stage} took longest: {_USUAL_TRIALS} tuning trials are usual, over 100 are suspect"
        return _job("discovery", record, {"hpo_trials": str(_USUAL_TRIALS)}), look
    if stage in ("backtest", "evaluation"):
        look = f"{stage} took longest: {_USUAL_BACKTEST_DAYS} days of 5m candles are usual, which is 17,280 of them"
        return _job("discovery", record, {"backtest_days": str(_USUAL_BACKTEST_DAYS)}), look
    if stage == "screening_matrix":
        return _job("discovery", record, {"horizons": "H2,H4,H6"}), f"{stage} took longest: how large is the grid?"
    return "cvntrade status", f"{stage or 'an unknown stage'} took longest: see where the run spent its time"


def _job(job: str, record: _Traded, sets: Mapping[str, str]) -> str:
    """The command that does again what the record's run did, but for what is changed here."""
    changed = whole_names(sets)
    kept = {name: value for name, value in record.run_settings.items() if name not in changed}
    pairs = (f"--set {shlex.quote(f'{_SHORT.get(name, name)}={value}')}" for name, value in (kept | changed).items())
    chosen = (
        f"--factor {shlex.quote(factor)} --variant {shlex.quote(name)}" for factor, name in record.variants.items()
    )
    return " ".join((f"cvntrade {job} --crypto {shlex.quote(record.crypto)}", *chosen, *pairs))


_SATURATED = Move(
    "cvntrade status",
    "see which runs are at it, and end what is in the way with `cvntrade stop RUN_ID`; on the machine itself `top` "
    "shows what holds memory and processors, and `df -h` what is full. Raise a memory limit in the chart's values when "
    "kills recur, clear old artifacts when the volume is over 85 %, run fewer at a time (CVN_MAX_CONCURRENT_RUNS) when "
    "the processors are over 90 %",
    "no OOM kill in 24 hours, and the volume under 70 %",
    "to the platform owner, at once",
)
_DEGRADED = Move(
    "cvntrade status",
    "see which runs failed and why; it prints the command that resumes just what failed",
    "more than 90 % of the last 7 days' runs succeed",
    "to the platform owner when the cause is the platform's",
)


def _useless(record: AnyRecord, _: Collection[Code]) -> Move:
    frequent = exceeds(record.buy_rate, _FREQUENT_BUY)
    return _other_labels(record, _further_targets(record) if frequent else _other_horizons(record))


def _other_labels(record: _Traded, change: _Change) -> Move:
    exit_when = "f1_buy lies more than 15 points above its baseline"
    return _rerun(record, [change], exit_when, "to the ML owner: then CVN_HPO_OBJECTIVE, and the features last")


def _further_targets(record: AnyRecord) -> _Change:
    target = record.execution.take_profit
    values = [each for each in _FURTHER_TARGETS if each > target]
    why = f"BUY labels are frequent (buy_rate {record.buy_rate:.6g}), so that the labels are at fault"
    if not values:
        return _Change({}, f"{why}; the furthest take-profit is reached (TP {target:g})")
    return _Change({"tp_range": _texts(values)}, f"{why}: further targets make them rarer")


def _other_horizons(record: _Traded) -> _Change:
    others = [hours for hours in HORIZON_HOURS if hours != record.execution.horizon_hours]
    return _Change({"horizons": _hours(others)}, "another horizon is another distribution of labels")


def _mismatch(record: _Traded, triggered: Collection[Code]) -> Move:
    """By how trades ended; every symptom that triggered moves the grid at once."""
    changes = [change(record) for code, change in _BY_EXIT.items() if code in triggered]
    return _rerun(record, changes, "Sortino ratio over 0, or sl_pct under 40 %", _ATTEMPTS)


def _by_exit(code: Code) -> Callable[[_Traded, object], Move]:
    return lambda record, _: _rerun(record, [_BY_EXIT[code](record)], _EXITS[code], _ATTEMPTS)


def _wider_stops(record: _Traded) -> _Change:
    stop = record.execution.stop_loss
    values = _WIDER_STOPS if stop < max(_WIDER_STOPS) else [each for each in _WIDEST_STOPS if each > stop]
    if not values:
        return _Change({}, f"the widest stop-loss is reached (SL {stop:g})")
    return _Change({"sl_range": _texts(values)}, "most trades end at the stop-loss: wider stops")


def _nearer_targets(record: _Traded) -> _Change:
    target = record.execution.take_profit
    values = _NEARER_TARGETS if target > min(_NEARER_TARGETS) else [each for each in _NEAREST_TARGETS if each < target]
    if not values:
        return _Change({}, f"the nearest take-profit is reached (TP {target:g})")
    return _Change({"tp_range": _texts(values)}, "few trades reach the take-profit: nearer targets")


def _longer_horizons(record: _Traded) -> _Change:
    longest, hours = max(HORIZON_HOURS), record.execution.horizon_hours
    if hours == longest:
        return _Change({}, f"the longest horizon is reached (H{longest})")
    return _Change({"horizons": _hours(range(hours + 1, longest + 1))}, "many trades run out of time: longer horizons")


def _no_candidates(record: AnyRecord, triggered: Collection[Code]) -> Move:
    """By the gate that refused every candidate; the cause first when several did."""
    everyone = [name for name, count in (record.refusals or {}).items() if count == record.tested]
    move = _by_gates(everyone, record, triggered)
    recurring = "try another crypto of the group; when the whole group has none, it may not be worth trading"
    return Move(move.command, move.because, _PASSES, f"{_ATTEMPTS}; {recurring}")


def _by_gates(refusing: Collection[str], record: AnyRecord, triggered: Collection[Code]) -> Move:
    for gate, play in _BY_GATE.items():
        if gate in refusing:
            move = play(record, triggered)
            return Move(move.command, f"refused by {gate}: {move.because}", move.exit_when, move.escalation)
    return _rerun(record, [], _PASSES, _ATTEMPTS)


def _trade_more(record: AnyRecord, triggered: Collection[Code]) -> Move:
    """Trade more often; where no trade earned its costs that would only lose, so other labels are tried instead."""
    if record.folds and record.folds[-1].trade_threshold > 1.0:
        other = _useless(record, triggered)
        why = f"no threshold earned its costs, and trading more often would not pay: {other.because}"
        return Move(other.command, why, _PASSES, _ATTEMPTS)
    sets = {"CVN_TRADE_THRESHOLD_METHOD": "f1_binary", "CVN_COOLDOWN_CANDLES": "0", "CVN_TREND_FILTER": "off"}
    why = "too few trades: the threshold to trade is too high, or entries are held back"
    return Move(_job("discovery", record, sets), why, _PASSES, _ATTEMPTS)


def _calmer(record: AnyRecord, _: Collection[Code]) -> Move:
    sets = {"CVN_TREND_FILTER": "ema_200"}
    why = "falls too deep: enter only above the long average"
    return Move(_job("discovery", record, sets), why, _PASSES, _ATTEMPTS)


def _more_periods(record: AnyRecord, _: Collection[Code]) -> Move:
    return _beyond(record, len(record.folds))


def _beyond(record: _Traded, n_folds: int) -> Move:
    """Test on more periods than so many."""
    if n_folds < _MANY_FOLDS:
        sets, why = {"n_folds": str(max(n_folds, 1) + 2)}, "more test periods say which one is to blame, and weigh more"
    else:
        sets, why = {"CVN_WALK_FORWARD_MODE": "rolling"}, "many periods are tested: let each learn from the recent past"
    return Move(_job("discovery", record, sets), why, "std_f1_buy at most 0.10", _ATTEMPTS)


def _tune_less(record: _Traded, _: object) -> Move:
    why = "the screening's untuned recipe did better on the same candles than the tuned one: tune less"
    command = _job("backtesting", record, {"hpo_trials": str(_FEWER_TRIALS)})
    return Move(command, why, "a screening gap of at most 0.30", _ATTEMPTS)


def _good(record: AnyRecord, triggered: Collection[Code]) -> Move:
    """What to do with a model that predicts: watch what passed, and mend what was refused."""
    if not record.passes:
        return _by_gates(record.refusing, record, triggered)
    return Move(
        _job("monitoring", record, {}),
        "every gate passed: judge it on candles that it has not seen",
        "it holds on new candles",
        "to the ML owner, who decides on promotion",
    )


def _rerun(record: _Traded, changes: Iterable[_Change], exit_when: str, escalation: str) -> Move:
    """Discover again on a changed grid; on a wide one when nothing else is left to change."""
    sets: dict[str, str] = {}
    reasons = []
    for change in changes:
        reasons.append(change.why)
        if change.sets and _leaves_a_point({**sets, **change.sets}):
            sets |= change.sets
    if not sets:
        sets = dict(_WIDE_GRID)
        reasons.append("a wider grid: more horizons, wider ranges")
    return Move(_job("discovery", record, sets), "; ".join(reasons), exit_when, escalation)


def _leaves_a_point(sets: Mapping[str, str]) -> bool:
    """Whether some target is at least as far as some stop: the others are left out of a grid."""
    if "sl_range" not in sets or "tp_range" not in sets:
        return True
    stops, targets = ([float(each) for each in sets[name].split(",")] for name in ("sl_range", "tp_range"))
    return max(targets) >= min(stops)


def _texts(multiples: Sequence[float]) -> str:
    return ",".join(str(each) for each in multiples)


def _hours(hours: Iterable[int]) -> str:
    return ",".join(f"H{each}" for each in hours)


_BY_EXIT: Mapping[Code, Callable[[_Traded], _Change]] = {
    Code.SL_TOO_TIGHT: _wider_stops,
    Code.TP_TOO_AMBITIOUS: _nearer_targets,
    Code.HORIZON_TOO_SHORT: _longer_horizons,
}
_EXITS: Mapping[Code, str] = {
    Code.SL_TOO_TIGHT: "sl_pct under 40 %",
    Code.TP_TOO_AMBITIOUS: "tp_pct at least 20 %",
    Code.HORIZON_TOO_SHORT: "timeout_pct at most 40 %",
}
# Causes first: with too few trades nothing else can be judged, and without a model no execution helps.
_BY_GATE: Mapping[str, Callable[[AnyRecord, Collection[Code]], Move]] = {
    "n_trades": _trade_more,
    "f1_delta": _useless,
    "screening_gap": _tune_less,
    "std_f1": _more_periods,
    "sortino": _mismatch,
    "rolling_sortino": _mismatch,
    "drawdown": _calmer,
    "dsr": _more_periods,
}
_PLAYS: Mapping[Code, Callable[[AnyRecord, Collection[Code]], Move]] = {
    Code.INFRA_SATURATED: lambda *_: _SATURATED,
    Code.PIPELINE_DEGRADED: lambda *_: _DEGRADED,
    Code.ML_USELESS: _useless,
    Code.ML_MARGINAL: _useless,
    Code.ML_UNSTABLE: _more_periods,
    Code.SCREENING_OVERFIT: _tune_less,
    **{code: _by_exit(code) for code in _BY_EXIT},
    Code.EXECUTION_MISMATCH: _mismatch,
    Code.NO_CANDIDATES: _no_candidates,
    Code.ML_EXPLOITABLE: _good,
    Code.ML_SOLID: _good,
}
# With the number of test periods.
_USUAL: Mapping[Code, Callable[[_Traded, int], Move]] = {
    Code.INFRA_SATURATED: lambda *_: _SATURATED,
    Code.PIPELINE_DEGRADED: lambda *_: _DEGRADED,
    Code.ML_USELESS: lambda usual, _: _other_labels(usual, _other_horizons(usual)),
    Code.ML_UNSTABLE: _beyond,
    Code.SCREENING_OVERFIT: _tune_less,
    **{code: _by_exit(code) for code in _BY_EXIT},
    Code.EXECUTION_MISMATCH: lambda usual, _: _mismatch(usual, ()),
}
