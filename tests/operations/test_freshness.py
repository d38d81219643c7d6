"""Freshness on data time: one minute on either side of every limit, per group, and what has no age is unknown."""

import pandas as pd
import pytest
from observed_facts import BTC, CORE, NOW, OTHER, SOL, ago, crypto, given_settings

from cvntrade_assets.operations.freshness import candle_freshness, model_freshness, model_limit, model_overdue
from cvntrade_assets.operations.signals import Level

SETTINGS = given_settings()
OK, WARNING, CRITICAL, UNKNOWN = Level.OK, Level.WARNING, Level.CRITICAL, Level.UNKNOWN
MINUTE = 1 / 1440


@pytest.mark.parametrize(
    ("hours", "level"),
    [
        (0, OK),
        (26, OK),
        (26 + 1 / 60, WARNING),
        (50, WARNING),
        (50 + 1 / 60, CRITICAL),
        (9000, CRITICAL),
    ],
)
def test_candles_age_in_hours(hours, level):
    found = candle_freshness(crypto(candles_until=ago(hours=hours)), NOW, NOW, SETTINGS)
    assert (found.level, found.value) == (level, pytest.approx(hours))


@pytest.mark.parametrize(
    ("days", "level"),
    [
        (0, OK),
        (7, OK),
        (7 + MINUTE, WARNING),
        (14, WARNING),
        (14 + MINUTE, CRITICAL),
    ],
)
def test_a_model_is_as_old_as_its_data(days, level):
    found = model_freshness(crypto(model_until=ago(days=days)), NOW, NOW, SETTINGS)
    assert (found.level, found.value) == (level, pytest.approx(days))


@pytest.mark.parametrize(
    ("name", "limit"),
    [(BTC, 14), (SOL, 7)],
)
@pytest.mark.parametrize(("beyond", "level"), [(-MINUTE, OK), (0.0, OK), (MINUTE, CRITICAL)])
def test_a_model_is_overdue_one_minute_after_its_group_s_limit(name, limit, beyond, level):
    found = model_overdue(crypto(name, model_until=ago(days=limit + beyond)), NOW, NOW, SETTINGS)
    assert (found.level, found.value) == (level, pytest.approx(beyond, abs=1e-9))
    assert found.inputs["limit_days"] == limit


@pytest.mark.parametrize(
    ("groups", "limit"),
    [(CORE, 14), (OTHER, 7), ((*OTHER, *CORE), 14), ((), 7), (("btc-core-2",), 7)],
)
def test_a_core_group_makes_a_crypto_core(groups, limit):
    assert model_limit(groups, SETTINGS) == limit


def test_operators_say_which_groups_are_core_and_how_old_is_stale():
    other = given_settings(CVN_CORE_GROUPS="defi,alts", CVN_FRESHNESS_CORE_DAYS="3", CVN_FRESHNESS_OTHER_DAYS="30")
    assert (model_limit(OTHER, other), model_limit(CORE, other)) == (3.0, 30.0)
    assert model_overdue(crypto(SOL, model_until=ago(days=3.1)), NOW, NOW, other).level is CRITICAL


@pytest.mark.parametrize("look", [candle_freshness, model_freshness, model_overdue])
@pytest.mark.parametrize("nothing", [None, pd.NaT])
def test_what_is_not_there_is_unknown(look, nothing):
    found = look(crypto(candles_until=nothing, model_until=nothing, useful_model=None), NOW, NOW, SETTINGS)
    assert (found.level, found.value) == (UNKNOWN, None)


@pytest.mark.parametrize("look", [candle_freshness, model_freshness, model_overdue])
def test_a_replay_asks_how_old_it_was_then(look):
    then = pd.Timestamp("2025-03-01", tz="UTC")
    fresh = crypto(candles_until=then - pd.Timedelta(hours=1), model_until=then - pd.Timedelta(days=1))
    found = look(fresh, then, NOW, SETTINGS)
    assert (found.level, found.observed_at) == (OK, NOW)


@pytest.mark.parametrize("look", [candle_freshness, model_freshness, model_overdue])
def test_what_lies_after_now_has_no_age(look):
    """But a candle may close while facts are gathered."""
    just = crypto(candles_until=ago(minutes=-5), model_until=ago(minutes=-5))
    assert look(just, NOW, NOW, SETTINGS).level is OK
    later = crypto(candles_until=ago(minutes=-6), model_until=ago(minutes=-6))
    found = look(later, NOW, NOW, SETTINGS)
    assert (found.level, found.value) == (UNKNOWN, None)
    assert "CVN_AS_OF" in found.reason


def test_the_reason_names_the_model_and_the_limit():
    found = model_overdue(crypto(model_until=ago(days=15)), NOW, NOW, SETTINGS)
    assert found.reason == (
        "BTCUSDC model 3 was refreshed with data until 2025-08-31 10:17 UTC, 15 days before now; 14 days are allowed "
        "(CVN_FRESHNESS_CORE_DAYS): more than 0 days is critical"
    )
