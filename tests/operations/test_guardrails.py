"""The register of guardrails, what an evaluation may say, and whose choice a value is."""

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd
import pytest

from cvntrade_assets.operations.attribution import USUAL, attribute
from cvntrade_assets.operations.factors import resolve_run
from cvntrade_assets.operations.guardrails import GUARDRAILS, PREFLIGHT, Evaluation, Verdict
from cvntrade_assets.settings import SETTINGS, Layer, Settings, find_setting

NOW = pd.Timestamp("2025-09-01", tz="UTC")
OVER_LIMIT = "rows_within_limit"


def resolved(
    base_env: Mapping[str, str] | None = None,
    run: Mapping[str, str] | None = None,
    variants: Mapping[str, str] | None = None,
) -> Settings:
    return resolve_run(base_env=base_env or {}, run=run or {}, variants=variants, now=NOW)


# the register


def test_what_is_never_overridden():
    blocking = {name for name in PREFLIGHT if GUARDRAILS[name].blocks}
    assert blocking == {"rows_within_limit", "rows_enough", "memory_within_limit", "rollout_passed"}
    assert {name for name in GUARDRAILS if GUARDRAILS[name].overridable} == {"rows_within_limit", "rollout_passed"}


def test_every_key_is_a_setting():
    for guardrail in GUARDRAILS.values():
        for key in guardrail.keys:
            if key.endswith("*"):
                find_setting(key.replace("*", "30M_MAX_DEPTH"))
            else:
                find_setting(key)


def test_every_guardrail_says_where_it_is_asked_for_and_what_it_demands():
    for name, guardrail in GUARDRAILS.items():
        assert guardrail.name == name
        assert guardrail.section.startswith(("000 §", "001 §"))
        assert guardrail.meaning


def test_what_counts_as_usual_is_what_is_declared():
    declared = resolved()
    assert {key: declared.text(key) for key in USUAL} == USUAL
    rules = {key for guardrail in GUARDRAILS.values() for key in guardrail.keys if not key.endswith("*")}
    assert set(USUAL) == rules


# evaluations


def test_an_evaluation_is_of_a_guardrail_in_the_register():
    with pytest.raises(
        ValueError, match="rows_plenty is not a guardrail; the register has settings_valid, rows_within"
    ):
        Evaluation("rows_plenty", Verdict.PASSED, "")


@pytest.mark.parametrize(
    ("verdict", "reason"), [(Verdict.OVERRIDDEN, None), (Verdict.BLOCKED, "a flash crash, approved by @risk")]
)
def test_a_reason_goes_with_an_override_and_only_there(verdict: Verdict, reason: str | None):
    with pytest.raises(ValueError, match="a reason for an override"):
        Evaluation(OVER_LIMIT, verdict, "", override_reason=reason)


@pytest.mark.parametrize(
    ("guardrail", "verdict", "stops"),
    [
        (OVER_LIMIT, Verdict.BLOCKED, True),
        (OVER_LIMIT, Verdict.UNKNOWN, True),
        (OVER_LIMIT, Verdict.WARNED, False),
        (OVER_LIMIT, Verdict.ALLOWED, False),
        ("minutes_within_limit", Verdict.UNKNOWN, False),
        ("run_in_time", Verdict.CRITICAL, False),
    ],
)
def test_what_stops_a_run(guardrail: str, verdict: Verdict, stops: bool):
    assert Evaluation(guardrail, verdict, "").stops is stops


# whose choice it is


