"""The playbooks: the next command of every code, its values away from the record's, and every command can be typed."""

from collections.abc import Iterator
from typing import Any

import pytest
from correlation_records import BTC, by_delta, complete, fold, gates, record, records
from hypothesis import given, settings
from typed_commands import UsageError, is_refused, parse, resolved, typed_in

from cvntrade_assets.operations.correlation_data import AnyRecord, Duration, Platform
from cvntrade_assets.operations.diagnosis import Diagnosis, Finding, diagnose
from cvntrade_assets.operations.playbook import next_move
from cvntrade_assets.operations.taxonomy import Code
from cvntrade_assets.trading.gates import GATES

LOSING = {"sortino": -1.0}
DISCOVER = f"cvntrade discovery --crypto {BTC}"
TESTED = f"cvntrade backtesting --crypto {BTC}"
WIDE = (
    f"{DISCOVER} --set horizons=H1,H2,H3,H4,H5,H6 --set sl_range=0.6,0.8,1.0,1.2,1.5,1.8,2.0 "
    "--set tp_range=1.0,1.5,2.0,2.5,3.0,3.5,4.0"
)


def finding(code: str, **changes: Any) -> Finding:
    [found] = [each for each in diagnose(record(**changes)).findings if each.code == code]
    return found


def exits(tp: float = 0.3, sl: float = 0.4, timeout: float = 0.3) -> dict[str, float]:
    return {"tp_pct": tp, "sl_pct": sl, "timeout_pct": timeout}


TIGHT, AMBITIOUS, SHORT = exits(sl=0.6, timeout=0.1), exits(tp=0.1), exits(timeout=0.5, sl=0.2)
ALL_BAD = exits(tp=0.0, sl=0.55, timeout=0.45)


# §9.1


@pytest.mark.parametrize(
    ("changes", "command"),
    [
        (TIGHT, f"{DISCOVER} --set sl_range=1.2,1.5,1.8,2.0"),
        (AMBITIOUS, f"{DISCOVER} --set tp_range=1.5,2.0,2.5"),
        (SHORT, f"{DISCOVER} --set horizons=H5,H6"),
        (SHORT | {"pte": "H1_SL1.0_TP2.0"}, f"{DISCOVER} --set horizons=H2,H3,H4,H5,H6"),
        (ALL_BAD, f"{DISCOVER} --set sl_range=1.2,1.5,1.8,2.0 --set tp_range=1.5,2.0,2.5 --set horizons=H5,H6"),
        (exits(), WIDE),
    ],
)
def test_a_mismatch_changes_what_trades_ended_by(changes: dict[str, Any], command: str) -> None:
    found = finding("EXECUTION_MISMATCH", **LOSING, **changes)
    assert found.next_command == command
    assert (found.exit_when, found.owner) == ("Sortino ratio over 0, or sl_pct under 40 %", "ML owner")
    assert "ML owner after 3 attempts" in found.escalation


@pytest.mark.parametrize(
    ("code", "pte", "changes", "command", "because"),
    [
        ("SL_TOO_TIGHT", "H4_SL1.8_TP2.0", TIGHT, "sl_range=1.2,1.5,1.8,2.0", "wider stops"),
        ("SL_TOO_TIGHT", "H4_SL2.0_TP2.0", TIGHT, "sl_range=2.2,2.5,3.0", "wider stops"),
        ("SL_TOO_TIGHT", "H4_SL2.5_TP3.0", TIGHT, "sl_range=3.0", "wider stops"),
        ("SL_TOO_TIGHT", "H4_SL3.0_TP3.0", TIGHT, "", "the widest stop-loss is reached (SL 3)"),
        ("TP_TOO_AMBITIOUS", "H4_SL1.0_TP1.8", AMBITIOUS, "tp_range=1.5,2.0,2.5", "nearer targets"),
        ("TP_TOO_AMBITIOUS", "H4_SL1.0_TP1.5", AMBITIOUS, "tp_range=0.8,1.0,1.2", "nearer targets"),
        ("TP_TOO_AMBITIOUS", "H4_SL0.8_TP1.0", AMBITIOUS, "tp_range=0.8", "nearer targets"),
        ("TP_TOO_AMBITIOUS", "H4_SL0.8_TP0.8", AMBITIOUS, "", "the nearest take-profit is reached (TP 0.8)"),
        ("HORIZON_TOO_SHORT", "H5_SL1.0_TP2.0", SHORT, "horizons=H6", "longer horizons"),
        ("HORIZON_TOO_SHORT", "H6_SL1.0_TP2.0", SHORT, "", "the longest horizon is reached (H6)"),
    ],
)
def test_ranges_move_away_from_the_record_until_the_last(
    code: str, pte: str, changes: dict[str, Any], command: str, because: str
) -> None:
    found = finding(code, pte=pte, **changes)
    assert found.next_command == (f"{DISCOVER} --set {command}" if command else WIDE)
    assert because in found.because
    assert ("a wider grid" in found.because) is not command


