import ast
import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvntrade_assets import setting_kinds, settings
from cvntrade_assets.hyperparameters import HYPERPARAMETERS, bounds, hyperparameter_key
from cvntrade_assets.settings import (
    EVERY_LAYER,
    EXPLICIT_LAYERS,
    HYPERPARAMETER_SETTINGS,
    RETIRED,
    SETTINGS,
    SHORT_NAMES,
    Layer,
    Settings,
    SettingsError,
    find_setting,
    read_value,
    repeats_default,
    resolve,
)

NOW = pd.Timestamp("2025-09-15 10:17", tz="UTC")
LAYERS = ("base_env", "factor", "run")
FAMILY = tuple(
    hyperparameter_key(model, timeframe, item.name)
    for model, items in HYPERPARAMETERS.items()
    for timeframe in ("5m", "30m")
    for item in items
)
WHOLE = sorted(name for name, item in SETTINGS.items() if isinstance(item.kind, setting_kinds.Whole))
NUMBERS = sorted(name for name, item in SETTINGS.items() if isinstance(item.kind, setting_kinds.Number))
CHOICES = sorted(name for name, item in SETTINGS.items() if isinstance(item.kind, setting_kinds.Choice))
FLAGS = sorted(name for name, item in SETTINGS.items() if isinstance(item.kind, setting_kinds.Flag))
SLICES = ("CVN_SLICE_TRAIN", "CVN_SLICE_VALIDATION", "CVN_SLICE_CALIBRATION", "CVN_SLICE_TEST")

# What the issue names; a default is a promise, so it stands here a second time.
DEFAULTS = {
    "CVN_MARKET": "binance",
    "CVN_AS_OF": "now",
    "CVN_TIMEFRAME": "30m",
    "CVN_BACKTEST_TIMEFRAME": "5m",
    "CVN_DEFAULT_HISTORY_MONTHS": "24",
    "CVN_DEFAULT_PTE": "H4_SL1.0_TP2.0",
    "CVN_SL_MULT": "",
    "CVN_TP_MULT": "",
    "CVN_BINARY_CLASSIFICATION": "1",
    "CVN_CUSUM_TRAINING_ENABLED": "1",
    "CVN_CUSUM_FILTER_MODE": "event",
    "CVN_CUSUM_THRESHOLD_H": "3.0",
    "CVN_LABEL_SMOOTHING": "none",
    "CVN_CLEANLAB": "off",
    "CVN_FOCAL_LOSS": "0",
    "CVN_HPO_OBJECTIVE": "precision_recall_auc",
    "CVN_CALIBRATION": "sigmoid",
    "CVN_COOLDOWN_CANDLES": "0",
    "CVN_TREND_FILTER": "off",
    "CVN_GUARDRAIL_MAX_ROWS": "10000",
    "CVN_GUARDRAIL_MIN_ROWS": "50",
    "CVN_GUARDRAIL_MAX_FEATURES": "200",
    "CVN_GUARDRAIL_MEMORY_GIB": "24.0",
    "CVN_GUARDRAIL_ESTIMATED_MINUTES": "30.0",
    "CVN_GUARDRAIL_STAGE_MINUTES": "30.0",
    "CVN_GUARDRAIL_SLOW_RUN_MINUTES": "10.0",
    "CVN_GUARDRAIL_CRITICAL_RUN_MINUTES": "30.0",
    "CVN_GUARDRAIL_FACTOR_MINUTES": "5.0",
    "CVN_GUARDRAIL_STUCK_MINUTES": "15.0",
    "CVN_GUARDRAIL_OVERRIDE": "0",
    "CVN_GUARDRAIL_OVERRIDE_REASON": "",
    "CVN_S40_SKIP_S22A1_CROSSREF": "0",
}
OVERRIDE, REASON = "CVN_GUARDRAIL_OVERRIDE", "CVN_GUARDRAIL_OVERRIDE_REASON"
LIMITS = sorted(name for name in SETTINGS if name.startswith("CVN_GUARDRAIL_") and name not in (OVERRIDE, REASON))
GATES = sorted(name for name in SETTINGS if name.startswith("CVN_GATE_"))
# What operators are told by: no run makes its own alarms quieter.
_WATCHED = ("CVN_SIGNAL_", "CVN_FRESHNESS_", "CVN_STATE_", "CVN_ALERT_", "CVN_DRIFT_", "CVN_CORE_", "CVN_WATCHDOG_")
WATCHED = sorted(name for name in SETTINGS if name.startswith(_WATCHED))
THREE_CLASSES = {"CVN_BINARY_CLASSIFICATION": "0", "CVN_THRESHOLD_METHOD": "expected_value"}


def resolved(**layers: dict[str, str]) -> Settings:
    return resolve(base_env=layers.get("base_env", {}), factor=layers.get("factor"), run=layers.get("run", {}), now=NOW)


def refusal(**layers: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as caught:
        resolved(**layers)
    return str(caught.value)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_key_is_declared_whole(name):
    declared = SETTINGS[name]
    assert declared.name == name
    assert declared.stage
    assert len(declared.meaning) > 10
    assert declared.kind.expected
    item = read_value(name, declared.default, Layer.DEFAULT)
    # The default is written canonically, so `settings show` says the same in both columns.
    assert item.layer is Layer.DEFAULT
    assert declared.layers > {Layer.DEFAULT}, "nobody could set it"
    for layer in declared.layers:
        assert read_value(name, item.text, layer).value == item.value


def test_the_defaults_that_the_issue_names():
    found = resolved()
    assert {name: found.text(name) for name in DEFAULTS} == DEFAULTS
    assert sum(found.number(name) for name in SLICES) == pytest.approx(1.0)


def test_a_run_lists_every_declared_key_and_then_what_was_pinned():
    key = hyperparameter_key("XGBOOST", "30m", "max_depth")
    names = [item.setting.name for item in resolved(run={key: "3"})]
    assert names == [*SETTINGS, key]


@pytest.mark.parametrize(
    ("given_layers", "text", "layer", "explicit"),
    [
        ((), "60", Layer.DEFAULT, False),
        (("base_env",), "11", Layer.BASE_ENV, False),
        (("factor",), "12", Layer.FACTOR, True),
        (("run",), "13", Layer.RUN, True),
        (("base_env", "factor"), "12", Layer.FACTOR, True),
        (("base_env", "run"), "13", Layer.RUN, True),
        (("factor", "run"), "13", Layer.RUN, True),
        (("base_env", "factor", "run"), "13", Layer.RUN, True),
    ],
)
def test_the_strongest_layer_wins_and_is_remembered(given_layers, text, layer, explicit):
    values = {"base_env": "11", "factor": "12", "run": "13"}
    found = resolved(**{name: {"CVN_MAX_FEATURES": values[name]} for name in given_layers})
    assert found.text("CVN_MAX_FEATURES") == text
    assert found.whole("CVN_MAX_FEATURES") == int(text)
    assert found["CVN_MAX_FEATURES"].layer is layer
    assert found.is_explicit("CVN_MAX_FEATURES") is explicit
    # Nothing else changed its layer.
    assert {item.layer for item in found if item.setting.name != "CVN_MAX_FEATURES"} == {Layer.DEFAULT}


def test_a_key_that_nobody_pinned_is_not_explicit():
    assert not resolved().is_explicit("CVN_HPO_XGBOOST_30M_MAX_DEPTH")
    assert not resolved().is_explicit("CVN_NOTHING")


def test_a_layer_that_repeats_the_default_still_counts_as_that_layer():
    assert resolved(run={"CVN_MAX_FEATURES": "60"}).is_explicit("CVN_MAX_FEATURES")


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("value", ["1", "event", ""])
def test_the_retired_key_is_refused_and_names_both_successors(layer, value):
    message = refusal(**{layer: {"CVN_CUSUM_TRAINING_MODE": value}})
    assert "CVN_CUSUM_TRAINING_MODE is retired" in message
    assert "CVN_CUSUM_TRAINING_ENABLED" in message
    assert "CVN_CUSUM_FILTER_MODE" in message
    assert not set(RETIRED) & set(SETTINGS)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("CVN_MAX_FEATURE", "CVN_MAX_FEATURES"),
        ("CVN_CUSUM_TRESHOLD_H", "CVN_CUSUM_THRESHOLD_H"),
        ("cvn_market", "CVN_MARKET"),
        ("CVN_N_TRIALS", "CVN_DEFAULT_N_TRIALS"),
        ("CVN_HPO_OBJECTIV", "CVN_HPO_OBJECTIVE"),
    ],
)
def test_an_unknown_key_names_those_that_are_close(layer, name, meant):
    message = refusal(**{layer: {name: "1"}})
    assert message.startswith(f"{name} is not a setting. Did you mean ")
    if name != "cvn_market":
        assert meant in message.split("`cvntrade settings show`")[0]


