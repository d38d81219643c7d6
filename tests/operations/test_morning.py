"""The morning check: both sides of what it decides, and that page and terminal say the same."""

import io
import re
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd
import pytest
from rich.console import Console
from typed_commands import parse, typed_in

from cvntrade_assets.commands.status import print_morning
from cvntrade_assets.operations.global_state import Reason, State
from cvntrade_assets.operations.morning import morning
from cvntrade_assets.operations.morning_facts import (
    AlertSeen,
    MessageSeen,
    MorningFacts,
    RunSeen,
    StateSeen,
    Verdict,
)
from cvntrade_assets.operations.morning_page import Grid, Line, Morning, masked
from cvntrade_assets.operations.morning_text import escaped, markdown
from cvntrade_assets.operations.sessions import PipelineRun
from cvntrade_assets.operations.signals import SIGNALS, Level, Observation
from cvntrade_assets.operations.taxonomy import Role, Severity
from cvntrade_assets.settings import resolve

NOW = pd.Timestamp("2026-03-28T06:30Z")
CRYPTOS = ("ADAUSDC", "BTCUSDC", "ETHUSDC")
OK, WARNING, CRITICAL, UNKNOWN = Level
MINUTE = pd.Timedelta("1min")


def seen_state(state: State = State.GREEN, age: float = 1.0, reasons: Sequence[Reason] = ()) -> StateSeen:
    computed = NOW - age * MINUTE
    return StateSeen(computed, state, NOW - pd.Timedelta("3h"), tuple(reasons), "binance", NOW)


def observed(
    signal: str, subject: str = "", level: Level = OK, value: float | None = 1.0, why: str = ""
) -> Observation:
    return Observation(signal, subject, None if level is UNKNOWN else value, level, why or f"{signal} says so", NOW)


def alert(
    number: int, severity: Severity, where: str = "ADAUSDC", signal: str = "sortino", **more: object
) -> AlertSeen:
    known: dict[str, object] = {
        "key": f"signal/{signal}/{where}",
        "kind": f"signal/{signal}",
        "owner": Role.ML_OWNER,
        "audience": Role.ML_OWNER,
        "what": f"{signal} of {where} is critical: -0.4 < 0",
        "since": NOW - number * MINUTE,
        "next_step": f"`cvntrade discovery --crypto {where}`: wider stops",
        "acknowledged_by": None,
    }
    return AlertSeen(id=number, severity=severity, where=where, **{**known, **more})  # type: ignore[arg-type]


def run(crypto: str, status: str = "SUCCESS", pipeline: str = "discovery", hours: float = 5.0) -> PipelineRun:
    began = NOW - pd.Timedelta(hours=hours)
    return PipelineRun(f"run-{crypto}-{pipeline}", pipeline, crypto, "one", "defi", status, began)


FACTS = MorningFacts(
    now=NOW,
    settings=resolve(base_env={}, run={}, now=NOW),
    settings_trouble="",
    state=seen_state(),
    observations=(),
    cryptos=CRYPTOS,
    runs=(),
)
FAILED = replace(
    FACTS,
    runs=[run("BTCUSDC"), run("ADAUSDC", "FAILURE")],
    seen={"run-ADAUSDC-discovery": RunSeen("/runs/run-ADAUSDC-discovery", "walk_forward", ("too few | rows",))},
)


def lines_of(found: Morning, heading: str) -> list[str]:
    [section] = [section for section in found.sections if section.heading == heading]
    return ["  " * part.depth + part.text for part in section.parts if isinstance(part, Line)]


def head(facts: MorningFacts) -> list[str]:
    return [line.text for line in morning(facts).headline]


# the first line


@pytest.mark.parametrize("state", State)
def test_the_first_line_is_the_state_and_since_when(state: State) -> None:
    found = morning(replace(FACTS, state=seen_state(state)))
    assert found.headline[0].text == f"{state} since 2026-03-28 03:30 UTC (computed 2026-03-28 06:29 UTC)"
    assert found.state is state
    assert found.needs_somebody is (state in (State.ORANGE, State.RED))


