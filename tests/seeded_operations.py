"""An operations schema as it looks after some busy days: every table that dashboards and the exporter read has rows.

Two markets, so that the mark of the simulated one is seen; a run of every fate; a signal of every level.
"""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import sqlalchemy as sa
from correlation_records import by_delta, gates, record
from recorded_evaluation import record_evaluation_of

from cvntrade_assets.operations.lifecycle import ModelState
from cvntrade_assets.operations.signals import SIGNALS, Scope
from cvntrade_assets.operations.taxonomy import Role
from resources.evaluations import EvaluationOf, record_evaluations
from resources.registry import Actor, NewModel, offer_candidate, transition
from resources.results import ResultOf, record_result
from resources.tables import (
    ALERT_MESSAGES,
    ALERTS,
    ARTIFACT_VERSIONS,
    DRIFT_REPORTS,
    GLOBAL_STATES,
    GUARDRAIL_EVALUATIONS,
    INCIDENT_ALERTS,
    INCIDENTS,
    SIGNAL_POINTS,
    SIGNALS_NOW,
)
from resources.warehouse import Warehouse
from resources.watched_runs import WatchedRun, record_run

HOUR, DAY, MINUTE = pd.Timedelta("1h"), pd.Timedelta("1D"), pd.Timedelta("1min")
PTE, OTHER_PTE = "H4_SL1.0_TP2.0", "H2_SL1.5_TP3.0"
REAL, SIMULATED = "BTCUSDC", "ETHUSDC"
MARKETS = {REAL: "binance", SIMULATED: "simulated"}
LEVELS = ("ok", "warning", "critical", "unknown")
REASON = {
    "state": "ORANGE",
    "text": "discovery: 60 % of runs succeed",
    "signal": "pipeline_success_rate",
    "subject": "",
}
SUBJECTS: Mapping[Scope, tuple[str, ...]] = {
    Scope.PLATFORM: ("",),
    Scope.JOB: ("discovery", "retrain"),
    Scope.CRYPTO: (REAL, SIMULATED),
}
# What a binary search on real candles never gives, and a test can find again.
SCORES = {
    **{"rows": 1400, "threshold": 0.3, "f1_buy": 0.52, "baseline_f1_buy": 0.4, "buy_rate": 0.25},
    **{"predicted_buy_rate": 0.3, "brier_before": 0.2, "brier_after": 0.18, "brier_base_rate": 0.19},
    **{"precision_buy": 0.44, "recall_buy": 0.63, "pr_auc": 0.31, "pr_auc_chance": 0.25},
    **{"sortino": 1.4, "sharpe": 1.2, "expectancy_net": 0.0012, "max_drawdown": 0.08, "n_trades": 120},
}


def seed(warehouse: Warehouse, now: pd.Timestamp) -> None:
    """Fill an empty, migrated schema; `now` is the moment of the newest rows."""
    warehouse.seed_universes()
    for day in range(5, -1, -1):
        set_state(warehouse, ("GREEN", "YELLOW", "ORANGE")[day % 3], now - day * DAY)
    _signals(warehouse, now)
    _alerts(warehouse, now)
    _runs(warehouse, now)
    _evaluations(warehouse)
    _models(warehouse, now)
    _results(warehouse)
    _drift(warehouse, now)
    _artifacts(warehouse, now)


def insert(warehouse: Warehouse, table: sa.Table, *rows: Mapping[str, Any]) -> None:
    """Insert rows as they stand."""
    with warehouse.begin() as connection:
        for row in rows:
            connection.execute(sa.insert(table), dict(row))


def set_state(warehouse: Warehouse, state: str, computed_at: pd.Timestamp, market: str = "binance") -> None:
    """One look at the global state."""
    moment = computed_at.to_pydatetime()
    row = {"computed_at": moment, "state": state, "raw_state": state, "since": moment, "reasons": [REASON]}
    insert(warehouse, GLOBAL_STATES, {**row, "market": market, "as_of": moment})


def set_signal(
    warehouse: Warehouse,
    signal: str,
    subject: str,
    value: float | None,
    level: str,
    observed_at: pd.Timestamp,
    inputs: Mapping[str, Any] | None = None,
) -> None:
    """A signal as it stands now, in place of what stood there."""
    moment = observed_at.to_pydatetime()
    told = {"signal": signal, "subject": subject, "value": value, "level": level, "reason": f"{signal} is {value}"}
    times = {"observed_at": moment, "level_since": moment, "point_at": moment}
    with warehouse.begin() as connection:
        connection.execute(
            sa.delete(SIGNALS_NOW).where(SIGNALS_NOW.c.signal == signal, SIGNALS_NOW.c.subject == subject)
        )
        connection.execute(sa.insert(SIGNALS_NOW), {**told, **times, "inputs": dict(inputs or {})})