def test_a_key_close_to_nothing_names_them_all():
    message = refusal(run={"ZZZ": "1"})
    assert all(name in message for name in SETTINGS)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("CVN_MAX_FEATURES", "sixty"),
        ("CVN_MAX_FEATURES", "60.0"),
        ("CVN_MAX_FEATURES", ""),
        ("CVN_MAX_FEATURES", "0"),
        ("CVN_MAX_FEATURES", "1001"),
        ("CVN_MAX_FEATURES", "nan"),
        ("CVN_MAX_FEATURES", "6_0"),
        ("CVN_MAX_FEATURES", "٦٠"),
        ("CVN_MAX_FEATURES", "inf"),
        ("CVN_SEED", "-1"),
        ("CVN_SEED", str(2**31)),
        ("CVN_CUSUM_THRESHOLD_H", "nan"),
        ("CVN_CUSUM_THRESHOLD_H", "inf"),
        ("CVN_CUSUM_THRESHOLD_H", "-inf"),
        ("CVN_CUSUM_THRESHOLD_H", "1e400"),
        ("CVN_CUSUM_THRESHOLD_H", "0.09"),
        ("CVN_CUSUM_THRESHOLD_H", "20.1"),
        ("CVN_CUSUM_THRESHOLD_H", ""),
        ("CVN_SL_MULT", "0"),
        ("CVN_TP_MULT", "NaN"),
        ("CVN_BINARY_CLASSIFICATION", "2"),
        ("CVN_BINARY_CLASSIFICATION", ""),
        ("CVN_CUSUM_FILTER_MODE", "Event"),
        ("CVN_CUSUM_FILTER_MODE", ""),
        ("CVN_TIMEFRAME", "7m"),
        ("CVN_DEFAULT_PTE", "H7_SL1.0_TP2.0"),
        ("CVN_DEFAULT_PTE", "H4_SL0_TP2.0"),
        ("CVN_DEFAULT_PTE", "4h"),
        ("CVN_DEFAULT_PTE", "H4_SL0.09_TP2.0"),
        ("CVN_DEFAULT_PTE", "H4_SL3.1_TP2.0"),
        ("CVN_DEFAULT_PTE", "H4_SL1.0_TP0.2"),
        ("CVN_DEFAULT_PTE", "H4_SL1.0_TP50"),
        ("CVN_AS_OF", "yesterday"),
        ("CVN_AS_OF", "2025-13-01"),
        ("CVN_AS_OF", "1756684800"),
        ("CVN_AS_OF", ""),
        ("CVN_AS_OF", "2025-09"),
        ("CVN_AS_OF", "2025-09-01Z"),
        ("CVN_AS_OF", "2025-09-01 12:30"),
        ("CVN_AS_OF", "2025-09-01T12"),
        ("CVN_AS_OF", "2025-09-01T24:00"),
        ("CVN_AS_OF", "2025-09-01T12:30:15.5Z"),
        ("CVN_AS_OF", "2025-09-01T12:30 UTC"),
        ("CVN_AS_OF", "2025-09-01T12:30Z and more"),
        ("CVN_AS_OF", "2025-09-01T12:30+02"),
        ("CVN_AS_OF", "2025-09-01T12:30+99:00"),
        ("CVN_AS_OF", "2025-09-01 or so"),
        ("CVN_AS_OF", "٢٠٢٥-09-01"),
    ],
)
@pytest.mark.parametrize("layer", LAYERS)
def test_a_wrong_value_is_refused_with_key_value_layer_and_what_is_expected(layer, name, text):
    message = refusal(**{layer: {name: text}})
    assert f"{name}={text!r} (layer {layer}) is not valid: expected {SETTINGS[name].kind.expected}" in message


@pytest.mark.parametrize(
    ("name", "texts", "canonical"),
    [
        ("CVN_BINARY_CLASSIFICATION", ("1", "true", "TRUE", "on", "yes", " 1 "), "1"),
        ("CVN_BINARY_CLASSIFICATION", ("0", "false", "Off", "no"), "0"),
        ("CVN_CUSUM_THRESHOLD_H", ("3", "3.0", "3.", "03", "3e0", " 3 "), "3.0"),
        ("CVN_FOCAL_GAMMA", ("0", "-0", "0.0", "-0.0"), "0.0"),
        ("CVN_MAX_FEATURES", ("60", "060", "+60"), "60"),
        ("CVN_SL_MULT", ("", " "), ""),
        ("CVN_DEFAULT_PTE", ("H4_SL1_TP2", "H4_SL1.0_TP2.0", "H4_SL1.00_TP2.0"), "H4_SL1.0_TP2.0"),
        ("CVN_AS_OF", ("2025-09-01", "2025-09-01T00:00Z", "2025-09-01T02:00:00+02:00"), "2025-09-01T00:00:00Z"),
        ("CVN_AS_OF", ("2025-09-01T12:30", "2025-09-01T12:30:00", "2025-09-01T08:00-04:30"), "2025-09-01T12:30:00Z"),
        ("CVN_BINANCE_ARCHIVE_URL", ("https://host/data", "https://host/data/"), "https://host/data"),
    ],
)
def test_one_value_has_one_text(name, texts, canonical):
    companion = {"CVN_THRESHOLD_METHOD": "expected_value"} if name == "CVN_BINARY_CLASSIFICATION" else {}
    found = [resolved(base_env=companion, run={name: text}) for text in texts]
    assert {item.text(name) for item in found} == {canonical}
    assert len({str(item.used([name])) for item in found}) == 1


def test_typed_accessors_give_the_declared_type():
    found = resolved()
    assert found.flag("CVN_BINARY_CLASSIFICATION") is True
    assert found.whole("CVN_SEED") == 42
    assert found.number("CVN_FEE_BPS") == 7.5
    for wrong in (
        lambda: found.flag("CVN_SEED"),
        lambda: found.whole("CVN_FOCAL_LOSS"),
        lambda: found.number("CVN_SEED"),
    ):
        with pytest.raises(AssertionError):
            wrong()
    with pytest.raises(KeyError):
        found.text("CVN_NOTHING")


