"""Preflight against rules written down a second time, over thousands of configurations; and each rule by itself."""

from collections.abc import Collection, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from unittest import mock

import pandas as pd
import pytest
from hypothesis import HealthCheck, event, given
from hypothesis import settings as searching
from hypothesis import strategies as st

from cvntrade_assets.definitions import USED_KEYS
from cvntrade_assets.operations import preflight as judged
from cvntrade_assets.operations.estimates import RunEstimate, RunSize, estimate_run
from cvntrade_assets.operations.factors import FACTORS, resolve_run
from cvntrade_assets.operations.guardrails import GUARDRAILS, PREFLIGHT, Evaluation, Verdict
from cvntrade_assets.operations.preflight import judge_stored, preflight, refusals, sized
from cvntrade_assets.operations.rollout import RolloutStanding
from cvntrade_assets.settings import SETTINGS, Settings, SettingsError

NOW = pd.Timestamp("2025-09-01", tz="UTC")
NO_ROLLOUT = RolloutStanding(False, "", True, "no factor of this run needs a staged rollout")
NEEDS_ROLLOUT = RolloutStanding(True, "it changes CUSUM", False, "no canary has passed: run `cvntrade rollout` first")
IN_ROLLOUT = RolloutStanding(True, "it changes CUSUM", True, "the canary has passed")
REASON = "emergency retraining after a flash crash, approved by @risk"
OVERRIDE = {"CVN_GUARDRAIL_OVERRIDE": "1", "CVN_GUARDRAIL_OVERRIDE_REASON": REASON}
ALLOWED, BLOCKED, OVERRIDDEN = Verdict.ALLOWED, Verdict.BLOCKED, Verdict.OVERRIDDEN
PASSED, WARNED, UNKNOWN = Verdict.PASSED, Verdict.WARNED, Verdict.UNKNOWN

# The oracle: the rules of the guardrail design, in its own words and numbers, knowing nothing of the implementation.

