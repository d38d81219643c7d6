"""The signals of one crypto that its newest evaluations and its drift report give: one function each."""

from collections.abc import Mapping

import pandas as pd

from cvntrade_assets.operations.facts import CryptoFacts, EvaluationFacts
from cvntrade_assets.operations.limits import Limit, Measure, Side, number, percent, points, unknown
from cvntrade_assets.operations.signals import Level, Observation, Scalar
from cvntrade_assets.operations.taxonomy import Code
from cvntrade_assets.settings import Settings
from cvntrade_assets.trading.gates import exceeds

_DELTA = Measure(
    "f1_buy_delta_vs_baseline",
    (
        Limit(Level.CRITICAL, Side.AT_MOST, "CVN_SIGNAL_F1_DELTA_CRITICAL"),
        Limit(Level.WARNING, Side.LESS_THAN, "CVN_SIGNAL_F1_DELTA_WARNING"),
    ),
    points,
)
_GAP = Measure(
    "screening_testing_gap",
    (
        Limit(Level.CRITICAL, Side.MORE_THAN, "CVN_SIGNAL_GAP_CRITICAL"),
        Limit(Level.WARNING, Side.MORE_THAN, "CVN_SIGNAL_GAP_WARNING"),
    ),
    number,
)
_STD = Measure(
    "std_f1_buy",
    (
        Limit(Level.CRITICAL, Side.MORE_THAN, "CVN_SIGNAL_STD_F1_CRITICAL"),
        Limit(Level.WARNING, Side.AT_LEAST, "CVN_SIGNAL_STD_F1_WARNING"),
    ),
    number,
)
_SORTINO = Measure(
    "sortino",
    (
        Limit(Level.CRITICAL, Side.LESS_THAN, "CVN_SIGNAL_SORTINO_CRITICAL"),
        Limit(Level.WARNING, Side.AT_MOST, "CVN_SIGNAL_SORTINO_WARNING"),
    ),
    number,
)
_SL = Measure(
    "sl_pct",
    (
        Limit(Level.CRITICAL, Side.MORE_THAN, "CVN_SIGNAL_SL_CRITICAL"),
        Limit(Level.WARNING, Side.AT_LEAST, "CVN_SIGNAL_SL_WARNING"),
    ),
    percent,
)
_TIMEOUT = Measure(
    "timeout_pct",
    (
        Limit(Level.CRITICAL, Side.MORE_THAN, "CVN_SIGNAL_TIMEOUT_CRITICAL"),
        Limit(Level.WARNING, Side.AT_LEAST, "CVN_SIGNAL_TIMEOUT_WARNING"),
    ),
    percent,
)
_NEGATIVE = Measure("negative_sortino_runs", (Limit(Level.WARNING, Side.AT_LEAST, "CVN_STATE_SORTINO_RUNS"),), number)

_BY_DELTA = (Code.ML_USELESS, Code.ML_MARGINAL, Code.ML_EXPLOITABLE, Code.ML_SOLID)
PLAYBOOKS: Mapping[str, tuple[Code, ...]] = {
    "f1_buy_delta_vs_baseline": _BY_DELTA,
    "screening_testing_gap": (Code.SCREENING_OVERFIT,),
    "std_f1_buy": (Code.ML_UNSTABLE,),
    # Where the model is worth nothing, no execution helps.
    "sortino": (Code.EXECUTION_MISMATCH, *_BY_DELTA),
    "negative_sortino_runs": (Code.EXECUTION_MISMATCH, *_BY_DELTA),
    "sl_pct": (Code.SL_TOO_TIGHT,),
    "timeout_pct": (Code.HORIZON_TOO_SHORT,),
}
"""Whose playbook a signal follows: the first of these codes that triggered on the evaluation."""

NEXT_COMMAND = "next_command"
"""The input of an observation that holds the playbook's command for the evaluation behind it."""

_NEVER = "it was never evaluated on the market in force"


def f1_buy_delta_vs_baseline(facts: CryptoFacts, now: pd.Timestamp, settings: Settings) -> Observation:
    """f1_buy over that of always saying BUY."""
    found = facts.evaluation
    if found is None:
        return unknown(_DELTA.signal, facts.crypto, _NEVER, now)
    delta = found.f1_buy - found.baseline_f1_buy
    what = f"f1_buy {number(found.f1_buy)} beside {number(found.baseline_f1_buy)} of always saying BUY, {points(delta)}"
    inputs: dict[str, Scalar] = {"f1_buy": found.f1_buy, "baseline_f1_buy": found.baseline_f1_buy}
    return _DELTA.observe(facts.crypto, delta, what, settings, now, inputs | _about(found, _DELTA.signal))