def test_the_four_slices_must_add_up():
    good = dict(zip(SLICES, ("0.5", "0.1", "0.2", "0.2"), strict=True))
    assert resolved(run=good).number("CVN_SLICE_TRAIN") == 0.5
    assert resolved(run=dict(zip(SLICES, ("0.7", "0.1", "0.1", "0.1"), strict=True))).number("CVN_SLICE_TEST") == 0.1
    message = refusal(base_env={"CVN_SLICE_TRAIN": "0.7"})
    assert "the four slices must add up to 1, they add up to 0.9" in message
    assert "CVN_SLICE_TRAIN=0.7" in message
    assert "Set all four" in message
    assert all(name in message for name in SLICES)


def test_the_focal_loss_is_for_two_classes():
    assert resolved(run={"CVN_FOCAL_LOSS": "1"}).flag("CVN_FOCAL_LOSS")
    message = refusal(base_env={"CVN_FOCAL_LOSS": "1"}, run={"CVN_BINARY_CLASSIFICATION": "0"})
    assert "CVN_BINARY_CLASSIFICATION=1 or CVN_FOCAL_LOSS=0" in message


@pytest.mark.parametrize(
    ("name", "two_classes", "other"),
    [
        ("CVN_THRESHOLD_METHOD", "f1_binary", "expected_value"),
        ("CVN_TRADE_THRESHOLD_METHOD", "f1_binary", "expected_value"),
        ("CVN_HPO_OBJECTIVE", "f1_binary", "precision_recall_auc"),
        ("CVN_FOCAL_LOSS", "1", "0"),
    ],
)
@pytest.mark.parametrize("layer", LAYERS)
def test_what_needs_two_classes_is_refused_on_three(layer, name, two_classes, other):
    assert resolved(**{layer: {name: two_classes}}).text(name) == two_classes
    assert resolved(base_env=THREE_CLASSES, **({} if layer == "base_env" else {layer: {name: other}}))
    layers = {"run": dict(THREE_CLASSES)}
    layers[layer] = {**layers.get(layer, {}), name: two_classes}
    if layer != "run":
        layers["run"].pop(name, None)
    message = refusal(**layers)
    assert message.startswith(f"{name}={two_classes} (layer {layer}) is defined for two classes only")
    assert "CVN_BINARY_CLASSIFICATION=0 (layer run)" in message
    assert f"set CVN_BINARY_CLASSIFICATION=1 or {name}={other}" in message


def test_three_classes_need_another_threshold_than_the_default():
    assert "CVN_THRESHOLD_METHOD=f1_binary (layer default)" in refusal(run={"CVN_BINARY_CLASSIFICATION": "0"})
    assert not resolved(run=THREE_CLASSES).flag("CVN_BINARY_CLASSIFICATION")


@pytest.mark.parametrize(
    ("texts", "inverted"),
    [
        ({"CVN_DEFAULT_PTE": "H4_SL2.0_TP1.9"}, True),
        ({"CVN_DEFAULT_PTE": "H4_SL2.0_TP2.0"}, False),
        ({"CVN_SL_MULT": "2.5"}, True),
        ({"CVN_SL_MULT": "2.0"}, False),
        ({"CVN_TP_MULT": "0.9"}, True),
        ({"CVN_TP_MULT": "1.0"}, False),
        ({"CVN_SL_MULT": "1.5", "CVN_TP_MULT": "1.2"}, True),
        ({"CVN_SL_MULT": "1.2", "CVN_TP_MULT": "1.2"}, False),
        # The PTE alone would be refused; what is in force is what counts.
        ({"CVN_DEFAULT_PTE": "H4_SL2.0_TP1.0", "CVN_TP_MULT": "3.0"}, False),
    ],
)
@pytest.mark.parametrize("layer", LAYERS)
def test_a_take_profit_nearer_than_the_stop_loss_is_refused_and_equal_is_not(layer, texts, inverted):
    if not inverted:
        found = resolved(**{layer: texts}).pte
        assert found.take_profit >= found.stop_loss
        return
    message = refusal(**{layer: texts})
    assert "lies nearer than the stop-loss" in message
    for name, text in texts.items():
        assert f"{name}={text} (layer {layer})" in message


def test_barriers_are_compared_across_layers():
    message = refusal(base_env={"CVN_SL_MULT": "2.5"}, run={"CVN_TP_MULT": "2.4"})
    assert "CVN_SL_MULT=2.5 (layer base_env)" in message
    assert "CVN_TP_MULT=2.4 (layer run)" in message


WRONG_NUMBERS = (
    "nan",
    "NaN",
    "inf",
    "-inf",
    "Infinity",
    "1e999",
    "abc",
    "1,5",
    "0x1",
    "-1",
    "--1",
    "1 2",
    "1_0",
    "0_1.5",
    "٢",
    "1.5%",
    "\x00",
)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        *(("CVN_SL_MULT", text) for text in (*WRONG_NUMBERS, "0", "0.09", "3.01")),
        *(("CVN_TP_MULT", text) for text in (*WRONG_NUMBERS, "0", "0.29", "5.01")),
        *(("CVN_DEFAULT_PTE", f"H4_SL{text}_TP2.0") for text in (*WRONG_NUMBERS, "", "0", "0.09", "3.01")),
        *(("CVN_DEFAULT_PTE", f"H4_SL0.3_TP{text}") for text in (*WRONG_NUMBERS, "", "0", "0.29", "5.01")),
    ],
)
@pytest.mark.parametrize("layer", LAYERS)
def test_no_stop_or_target_that_is_no_number_or_out_of_bounds(layer, name, wrong):
    message = refusal(**{layer: {name: wrong}})
    assert f"{name}={wrong!r} (layer {layer}) is not valid: expected {SETTINGS[name].kind.expected}" in message


@given(
    stop=st.one_of(st.none(), st.floats(0.1, 3.0)),
    target=st.one_of(st.none(), st.floats(0.3, 5.0)),
    layers=st.tuples(st.sampled_from(LAYERS), st.sampled_from(LAYERS)),
)
def test_barriers_in_bounds_resolve_exactly_when_the_target_is_not_the_nearer_one(stop, target, layers):
    given_layers = {layer: {} for layer in LAYERS}
    given_layers[layers[0]]["CVN_SL_MULT"] = "" if stop is None else repr(stop)
    given_layers[layers[1]]["CVN_TP_MULT"] = "" if target is None else repr(target)
    wanted = (1.0 if stop is None else stop, 2.0 if target is None else target)
    if wanted[1] < wanted[0]:
        assert "lies nearer than the stop-loss" in refusal(**given_layers)
    else:
        found = resolved(**given_layers).pte
        assert (found.stop_loss, found.take_profit) == wanted


# Who may set what


@pytest.mark.parametrize("name", [*LIMITS, *GATES, *WATCHED, "CVN_S40_SKIP_S22A1_CROSSREF"])
@pytest.mark.parametrize("layer", ["factor", "run"])
def test_no_run_and_no_variant_lifts_a_limit(layer, name):
    message = refusal(**{layer: {name: SETTINGS[name].default}})
    assert f"{name} cannot be set by" in message
    assert f"(layer {layer}): only operators in the table base_env." in message
    assert resolved(base_env={name: SETTINGS[name].default})[name].layer is Layer.BASE_ENV
    assert not SETTINGS[name].layers & EXPLICIT_LAYERS


@pytest.mark.parametrize(("name", "text"), [("CVN_NOTHING", "1"), ("CVN_SEED", "many"), (OVERRIDE, "1")])
def test_what_is_wrong_in_base_env_says_how_to_remove_it(name, text):
    mend = f"`cvntrade settings unset {name} --reason TEXT` removes it."
    assert refusal(base_env={name: text}).endswith(mend)
    assert mend not in refusal(factor={name: "nought"})


