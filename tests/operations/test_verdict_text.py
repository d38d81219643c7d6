"""A diagnosis in words and in metadata: everything it says stands there once, and nothing undefined reads as 0."""

import json

import pytest
from correlation_records import BTC, HEALTHY, by_delta, gates, record, records
from hypothesis import given, settings

from cvntrade_assets.operations.correlation_data import AnyRecord, CorrelationData, from_record
from cvntrade_assets.operations.correlation_metadata import as_metadata
from cvntrade_assets.operations.diagnosis import diagnose
from cvntrade_assets.operations.verdict_text import one_sentence

LOSING = record(
    **by_delta(0.48, 0.4),
    sortino=-0.31,
    tp_pct=0.3,
    sl_pct=0.61,
    timeout_pct=0.09,
    std_f1_buy=None,
    market="simulated",
    gates=gates("sortino", "dsr"),
)


def test_the_sentence() -> None:
    assert one_sentence(LOSING, diagnose(LOSING)) == (
        "BTCUSDC H4_SL1.0_TP2.0 (SIMULATED): EXECUTION_MISMATCH (P2): the model predicts, and its trades lose money "
        "(F1 is +8 points, and sortino -0.31 (limit 0)); also SL_TOO_TIGHT (P2), ML_EXPLOITABLE (P3); the ML "
        "owner acts within the day; next `cvntrade discovery --crypto BTCUSDC --set sl_range=1.2,1.5,1.8,2.0`, because "
        "most trades end at the stop-loss: wider stops; not judged: ML_UNSTABLE (without std_f1_buy)."
    )


def test_a_sound_record_is_said_shortly() -> None:
    said = one_sentence(record(), diagnose(record()))
    assert said.startswith(
        f"{BTC} H4_SL1.0_TP2.0: ML_SOLID (P3): the signal is solid (0.52 beside 0.4, +12 points); the "
    )
    assert "also" not in said and "not judged" not in said and "SIMULATED" not in said


def test_a_diagnosis_of_another_record_is_refused() -> None:
    for other in (record(crypto="ETHUSDC"), record(pte="H4_SL1.0_TP2.5")):
        with pytest.raises(ValueError, match="is not of"):
            one_sentence(other, diagnose(record()))


def test_the_metadata() -> None:
    shown = as_metadata(LOSING, diagnose(LOSING))
    assert (shown["market"], shown["primary_code"], shown["severity"]) == ("SIMULATED", "EXECUTION_MISMATCH", "P2")
    assert shown["codes"] == ["EXECUTION_MISMATCH", "SL_TOO_TIGHT", "ML_EXPLOITABLE"]
    assert (shown["gates_passed"], shown["gates_refused"]) == (False, ["sortino", "dsr"])
    assert shown["f1_buy_delta"] == pytest.approx(0.08)
    assert shown["pass_rate"].startswith(f"{LOSING.screened} screened, {LOSING.eligible} eligible, ")
    assert "std_f1_buy" not in shown and "std_f1_buy" in shown["undefined"]
    assert shown["decision_path"][-1] == "exits: timeout_pct 9 % (at most 40 %): no"
    assert from_record(shown["correlation_data"], BTC) == LOSING


@settings(deadline=None, max_examples=50)
@given(records())
def test_metadata_is_plain_and_leaves_out_what_is_undefined(some: AnyRecord) -> None:
    shown = as_metadata(some, diagnose(some))
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown
    assert None not in shown.values()
    fields = set(CorrelationData.model_fields) | {"f1_buy_delta", "screening_gap", "pass_rate"}
    nested = {name for name in fields if isinstance(some.to_record().get(name), dict | list)}
    known = {"pass_rate": some.screened}
    undefined = {name for name in fields if (known[name] if name in known else getattr(some, name)) is None}
    assert fields - nested - set(shown) == undefined == set(shown["undefined"])


def test_the_platform_of_the_sound_record_is_known() -> None:
    assert None not in HEALTHY.model_dump().values()
