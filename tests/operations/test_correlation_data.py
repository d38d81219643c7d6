"""The record: what it refuses, that JSON gives it back exactly, that its document and version follow its schema."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from correlation_records import BTC, GATES, SOUND, by_delta, complete, gates, record, records
from hypothesis import given, settings
from pydantic import ValidationError

from cvntrade_assets.operations.correlation_data import (
    SCHEMA_VERSION,
    AnyRecord,
    CorrelationData,
    Platform,
    RecordError,
    from_record,
)
from cvntrade_assets.operations.same_crypto import change, require_one_crypto

ROOT = Path(__file__).parent.parent.parent
DOCUMENT = (ROOT / "docs" / "correlation-data.md").read_text()

# Another set of fields, or another meaning of one, is another schema version, with a line of its own.
FINGERPRINTS = {1: "70e13ad796fccfd2", 2: "755c78e53f7c1cc6"}


# the schema and its document


def tables() -> dict[str, list[tuple[str, ...]]]:
    """Name, type, whether None is allowed, and meaning of every field, by part, as the schema has them."""
    schema = CorrelationData[str].model_json_schema(mode="serialization")
    parts = {"record": schema, **schema["$defs"]}
    return {
        name: [(field, *words(found), found["description"]) for field, found in part["properties"].items()]
        for name, part in parts.items()
    }


def words(found: dict[str, Any]) -> tuple[str, str]:
    choices = found.get("anyOf", [found])
    known = [choice for choice in choices if choice.get("type") != "null"]
    return " or ".join(in_words(choice) for choice in known), "or None" if len(known) < len(choices) else ""


def in_words(found: dict[str, Any]) -> str:
    if "$ref" in found:
        return str(found["$ref"].split("/")[-1])
    if "const" in found or "enum" in found:
        return " or ".join(f"`{each}`" for each in found.get("enum", [found.get("const")]))
    if found["type"] == "array":
        inner = found.get("prefixItems") or [found["items"]]
        return "list of " + ", ".join(" ".join(filter(None, words(each))) for each in inner)
    if found["type"] == "object":
        return "by name: " + words(found["additionalProperties"])[0]
    return f"{found.get('format', found['type'])}{limits(found)}"


def limits(found: dict[str, Any]) -> str:
    low, high = found.get("minimum", found.get("exclusiveMinimum")), found.get("maximum")
    if high is not None:
        return f" {low:g} to {high:g}"
    over = ">" if "exclusiveMinimum" in found else "≥"
    return "" if low is None else f" {over} {low:g}"


def in_markdown() -> str:
    return "\n".join(lines())


def lines() -> Iterator[str]:
    for name, rows in tables().items():
        yield f"### {name}\n"
        yield "| field | type | | meaning |\n|---|---|---|---|"
        yield from (f"| `{field}` | {kind} | {none} | {meaning} |" for field, kind, none, meaning in rows)
        yield ""


def fingerprint() -> str:
    shape = {name: [row[:3] for row in rows] for name, rows in tables().items()}
    return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:16]


def test_the_document_has_every_field() -> None:
    assert in_markdown().strip() in DOCUMENT, f"docs/correlation-data.md does not hold this:\n\n{in_markdown()}"
    assert f"Schema version: {SCHEMA_VERSION}\n" in DOCUMENT


def test_another_schema_is_another_version() -> None:
    assert fingerprint() == FINGERPRINTS[SCHEMA_VERSION], "the fields changed: raise SCHEMA_VERSION, see the document"


# JSON there and back


@settings(deadline=None, max_examples=100)
@given(records())
def test_json_gives_the_very_record_back(some: AnyRecord) -> None:
    text = json.dumps(some.to_record(), allow_nan=False)
    again = from_record(text, some.crypto)
    assert again == some
    assert again.to_record() == some.to_record()
    # As a JSONB column gives it.
    assert from_record(json.loads(text), some.crypto) == some


def test_moments_of_pandas_and_numbers_of_numpy_come_back_plain() -> None:
    begin = pd.Timestamp("2024-01-01T00:30", tz="UTC")
    made = record(data_from=begin, sortino=np.float64(0.1), n_trades=7)
    assert type(made.data_from) is datetime and made.data_from == begin
    assert type(made.sortino) is float
    assert from_record(made.to_record(), BTC) == made


def test_a_record_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        record().f1_buy = 0.9  # type: ignore[misc]


def test_a_record_of_before_pods_were_counted_is_read() -> None:
    former = record().to_record()
    platform = {name: value for name, value in former["platform"].items() if name != "pods_lost"}
    read = from_record({**former, "schema_version": 1, "platform": platform}, BTC)
    assert (read.schema_version, read.platform.pods_lost) == (2, None)
    with pytest.raises(RecordError, match="schema version 1, expected 2"):
        from_record({**former, "schema_version": 1}, BTC)


# what is refused


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"sharp": 1.0}, "has sharp, which schema version 2 does not know: .*install that code, or evaluate again"),
        ({"platform": {"ram": 0.5}}, "has platform.ram, which schema version 2 does not know"),
        ({"schema_version": 3}, "schema version 3, and this code knows none after 2: newer code wrote it; install"),
        ({"schema_version": 0}, "schema version 0, expected 2: evaluate again"),
        ({"schema_version": True}, "schema version True, expected 2"),
        ({"schema_version": "1"}, "schema version '1', expected 2"),
        ({"crypto": "ETHUSDC"}, "is of 'ETHUSDC' and not of 'BTCUSDC'"),
        ({"f1_buy": float("nan")}, "f1_buy: Input should be a finite number"),
        ({"sortino": float("inf")}, "sortino.*finite"),
        ({"folds": [{"number": 1}]}, "folds.0.test_from: Field required"),
        ({"f1_buy": None}, "f1_buy: Input should be a valid number"),
        ({"f1_buy": "0.5"}, "f1_buy: Input should be a valid number"),
        ({"f1_buy": True}, "f1_buy: Input should be a valid number"),
        ({"sl_pct": 40.0}, "sl_pct: Input should be less than or equal to 1"),
        ({"n_trades": 12.5}, "n_trades: Input should be a valid integer"),
        ({"market": "kraken"}, "market: Input should be 'binance' or 'simulated'"),
    ],
)
def test_a_record_that_is_not_ours_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(RecordError, match=why):
        from_record(record().to_record() | changes, BTC)


@pytest.mark.parametrize("text", ["", "{", "NaN", '{"schema_version": 1'])
def test_a_text_that_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(RecordError, match="evaluate again"):
        from_record(text, BTC)


def test_a_missing_field_is_refused_by_name() -> None:
    less = {name: value for name, value in record().to_record().items() if name != "std_f1_buy"}
    with pytest.raises(RecordError, match="std_f1_buy: Field required"):
        from_record(less, BTC)


NONE = dict.fromkeys(("tp_pct", "sl_pct", "timeout_pct"))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"crypto": "btc usdc; rm"}, "pattern"),
        ({"pte": "H4_SL1_TP2"}, "not the canonical spelling: write H4_SL1.0_TP2.0"),
        ({"pte": "H7_SL1.0_TP2.0"}, "from 1 to 6"),
        ({"buy_rate": 0.3}, "baseline_f1_buy is 0.4 and buy_rate 0.3 makes it 0.46.*same rows"),
        ({"folds": (SOUND["folds"][0].model_copy(update={"buy_rate": 0.5}),)}, "fold 1: baseline_f1_buy"),
        ({"folds": SOUND["folds"][1:]}, r"numbered \[2, 3\]"),
        ({"n_trades": 0}, "0 trades and .* else None"),
        (NONE, "120 trades and"),
        ({"sl_pct": None}, "120 trades and"),
        ({"sl_pct": 0.9}, "more than all trades"),
        ({"gates": ()}, "at least 1"),
        ({"gates": (*gates(), gates()[0])}, "named twice"),
        ({"passed": None}, "all of a complete run, or None each"),
        ({"refusals": None}, "refusals is None"),
        (complete(4, {}), "each is a part of screened"),
        ({"eligible": 97}, "each is a part of screened"),
        (complete(1, {}), "2 of the tested candidates did not pass"),
        (complete(1, {"sortino": 3}), "2 of the tested candidates did not pass"),
        (complete(3, {"sortino": 1}), "0 of the tested candidates did not pass"),
        ({"intervals": {"f2": (0.1, 0.2)}}, "f2 is no field"),
        ({"intervals": {"f1_buy": (0.3, 0.2)}}, "low, then high"),
        ({"intervals": {"f1_buy": (None, 0.2)}}, "low, then high"),
        ({"versions": {}}, "at least 1"),
        ({"data_from": SOUND["data_until"]}, "not before data_until"),
        ({"data_from": datetime(2024, 1, 1)}, "timezone"),
        ({"data_from": datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=2)))}, "not in UTC"),
        ({"n_trades": np.int64(3)}, "valid integer"),
    ],
)
def test_what_contradicts_itself_cannot_be_made(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        record(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"n_trades": 0} | NONE,
        dict.fromkeys(complete(0, {})),
        complete(3, {}),
        complete(0, {"sortino": 2, "f1_delta": 1}),
        # The best-ranked point is tested also when none is eligible.
        complete(0, {"f1_delta": 1}, tested=1) | {"eligible": 0},
        by_delta(0.0, 0.0) | {"precision_buy": None, "recall_buy": None},
        {"tp_pct": 0.4, "sl_pct": 0.3, "timeout_pct": 0.1},
        {"platform": Platform()},
        {"data_from": datetime(2024, 1, 1, tzinfo=UTC)},
    ],
)
def test_what_is_undefined_may_be_said(changes: dict[str, Any]) -> None:
    made = record(**changes)
    assert from_record(made.to_record(), BTC) == made


# what is derived


def test_the_derived_numbers() -> None:
    made = record(**by_delta(0.48, 0.4), screening_f1_buy=0.6, last_fold_f1_buy=0.5)
    assert made.f1_buy_delta == pytest.approx(0.08)
    assert made.screening_gap == pytest.approx(0.1)
    assert record(last_fold_f1_buy=None).screening_gap is None
    assert str(made.execution) == made.pte
    assert (made.is_simulated, record(market="simulated").is_simulated) == (False, True)
    assert (made.passes, made.refusing) == (True, ())
    refused = record(gates=gates("sortino", "dsr"))
    assert (refused.passes, refused.refusing) == (False, ("sortino", "dsr"))
    assert {gate.name for gate in made.gates} == set(GATES)


# one crypto


def of(crypto: str, **changes: Any) -> CorrelationData[str]:
    return record(crypto=crypto, **changes)


def test_a_change_is_after_less_before() -> None:
    assert change(of(BTC, sortino=0.5), of(BTC, sortino=0.75), "sortino") == 0.25
    assert change(of(BTC, sortino=None), of(BTC), "sortino") is None
    assert change(of(BTC), of(BTC, n_trades=130), "n_trades") == 10
    for name in ("pte", "leading", "gates"):
        with pytest.raises(TypeError, match="no measured number"):
            change(of(BTC), of(BTC), name)


def test_two_cryptos_are_never_compared() -> None:
    mixed = [of(BTC), of("ETHUSDC")]
    with pytest.raises(TypeError, match="BTCUSDC, ETHUSDC are not comparable"):
        require_one_crypto(mixed)
    with pytest.raises(TypeError, match="not comparable"):
        change(*mixed, "sortino")
    with pytest.raises(TypeError, match="not supported between"):
        sorted(mixed)  # type: ignore[type-var]
    with pytest.raises(TypeError, match="not supported between"):
        max(mixed)  # type: ignore[type-var]


SNIPPET = """
from typing import Literal, TypeVar