@pytest.mark.parametrize("name", [OVERRIDE, REASON])
@pytest.mark.parametrize("layer", ["base_env", "factor"])
def test_only_a_run_overrides(layer, name):
    message = refusal(**{layer: {name: SETTINGS[name].default}})
    assert f"{name} cannot be set by" in message
    assert "only a run (`--set`, run config)." in message


def test_every_other_key_may_be_set_anywhere():
    deployed = {name for name in SETTINGS if name.startswith(("CVN_POD_", "CVN_POOL_"))}
    bound = {*LIMITS, *GATES, *WATCHED, *deployed, OVERRIDE, REASON, "CVN_S40_SKIP_S22A1_CROSSREF"}
    assert {name for name, item in SETTINGS.items() if item.layers != EVERY_LAYER} == bound


@pytest.mark.parametrize(
    ("name", "text", "valid"),
    [
        ("CVN_GUARDRAIL_MIN_ROWS", "51", True),
        ("CVN_GUARDRAIL_MIN_ROWS", "49", False),
        ("CVN_GUARDRAIL_MEMORY_GIB", "0.5", True),
        ("CVN_GUARDRAIL_MEMORY_GIB", "24.1", False),
        ("CVN_GUARDRAIL_MAX_ROWS", "20000", True),
    ],
)
def test_memory_and_the_row_minimum_can_only_be_tightened(name, text, valid):
    if valid:
        assert float(resolved(base_env={name: text}).text(name)) == float(text)
    else:
        assert f"{name}=" in refusal(base_env={name: text})


# Lower limit, upper limit, a value that both may have, and one above it.
IN_ORDER = [
    ("CVN_GUARDRAIL_MIN_ROWS", "CVN_GUARDRAIL_MAX_ROWS", "60", "61"),
    ("CVN_GUARDRAIL_SLOW_RUN_MINUTES", "CVN_GUARDRAIL_CRITICAL_RUN_MINUTES", "60", "61"),
    ("CVN_SIGNAL_OOM_WARNING", "CVN_SIGNAL_OOM_CRITICAL", "3", "4"),
    ("CVN_SIGNAL_PODS_WARNING", "CVN_SIGNAL_PODS_CRITICAL", "3", "4"),
    ("CVN_SIGNAL_SUCCESS_CRITICAL", "CVN_SIGNAL_SUCCESS_WARNING", "0.8", "0.81"),
    ("CVN_SIGNAL_LATENCY_WARNING", "CVN_SIGNAL_LATENCY_CRITICAL", "0.5", "0.51"),
    ("CVN_SIGNAL_F1_DELTA_CRITICAL", "CVN_SIGNAL_F1_DELTA_WARNING", "0.1", "0.11"),
    ("CVN_SIGNAL_GAP_WARNING", "CVN_SIGNAL_GAP_CRITICAL", "0.2", "0.21"),
    ("CVN_SIGNAL_STD_F1_WARNING", "CVN_SIGNAL_STD_F1_CRITICAL", "0.07", "0.08"),
    ("CVN_SIGNAL_SORTINO_CRITICAL", "CVN_SIGNAL_SORTINO_WARNING", "-0.5", "-0.4"),
    ("CVN_SIGNAL_SL_WARNING", "CVN_SIGNAL_SL_CRITICAL", "0.4", "0.41"),
    ("CVN_SIGNAL_TIMEOUT_WARNING", "CVN_SIGNAL_TIMEOUT_CRITICAL", "0.35", "0.36"),
    ("CVN_SIGNAL_FRESHNESS_WARNING_DAYS", "CVN_SIGNAL_FRESHNESS_CRITICAL_DAYS", "10", "10.5"),
    ("CVN_SIGNAL_CHALLENGERS_WARNING", "CVN_SIGNAL_CHALLENGERS_CRITICAL", "8", "9"),
    ("CVN_FRESHNESS_CANDLES_WARNING_HOURS", "CVN_FRESHNESS_CANDLES_CRITICAL_HOURS", "30", "30.1"),
    ("CVN_DRIFT_WARNING_SHARE", "CVN_DRIFT_CRITICAL_SHARE", "0.2", "0.21"),
]


@pytest.mark.parametrize(("low", "high", "both", "above"), IN_ORDER)
def test_limits_in_order(low, high, both, above):
    equal = resolved(base_env={low: both, high: both})
    wrong = f"{low}={read_value(low, above, Layer.BASE_ENV).text} must not be above {high}={equal.text(high)}."
    assert refusal(base_env={low: above, high: both}) == wrong


def test_every_pair_of_a_warning_and_a_critical_limit_is_kept_in_order():
    pairs = {frozenset(pair[:2]) for pair in IN_ORDER}
    for name in WATCHED:
        other = name.replace("_WARNING", "_CRITICAL")
        if other != name and other in SETTINGS:
            assert frozenset((name, other)) in pairs, name


# Both edges of every limit that the manual or an operator may set, and what lies just beyond them.
EDGES = {
    "CVN_SIGNAL_OOM_WARNING": ("1", "0", None, None),
    "CVN_SIGNAL_PODS_WARNING": ("1", "0", None, None),
    "CVN_SIGNAL_CPU_WARNING": ("0.01", "0.009", "1", "1.01"),
    "CVN_SIGNAL_VOLUME_CRITICAL": ("0.01", "0", "1", "1.01"),
    "CVN_SIGNAL_SUCCESS_WINDOW_DAYS": ("1", "0", "90", "91"),
    "CVN_SIGNAL_SUCCESS_CRITICAL": ("0", "-0.01", None, "1.01"),
    "CVN_SIGNAL_SUCCESS_WARNING": (None, "-0.01", "1", "1.01"),
    "CVN_SIGNAL_SUCCESS_RUNS": ("1", "0", "1000", "1001"),
    "CVN_SIGNAL_LATENCY_RUNS": ("1", "0", "100", "101"),
    "CVN_SIGNAL_LATENCY_HISTORY": ("2", "1", "1000", "1001"),
    "CVN_SIGNAL_PASS_RATE_RUNS": ("1", "0", "100", "101"),
    "CVN_SIGNAL_SL_CRITICAL": (None, "-0.01", "1", "1.01"),
    "CVN_SIGNAL_FRESHNESS_CRITICAL_DAYS": (None, "-1", "365", "366"),
    "CVN_SIGNAL_CHALLENGERS_WARNING": ("0", "-1", None, "1001"),
    "CVN_SIGNAL_KEEP_DAYS": ("1", "0", "3650", "3651"),
    "CVN_FRESHNESS_CORE_DAYS": ("0", "-1", "365", "365.1"),
    "CVN_FRESHNESS_OTHER_DAYS": ("0", "-1", "365", "365.1"),
    "CVN_FRESHNESS_CANDLES_WARNING_HOURS": ("0.1", "0.09", None, "8761"),
    "CVN_STATE_HOLD": ("1", "0", "1000", "1001"),
    "CVN_STATE_STALE_MINUTES": ("1", "0.9", "1440", "1441"),
    "CVN_STATE_BARREN_DAYS": ("0", "-1", "365", "366"),
    "CVN_STATE_USEFUL_DAYS": ("0", "-1", "365", "366"),
    "CVN_STATE_SORTINO_RUNS": ("1", "0", "100", "101"),
    "CVN_ALERT_ATTEMPTS": ("1", "0", "100", "101"),
    "CVN_ALERT_BACKOFF_SECONDS": ("0.01", "0", "3600", "3601"),
    "CVN_ALERT_REPEAT_HOURS_P0": ("0.1", "0", "8760", "8761"),
    "CVN_ALERT_ESCALATE_MINUTES_P0": ("1", "0.9", "100000", "100001"),
    "CVN_WATCHDOG_MINUTES": ("0.05", "0.04", "1440", "1441"),
}


