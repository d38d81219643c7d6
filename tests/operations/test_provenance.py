import re
from dataclasses import replace

import pytest

from cvntrade_assets.operations.provenance import Provenance

BASE = Provenance(
    code_version="1",
    inputs={"candles": "aaaa", "labels": "bbbb"},
    settings={"CVN_SEED": "42", "CVN_TIMEFRAME": "30m"},
    market="binance",
    lineage={"CVN_SEED": "42", "CVN_TIMEFRAME": "30m"},
)


def turned(mapping):
    return dict(reversed(mapping.items()))


def test_a_version_is_twenty_hex_digits_and_always_the_same():
    assert re.fullmatch("[0-9a-f]{20}", BASE.version)
    # Written down: a version stands for files on disk, so its recipe must not drift.
    assert BASE.version == "9692bb9bc395a8ea6091"


@pytest.mark.parametrize(
    "change",
    [
        {"code_version": "2"},
        {"code_version": ""},
        {"inputs": {**BASE.inputs, "candles": "cccc"}},
        {"inputs": {"candles": "bbbb", "labels": "aaaa"}},
        {"inputs": {"candles": "aaaa"}},
        {"inputs": {**BASE.inputs, "features": "cccc"}},
        {"inputs": {"backtest_candles": "aaaa", "labels": "bbbb"}},
        {"settings": {**BASE.settings, "CVN_SEED": "43"}},
        {"settings": {"CVN_SEED": "42"}},
        {"settings": {**BASE.settings, "CVN_MAX_FEATURES": "60"}},
        {"settings": {}, "inputs": {**BASE.inputs, **BASE.settings}},
    ],
)
def test_every_part_is_in_the_version(change):
    assert replace(BASE, **change).version != BASE.version


def test_the_order_of_inputs_and_settings_is_not():
    assert replace(BASE, inputs=turned(BASE.inputs), settings=turned(BASE.settings)).version == BASE.version


def test_market_and_lineage_are_not():
    # The market is a setting of the candles, and so in every version downstream; lineage repeats what inputs say.
    assert replace(BASE, market="simulated", lineage={}).version == BASE.version
