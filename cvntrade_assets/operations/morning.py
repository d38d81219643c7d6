"""The morning check of the manual's §6.1: how things stand, in the order in which the manual looks at them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import pandas as pd

from cvntrade_assets.market.shown import SIMULATED, shown_market
from cvntrade_assets.operations.global_state import State, told, told_together
from cvntrade_assets.operations.morning_alerts import alert_lines, next_lines
from cvntrade_assets.operations.morning_facts import MorningFacts, RunSeen, Verdict
from cvntrade_assets.operations.morning_page import (
    NAMED,
    WATCHDOG,
    Grid,
    Line,
    Morning,
    Part,
    Section,
    Tone,
    grouped,
    listed,
    moment,
)
from cvntrade_assets.operations.pipelines import BESIDE, PIPELINES
from cvntrade_assets.operations.sessions import PipelineRun, Standing, standings
from cvntrade_assets.operations.signals import SIGNALS, Level, Observation, Scope
from cvntrade_assets.operations.staleness import is_stale

# Why a signal of several cryptos is unknown; of more reasons the first stands for all.
_REASONS = 3
_NIGHT = pd.Timedelta("24h")
_NO_REASON = "Dagster's records hold no reason (any more); the run's page may say more"
_FRESHNESS = ("candle_freshness", "model_freshness", "model_overdue")
_CANDIDATES = ("pass_rate", "barren_days", "useful_run_age", "challenger_count")
_PIPELINES = ("pipeline_success_rate", "pipeline_latency")
_VERDICTS = ("crypto", "verdict", "PTE", "f1_buy / always-BUY", "Sortino", "registered", "market", "judged (UTC)")
_TONES: Mapping[Level, Tone] = {
    Level.OK: Tone.PLAIN,
    Level.WARNING: Tone.WARNING,
    Level.CRITICAL: Tone.BAD,
    Level.UNKNOWN: Tone.WARNING,
}


def morning(facts: MorningFacts) -> Morning:
    """The check that these facts amount to."""
    state = shown_state(facts)
    found = standings(facts.runs)
    to_resume = [run for standing in found.values() for run in standing.to_resume]
    return Morning(
        state=state,
        headline=tuple(_headline(facts, state)),
        sections=(
            Section("Platform", tuple(_platform(facts))),
            Section("Pipelines", tuple(_pipelines(facts, found))),
            Section("Candidates", tuple(_candidates(facts))),
            Section("Freshness", tuple(_freshness(facts))),
            Section("Alerts", tuple(alert_lines(facts))),
            Section("What to do next", tuple(next_lines(facts, state, to_resume))),
        ),
        needs_somebody=bool(to_resume) or (state is not None and state >= State.ORANGE),
    )


def shown_state(facts: MorningFacts) -> State | None:
    """The state, unless it was computed too long ago to be one."""
    if facts.state is None or facts.settings is None:
        return None
    return None if is_stale(facts.state.computed_at, facts.now, facts.settings) else facts.state.state


def _headline(facts: MorningFacts, state: State | None) -> Iterator[Line]:
    yield _state_line(facts, state)
    settings, seen = facts.settings, facts.state
    if settings is not None:
        if settings.text("CVN_MARKET") == SIMULATED:
            yield Line("SIMULATED: the market is simulated, and what was trained on it trades nothing", 1)
        if settings.text("CVN_AS_OF") != "now":
            yield Line(f"data time is pinned by CVN_AS_OF to {moment(settings.as_of)}", 1)
        if state is not None and seen is not None and seen.market != settings.text("CVN_MARKET"):
            yield Line(f"the state is that of the market {shown_market(seen.market)}, as it was last computed", 1)
    if state is not None and seen is not None:
        yield from (Line(told(group), 1) for group in told_together(seen.reasons))


def _state_line(facts: MorningFacts, state: State | None) -> Line:
    seen = facts.state
    if state is not None and seen is not None:
        tone = {State.GREEN: Tone.GOOD, State.YELLOW: Tone.WARNING}.get(state, Tone.BAD)
        return Line(f"{state} since {moment(seen.since)} (computed {moment(seen.computed_at)})", tone=tone)
    if facts.settings is None:
        text = f"UNKNOWN: the settings in force cannot be used: {facts.settings_trouble}"
        return Line(text, command="cvntrade settings show", tone=Tone.BAD)
    if seen is None:
        return Line("UNKNOWN: no state was ever computed", command=WATCHDOG, tone=Tone.BAD)
    limit = facts.settings.text("CVN_STATE_STALE_MINUTES")
    text = (
        f"UNKNOWN: nothing was computed since {moment(seen.computed_at)}, when it was {seen.state}; "
        f"older than CVN_STATE_STALE_MINUTES={limit} it is not the state any more"
    )
    return Line(text, command=WATCHDOG, tone=Tone.BAD)


def _platform(facts: MorningFacts) -> Iterator[Line]:
    if facts.webserver:
        yield Line(facts.webserver, tone=Tone.WARNING)
    yield from _one_signal(facts, "infra_health")


def _pipelines(facts: MorningFacts, found: Mapping[str, Standing]) -> Iterator[Line]:
    yield Line(_night(facts))
    for signal in _PIPELINES:
        yield from _one_signal(facts, signal)
    for name in PIPELINES:
        if name in found:
            yield from _standing(found[name], facts)
    never = [name for name in PIPELINES if name not in found]
    if never:
        yield Line(f"Never run: {', '.join(never)}.")


def _night(facts: MorningFacts) -> str:
    begun = [run for run in facts.runs if facts.now - run.created <= _NIGHT]
    counts = ", ".join(f"{len(runs)} {runs[0].state}" for runs in grouped(begun, lambda run: run.state))
    return f"newest runs of the last 24 hours: {counts or 'none'}"


def _standing(standing: Standing, facts: MorningFacts) -> Iterator[Line]:
    first = min(standing.latest, key=lambda run: run.created)
    group = f", group {first.group}" if first.group else ""
    given = "".join(f" --set {name}={text}" for name, text in first.settings.items())
    began = f"{_second(first.created)}, session {first.session}{group}{given}"
    yield Line(f"{standing.pipeline}  {began}", tone=Tone.TITLE)
    yield from _together(standing.latest, "succeeded")
    yield from _together(standing.latest, "waiting")
    for run in standing.latest:
        seen = facts.seen.get(run.run_id, RunSeen(""))
        if run.state == "running":
            yield Line(_spaced("running", f"{run.crypto}: {seen.stage or 'between two stages'}", seen.page), 1)
        elif run.needs_resuming:
            yield from _failed(run, seen)
    for run in standing.unmended:
        yield from _failed(run, facts.seen.get(run.run_id, RunSeen("")), f" (on {_second(run.created)})")


def _together(runs: Iterable[PipelineRun], state: str) -> Iterator[Line]:
    cryptos = [run.crypto for run in runs if run.state == state]
    if cryptos:
        yield Line(f"{state:<10} {', '.join(cryptos)}", 1)


def _failed(run: PipelineRun, seen: RunSeen, when: str = "") -> Iterator[Line]:
    """One crypto's failure, and the command that resumes just that."""
    stage = f" in {seen.stage}" if seen.stage else ""
    yield Line(_spaced(run.state, f"{run.crypto}{stage}{when}", seen.page), 1, tone=Tone.BAD)
    *most, last = seen.reasons or (_NO_REASON,)
    yield from (Line(reason, 2) for reason in most)
    yield Line(last, 2, run.resume_command(seen.reasons))