@pytest.mark.parametrize("name", EDGES)
def test_the_edges_of_what_operators_are_told_by(name):
    low, below, high, above = EDGES[name]
    for text in (low, high):
        if text is not None:
            assert float(resolved(base_env={name: text}).text(name)) == float(text)
    for text in (below, above):
        if text is not None:
            assert f"is not valid: expected {SETTINGS[name].kind.expected}" in refusal(base_env={name: text})


@pytest.mark.parametrize(
    ("name", "text", "canonical"),
    [
        ("CVN_CORE_GROUPS", "btc-core, defi", "btc-core,defi"),
        ("CVN_CORE_GROUPS", "btc-core,btc-core", None),
        ("CVN_CORE_GROUPS", "BTC core", None),
        ("CVN_CORE_GROUPS", "", None),
        ("CVN_ALERT_ROUTE_P0", "mail, sms", "mail,sms"),
        ("CVN_ALERT_ROUTE_P0", "mail,mail", None),
        ("CVN_ALERT_ROUTE_P0", "pager", None),
        ("CVN_ALERT_ROUTE_P0", "", None),
    ],
)
def test_groups_and_channels_are_named_once(name, text, canonical):
    if canonical is None:
        assert f"is not valid: expected {SETTINGS[name].kind.expected}" in refusal(base_env={name: text})
    else:
        assert resolved(base_env={name: text}).text(name) == canonical


# §0, §2 and §4 of the manual, written down a second time.
MANUAL = {
    "CVN_SIGNAL_OOM_WARNING": 1,
    "CVN_SIGNAL_OOM_CRITICAL": 2,
    "CVN_SIGNAL_CPU_WARNING": 0.7,
    "CVN_SIGNAL_VOLUME_CRITICAL": 0.85,
    "CVN_SIGNAL_SUCCESS_WINDOW_DAYS": 7,
    "CVN_SIGNAL_SUCCESS_WARNING": 0.9,
    "CVN_SIGNAL_SUCCESS_CRITICAL": 0.7,
    "CVN_SIGNAL_LATENCY_WARNING": 0.3,
    "CVN_SIGNAL_LATENCY_CRITICAL": 1.0,
    "CVN_SIGNAL_PASS_RATE_RUNS": 3,
    "CVN_SIGNAL_F1_DELTA_WARNING": 0.15,
    "CVN_SIGNAL_F1_DELTA_CRITICAL": 0,
    "CVN_SIGNAL_GAP_WARNING": 0.15,
    "CVN_SIGNAL_GAP_CRITICAL": 0.3,
    "CVN_SIGNAL_STD_F1_WARNING": 0.05,
    "CVN_SIGNAL_STD_F1_CRITICAL": 0.1,
    "CVN_SIGNAL_SORTINO_WARNING": 0.5,
    "CVN_SIGNAL_SORTINO_CRITICAL": 0,
    "CVN_SIGNAL_SL_WARNING": 0.35,
    "CVN_SIGNAL_SL_CRITICAL": 0.5,
    "CVN_SIGNAL_TIMEOUT_WARNING": 0.3,
    "CVN_SIGNAL_TIMEOUT_CRITICAL": 0.4,
    "CVN_SIGNAL_FRESHNESS_WARNING_DAYS": 7,
    "CVN_SIGNAL_FRESHNESS_CRITICAL_DAYS": 14,
    "CVN_SIGNAL_CHALLENGERS_WARNING": 5,
    "CVN_SIGNAL_CHALLENGERS_CRITICAL": 10,
    "CVN_FRESHNESS_CORE_DAYS": 14,
    "CVN_FRESHNESS_OTHER_DAYS": 7,
    "CVN_STATE_BARREN_DAYS": 3,
}


@pytest.mark.parametrize(("name", "value"), MANUAL.items())
def test_the_manuals_thresholds_are_the_defaults(name, value):
    assert float(resolved().text(name)) == value


def test_no_override_is_the_rule():
    assert resolved().override_reason is None
    assert resolved(run={OVERRIDE: "0", REASON: " "}).override_reason is None


@pytest.mark.parametrize(
    "reason",
    [
        "emergency retraining after flash crash — approved by @ceven 2026-04-15",
        "rows doubled on purpose, @risk-officer agreed",
        "flash crash, Approved by Ada Lovelace",
        "krach éclair, approved by Éloïse",
        "two lines of it,\n  approved by: @ceven",
    ],
)
def test_an_override_with_a_reason_and_an_approver(reason):
    found = resolved(run={OVERRIDE: "1", REASON: reason})
    assert found.override_reason == " ".join(reason.split())
    assert found.is_explicit(OVERRIDE)


@pytest.mark.parametrize(
    "reason",
    [
        "because I say so, and that is enough",
        "approved by @ceven",
        "@ceven",
        "write to someone@example.com about the crash",
        "approved by nothing"[:12] + " " * 30,
        "the crash was not approved by  - !!",
        "somebody @ the desk said it was fine",
    ],
)
def test_an_override_without_a_reason_or_an_approver_is_refused(reason):
    assert f"expected {SETTINGS[REASON].kind.expected}" in refusal(run={OVERRIDE: "1", REASON: reason})


def test_half_an_override_is_refused():
    assert f"{OVERRIDE}=1 needs {REASON}" in refusal(run={OVERRIDE: "1"})
    assert f"{OVERRIDE}=1 needs {REASON}" in refusal(run={OVERRIDE: "1", REASON: ""})
    assert f"set {OVERRIDE}=1, or leave the reason out" in refusal(run={REASON: "a flash crash; approved by @ceven"})


# Layers and variants


def test_layer_tells_where_a_value_came_from():
    key = hyperparameter_key("XGBOOST", "30m", "max_depth")
    found = resolved(base_env={"CVN_SEED": "7"}, factor={"CVN_MAX_FEATURES": "30"}, run={"CVN_FEE_BPS": "1"})
    assert [found.layer(name) for name in ("CVN_MARKET", "CVN_SEED", "CVN_MAX_FEATURES", "CVN_FEE_BPS", key)] == [
        Layer.DEFAULT,
        Layer.BASE_ENV,
        Layer.FACTOR,
        Layer.RUN,
        Layer.DEFAULT,
    ]
    with pytest.raises(SettingsError, match="CVN_NOTHING is not a setting"):
        found.layer("CVN_NOTHING")


def test_variants_are_remembered_in_order_and_cannot_be_changed_from_outside():
    given_variants = {"cost": "bps_20", "calibration": "none"}
    found = resolve(base_env={}, run={}, variants=given_variants, now=NOW)
    found.variants["cooldown"] = "none"
    given_variants["cooldown"] = "none"
    assert list(found.variants.items()) == [("calibration", "none"), ("cost", "bps_20")]
    assert resolved().variants == {}


ANYWHERE = sorted(name for name in (*CHOICES, *FLAGS, *WHOLE, *NUMBERS) if SETTINGS[name].layers == EVERY_LAYER)


@given(layers=st.fixed_dictionaries({layer: st.sets(st.sampled_from(ANYWHERE), max_size=12) for layer in LAYERS}))
def test_explicit_is_what_the_variant_or_the_run_set_and_nothing_else(layers):
    # Every layer repeats the default, so that what resolves is always valid.
    texts = {layer: {name: SETTINGS[name].default for name in names} for layer, names in layers.items()}
    found = resolved(**texts)
    for name in ANYWHERE:
        holders = [layer for layer in LAYERS if name in layers[layer]]
        assert found.layer(name) == (holders[-1] if holders else "default")
        assert found.is_explicit(name) is bool(set(holders) & {"factor", "run"})


