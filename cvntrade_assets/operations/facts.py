"""What signals are computed from: facts that resources gather, and pure functions judge. None is unknown."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from cvntrade_assets.operations.signals import Level

TROUBLES = ("infra", "jobs", "sessions", "useful", "challengers", "candles", "models", "evaluations", "drift")
"""The groups of facts that can fail to be gathered."""


@dataclass(frozen=True)
class InfraFacts:
    """How the machine, or the cluster, stands.

    Attributes:
        source: Who told: `prometheus`, or `machine` for the one that this runs on.
        oom_kills: Processes that were killed for want of memory in the last 24 hours.
        cpu_used: Share of the processors that is used.
        volume_used: Share of the fullest volume that is used.
        fullest: That volume's name.
        down: What should run and does not; empty when everything does.
        trouble: Why something of this is unknown, a sentence each.
        is_own_work: Whether runs of ours keep the processors busy of the only machine that there is: that is what it is
            for, and says nothing of how it stands.
        pods_lost: Pods of runs that were lost, or found no node in time, in the last 24 hours.
    """

    source: str
    oom_kills: int | None = None
    cpu_used: float | None = None
    volume_used: float | None = None
    fullest: str | None = None
    down: tuple[str, ...] | None = None
    trouble: tuple[str, ...] = ()
    is_own_work: bool = False
    pods_lost: int = 0


@dataclass(frozen=True)
class JobFacts:
    """A job's runs; those that Dagster starts again by itself are counted by what came of them in the end.

    Attributes:
        job: Its name.
        succeeded: Runs of the window that succeeded.
        failed: Runs of the window that ended otherwise.
        recent_seconds: What the newest successful runs took, newest first.
        earlier_seconds: What the successful runs before those took.
    """

    job: str
    succeeded: int
    failed: int
    recent_seconds: tuple[float, ...] = ()
    earlier_seconds: tuple[float, ...] = ()


@dataclass(frozen=True)
class SessionFacts:
    """A complete evaluation of a session: the runs that were started together.

    Attributes:
        session: Its name.
        ended_at: When its last evaluation was recorded.
        screened: Points of the grid that were screened, over its cryptos.
        passed: Candidates that passed every gate, over its cryptos.
    """

    session: str
    ended_at: pd.Timestamp
    screened: int
    passed: int


@dataclass(frozen=True)
class EvaluationFacts:
    """The newest evaluation of a crypto: its leading candidate.

    Attributes:
        recorded_at: When.
        primary_code: The diagnosis.
        f1_buy: On the newest test period.
        baseline_f1_buy: Of always saying BUY there.
        screening_f1_buy: Of the screening's recipe there.
        last_fold_f1_buy: Of the full recipe there.
        std_f1_buy: Over the folds.
        sortino: Of the backtest; None without trades.
        sl_pct: Share of trades; None without trades.
        timeout_pct: Share of trades; None without trades.
        n_trades: Trades of the backtest.
        recent_sortinos: Of the newest evaluations, newest first, this one included.
        next_commands: The playbook's command for every code that triggered, by code.
    """

    recorded_at: pd.Timestamp
    primary_code: str
    f1_buy: float
    baseline_f1_buy: float
    screening_f1_buy: float | None
    last_fold_f1_buy: float | None
    std_f1_buy: float | None
    sortino: float | None
    sl_pct: float | None
    timeout_pct: float | None
    n_trades: int
    recent_sortinos: tuple[float | None, ...] = ()
    next_commands: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DriftFacts:
    """The newest drift report of a crypto.

    Attributes:
        recorded_at: When.
        level: What it came to.
        share: Share of features and scores that drifted.
        reason: In a sentence.
    """

    recorded_at: pd.Timestamp
    level: Level
    share: float | None
    reason: str


@dataclass(frozen=True)
class CryptoFacts:
    """What is known of a crypto, on the market in force.

    Attributes:
        crypto: Its name.
        groups: The groups that it is in.
        candles_until: Close of its last closed candle in store.
        model_until: Where the data end that its last useful model (champion, else newest challenger) was made from and
            judged on: when it was last refreshed, on data time.
        useful_model: That model's name.
        evaluation: Its newest evaluation.
        drift: Its newest drift report.
    """

    crypto: str
    groups: tuple[str, ...]
    candles_until: pd.Timestamp | None = None
    model_until: pd.Timestamp | None = None
    useful_model: str | None = None
    evaluation: EvaluationFacts | None = None
    drift: DriftFacts | None = None


@dataclass(frozen=True)
class Facts:
    """Everything that one look takes in.

    Attributes:
        now: The wall clock, UTC: what runs, kills and evaluations are dated by.
        as_of: The moment that counts as now for candles and models (CVN_AS_OF).
        infra: None when neither Prometheus nor the machine could be asked.
        jobs: Jobs that ran.
        sessions: Complete sessions, newest first.
        last_useful_at: When a leading candidate last passed every gate.
        pending_challengers: Challengers that wait.
        cryptos: Every crypto of the universe, by name.
        trouble: What could not be gathered, and why; its signals are unknown. A key is a group of `TROUBLES`, or that
            and a crypto (`evaluations/BTCUSDC`) where the others' could.
    """

    now: pd.Timestamp
    as_of: pd.Timestamp
    infra: InfraFacts | None
    jobs: tuple[JobFacts, ...]
    sessions: tuple[SessionFacts, ...]
    last_useful_at: pd.Timestamp | None
    pending_challengers: int | None
    cryptos: Mapping[str, CryptoFacts]
    trouble: Mapping[str, str] = field(default_factory=dict)
