"""The registry of factors, and how the variants of a run become its settings' factor layer."""

import dataclasses

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvntrade_assets.operations.factors import (
    FACTORS,
    Factor,
    FactorError,
    overlaps,
    resolve_run,
    undone,
    variant_tags,
    variant_texts,
)
from cvntrade_assets.settings import SETTINGS, Layer, Settings, SettingsError, read_value, resolve

NOW = pd.Timestamp("2025-09-15 10:17", tz="UTC")
VARIANTS = [(name, variant) for name, factor in FACTORS.items() for variant in factor.variants]
# A variant that is no more valid once the labels have three classes.
TWO_CLASSES_ONLY = {
    ("threshold_method", "f1_binary"),
    ("hpo_objective", "f1_binary"),
    ("focal_loss", "gamma_1"),
    ("focal_loss", "gamma_2"),
    ("focal_loss", "gamma_5"),
}
THREE_CLASSES = {"CVN_BINARY_CLASSIFICATION": "0", "CVN_THRESHOLD_METHOD": "expected_value"}
TWO_OF_SOME_FACTORS = st.dictionaries(st.sampled_from(sorted(FACTORS)), st.integers(0, 20), max_size=6).map(
    lambda picks: {
        name: list(FACTORS[name].variants)[pick % len(FACTORS[name].variants)] for name, pick in picks.items()
    }
)


def resolved(
    variants: dict[str, str] | None = None, run: dict[str, str] | None = None, base_env: dict[str, str] | None = None
) -> Settings:
    return resolve_run(base_env=base_env or {}, run=run or {}, variants=variants, now=NOW)


def texts(settings: Settings) -> dict[str, str]:
    return {item.setting.name: item.text for item in settings}


# The registry


def test_the_factors_that_the_design_names_are_there() -> None:
    assert set(FACTORS) == {
        "cusum_training_mode",
        "calibration",
        "label_smoothing",
        "cleanlab",
        "focal_loss",
        "pte_envelope",
        "sl_multiplier",
        "tp_multiplier",
        "n_features",
        "hpo_objective",
        "threshold_method",
        "cost",
        "cooldown",
        "trend_filter",
    }


def test_cusum_is_varied_as_the_design_writes_it() -> None:
    variants = FACTORS["cusum_training_mode"].variants
    assert variants["disabled"] == {"CVN_CUSUM_TRAINING_ENABLED": "0"}
    for variant, threshold in (("relaxed_1_5", "1.5"), ("legacy_3_0", "3.0")):
        found = resolved({"cusum_training_mode": variant}, base_env={"CVN_CUSUM_FILTER_MODE": "stable"})
        assert found.flag("CVN_CUSUM_TRAINING_ENABLED")
        assert found.text("CVN_CUSUM_THRESHOLD_H") == threshold
        assert found.choice("CVN_CUSUM_FILTER_MODE") == "event", "what operators left behind does not change a variant"


@pytest.mark.parametrize("factor", FACTORS.values(), ids=FACTORS)
def test_every_factor_is_declared_whole(factor: Factor) -> None:
    assert factor.category in ("data", "labels", "features", "training", "calibration", "execution")
    assert factor.kind in ("training", "runtime")
    assert len(factor.variants) >= 2
    assert len(factor.meaning) > 20
    for variant, given_texts in factor.variants.items():
        assert variant == variant.lower().replace(" ", "_").replace("-", "_")
        assert given_texts
        for key, text in given_texts.items():
            assert Layer.FACTOR in SETTINGS[key].layers
            assert read_value(key, text, Layer.FACTOR).text is not None


def test_what_changes_rows_selection_model_or_cusum_needs_a_staged_rollout() -> None:
    staged = {name for name, factor in FACTORS.items() if factor.staged}
    assert staged == {"cusum_training_mode", "n_features", "cleanlab", "focal_loss"}
    # Named by the design as those that do not.
    assert not staged & {"cost", "cooldown", "trend_filter"}


def test_what_retrains_is_training() -> None:
    runtime = {name for name, factor in FACTORS.items() if factor.kind == "runtime"}
    assert runtime == {"calibration", "threshold_method", "cost", "cooldown", "trend_filter"}


@pytest.mark.parametrize(("factor", "variant"), VARIANTS)
def test_every_variant_resolves_on_top_of_the_defaults(factor: str, variant: str) -> None:
    found = resolved({factor: variant})
    for key, text in FACTORS[factor].variants[variant].items():
        assert found[key].value == read_value(key, text, Layer.FACTOR).value
        assert found.layer(key) is Layer.FACTOR
        assert found.is_explicit(key)
    others = {item.setting.name for item in found if item.layer is not Layer.DEFAULT}
    assert others == set(FACTORS[factor].variants[variant])
    assert found.variants == {factor: variant}