DEFAULTS = {
    "CVN_CUSUM_TRAINING_ENABLED": "1",
    "CVN_CUSUM_FILTER_MODE": "event",
    "CVN_CUSUM_THRESHOLD_H": "3.0",
    "CVN_DEFAULT_HISTORY_MONTHS": "24",
    "CVN_TIMEFRAME": "30m",
    "CVN_SLICE_TRAIN": "0.80",
    "CVN_SLICE_VALIDATION": "0.06",
    "CVN_MAX_FEATURES": "60",
    "CVN_DEFAULT_N_TRIALS": "50",
    "CVN_TUNING_FOLDS": "3",
    "CVN_CLEANLAB": "off",
    "CVN_BINARY_CLASSIFICATION": "1",
    "CVN_THRESHOLD_METHOD": "f1_binary",
    "CVN_HPO_OBJECTIVE": "precision_recall_auc",
    "CVN_FOCAL_LOSS": "0",
    "CVN_FOCAL_GAMMA": "2.0",
    "CVN_LABEL_SMOOTHING": "none",
    "CVN_CALIBRATION": "sigmoid",
    "CVN_FEE_BPS": "7.5",
    "CVN_SLIPPAGE_BPS": "2.5",
    "CVN_COOLDOWN_CANDLES": "0",
    "CVN_TREND_FILTER": "off",
    "CVN_DEFAULT_PTE": "H4_SL1.0_TP2.0",
    "CVN_SL_MULT": "",
    "CVN_TP_MULT": "",
    "CVN_HPO_XGBOOST_30M_NUM_BOOST_ROUND": "",
    "CVN_GUARDRAIL_MAX_ROWS": "10000",
    "CVN_GUARDRAIL_MIN_ROWS": "50",
    "CVN_GUARDRAIL_MAX_FEATURES": "200",
    "CVN_GUARDRAIL_MEMORY_GIB": "24",
    "CVN_GUARDRAIL_ESTIMATED_MINUTES": "30",
    "CVN_GUARDRAIL_OVERRIDE": "0",
    "CVN_GUARDRAIL_OVERRIDE_REASON": "",
}
# Texts that the key takes, and texts that it must refuse.
TEXTS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "CVN_CUSUM_TRAINING_ENABLED": (("1", "0", "0", "0", "true", "off"), ("2", "enabled", "")),
    "CVN_CUSUM_FILTER_MODE": (("event", "stable", "stable"), ("enabled", "EVENT", "")),
    "CVN_CUSUM_THRESHOLD_H": (("3.0", "3", "1.5", "0.1", "20"), ("nan", "inf", "-inf", "0", "-1", "20.1", "high", "")),
    "CVN_DEFAULT_HISTORY_MONTHS": (("24", "60", "1", "120"), ("0", "121", "2.5", "1e2", "long")),
    # Of 4h and 1d no horizon, or not every one, is a whole number of candles, unless a stronger layer sets it right.
    "CVN_TIMEFRAME": (("30m", "5m", "1h", "15m", "4h", "1d"), ("7m", "30M", "2h", "")),
    # With 0.7 the four slices do not add up, unless a stronger layer sets it right.
    "CVN_SLICE_TRAIN": (("0.80", "0.8", "0.7"), ("0.99", "nan")),
    "CVN_MAX_FEATURES": (("60", "30", "500", "1000"), ("0", "1001", "all", "59.5")),
    "CVN_DEFAULT_N_TRIALS": (("50", "1", "1000"), ("0", "1001", "many")),
    "CVN_TUNING_FOLDS": (("3", "2", "20"), ("1", "21", "3.5")),
    "CVN_CLEANLAB": (("off", "filter", "reweight"), ("on", "")),
    "CVN_BINARY_CLASSIFICATION": (("1", "0", "yes"), ("binary", "3")),
    "CVN_THRESHOLD_METHOD": (("f1_binary", "expected_value"), ("f1", "")),
    "CVN_HPO_OBJECTIVE": (("precision_recall_auc", "f1_binary"), ("auc", "")),
    "CVN_FOCAL_LOSS": (("0", "1"), ("2",)),
    "CVN_DEFAULT_PTE": (
        ("H4_SL1.0_TP2.0", "H4_SL3_TP0.3", "H2_SL0.1_TP5", "H6_SL2_TP2"),
        ("H7_SL1_TP2", "H4_SL4_TP5", "H4_SL0.05_TP1", "H4_SL1_TP0.2", "H4_SL1_TP5.1", ""),
    ),
    "CVN_SL_MULT": (("", "0.1", "1.0", "3.0"), ("0.09", "3.01", "nan", "inf", "wide", "-1")),
    "CVN_TP_MULT": (("", "0.3", "1.0", "5.0"), ("0.29", "5.01", "nan", "-inf", "far")),
    "CVN_HPO_XGBOOST_30M_NUM_BOOST_ROUND": (("5000", "10", ""), ("9", "5001", "ten")),
    # Only operators may move a limit, and only a run may override.
    "CVN_GUARDRAIL_MAX_ROWS": (("10000", "1000", "100000"), ("0", "ten")),
    "CVN_GUARDRAIL_MIN_ROWS": (("50", "200"), ("49", "0", "-1")),
    "CVN_GUARDRAIL_MAX_FEATURES": (("200", "20"), ("0", "few")),
    "CVN_GUARDRAIL_MEMORY_GIB": (("24", "0.5", "4"), ("24.5", "nan", "0", "1e9")),
    "CVN_GUARDRAIL_ESTIMATED_MINUTES": (("30", "1"), ("nan", "0", "-5")),
    "CVN_GUARDRAIL_OVERRIDE": (("0", "1", "1"), ("maybe",)),
    "CVN_GUARDRAIL_OVERRIDE_REASON": (
        (REASON, REASON, "short, but @someone did approve it"),
        ("because I say so, and nobody else", "by @me", "urgent"),
    ),
}  # fmt: skip
NO_KEYS = (
    "CVN_CUSUM_TRAINING_MODE",
    "CVN_CUSUM_ENABLED",
    "CVN_MAX_ROWS",
    "cvn_max_features",
    "CVN_HPO_XGBOOST_30M_ETA",
)
LIMITS = frozenset(key for key in TEXTS if key.startswith("CVN_GUARDRAIL_") and "OVERRIDE" not in key)
OVERRIDES = frozenset(OVERRIDE)
HELD_TO = frozenset(
    ["CVN_CUSUM_TRAINING_ENABLED", "CVN_BINARY_CLASSIFICATION", "CVN_FOCAL_LOSS", "CVN_GUARDRAIL_OVERRIDE"]
)
TRUE = ("1", "true", "yes", "on")
# A horizon is a whole number of hours, and so of every shorter candle.
HOURS_OF_LONG_CANDLES = {"4h": 4, "1d": 24}
ROW_CAUSES = ("CVN_CUSUM_THRESHOLD_H", "CVN_DEFAULT_HISTORY_MONTHS", "CVN_TIMEFRAME", "CVN_SLICE_TRAIN")
TIME_CAUSES = (
    "CVN_MAX_FEATURES",
    "CVN_DEFAULT_N_TRIALS",
    "CVN_TUNING_FOLDS",
    "CVN_CLEANLAB",
    "CVN_BINARY_CLASSIFICATION",
    "CVN_FOCAL_LOSS",
)


