"""The criteria of the diagnosis codes: whether each triggers on a record, and by which numbers.

Thresholds are those of the manual's §7, and so is each one's side: what lies exactly on a threshold does not trigger.
That of lost pods is that of memory kills: a run that finds no node, and is tried as often as runs are, comes to more.
A criterion whose inputs are unknown neither triggers nor passes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from cvntrade_assets.operations.correlation_data import AnyRecord
from cvntrade_assets.operations.taxonomy import Code
from cvntrade_assets.trading.gates import exceeds

EXPLOITABLE_DELTA = 0.05
SOLID_DELTA = 0.10
UNSTABLE_STD = 0.10
TIGHT_SL = 0.50
AMBITIOUS_TP = 0.20
SHORT_TIMEOUT = 0.40
OVERFIT_GAP = 0.30
DEGRADED_SUCCESS = 0.70
SATURATED_OOM_KILLS = 2
SATURATED_PODS_LOST = 2
SATURATED_PVC = 0.85
SATURATED_CPU = 0.90
GOOD_SORTINO = 0.5

# Digits that are shown: differences of decimals carry noise beyond them.
_DIGITS = 9


@dataclass(frozen=True)
class Judged:
    """Whether a criterion triggered; None when nobody can know. With the numbers, or what was lacking."""

    triggered: bool | None
    said: str


def judge(record: AnyRecord) -> dict[Code, Judged]:
    """Every code's criterion, judged on one record."""
    return {code: criterion(record) for code, criterion in _CRITERIA.items()}


def sortino_step(sortino: float | None) -> str:
    """What the decision tree says of a Sortino ratio."""
    if sortino is None:
        return "sortino: undefined: whether execution suits the model is unknown"
    said = f"sortino: {_number(sortino)}"
    if exceeds(0.0, sortino):
        return f"{said}, below 0: {Code.EXECUTION_MISMATCH}"
    if exceeds(sortino, GOOD_SORTINO):
        return f"{said}, over {GOOD_SORTINO}: the strategy is fine"
    return f"{said}, from 0 to {GOOD_SORTINO}: not lost, and not good yet"


def _model(record: AnyRecord, *, over: float, up_to: float) -> Judged:
    delta = record.f1_buy_delta
    numbers = f"{record.f1_buy:.6g} beside {record.baseline_f1_buy:.6g}, {_points(delta)}"
    never = "BUY is never said: " if record.precision_buy is None else ""
    return Judged(exceeds(delta, over) and not exceeds(delta, up_to), never + numbers)


def _unstable(record: AnyRecord) -> Judged:
    return _over("std_f1_buy", record.std_f1_buy, UNSTABLE_STD)


def _overfit(record: AnyRecord) -> Judged:
    if record.screening_gap is None:
        names = ("screening_f1_buy", "last_fold_f1_buy")
        return _lacking(" and ".join(name for name in names if getattr(record, name) is None))
    numbers = f"screening_f1_buy {record.screening_f1_buy:.6g}, last_fold_f1_buy {record.last_fold_f1_buy:.6g}"
    said = f"{numbers}: a gap of {_number(record.screening_gap)}, limit {OVERFIT_GAP:g}"
    return Judged(exceeds(record.screening_gap, OVERFIT_GAP), said)


def _mismatch(record: AnyRecord) -> Judged:
    delta = record.f1_buy_delta
    if not exceeds(delta, EXPLOITABLE_DELTA):
        return Judged(False, f"F1 is {_points(delta)}: execution is not the question")
    if record.sortino is None:
        return _lacking("sortino")
    said = f"F1 is {_points(delta)}, and sortino {_number(record.sortino)} (limit 0)"
    return Judged(exceeds(0.0, record.sortino), said)


def _share(record: AnyRecord, *, name: str, limit: float, below: bool = False) -> Judged:
    value = getattr(record, name)
    if value is None:
        return _lacking(name)
    beyond = exceeds(limit, value) if below else exceeds(value, limit)
    return Judged(beyond, f"{name} {_percent(value)} ({'at least' if below else 'at most'} {_percent(limit)})")


def _degraded(record: AnyRecord) -> Judged:
    rate = record.platform.success_rate
    if rate is None:
        return _lacking("success_rate")
    said = f"{_percent(rate)} of runs succeeded (at least {_percent(DEGRADED_SUCCESS)})"
    return Judged(exceeds(DEGRADED_SUCCESS, rate), said)


def _saturated(record: AnyRecord) -> Judged:
    platform = record.platform
    limits = {"oom_kills": SATURATED_OOM_KILLS, "pvc_used": SATURATED_PVC, "cpu_used": SATURATED_CPU}
    if platform.pods_lost is not None:
        # Not among the manual's numbers, and records of runs without pods do not have it.
        limits["pods_lost"] = SATURATED_PODS_LOST
    parts = {name: _over(name, getattr(platform, name), limit) for name, limit in limits.items()}
    found = [part.said for part in parts.values() if part.triggered]
    if found:
        return Judged(True, "; ".join(found))
    unknown = [name for name, part in parts.items() if part.triggered is None]
    if unknown:
        return _lacking(", ".join(unknown))
    return Judged(False, "; ".join(part.said for part in parts.values()))


def _no_candidates(record: AnyRecord) -> Judged:
    if record.passed is None:
        return Judged(False, "not a complete run")
    said = f"{record.passed} of {record.tested} tested candidates passed, of {record.screened} screened points"
    by_gate = ", ".join(f"{name} refused {count}" for name, count in sorted((record.refusals or {}).items()))
    return Judged(record.passed == 0, f"{said}: {by_gate}" if by_gate else said)


def _over(name: str, value: float | None, limit: float) -> Judged:
    if value is None:
        return _lacking(name)
    return Judged(exceeds(value, limit), f"{name} {_number(value)}, limit {limit:g}")


def _lacking(name: str) -> Judged:
    return Judged(None, f"without {name}")


def _number(value: float) -> str:
    return f"{round(value, _DIGITS):.6g}"


def _percent(share: float) -> str:
    return f"{round(100 * share, _DIGITS - 2):.6g} %"


def _points(delta: float) -> str:
    return f"{round(100 * delta, _DIGITS - 2):+.6g} points"


_CRITERIA: Mapping[Code, Callable[[AnyRecord], Judged]] = {
    Code.INFRA_SATURATED: _saturated,
    Code.PIPELINE_DEGRADED: _degraded,
    Code.ML_USELESS: partial(_model, over=float("-inf"), up_to=0.0),
    Code.ML_MARGINAL: partial(_model, over=0.0, up_to=EXPLOITABLE_DELTA),
    Code.ML_UNSTABLE: _unstable,
    Code.SCREENING_OVERFIT: _overfit,
    Code.SL_TOO_TIGHT: partial(_share, name="sl_pct", limit=TIGHT_SL),
    Code.TP_TOO_AMBITIOUS: partial(_share, name="tp_pct", limit=AMBITIOUS_TP, below=True),
    Code.HORIZON_TOO_SHORT: partial(_share, name="timeout_pct", limit=SHORT_TIMEOUT),
    Code.EXECUTION_MISMATCH: _mismatch,
    Code.NO_CANDIDATES: _no_candidates,
    Code.ML_EXPLOITABLE: partial(_model, over=EXPLOITABLE_DELTA, up_to=SOLID_DELTA),
    Code.ML_SOLID: partial(_model, over=SOLID_DELTA, up_to=float("inf")),
}
