"""What a morning check is made of: facts that resources read, and pure functions put into words."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from cvntrade_assets.operations.global_state import Reason, State
from cvntrade_assets.operations.sessions import PipelineRun
from cvntrade_assets.operations.signals import Observation
from cvntrade_assets.operations.taxonomy import Role, Severity
from cvntrade_assets.settings import Settings


@dataclass(frozen=True)
class StateSeen:
    """The global state as it was last computed: when, what it is, since when, why, and of which market and moment."""

    computed_at: pd.Timestamp
    state: State
    since: pd.Timestamp
    reasons: tuple[Reason, ...]
    market: str
    as_of: pd.Timestamp


@dataclass(frozen=True)
class RunSeen:
    """What else is known of a run: the stage that it is in or failed in, why it failed, and its page."""

    page: str
    stage: str | None = None
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class AlertSeen:
    """An open alert: its number, which condition, how bad, who answers, who is told, and who is at it."""

    id: int
    key: str
    kind: str
    severity: Severity
    owner: Role
    audience: Role
    what: str
    where: str
    since: pd.Timestamp
    next_step: str
    acknowledged_by: str | None


@dataclass(frozen=True)
class MessageSeen:
    """A message that was not delivered: since when it waits, and why; None before the first attempt."""

    created_at: pd.Timestamp
    last_error: str | None


@dataclass(frozen=True)
class Verdict:
    """The newest evaluation's leading candidate of one crypto, and the model that was registered of it."""

    crypto: str
    market: str
    pte: str
    code: str
    f1_buy: float
    baseline_f1_buy: float
    sortino: float | None
    passed: bool
    recorded_at: pd.Timestamp
    registered: str | None


@dataclass(frozen=True)
class MorningFacts:
    """Everything that the check is made of.

    Attributes:
        now: The wall clock, UTC.
        settings: In force for everybody; None when `base_env` cannot be used.
        settings_trouble: Why not; empty when it can.
        state: As it was last computed; None before the first time.
        observations: What the stored signals count as now.
        cryptos: Every crypto of the universe.
        runs: Of every pipeline and crypto the newest run.
        seen: More about those that run or failed, by run id.
        alerts: Open ones.
        messages: Those that wait to be delivered.
        verdicts: Of every crypto.
        webserver: Why the webserver is of no use; empty when it answers or nobody asked.
    """

    now: pd.Timestamp
    settings: Settings | None
    settings_trouble: str
    state: StateSeen | None
    observations: Sequence[Observation]
    cryptos: Collection[str]
    runs: Sequence[PipelineRun]
    seen: Mapping[str, RunSeen] = field(default_factory=dict)
    alerts: Sequence[AlertSeen] = ()
    messages: Sequence[MessageSeen] = ()
    verdicts: Sequence[Verdict] = ()
    webserver: str = ""