def test_the_backtest_interval_divides_the_learning_interval():
    assert resolved(run={"CVN_BACKTEST_TIMEFRAME": "30m"}).text("CVN_TIMEFRAME") == "30m"
    assert "must divide" in refusal(run={"CVN_BACKTEST_TIMEFRAME": "1h"})


def test_the_horizon_is_a_whole_number_of_candles():
    for timeframe, hours in (("1m", 1), ("30m", 1), ("1h", 3), ("4h", 4)):
        pte = f"H{hours}_SL1.0_TP2.0"
        assert resolved(run={"CVN_TIMEFRAME": timeframe, "CVN_DEFAULT_PTE": pte, "CVN_BACKTEST_TIMEFRAME": "1m"})
    for timeframe, hours in (("4h", 6), ("4h", 3), ("1d", 6)):
        message = refusal(run={"CVN_TIMEFRAME": timeframe, "CVN_DEFAULT_PTE": f"H{hours}_SL1.0_TP2.0"})
        assert f"CVN_DEFAULT_PTE=H{hours}_SL1.0_TP2.0 must be a whole number of candles" in message
        assert f"CVN_TIMEFRAME={timeframe};" in message


def test_as_of():
    assert resolved().as_of == NOW
    assert resolved(run={"CVN_AS_OF": "2025-09-01"}).as_of == pd.Timestamp("2025-09-01", tz="UTC")
    assert resolved(run={"CVN_AS_OF": NOW.isoformat()}).as_of == NOW
    later = (NOW + pd.Timedelta(seconds=1)).isoformat()
    message = refusal(run={"CVN_AS_OF": later})
    assert "lies in the future (now is 2025-09-15T10:17:00+00:00)" in message
    assert "in the future" in refusal(base_env={"CVN_AS_OF": "9999-01-01"})


@pytest.mark.parametrize(
    ("key", "part", "low", "high"), [("CVN_SL_MULT", "SL", 0.1, 3.0), ("CVN_TP_MULT", "TP", 0.3, 5.0)]
)
def test_a_multiple_has_the_same_bounds_wherever_it_stands(key, part, low, high):
    # The other barrier stands where neither bound of this one makes the target the nearer of the two.
    other = {"CVN_TP_MULT": "5.0"} if part == "SL" else {"CVN_SL_MULT": "0.1"}

    def pte(value: float) -> str:
        return {"SL": f"H4_SL{value}_TP5.0", "TP": f"H4_SL0.1_TP{value}"}[part]

    for value in (low, high):
        assert str(resolved(run={"CVN_DEFAULT_PTE": pte(value)}).pte) == pte(value)
        assert str(resolved(run={key: str(value), **other}).pte) == pte(value)
    for value in (round(low - 0.01, 2), round(high + 0.01, 2)):
        assert "CVN_DEFAULT_PTE=" in refusal(run={"CVN_DEFAULT_PTE": pte(value)})
        assert f"{key}=" in refusal(run={key: str(value)})


def test_the_pte_in_force():
    assert str(resolved().pte) == "H4_SL1.0_TP2.0"
    assert str(resolved(run={"CVN_SL_MULT": "0.5"}).pte) == "H4_SL0.5_TP2.0"
    assert str(resolved(base_env={"CVN_DEFAULT_PTE": "H2_SL1_TP3"}, run={"CVN_TP_MULT": "4"}).pte) == "H2_SL1.0_TP4.0"
    # An empty text in a stronger layer takes the operators' value away again.
    lifted = resolved(base_env={"CVN_SL_MULT": "0.5"}, run={"CVN_SL_MULT": ""})
    assert str(lifted.pte) == "H4_SL1.0_TP2.0"


@pytest.mark.parametrize("name", ["CVN_BINANCE_ARCHIVE_URL", "CVN_BINANCE_API_URL"])
@pytest.mark.parametrize(
    "url",
    [
        "https://operator:hunter2@host/data",
        "HTTPS://operator:hunter2@host/data",
        "https://hunter2@host",
        "https://operator:hunter/2hunter2@host",
        "ftp://operator:hunter2@host/data",
        "file://operator:hunter2@host/data",
    ],
)
def test_an_address_with_credentials_is_refused_and_not_repeated(name, url):
    with pytest.raises(SettingsError) as caught:
        resolved(run={name: url})
    told: BaseException | None = caught.value
    while told is not None:
        assert "hunter" not in f"{told} {told!r}"
        told = told.__cause__ or told.__context__
    assert "user or password" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "valid"),
    [
        ("CVN_BINANCE_ARCHIVE_URL", "http://127.0.0.1:8080", True),
        ("CVN_BINANCE_ARCHIVE_URL", "file:///srv/market", True),
        ("CVN_BINANCE_ARCHIVE_URL", "../shared/market", True),
        ("CVN_BINANCE_ARCHIVE_URL", "/srv/my market", True),
        ("CVN_BINANCE_ARCHIVE_URL", "/", True),
        ("CVN_BINANCE_ARCHIVE_URL", "", False),
        ("CVN_BINANCE_ARCHIVE_URL", "https://", False),
        ("CVN_BINANCE_ARCHIVE_URL", "s3://bucket/data", False),
        ("CVN_BINANCE_ARCHIVE_URL", "https://host/a b", False),
        ("CVN_BINANCE_API_URL", "http://127.0.0.1:8080", True),
        ("CVN_BINANCE_API_URL", "file:///srv/market", False),
        ("CVN_BINANCE_API_URL", "api.binance.com", False),
    ],
)
def test_which_addresses_read(name, text, valid):
    if valid:
        assert resolved(run={name: text}).text(name) == text
    else:
        assert f"{name}=" in refusal(run={name: text})


def test_every_hyperparameter_key_reads_over_its_whole_range():
    for key in FAMILY:
        model, _, name = key.removeprefix("CVN_HPO_").split("_", 2)
        item = {item.name.upper(): item for item in HYPERPARAMETERS[model]}[name]
        for value in (item.low, item.high, item.default):
            text = str(int(value) if item.integer else value)
            assert read_value(key, text, Layer.RUN).value == value
        for outside in (item.low - 1, item.high + 1):
            with pytest.raises(SettingsError, match=f"{key}=.*is not valid: expected"):
                read_value(key, str(int(outside) if item.integer else outside), Layer.RUN)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("CVN_HPO_CATBOOST_30M_MAX_DEPTH", "model CATBOOST is unknown; known: XGBOOST"),
        ("CVN_HPO_XGBOOST_7M_MAX_DEPTH", "timeframe 7m is unknown; known: 1m, 5m, 15m, 30m, 1h, 4h, 1d"),
        ("CVN_HPO_XGBOOST_30M_DEPTH", "XGBOOST has no depth; it has max_depth, learning_rate"),
        ("CVN_HPO_XGBOOST_MAX_DEPTH", "is not a setting"),
        ("CVN_HPO_XGBOOST_30M_", "is not a setting"),
        ("CVN_HPO_xgboost_30m_max_depth", "is not a setting"),
    ],
)
@pytest.mark.parametrize("layer", LAYERS)
def test_a_hyperparameter_key_outside_the_grammar_is_refused(layer, key, said):
    message = refusal(**{layer: {key: "4"}})
    assert message.startswith(key)
    assert said in message


