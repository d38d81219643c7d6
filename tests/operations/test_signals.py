"""What signals are: the manual's twelve and those that feed the state, and what an observation may say."""

import pandas as pd
import pytest

from cvntrade_assets.operations.signals import PLATFORM, SIGNALS, Level, Observation, Scope

NOW = pd.Timestamp("2025-09-15", tz="UTC")


def test_twelve_are_golden():
    """§2 lists eleven, §0 adds the pass rate."""
    assert {name for name, signal in SIGNALS.items() if signal.is_golden} == {
        "infra_health",
        "pipeline_success_rate",
        "pipeline_latency",
        "f1_buy_delta_vs_baseline",
        "screening_testing_gap",
        "std_f1_buy",
        "sortino",
        "sl_pct",
        "timeout_pct",
        "model_freshness",
        "challenger_count",
        "pass_rate",
    }


def test_every_signal_says_what_it_is():
    for name, signal in SIGNALS.items():
        assert signal.name == name
        assert signal.meaning and isinstance(signal.is_golden, bool)


@pytest.mark.parametrize(
    ("signal", "subject", "value", "level", "wrong"),
    [
        ("sortinos", "BTCUSDC", 1.0, Level.OK, "is not a signal; there are infra_health,"),
        ("sortino", PLATFORM, 1.0, Level.OK, "is observed per crypto"),
        ("pipeline_latency", PLATFORM, 1.0, Level.OK, "is observed per job"),
        ("infra_health", "BTCUSDC", 1.0, Level.OK, "is observed per platform"),
        ("sortino", "BTCUSDC", None, Level.OK, "has no value and is called ok"),
        ("sortino", "BTCUSDC", None, Level.CRITICAL, "has no value and is called critical"),
    ],
)
def test_an_observation_that_makes_no_sense_is_refused(signal, subject, value, level, wrong):
    with pytest.raises(ValueError, match=wrong):
        Observation(signal, subject, value, level, "", NOW)


def test_what_could_not_be_computed_is_unknown():
    assert Observation("sortino", "BTCUSDC", None, Level.UNKNOWN, "no trades", NOW).value is None


@pytest.mark.parametrize("signal", SIGNALS)
def test_every_signal_can_be_observed_of_its_subject(signal):
    subject = PLATFORM if SIGNALS[signal].scope is Scope.PLATFORM else "some"
    assert Observation(signal, subject, 0.0, Level.OK, "", NOW).subject == subject