@pytest.mark.parametrize(("age", "is_known"), [(15.0, True), (15.01, False), (-15.0, True), (-15.01, False)])
def test_a_state_that_is_too_old_is_not_shown_as_the_state(age: float, is_known: bool) -> None:
    reasons = [Reason(State.RED, "a volume is full", "infra_health", "")]
    found = morning(replace(FACTS, state=seen_state(State.RED, age, reasons)))
    assert (found.state is State.RED) is is_known
    assert found.headline[0].text.startswith("RED since") is is_known
    if not is_known:
        first = found.headline[0]
        assert first.text.startswith("UNKNOWN: nothing was computed since 2026-03-28 06:")
        assert "when it was RED" in first.text and first.command == "cvntrade watchdog --once"
        assert "a volume is full" not in "".join(line.text for line in found.headline)
        assert not found.needs_somebody
        assert lines_of(found, "What to do next")[0].startswith(
            "P0 platform owner, at once: `cvntrade watchdog --once`"
        )


def test_a_state_that_was_never_computed_is_unknown() -> None:
    [first] = morning(replace(FACTS, state=None)).headline
    assert (first.text, first.command) == ("UNKNOWN: no state was ever computed", "cvntrade watchdog --once")


def test_settings_that_cannot_be_used_make_the_state_unknown_and_say_why() -> None:
    broken = replace(FACTS, settings=None, settings_trouble="CVN_SEED='x' is no number")
    found = morning(broken)
    assert found.headline[0].text.endswith("cannot be used: CVN_SEED='x' is no number")
    assert found.headline[0].command == "cvntrade settings show"


def test_reasons_of_many_cryptos_are_told_together() -> None:
    reasons = [Reason(State.ORANGE, "0 of 5 passed", "pass_rate", "")]
    reasons += [Reason(State.YELLOW, f"{crypto} is old", "model_overdue", crypto) for crypto in CRYPTOS]
    said = head(replace(FACTS, state=seen_state(State.ORANGE, reasons=reasons)))[1:]
    assert said == [
        "ORANGE: 0 of 5 passed",
        "YELLOW: model_overdue of ADAUSDC, BTCUSDC, ETHUSDC; the first: ADAUSDC is old",
    ]


def test_what_is_simulated_and_what_is_pinned_is_said() -> None:
    given = {"CVN_MARKET": "simulated", "CVN_AS_OF": "2025-09-01"}
    said = head(replace(FACTS, settings=resolve(base_env=given, run={}, now=NOW)))
    assert any(line.startswith("SIMULATED:") for line in said)
    assert "data time is pinned by CVN_AS_OF to 2025-09-01 00:00 UTC" in said
    assert any(line.startswith("the state is that of the market binance") for line in said)
    assert len(head(FACTS)) == 1


# signals


def test_a_signal_that_nobody_observed_is_unknown_and_never_fine() -> None:
    found = morning(FACTS)
    assert lines_of(found, "Platform") == ["infra_health: unknown, it was not observed"]
    assert "pass_rate: unknown, it was not observed" in lines_of(found, "Candidates")
    assert "pipeline_success_rate: unknown, it was not observed" in lines_of(found, "Pipelines")


def test_jobs_that_are_fine_are_told_together_and_the_others_one_by_one() -> None:
    rates = [observed("pipeline_success_rate", job) for job in ("discovery", "retrain")]
    rates.append(observed("pipeline_success_rate", "monitoring", CRITICAL, 0.5, "50.0 % < 70 %"))
    said = lines_of(morning(replace(FACTS, observations=rates)), "Pipelines")
    assert "pipeline_success_rate: ok for discovery, retrain" in said
    assert "pipeline_success_rate of monitoring: critical, 50.0 % < 70 %" in said


def test_of_freshness_the_fresh_are_counted_and_the_stale_and_unknown_named() -> None:
    cryptos = [f"C{number:03}USDC" for number in range(200)]
    seen = [observed("model_overdue", crypto, OK) for crypto in cryptos[:100]]
    seen += [observed("model_overdue", crypto, CRITICAL, 2.25) for crypto in cryptos[100:130]]
    seen += [
        observed("model_overdue", crypto, UNKNOWN, why=f"{crypto} has no useful model") for crypto in cryptos[130:190]
    ]
    said = lines_of(morning(replace(FACTS, cryptos=cryptos, observations=seen)), "Freshness")
    at = said.index("model_overdue: 100 of 200 fresh")
    critical, unknown, missing = said[at + 1 : at + 4]
    assert critical == f"  critical: {', '.join(f'{crypto} (2.2 days)' for crypto in cryptos[100:130])}"
    assert unknown == f"  unknown: {', '.join(cryptos[130:190])}: {cryptos[130]} has no useful model"
    assert missing == f"  unknown: {', '.join(cryptos[190:])}: it was not observed"


