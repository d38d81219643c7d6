"""The guardrails: what may stop a run or warn of it, and the words in which each evaluation is told and recorded.

One rule for all of them: what is unusual by default is blocked, what is unusual because a factor's variant or the run
chose it is allowed, and every evaluation says which of the two it was.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What became of one evaluation."""

    PASSED = "passed"
    ALLOWED = "allowed"  # unusual, and chosen by a variant or the run
    WARNED = "warned"
    OVERRIDDEN = "overridden"  # would block; an override with a reason made a warning of it
    BLOCKED = "blocked"
    CRITICAL = "critical"
    UNKNOWN = "unknown"  # could not be computed, which is never a pass


@dataclass(frozen=True)
class Guardrail:
    """One guardrail.

    Attributes:
        name: Its name, which is also its check's.
        section: Where the design asks for it.
        meaning: What it demands, for the UI.
        blocks: Whether a breach blocks; otherwise it warns.
        explicit_allows: Whether a breach that a variant or the run chose is allowed.
        overridable: Whether an override makes a warning of a block.
        keys: The settings that can cause a breach; one that ends in `*` stands for all that begin so.
    """

    name: str
    section: str
    meaning: str
    blocks: bool
    explicit_allows: bool
    overridable: bool
    keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evaluation:
    """One guardrail, evaluated once.

    Attributes:
        guardrail: Its name.
        verdict: What became of it.
        message: What was found, what was expected and what to do.
        value: The value that was judged; None when there is no number.
        limit: What it was compared with; None when there is no number.
        explicit: Whether the value was chosen by a variant or the run.
        layer: The layer or layers behind the value, weakest first; empty when no setting is.
        override_reason: Why a block was overridden; only with the verdict `overridden`.
    """

    guardrail: str
    verdict: Verdict
    message: str
    value: float | None = None
    limit: float | None = None
    explicit: bool = False
    layer: str = ""
    override_reason: str | None = None

    def __post_init__(self) -> None:
        if self.guardrail not in GUARDRAILS:
            raise ValueError(f"{self.guardrail} is not a guardrail; the register has {', '.join(GUARDRAILS)}")
        if (self.override_reason is not None) != (self.verdict is Verdict.OVERRIDDEN):
            raise ValueError(
                f"{self.guardrail}: a reason for an override goes with the verdict overridden, and only so"
            )

    @property
    def stops(self) -> bool:
        """Whether nothing may go on from here; a guardrail that only warns never stops."""
        return GUARDRAILS[self.guardrail].blocks and self.verdict in (Verdict.BLOCKED, Verdict.UNKNOWN)


CUSUM_KEYS = ("CVN_CUSUM_TRAINING_ENABLED", "CVN_CUSUM_FILTER_MODE", "CVN_CUSUM_THRESHOLD_H")
ROW_KEYS = (*CUSUM_KEYS, "CVN_DEFAULT_HISTORY_MONTHS", "CVN_TIMEFRAME", "CVN_SLICE_TRAIN")
FEATURE_KEYS = ("CVN_MAX_FEATURES",)
TIME_KEYS = (
    *ROW_KEYS,
    *FEATURE_KEYS,
    "CVN_DEFAULT_N_TRIALS",
    "CVN_TUNING_FOLDS",
    "CVN_CLEANLAB",
    "CVN_BINARY_CLASSIFICATION",
    "CVN_FOCAL_LOSS",
    "CVN_HPO_XGBOOST_*",
)