@pytest.mark.parametrize(
    ("parameter", "text"),
    [
        ("MAX_DEPTH", "9"),
        ("MAX_DEPTH", "4.5"),
        ("LEARNING_RATE", "nan"),
        ("LEARNING_RATE", "0.4"),
        ("SUBSAMPLE", "inf"),
    ],
)
def test_a_hyperparameter_out_of_range_is_refused(parameter, text):
    key = f"CVN_HPO_XGBOOST_30M_{parameter}"
    assert f"{key}={text!r} (layer run) is not valid: expected" in refusal(run={key: text})


def test_pinned_gives_the_timeframe_in_force_by_xgboost_name():
    pins = {"CVN_HPO_XGBOOST_30M_MAX_DEPTH": "3", "CVN_HPO_XGBOOST_5M_MAX_DEPTH": "5"}
    found = resolved(base_env=pins, run={"CVN_HPO_XGBOOST_30M_LEARNING_RATE": "0.1"})
    assert found.pinned() == {"max_depth": 3, "learning_rate": 0.1}
    assert isinstance(found.pinned()["max_depth"], int)
    assert resolved(base_env=pins, run={"CVN_TIMEFRAME": "5m"}).pinned() == {"max_depth": 5}
    assert resolved().pinned() == {}


@pytest.mark.parametrize("parameter", ["MAX_DEPTH", "LEARNING_RATE"])
def test_a_run_lifts_an_operators_pin_with_the_empty_text(parameter):
    key = f"CVN_HPO_XGBOOST_30M_{parameter}"
    found = resolved(base_env={key: "0.2" if parameter == "LEARNING_RATE" else "3"}, run={key: ""})
    assert found.pinned() == {}
    assert found.used(["CVN_HPO_*"]) == resolved().used(["CVN_HPO_*"])


def test_used_gives_canonical_texts_and_the_family_as_one():
    found = resolved(run={"CVN_HPO_XGBOOST_30M_MAX_DEPTH": "03", "CVN_HPO_XGBOOST_30M_GAMMA": "0", "CVN_SEED": "07"})
    assert found.used(["CVN_SEED", "CVN_HPO_*", "CVN_FOCAL_GAMMA"]) == {
        "CVN_FOCAL_GAMMA": "2.0",
        "CVN_HPO_*": "CVN_HPO_XGBOOST_30M_GAMMA=0.0, CVN_HPO_XGBOOST_30M_MAX_DEPTH=3",
        "CVN_SEED": "7",
    }


def test_what_shapes_the_simulated_market_is_used_there_only():
    names, turned = ["CVN_SIMULATED_SIGNAL", "CVN_SIMULATED_SEED", "CVN_MARKET"], {"CVN_SIMULATED_SEED": "7"}
    assert resolved(run=turned).used(names) == resolved().used(names)
    assert resolved(run=turned).used(names) == {
        "CVN_MARKET": "binance",
        "CVN_SIMULATED_SEED": "",
        "CVN_SIMULATED_SIGNAL": "",
    }
    assert resolved(run={"CVN_MARKET": "simulated", **turned}).used(names) == {
        "CVN_MARKET": "simulated",
        "CVN_SIMULATED_SEED": "7",
        "CVN_SIMULATED_SIGNAL": "0.3",
    }


def test_the_family_does_not_swallow_a_declared_key():
    found = resolved(run={"CVN_HPO_OBJECTIVE": "f1_binary"})
    assert found.used(["CVN_HPO_*"]) == {"CVN_HPO_*": ""}


def test_used_does_not_depend_on_the_order_in_which_keys_were_given():
    pins = {"CVN_HPO_XGBOOST_30M_MAX_DEPTH": "3", "CVN_HPO_XGBOOST_30M_GAMMA": "1"}
    turned = dict(reversed(pins.items()))
    names = ["CVN_HPO_*", "CVN_SEED"]
    first, second = resolved(run=pins).used(names), resolved(run=turned).used(list(reversed(names)))
    assert list(first.items()) == list(second.items())


NUMBER_TEXTS = st.one_of(
    st.floats().map(repr),
    st.integers().map(str),
    st.sampled_from(["", "nan", "inf", "-inf", "1e999", "-0.0", "1_0", "0x10", "١", "1,5", " 3 ", "None", "\x00"]),
    st.text(max_size=8),
)


@given(name=st.sampled_from(NUMBERS + WHOLE + list(FAMILY)), text=NUMBER_TEXTS, layer=st.sampled_from(LAYERS))
def test_no_number_outside_its_range_is_ever_accepted(name, text, layer):
    try:
        found = resolved(**{layer: {name: text}})
    except SettingsError:
        return
    kind, value = find_setting(name).kind, found[name].value
    assert isinstance(kind, setting_kinds.Number | setting_kinds.Whole)
    if value is None:
        assert kind.optional
        assert text.strip() == ""
        return
    assert type(value) is (int if isinstance(kind, setting_kinds.Whole) else float)
    assert kind.low <= value <= kind.high
    assert read_value(name, found.text(name), Layer(layer)).text == found.text(name)


@given(
    name=st.sampled_from(CHOICES + FLAGS),
    text=st.one_of(st.sampled_from(["event", "1", "yes", "5m"]), st.text(max_size=8)),
)
def test_no_word_outside_its_list_is_ever_accepted(name, text):
    try:
        value = read_value(name, text, Layer.RUN).value
    except SettingsError:
        return
    kind = SETTINGS[name].kind
    assert value in (kind.words if isinstance(kind, setting_kinds.Choice) else (True, False))


@given(shares=st.lists(st.floats(0.05, 0.5), min_size=4, max_size=4))
def test_no_slices_are_accepted_that_do_not_add_up(shares):
    texts = dict(zip(SLICES, map(repr, shares), strict=True))
    if abs(sum(shares) - 1) > 1e-6:
        assert "must add up to 1" in refusal(run=texts)


@pytest.mark.parametrize("module", [settings, setting_kinds])
def test_settings_do_not_read_the_environment(module, monkeypatch):
    tree = ast.parse(Path(module.__file__).read_text())
    imported = {
        name.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names
    }
    imported |= {(node.module or "").split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not imported & {"os", "sys", "subprocess", "dotenv", "dagster", "resources"}
    before = {item.setting.name: item.text for item in resolved()}
    for name in (*SETTINGS, *FAMILY, *RETIRED):
        monkeypatch.setenv(name, "not valid")
    assert {item.setting.name: item.text for item in resolved()} == before


def test_every_key_is_documented_by_a_name_that_people_can_type():
    assert all(re.fullmatch(r"CVN_[A-Z][A-Z0-9_]+", name) for name in SETTINGS)


# The grid, the costs and the manual's short names


def test_the_grid_is_what_three_settings_span():
    grid = resolved(run={"horizons": "h2, H4", "sl_range": "1,1.50", "tp_range": "1.5,2.0,2.5"}).grid
    assert (grid.horizon_hours, grid.stop_losses, grid.take_profits) == ((2, 4), (1.0, 1.5), (1.5, 2.0, 2.5))
    assert len(resolved().grid) == 96


def test_a_grid_has_at_most_450_points():
    targets = ",".join(f"{1 + step / 10:.1f}" for step in range(15))
    whole = {"sl_range": "0.8,1.0,1.2,1.5,1.8", "tp_range": targets}
    assert len(resolved(run=whole).grid) == 450
    message = refusal(run=whole | {"tp_range": f"{targets},3.0"})
    assert "has 480 points (6 horizons, 5 stops, 16 targets): at most 450" in message


def test_a_grid_whose_every_target_is_nearer_than_every_stop_is_refused():
    assert resolved(run={"sl_range": "2.0", "tp_range": "1.5,2.0"}).grid.take_profits == (1.5, 2.0)
    assert "lies nearer than every stop-loss (2.0)" in refusal(run={"sl_range": "2.0", "tp_range": "1.5,1.9"})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("horizons", "H7"),
        ("horizons", "H2,H1"),
        ("horizons", "H1,H1"),
        ("horizons", "1,2"),
        ("horizons", ""),
        ("sl_range", "1.5,1.0"),
        ("sl_range", "0.05"),
        ("sl_range", "1.0,,2.0"),
        ("tp_range", "6.0"),
        ("tp_range", "nan"),
        ("CVN_COST_LEVELS", "0,2"),
        ("CVN_COST_LEVELS", "1,0"),
        ("CVN_COST_LEVELS", "1,11"),
    ],
)
def test_lists_are_increasing_and_in_range(name, text):
    assert "is not valid: expected" in refusal(run={name: text})