@pytest.mark.parametrize(("reasons", "n_lines"), [(3, 3), (4, 1)])
def test_unknown_for_many_reasons_is_one_line_that_names_them_all(reasons: int, n_lines: int) -> None:
    cryptos = [f"C{number}USDC" for number in range(8)]
    seen = [observed("sortino", crypto, UNKNOWN, why=f"reason {i % reasons}") for i, crypto in enumerate(cryptos)]
    said = lines_of(morning(replace(FACTS, cryptos=cryptos, observations=seen)), "Candidates")
    at = said.index("sortino: 0 of 8 ok")
    unknown = [line for line in said[at + 1 : at + 6] if "reason " in line]
    assert len(unknown) == n_lines and all(any(crypto in line for line in unknown) for crypto in cryptos)
    assert (n_lines > 1) or unknown[0].endswith("; the first: reason 0")


def test_a_crypto_that_left_the_universe_is_not_counted() -> None:
    seen = [observed("candle_freshness", crypto) for crypto in (*CRYPTOS, "LDOUSDC")]
    assert "candle_freshness: 3 of 3 fresh" in lines_of(morning(replace(FACTS, observations=seen)), "Freshness")


def test_without_a_universe_nothing_is_fresh() -> None:
    said = lines_of(morning(replace(FACTS, cryptos=())), "Freshness")
    assert said == ["candle_freshness, model_freshness, model_overdue: unknown, the universe has no crypto"]


def test_every_signal_is_shown_somewhere() -> None:
    everything = "\n".join(
        line for section in morning(FACTS).sections for line in lines_of(morning(FACTS), section.heading)
    )
    assert [name for name in SIGNALS if not re.search(rf"\b{name}\b", everything)] == []


def test_signals_of_which_there_is_the_same_to_say_stand_together() -> None:
    seen = [observed(signal, crypto) for crypto in CRYPTOS for signal in ("sl_pct", "timeout_pct")]
    said = lines_of(morning(replace(FACTS, observations=seen)), "Candidates")
    assert "sl_pct, timeout_pct: 3 of 3 ok" in said
    assert sum("it was not observed" in line and line.startswith("  ") for line in said) == 1


# candidates


def test_what_was_judged_since_yesterday_is_counted_market_by_market() -> None:
    def verdict(crypto: str, hours: float, passed: bool, market: str = "simulated") -> Verdict:
        when = NOW - pd.Timedelta(hours=hours)
        return Verdict(crypto, market, "H4_SL1.0_TP2.0", "ML_SOLID", 0.4, 0.3, None, passed, when, None)

    verdicts = [
        verdict("ADAUSDC", 24, True),
        verdict("ADAUSDC", 2, False, "binance"),
        verdict("BTCUSDC", 24.01, True),
        verdict("ETHUSDC", 1, False),
    ]
    found = morning(replace(FACTS, verdicts=verdicts))
    said = [line for line in lines_of(found, "Candidates") if line.startswith("judged")]
    assert said == [
        "judged in the last 24 hours (SIMULATED): 2, of which 1 passed every gate: ADAUSDC",
        "judged in the last 24 hours (binance): 1, of which 0 passed every gate",
    ]
    nothing = lines_of(morning(replace(FACTS, verdicts=verdicts[2:3])), "Candidates")
    assert "judged in the last 24 hours: none" in nothing
    [grid] = [part for section in found.sections for part in section.parts if isinstance(part, Grid)]
    assert grid.rows[0] == (
        *("ADAUSDC", "ML_SOLID", "H4_SL1.0_TP2.0", "0.400 / 0.300", "-", "no", "SIMULATED", "2026-03-27 06:30"),
    )


# alerts, and what to do next


def test_alerts_are_told_the_worst_first_with_who_is_at_it() -> None:
    alerts = [
        alert(1, Severity.P2, acknowledged_by="ann"),
        alert(2, Severity.P0, "platform", "infra_health", owner=Role.PLATFORM_OWNER, audience=Role.MLOPS_MAINTAINER),
    ]
    first, second = lines_of(morning(replace(FACTS, alerts=alerts)), "Alerts")
    assert first.startswith("P0 platform owner (escalated to the MLOps maintainer), since 2026-03-28 06:28 UTC: infra")
    assert first.endswith("(acknowledged by nobody: `cvntrade ack 2 --reason …`)")
    assert second.startswith("P2 ML owner, since") and second.endswith("(acknowledged by ann)")


