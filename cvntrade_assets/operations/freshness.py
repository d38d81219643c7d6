"""Freshness on data time: how old a crypto's candles and its last useful model are, at the moment that counts as now.

A replay of the past (CVN_AS_OF) asks how old they were then. What lies after that moment has no age.
"""

from collections.abc import Collection

import pandas as pd

from cvntrade_assets.operations.facts import CryptoFacts
from cvntrade_assets.operations.global_state import is_core
from cvntrade_assets.operations.limits import Limit, Measure, Side, days, number, unknown
from cvntrade_assets.operations.signals import Level, Observation, Scalar
from cvntrade_assets.settings import Settings

_WHILE_GATHERING = pd.Timedelta(minutes=5)
"""A candle may close, and be stored, between the moment that counts as now and the moment that it is read."""

_CANDLES = Measure(
    "candle_freshness",
    (
        Limit(Level.CRITICAL, Side.MORE_THAN, "CVN_FRESHNESS_CANDLES_CRITICAL_HOURS"),
        Limit(Level.WARNING, Side.MORE_THAN, "CVN_FRESHNESS_CANDLES_WARNING_HOURS"),
    ),
    lambda value: f"{number(value)} hours",
)
_MODEL = Measure(
    "model_freshness",
    (
        Limit(Level.CRITICAL, Side.MORE_THAN, "CVN_SIGNAL_FRESHNESS_CRITICAL_DAYS"),
        Limit(Level.WARNING, Side.MORE_THAN, "CVN_SIGNAL_FRESHNESS_WARNING_DAYS"),
    ),
    days,
)
_OVERDUE = Measure("model_overdue", (Limit(Level.CRITICAL, Side.MORE_THAN, fixed=0.0),), days)
_NO_MODEL = "no champion and no challenger is registered for it on the market in force"


def model_limit(groups: Collection[str], settings: Settings) -> float:
    """How many days old a useful model of a crypto of these groups may be."""
    return settings.number("CVN_FRESHNESS_CORE_DAYS" if is_core(groups, settings) else "CVN_FRESHNESS_OTHER_DAYS")


def candle_freshness(facts: CryptoFacts, as_of: pd.Timestamp, now: pd.Timestamp, settings: Settings) -> Observation:
    """Age of the last closed candle in store, in hours."""
    until = facts.candles_until
    if until is None or pd.isna(until):
        return unknown(_CANDLES.signal, facts.crypto, "no candle of it is in store on the market in force", now)
    hours = _age(until, as_of) / pd.Timedelta(hours=1)
    inputs = _moments(until, as_of)
    if hours < 0:
        return unknown(_CANDLES.signal, facts.crypto, _from_the_future("last candle closed", until, as_of), now, inputs)
    what = f"the last candle closed {number(hours)} hours before now, {until:%Y-%m-%d %H:%M} UTC"
    return _CANDLES.observe(facts.crypto, hours, what, settings, now, inputs)


def model_freshness(facts: CryptoFacts, as_of: pd.Timestamp, now: pd.Timestamp, settings: Settings) -> Observation:
    """How long ago the last useful model was refreshed, in days: where its data end, those that it was judged on too.

    What it was fitted on ends a step of the rolling backtest earlier, which no retrain can mend.
    """
    until = facts.model_until
    if until is None or pd.isna(until):
        return unknown(_MODEL.signal, facts.crypto, _NO_MODEL, now)
    age = _age(until, as_of) / pd.Timedelta(days=1)
    inputs = _moments(until, as_of) | {"model": facts.useful_model}
    if age < 0:
        return unknown(_MODEL.signal, facts.crypto, _from_the_future(_named(facts), until, as_of), now, inputs)
    what = f"{_named(facts)} {until:%Y-%m-%d %H:%M} UTC, {days(age)} before now"
    return _MODEL.observe(facts.crypto, age, what, settings, now, inputs)


def model_overdue(facts: CryptoFacts, as_of: pd.Timestamp, now: pd.Timestamp, settings: Settings) -> Observation:
    """By how many days the last useful model is older than its group's limit; negative while there is time left."""
    until = facts.model_until
    if until is None or pd.isna(until):
        return unknown(_OVERDUE.signal, facts.crypto, _NO_MODEL, now)
    age, limit = _age(until, as_of) / pd.Timedelta(days=1), model_limit(facts.groups, settings)
    inputs = _moments(until, as_of) | {"model": facts.useful_model, "limit_days": limit}
    if age < 0:
        return unknown(_OVERDUE.signal, facts.crypto, _from_the_future(_named(facts), until, as_of), now, inputs)
    key = "CVN_FRESHNESS_CORE_DAYS" if is_core(facts.groups, settings) else "CVN_FRESHNESS_OTHER_DAYS"
    what = f"{_named(facts)} {until:%Y-%m-%d %H:%M} UTC, {days(age)} before now; {days(limit)} are allowed ({key})"
    return _OVERDUE.observe(facts.crypto, age - limit, what, settings, now, inputs)


def _age(until: pd.Timestamp, as_of: pd.Timestamp) -> pd.Timedelta:
    age = as_of - until
    return pd.Timedelta(0) if -_WHILE_GATHERING <= age < pd.Timedelta(0) else age


def _named(facts: CryptoFacts) -> str:
    return f"{facts.useful_model or 'the last useful model'} was refreshed with data until"


def _from_the_future(what: str, until: pd.Timestamp, as_of: pd.Timestamp) -> str:
    return (
        f"{what} {until:%Y-%m-%d %H:%M} UTC, which lies after the moment that counts as now, "
        f"{as_of:%Y-%m-%d %H:%M} UTC (CVN_AS_OF): how fresh it was cannot be told"
    )


def _moments(until: pd.Timestamp, as_of: pd.Timestamp) -> dict[str, Scalar]:
    return {"until": until.isoformat(), "as_of": as_of.isoformat()}
