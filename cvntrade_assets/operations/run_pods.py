"""What the pod of a run is given: cores and memory, by what the run does.

A run that only fetches, watches or reports needs little, one that fits models more, one that searches the grid of trade
parameters most. How much that is, the operators say by settings; one run may ask for something else by its tags.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from cvntrade_assets.settings import Settings

WORK_TAG = "cvntrade/work"
"""Which kind of work a run does; a run without it does what the assets say that it builds."""

CORES_TAG, MEMORY_TAG = "cvntrade/pod_cores", "cvntrade/pod_memory_gib"
"""What a run asks for in place of what the settings give."""

GIVEN_CORES_TAG, GIVEN_MEMORY_TAG = "cvntrade/given_cores", "cvntrade/given_memory_gib"
"""What its pod was given. Apart from what was asked for: a run that is started again carries the tags of the first."""

EXCHANGE_POOL, TRAINING_POOL = "exchange", "training"

LEAST_CORES, MOST_CORES = 0.1, 64.0
LEAST_GIB, MOST_GIB = 0.5, 256.0


class Work(StrEnum):
    """What a run does; the least first."""

    REFRESH = "refresh"
    TRAINING = "training"
    DISCOVERY = "discovery"


SEARCHES = frozenset({"screening_matrix"})
"""Assets that search the grid of trade parameters."""

TRAINS = frozenset(
    {
        "feature_selection",
        "label_pipeline",
        "hyperparameters",
        "model",
        "walk_forward",
        "rolling_backtest",
        "validation_audit",
    }
)
"""Assets that fit models."""

FETCHES = frozenset({"candles", "backtest_candles"})
"""Assets that ask the exchange."""


class PodRequestError(ValueError):
    """A run asks for a pod that cannot be; the message names the tag, its value, and what is expected."""


@dataclass(frozen=True)
class PodSize:
    """Cores that a pod asks for, and memory in GiB that it asks for and must not exceed."""

    cores: float
    memory_gib: float

    @property
    def tags(self) -> dict[str, str]:
        """As the run says it."""
        return {GIVEN_CORES_TAG: f"{self.cores:g}", GIVEN_MEMORY_TAG: f"{self.memory_gib:g}"}

    @property
    def resources(self) -> dict[str, dict[str, str]]:
        """As Kubernetes reads it: what is asked for, and the limit. Processors that nobody wants may be used."""
        cpu, memory = f"{round(1000 * self.cores)}m", f"{math.ceil(1024 * self.memory_gib)}Mi"
        return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": memory}}


def pool_of(asset: str) -> str | None:
    """The pool whose places a stage takes while it works; None for one that takes none."""
    if asset in FETCHES:
        return EXCHANGE_POOL
    return TRAINING_POOL if asset in TRAINS | SEARCHES else None


def work_of(assets: Collection[str], tags: Mapping[str, str]) -> Work:
    """The kind of work that a run does.

    Args:
        assets: Names of what it builds; none for a run that builds nothing.
        tags: The run's.

    Raises:
        PodRequestError: its tag names no kind of work.
    """
    named = tags.get(WORK_TAG)
    if named is not None:
        if named not in list(Work):
            raise PodRequestError(f"tag {WORK_TAG} is {named!r}: expected one of {', '.join(Work)}")
        return Work(named)
    if SEARCHES.intersection(assets):
        return Work.DISCOVERY
    return Work.TRAINING if TRAINS.intersection(assets) else Work.REFRESH


def pod_size(work: Work, settings: Settings, tags: Mapping[str, str], killed_at_gib: float | None = None) -> PodSize:
    """What the pod of a run is given.

    Args:
        work: What the run does.
        settings: The operators'.
        tags: The run's.
        killed_at_gib: Memory of the largest pod of the runs that this one repeats, of those killed for want of memory:
            the next larger of the settings' sizes is given then, if there is one. What the run asks for itself stands.

    Raises:
        PodRequestError: a tag of the run asks for what cannot be.
    """
    memory = settings.number(memory_key(work))
    if killed_at_gib is not None:
        sizes = sorted(settings.number(memory_key(each)) for each in Work)
        memory = max(memory, next((size for size in sizes if size > killed_at_gib), killed_at_gib))
    return PodSize(
        cores=_asked(tags, CORES_TAG, LEAST_CORES, MOST_CORES) or settings.number(f"CVN_POD_{work.name}_CORES"),
        memory_gib=_asked(tags, MEMORY_TAG, LEAST_GIB, MOST_GIB) or memory,
    )


def memory_key(work: Work) -> str:
    """The setting that holds the memory of this kind of work."""
    return f"CVN_POD_{work.name}_MEMORY_GIB"


def training_memory_gib(settings: Settings) -> float:
    """Memory that the pod of a run that trains would be given, in GiB."""
    return settings.number(memory_key(Work.TRAINING))


def given_memory_gib(tags: Mapping[str, str]) -> float | None:
    """Memory that the pod of a run was given, in GiB; None for a run that has no pod."""
    given = tags.get(GIVEN_MEMORY_TAG)
    return None if given is None else float(given)


def training_room_gib(tags: Mapping[str, str], settings: Settings) -> float | None:
    """Memory that training on what a run builds will have, in GiB; None for a run that has no pod.

    A run that does not train itself, as one that ends at the training set, says nothing of the pod that will.
    """
    given = given_memory_gib(tags)
    return training_memory_gib(settings) if given is not None and tags.get(WORK_TAG) == Work.REFRESH else given


def _asked(tags: Mapping[str, str], tag: str, least: float, most: float) -> float | None:
    text = tags.get(tag)
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise PodRequestError(f"tag {tag} is {text!r}: expected a number from {least:g} to {most:g}")
    return value