from cvntrade_assets.operations.correlation_data import CorrelationData, from_record
from cvntrade_assets.operations.same_crypto import change, require_one_crypto

Btc = CorrelationData[Literal["BTCUSDC"]]
Eth = CorrelationData[Literal["ETHUSDC"]]
A = TypeVar("A", bound=str)
B = TypeVar("B", bound=str)

def one_crypto(before: Btc, after: Btc) -> object: return change(before, after, "f1_buy")
def any_one_crypto(before: CorrelationData[A], after: CorrelationData[A]) -> None: require_one_crypto([before, after])
def one_crypto_read(text: str, crypto: A, now: CorrelationData[A]) -> object: return change(from_record(text, crypto), now, "dsr")
def two_cryptos(btc: Btc, eth: Eth) -> object: return change(btc, eth, "f1_buy")
def two_in_a_list(btc: Btc, eth: Eth) -> None: require_one_crypto([btc, eth])
def any_two(first: CorrelationData[A], other: CorrelationData[B]) -> object: return change(first, other, "f1_buy")
def one_of_any(btc: Btc, some: CorrelationData[str]) -> object: return change(btc, some, "f1_buy")
def one_read_as_another(text: str, btc: Btc, eth: Literal["ETHUSDC"]) -> object: return change(btc, from_record(text, eth), "dsr")
def taken_for_another(btc: Btc) -> Eth: return btc
def sorted_in_passing(btc: Btc, eth: Eth) -> object: return sorted([btc, eth])
def order(btc: Btc, eth: Eth) -> bool: return btc < eth
"""  # noqa: E501
REFUSED = {
    "two_cryptos",
    "two_in_a_list",
    "any_two",
    "one_of_any",
    "one_read_as_another",
    "taken_for_another",
    "sorted_in_passing",
    "order",
}


# What a record is made of knows nothing of these two, whose stubs take four times as long as all the rest.
MYPY = """
[mypy]
strict = true
[mypy-pandas.*,numpy.*]
follow_imports = skip
follow_imports_for_stubs = true
"""


def test_mypy_compares_records_of_one_crypto_and_no_others(tmp_path: Path) -> None:
    (tmp_path / "snippet.py").write_text(SNIPPET)
    (tmp_path / "mypy.ini").write_text(MYPY)
    options = ("--config-file", tmp_path / "mypy.ini", "--cache-dir", tmp_path / "cache")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, tmp_path / "snippet.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    places = [
        int(line.split(":")[1]) for line in done.stdout.splitlines() if "snippet.py:" in line and ": error:" in line
    ]
    found = {SNIPPET.splitlines()[place - 1].split("(")[0].removeprefix("def ") for place in places}
    assert done.returncode == 1, done.stdout + done.stderr
    assert found == REFUSED, done.stdout