def screening_testing_gap(facts: CryptoFacts, now: pd.Timestamp, settings: Settings) -> Observation:
    """screening_f1_buy over last_fold_f1_buy: the same metric on the same period."""
    found = facts.evaluation
    if found is None:
        return unknown(_GAP.signal, facts.crypto, _NEVER, now)
    screened, tested = found.screening_f1_buy, found.last_fold_f1_buy
    inputs: dict[str, Scalar] = {"screening_f1_buy": screened, "last_fold_f1_buy": tested}
    if screened is None or tested is None:
        lacking = " and ".join(name for name, value in inputs.items() if value is None)
        return unknown(_GAP.signal, facts.crypto, f"the newest evaluation has no {lacking}", now, inputs)
    what = f"screening_f1_buy {number(screened)} and last_fold_f1_buy {number(tested)}, a gap of"
    gap = screened - tested
    return _GAP.observe(facts.crypto, gap, f"{what} {number(gap)}", settings, now, inputs | _about(found, _GAP.signal))


def std_f1_buy(facts: CryptoFacts, now: pd.Timestamp, settings: Settings) -> Observation:
    """Deviation of f1_buy over the folds."""
    value = None if facts.evaluation is None else facts.evaluation.std_f1_buy
    what = "f1_buy over the folds deviates by"
    return _plain(_STD, facts, value, what, "it was tested on fewer than two folds", now, settings)


def sortino(facts: CryptoFacts, now: pd.Timestamp, settings: Settings) -> Observation:
    """Annualised Sortino ratio of the backtest, net of costs."""
    value = None if facts.evaluation is None else facts.evaluation.sortino
    return _plain(_SORTINO, facts, value, "Sortino ratio", "no trades, or no candle lost anything", now, settings)


def sl_pct(facts: CryptoFacts, now: pd.Timestamp, settings: Settings) -> Observation:
    """Share of trades that the stop-loss ended."""
    value = None if facts.evaluation is None else facts.evaluation.sl_pct
    return _plain(_SL, facts, value, "trades that the stop-loss ended", "it made no trades", now, settings)


def timeout_pct(facts: CryptoFacts, now: pd.Timestamp, settings: Settings) -> Observation:
    """Share of trades that the horizon ended."""
    value = None if facts.evaluation is None else facts.evaluation.timeout_pct
    return _plain(_TIMEOUT, facts, value, "trades that the horizon ended", "it made no trades", now, settings)


def negative_sortino_runs(facts: CryptoFacts, now: pd.Timestamp, settings: Settings) -> Observation:
    """How many of the newest evaluations in a row have a negative Sortino ratio; an undefined one ends the row."""
    found = facts.evaluation
    if found is None or not found.recent_sortinos:
        return unknown(_NEGATIVE.signal, facts.crypto, _NEVER, now)
    row = 0
    for ratio in found.recent_sortinos:
        if ratio is None or not exceeds(0.0, ratio):
            break
        row += 1
    what = f"{row} of the newest {len(found.recent_sortinos)} evaluations in a row have a negative Sortino ratio"
    return _NEGATIVE.observe(facts.crypto, float(row), what, settings, now, _about(found, _NEGATIVE.signal))


def drift(facts: CryptoFacts, now: pd.Timestamp, settings: Settings) -> Observation:
    """What the newest drift report came to; its own limits have judged it. An old one says nothing of today."""
    found = facts.drift
    if found is None:
        return unknown("drift", facts.crypto, "there is no drift report on the market in force", now)
    reason = f"{found.reason} (report of {found.recorded_at:%Y-%m-%d %H:%M} UTC)"
    oldest = settings.number("CVN_DRIFT_REPORT_DAYS")
    if now - found.recorded_at > pd.Timedelta(days=oldest):
        reason = f"the newest report is older than CVN_DRIFT_REPORT_DAYS={oldest:g} days: {reason}"
        return unknown("drift", facts.crypto, reason, now)
    if found.share is None:
        return unknown("drift", facts.crypto, reason, now)
    return Observation("drift", facts.crypto, found.share, found.level, reason, now)


def _plain(
    measure: Measure,
    facts: CryptoFacts,
    value: float | None,
    what: str,
    undefined: str,
    now: pd.Timestamp,
    settings: Settings,
) -> Observation:
    """A value that stands in the evaluation as it is; `undefined` says why one that has none may have none."""
    found = facts.evaluation
    if found is None:
        return unknown(measure.signal, facts.crypto, _NEVER, now)
    about = _about(found, measure.signal) | {"n_trades": found.n_trades}
    if value is None:
        return unknown(measure.signal, facts.crypto, f"undefined in the newest evaluation: {undefined}", now, about)
    said = f"{what} {measure.spell(value)} ({found.n_trades} trades)"
    return measure.observe(facts.crypto, value, said, settings, now, about)


def _about(found: EvaluationFacts, signal: str) -> dict[str, Scalar]:
    """Which evaluation it is, and the playbook's command for it."""
    about: dict[str, Scalar] = {"evaluated_at": found.recorded_at.isoformat(), "primary_code": found.primary_code}
    code = next((code for code in PLAYBOOKS[signal] if code in found.next_commands), None)
    return about if code is None else about | {NEXT_COMMAND: found.next_commands[code], "code": str(code)}