@dataclass(frozen=True)
class Drawn:
    """One configuration: texts per layer, changed declared defaults, variants, size and standing."""

    defaults: Mapping[str, str]
    base_env: Mapping[str, str]
    variants: Mapping[str, str]
    run: Mapping[str, str]
    size: RunSize
    rollout: RolloutStanding
    rotten: frozenset[str] = field(default_factory=frozenset)

    def factor(self) -> dict[str, str] | None:
        """What the variants set; None when two of them disagree."""
        texts: dict[str, str] = {}
        for name, variant in self.variants.items():
            for key, text in FACTORS[name].variants[variant].items():
                if texts.get(key, text) != text:
                    return None
                texts[key] = text
        return texts

    def value(self, key: str) -> str:
        return next(layer[key] for layer in self._strongest_first() if key in layer)

    def layer(self, key: str) -> str:
        names = ("run", "factor", "base_env", "default")
        return next(name for name, layer in zip(names, self._strongest_first(), strict=True) if key in layer)

    def on(self, key: str) -> bool:
        return self.value(key) in TRUE

    def number(self, key: str) -> float:
        return float(self.value(key))

    def _strongest_first(self) -> tuple[Mapping[str, str], ...]:
        return self.run, self.factor() or {}, self.base_env, {**DEFAULTS, **self.defaults}


def refused(drawn: Drawn) -> bool:
    """Whether the settings break a rule: these always block."""
    factor = drawn.factor()
    if factor is None or drawn.rotten:
        return True
    if any(LIMITS & set(layer) for layer in (factor, drawn.run)) or OVERRIDES & set(drawn.base_env):
        return True
    return _contradicts(drawn)


def _contradicts(drawn: Drawn) -> bool:
    needs_two_classes = (
        drawn.on("CVN_FOCAL_LOSS")
        or drawn.value("CVN_THRESHOLD_METHOD") == "f1_binary"
        or drawn.value("CVN_HPO_OBJECTIVE") == "f1_binary"
    )
    horizon, stop, target = drawn.value("CVN_DEFAULT_PTE").split("_")
    hours = int(horizon.removeprefix("H"))
    stop_loss = float(drawn.value("CVN_SL_MULT") or stop.removeprefix("SL"))
    take_profit = float(drawn.value("CVN_TP_MULT") or target.removeprefix("TP"))
    return (
        (needs_two_classes and not drawn.on("CVN_BINARY_CLASSIFICATION"))
        or take_profit < stop_loss
        or hours % HOURS_OF_LONG_CANDLES.get(drawn.value("CVN_TIMEFRAME"), 1) != 0
        or drawn.number("CVN_SLICE_TRAIN") != 0.8
        or drawn.number("CVN_GUARDRAIL_MIN_ROWS") > drawn.number("CVN_GUARDRAIL_MAX_ROWS")
        or drawn.on("CVN_GUARDRAIL_OVERRIDE") != bool(drawn.value("CVN_GUARDRAIL_OVERRIDE_REASON"))
    )


def _same(key: str, one: str, other: str) -> bool:
    if key in HELD_TO:
        return (one in TRUE) == (other in TRUE)
    try:
        return float(one) == float(other)
    except ValueError:
        return one == other


# Of a number that is unusual in this direction there is less to do, not more.
LESS_WHEN_LOWER = (
    "CVN_DEFAULT_HISTORY_MONTHS",
    "CVN_SLICE_TRAIN",
    "CVN_MAX_FEATURES",
    "CVN_DEFAULT_N_TRIALS",
    "CVN_TUNING_FOLDS",
)
LONGER_CANDLES = ("1h", "4h", "1d")


