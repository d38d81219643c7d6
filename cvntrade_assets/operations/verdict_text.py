"""A diagnosis in words: one sentence for the command line, the report and the asset's page."""

from collections.abc import Iterable

from cvntrade_assets.operations.correlation_data import AnyRecord
from cvntrade_assets.operations.diagnosis import Diagnosis, Finding


def one_sentence(record: AnyRecord, diagnosis: Diagnosis) -> str:
    """What is the matter, by which numbers, what else, who answers by when, the next command, what nobody could judge.

    Raises:
        ValueError: the diagnosis is of another crypto or other trade execution parameters than the record.
    """
    if (record.crypto, record.pte) != (diagnosis.crypto, diagnosis.pte):
        raise ValueError(f"a diagnosis of {diagnosis.crypto} {diagnosis.pte} is not of {record.crypto} {record.pte}")
    found = diagnosis.primary
    market = " (SIMULATED)" if record.is_simulated else ""
    said = f"{record.crypto} {record.pte}{market}: {_named(found)}: {found.meaning} ({found.evidence})"
    parts = (
        said,
        _listed("also ", (_named(each) for each in diagnosis.secondary)),
        f"the {found.owner} acts {found.time_limit}",
        f"next `{found.next_command}`, because {found.because}",
        _listed("not judged: ", (f"{each.replace(': ', ' (', 1)})" for each in diagnosis.unknown)),
    )
    return "; ".join(part for part in parts if part) + "."


def _named(finding: Finding) -> str:
    return f"{finding.code} ({finding.severity})"


def _listed(heading: str, names: Iterable[str]) -> str:
    text = ", ".join(names)
    return heading + text if text else ""
