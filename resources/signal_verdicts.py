"""Signals and the global state as Dagster shows them: checks that are red or green, numbers over time, and a table.

What a sensor found and what was materialised by hand is shown alike.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pandas as pd

from cvntrade_assets.market.shown import shown_market
from cvntrade_assets.operations.global_state import State, told
from cvntrade_assets.operations.signals import SIGNALS, Level, Observation, Scope
from resources.signal_store import StoredState, in_json

GOLDEN_SIGNALS, GLOBAL_STATE = "golden_signals", "global_state"
"""The assets: one partition a crypto, and one for the platform."""

STATE_CHECK = "state_is_green"
CRYPTO_SIGNALS = tuple(name for name, signal in SIGNALS.items() if signal.scope is Scope.CRYPTO)
PLATFORM_SIGNALS = tuple(name for name, signal in SIGNALS.items() if signal.scope is not Scope.CRYPTO)
"""Those of the platform, and those of its jobs, whose worst counts."""

_WORST_FIRST = (Level.CRITICAL, Level.UNKNOWN, Level.WARNING, Level.OK)


@dataclass(frozen=True)
class SignalVerdict:
    """One check's verdict.

    Attributes:
        check: Its name.
        level: What it comes to: critical fails as an error, warning and unknown as a warning.
        said: Why, a sentence.
        metadata: Numbers that the UI shows beside it.
    """

    check: str
    level: Level
    said: str
    metadata: Mapping[str, Any]

    @property
    def passed(self) -> bool:
        """Whether all is well: what is unknown is not."""
        return self.level is Level.OK

    @property
    def severity(self) -> dg.AssetCheckSeverity:
        """How bad a failure is."""
        return dg.AssetCheckSeverity.ERROR if self.level is Level.CRITICAL else dg.AssetCheckSeverity.WARN

    def result(self) -> dg.AssetCheckResult:
        """As an asset that judges itself gives it."""
        return dg.AssetCheckResult(
            check_name=self.check,
            passed=self.passed,
            severity=self.severity,
            description=self.said,
            metadata=dict(self.metadata),
        )


def spec_texts(signals: Iterable[str]) -> dict[str, str]:
    """What each check is about, by its name."""
    return {name: f"{SIGNALS[name].meaning}: critical is an error, warning and unknown a warning" for name in signals}


def crypto_verdicts(observations: Iterable[Observation], crypto: str) -> list[SignalVerdict]:
    """One for every signal of cryptos, in their order; what was not observed is unknown."""
    found = {each.signal: each for each in observations if each.subject == crypto}
    return [_verdict(name, [found[name]] if name in found else [], crypto) for name in CRYPTO_SIGNALS]


def platform_verdicts(observations: Sequence[Observation], state: StoredState | None) -> list[SignalVerdict]:
    """The state's, and one for every signal of the platform and of its jobs.

    Args:
        observations: Of any signals.
        state: As it counts now; None when there is none, or it is too old.
    """
    signals = [
        _verdict(name, [each for each in observations if each.signal == name], "the platform")
        for name in PLATFORM_SIGNALS
    ]
    return [_state_verdict(state), *signals]


def _verdict(name: str, found: Sequence[Observation], of: str) -> SignalVerdict:
    if not found:
        return SignalVerdict(name, Level.UNKNOWN, f"{name} of {of} was not observed", {"level": str(Level.UNKNOWN)})
    ordered = sorted(found, key=lambda each: (_WORST_FIRST.index(each.level), each.subject))
    worst = ordered[0]
    said = [each.reason for each in ordered if each.level is worst.level]
    metadata: dict[str, Any] = {"level": str(worst.level), "observed_at": worst.observed_at.isoformat()}
    if worst.value is not None:
        metadata["value"] = float(worst.value)
    if worst.subject and len(found) > 1:
        metadata["levels"] = dg.MetadataValue.json({each.subject: str(each.level) for each in ordered})
    elif worst.inputs:
        metadata["inputs"] = dg.MetadataValue.json({name: in_json(value) for name, value in worst.inputs.items()})
    return SignalVerdict(name, worst.level, "; ".join(said), metadata)


_STATE_LEVELS: Mapping[State, Level] = {
    State.GREEN: Level.OK,
    State.YELLOW: Level.WARNING,
    State.ORANGE: Level.CRITICAL,
    State.RED: Level.CRITICAL,
}


def _state_verdict(state: StoredState | None) -> SignalVerdict:
    if state is None:
        said = "no global state was computed lately: does the sensor golden_signals_watch run?"
        return SignalVerdict(STATE_CHECK, Level.UNKNOWN, said, {"level": str(Level.UNKNOWN)})
    metadata = {"state": str(state.state), "raw_state": str(state.raw_state), "since": state.since.isoformat()}
    said = f"{state.state} since {state.since:%Y-%m-%d %H:%M} UTC: {told(state.reasons, of=state.state)}"
    return SignalVerdict(STATE_CHECK, _STATE_LEVELS[state.state], said, metadata)


def crypto_page(observations: Iterable[Observation], crypto: str, market: str) -> dict[str, Any]:
    """What the crypto's partition shows: every value, which the UI plots over time, and a table of all."""
    found = [each for each in observations if each.subject == crypto]
    return {"market": shown_market(market), **_values(found), "signals": dg.MetadataValue.md(_table(found))}


def state_page(observations: Iterable[Observation], state: StoredState | None) -> dict[str, Any]:
    """What the platform's page shows: the state with its reasons, every value, and a table of all."""
    found = [each for each in observations if SIGNALS[each.signal].scope is not Scope.CRYPTO]
    values = _values(each for each in found if SIGNALS[each.signal].scope is Scope.PLATFORM)
    table = dg.MetadataValue.md(_table(found))
    if state is None:
        return {"state": "unknown", **values, "signals": table}
    return {
        "state": str(state.state),
        # GREEN is 0: the UI plots numbers over time.
        "state_rank": state.state.rank,
        "since": state.since.isoformat(),
        "market": shown_market(state.market),
        "as_of": state.as_of.isoformat(),
        "reasons": dg.MetadataValue.md(_reasons(state)),
        **values,
        "signals": table,
    }


def _values(observations: Iterable[Observation]) -> dict[str, Any]:
    return {each.signal: float(each.value) for each in observations if each.value is not None}


def _table(observations: Sequence[Observation]) -> str:
    rows = [
        (
            f"{each.signal} {each.subject}".strip() if SIGNALS[each.signal].scope is Scope.JOB else each.signal,
            "unknown" if each.value is None else f"{each.value:.4g} {SIGNALS[each.signal].unit}".strip(),
            str(each.level),
            each.reason,
        )
        for each in sorted(observations, key=lambda each: _WORST_FIRST.index(each.level))
    ]
    if not rows:
        return "Nothing was observed."
    return _as_of(max(each.observed_at for each in observations), _markdown(("signal", "value", "level", "why"), rows))


def _reasons(state: StoredState) -> str:
    rows = [(str(each.state), each.signal, each.subject, each.text) for each in state.reasons]
    table = _markdown(("state", "signal", "subject", "why"), rows) if rows else "Nothing is wrong."
    return _as_of(state.computed_at, table)


def _as_of(moment: pd.Timestamp, text: str) -> str:
    """With the moment that it is true of: a page stays as it is until something changes."""
    return f"As of {moment:%Y-%m-%d %H:%M} UTC:\n\n{text}"


def _markdown(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