def _makes_less(key: str, text: str) -> bool:
    if key == "CVN_TIMEFRAME":
        return text in LONGER_CANDLES
    if key == "CVN_CUSUM_THRESHOLD_H":
        return float(text) > 3
    if key == "CVN_HPO_XGBOOST_30M_NUM_BOOST_ROUND":
        return float(text) < 400
    return key in LESS_WHEN_LOWER and float(text) < float(DEFAULTS[key])


def chosen(drawn: Drawn, causes: tuple[str, ...]) -> bool:
    values = {key: drawn.value(key) for key in causes}
    unusual = [
        key for key, text in values.items() if not _same(key, text, DEFAULTS[key]) and not _makes_less(key, text)
    ]
    return bool(unusual) and all(drawn.layer(key) in ("factor", "run") for key in unusual)


def row_causes(drawn: Drawn) -> tuple[str, ...]:
    if not drawn.on("CVN_CUSUM_TRAINING_ENABLED"):
        return ("CVN_CUSUM_TRAINING_ENABLED",)
    return ("CVN_CUSUM_FILTER_MODE",) if drawn.value("CVN_CUSUM_FILTER_MODE") == "stable" else ROW_CAUSES


def time_causes(drawn: Drawn) -> tuple[str, ...]:
    pin = "CVN_HPO_XGBOOST_30M_NUM_BOOST_ROUND"
    pinned = (pin,) if drawn.value("CVN_TIMEFRAME") == "30m" and drawn.value(pin) else ()
    return (*row_causes(drawn), *TIME_CAUSES, *pinned)


def expected(drawn: Drawn, estimate: RunEstimate) -> dict[str, Verdict]:
    """The verdicts that the design asks for."""
    rows, features = drawn.size.train_rows, drawn.size.model_features
    unless_overridden = OVERRIDDEN if drawn.on("CVN_GUARDRAIL_OVERRIDE") else BLOCKED
    too_many = rows > drawn.number("CVN_GUARDRAIL_MAX_ROWS")
    wide = features > drawn.number("CVN_GUARDRAIL_MAX_FEATURES")
    slow = estimate.minutes > drawn.number("CVN_GUARDRAIL_ESTIMATED_MINUTES")
    heavy = estimate.memory_gib > drawn.number("CVN_GUARDRAIL_MEMORY_GIB")
    both = "pte_envelope" in drawn.variants and {"sl_multiplier", "tp_multiplier"} & set(drawn.variants)
    many_rows = ALLOWED if chosen(drawn, row_causes(drawn)) else unless_overridden
    return {
        "rows_within_limit": many_rows if too_many else PASSED,
        "rows_enough": BLOCKED if rows < drawn.number("CVN_GUARDRAIL_MIN_ROWS") else PASSED,
        "features_within_limit": PASSED if not wide else ALLOWED if chosen(drawn, ("CVN_MAX_FEATURES",)) else WARNED,
        "memory_within_limit": BLOCKED if heavy else PASSED,
        "minutes_within_limit": PASSED if not slow else ALLOWED if chosen(drawn, time_causes(drawn)) else WARNED,
        "rollout_passed": unless_overridden if drawn.rollout.needed and not drawn.rollout.satisfied else PASSED,
        "variants_apart": WARNED if both else PASSED,
        "variants_effective": WARNED if _in_name_only(drawn) else PASSED,
    }  # fmt: skip


def _in_name_only(drawn: Drawn) -> bool:
    for name, variant in drawn.variants.items():
        texts = FACTORS[name].variants[variant]
        if any(not _same(key, drawn.value(key), text) for key, text in texts.items()):
            return True
    laid_over = [key for key in ("CVN_SL_MULT", "CVN_TP_MULT") if drawn.layer(key) != "factor"]
    own = drawn.value("CVN_DEFAULT_PTE").split("_")
    moved = [
        key
        for key, at in (("CVN_SL_MULT", own[1]), ("CVN_TP_MULT", own[2]))
        if drawn.value(key) and float(drawn.value(key)) != float(at[2:])
    ]
    # Once a barrier has moved, every multiple that the run or base_env laid over the variant's is named.
    return "pte_envelope" in drawn.variants and bool(moved) and any(drawn.value(key) for key in laid_over)