def _spaced(state: str, text: str, page: str) -> str:
    return f"{state:<10} {text}; {page}" if page else f"{state:<10} {text}"


def _candidates(facts: MorningFacts) -> Iterator[Part]:
    for signal in _CANDIDATES:
        yield from _one_signal(facts, signal)
    yield from _judged(facts)
    others = [name for name, each in SIGNALS.items() if each.scope is Scope.CRYPTO and name not in _FRESHNESS]
    yield from _crypto_signals(facts, others, "ok", NAMED)
    if facts.verdicts:
        rows = tuple(_verdict(verdict) for verdict in facts.verdicts)
        yield Grid("Latest verdicts", _VERDICTS, rows)
        yield Line(BESIDE)
    else:
        yield Line("No crypto has been judged yet: `cvntrade discovery --group G`.")


def _judged(facts: MorningFacts) -> Iterator[Line]:
    """What the night's evaluations came to, market by market: a simulated candidate is none."""
    judged = [verdict for verdict in facts.verdicts if facts.now - verdict.recorded_at <= _NIGHT]
    if not judged:
        yield Line("judged in the last 24 hours: none")
    for group in grouped(judged, lambda verdict: verdict.market):
        passed = [verdict.crypto for verdict in group if verdict.passed]
        named = f": {', '.join(passed)}" if passed else ""
        told = f"{len(group)}, of which {len(passed)} passed every gate{named}"
        yield Line(f"judged in the last 24 hours ({shown_market(group[0].market)}): {told}")


