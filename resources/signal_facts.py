"""Gathers what signals are computed from: of the machine or the cluster, of Dagster's runs, and of every crypto.

Each group of facts is read by one query for all cryptos. A group that cannot be read is named among the troubles, and
the rest is judged without it.
"""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, TypeVar

import pandas as pd
import sqlalchemy as sa

from cvntrade_assets.market.candles import timeframe_delta
from cvntrade_assets.operations.correlation_data import RecordError, from_record
from cvntrade_assets.operations.diagnosis import diagnose
from cvntrade_assets.operations.facts import CryptoFacts, DriftFacts, EvaluationFacts, Facts, InfraFacts, SessionFacts
from cvntrade_assets.operations.signals import Level
from cvntrade_assets.settings import Settings
from resources.dagster_facts import is_at_work, job_facts, sessions_going_on, silent_daemons
from resources.job_runs import JobRuns
from resources.machine import MachineWatch, infra_of_machine
from resources.moments import as_utc, as_utc_or_none
from resources.pod_faults import count_faults
from resources.prometheus import infra_of_cluster
from resources.secrets import process_mask
from resources.warehouse import Warehouse, WarehouseError

T = TypeVar("T")

PROMETHEUS_URL = "CVN_PROMETHEUS_URL"

# A row of sessions without a candidate is not followed further back than this.
_SESSIONS = 500
# Evaluations of a crypto that are looked through, at least: one that is reported again is the same evaluation.
_EVALUATIONS = 50

# Of a crypto that was evaluated twice in a session, the later evaluation counts.
_COMPLETE_SESSIONS = sa.text("""
    select session, max(recorded_at) as ended_at, sum(screened) as screened, sum(passed) as passed
    from (
        select distinct on (session, crypto) session, recorded_at, screened, passed
        from evaluations
        where leads and market = :market and session <> all(:going_on)
        order by session, crypto, recorded_at desc
    ) as newest
    group by session
    having count(*) = count(screened) and count(*) = count(passed)
    order by ended_at desc limit :most
""")
_LAST_USEFUL = sa.text("select max(recorded_at) from evaluations where leads and gates_passed and market = :market")
_CHALLENGERS = sa.text("select count(*) from model_versions where state = 'challenger' and market = :market")
# What closed after the moment that counts as now is not seen, as in a run.
_CANDLES = sa.text("""
    select distinct on (crypto) crypto, last_open, timeframe
    from (
        select crypto, cast(manifest #>> '{summary,to}' as timestamptz) as last_open,
            manifest #>> '{summary,timeframe}' as timeframe
        from artifact_versions
        where asset = 'candles' and market = :market and crypto = any(:cryptos)
    ) as stored
    where last_open < :as_of
    order by crypto, last_open desc
""")
_MODELS = sa.text("""
    select distinct on (crypto) crypto, number, state, data_until
    from model_versions
    where state in ('champion', 'challenger') and market = :market and crypto = any(:cryptos)
    order by crypto, state = 'champion' desc, number desc
""")
_NEWEST_EVALUATIONS = sa.text("""
    select newest.*, recent.sortinos
    from unnest(cast(:cryptos as text[])) as asked(crypto)
    cross join lateral (
        select array_agg(sortino order by recorded_at desc, run_id) as sortinos,
            (array_agg(run_id order by recorded_at desc, run_id))[1] as run_id
        from (
            select distinct on (evaluation_version) run_id, recorded_at, sortino
            from (
                select run_id, evaluation_version, recorded_at, sortino
                from evaluations
                where crypto = asked.crypto and market = :market and leads
                order by recorded_at desc, run_id limit :most
            ) as reported
            order by evaluation_version, recorded_at desc, run_id
        ) as evaluated
    ) as recent
    join lateral (
        select crypto, recorded_at, primary_code, f1_buy, baseline_f1_buy, screening_f1_buy, last_fold_f1_buy,
            std_f1_buy, sortino, sl_pct, timeout_pct, n_trades, record
        from evaluations
        where run_id = recent.run_id and crypto = asked.crypto and leads
    ) as newest on true
""")
_DRIFT = sa.text("""
    select newest.*
    from unnest(cast(:cryptos as text[])) as asked(crypto)
    cross join lateral (
        select crypto, recorded_at, level, share, reason
        from drift_reports
        where crypto = asked.crypto and market = :market
        order by recorded_at desc, run_id limit 1
    ) as newest
""")


