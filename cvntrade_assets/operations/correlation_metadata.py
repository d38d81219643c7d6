"""A record with its diagnosis, as plain metadata of an asset: what is defined by its name, what is not in a list."""

from collections.abc import Mapping
from typing import Any

from cvntrade_assets.operations.correlation_data import AnyRecord
from cvntrade_assets.operations.diagnosis import Diagnosis
from cvntrade_assets.operations.verdict_text import one_sentence

_SCALARS = (str, int, float)


def as_metadata(record: AnyRecord, diagnosis: Diagnosis) -> dict[str, Any]:
    """Texts, numbers, lists and mappings by name; `undefined` names every field that is None.

    Raises:
        ValueError: the diagnosis is not of this record.
    """
    whole = record.to_record()
    derived = {"f1_buy_delta": record.f1_buy_delta, "screening_gap": record.screening_gap}
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
        "market": "SIMULATED" if record.is_simulated else record.market,
        "gates_passed": record.passes,
        "gates_refused": list(record.refusing),
        "undefined": sorted(name for name, value in named.items() if value is None),
        "correlation_data": whole,
        "findings": diagnosis.to_record(),
    }
