"""The record of evaluations: what every tested candidate of a crypto came to, one row a run, crypto and PTE."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from cvntrade_assets.operations.correlation_data import CorrelationData
from cvntrade_assets.operations.diagnosis import diagnose
from resources.secrets import process_mask
from resources.tables import EVALUATION_COUNTS, EVALUATION_HEADLINES, EVALUATIONS, LATEST_EVALUATIONS
from resources.warehouse import Warehouse

_KEY = ("run_id", "crypto", "pte")
# Evaluated again, or reported by another run, the same candidate of the same test is the same trial. A test that was
# never evaluated was seen no less: `cvntrade walkforward` shows its folds, and a run may fail after it.
_EARLIER_TRIALS = sa.text("""
    with tested as (
        select walk_forward_version as version, pte, daily_sharpe, recorded_at, window_from, window_to
        from evaluations
        where crypto = :crypto and market = :market
        union all
        select version, pte, null, published_at,
            cast(manifest -> 'summary' ->> 'from' as timestamptz), cast(manifest -> 'summary' ->> 'to' as timestamptz)
        from artifact_versions, jsonb_array_elements_text(manifest -> 'summary' -> 'candidates') as pte
        where asset = 'walk_forward' and crypto = :crypto and market = :market
    ), histories as (
        -- Another seed or signal of the simulated market is another history, on which nothing was tried before.
        select version, manifest #>> '{provenance,lineage,CVN_SIMULATED_SEED}' as seed,
            manifest #>> '{provenance,lineage,CVN_SIMULATED_SIGNAL}' as signal
        from artifact_versions
        where asset = 'walk_forward' and crypto = :crypto
    )
    select distinct on (version, pte) daily_sharpe
    from tested
    where version <> :walk_forward_version and window_from < :window_to and window_to > :window_from
        and not exists (
            select from histories as own, histories as other
            where own.version = :walk_forward_version and other.version = tested.version
                and (own.seed, own.signal) is distinct from (other.seed, other.signal)
        )
    order by version, pte, daily_sharpe is null, recorded_at desc