def watched(run_id: str, **changes: Any) -> WatchedRun:
    """A run that succeeded within a minute, with some of it changed."""
    usual: dict[str, Any] = {
        "run_id": run_id,
        "session": "session-1",
        "crypto": REAL,
        "factor": None,
        "variant": None,
        "job": "discovery",
        "status": "SUCCESS",
        "code": "0.1.0+aaaa",
        "training_began_at": None,
    }
    return WatchedRun(**(usual | changes))


def finding(warehouse: Warehouse, run_id: str, guardrail: str, verdict: str, **changes: Any) -> None:
    """One evaluation of a guardrail."""
    usual = {
        "run_id": run_id,
        "session": "session-1",
        "crypto": REAL,
        "guardrail": guardrail,
        "verdict": verdict,
        "value": 31.0,
        "limit_value": 30.0,
        "explicit": False,
        "layer": "default",
        "override": verdict == "overridden",
        "override_reason": "a flash crash, approved by @ann" if verdict == "overridden" else None,
        "message": f"{guardrail}: 31 min, more than 30",
        "source": "watch",
        "seconds": 0.1,
    }
    insert(warehouse, GUARDRAIL_EVALUATIONS, usual | changes)


def _signals(warehouse: Warehouse, now: pd.Timestamp) -> None:
    for number, (name, signal) in enumerate(SIGNALS.items()):
        for place, subject in enumerate(SUBJECTS[signal.scope]):
            level = LEVELS[(number + place) % len(LEVELS)]
            value = None if level == "unknown" else 0.1 * number
            infra = {"oom_kills": 1, "cpu_used": 0.4, "volume_used": 0.6, "fullest": "data", "source": "machine"}
            set_signal(warehouse, name, subject, value, level, now, infra if name == "infra_health" else {"n": 1})
            points = (
                {
                    "signal": name,
                    "subject": subject,
                    "value": 0.1 * number,
                    "level": "ok",
                    "reason": "as it was",
                    "observed_at": (now - hours * HOUR).to_pydatetime(),
                }
                for hours in (1, 2, 30)
            )
            insert(warehouse, SIGNAL_POINTS, *points)


def _alerts(warehouse: Warehouse, now: pd.Timestamp) -> None:
    def alert(key: str, severity: str, **changes: Any) -> dict[str, Any]:
        moment = (now - HOUR).to_pydatetime()
        told = {"source": "signals", "kind": "signal", "owner": "ML owner", "what": "Sortino is low", "place": REAL}
        times = dict.fromkeys(("since", "opened_at", "seen_at", "told_at"), moment)
        steps = {"next_step": "cvntrade status", "link": "/runs", "seen_count": 3, "escalations": 0}
        return {"key": key, "severity": severity, **told, **times, **steps, **changes}

    moment = now.to_pydatetime()
    acknowledged = {"acknowledged_at": moment, "acknowledged_by": "ann", "acknowledgement": "looking"}
    insert(
        warehouse,
        ALERTS,
        alert("signal/sortino/BTCUSDC", "P2"),
        alert("state", "P1", **acknowledged),
        alert("run/discovery/ADAUSDC", "P1", resolved_at=moment, resolution="it succeeded"),
    )
    message = {"severity": "P2", "audience": "ML owner", "group_key": "g", "text": "Sortino is low", "event": "opened"}
    waits = {"created_at": (now - 5 * MINUTE).to_pydatetime(), "due_at": moment}
    insert(
        warehouse,
        ALERT_MESSAGES,
        {"alert_id": 1, "dedup_key": "a", "attempts": 2, "last_error": "429", **message, **waits},
        {"alert_id": 2, "dedup_key": "b", "sent_at": moment, "sent_by": "slack", **message, **waits},
        {"alert_id": 3, "dedup_key": "c", "dropped_at": moment, "dropped_why": "recovered", **message, **waits},
    )
    insert(
        warehouse,
        INCIDENTS,
        {
            **{
                "title": "OOM kills",
                "severity": "P1",
                "justification": "runs die",
                "symptom": "killed",
                "opened_by": "ann",
            },
            **{"began_at": (now - 3 * HOUR).to_pydatetime(), "detected_at": (now - 2 * HOUR).to_pydatetime()},
            "acknowledged_at": (now - HOUR).to_pydatetime(),
        },
    )
    insert(warehouse, INCIDENT_ALERTS, {"incident_id": 1, "alert_id": 2})