def test_costs_are_paid_on_each_side():
    costs = resolved(run={"CVN_FEE_BPS": "10", "CVN_SLIPPAGE_BPS": "5"}).costs
    assert costs.round_trip == pytest.approx(0.003)
    assert costs.scaled(2.0).round_trip == pytest.approx(0.006)
    assert resolved(run={"CVN_COST_LEVELS": "0, 0.50,1"}).cost_levels == (0.0, 0.5, 1.0)
    assert "CVN_COST_BPS is retired" in refusal(run={"CVN_COST_BPS": "20"})


def test_the_manuals_names_are_settings_of_a_run():
    short = {"hpo_trials": "7", "n_folds": "4", "backtest_days": "30"}
    found = resolved(run=short)
    names = ("CVN_DEFAULT_N_TRIALS", "CVN_DEFAULT_N_FOLDS", "CVN_BACKTEST_DAYS")
    assert [found.whole(name) for name in names] == [7, 4, 30]
    assert all(found.is_explicit(name) for name in names)
    assert set(SHORT_NAMES.values()) <= set(SETTINGS)
    assert "hpo_trials is not a setting" in refusal(base_env={"hpo_trials": "7"})
    both = refusal(run={"hpo_trials": "7", "CVN_DEFAULT_N_TRIALS": "7"})
    assert "hpo_trials and CVN_DEFAULT_N_TRIALS are one setting, and both are given" in both


def test_what_the_run_set_is_what_another_run_may_set_again():
    leave = {"CVN_GUARDRAIL_OVERRIDE": "1", "CVN_GUARDRAIL_OVERRIDE_REASON": "tried once, approved by @somebody"}
    found = resolved(base_env={"CVN_SEED": "7"}, factor={"CVN_FEE_BPS": "5"}, run={"hpo_trials": "9", **leave})
    assert found.set_by_run == {"CVN_DEFAULT_N_TRIALS": "9"}


# Hyperparameters that repeat their default, and the bounds of the search

SEEDED = {name: item.default for name, item in HYPERPARAMETER_SETTINGS.items()}
DEPTH = "CVN_HPO_XGBOOST_30M_MAX_DEPTH"


@pytest.mark.parametrize("layer", LAYERS)
def test_what_repeats_the_table_pins_nothing_and_is_in_no_version(layer):
    found, plain = resolved(**{layer: SEEDED}), resolved()
    for model in HYPERPARAMETERS:
        assert found.pinned(model) == {}
        family = [f"CVN_HPO_{model}_*"]
        assert found.used(family) == plain.used(family) == {family[0]: ""}
    assert found.layer(DEPTH) == layer
    assert [item.setting.name for item in found] == [*SETTINGS, *SEEDED]


def test_a_fixed_hyperparameter_at_its_default_is_as_if_not_set_and_the_empty_text_lifts_it():
    key = hyperparameter_key("XGBOOST", "30m", "num_boost_round")
    assert resolved(run={key: "400"}).pinned() == {}
    assert resolved(run={key: "401"}).pinned() == {"num_boost_round": 401}
    assert resolved(base_env={key: "401"}, run={key: ""}).pinned() == {}
    # What is searched has no value of its own: any pins it, its usual one too.
    assert resolved(run={DEPTH: "4"}).pinned() == {"max_depth": 4}


def test_a_family_holds_its_own_model_only():
    run = {hyperparameter_key(model, "30m", "gamma"): "1" for model in HYPERPARAMETERS}
    found = resolved(run=run)
    for model in HYPERPARAMETERS:
        family = f"CVN_HPO_{model}_*"
        assert found.used([family]) == {family: f"CVN_HPO_{model}_30M_GAMMA=1.0"}
        assert found.pinned(model) == {"gamma": 1.0}
    assert found.used(["CVN_HPO_*"])["CVN_HPO_*"].count("GAMMA=1.0") == 4


def test_the_bounds_of_the_search():
    assert resolved().search_bounds("max_depth") == (2, 6)
    found = resolved(base_env={f"{DEPTH}_LOW": "4"}, run={f"{DEPTH}_HIGH": "8"})
    assert found.search_bounds("max_depth") == (4, 8)
    assert found.search_bounds("max_depth", "1h") == (2, 6)
    assert found.pinned() == {}
    assert found.used(["CVN_HPO_XGBOOST_*"])["CVN_HPO_XGBOOST_*"] == f"{DEPTH}_HIGH=8, {DEPTH}_LOW=4"
    # A pin may lie outside: it is not searched.
    assert resolved(run={f"{DEPTH}_LOW": "4", DEPTH: "2"}).pinned() == {"max_depth": 2}


@pytest.mark.parametrize("timeframe", ["30M", "1D"])
@pytest.mark.parametrize("bound", bounds("XGBOOST"), ids=lambda bound: bound.name)
def test_a_search_has_room_between_its_bounds(bound, timeframe):
    key = hyperparameter_key("XGBOOST", timeframe, bound.name)
    other = bound.of.search.high if bound.end == "low" else bound.of.search.low
    step = 1 if bound.of.integer else 1e-6
    inwards = -step if bound.end == "low" else step
    for value, fits in ((other, False), (other - inwards, False), (other + inwards, True)):
        if not bound.of.low <= value <= bound.of.high:
            continue
        text = str(int(value)) if bound.of.integer else repr(value)
        if fits:
            assert resolved(base_env={key: text})
        else:
            assert "must be below" in refusal(base_env={key: text})


@pytest.mark.parametrize("name", ["min_child_weight", "reg_lambda", "reg_alpha"])
def test_a_search_of_the_logarithm_begins_above_zero(name):
    assert "must be above 0" in refusal(run={hyperparameter_key("XGBOOST", "30m", f"{name}_low"): "0"})
    assert resolved(run={hyperparameter_key("XGBOOST", "30m", "gamma_low"): "0"})
    assert resolved(run={hyperparameter_key("XGBOOST", "30m", name): "0"}).pinned() == {name: 0.0}


@pytest.mark.parametrize(
    ("name", "text", "repeats"),
    [
        ("CVN_SEED", "42", True),
        ("CVN_SEED", "042", True),
        ("CVN_SEED", "43", False),
        ("CVN_GUARDRAIL_MEMORY_GIB", "24.0", True),
        ("CVN_SL_MULT", "", True),
        (DEPTH, "", True),
        (DEPTH, "4", False),
        ("CVN_HPO_JUDGE_30M_MAX_DEPTH", "3", True),
        (f"{DEPTH}_LOW", "2", True),
        ("CVN_SEED", "seven", False),
        ("CVN_OF_OLD", "1", False),
    ],
)
def test_what_repeats_a_default(name, text, repeats):
    assert repeats_default(name, text) is repeats