def layers(keys: tuple[str, ...], most: int) -> st.SearchStrategy[dict[str, str]]:
    """Some keys with texts that they take."""
    some = st.lists(st.sampled_from(keys), max_size=most, unique=True)
    return some.flatmap(lambda names: st.fixed_dictionaries({key: st.sampled_from(TEXTS[key][0]) for key in names}))


ORDINARY = tuple(key for key in TEXTS if key not in LIMITS | OVERRIDES)
# What can be declared wrongly without being at odds with the rest.
DECLARED_WRONGLY = {
    "CVN_CUSUM_TRAINING_ENABLED": "0",
    "CVN_CUSUM_FILTER_MODE": "stable",
    "CVN_CUSUM_THRESHOLD_H": "0.1",
}
SIZES = st.builds(
    lambda rows, features: RunSize(max(rows * 2, 1000), rows, max(features, 177), features),
    st.one_of(
        st.sampled_from([0, 49, 50, 51, 199, 1_000, 1_001, 9_999, 10_000, 10_001, 28_000, 100_001]),
        st.integers(0, 40_000),
        st.integers(10**7, 10**9),
    ),
    st.one_of(st.sampled_from([1, 60, 177, 200, 201]), st.integers(1, 1000)),
)
BROKEN = st.one_of(
    st.sampled_from([(key, text) for key, (_, bad) in TEXTS.items() for text in bad]),
    st.tuples(st.sampled_from(NO_KEYS), st.sampled_from(["1", "enabled", ""])),
)


@st.composite
def configurations(draw: st.DrawFn) -> Drawn:
    base_env = draw(layers((*ORDINARY, *sorted(LIMITS)), 4))
    run = draw(layers(ORDINARY, 4))
    kinds = draw(st.sampled_from(["plain", "plain", "plain", "override", "override", "misplaced", "broken"]))
    rotten: frozenset[str] = frozenset()
    if kinds == "override":
        run |= draw(st.sampled_from([OVERRIDE, OVERRIDE, OVERRIDE, {"CVN_GUARDRAIL_OVERRIDE": "1"}]))
    if kinds == "misplaced":
        run |= draw(layers(tuple(sorted(LIMITS)), 1))
        base_env |= draw(st.sampled_from([{}, OVERRIDE]))
    if kinds == "broken":
        key, text = draw(BROKEN)
        layer = draw(st.sampled_from([base_env, run]))
        layer[key] = text
        rotten = frozenset([key])
    names = draw(st.lists(st.sampled_from(sorted(FACTORS)), max_size=3, unique=True))
    variants = {name: draw(st.sampled_from(sorted(FACTORS[name].variants))) for name in names}
    wrong = draw(st.lists(st.sampled_from(sorted(DECLARED_WRONGLY)), max_size=1))
    defaults = {key: DECLARED_WRONGLY[key] for key in wrong}
    standing = draw(st.sampled_from([NO_ROLLOUT, IN_ROLLOUT, NEEDS_ROLLOUT]))
    return Drawn(defaults, base_env, variants, run, draw(SIZES), standing, rotten)


@contextmanager
def declared(defaults: Mapping[str, str]):
    """The declared defaults as somebody's mistake left them."""
    with mock.patch.dict(SETTINGS, {key: replace(SETTINGS[key], default=text) for key, text in defaults.items()}):
        yield


def resolved(drawn: Drawn) -> Settings:
    with declared(drawn.defaults):
        return resolve_run(base_env=drawn.base_env, run=drawn.run, variants=drawn.variants, now=NOW)


def verdicts(evaluations: list[Evaluation]) -> dict[str, Verdict]:
    return {each.guardrail: each.verdict for each in evaluations}


@searching(max_examples=2500, deadline=None, suppress_health_check=list(HealthCheck))
@given(configurations())
def test_no_breach_gets_past_and_nothing_valid_is_blocked(drawn: Drawn):
    if refused(drawn):
        event("settings refused")
        with pytest.raises(SettingsError):
            resolved(drawn)
        return
    settings = resolved(drawn)
    found = preflight(drawn.size, settings, used_keys=USED_KEYS, rollout=drawn.rollout)
    assert verdicts(found) == expected(drawn, estimate_run(drawn.size, settings))
    assert [each.guardrail for each in found] == list(PREFLIGHT)
    event(f"stops: {any(each.stops for each in found)}")
    _tells_the_truth(found, settings, drawn)


