"""Signals and states as they are stored, on a real PostgreSQL: since when, how often, and what is let go."""

import math
from dataclasses import replace

import pandas as pd
import pytest
import sqlalchemy as sa

from cvntrade_assets.operations.global_state import RawState, Reason, State
from cvntrade_assets.operations.signals import PLATFORM, Level, Observation
from cvntrade_assets.settings import resolve
from resources.secrets import learn_secrets
from resources.signal_store import (
    earlier_states,
    levels_since,
    newest_state,
    purge,
    read_now,
    store,
    store_state,
)

NOW = pd.Timestamp("2026-03-01 12:00", tz="UTC")
MINUTE = pd.Timedelta(minutes=1)
CANARY = "canary-77-of-signals"


def observed(level, at, signal="sortino", subject="BTCUSDC", value=1.0, **inputs):
    found = None if level is Level.UNKNOWN else value
    return Observation(signal, subject, found, level, f"it is {level}", at, inputs)


@pytest.fixture
def fresh(warehouse):
    with warehouse.begin() as connection:
        connection.execute(sa.text("truncate signals_now, signal_points"))
        connection.execute(sa.text("alter table global_states disable trigger user"))
        connection.execute(sa.text("truncate global_states"))
        connection.execute(sa.text("alter table global_states enable always trigger global_states_append_only"))
    return warehouse


@pytest.fixture
def settings():
    return resolve(base_env={}, run={"CVN_MARKET": "simulated", "CVN_AS_OF": "2025-09-01"}, now=NOW)


def keep(warehouse, *observations):
    with warehouse.begin() as connection:
        store(connection, observations)


def points(warehouse):
    with warehouse.begin() as connection:
        rows = connection.execute(sa.text("select level, observed_at from signal_points order by id")).all()
    return [(row.level, pd.Timestamp(row.observed_at)) for row in rows]


def test_what_was_observed_is_read_back(fresh):
    one = observed(Level.WARNING, NOW, value=0.25, trades=31, code="ML_MARGINAL", nothing=None)
    two = Observation("infra_health", PLATFORM, None, Level.UNKNOWN, "nobody could be asked", NOW)
    keep(fresh, one, two)
    assert [stored.observation for stored in read_now(fresh)] == [two, one]


def test_since_when_a_level_holds(fresh):
    for minutes, level in ((0, Level.OK), (5, Level.OK), (10, Level.CRITICAL), (15, Level.CRITICAL)):
        keep(fresh, observed(level, NOW + minutes * MINUTE))
    [stored] = read_now(fresh)
    assert (stored.level, stored.level_since) == (Level.CRITICAL, NOW + 10 * MINUTE)
    assert stored.observed_at == NOW + 15 * MINUTE
    with fresh.begin() as connection:
        assert levels_since(connection) == {("sortino", "BTCUSDC"): NOW + 10 * MINUTE}


def test_a_point_is_kept_when_the_level_changes_and_once_an_hour(fresh):
    for minutes in (0, 5, 59, 60, 61, 119, 120):
        keep(fresh, observed(Level.OK, NOW + minutes * MINUTE))
    keep(fresh, observed(Level.CRITICAL, NOW + 121 * MINUTE))
    keep(fresh, observed(Level.CRITICAL, NOW + 180 * MINUTE))
    keep(fresh, observed(Level.CRITICAL, NOW + 181 * MINUTE))
    kept = [(level, (at - NOW) / MINUTE) for level, at in points(fresh)]
    assert kept == [("ok", 0), ("ok", 60), ("ok", 120), ("critical", 121), ("critical", 181)]


def test_a_point_of_a_clock_that_was_ahead_holds_nothing_up(fresh):
    for days in (300, 0, 1):
        keep(fresh, observed(Level.OK, NOW + days * 1440 * MINUTE))
    assert [at for _, at in points(fresh)] == [NOW + days * 1440 * MINUTE for days in (300, 0, 1)]


def test_a_signal_that_only_other_code_knows_is_not_read_and_goes_with_the_next_look(fresh):
    keep(fresh, observed(Level.OK, NOW))
    with fresh.begin() as connection:
        connection.execute(sa.text("update signals_now set signal = 'renamed_since'"))
    assert read_now(fresh) == []
    keep(fresh, observed(Level.OK, NOW + MINUTE))
    with fresh.begin() as connection:
        assert connection.scalars(sa.text("select signal from signals_now")).all() == ["sortino"]