def test_stops_and_targets_that_leave_no_point_are_not_asked_for_together() -> None:
    """Stops from 2.2 and targets up to 1.2: the cause that comes first is changed, the other waits."""
    found = finding("EXECUTION_MISMATCH", **LOSING, pte="H4_SL2.0_TP1.5", **ALL_BAD)
    assert found.next_command == f"{DISCOVER} --set sl_range=2.2,2.5,3.0 --set horizons=H5,H6"


# §9.2


@pytest.mark.parametrize(
    ("delta", "pte", "command"),
    [
        (by_delta(0.3, 0.4), "H4_SL1.0_TP2.0", "horizons=H1,H2,H3,H5,H6"),
        (by_delta(0.3, 0.4), "H1_SL1.0_TP2.0", "horizons=H2,H3,H4,H5,H6"),
        # buy_rate 0.5 is not over 50 %: 2 × 0.5 / 1.5
        (by_delta(0.3, 2 / 3), "H4_SL1.0_TP2.0", "horizons=H1,H2,H3,H5,H6"),
        (by_delta(0.3, 0.67), "H4_SL1.0_TP2.0", "tp_range=2.5,3.0,4.0,5.0"),
        (by_delta(0.3, 0.67), "H4_SL1.0_TP1.0", "tp_range=2.0,2.5,3.0,4.0,5.0"),
        (by_delta(0.3, 0.67), "H4_SL1.0_TP5.0", ""),
    ],
)
def test_a_useless_model_gets_other_labels(delta: dict[str, float], pte: str, command: str) -> None:
    found = finding("ML_USELESS", pte=pte, **delta)
    assert found.next_command == (f"{DISCOVER} --set {command}" if command else WIDE)
    assert found.exit_when == "f1_buy lies more than 15 points above its baseline"
    assert ("labels are at fault" in found.because) == (delta["baseline_f1_buy"] == 0.67)


# §9.3

TRADE_MORE = (
    f"{DISCOVER} --set CVN_TRADE_THRESHOLD_METHOD=f1_binary --set CVN_COOLDOWN_CANDLES=0 --set CVN_TREND_FILTER=off"
)
OTHERS = f"{DISCOVER} --set horizons=H1,H2,H3,H5,H6"
BY_GATE = {
    "n_trades": TRADE_MORE,
    "f1_delta": OTHERS,
    "screening_gap": f"{TESTED} --set hpo_trials=20",
    "std_f1": f"{DISCOVER} --set n_folds=5",
    "sortino": WIDE,
    "rolling_sortino": WIDE,
    "drawdown": f"{DISCOVER} --set CVN_TREND_FILTER=ema_200",
    "dsr": f"{DISCOVER} --set n_folds=5",
}


def test_every_gate_has_its_play() -> None:
    assert set(BY_GATE) == set(GATES)


@pytest.mark.parametrize(("gate", "command"), BY_GATE.items())
def test_no_candidates_follows_the_gate_that_refused_all(gate: str, command: str) -> None:
    found = finding("NO_CANDIDATES", **complete(0, {gate: 3, "std_f1": 2} if gate != "std_f1" else {gate: 3}))
    assert found.next_command == command
    assert f"refused by {gate}: " in found.because
    assert found.exit_when == "at least one candidate passes its gates"
    assert "another crypto of the group" in found.escalation


def test_where_no_trade_pays_nobody_is_told_to_trade_more_often() -> None:
    idle = {"folds": (fold(1), fold(2).model_copy(update={"trade_threshold": 2.0}))}
    found = finding("NO_CANDIDATES", **complete(0, {"n_trades": 3, "f1_delta": 3}), **idle)
    assert found.next_command == OTHERS
    assert "refused by n_trades: no threshold earned its costs, and trading more often would not pay" in found.because


