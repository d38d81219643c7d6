"""The global state of the manual's §0: GREEN, YELLOW, ORANGE or RED, from observations, with every reason.

It worsens at once and improves only after several better looks. What is missing, unknown or old is never GREEN, and
what was bad when it was last seen is no better for being out of sight.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import pandas as pd

from cvntrade_assets.operations.signals import PLATFORM, SIGNALS, Level, Observation, Scope
from cvntrade_assets.operations.staleness import is_stale
from cvntrade_assets.settings import Settings

_LAST_KNOWN = "as last known: "


class State(StrEnum):
    """How things stand as a whole; the order is from best to worst, so that `max` of several is the worst."""

    GREEN = "GREEN"
    YELLOW = "YELLOW"
    ORANGE = "ORANGE"
    RED = "RED"

    @property
    def rank(self) -> int:
        """From 0, which is best, upwards."""
        return _RANKS[self.value]

    # Text is compared by alphabet, in which YELLOW comes last.
    def __lt__(self, other: str) -> bool:
        return self.rank < State(other).rank

    def __le__(self, other: str) -> bool:
        return self.rank <= State(other).rank

    def __gt__(self, other: str) -> bool:
        return self.rank > State(other).rank

    def __ge__(self, other: str) -> bool:
        return self.rank >= State(other).rank


_RANKS: Mapping[str, int] = {name: rank for rank, name in enumerate(State.__members__)}


@dataclass(frozen=True)
class Reason:
    """Why the state is not GREEN.

    Attributes:
        state: What this alone makes of it.
        text: In words.
        signal: The signal that says so; empty when none does.
        subject: The crypto or job that it is about; empty for the platform.
    """

    state: State
    text: str
    signal: str
    subject: str


@dataclass(frozen=True)
class RawState:
    """The state of one look, taken alone.

    Attributes:
        state: The worst that a reason makes of it.
        reasons: Worst first; none when it is GREEN.
    """

    state: State
    reasons: tuple[Reason, ...]


def worst(states: Iterable[State]) -> State:
    """The worst of some states; GREEN of none."""
    return max(states, default=State.GREEN)


def judge_state(
    observations: Iterable[Observation],
    *,
    cryptos: Mapping[str, tuple[str, ...]],
    now: pd.Timestamp,
    settings: Settings,
    before: Sequence[Reason] = (),
) -> RawState:
    """The state that observations amount to.

    Args:
        observations: What is known of the signals; those of other cryptos do not count.
        cryptos: Every crypto of the universe, and its groups.
        now: The wall clock, UTC.
        settings: With the limits.
        before: Reasons of the look before this one: what was worse than YELLOW then and cannot be seen now holds on.
    """
    known = [each for each in observations if SIGNALS[each.signal].scope is not Scope.CRYPTO or each.subject in cryptos]
    found = [*_missing(known, cryptos)]
    for each in known:
        if each.signal in _RULES:
            found += _reasons(each, cryptos.get(each.subject, ()), now, settings)
    found += _out_of_sight(before, known, cryptos)
    reasons = tuple(sorted(found, key=lambda reason: (-reason.state.rank, _PLACES.get(reason.signal, 0))))
    return RawState(worst(reason.state for reason in reasons), reasons)


def held_state(raw: State, earlier_raw: Sequence[State], hold: int) -> State:
    """The state that is shown: the worst of so many looks, the newest included.

    Args:
        raw: Of this look.
        earlier_raw: Of the looks before it, newest first.
        hold: How many looks count, at least 1.
    """
    if hold < 1:
        raise ValueError(f"the state must hold for at least 1 look, and not for {hold}")
    return worst((raw, *earlier_raw[: hold - 1]))


def shown_reasons(raw: RawState, held: State, hold: int) -> tuple[Reason, ...]:
    """The reasons of a look, and before them why the shown state is worse than they are."""
    if held <= raw.state:
        return raw.reasons
    text = f"{held} within the last {hold} looks, which have to be better before the state is (now {raw.state})"
    return (Reason(held, text, "", PLATFORM), *raw.reasons)


def headline(reasons: Sequence[Reason], at_most: int = 2) -> str:
    """The signals that the reasons are about, the worst first, in a few words."""
    signals = list(dict.fromkeys(reason.signal for reason in reasons if reason.signal))
    if not signals:
        return reasons[0].text if reasons else "nothing is wrong"
    hidden = len(signals) - at_most
    *first, last = (*signals[:at_most], *([f"{hidden} more"] if hidden > 0 else []))
    return f"{', '.join(first)} and {last}" if first else last


def told(reasons: Sequence[Reason], at_most: int = 5, *, of: State | None = None) -> str:
    """The reasons in one line, those of many cryptos or jobs together, each with what it makes of the state.

    Args:
        reasons: The worst first.
        at_most: So many are told.
        of: The state that is named already, and not said again with each of its reasons.
    """
    groups = told_together(reasons)
    lines = [f"{'' if group[0].state is of else f'{group[0].state}: '}{_told(group)}" for group in groups]
    hidden = len(lines) - at_most
    return "; ".join(lines if hidden <= 0 else [*lines[:at_most], f"and {hidden} more"]) or "nothing is wrong"


def told_together(reasons: Iterable[Reason]) -> list[list[Reason]]:
    """What is told together: a signal of several cryptos or jobs, and what one cause leaves unknown of the platform."""
    groups: dict[tuple[State, str], list[Reason]] = {}
    for reason in reasons:
        groups.setdefault((reason.state, _unknown_because(reason) or reason.signal), []).append(reason)
    return list(groups.values())


def _unknown_because(reason: Reason) -> str:
    """Why a signal of the platform is unknown; empty when it is not."""
    head, _, cause = reason.text.partition(f"{reason.signal} is {Level.UNKNOWN}: ")
    return "" if head or reason.subject else cause


def _told(group: Sequence[Reason]) -> str:
    if len(group) == 1:
        return group[0].text
    *first, last = dict.fromkeys(reason.signal for reason in group)
    if first:
        return f"{', '.join(first)} and {last} are {Level.UNKNOWN}: {_unknown_because(group[0])}"
    named = ", ".join(dict.fromkeys(reason.subject for reason in group[:3]))
    more = f" and {len(group) - 3} more" if len(group) > 3 else ""
    return f"{group[0].signal} of {named}{more}; the first: {group[0].text}"


def _infra(level: Level, _groups: Collection[str], _settings: Settings) -> State:
    return {Level.OK: State.GREEN, Level.CRITICAL: State.RED}.get(level, State.YELLOW)


def _success(level: Level, _groups: Collection[str], _settings: Settings) -> State:
    return {Level.OK: State.GREEN, Level.CRITICAL: State.ORANGE}.get(level, State.YELLOW)


def _only_critical(level: Level, _groups: Collection[str], _settings: Settings) -> State:
    return {Level.CRITICAL: State.ORANGE, Level.UNKNOWN: State.YELLOW}.get(level, State.GREEN)


def _overdue(level: Level, groups: Collection[str], settings: Settings) -> State:
    if level is Level.CRITICAL and not is_core(groups, settings):
        return State.YELLOW
    return _only_critical(level, groups, settings)


def _any(level: Level, _groups: Collection[str], _settings: Settings) -> State:
    return State.GREEN if level is Level.OK else State.YELLOW


_RULES = {
    "infra_health": _infra,
    "pipeline_success_rate": _success,
    "pass_rate": _only_critical,
    "barren_days": _only_critical,
    "model_overdue": _overdue,
    "negative_sortino_runs": _any,
    "useful_run_age": _any,
}
STATE_SIGNALS: tuple[str, ...] = tuple(_RULES)
"""The signals that the state is made of."""

_PLACES = {name: place for place, name in enumerate(STATE_SIGNALS)}


def is_core(groups: Collection[str], settings: Settings) -> bool:
    """Whether a crypto of these groups is in a core group."""
    return not set(groups).isdisjoint(settings.text("CVN_CORE_GROUPS").split(","))


def _reasons(
    observation: Observation, groups: Collection[str], now: pd.Timestamp, settings: Settings
) -> Iterator[Reason]:
    """What an observation says by its level, and by its age. An old one counts for both: bad news does not expire."""
    signal, subject = observation.signal, observation.subject
    state = _RULES[signal](observation.level, groups, settings)
    named = f"{signal} of {subject}" if subject else signal
    if state is not State.GREEN:
        yield Reason(state, f"{named} is {observation.level}: {observation.reason}", signal, subject)
    if is_stale(observation.observed_at, now, settings):
        limit, age = settings.number("CVN_STATE_STALE_MINUTES"), (now - observation.observed_at).total_seconds() / 60
        text = f"{named} was observed {age:.1f} minutes ago, more than {limit:g} (CVN_STATE_STALE_MINUTES)"
        yield Reason(State.YELLOW, text, signal, subject)


def _missing(observations: Collection[Observation], cryptos: Collection[str]) -> Iterator[Reason]:
    """What should have been observed and was not."""
    seen = {(each.signal, each.subject) for each in observations}
    for signal in STATE_SIGNALS:
        if SIGNALS[signal].scope is Scope.JOB:
            if not any(name == signal for name, _ in seen):
                yield Reason(State.YELLOW, f"{signal} is missing: no job ran, or none could be asked", signal, PLATFORM)
            continue
        subjects = cryptos if SIGNALS[signal].scope is Scope.CRYPTO else (PLATFORM,)
        for subject in subjects:
            if (signal, subject) not in seen:
                named = f"{signal} of {subject}" if subject else signal
                yield Reason(State.YELLOW, f"{named} is missing: it was not observed", signal, subject)
    if not cryptos:
        yield Reason(State.YELLOW, "the universe has no crypto, or could not be read", "", PLATFORM)


def _out_of_sight(
    before: Iterable[Reason], observations: Collection[Observation], cryptos: Collection[str]
) -> Iterator[Reason]:
    """What was worse than YELLOW, is still expected, and cannot be seen: it was not seen to improve."""
    levels = {(each.signal, each.subject): each.level for each in observations}
    observed = {signal for signal, _ in levels}
    for reason in before:
        if reason.state <= State.YELLOW or reason.signal not in _RULES:
            continue
        scope = SIGNALS[reason.signal].scope
        if scope is Scope.CRYPTO and reason.subject not in cryptos:
            continue
        # A job whose last run slid out of the window has nothing to show any more; unless no job has.
        gone = scope is Scope.JOB and reason.signal in observed
        level = levels.get((reason.signal, reason.subject), Level.OK if gone else Level.UNKNOWN)
        if level is Level.UNKNOWN:
            text = reason.text if reason.text.startswith(_LAST_KNOWN) else f"{_LAST_KNOWN}{reason.text}"
            yield Reason(reason.state, text, reason.signal, reason.subject)
