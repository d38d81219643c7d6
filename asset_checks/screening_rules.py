"""What a screening must keep: the whole grid, best first, its candidates, and nothing of the test periods."""

from __future__ import annotations

from dataclasses import astuple
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from asset_checks.breach import ALL_ROWS, SHOWN_OFFENDERS, Breach, Offender, broken_rows, rows_only_in
from asset_checks.contract import Rule, Subject
from cvntrade_assets.market.candles import timeframe_delta
from cvntrade_assets.trading.pte import PTE

if TYPE_CHECKING:
    from cvntrade_assets.learning.splits import Boundaries

_GRID = ("CVN_SCREENING_HORIZONS", "CVN_SCREENING_SL_RANGE", "CVN_SCREENING_TP_RANGE")
_BEST_FIRST = ["sharpe", "f1_buy_delta"]


def whole_grid_is_there(subject: Subject) -> Breach | str | None:
    """Every point of the grid was screened, or left out for one of the two reasons there are."""
    grid = _grid(subject)
    usable = [pte for pte in grid if _can_be_screened(pte, subject)]
    points, screening = subject.table("points.parquet"), subject.value.screening
    expected = pd.Index([str(pte) for pte in usable], name="pte")
    found = pd.Index(points["pte"])
    demand = "every point of the grid but those left out"
    missing, foreign = rows_only_in(expected, found, "missing", demand), rows_only_in(found, expected, "extra", demand)
    if missing or foreign:
        return Breach(f"{len(found)} points were screened, the grid has {len(expected)}", (*missing, *foreign))
    left_out = tuple(pte for pte in grid if pte not in set(usable))
    if screening.left_out != left_out:
        return f"{len(screening.left_out)} points are said to be left out, expected {len(left_out)}"
    numbers = points.set_index("pte")[["horizon_hours", "stop_loss", "take_profit"]]
    named = np.array([astuple(PTE.parse(text)) for text in points["pte"]])
    other = np.asarray((numbers != named).any(axis=1))
    return broken_rows(numbers, other, "has other numbers than its name says", "those of its name")


def points_are_best_first(subject: Subject) -> Breach | str | None:
    """Points stand by net Sharpe ratio, then by F1 above always-BUY, then as in the grid; undefined ones last."""
    points = subject.table("points.parquet")
    order = {str(pte): number for number, pte in enumerate(_grid(subject))}
    in_grid_order = points.assign(place=points["pte"].map(order)).sort_values("place", kind="stable")
    ranked = in_grid_order.sort_values(_BEST_FIRST, ascending=False, na_position="last", kind="stable")
    misplaced = (ranked["pte"].to_numpy() != points["pte"].to_numpy()) | points["pte"].map(order).isna().to_numpy()
    named = points.set_index("pte")[_BEST_FIRST]
    return broken_rows(named, misplaced, "stand elsewhere than their net Sharpe ratio puts them", "best first")


def candidates_are_the_best(subject: Subject) -> Breach | str | None:
    """The eligible points, best first, as many as asked for; the best of all alone where none is eligible."""
    points, limit = subject.table("points.parquet"), int(subject.manifest.provenance.settings["CVN_CANDIDATES"])
    eligible = list(points.loc[points["eligible"], "pte"])[:limit]
    expected = eligible or list(points["pte"][:1])
    chosen = [str(pte) for pte in subject.value.screening.candidates]
    if chosen == expected:
        return None
    return Breach(
        f"the candidates are {', '.join(chosen) or 'none'}, expected {', '.join(expected)}",
        tuple(Offender("candidates", ALL_ROWS, pte, "the best eligible points") for pte in chosen[:SHOWN_OFFENDERS]),
    )


def judged_before_the_tests(subject: Subject) -> Breach | str | None:
    """Every day that points were judged on lies in the selection slice, which ends where the first test begins."""
    plan = _plan(subject)
    days = subject.table("returns.parquet").index.to_series()
    outside = np.asarray((days < plan.starts[2]) | (days + pd.Timedelta(days=1) > plan.end))
    demand = f"within {plan.starts[2]} to {plan.end}"
    return broken_rows(days.rename("day"), outside, "lie outside the selection slice", demand)


SCREENING_RULES = (
    Rule("whole_grid", "Every point of the grid was screened, or left out for a reason", whole_grid_is_there),
    Rule("best_first", "Points are ranked by net Sharpe ratio", points_are_best_first),
    Rule("candidates", "The best eligible points, or the best of all where none is", candidates_are_the_best),
    Rule("before_tests", "Points were judged before the first test period", judged_before_the_tests),
)


def _grid(subject: Subject) -> list[PTE]:
    return list(subject.settings(_GRID).grid)


def _can_be_screened(pte: PTE, subject: Subject) -> bool:
    interval = timeframe_delta(subject.manifest.provenance.settings["CVN_TIMEFRAME"])
    return pte.take_profit >= pte.stop_loss and pte.horizon % interval == pd.Timedelta(0)


def _plan(subject: Subject) -> Boundaries:
    from cvntrade_assets.learning.from_settings import PLAN_SETTINGS, fold_plans
    from cvntrade_assets.learning.timeline import plan_screening

    settings = subject.settings(PLAN_SETTINGS)
    return plan_screening(fold_plans(settings, pd.DatetimeIndex(subject.upstream("features").index))[0])
