"""Facts for tests of signals: everything in order, which a test changes part by part."""

from dataclasses import replace
from typing import Any

import pandas as pd

from cvntrade_assets.operations.facts import (
    CryptoFacts,
    DriftFacts,
    EvaluationFacts,
    Facts,
    InfraFacts,
    JobFacts,
    SessionFacts,
)
from cvntrade_assets.operations.signals import SIGNALS, Level, Observation, Scope
from cvntrade_assets.settings import Settings, resolve

NOW = pd.Timestamp("2025-09-15 10:17", tz="UTC")
BTC, SOL = "BTCUSDC", "SOLUSDC"
CORE, OTHER = ("btc-core",), ("defi",)
UNIVERSE = {BTC: CORE, SOL: OTHER}


def given_settings(**base_env: str) -> Settings:
    """The settings in force, with what operators changed."""
    return resolve(base_env=base_env, run={}, now=NOW)


def ago(**span: float) -> pd.Timestamp:
    """That long before now: `days`, `hours`, `minutes`."""
    return NOW - pd.Timedelta(**span)


def infra(**changes: Any) -> InfraFacts:
    sound = InfraFacts("machine", oom_kills=0, cpu_used=0.2, volume_used=0.4, fullest="/data", down=())
    return replace(sound, **changes)


def job(name: str = "discovery", succeeded: int = 20, failed: int = 0, **changes: Any) -> JobFacts:
    return JobFacts(
        name, succeeded, failed, **({"recent_seconds": (60.0,) * 5, "earlier_seconds": (60.0,) * 20} | changes)
    )


def session(days: float, passed: int, screened: int = 96) -> SessionFacts:
    return SessionFacts(f"session {days:g} days ago", ago(days=days), screened, passed)


def evaluation(**changes: Any) -> EvaluationFacts:
    sound = EvaluationFacts(
        recorded_at=ago(hours=6),
        primary_code="ML_SOLID",
        f1_buy=0.62,
        baseline_f1_buy=0.4,
        screening_f1_buy=0.6,
        last_fold_f1_buy=0.62,
        std_f1_buy=0.02,
        sortino=1.4,
        sl_pct=0.2,
        timeout_pct=0.1,
        n_trades=120,
        recent_sortinos=(1.4, 1.1),
    )
    return replace(sound, **changes)


def crypto(name: str = BTC, **changes: Any) -> CryptoFacts:
    sound = CryptoFacts(
        crypto=name,
        groups=UNIVERSE.get(name, OTHER),
        candles_until=ago(hours=3),
        model_until=ago(days=2),
        useful_model=f"{name} model 3",
        evaluation=evaluation(),
        drift=DriftFacts(ago(hours=5), Level.OK, 0.02, "2 % of 60 features left the training slice"),
    )
    return replace(sound, **changes)


def facts(**changes: Any) -> Facts:
    sound = Facts(
        now=NOW,
        as_of=NOW,
        infra=infra(),
        jobs=(job(),),
        sessions=(session(0.5, 2), session(1.5, 1)),
        last_useful_at=ago(days=0.5),
        pending_challengers=2,
        cryptos={name: crypto(name) for name in UNIVERSE},
    )
    return replace(sound, **changes)


def observed(signal: str, level: Level = Level.OK, subject: str | None = None, minutes: float = 0.0) -> Observation:
    """An observation at that level, so many minutes old; of the platform, of `discovery` or of BTCUSDC if not told."""
    usual = {Scope.PLATFORM: "", Scope.JOB: "discovery", Scope.CRYPTO: BTC}[SIGNALS[signal].scope]
    value = None if level is Level.UNKNOWN else 1.0
    return Observation(signal, usual if subject is None else subject, value, level, "as told", ago(minutes=minutes))