@pytest.mark.parametrize("factor", FACTORS)
def test_the_first_variant_spells_out_the_defaults_and_the_others_do_not(factor: str) -> None:
    first, *others = (texts(resolved({factor: variant})) for variant in FACTORS[factor].variants)
    assert first == texts(resolved())
    assert all(other != first for other in others)
    assert len({str(sorted(other.items())) for other in others}) == len(others), "two variants do the same"


@pytest.mark.parametrize(("factor", "variant"), VARIANTS)
def test_on_three_classes_only_what_needs_two_is_refused(factor: str, variant: str) -> None:
    if (factor, variant) in TWO_CLASSES_ONLY:
        with pytest.raises(SettingsError, match=r"\(layer factor\) is defined for two classes only"):
            resolved({factor: variant}, base_env=THREE_CLASSES)
    else:
        assert resolved({factor: variant}, base_env=THREE_CLASSES)


def test_a_definition_changes_with_its_variants_and_with_nothing_else() -> None:
    factor = FACTORS["cost"]
    assert len({each.definition() for each in FACTORS.values()}) == len(FACTORS)
    assert dataclasses.replace(factor, meaning="told otherwise").definition() == factor.definition()
    turned = dict(reversed(factor.variants.items()))
    assert dataclasses.replace(factor, variants=turned).definition() == factor.definition()
    more = {**factor.variants, "bps_80": {"CVN_FEE_BPS": "35"}}
    assert dataclasses.replace(factor, variants=more).definition() != factor.definition()
    other = {**factor.variants, "bps_40": {"CVN_FEE_BPS": "16"}}
    assert dataclasses.replace(factor, variants=other).definition() != factor.definition()


# Refusals


@pytest.mark.parametrize(
    ("variants", "said"),
    [
        ({"cusum": "disabled"}, "factor 'cusum' does not exist; there are cusum_training_mode, pte_envelope, "),
        ({"": "disabled"}, "factor '' does not exist"),
        ({"calibration": "isotone"}, "no variant 'isotone'; it has sigmoid, none, platt, isotonic, hybrid."),
        ({"calibration": ""}, "factor calibration has no variant ''"),
        ({"cost": "bps_20", "calibration": "Sigmoid"}, "factor calibration has no variant 'Sigmoid'"),
    ],
)
def test_what_does_not_exist_is_refused_and_what_does_is_named(variants: dict[str, str], said: str) -> None:
    with pytest.raises(FactorError) as caught:
        resolved(variants)
    assert said in str(caught.value)


def test_what_looks_like_a_credential_is_not_repeated() -> None:
    for variants in (
        {"ghp16C7e42F292c6912E7710c838347Ae178B4a": "x"},
        {"cost": "ghp16C7e42F292c6912E7710c838347Ae178B4a"},
    ):
        with pytest.raises(FactorError) as caught:
            resolved(variants)
        assert "16C7e42F292c69" not in str(caught.value)


def test_two_variants_that_set_one_key_differently_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cheap = Factor("cheap", "execution", "runtime", {"on": {"CVN_FEE_BPS": "5", "CVN_SEED": "1"}}, "", "cheap trades")
    same = dataclasses.replace(cheap, name="same", variants={"on": {"CVN_FEE_BPS": "7.5"}})
    monkeypatch.setattr("cvntrade_assets.operations.factors.FACTORS", {**FACTORS, "cheap": cheap, "same": same})
    with pytest.raises(FactorError) as caught:
        resolved({"cost": "bps_20", "cheap": "on"})
    assert "cost=bps_20 sets CVN_FEE_BPS=7.5 and cheap=on sets CVN_FEE_BPS=5" in str(caught.value)
    assert resolved({"cost": "bps_20", "same": "on"}).number("CVN_FEE_BPS") == 7.5


def test_no_two_factors_of_the_registry_share_a_key() -> None:
    keys = [key for factor in FACTORS.values() for key in factor.keys]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    ("variants", "other"),
    [
        ({"sl_multiplier": "sl_1_5"}, {"CVN_TP_MULT": "1.2"}),
        ({"tp_multiplier": "tp_1_0"}, {"CVN_SL_MULT": "1.2"}),
        ({"sl_multiplier": "sl_1_5", "tp_multiplier": "tp_1_0"}, {}),
        ({"pte_envelope": "h4_sl1_tp1", "sl_multiplier": "sl_1_2"}, {}),
    ],
)
def test_variants_are_held_against_each_other_and_the_run(variants: dict[str, str], other: dict[str, str]) -> None:
    with pytest.raises(SettingsError, match="lies nearer than the stop-loss"):
        resolved(variants, run=other)


# Layers


def test_a_variant_stands_between_the_operators_and_the_run() -> None:
    found = resolved({"n_features": "top_30"}, base_env={"CVN_MAX_FEATURES": "50"})
    assert (found.whole("CVN_MAX_FEATURES"), found.layer("CVN_MAX_FEATURES")) == (30, Layer.FACTOR)
    found = resolved({"n_features": "top_30"}, base_env={"CVN_MAX_FEATURES": "50"}, run={"CVN_MAX_FEATURES": "40"})
    assert (found.whole("CVN_MAX_FEATURES"), found.layer("CVN_MAX_FEATURES")) == (40, Layer.RUN)


