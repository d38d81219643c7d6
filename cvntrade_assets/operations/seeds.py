"""What seeding would do to the operators' table: insert what is missing, and touch nothing that anybody decided.

Every hyperparameter of the table and a few base settings are given their canonical value, so that operators find them
where they edit. A key that stands there is left as it is, and one that was removed stays removed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import pandas as pd

from cvntrade_assets.operations.factors import resolve_run
from cvntrade_assets.operations.masking import shown
from cvntrade_assets.settings import HYPERPARAMETER_SETTINGS, SETTINGS, Layer, SettingsError, read_value

AUTHOR = "seed"
REASON = "canonical value, inserted where there was none"

BASE_SETTINGS = (
    "CVN_DEFAULT_PTE",
    "CVN_DEFAULT_N_FOLDS",
    "CVN_DEFAULT_N_TRIALS",
    "CVN_DEFAULT_HISTORY_MONTHS",
)
"""The manual's Baseline Config."""


class SeedAction(StrEnum):
    """What seeding does with one key."""

    INSERT = "insert"
    PRESENT = "present"
    REMOVED = "removed_by_operator"
    INVALID = "invalid"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Seed:
    """One key of the plan.

    Attributes:
        key: The setting.
        value: Its canonical text; what was given for it, when that is invalid.
        action: What happens to it.
        told: Why; of a present key that says something else, what it says.
    """

    key: str
    value: str
    action: SeedAction
    told: str = ""


@dataclass(frozen=True)
class Standing:
    """What the operators' table holds, and what was removed from it.

    Attributes:
        base_env: Key to text.
        removed: Keys whose last change removed them, with who did it.
    """

    base_env: Mapping[str, str]
    removed: Mapping[str, str]


@dataclass(frozen=True)
class SeedPlan:
    """Every key that seeding looks at, in alphabetical order, and why nothing may be written, if so."""

    seeds: Sequence[Seed]
    refusal: str = ""

    def of(self, action: SeedAction) -> tuple[Seed, ...]:
        """The keys with which this is done."""
        return tuple(seed for seed in self.seeds if seed.action is action)

    @property
    def inserts(self) -> dict[str, str]:
        """What is to be written, key to text, in alphabetical order."""
        return {seed.key: seed.value for seed in self.of(SeedAction.INSERT)}


def wanted_texts(given: Mapping[str, str]) -> dict[str, str]:
    """The canonical text of every key that is seeded, with what a deployment gives laid over it.

    Args:
        given: A deployment's own values, key to text, not validated yet.
    """
    declared = {name: HYPERPARAMETER_SETTINGS[name].default for name in HYPERPARAMETER_SETTINGS}
    return {**declared, **{name: SETTINGS[name].default for name in BASE_SETTINGS}, **given}


def plan_seeds(wanted: Mapping[str, str], standing: Standing | None, now: pd.Timestamp) -> SeedPlan:
    """What seeding would do.

    Args:
        wanted: Key to text, see `wanted_texts`.
        standing: The operators' table; None when it cannot be read, and then it is unknown which keys are missing.
        now: The wall clock, UTC.

    Returns:
        The plan. It is refused when a given value is invalid, and when the table with the missing keys in it would be
        one that no run can use: seeds never contradict what operators set.
    """
    seeds = [_plan_key(key, wanted[key], standing) for key in sorted(wanted)]
    plan = SeedPlan(seeds)
    return SeedPlan(seeds, _invalid(plan) or _contradiction(plan, standing, now))


def _plan_key(key: str, text: str, standing: Standing | None) -> Seed:
    try:
        value = read_value(key, text, Layer.BASE_ENV).text
    except SettingsError as error:
        return Seed(key, shown(text), SeedAction.INVALID, str(error))
    if standing is None:
        return Seed(key, value, SeedAction.UNKNOWN)
    if key in standing.base_env:
        return Seed(key, value, SeedAction.PRESENT, _other(key, value, standing.base_env[key]))
    if key in standing.removed:
        return Seed(key, value, SeedAction.REMOVED, f"removed by {standing.removed[key]}")
    return Seed(key, value, SeedAction.INSERT)


def _other(key: str, value: str, text: str) -> str:
    """What stands in the table in place of the canonical value; empty when it is that."""
    try:
        same = read_value(key, text, Layer.BASE_ENV).text == value
    except SettingsError:
        same = False
    return "" if same else f"stays {shown(text)!r}"


def _invalid(plan: SeedPlan) -> str:
    return " ".join(seed.told for seed in plan.of(SeedAction.INVALID))


def _contradiction(plan: SeedPlan, standing: Standing | None, now: pd.Timestamp) -> str:
    """Why no run could use the table as it would be; empty when runs can."""
    base_env: Mapping[str, str] = standing.base_env if standing else {}
    inserts: Mapping[str, str] = plan.inserts if standing else {seed.key: seed.value for seed in plan.seeds}
    if error := _unusable(base_env, now):
        return f"the table base_env cannot be used as it stands, and is not added to: {error}"
    if error := _unusable({**base_env, **inserts}, now):
        return f"the seeds do not go together with what operators set: {error}"
    return ""


def _unusable(base_env: Mapping[str, str], now: pd.Timestamp) -> str:
    try:
        resolve_run(base_env=base_env, run={}, now=now)
    except SettingsError as error:
        return str(error)
    return ""


def logfmt(event: str, **fields: str | int | float) -> str:
    """One structured line: `event=seed_summary planned=487 …`; a text with spaces or quotes is quoted."""
    return " ".join(f"{name}={_field(value)}" for name, value in {"event": event, **fields}.items())


def _field(value: str | int | float) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else " ".join(str(value).split())
    if text and not any(sign in text for sign in ' "=\\'):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def removed_keys(last_changes: Mapping[str, tuple[str | None, str]]) -> dict[str, str]:
    """Keys whose last change removed them, with who did it.

    Args:
        last_changes: Of every key that ever changed, its new text (None: removed) and author of the last change.
    """
    return {key: author for key, (text, author) in last_changes.items() if text is None}