""")


@dataclass(frozen=True)
class EvaluationOf:
    """Whose evaluation it is.

    Attributes:
        run_id: The run that reported.
        session: The session that the run belongs to.
        crypto: Its crypto.
        evaluation_version: Version of the evaluation.
        walk_forward_version: Version of the walk-forward test behind it.
        rolling_version: Version of the rolling backtest behind it.
        reused: Whether an earlier run had computed it.
        window_from: When the first test period began.
        window_to: When the last one ended.
    """

    run_id: str
    session: str
    crypto: str
    evaluation_version: str
    walk_forward_version: str
    rolling_version: str
    reused: bool
    window_from: pd.Timestamp
    window_to: pd.Timestamp


@dataclass(frozen=True)
class EarlierTrials:
    """Candidates that were tested before on overlapping windows.

    Attributes:
        count: How many.
        sharpes: Sharpe ratios per day of their net daily returns; of those that were evaluated and have one.
    """

    count: int
    sharpes: tuple[float, ...]


class EvaluationRecordError(ValueError):
    """Records that do not belong together; nothing was written."""


def record_evaluations(
    warehouse: Warehouse, whose: EvaluationOf, tested: Sequence[tuple[CorrelationData[str], float | None]]
) -> None:
    """Write down every tested candidate, all or none; a step that is retried in the same run writes the same rows.

    Args:
        warehouse: Where.
        whose: Whose evaluation it is.
        tested: The record of each candidate, with the Sharpe ratio per day (not annualised) of its net daily returns
            over all test periods; None where that is undefined. Exactly one leads.

    Raises:
        EvaluationRecordError: a record is of another crypto, or not exactly one leads.
        WarehouseError: PostgreSQL did not take them.
    """
    _require_one_leader(whose, [record for record, _ in tested])
    rows = [process_mask().value(_row(whose, record, sharpe)) for record, sharpe in tested]
    statement = insert(EVALUATIONS)
    changed = {name: statement.excluded[name] for name in rows[0] if name not in _KEY}
    upsert = statement.on_conflict_do_update(index_elements=_KEY, set_=changed | {"recorded_at": sa.func.now()})
    gone = sa.delete(EVALUATIONS).where(EVALUATIONS.c.run_id == whose.run_id, EVALUATIONS.c.crypto == whose.crypto)
    with warehouse.begin() as connection:
        # What an attempt before this one recorded and this one does not have; and another one may lead now.
        connection.execute(gone.where(EVALUATIONS.c.pte.not_in([row["pte"] for row in rows])))
        for row in sorted(rows, key=lambda row: bool(row["leads"])):
            connection.execute(upsert, row)


def _require_one_leader(whose: EvaluationOf, records: Sequence[CorrelationData[str]]) -> None:
    strangers = sorted({record.crypto for record in records} - {whose.crypto})
    if strangers:
        raise EvaluationRecordError(
            f"an evaluation of {whose.crypto} holds records of {', '.join(strangers)}; expected its own only. "
            "Nothing was written."
        )
    leaders = [record.pte for record in records if record.leading]
    if len(leaders) != 1:
        raise EvaluationRecordError(
            f"of the {len(records)} candidates of {whose.crypto} {len(leaders)} lead ({', '.join(leaders) or 'none'}); "
            "expected exactly one. Nothing was written."
        )


def _row(whose: EvaluationOf, record: "CorrelationData[str]", daily_sharpe: float | None) -> dict[str, Any]:
    diagnosis = diagnose(record)
    return {
        "run_id": whose.run_id,
        "crypto": whose.crypto,
        "pte": record.pte,
        "session": whose.session,
        "market": record.market,
        "evaluation_version": whose.evaluation_version,
        "walk_forward_version": whose.walk_forward_version,
        "rolling_version": whose.rolling_version,
        "reused": whose.reused,
        "window_from": whose.window_from.to_pydatetime(),
        "window_to": whose.window_to.to_pydatetime(),
        "daily_sharpe": daily_sharpe,
        "rank": record.rank,
        "leads": record.leading,
        **{name: getattr(record, name) for name in (*EVALUATION_HEADLINES, *EVALUATION_COUNTS)},
        "gates_passed": record.passes,
        "primary_code": str(diagnosis.primary.code),
        "codes": [str(code) for code in diagnosis.codes],
        "severity": str(diagnosis.severity),
        "record": record.to_record(),
    }


def earlier_trials(
    warehouse: Warehouse,
    crypto: str,
    market: str,
    window_from: pd.Timestamp,
    window_to: pd.Timestamp,
    walk_forward_version: str,
) -> EarlierTrials:
    """Every candidate that was ever tested on a window that overlaps this one, in another walk-forward test than this.

    Tested is what a published walk-forward test holds, whether or not it went on to an evaluation. On the simulated
    market only tests on the same simulated history count.

    Args:
        warehouse: Where.
        crypto: Of this crypto.
        market: On this market.
        window_from: Begin of the window.
        window_to: Its end, not included.
        walk_forward_version: The walk-forward test whose own candidates are not earlier ones.
    """
    asked = {
        "crypto": crypto,
        "market": market,
        "window_from": window_from.to_pydatetime(),
        "window_to": window_to.to_pydatetime(),
        "walk_forward_version": walk_forward_version,
    }
    with warehouse.begin() as connection:
        sharpes = connection.scalars(_EARLIER_TRIALS, asked).all()
    return EarlierTrials(len(sharpes), tuple(sharpe for sharpe in sharpes if sharpe is not None))


def latest_evaluations(warehouse: Warehouse, cryptos: Collection[str] | None = None) -> list[dict[str, Any]]:
    """The newest evaluation's leading candidate of every crypto and market, by crypto, named as the view's columns.

    Args:
        warehouse: Where.
        cryptos: Of these only; None for all.
    """
    view = LATEST_EVALUATIONS
    query = sa.select(view).order_by(view.c.crypto, view.c.market)
    return _rows(warehouse, query if cryptos is None else query.where(view.c.crypto.in_(list(cryptos))))


def evaluations_of(warehouse: Warehouse, run_ids: Collection[str]) -> list[dict[str, Any]]:
    """The leading candidates that these runs reported, by crypto, named as the table's columns."""
    table = EVALUATIONS
    query = sa.select(table).where(table.c.leads, table.c.run_id.in_(list(run_ids)))
    return _rows(warehouse, query.order_by(table.c.crypto, table.c.recorded_at))


def _rows(warehouse: Warehouse, query: "sa.Select[Any]") -> list[dict[str, Any]]:
    with warehouse.begin() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]