def test_what_is_not_observed_any_more_is_gone_and_its_points_stay(fresh):
    keep(fresh, observed(Level.OK, NOW), observed(Level.OK, NOW, subject="GONEUSDC"))
    keep(fresh, observed(Level.OK, NOW + MINUTE))
    assert [stored.subject for stored in read_now(fresh)] == ["BTCUSDC"]
    assert len(points(fresh)) == 2


def test_numbers_that_json_does_not_know(fresh):
    keep(fresh, observed(Level.OK, NOW, value=math.inf, ratio=-math.inf, share=0.5))
    [stored] = read_now(fresh)
    assert stored.value == math.inf and stored.inputs == {"ratio": "-inf", "share": 0.5}


def test_nothing_secret_is_stored(fresh):
    learn_secrets({"CVN_SOME_PASSWORD": CANARY})
    keep(fresh, replace(observed(Level.OK, NOW, said=f"it is {CANARY}"), reason=f"somebody said {CANARY}"))
    with fresh.begin() as connection:
        for table in ("signals_now", "signal_points"):
            assert CANARY not in str(connection.execute(sa.text(f"select * from {table}")).all())


@pytest.mark.parametrize(
    ("minutes", "level"),
    [(15, Level.CRITICAL), (15.1, Level.UNKNOWN), (-15, Level.CRITICAL), (-15.1, Level.UNKNOWN)],
)
def test_an_old_observation_says_nothing(fresh, settings, minutes, level):
    keep(fresh, observed(Level.CRITICAL, NOW))
    [stored] = read_now(fresh)
    counted = stored.counted(NOW + minutes * MINUTE, settings)
    assert counted.level is level and counted.observed_at == NOW
    assert (counted.value is None) == (level is Level.UNKNOWN)
    assert stored.level is Level.CRITICAL


def test_points_are_purged_and_nothing_else(fresh):
    keep(fresh, observed(Level.OK, NOW))
    keep(fresh, observed(Level.CRITICAL, NOW + MINUTE))
    with fresh.begin() as connection:
        assert purge(connection, NOW) == 0
        assert purge(connection, NOW + MINUTE) == 1
    assert [level for level, _ in points(fresh)] == ["critical"] and len(read_now(fresh)) == 1


def test_states_are_kept_with_their_reasons_and_since_when(fresh, settings):
    assert newest_state(fresh) is None
    reason = Reason(State.ORANGE, "pass_rate is critical: nothing passed", "pass_rate", PLATFORM)
    looks = (
        (0, State.ORANGE, RawState(State.ORANGE, (reason,))),
        (5, State.ORANGE, RawState(State.GREEN, ())),
        (10, State.GREEN, RawState(State.GREEN, ())),
        (15, State.GREEN, RawState(State.YELLOW, ())),
    )
    for minutes, shown, raw in looks:
        with fresh.begin() as connection:
            written = store_state(connection, shown, raw, now=NOW + minutes * MINUTE, settings=settings)
        assert newest_state(fresh) == written
        if minutes == 0:
            assert written.reasons == (reason,) and written.market == "simulated"
            assert written.as_of == pd.Timestamp("2025-09-01", tz="UTC")
        if minutes == 5:
            assert written.since == NOW
    assert newest_state(fresh).since == NOW + 10 * MINUTE
    with fresh.begin() as connection:
        assert earlier_states(connection, "simulated", 3) == [State.YELLOW, State.GREEN, State.GREEN]
        assert earlier_states(connection, "simulated", 0) == []
        assert earlier_states(connection, "binance", 3) == []


@pytest.mark.parametrize(("minutes", "stale"), [(15, False), (15.1, True), (-15, False), (-15.1, True)])
def test_an_old_state_is_not_the_state(fresh, settings, minutes, stale):
    with fresh.begin() as connection:
        written = store_state(connection, State.GREEN, RawState(State.GREEN, ()), now=NOW, settings=settings)
    assert written.is_stale(NOW + minutes * MINUTE, settings) is stale