@pytest.mark.parametrize(
    ("base_env", "run", "variants", "keys", "explicit", "layer"),
    [
        # CUSUM off: nothing else can be the cause.
        (
            {"CVN_CUSUM_TRAINING_ENABLED": "0"},
            {"CVN_CUSUM_THRESHOLD_H": "1.5"},
            {},
            ("CVN_CUSUM_TRAINING_ENABLED",),
            False,
            "base_env",
        ),
        ({}, {"CVN_CUSUM_TRAINING_ENABLED": "0"}, {}, ("CVN_CUSUM_TRAINING_ENABLED",), True, "run"),
        ({}, {}, {"cusum_training_mode": "disabled"}, ("CVN_CUSUM_TRAINING_ENABLED",), True, "factor"),
        # Off for everybody, and chosen by the variant all the same.
        (
            {"CVN_CUSUM_TRAINING_ENABLED": "0"},
            {},
            {"cusum_training_mode": "disabled"},
            ("CVN_CUSUM_TRAINING_ENABLED",),
            True,
            "factor",
        ),
        # Turned around: that CUSUM is on, by the run, is not the cause.
        (
            {"CVN_CUSUM_FILTER_MODE": "stable"},
            {"CVN_CUSUM_TRAINING_ENABLED": "1"},
            {},
            ("CVN_CUSUM_FILTER_MODE",),
            False,
            "base_env",
        ),
        ({}, {"CVN_CUSUM_FILTER_MODE": "stable"}, {}, ("CVN_CUSUM_FILTER_MODE",), True, "run"),
        # Several causes: all that are unusual must be chosen.
        (
            {"CVN_DEFAULT_HISTORY_MONTHS": "120"},
            {"CVN_CUSUM_THRESHOLD_H": "0.5"},
            {},
            ("CVN_CUSUM_THRESHOLD_H", "CVN_DEFAULT_HISTORY_MONTHS"),
            False,
            "base_env, run",
        ),
        (
            {"CVN_DEFAULT_HISTORY_MONTHS": "24"},
            {"CVN_CUSUM_THRESHOLD_H": "0.5", "CVN_TIMEFRAME": "15m"},
            {},
            ("CVN_CUSUM_THRESHOLD_H", "CVN_TIMEFRAME"),
            True,
            "run",
        ),
        # What the run chose to be usual is not the cause of what base_env makes unusual.
        (
            {"CVN_CUSUM_THRESHOLD_H": "0.5"},
            {"CVN_TIMEFRAME": "30m"},
            {},
            ("CVN_CUSUM_THRESHOLD_H",),
            False,
            "base_env",
        ),
    ],
)
def test_whose_choice_the_rows_are(
    base_env: Mapping[str, str],
    run: Mapping[str, str],
    variants: Mapping[str, str],
    keys: tuple[str, ...],
    explicit: bool,
    layer: str,
):
    found = attribute(OVER_LIMIT, resolved(base_env, run, variants))
    assert (found.keys, found.explicit, found.layer) == (keys, explicit, layer)


def test_nothing_unusual_is_nobodys_choice_also_when_somebody_spelt_it_out():
    """As in the incident: what was asked for was usual, and what came of it was not."""
    assert not attribute(OVER_LIMIT, resolved()).explicit
    assert not attribute(OVER_LIMIT, resolved({"CVN_CUSUM_THRESHOLD_H": "3.0"})).explicit
    assert not attribute(OVER_LIMIT, resolved({}, {}, {"cusum_training_mode": "legacy_3_0"})).explicit


def test_what_makes_fewer_rows_is_not_behind_too_many():
    chosen = {"CVN_CUSUM_THRESHOLD_H": "0.5"}
    fewer = {"CVN_DEFAULT_HISTORY_MONTHS": "12", "CVN_TIMEFRAME": "1h"}
    found = attribute(OVER_LIMIT, resolved(fewer, chosen))
    assert (found.keys, found.explicit) == (tuple(chosen), True)
    # And it is what too few come from.
    assert set(fewer) <= set(attribute("rows_enough", resolved(fewer, chosen)).keys)


@pytest.mark.parametrize(
    ("key", "text"), [("CVN_CUSUM_TRAINING_ENABLED", "0"), ("CVN_CUSUM_THRESHOLD_H", "0.2"), ("CVN_TIMEFRAME", "5m")]
)
def test_a_default_that_changed_by_mistake_is_nobodys_choice(monkeypatch: pytest.MonkeyPatch, key: str, text: str):
    monkeypatch.setitem(SETTINGS, key, replace(SETTINGS[key], default=text))  # type: ignore[arg-type]
    found = attribute(OVER_LIMIT, resolved({}, {"CVN_DEFAULT_HISTORY_MONTHS": "24"}))
    assert found.keys == (key,)
    assert (found.explicit, found.layer) == (False, "default")


def test_a_pinned_number_of_trees_is_a_cause_of_the_minutes():
    pin = {"CVN_HPO_XGBOOST_30M_NUM_BOOST_ROUND": "5000"}
    assert attribute("minutes_within_limit", resolved(pin)).keys == tuple(pin)
    assert not attribute("minutes_within_limit", resolved(pin, {"CVN_DEFAULT_N_TRIALS": "500"})).explicit
    assert attribute("minutes_within_limit", resolved({}, {**pin, "CVN_DEFAULT_N_TRIALS": "500"})).explicit
    fewer = {"CVN_HPO_XGBOOST_30M_NUM_BOOST_ROUND": "30"}
    assert not attribute("minutes_within_limit", resolved({}, fewer)).unusual


def test_every_layer_is_named_weakest_first():
    found = attribute(
        "minutes_within_limit",
        resolved({"CVN_DEFAULT_N_TRIALS": "500"}, {"CVN_TUNING_FOLDS": "20"}, {"n_features": "all"}),
    )
    assert found.layer == ", ".join([Layer.BASE_ENV, Layer.FACTOR, Layer.RUN])
    assert found.unchosen == ("CVN_DEFAULT_N_TRIALS",)
