"""The record of results: what each run came to on the test slice of its crypto, one row a run and crypto."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert

from resources.guardrail_log import joined_variants
from resources.secrets import process_mask
from resources.tables import RESULTS
from resources.warehouse import Warehouse

_ALWAYS = (
    "rows",
    "threshold",
    "f1_buy",
    "baseline_f1_buy",
    "buy_rate",
    "predicted_buy_rate",
    "brier_before",
    "brier_after",
    "brier_base_rate",
)
# None where the test slice, or its backtest, leaves them undefined.
_SOMETIMES = (
    *("precision_buy", "recall_buy", "pr_auc", "pr_auc_chance"),
    *("sortino", "sharpe", "expectancy_net", "max_drawdown", "n_trades"),
    *(f"{name}_{end}" for name in ("f1_buy", "pr_auc", "brier_after", "sortino") for end in ("low", "high")),
)


@dataclass(frozen=True)
class ResultOf:
    """Whose result it is.

    Attributes:
        run_id: The run that reported.
        crypto: Its crypto.
        session: See `resources.guardrail_log.session_of`.
        variants: Factor name to variant name.
        market: `binance` or `simulated`.
        report_version: Version of the test report.
        reused: Whether an earlier run had computed it.
        override_reason: Why guardrails were overridden in this run; None when they were not.
    """

    run_id: str
    crypto: str
    session: str
    variants: Mapping[str, str]
    market: str
    report_version: str
    reused: bool
    override_reason: str | None


def record_result(warehouse: Warehouse, whose: ResultOf, scores: Mapping[str, Any]) -> None:
    """Write down one result; a step that is retried in the same run writes the same row again.

    Args:
        warehouse: Where.
        whose: Whose result it is.
        scores: The test report's scores by name; those that are undefined may be absent.

    Raises:
        KeyError: a score that is always defined is absent.
        WarehouseError: PostgreSQL did not take it.
    """
    row = process_mask().value(
        {
            "run_id": whose.run_id,
            "crypto": whose.crypto,
            "session": whose.session,
            **joined_variants(whose.variants),
            "market": whose.market,
            "report_version": whose.report_version,
            "reused": whose.reused,
            "override_reason": whose.override_reason,
            **{name: scores[name] for name in _ALWAYS},
            **{name: scores.get(name) for name in _SOMETIMES},
        }
    )
    statement = insert(RESULTS).values(row)
    changed = {**row, "recorded_at": sa.func.now()}
    with warehouse.begin() as connection:
        connection.execute(statement.on_conflict_do_update(index_elements=["run_id", "crypto"], set_=changed))
