"""A record with its diagnosis, as plain metadata of an asset: what is defined by its name, what is not in a list."""

from collections.abc import Mapping
from typing import Any

from cvntrade_assets.market.shown import shown_market
from cvntrade_assets.operations.correlation_data import AnyRecord
from cvntrade_assets.operations.diagnosis import Diagnosis
from cvntrade_assets.operations.verdict_text import one_sentence
from cvntrade_assets.trading.pass_rate import PassRate

_SCALARS = (str, int, float)


def as_metadata(record: AnyRecord, diagnosis: Diagnosis) -> dict[str, Any]:
    """Texts, numbers, lists and mappings by name; `undefined` names every field that is None.

    Raises:
        ValueError: the diagnosis is not of this record.
    """
    whole = record.to_record()
    derived = {
        "f1_buy_delta": record.f1_buy_delta,
        "screening_gap": record.screening_gap,
        "pass_rate": _pass_rate(record),
    }
    named: Mapping[str, Any] = whole | derived
    return {
        "diagnosis": one_sentence(record, diagnosis),
        "primary_code": str(diagnosis.primary.code),
        "codes": [str(code) for code in diagnosis.codes],
        "severity": str(diagnosis.severity),
        "owner": str(diagnosis.primary.owner),
        "next_command": diagnosis.primary.next_command,
        "decision_path": list(diagnosis.path),
        "not_judged": list(diagnosis.unknown),
        **{name: value for name, value in named.items() if isinstance(value, _SCALARS)},
        "market": shown_market(record.market),
        "gates_passed": record.passes,
        "gates_refused": list(record.refusing),
        "undefined": sorted(name for name, value in named.items() if value is None),
        "correlation_data": whole,
        "findings": diagnosis.to_record(),
    }


def _pass_rate(record: AnyRecord) -> str | None:
    """What became of the grid, in a line; None unless the run was complete."""
    screened, eligible, tested, passed = record.screened, record.eligible, record.tested, record.passed
    if screened is None or eligible is None or tested is None or passed is None:
        return None
    return str(PassRate(screened, eligible, tested, passed, record.refusals or {}))
