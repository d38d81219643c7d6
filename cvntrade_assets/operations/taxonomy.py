"""The diagnosis codes of the manual's §7: what each means, how bad it is (§8) and which role answers for it (§4)."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """Who answers for what."""

    OPERATOR = "operator"
    MLOPS_MAINTAINER = "MLOps maintainer"
    ML_OWNER = "ML owner"
    PLATFORM_OWNER = "platform owner"


class Severity(StrEnum):
    """How bad it is; the most severe first, so that `min` of several is the worst."""

    P0 = "P0"
    P1 = "P1"
    P2 = "P2"
    P3 = "P3"

    @property
    def time_limit(self) -> str:
        """By when somebody has to be at it."""
        return _TIME_LIMITS[self]


_TIME_LIMITS: Mapping[Severity, str] = {
    Severity.P0: "at once",
    Severity.P1: "within the hour",
    Severity.P2: "within the day",
    Severity.P3: "when there is time",
}


class Code(StrEnum):
    """The thirteen codes; causes before what they cause, and what is no trouble last."""

    INFRA_SATURATED = "INFRA_SATURATED"
    PIPELINE_DEGRADED = "PIPELINE_DEGRADED"
    ML_USELESS = "ML_USELESS"
    ML_MARGINAL = "ML_MARGINAL"
    ML_UNSTABLE = "ML_UNSTABLE"
    SCREENING_OVERFIT = "SCREENING_OVERFIT"
    SL_TOO_TIGHT = "SL_TOO_TIGHT"
    TP_TOO_AMBITIOUS = "TP_TOO_AMBITIOUS"
    HORIZON_TOO_SHORT = "HORIZON_TOO_SHORT"
    EXECUTION_MISMATCH = "EXECUTION_MISMATCH"
    NO_CANDIDATES = "NO_CANDIDATES"
    ML_EXPLOITABLE = "ML_EXPLOITABLE"
    ML_SOLID = "ML_SOLID"


@dataclass(frozen=True)
class Entry:
    """One code's line: what it means, how bad it is, and who answers for it."""

    meaning: str
    severity: Severity
    owner: Role


_P0, _P1, _P2, _P3 = Severity
TAXONOMY: Mapping[Code, Entry] = {
    Code.INFRA_SATURATED: Entry("the cluster, a volume or memory is saturated", _P0, Role.PLATFORM_OWNER),
    Code.PIPELINE_DEGRADED: Entry("too many runs fail", _P1, Role.MLOPS_MAINTAINER),
    Code.NO_CANDIDATES: Entry("no candidate of a complete run passed its gates", _P1, Role.MLOPS_MAINTAINER),
    Code.ML_USELESS: Entry("the model predicts no better than always saying BUY", _P2, Role.ML_OWNER),
    Code.ML_UNSTABLE: Entry("the model is not the same from one period to the next", _P2, Role.ML_OWNER),
    Code.SCREENING_OVERFIT: Entry("testing does not find what screening promised", _P2, Role.ML_OWNER),
    Code.EXECUTION_MISMATCH: Entry("the model predicts, and its trades lose money", _P2, Role.ML_OWNER),
    Code.SL_TOO_TIGHT: Entry("the stop-loss is probably too tight (suspected, not proved)", _P2, Role.ML_OWNER),
    Code.TP_TOO_AMBITIOUS: Entry("the take-profit is too far away", _P2, Role.ML_OWNER),
    Code.HORIZON_TOO_SHORT: Entry("trades have too little time", _P2, Role.ML_OWNER),
    Code.ML_MARGINAL: Entry("the model's gain is too small to survive execution", _P3, Role.ML_OWNER),
    Code.ML_EXPLOITABLE: Entry("the signal can be used where execution is kind to it", _P3, Role.OPERATOR),
    Code.ML_SOLID: Entry("the signal is solid", _P3, Role.OPERATOR),
}