def _runs(warehouse: Warehouse, now: pd.Timestamp) -> None:
    factor = {"factor": "calibration", "variant": "isotonic", "job": "candles_to_report"}
    ended = {"started_at": now - 2 * HOUR, "ended_at": now - 2 * HOUR + 7 * MINUTE}
    record_run(
        warehouse,
        watched(
            "run-1",
            started_at=now - 50 * MINUTE,
            training_began_at=now - 49.5 * MINUTE,
            ended_at=now - 49 * MINUTE,
        ),
        watched("run-2", status="FAILURE", started_at=now - 60 * MINUTE, ended_at=now - 40 * MINUTE),
        watched("run-3", job="retrain", status="STARTED", started_at=now - 45 * MINUTE, ended_at=None),
        watched("run-4", job="retrain", status="CANCELED", started_at=now - 90 * MINUTE, ended_at=now - 20 * MINUTE),
        watched("run-5", **factor, **ended),
        watched("run-6", **{**factor, "variant": "platt"}, **ended, crypto=SIMULATED),
        watched("run-7", job="housekeeping", crypto=None, started_at=now - HOUR, ended_at=now - HOUR + MINUTE),
        at=now,
    )
    finding(warehouse, "run-2", "run_in_time", "warned", value=20.0, limit_value=10.0)
    finding(warehouse, "run-3", "run_in_time", "critical")
    finding(warehouse, "run-4", "run_progresses", "critical")
    finding(warehouse, "run-5", "rows_within_limit", "overridden", source="check")
    finding(warehouse, "run-6", "run_in_time", "allowed", explicit=True, layer="factor", crypto=SIMULATED)


def _evaluations(warehouse: Warehouse) -> None:
    until = pd.Timestamp("2025-09-01", tz="UTC")
    for crypto, market in MARKETS.items():
        for number, run in enumerate(("run-1", "run-2"), start=1):
            whose = EvaluationOf(
                run,
                f"session-{number}",
                crypto,
                f"e-{number}",
                f"w-{number}",
                f"r-{number}",
                False,
                until - 90 * DAY,
                until,
            )
            useless = by_delta(0.38, 0.4) if number == 1 else {}
            told = {"crypto": crypto, "market": market, "run_id": run, "session": f"session-{number}"}
            leading = record(**told, pte=PTE, **useless, gates=gates(*(["f1_delta"] if useless else [])))
            second = record(**told, pte=OTHER_PTE, leading=False, rank=2, gates=gates("dsr", "sortino"), sortino=-0.4)
            record_evaluations(warehouse, whose, [(leading, 0.1), (second, None)])


def _models(warehouse: Warehouse, now: pd.Timestamp) -> None:
    actor = Actor("ann", Role.MLOPS_MAINTAINER, "it is the best we have")
    for crypto, market in MARKETS.items():
        for number in (1, 2):
            fitted = (now - 20 * DAY + number * DAY).to_pydatetime()
            new = NewModel(
                crypto, market, PTE, f"rolling-{number}", "ab" * 32, f"evaluation-{number}", fitted, now.to_pydatetime()
            )
            record_evaluation_of(warehouse, new, recorded_at=fitted, f1_buy=0.5, baseline_f1_buy=0.4)
            offered = offer_candidate(warehouse, new, {}, "the pipeline", "run-1").model
            if number == 1 and market == "binance":
                transition(warehouse, offered, ModelState.CHAMPION, actor)


def _results(warehouse: Warehouse) -> None:
    for run, crypto, variant in (("run-5", REAL, "isotonic"), ("run-6", SIMULATED, "platt")):
        whose = ResultOf(run, crypto, "session-1", {"calibration": variant}, MARKETS[crypto], "v", False, None)
        record_result(warehouse, whose, SCORES)


def _drift(warehouse: Warehouse, now: pd.Timestamp) -> None:
    for place, (crypto, market) in enumerate(MARKETS.items()):
        measured = {"rows": 500, "features": 60, "drifted": 6 * place, "share": 0.1 * place, "labelled": 400}
        told = {
            "level": LEVELS[place],
            "reason": "as measured",
            "details": {},
            "worst_feature": "rsi_14",
            "worst_psi": 0.3,
        }
        scores = {"score_psi": 0.05, "buy_rate_reference": 0.25, "buy_rate": 0.3, "calibration_error": 0.04}
        whose = {"run_id": "run-1", "crypto": crypto, "market": market, "drift_version": "d", "model_version": "m"}
        insert(warehouse, DRIFT_REPORTS, {**whose, **measured, **told, **scores, "recorded_at": now.to_pydatetime()})


def _artifacts(warehouse: Warehouse, now: pd.Timestamp) -> None:
    for crypto, market in MARKETS.items():
        where = {"asset": "candles", "crypto": crypto, "market": market, "version": "v", "location": "candles/v"}
        size = {"manifest_sha256": "ab", "bytes": 1_000_000, "manifest": {}, "run_id": "run-7"}
        insert(warehouse, ARTIFACT_VERSIONS, {**where, **size, "published_at": (now - HOUR).to_pydatetime()})