def _verdict(verdict: Verdict) -> tuple[str, ...]:
    return (
        verdict.crypto,
        verdict.code,
        verdict.pte,
        f"{_number(verdict.f1_buy, 3)} / {_number(verdict.baseline_f1_buy, 3)}",
        _number(verdict.sortino, 2),
        verdict.registered or "no",
        shown_market(verdict.market),
        f"{verdict.recorded_at:%Y-%m-%d %H:%M}",
    )


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _freshness(facts: MorningFacts) -> Iterator[Line]:
    yield from _crypto_signals(facts, _FRESHNESS, "fresh", None)


def _one_signal(facts: MorningFacts, name: str) -> Iterator[Line]:
    """A signal of the platform, or of jobs: those that are fine together, the others one by one."""
    found = [each for each in facts.observations if each.signal == name]
    if not found:
        yield Line(f"{name}: unknown, it was not observed", tone=Tone.WARNING)
        return
    fine = [each.subject for each in found if each.level is Level.OK and each.subject]
    if fine:
        yield Line(f"{name}: ok for {listed(fine, NAMED)}")
    for each in found:
        if each.subject not in fine:
            of = f" of {each.subject}" if each.subject else ""
            yield Line(f"{name}{of}: {each.level}, {each.reason}", tone=_TONES[each.level])


def _crypto_signals(facts: MorningFacts, names: Sequence[str], fine: str, at_most: int | None) -> Iterator[Line]:
    """Signals of cryptos; those of which there is the same to say stand together."""
    said = {name: tuple(_crypto_signal(facts, name, fine, at_most)) for name in names}
    for together in grouped(names, lambda name: said[name]):
        first, *more = said[together[0]]
        yield replace(first, text=f"{', '.join(together)}: {first.text}")
        yield from more


def _crypto_signal(facts: MorningFacts, name: str, fine: str, at_most: int | None) -> Iterator[Line]:
    """A signal of cryptos: those that are fine counted, the others named by level, and the unknown by reason."""
    if not facts.cryptos:
        yield Line("unknown, the universe has no crypto", tone=Tone.WARNING)
        return
    found = {each.subject: each for each in facts.observations if each.signal == name and each.subject in facts.cryptos}
    good = sum(each.level is Level.OK for each in found.values())
    yield Line(f"{good} of {len(facts.cryptos)} {fine}")
    for level in (Level.CRITICAL, Level.WARNING):
        named = [f"{each.subject} ({_valued(each)})" for each in found.values() if each.level is level]
        if named:
            yield Line(f"{level}: {listed(named, at_most)}", 1, tone=_TONES[level])
    whys = {crypto: found[crypto].reason if crypto in found else "it was not observed" for crypto in facts.cryptos}
    unknown = [each for each in sorted(facts.cryptos) if each not in found or found[each].level is Level.UNKNOWN]
    groups = grouped(unknown, lambda crypto: whys[crypto].replace(crypto, ""))
    if len(groups) > _REASONS:
        yield Line(f"unknown: {listed(unknown, at_most)}; the first: {whys[unknown[0]]}", 1, tone=Tone.WARNING)
        return
    for group in groups:
        yield Line(f"unknown: {listed(group, at_most)}: {whys[group[0]]}", 1, tone=Tone.WARNING)


def _valued(observation: Observation) -> str:
    assert observation.value is not None
    unit = SIGNALS[observation.signal].unit
    if unit == "share":
        return f"{observation.value:.1%}"
    digits = {"runs": 0, "models": 0, "days": 1, "hours": 1, "ratio": 2}.get(unit, 3)
    return f"{observation.value:,.{digits}f} {unit}"


def _second(moment: pd.Timestamp) -> str:
    return f"{moment.tz_convert('UTC'):%Y-%m-%d %H:%M:%S} UTC"