def gather(
    warehouse: Warehouse,
    settings: Settings,
    now: pd.Timestamp,
    *,
    watch: MachineWatch | None = None,
    daemons: Collection[str] | None = None,
) -> Facts:
    """Everything that one look takes in.

    Args:
        warehouse: The operations schema; Dagster's database stands on the same server.
        settings: In force: the operators'.
        now: The wall clock, UTC.
        watch: The machine's counters of this look and of those before; None to look for the first time.
        daemons: Dagster's daemons that must run; None for those that ever did.

    Raises:
        WarehouseError: the universe cannot be read: nothing is known then, not even of what something is unknown.
    """
    groups = _groups(warehouse)
    asked = {"market": settings.text("CVN_MARKET"), "cryptos": list(groups), "as_of": settings.as_of.to_pydatetime()}
    trouble: dict[str, str] = {}

    def of(group: str, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one group must not leave the others unjudged
            trouble[group] = process_mask().text(f"could not be read ({type(error).__name__}: {_first_line(error)})")
            return None

    with closing(JobRuns(warehouse)) as runs:
        infra = of("infra", lambda: _infra(warehouse, runs, settings, now, watch, daemons))
        jobs = of("jobs", lambda: job_facts(runs, settings, now)) or ()
        sessions = of("sessions", lambda: _sessions(warehouse, asked, sessions_going_on(runs))) or ()
    useful = of("useful", lambda: as_utc_or_none(_one(warehouse, _LAST_USEFUL, asked)))
    challengers = of("challengers", lambda: int(_one(warehouse, _CHALLENGERS, asked)))
    candles = of("candles", lambda: _candles(warehouse, asked)) or {}
    models = of("models", lambda: _by_crypto(warehouse, _MODELS, asked)) or {}
    evaluations = of("evaluations", lambda: _evaluations(warehouse, asked, settings)) or {}
    drift = of("drift", lambda: _drift(warehouse, asked)) or {}
    cryptos = {
        crypto: _of_model(
            CryptoFacts(
                crypto,
                members,
                candles_until=candles.get(crypto),
                evaluation=evaluations.get(crypto),
                drift=drift.get(crypto),
            ),
            models.get(crypto),
        )
        for crypto, members in groups.items()
    }
    return Facts(now, settings.as_of, infra, jobs, sessions, useful, challengers, cryptos, trouble)


def _first_line(error: Exception) -> str:
    reason = getattr(error, "orig", None) or error
    return next(iter(str(reason).strip().splitlines()), "no reason was given")


def _groups(warehouse: Warehouse) -> dict[str, tuple[str, ...]]:
    """Every crypto of the universe, in alphabetical order, with its groups."""
    found: dict[str, tuple[str, ...]] = {}
    for group, cryptos in warehouse.universes().items():
        for crypto in cryptos:
            found[crypto] = (*found.get(crypto, ()), group)
    return dict(sorted(found.items()))


def _infra(
    warehouse: Warehouse,
    runs: JobRuns,
    settings: Settings,
    now: pd.Timestamp,
    watch: MachineWatch | None,
    daemons: Collection[str] | None,
) -> InfraFacts:
    """What Prometheus says where one is configured, else what this machine says; and Dagster's daemons."""
    url, machine = os.environ.get(PROMETHEUS_URL), watch or MachineWatch.look(now)
    others = bool(url)
    infra = _with_pods(infra_of_cluster(url) if url else infra_of_machine(machine, warehouse), warehouse, now)
    try:
        silent = silent_daemons(runs, settings, now, daemons)
        if not others:
            infra = replace(infra, is_own_work=machine.is_first_look or is_at_work(runs, now))
    except WarehouseError as error:
        return replace(infra, down=infra.down or None, trouble=(*infra.trouble, f"of Dagster's daemons: {error}"))
    if others and infra.down is None and not silent:
        # Nothing that is known is down, and of the rest nothing is known.
        return infra
    return replace(infra, down=(*silent, *(infra.down or ())))


def _with_pods(infra: InfraFacts, warehouse: Warehouse, now: pd.Timestamp) -> InfraFacts:
    """With the pods of runs that are on record; whoever counts kills of processes may have counted theirs too."""
    killed, lost = count_faults(warehouse, now)
    kills = infra.oom_kills if not killed else max(killed, infra.oom_kills or 0)
    return replace(infra, oom_kills=kills, pods_lost=lost)


def _one(warehouse: Warehouse, query: sa.TextClause, asked: Mapping[str, Any]) -> Any:
    with warehouse.begin() as connection:
        return connection.scalar(query, asked)


def _rows(warehouse: Warehouse, query: sa.TextClause, asked: Mapping[str, Any]) -> Sequence["sa.Row[Any]"]:
    with warehouse.begin() as connection:
        return connection.execute(query, asked).all()


def _by_crypto(warehouse: Warehouse, query: sa.TextClause, asked: Mapping[str, Any]) -> dict[str, "sa.Row[Any]"]:
    return {row.crypto: row for row in _rows(warehouse, query, asked)}


def _sessions(warehouse: Warehouse, asked: Mapping[str, Any], going_on: Collection[str]) -> tuple[SessionFacts, ...]:
    """The newest complete sessions; one that still goes on is not complete."""
    rows = _rows(warehouse, _COMPLETE_SESSIONS, {**asked, "going_on": list(going_on), "most": _SESSIONS})
    return tuple(SessionFacts(row.session, as_utc(row.ended_at), int(row.screened), int(row.passed)) for row in rows)


def _candles(warehouse: Warehouse, asked: Mapping[str, Any]) -> dict[str, pd.Timestamp]:
    """When the last candle closed, by crypto; what is in store is dated by when its candles open."""
    return {
        crypto: as_utc(row.last_open) + timeframe_delta(row.timeframe)
        for crypto, row in _by_crypto(warehouse, _CANDLES, asked).items()
    }


def _evaluations(warehouse: Warehouse, asked: Mapping[str, Any], settings: Settings) -> dict[str, EvaluationFacts]:
    most = max(_EVALUATIONS, 2 * settings.whole("CVN_STATE_SORTINO_RUNS"))
    rows = _by_crypto(warehouse, _NEWEST_EVALUATIONS, {**asked, "most": most})
    return {
        crypto: EvaluationFacts(
            recorded_at=as_utc(row.recorded_at),
            primary_code=row.primary_code,
            f1_buy=row.f1_buy,
            baseline_f1_buy=row.baseline_f1_buy,
            screening_f1_buy=row.screening_f1_buy,
            last_fold_f1_buy=row.last_fold_f1_buy,
            std_f1_buy=row.std_f1_buy,
            sortino=row.sortino,
            sl_pct=row.sl_pct,
            timeout_pct=row.timeout_pct,
            n_trades=row.n_trades,
            recent_sortinos=tuple(row.sortinos),
            next_commands=_next_commands(row.record, crypto),
        )
        for crypto, row in rows.items()
    }


def _next_commands(record: Mapping[str, Any], crypto: str) -> dict[str, str]:
    """What the playbook says to do about each finding; nothing of a record that other code wrote."""
    try:
        return {str(each.code): each.next_command for each in diagnose(from_record(record, crypto)).findings}
    except RecordError:
        return {}


def _drift(warehouse: Warehouse, asked: Mapping[str, Any]) -> dict[str, DriftFacts]:
    return {
        crypto: DriftFacts(as_utc(row.recorded_at), Level(row.level), row.share, row.reason)
        for crypto, row in _by_crypto(warehouse, _DRIFT, asked).items()
    }


def _of_model(facts: CryptoFacts, row: Any) -> CryptoFacts:
    if row is None:
        return facts
    name = f"{row.state} {facts.crypto} model {row.number}"
    return replace(facts, model_until=as_utc(row.data_until), useful_model=name)