def _tells_the_truth(found: list[Evaluation], settings: Settings, drawn: Drawn) -> None:
    for each in found:
        assert each.message
        assert (each.override_reason == REASON) if each.verdict is OVERRIDDEN else each.override_reason is None
        if each.verdict is ALLOWED:
            assert each.explicit and "an explicit choice: CVN_" in each.message
        if each.verdict in (BLOCKED, OVERRIDDEN, WARNED) and each.value is not None:
            assert each.limit is not None and "CVN_GUARDRAIL_" in each.message
    summary = {"candles": drawn.size.candles, "train_rows": drawn.size.train_rows, "offered_features": 177}
    size = sized(drawn.size.candles, drawn.size.train_rows, 177, settings)
    same = preflight(size, settings, used_keys=USED_KEYS, rollout=drawn.rollout)
    assert refusals(summary, settings, drawn.rollout) == [each for each in same if each.stops]


# Each rule by itself: data that must trip it, data that must not.


def judge(
    rows: int = 1_500,
    features: int = 60,
    base_env: Mapping[str, str] | None = None,
    run: Mapping[str, str] | None = None,
    variants: Mapping[str, str] | None = None,
    rollout: RolloutStanding = NO_ROLLOUT,
    estimate: RunEstimate | None = None,
    used_keys: Collection[str] = USED_KEYS,
) -> dict[str, Evaluation]:
    settings = resolve_run(base_env=base_env or {}, run=run or {}, variants=variants, now=NOW)
    with mock.patch.object(judged, "estimate_run", lambda *_: estimate or RunEstimate(1.0, 1.0)):
        found = preflight(RunSize(35_000, rows, 177, features), settings, used_keys=used_keys, rollout=rollout)
    return {each.guardrail: each for each in found}


def test_an_ordinary_run_passes_everything():
    assert {each.verdict for each in judge().values()} == {PASSED}


@pytest.mark.parametrize("rows", [10_001, 28_000])
def test_rows_nobody_chose_are_blocked(rows: int):
    found = judge(rows, base_env={"CVN_CUSUM_TRAINING_ENABLED": "0"})["rows_within_limit"]
    assert (found.verdict, found.value, found.limit) == (BLOCKED, rows, 10_000)
    assert (found.explicit, found.layer) == (False, "base_env")
    assert found.message.startswith(f"{rows:,} training rows, more than CVN_GUARDRAIL_MAX_ROWS=10,000. It comes from ")
    assert "CVN_CUSUM_TRAINING_ENABLED=0 (layer base_env); neither a variant nor the run chose" in found.message
    assert "--set CVN_CUSUM_TRAINING_ENABLED=…" in found.message


@pytest.mark.parametrize(
    "chosen_by", [{"run": {"CVN_CUSUM_TRAINING_ENABLED": "0"}}, {"variants": {"cusum_training_mode": "disabled"}}]
)
def test_rows_that_were_chosen_are_allowed_and_said_to_be(chosen_by: Mapping[str, Mapping[str, str]]):
    found = judge(28_000, **chosen_by)["rows_within_limit"]  # type: ignore[arg-type]
    layer = "run" if "run" in chosen_by else "factor"
    assert (found.verdict, found.explicit, found.layer) == (ALLOWED, True, layer)
    assert f"an explicit choice: CVN_CUSUM_TRAINING_ENABLED=0 (layer {layer})" in found.message


def test_the_limit_itself_is_within_it():
    assert judge(10_000)["rows_within_limit"].verdict is PASSED
    assert judge(50)["rows_enough"].verdict is PASSED
    assert judge(features=200)["features_within_limit"].verdict is PASSED
    at_limits = judge(estimate=RunEstimate(24.0, 30.0))
    assert {at_limits[name].verdict for name in ("memory_within_limit", "minutes_within_limit")} == {PASSED}