def test_a_model_that_never_says_buy_is_told_so() -> None:
    never = {"f1_buy": 0.0, "last_fold_f1_buy": 0.0, "precision_buy": None, "recall_buy": 0.0}
    assert "BUY is never said: 0 beside" in finding("ML_USELESS", **never).evidence


def test_a_solid_model_follows_the_gate_that_refused_it() -> None:
    for gate, command in BY_GATE.items():
        assert finding("ML_SOLID", gates=gates(gate)).next_command == command


@pytest.mark.parametrize(
    ("refusals", "gate"),
    [
        # Few trades leave the Sortino ratio undefined, and a useless model has none.
        ({"sortino": 3, "n_trades": 3, "f1_delta": 3}, "n_trades"),
        ({"sortino": 3, "f1_delta": 3, "dsr": 3}, "f1_delta"),
        ({"sortino": 3, "f1_delta": 2, "n_trades": 2}, "sortino"),
    ],
)
def test_the_cause_is_followed_when_several_gates_refused_all(refusals: dict[str, int], gate: str) -> None:
    found = finding("NO_CANDIDATES", **complete(0, refusals))
    assert (found.next_command, f"refused by {gate}" in found.because) == (BY_GATE[gate], True)


def test_candidates_refused_by_different_gates_ask_for_a_wider_grid() -> None:
    found = finding("NO_CANDIDATES", **complete(0, {"sortino": 2, "f1_delta": 2, "n_trades": 1}))
    assert found.next_command == WIDE
    assert "refused by" not in found.because


def test_sortino_refusals_look_at_how_trades_ended() -> None:
    found = finding("NO_CANDIDATES", **complete(0, {"sortino": 3}), **TIGHT)
    assert found.next_command == f"{DISCOVER} --set sl_range=1.2,1.5,1.8,2.0"


# the others


def test_what_is_the_platform_s_is_not_mended_by_another_model() -> None:
    sick = Platform(success_rate=0.5, oom_kills=5, pvc_used=0.9, cpu_used=0.95)
    assert finding("INFRA_SATURATED", platform=sick).next_command == "cvntrade status"
    assert finding("PIPELINE_DEGRADED", platform=sick).next_command == "cvntrade status"


def test_a_candidate_that_passed_is_watched() -> None:
    assert finding("ML_SOLID").next_command == f"cvntrade monitoring --crypto {BTC}"
    assert finding("ML_EXPLOITABLE", **by_delta(0.48, 0.4)).next_command == f"cvntrade monitoring --crypto {BTC}"


@pytest.mark.parametrize(("n_folds", "command"), [(1, "n_folds=3"), (3, "n_folds=5"), (6, "n_folds=8")])
def test_an_unstable_model_is_tested_on_more_periods(n_folds: int, command: str) -> None:
    folds = tuple(fold(number) for number in range(1, n_folds + 1))
    assert finding("ML_UNSTABLE", std_f1_buy=0.2, folds=folds).next_command == f"{DISCOVER} --set {command}"


def test_an_unstable_model_on_many_periods_learns_from_the_recent_past() -> None:
    folds = tuple(fold(number) for number in range(1, 8))
    found = finding("ML_UNSTABLE", std_f1_buy=0.2, folds=folds)
    assert found.next_command == f"{DISCOVER} --set CVN_WALK_FORWARD_MODE=rolling"


# §9.5


@pytest.mark.parametrize(
    ("minutes", "p95", "slow"),
    [
        (180.0, None, False),
        (180.001, None, True),
        (13.0, 10.0, False),
        (13.001, 10.0, True),
        (179.0, 170.0, False),
        (200.0, 190.0, True),
    ],
)
def test_a_run_over_three_hours_or_its_usual_time_is_slow(minutes: float, p95: float | None, slow: bool) -> None:
    took = Duration(minutes=minutes, p95_minutes=p95, slowest_stage=None)
    found = diagnose(record(duration=took)).slow_run
    assert (found is not None) is slow


def test_a_run_of_unknown_duration_is_not_called_slow() -> None:
    assert diagnose(record(duration=None)).slow_run is None