def test_the_alert_of_the_state_does_not_repeat_the_reasons() -> None:
    of_state = alert(
        1, Severity.P1, "platform", kind="state", key="state", what="the global state is ORANGE: 0 of 3: so"
    )
    found = morning(replace(FACTS, alerts=[of_state]))
    assert "the global state is ORANGE (acknowledged by nobody" in lines_of(found, "Alerts")[0]
    assert lines_of(found, "What to do next")[0].startswith("nothing:")


@pytest.mark.parametrize(("count", "n_lines"), [(3, 3), (4, 1)])
def test_many_alerts_of_a_kind_are_one_line(count: int, n_lines: int) -> None:
    alerts = [alert(number, Severity.P2, f"C{number}USDC") for number in range(1, count + 1)]
    said = lines_of(morning(replace(FACTS, alerts=alerts)), "Alerts")
    assert len(said) == n_lines
    if n_lines == 1:
        assert "since 2026-03-28 06:26 UTC: 4 of signal/sortino: C4USDC, C3USDC, C2USDC, C1USDC" in said[0]


def test_what_is_undelivered_is_said_with_its_reason() -> None:
    waiting = [
        MessageSeen(NOW - 9 * MINUTE, "no channel of the route of P0 is configured: set X"),
        MessageSeen(NOW, None),
    ]
    said = lines_of(morning(replace(FACTS, messages=waiting)), "Alerts")
    assert (
        "undelivered: 1, the oldest since 2026-03-28 06:21 UTC: no channel of the route of P0 is configured: set X"
        in said
    )
    assert any("nobody has tried to send them" in line for line in said)


def test_what_to_do_next_comes_the_most_urgent_first_with_whose_it_is() -> None:
    reasons = [
        Reason(State.YELLOW, "unknown", "model_overdue", "BTCUSDC"),
        Reason(State.YELLOW, "bad", "sortino", "ADAUSDC"),
    ]
    facts = replace(
        FAILED,
        state=seen_state(State.YELLOW, reasons=reasons),
        observations=[observed("model_overdue", "BTCUSDC", UNKNOWN), observed("sortino", "ADAUSDC", CRITICAL)],
        alerts=[alert(1, Severity.P3), alert(2, Severity.P1, "discovery", "pipeline_success_rate")],
    )
    said = lines_of(morning(facts), "What to do next")
    assert [line[:2] for line in said] == ["P1", "P2", "P2", "P3"]
    assert said[0].startswith("P1 ML owner, within the hour: `cvntrade discovery")
    resume = "P2 MLOps maintainer, within the day: resume what failed, by the commands under Pipelines"
    assert f"{resume} (discovery of ADAUSDC)" in said
    assert any(line.startswith("P2 operator, within the day: `cvntrade discovery --crypto BTCUSDC`") for line in said)


def test_a_failed_run_that_has_an_alert_is_not_told_twice() -> None:
    told = alert(1, Severity.P2, key="run/discovery/ADAUSDC", kind="run", next_step="resume it")
    said = lines_of(morning(replace(FAILED, alerts=[told])), "What to do next")
    assert len(said) == 1 and "resume it" in said[0]


def test_what_several_alerts_ask_for_is_asked_once() -> None:
    asked = "`cvntrade discovery --group btc-core`: a complete run tells"
    alerts = [
        alert(i, Severity.P2, "platform", name, next_step=asked)
        for i, name in enumerate(("pass_rate", "barren_days"), 1)
    ]
    said = lines_of(morning(replace(FACTS, alerts=alerts)), "What to do next")
    about = "signal/barren_days of platform; signal/pass_rate of platform"
    assert said == [f"P2 ML owner, within the day: {asked} ({about})"]


def test_nothing_to_do_is_said() -> None:
    [said] = lines_of(morning(FACTS), "What to do next")
    assert said.startswith("nothing:")


# runs


def test_the_command_that_resumes_a_run_stands_on_a_line_of_its_own() -> None:
    found = morning(FAILED)
    assert found.needs_somebody
    [line] = [part for part in found.sections[1].parts if isinstance(part, Line) and part.command]
    assert line == Line("too few | rows", 2, "cvntrade discovery --crypto ADAUSDC")
    assert "newest runs of the last 24 hours: 1 succeeded, 1 failed" in lines_of(found, "Pipelines")


# two renderings