@pytest.mark.parametrize("by_whom", [{}, {"run": {"CVN_CUSUM_THRESHOLD_H": "20"}}, {"run": OVERRIDE}])
def test_too_few_rows_are_blocked_whoever_chose(by_whom: Mapping[str, Mapping[str, str]]):
    found = judge(49, **by_whom)["rows_enough"]  # type: ignore[arg-type]
    assert (found.verdict, found.value, found.limit) == (BLOCKED, 49, 50)
    assert "fewer than CVN_GUARDRAIL_MIN_ROWS=50" in found.message


@pytest.mark.parametrize("by_whom", [{}, {"run": {"CVN_CUSUM_TRAINING_ENABLED": "0"}}, {"run": OVERRIDE}])
def test_too_much_memory_is_blocked_whoever_chose(by_whom: Mapping[str, Mapping[str, str]]):
    found = judge(estimate=RunEstimate(24.01, 1.0), **by_whom)["memory_within_limit"]  # type: ignore[arg-type]
    assert (found.verdict, found.value, found.limit) == (BLOCKED, 24.01, 24)


@pytest.mark.parametrize(
    ("name", "changes", "key"),
    [
        ("features_within_limit", {"features": 201}, "CVN_MAX_FEATURES"),
        ("minutes_within_limit", {"estimate": RunEstimate(1.0, 30.5)}, "CVN_DEFAULT_N_TRIALS"),
    ],
)
def test_what_is_slow_warns_unless_it_was_chosen(name: str, changes: dict, key: str):
    assert judge(**changes, base_env={key: "1000"})[name].verdict is WARNED
    assert judge(**changes, run={key: "1000"})[name].verdict is ALLOWED


@pytest.mark.parametrize("name", ["memory_within_limit", "minutes_within_limit"])
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_an_estimate_that_is_no_number_is_no_pass(name: str, number: float):
    found = judge(estimate=RunEstimate(number, number))[name]
    assert found.verdict is UNKNOWN
    assert found.value is None
    assert found.stops is (name == "memory_within_limit")


def test_an_override_makes_a_warning_of_a_block_and_keeps_its_reason():
    off = {"CVN_CUSUM_TRAINING_ENABLED": "0"}
    found = judge(28_000, base_env=off, run=OVERRIDE, rollout=NEEDS_ROLLOUT)
    for name in ("rows_within_limit", "rollout_passed"):
        assert (found[name].verdict, found[name].override_reason) == (OVERRIDDEN, REASON)
        assert REASON in found[name].message
        assert not found[name].stops
    assert judge(28_000, run={**off, **OVERRIDE})["rows_within_limit"].verdict is ALLOWED, "chosen needs no override"


@pytest.mark.parametrize(
    ("standing", "verdict"), [(NO_ROLLOUT, PASSED), (IN_ROLLOUT, PASSED), (NEEDS_ROLLOUT, BLOCKED)]
)
def test_a_critical_factor_needs_its_rollout(standing: RolloutStanding, verdict: Verdict):
    found = judge(variants={"cusum_training_mode": "disabled"}, rollout=standing)["rollout_passed"]
    assert found.verdict is verdict
    assert standing.detail in found.message


@pytest.mark.parametrize("other", [{"sl_multiplier": "sl_1_2"}, {"tp_multiplier": "tp_3_0"}])
def test_factors_that_move_one_barrier_warn(other: Mapping[str, str]):
    assert judge(variants={"pte_envelope": "h4_sl1_tp3", **other})["variants_apart"].verdict is WARNED
    assert judge(variants={"pte_envelope": "h4_sl1_tp3", "calibration": "platt"})["variants_apart"].verdict is PASSED


@pytest.mark.parametrize(
    ("variants", "run", "verdict"),
    [
        ({"cusum_training_mode": "relaxed_1_5"}, {"CVN_CUSUM_THRESHOLD_H": "3"}, WARNED),
        ({"cusum_training_mode": "relaxed_1_5"}, {"CVN_CUSUM_THRESHOLD_H": "1.5"}, PASSED),
        ({"label_smoothing": "mild"}, {}, PASSED),
        ({}, {}, PASSED),
    ],
)
def test_a_variant_that_changes_nothing_warns(variants: Mapping[str, str], run: Mapping[str, str], verdict: Verdict):
    assert judge(variants=variants, run=run)["variants_effective"].verdict is verdict