@pytest.mark.parametrize(
    ("stage", "command"),
    [
        ("candles", f"cvntrade backfill --crypto {BTC} --select candles --wait"),
        ("backtest_candles", f"cvntrade backfill --crypto {BTC} --select backtest_candles --wait"),
        ("walk_forward", f"{DISCOVER} --set hpo_trials=50"),
        ("rolling_backtest", f"{DISCOVER} --set hpo_trials=50"),
        ("evaluation", f"{DISCOVER} --set backtest_days=60"),
        ("screening_matrix", f"{DISCOVER} --set horizons=H2,H4,H6"),
        ("labels", "cvntrade status"),
        (None, "cvntrade status"),
    ],
)
def test_a_slow_run_is_looked_at_where_it_was_slow(stage: str | None, command: str) -> None:
    found = diagnose(record(duration=Duration(minutes=300.0, p95_minutes=None, slowest_stage=stage))).slow_run
    assert found is not None and found.command == command
    assert (stage or "unknown") in found.because


# every command can be typed


def commands(found: Diagnosis) -> Iterator[str]:
    yield from (each.next_command for each in found.findings)
    if found.slow_run:
        yield found.slow_run.command
    for text in (*(each.because for each in found.findings), *(each.escalation for each in found.findings)):
        yield from typed_in(text)


def assert_can_be_typed(command: str, some: AnyRecord) -> None:
    given_ = parse(command)
    assert not is_refused(command), command
    if command not in ("cvntrade status", "cvntrade stop RUN_ID"):
        assert given_["crypto"] == [some.crypto], command
    usable = [pte for pte in resolved(given_.get("pairs") or []).grid if pte.take_profit >= pte.stop_loss]
    assert usable, command


@settings(deadline=None, max_examples=200)
@given(records())
def test_every_command_that_is_printed_can_be_typed(some: AnyRecord) -> None:
    for command in set(commands(diagnose(some))):
        assert_can_be_typed(command, some)


@pytest.mark.parametrize("code", list(Code))
def test_every_code_has_a_command_that_can_be_typed_whatever_was_traded(code: Code) -> None:
    for horizon, stop, target in [(1, 0.1, 0.3), (3, 0.1, 5.0), (6, 3.0, 3.0), (6, 2.5, 5.0), (4, 1.0, 2.0)]:
        for delta in (by_delta(0.3, 0.4), by_delta(0.3, 0.9)):
            some = record(pte=f"H{horizon}_SL{stop}_TP{target}", **delta, **complete(0, {"sortino": 3}))
            assert_can_be_typed(next_move(code, some, list(Code)).command, some)


@pytest.mark.parametrize("pair", ["n_folds=5", "CVN_WALK_FORWARD_MODE=rolling", "CVN_TREND_FILTER=ema_200"])
def test_a_command_whose_run_would_refuse_the_screening_is_found_out(pair: str) -> None:
    assert is_refused(f"cvntrade walkforward --crypto {BTC} --set {pair}")
    assert is_refused(f"{TESTED} --set {pair}")
    assert not is_refused(f"{DISCOVER} --set {pair}")
    assert not is_refused(f"{TESTED} --set hpo_trials=20")


def test_a_command_that_cannot_be_typed_is_found_out() -> None:
    for wrong in ("cvntrade discover", f"{DISCOVER} --sets a=b", "cvntrade status --crypto BTCUSDC"):
        with pytest.raises(UsageError):
            parse(wrong)
    with pytest.raises(ValueError, match="SL_RANGE"):
        resolved(["sl_range=9"])


def test_a_next_command_sets_again_what_the_run_had_set() -> None:
    given = {"CVN_BACKTEST_DAYS": "92", "CVN_SCREENING_HORIZONS": "H2,H4", "CVN_SIMULATED_SIGNAL": "1.0"}
    found = finding("NO_CANDIDATES", **complete(0, {"std_f1": 3}), run_settings=given, variants={"cost": "bps_10"})
    assert found.next_command == (
        f"{DISCOVER} --factor cost --variant bps_10 --set backtest_days=92 --set horizons=H2,H4 "
        "--set CVN_SIMULATED_SIGNAL=1.0 --set n_folds=5"
    )
    widened = finding("NO_CANDIDATES", **complete(0, {"f1_delta": 3}), run_settings=given)
    assert widened.next_command.count("horizons=") == 1, "what the move changes is not set twice"