def test_a_variant_that_repeats_the_default_is_a_choice() -> None:
    assert resolved({"cost": "bps_20"}).is_explicit("CVN_FEE_BPS")
    assert not resolved().is_explicit("CVN_FEE_BPS")


@given(variants=TWO_OF_SOME_FACTORS, base_env=st.sampled_from([{}, {"CVN_FEE_BPS": "7"}, {"CVN_FOCAL_LOSS": "1"}]))
def test_variants_are_the_factor_layer_whatever_their_order(variants: dict[str, str], base_env: dict[str, str]) -> None:
    turned = dict(reversed(variants.items()))
    assert variant_texts(variants) == variant_texts(turned)
    try:
        found = resolved(variants, base_env=base_env)
    except SettingsError:
        with pytest.raises(SettingsError):
            resolved(turned, base_env=base_env)
        return
    plain = resolve(base_env=base_env, factor=variant_texts(variants), run={}, now=NOW)
    assert texts(found) == texts(plain) == texts(resolved(turned, base_env=base_env))
    assert {item.setting.name for item in found if item.layer is Layer.FACTOR} == set(variant_texts(variants))
    assert found.variants == variants


@given(factor=st.text(max_size=12), variant=st.text(max_size=12))
def test_no_other_name_is_ever_a_variant(factor: str, variant: str) -> None:
    known = factor in FACTORS and variant in FACTORS[factor].variants
    for pair in ({factor: variant}, {"cost": variant}):
        if known or variant in FACTORS["cost"].variants:
            continue
        with pytest.raises(FactorError):
            resolved(pair)


# What is hard to judge


@pytest.mark.parametrize(
    ("variants", "sentences"),
    [
        ({}, 0),
        ({"pte_envelope": "h2_sl1_tp2"}, 0),
        ({"sl_multiplier": "sl_0_8", "tp_multiplier": "tp_3_0"}, 0),
        ({"pte_envelope": "h2_sl1_tp2", "cost": "bps_10"}, 0),
        ({"pte_envelope": "h2_sl1_tp2", "sl_multiplier": "sl_0_8"}, 1),
        ({"tp_multiplier": "tp_3_0", "pte_envelope": "h2_sl1_tp2"}, 1),
        ({"pte_envelope": "h2_sl1_tp2", "sl_multiplier": "sl_0_8", "tp_multiplier": "tp_3_0"}, 2),
    ],
)
def test_factors_that_move_the_same_barrier_overlap(variants: dict[str, str], sentences: int) -> None:
    found = overlaps(variants)
    assert len(found) == sentences
    for sentence in found:
        assert sentence.startswith("pte_envelope and ")
        assert "pte_envelope=h2_sl1_tp2" in sentence
        assert sentence.endswith("cannot be told apart.")
    # They are no contradiction: the run may go on.
    assert resolved(variants)


def test_a_variant_that_something_else_took_over_is_told() -> None:
    assert undone(resolved({"cost": "bps_40"})) == ()
    assert undone(resolved({"cost": "bps_40"}, run={"CVN_FEE_BPS": "15.00"})) == ()
    [sentence] = undone(resolved({"cost": "bps_40"}, run={"CVN_FEE_BPS": "5"}))
    assert sentence == "cost=bps_40 sets CVN_FEE_BPS=15, and layer run sets it to '5.0', which is what holds."


def test_a_multiple_laid_over_the_pte_of_a_variant_is_told() -> None:
    variants = {"pte_envelope": "h2_sl1_tp2"}
    assert undone(resolved(variants)) == ()
    assert undone(resolved(variants, base_env={"CVN_SL_MULT": "1.0"})) == (), "the same as the variant's"
    [sentence] = undone(resolved(variants, base_env={"CVN_SL_MULT": "0.5"}))
    assert sentence.startswith("CVN_SL_MULT=0.5 (layer base_env) is laid over pte_envelope=h2_sl1_tp2")
    assert sentence.endswith("therefore trades H2_SL0.5_TP2.0.")
    # Without a variant it is the operators' ordinary setting.
    assert undone(resolved({}, base_env={"CVN_SL_MULT": "0.5"})) == ()
    # With the other factor it is an overlap, told once.
    assert undone(resolved({**variants, "sl_multiplier": "sl_0_8"})) == ()


def test_tags_name_factors_and_variants_in_one_order() -> None:
    assert variant_tags({}) == {}
    assert variant_tags({"cost": "bps_20", "calibration": "none"}) == {
        "cvntrade/factor": "calibration, cost",
        "cvntrade/variant": "none, bps_20",
    }
