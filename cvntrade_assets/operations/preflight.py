"""Preflight: what training would see, judged from a few numbers before anything is trained.

Pure arithmetic: whoever holds the numbers (the check on the training set, `cvntrade preflight`, `cvntrade plan`, a
stage that is handed a training set) gets the same verdicts from the same settings.
"""

import math
from collections.abc import Collection, Mapping
from typing import Any

from cvntrade_assets.operations.attribution import Attribution, attribute
from cvntrade_assets.operations.estimates import RunSize, estimate_run
from cvntrade_assets.operations.factors import find_variant, overlaps, undone
from cvntrade_assets.operations.guardrails import GUARDRAILS, Evaluation, Verdict
from cvntrade_assets.operations.rollout import RolloutStanding
from cvntrade_assets.settings import Settings

# The guardrails that need the size of a run.
SIZED = ("rows_within_limit", "rows_enough", "features_within_limit", "memory_within_limit", "minutes_within_limit")
# What a training set's summary says of its size.
_SIZE = ("candles", "train_rows", "offered_features")


def preflight(
    size: RunSize,
    settings: Settings,
    *,
    used_keys: Collection[str],
    rollout: RolloutStanding,
    pod_gib: float | None = None,
) -> list[Evaluation]:
    """Every preflight guardrail, evaluated, in the order in which they are shown.

    Args:
        size: What training would see.
        settings: The run's settings.
        used_keys: The keys that some asset reads; one that ends in `*` stands for all that begin so.
        rollout: Whether the run's factors need a staged rollout, and went through it.
        pod_gib: Memory of the run's pod; None for a run that has none.
    """
    judged = [*judge_size(size, settings, pod_gib), judge_rollout(settings, rollout)]
    return [*judged, *judge_variants(settings, used_keys)]


def judge_stored(
    summary: Mapping[str, Any],
    settings: Settings,
    rollout: RolloutStanding,
    fitted_rows: int | None = None,
    pod_gib: float | None = None,
) -> list[Evaluation]:
    """What a run with these settings may make of a stored training set; no file is read.

    Args:
        summary: The plain numbers kept with the training set, in its manifest.
        settings: The run's settings.
        rollout: As for `preflight`.
        fitted_rows: Training rows that the label pipeline left; None when it has not dealt with them yet.
        pod_gib: As for `preflight`.
    """
    missing = [name for name in _SIZE if name not in summary]
    if missing:
        message = f"it was stored without {', '.join(missing)}, so nothing is known of its size: build it again"
        return [Evaluation("rows_within_limit", Verdict.UNKNOWN, message), judge_rollout(settings, rollout)]
    candles, train_rows, offered = (int(summary[name]) for name in _SIZE)
    judged = judge_size(sized(candles, train_rows, offered, settings), settings, pod_gib)
    if fitted_rows is not None:
        # What cleanlab filters is known only now.
        judged = [_rows_enough(fitted_rows, settings) if each.guardrail == "rows_enough" else each for each in judged]
    return [*judged, judge_rollout(settings, rollout)]


def refusals(
    summary: Mapping[str, Any], settings: Settings, rollout: RolloutStanding, pod_gib: float | None = None
) -> list[Evaluation]:
    """Of `judge_stored`, what stops the run."""
    return [each for each in judge_stored(summary, settings, rollout, pod_gib=pod_gib) if each.stops]


def sized(candles: int, train_rows: int, offered_features: int, settings: Settings) -> RunSize:
    """The size of a run under these settings."""
    model_features = min(settings.whole("CVN_MAX_FEATURES"), offered_features)
    return RunSize(candles, train_rows, offered_features, model_features)


def refusal_told(version: str, stopping: Collection[Evaluation]) -> str | None:
    """Why a run with these settings may not use a training set; None when it may."""
    if not stopping:
        return None
    reasons = "; ".join(f"{each.guardrail}: {each.message}" for each in stopping)
    return f"training_set {version} is blocked under the settings of this run ({reasons})"


def judge_size(size: RunSize, settings: Settings, pod_gib: float | None = None) -> list[Evaluation]:
    """Rows, features, and the memory and minutes that they are estimated to need; what a pod has counts too."""
    estimate = estimate_run(size, settings)
    pod = None if pod_gib is None else (pod_gib, f"the {_number(pod_gib)} GiB of the run's pod (CVN_POD_…_MEMORY_GIB)")
    rows, features = size.train_rows, size.model_features
    return [
        _at_most("rows_within_limit", rows, "training rows", "CVN_GUARDRAIL_MAX_ROWS", settings),
        _rows_enough(rows, settings),
        _at_most("features_within_limit", features, "features for the model", "CVN_GUARDRAIL_MAX_FEATURES", settings),
        _at_most(
            "memory_within_limit", estimate.memory_gib, "GiB of memory", "CVN_GUARDRAIL_MEMORY_GIB", settings, pod
        ),
        _at_most("minutes_within_limit", estimate.minutes, "minutes", "CVN_GUARDRAIL_ESTIMATED_MINUTES", settings),
    ]


def judge_rollout(settings: Settings, rollout: RolloutStanding) -> Evaluation:
    """Whether the run's factors went through the staged rollout that they need."""
    name, chosen = "rollout_passed", bool(settings.variants)
    choice = Attribution((), chosen, "factor" if chosen else "", "")
    if not rollout.needed or rollout.satisfied:
        message = rollout.detail or rollout.why or "no factor of this run needs a staged rollout"
        return _told(name, Verdict.PASSED, message, None, None, choice)
    return _breach(name, f"{rollout.why}: {rollout.detail}", None, None, settings, choice)


