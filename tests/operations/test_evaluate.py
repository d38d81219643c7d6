"""From what was tested to records: screening decides who leads, trials count, and nothing is invented."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from evaluated_market import FINE_INTERVAL, PTE_TESTED, outcome, walked

from cvntrade_assets.learning.screening import Screening
from cvntrade_assets.learning.walk_forward import Tested
from cvntrade_assets.operations.diagnosis import diagnose
from cvntrade_assets.operations.evaluate import Earlier, EvaluationError, Occasion, evaluate
from cvntrade_assets.operations.taxonomy import Code
from cvntrade_assets.trading.gates import GateLimits
from cvntrade_assets.trading.overfitting import overfitting_probability
from cvntrade_assets.trading.pte import PTE
from cvntrade_assets.trading.selection_bias import deflated_sharpe, sharpe_ratio

OTHER, THIRD = PTE.parse("H2_SL1.0_TP1.5"), PTE.parse("H6_SL1.5_TP3.0")
# What the small market's candidate passes, and what nobody does.
OPEN = GateLimits(f1_delta=-1, std_f1=1, sortino=-1e6, n_trades=0, drawdown=1, screening_gap=1, dsr=0)
SHUT = replace(OPEN, n_trades=10**6)
NEVER = Earlier()
OCCASION = Occasion(
    "BTCUSDC", "simulated", "run-1", "session-1", {}, {}, {"walk_forward": "v1"}, FINE_INTERVAL, 42, complete=True
)


def screening(*order: PTE, eligible: int = 1) -> Screening:
    """A screening that ranked these points, with returns that differ."""
    rng = np.random.default_rng(3)
    names = [str(pte) for pte in order]
    points = pd.DataFrame(
        {"pte": names, "rank": range(1, len(names) + 1), "eligible": [place < eligible for place in range(len(names))]}
    )
    days = pd.date_range("2024-12-01", periods=40, freq="D", tz="UTC", name="day")
    returns = pd.DataFrame(rng.normal(0.001, 0.01, (40, len(names))), days, names)
    return Screening(points, returns, tuple(order), (), 5)


def judged(earlier: Earlier = NEVER):
    """The one candidate of the small market, with every gate open."""
    return evaluate(OCCASION, screening(PTE_TESTED), [outcome()], [walked()], earlier, OPEN)


def few_trades(made: Tested, trades: int) -> Tested:
    return replace(made, performance=replace(made.performance, n_trades=trades))


def test_a_record_says_what_was_found():
    (one,) = judged()
    record, last, performance = one.record, outcome().last.report, outcome().performance
    for name in ("f1_buy", "baseline_f1_buy", "precision_buy", "recall_buy", "buy_rate"):
        assert getattr(record, name) == getattr(last, name), name
    for name in ("sortino", "sharpe", "n_trades", "tp_pct", "sl_pct", "timeout_pct", "turnover", "exposure"):
        assert getattr(record, name) == getattr(performance, name), name
    assert record.rolling_sortino == walked().performance.sortino
    assert record.screening_f1_buy == outcome().screening_f1_buy
    assert (record.last_fold_f1_buy, record.std_f1_buy) == (last.f1_buy, outcome().std_f1_buy)
    assert [fold.f1_buy for fold in record.folds] == [fold.report.f1_buy for fold in outcome().folds]
    assert [fold.baseline_f1_buy for fold in record.folds] == [fold.report.baseline_f1_buy for fold in outcome().folds]
    assert record.always_buy.total_return == outcome().always_buy.total_return
    assert record.buy_and_hold.total_return == outcome().buy_and_hold.total_return
    assert (record.data_from, record.data_until) == (outcome().folds[0].plan.starts[0], outcome().last.plan.end)
    assert (record.crypto, record.market, record.run_id, record.session) == (
        "BTCUSDC", "simulated", "run-1", "session-1",
    )  # fmt: skip
    assert record.leading and record.passes


def test_every_headline_carries_its_interval():
    (one,) = judged()
    intervals = one.record.intervals
    assert {"f1_buy", "precision_buy", "recall_buy", "sortino", "rolling_sortino", "expectancy_net"} <= set(intervals)
    report = outcome().last.report
    assert intervals["f1_buy"] == (report.f1_buy_low, report.f1_buy_high)
    low, high = intervals["sortino"]
    assert low is not None and high is not None and low < one.record.sortino < high


def test_of_several_that_passed_screening_decides_who_leads():
    lucky = replace(outcome(), pte=OTHER, performance=replace(outcome().performance, sortino=99.0))
    made = (lucky, replace(outcome(), pte=PTE_TESTED))
    after = tuple(replace(walked(), pte=each.pte) for each in made)
    for limits in (OPEN, SHUT):
        first, second = evaluate(OCCASION, screening(PTE_TESTED, OTHER), made, after, NEVER, limits)
        assert (first.record.pte, first.record.rank, first.record.leading) == (str(PTE_TESTED), 1, True)
        assert (second.record.pte, second.record.rank, second.record.leading) == (str(OTHER), 2, False)


def test_the_best_ranked_that_passed_leads():
    limits = replace(OPEN, n_trades=20)
    names = (PTE_TESTED, OTHER, THIRD)
    made = [few_trades(replace(outcome(), pte=pte), trades) for pte, trades in zip(names, (5, 50, 70), strict=True)]
    after = [replace(walked(), pte=pte) for pte in names]
    found = evaluate(OCCASION, screening(*names), made, after, NEVER, limits)
    assert [each.record.leading for each in found] == [False, True, False]
    assert [each.record.passes for each in found] == [False, True, True]
    for each in found:
        record = each.record
        assert (record.screened, record.eligible, record.tested, record.passed) == (3, 1, 3, 2)
        assert record.refusals == {"n_trades": 1}


def test_a_candidate_that_could_not_be_rolled_never_leads():
    made = [replace(outcome(), pte=pte) for pte in (PTE_TESTED, OTHER)]
    first, second = evaluate(OCCASION, screening(PTE_TESTED, OTHER), made, [replace(walked(), pte=OTHER)], NEVER, SHUT)
    assert (first.record.leading, second.record.leading) == (False, True)
    assert {"rolling_sortino", "drawdown"} <= set(first.record.refusing)
    assert (first.record.rolling_sortino, first.record.intervals["rolling_sortino"]) == (None, (None, None))


def test_a_run_that_screened_nothing_counts_nothing_of_the_grid():
    later = replace(OCCASION, complete=False)
    (one,) = evaluate(later, screening(PTE_TESTED, OTHER), [outcome()], [walked()], NEVER, SHUT)
    counts = ("screened", "eligible", "tested", "passed", "refusals")
    assert [getattr(one.record, name) for name in counts] == [None] * 5
    assert Code.NO_CANDIDATES not in diagnose(one.record).codes
    (one,) = evaluate(OCCASION, screening(PTE_TESTED, OTHER), [outcome()], [walked()], NEVER, SHUT)
    assert Code.NO_CANDIDATES in diagnose(one.record).codes


def test_gates_hold_the_worse_drawdown_of_both_backtests():
    deep = replace(walked(), performance=replace(walked().performance, max_drawdown=0.9))
    (one,) = evaluate(OCCASION, screening(PTE_TESTED), [outcome()], [deep], NEVER, replace(OPEN, drawdown=0.5))
    assert one.record.refusing == ("drawdown",)
    assert one.record.max_drawdown == outcome().performance.max_drawdown
    unknown = replace(walked(), performance=replace(walked().performance, max_drawdown=None))
    (one,) = evaluate(OCCASION, screening(PTE_TESTED), [outcome()], [unknown], NEVER, OPEN)
    assert one.record.refusing == ("drawdown",), "what is not known passes no gate"


def test_trying_again_deflates_what_is_shown():
    alone = judged()[0].record
    tried = judged(earlier=Earlier(40, tuple(np.linspace(-0.3, 0.3, 40))))[0].record
    assert (alone.trials, tried.trials) == (1, 41)
    assert alone.dsr is not None and tried.dsr is not None and tried.dsr < alone.dsr
    days = pd.concat([fold.daily for fold in outcome().folds])
    own = sharpe_ratio(days)
    assert judged()[0].daily_sharpe == own
    assert alone.dsr == deflated_sharpe(days, [own], 1)


def test_the_choice_among_points_is_deflated_by_all_of_them():
    order = (PTE_TESTED, OTHER, THIRD)
    made = screening(*order)
    (one,) = evaluate(OCCASION, made, [outcome()], [walked()], NEVER, OPEN)
    sharpes = [sharpe_ratio(made.returns[name]) for name in made.returns]
    assert one.record.dsr_screening == deflated_sharpe(made.returns[str(PTE_TESTED)], sharpes, 3)
    assert one.record.pbo == overfitting_probability(made.returns).pbo
    (single,) = judged()
    assert single.record.pbo is None, "nothing was chosen among one point"


@pytest.mark.parametrize(
    ("made", "after", "order", "complaint"),
    [
        ([], [], [PTE_TESTED], "nothing to evaluate"),
        ([PTE_TESTED], [PTE_TESTED, OTHER], [PTE_TESTED, OTHER], "rolled H4_SL1.0_TP2.0, H2_SL1.0_TP1.5"),
        ([PTE_TESTED], [], [PTE_TESTED], "rolled none"),
        ([OTHER], [OTHER], [PTE_TESTED], "H2_SL1.0_TP1.5 was tested and never screened"),
    ],
)
def test_parts_of_several_evaluations_are_refused(made, after, order, complaint: str):
    with pytest.raises(EvaluationError, match=complaint):
        evaluate(
            OCCASION,
            screening(*order),
            [replace(outcome(), pte=pte) for pte in made],
            [replace(walked(), pte=pte) for pte in after],
            NEVER,
            OPEN,
        )