_REGISTER = (
    # What a training run would see, judged before it starts.
    Guardrail(
        "settings_valid",
        "001 §0, §3, §5",
        "every setting and variant is known, well typed and at odds with no other",
        blocks=True,
        explicit_allows=False,
        overridable=False,
    ),
    Guardrail(
        "rows_within_limit",
        "001 §3",
        "training sees at most CVN_GUARDRAIL_MAX_ROWS rows, unless a variant or the run chose what makes them more",
        blocks=True,
        explicit_allows=True,
        overridable=True,
        keys=ROW_KEYS,
    ),
    Guardrail(
        "rows_enough",
        "001 §3",
        "training sees at least CVN_GUARDRAIL_MIN_ROWS rows, whoever chose",
        blocks=True,
        explicit_allows=False,
        overridable=False,
        keys=ROW_KEYS,
    ),
    Guardrail(
        "features_within_limit",
        "001 §3",
        "at most CVN_GUARDRAIL_MAX_FEATURES features reach the model, unless a variant or the run chose more",
        blocks=False,
        explicit_allows=True,
        overridable=False,
        keys=FEATURE_KEYS,
    ),
    Guardrail(
        "memory_within_limit",
        "001 §3, §10",
        "the run is estimated to need at most CVN_GUARDRAIL_MEMORY_GIB of memory, whoever chose",
        blocks=True,
        explicit_allows=False,
        overridable=False,
        keys=(*ROW_KEYS, *FEATURE_KEYS, "CVN_TUNING_FOLDS", "CVN_TUNING_WORKERS"),
    ),
    Guardrail(
        "minutes_within_limit",
        "001 §3",
        "the run is estimated to take at most CVN_GUARDRAIL_ESTIMATED_MINUTES, unless a variant or the run chose it",
        blocks=False,
        explicit_allows=True,
        overridable=False,
        keys=TIME_KEYS,
    ),
    Guardrail(
        "rollout_passed",
        "001 §11",
        "a factor that changes row counts, selection, model or CUSUM went through its staged rollout",
        blocks=True,
        explicit_allows=False,
        overridable=True,
    ),
    Guardrail(
        "variants_apart",
        "001 §0",
        "no two factors of the run set the same thing in two ways",
        blocks=False,
        explicit_allows=False,
        overridable=False,
    ),
    Guardrail(
        "variants_effective",
        "001 §0",
        "some asset reads what each variant sets, and the run sets nothing else over it",
        blocks=False,
        explicit_allows=False,
        overridable=False,
    ),
    # A run while it goes on, and what it took.
    Guardrail(
        "stage_in_time",
        "001 §4",
        "a stage takes no longer than its limit; it is flagged with a reason and an estimated end, and goes on",
        blocks=False,
        explicit_allows=True,
        overridable=False,
        keys=TIME_KEYS,
    ),
    Guardrail(
        "run_in_time",
        "001 §8",
        "a run takes at most CVN_GUARDRAIL_SLOW_RUN_MINUTES; over CVN_GUARDRAIL_CRITICAL_RUN_MINUTES is critical",
        blocks=False,
        explicit_allows=True,
        overridable=False,
        keys=TIME_KEYS,
    ),
    Guardrail(
        "factor_in_time",
        "001 §8",
        "the runs of a factor take no longer than CVN_GUARDRAIL_FACTOR_MINUTES on average",
        blocks=False,
        explicit_allows=True,
        overridable=False,
        keys=TIME_KEYS,
    ),
    Guardrail(
        "run_progresses",
        "000 §17.5",
        "a run shows a sign of progress every CVN_GUARDRAIL_STUCK_MINUTES; otherwise it is stuck and is terminated",
        blocks=True,
        explicit_allows=False,
        overridable=False,
    ),
    # The stages of a rollout.
    Guardrail(
        "rollout_preflight",
        "001 §11",
        "one crypto, one fold, one variant: rows, memory and time are within bounds",
        blocks=True,
        explicit_allows=False,
        overridable=False,
    ),
    Guardrail(
        "rollout_canary",
        "001 §11",
        "one crypto, all variants: no run failed and no guardrail alerted",
        blocks=True,
        explicit_allows=False,
        overridable=False,
    ),
    Guardrail(
        "rollout_full",
        "001 §11",
        "every crypto of the group: every run ended well",
        blocks=True,
        explicit_allows=False,
        overridable=False,
    ),
)

GUARDRAILS: Mapping[str, Guardrail] = {guardrail.name: guardrail for guardrail in _REGISTER}

# Those that judge a training set, in the order in which they are shown. They judge what a run is about to do with it,
# never its files: a version that one of them refused is as good as ever for a run that chose it.
PREFLIGHT: tuple[str, ...] = (
    "rows_within_limit",
    "rows_enough",
    "features_within_limit",
    "memory_within_limit",
    "minutes_within_limit",
    "rollout_passed",
    "variants_apart",
    "variants_effective",
)
BLOCKING_PREFLIGHT = tuple(name for name in PREFLIGHT if GUARDRAILS[name].blocks)
