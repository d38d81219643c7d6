"""The record of guardrail evaluations: every one is a row, append-only, with nothing secret in it."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import sqlalchemy as sa

from cvntrade_assets.operations.guardrails import Evaluation
from cvntrade_assets.operations.sessions import SESSION_TAG
from resources.secrets import process_mask
from resources.tables import GUARDRAIL_EVALUATIONS, GUARDRAIL_PAYOFF, GUARDRAIL_SESSIONS
from resources.warehouse import Warehouse


@dataclass(frozen=True)
class Occasion:
    """When guardrails were evaluated, and for whom.

    Attributes:
        run_id: The run that was judged; None when none runs.
        crypto: The crypto that was judged; None when it is about none in particular.
        session: The run's session, see `session_of`; None without a run.
        variants: Factor name to variant name.
        source: Who judged: `check`, `command`, `settings`, `watch` or `rollout`.
    """

    run_id: str | None
    crypto: str | None
    session: str | None
    variants: Mapping[str, str]
    source: str


def session_of(run_id: str, tags: Mapping[str, str]) -> str:
    """The session that a run belongs to: its backfill, or else what it was started with, or else the run itself."""
    return tags.get("dagster/backfill") or tags.get(SESSION_TAG) or run_id


def joined_variants(variants: Mapping[str, str]) -> dict[str, str | None]:
    """Columns `factor` and `variant`: names joined in the order of the factors; NULL when nothing was varied."""
    factors = sorted(variants)
    return {
        "factor": ", ".join(factors) or None,
        "variant": ", ".join(variants[factor] for factor in factors) or None,
    }


def record_evaluations(
    warehouse: Warehouse,
    occasion: Occasion,
    evaluations: Sequence[Evaluation],
    seconds: float,
    *,
    at: pd.Timestamp | None = None,
) -> None:
    """Write evaluations down, all or none, in one insert; none at all writes nothing.

    Args:
        warehouse: Where.
        occasion: When and for whom they were evaluated.
        evaluations: What was found.
        seconds: What evaluating all of them took; each row carries an equal share, so that sums are right.
        at: The moment that counts as now, with its time zone; None for the server's clock.

    Raises:
        WarehouseError: PostgreSQL did not take them.
    """
    if not evaluations:
        return
    shared: dict[str, Any] = {
        "run_id": occasion.run_id,
        "session": occasion.session,
        "crypto": occasion.crypto,
        "source": occasion.source,
        "seconds": seconds / len(evaluations),
        **joined_variants(occasion.variants),
        **({} if at is None else {"recorded_at": at.to_pydatetime()}),
    }
    mask = process_mask()
    rows = [mask.value({**shared, **_columns(evaluation)}) for evaluation in evaluations]
    with warehouse.begin() as connection:
        # Inline: asks for no id back, as whoever may insert need not be allowed to read.
        connection.execute(sa.insert(GUARDRAIL_EVALUATIONS).inline(), rows)


def is_judged(warehouse: Warehouse, run_id: str, crypto: str) -> bool:
    """Whether a run's training set is on record as judged in this very run."""
    table = GUARDRAIL_EVALUATIONS
    query = sa.select(table.c.id).where(
        table.c.run_id == run_id, table.c.crypto == crypto, table.c.guardrail == "rows_within_limit"
    )
    with warehouse.begin() as connection:
        return connection.execute(query.limit(1)).first() is not None


def _columns(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "guardrail": evaluation.guardrail,
        "verdict": str(evaluation.verdict),
        "value": evaluation.value,
        "limit_value": evaluation.limit,
        "explicit": evaluation.explicit,
        "layer": evaluation.layer,
        "override": evaluation.override_reason is not None,
        "override_reason": evaluation.override_reason,
        "message": evaluation.message,
    }


def overrides(warehouse: Warehouse, cryptos: Collection[str] | None, limit: int) -> list[dict[str, Any]]:
    """Evaluations that an override turned from a block into a warning, newest first.

    Args:
        warehouse: Where.
        cryptos: Of these cryptos only; None for all, and for those that are about no crypto.
        limit: At most so many.
    """
    table = GUARDRAIL_EVALUATIONS
    query = sa.select(table).where(table.c.override).order_by(table.c.recorded_at.desc(), table.c.id.desc())
    if cryptos is not None:
        query = query.where(table.c.crypto.in_(list(cryptos)))
    return _rows(warehouse, query.limit(limit))


def payoff(warehouse: Warehouse) -> dict[str, Any]:
    """The measures of the last ten sessions, named as in the view `guardrail_payoff`; None where nothing is known."""
    [row] = _rows(warehouse, sa.select(GUARDRAIL_PAYOFF))
    return row


def last_sessions(warehouse: Warehouse, limit: int) -> list[dict[str, Any]]:
    """The newest sessions that are measured, newest first, named as in the view `guardrail_sessions`."""
    view = GUARDRAIL_SESSIONS
    query = sa.select(view).where(view.c.measured)
    newest_first = (view.c.started_at.desc().nulls_last(), view.c.session.desc())
    return _rows(warehouse, query.order_by(*newest_first).limit(limit))


def _rows(warehouse: Warehouse, query: "sa.Select[Any]") -> list[dict[str, Any]]:
    with warehouse.begin() as connection:
        return [dict(row) for row in connection.execute(query).mappings()]