@pytest.mark.parametrize("variant", [{"cooldown": "candles_4"}, {"trend_filter": "ema_50"}])
def test_a_variant_that_no_asset_reads_warns(variant: Mapping[str, str]):
    unread = USED_KEYS - {"CVN_COOLDOWN_CANDLES", "CVN_TREND_FILTER"}
    found = judge(variants=variant, used_keys=unread)["variants_effective"]
    assert found.verdict is WARNED and "which no asset reads: it changes nothing" in found.message
    assert judge(variants=variant)["variants_effective"].verdict is PASSED


def test_every_variant_is_read_by_an_asset():
    idle = {
        factor.name
        for factor in FACTORS.values()
        for variant in factor.variants
        if judge(variants={factor.name: variant})["variants_effective"].verdict is WARNED
    }
    assert idle == set()


def test_a_training_set_of_unknown_size_is_refused():
    settings = resolve_run(base_env={}, run={}, now=NOW)
    [found] = refusals({"train_rows": 1_500, "candles": 35_000}, settings, NO_ROLLOUT)
    assert found.verdict is UNKNOWN
    assert found.stops
    assert found.message == "it was stored without offered_features, so nothing is known of its size: build it again"


def test_a_fine_training_set_is_not_refused():
    settings = resolve_run(base_env={}, run={}, now=NOW)
    assert refusals({"train_rows": 1_500, "candles": 35_000, "offered_features": 177}, settings, NO_ROLLOUT) == []


@pytest.mark.parametrize(("left", "verdict"), [(None, PASSED), (50, PASSED), (49, BLOCKED)])
def test_rows_that_the_label_pipeline_left_are_those_that_must_be_enough(left: int | None, verdict: Verdict):
    settings = resolve_run(base_env={}, run={"CVN_CLEANLAB": "filter", **OVERRIDE}, now=NOW)
    stored = {"train_rows": 60, "candles": 35_000, "offered_features": 177}
    found = {each.guardrail: each for each in judge_stored(stored, settings, NO_ROLLOUT, left)}
    assert found["rows_enough"].verdict is verdict
    assert (found["rows_enough"].value, found["rows_within_limit"].value) == (left or 60, 60)


def test_what_a_stored_training_set_is_judged_by_is_all_that_can_stop_a_run():
    settings = resolve_run(base_env={}, run={}, now=NOW)
    stored = {"train_rows": 1_500, "candles": 35_000, "offered_features": 177}
    found = {each.guardrail for each in judge_stored(stored, settings, NO_ROLLOUT)}
    assert found >= {name for name in PREFLIGHT if GUARDRAILS[name].blocks}


def test_memory_names_the_workers_among_its_causes():
    found = judge(estimate=RunEstimate(25.0, 1.0), base_env={"CVN_TUNING_WORKERS": "64"})["memory_within_limit"]
    assert "CVN_TUNING_WORKERS=64 (layer base_env)" in found.message and "fewer CVN_TUNING_WORKERS" in found.message


# What the pod of the run has; None for a run without one. The estimate is 3 GiB, the operators' limit 2, 4 or 24.
@pytest.mark.parametrize(
    ("limit", "pod_gib", "verdict", "said"),
    [
        ("24", None, PASSED, "at most 24"),
        ("24", 4.0, PASSED, "at most 4"),
        ("24", 3.0, PASSED, "at most 3"),
        ("24", 2.99, BLOCKED, "more than the 2.99 GiB of the run's pod (CVN_POD_…_MEMORY_GIB)"),
        ("2", 4.0, BLOCKED, "more than CVN_GUARDRAIL_MEMORY_GIB=2"),
        ("4", 64.0, PASSED, "at most 4"),
    ],
)
def test_memory_is_held_against_what_the_pod_has(
    monkeypatch: pytest.MonkeyPatch, limit: str, pod_gib: float | None, verdict: Verdict, said: str
):
    monkeypatch.setattr(judged, "estimate_run", lambda size, settings: RunEstimate(3.0, 1.0))
    settings = resolve_run(base_env={"CVN_GUARDRAIL_MEMORY_GIB": limit}, run={}, now=NOW)
    stored = {"train_rows": 1_500, "candles": 35_000, "offered_features": 177}
    found = {each.guardrail: each for each in judge_stored(stored, settings, NO_ROLLOUT, pod_gib=pod_gib)}
    assert found["memory_within_limit"].verdict is verdict
    assert said in found["memory_within_limit"].message