EVERYTHING = replace(
    FAILED,
    state=seen_state(State.ORANGE, reasons=[Reason(State.ORANGE, "0 < 1 & _not_ *much*", "pass_rate", "")]),
    observations=[
        observed("infra_health", level=CRITICAL, why="[volume] /srv is 90 % full <85 %>"),
        observed("model_overdue", "ADAUSDC", CRITICAL, 3.0),
        observed("sl_pct", "ADAUSDC", WARNING, 0.4),
    ],
    alerts=[alert(1, Severity.P2)],
    messages=[MessageSeen(NOW, None)],
    verdicts=[Verdict("ADAUSDC", "binance", "H4_SL1.0_TP2.0", "ML_SOLID", 0.4, 0.3, 1.5, True, NOW, "challenger 1")],
    webserver="The webserver does not answer.",
)


def in_terminal(found: Morning) -> str:
    written = io.StringIO()
    print_morning(found, Console(file=written, width=160))
    return written.getvalue()


@pytest.mark.parametrize(
    "facts", [FACTS, FAILED, EVERYTHING, replace(FACTS, state=None), replace(FACTS, settings=None)]
)
def test_page_and_terminal_say_the_same_in_the_same_order(facts: MorningFacts) -> None:
    """Words alone are compared: what each rendering adds is marks."""

    def words(text: str) -> list[str]:
        return re.findall(r"[\w%.:/=…-]+", re.sub(r"\\(.)", r"\1", text))

    found = morning(facts)
    page = [word for word in words(markdown(found)) if set(word) - set("-")]
    terminal = [word for word in words(in_terminal(found)) if set(word) - set("-")]
    titles = [part.title for section in found.sections for part in section.parts if isinstance(part, Grid)]
    for title in titles:
        # A table's title is a heading's work on the page.
        at = next(i for i in range(len(terminal)) if terminal[i : i + 2] == title.split())
        del terminal[at : at + 2]
    assert page == terminal


def test_the_page_is_the_markdown_that_it_was_meant_to_be() -> None:
    """Read by a parser of its own: every text of the check is a heading, an item or a cell, as it stands."""
    from rich.markdown import Markdown

    found = morning(EVERYTHING)
    written = io.StringIO()
    Console(file=written, width=4000).print(Markdown(markdown(found)))
    shown = written.getvalue()
    for part in (*found.headline, *(part for section in found.sections for part in section.parts)):
        texts = [part.text, part.command] if isinstance(part, Line) else [cell for row in part.rows for cell in row]
        for text in texts:
            assert " ".join(text.replace("`", "").split()) in " ".join(shown.split()), text


@pytest.mark.parametrize(
    ("text", "page"),
    [
        ("a | b", "a \\| b"),
        ("<script>", "\\<script\\>"),
        ("[red]", "\\[red\\]"),
        ("f1_buy * 2", "f1_buy * 2"),
        ("_not_", "\\_not_"),
        ("`a | b` | c", "`a | b` \\| c"),
        ("one\ntwo", "one two"),
    ],
)
def test_what_markdown_would_take_for_marks_is_escaped(text: str, page: str) -> None:
    assert escaped(text) == page


def test_no_secret_gets_through_the_mask() -> None:
    found = masked(morning(EVERYTHING), lambda text: text.replace("ADAUSDC", "***"))
    assert "ADAUSDC" not in in_terminal(found) + markdown(found)
    assert in_terminal(found).count("***") == in_terminal(morning(EVERYTHING)).count("ADAUSDC")


def test_every_command_that_the_check_names_exists() -> None:
    reasons = [Reason(State.YELLOW, "unknown", name, "BTCUSDC") for name in ("model_overdue", "negative_sortino_runs")]
    seen = [observed(reason.signal, reason.subject, UNKNOWN) for reason in reasons]
    told = replace(EVERYTHING, state=seen_state(State.YELLOW, reasons=reasons), observations=seen)
    named = set()
    for facts in (told, replace(FACTS, state=None), replace(FACTS, settings=None)):
        found = morning(facts)
        lines = [*found.headline, *(part for section in found.sections for part in section.parts)]
        for line in (part for part in lines if isinstance(part, Line)):
            named |= {*typed_in(line.text), *([line.command] if line.command else [])}
    assert {command.split()[1] for command in named} >= {"ack", "discovery", "settings", "watchdog"}
    for command in named:
        parse(command.replace("--reason …", "--reason 'on it'"))