def judge_variants(settings: Settings, used_keys: Collection[str]) -> list[Evaluation]:
    """Whether the run's variants can be told apart, and whether each of them changes anything."""
    idle = [
        f"{factor}={variant} sets {', '.join(texts)}, which no asset reads: it changes nothing"
        for factor, variant in settings.variants.items()
        if (texts := find_variant(factor, variant)) and not any(_is_used(key, used_keys) for key in texts)
    ]
    return [
        _variants("variants_apart", overlaps(settings.variants), settings),
        _variants("variants_effective", (*idle, *undone(settings)), settings),
    ]


def _is_used(key: str, used_keys: Collection[str]) -> bool:
    return any(key.startswith(used[:-1]) if used.endswith("*") else key == used for used in used_keys)


def _variants(name: str, wrong: Collection[str], settings: Settings) -> Evaluation:
    verdict = Verdict.WARNED if wrong else Verdict.PASSED
    chosen = bool(settings.variants)
    told = ", ".join(f"{factor}={variant}" for factor, variant in settings.variants.items()) or "no variant is chosen"
    return Evaluation(name, verdict, "; ".join(wrong) or told, None, None, chosen, "factor" if chosen else "")


def _at_most(
    name: str,
    value: float,
    unit: str,
    limit_key: str,
    settings: Settings,
    other: tuple[float, str] | None = None,
) -> Evaluation:
    """A value that must not exceed the limit in a setting, nor another one, told in words, if there is one."""
    limit, choice = float(settings.text(limit_key)), attribute(name, settings)
    told = f"{limit_key}={_number(limit)}"
    if other is not None and other[0] < limit:
        limit, told = other
    if not math.isfinite(value):
        message = f"the {unit} cannot be told: {value}. Nothing is known to be within {told}"
        return Evaluation(name, Verdict.UNKNOWN, message, None, limit, choice.explicit, choice.layer)
    if value <= limit:
        return _told(name, Verdict.PASSED, f"{_number(value)} {unit}, at most {_number(limit)}", value, limit, choice)
    message = f"{_number(value)} {unit}, more than {told}"
    return _breach(name, message, value, limit, settings, choice)


def _rows_enough(rows: int, settings: Settings) -> Evaluation:
    name, limit = "rows_enough", settings.whole("CVN_GUARDRAIL_MIN_ROWS")
    choice = attribute(name, settings)
    if rows >= limit:
        return _told(name, Verdict.PASSED, f"{rows:,} training rows, at least {limit:,}", rows, limit, choice)
    message = f"{rows:,} training rows, fewer than CVN_GUARDRAIL_MIN_ROWS={limit:,}"
    return _breach(name, message, rows, limit, settings, choice)


def _breach(
    name: str, message: str, value: float | None, limit: float | None, settings: Settings, choice: Attribution
) -> Evaluation:
    """What becomes of a breach: chosen and allowed, blocked, overridden, or a warning."""
    guardrail = GUARDRAILS[name]
    if guardrail.explicit_allows and choice.explicit:
        message = f"{message}; allowed as an explicit choice: {choice.told}"
        return _told(name, Verdict.ALLOWED, message, value, limit, choice)
    message = f"{message}. {_blame(name, choice)}"
    if not guardrail.blocks:
        return _told(name, Verdict.WARNED, message, value, limit, choice)
    if guardrail.overridable and settings.override_reason is not None:
        message = f"{message} It would block; overridden: {settings.override_reason}"
        return _told(name, Verdict.OVERRIDDEN, message, value, limit, choice, settings.override_reason)
    return _told(name, Verdict.BLOCKED, message, value, limit, choice)


_MEND = {
    "rows_enough": "Load a longer history, lower CVN_CUSUM_THRESHOLD_H, give CVN_SLICE_TRAIN a larger share or let "
    "CVN_CLEANLAB filter less.",
    "memory_within_limit": "Let CUSUM thin the training slice, shorten the history, lower CVN_MAX_FEATURES or use "
    "fewer CVN_TUNING_WORKERS; a pod that is too small gets more by its setting.",
    "rollout_passed": (
        "Or override it: --set CVN_GUARDRAIL_OVERRIDE=1 --set CVN_GUARDRAIL_OVERRIDE_REASON='why, approved by @name'."
    ),
}


def _blame(name: str, choice: Attribution) -> str:
    """Where the value comes from and what to do about it."""
    if name in _MEND:
        return f"It comes from {choice.told}. {_MEND[name]}" if choice.told else _MEND[name]
    if not choice.unchosen:
        return (
            f"Every setting behind it has its usual value ({choice.told}), so nobody chose it: the fault is in the "
            "candles or in the code."
        )
    keys = " ".join(f"--set {key}=…" for key in choice.unchosen)
    return (
        f"It comes from {choice.told}; neither a variant nor the run chose {', '.join(choice.unchosen)}. Correct it "
        f"where it was set (`cvntrade settings unset KEY --reason TEXT` for layer base_env), or choose it on purpose: "
        f"with a factor's variant, or {keys}."
    )


def _told(
    name: str,
    verdict: Verdict,
    message: str,
    value: float | None,
    limit: float | None,
    choice: Attribution,
    override_reason: str | None = None,
) -> Evaluation:
    return Evaluation(name, verdict, message, value, limit, choice.explicit, choice.layer, override_reason)


def _number(value: float) -> str:
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.2f}"
