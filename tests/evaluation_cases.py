"""Ways to break the rules of backtest, walk-forward test, rolling backtest and evaluation; importing registers them."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pandas as pd
from tampering import Tampered, breaks, with_cell

from asset_checks.contract import Subject
from cvntrade_assets.trading.pte import PTE

HOUR = pd.Timedelta(hours=1)
HALF_HOUR = pd.Timedelta("30min")

# Rules that are about a version as a whole, and cases in which there is no single value to blame.
ABOUT_THE_WHOLE = {
    ("backtest", "aligned"),
    ("walk_forward", "after_the_choice"),
    ("walk_forward", "up_to_now"),
    ("walk_forward", "beside_baseline"),
    ("walk_forward", "aligned"),
    ("rolling_backtest", "whole_window"),
    ("rolling_backtest", "no_search"),
    ("rolling_backtest", "aligned"),
    ("evaluation", "complete"),
    ("evaluation", "leader"),
}
NO_ROW_TO_BLAME = {
    "walk_forward-as_traded-days_of_another_equity",
    "rolling_backtest-scores_alike-model_that_knows_its_own_step",
    "evaluation-schema-page_without_its_heat_map",
}

Change = Callable[[Any], Any]


def of_backtest(subject: Subject, change: Change) -> Any:
    """The backtest with what was traded changed."""
    return replace(subject.value, traded=change(subject.value.traded))


def of_first(subject: Subject, change: Change) -> Any:
    """The candidates with the first one changed."""
    first, *others = subject.value
    return (change(first), *others)


def of_fold(place: int, change: Change) -> Change:
    """A change of one fold of a tested candidate."""

    def changed(tested: Any) -> Any:
        folds = list(tested.folds)
        folds[place] = change(folds[place])
        return replace(tested, folds=tuple(folds))

    return changed


def with_strategy(**parts: Change) -> Change:
    """A change of the strategy's own backtest."""
    return lambda traded: replace(
        traded,
        compared=replace(
            traded.compared,
            backtest=replace(
                traded.compared.backtest,
                **{name: change(getattr(traded.compared.backtest, name)) for name, change in parts.items()},
            ),
        ),
    )


def with_always_buy(traded: Any) -> Any:
    """Always-BUY's trades as the model's own, measured as such."""
    return replace(traded, compared=replace(traded.compared, backtest=traded.compared.always_buy))


def overlapping(traded: Any) -> Any:
    """Always-BUY, its first trade still open when the second begins."""
    every = traded.compared.always_buy
    trades = with_cell(every.trades, 0, "exit_time", every.trades["entry_time"][1] + HOUR)
    return replace(traded, compared=replace(traded.compared, always_buy=replace(every, trades=trades)))


def held_for_nothing(traded: Any) -> Any:
    return replace(
        traded, compared=replace(traded.compared, buy_and_hold=with_cell(traded.compared.buy_and_hold, 3, "1x", 0.0))
    )


def with_sortino(traded: Any) -> Any:
    return replace(traded, performance=replace(traded.performance, sortino=123.0))


ruined = with_strategy(equity=lambda equity: with_cell(equity, 3, "1x", 0.0))
holed = with_strategy(
    equity=lambda equity: equity.drop(equity.index[5]), in_position=lambda held: held.drop(held.index[5])
)


def overlap_told(traded: Any, place: str) -> str:
    trades = traded.compared.always_buy.trades
    row = f"entry_time {trades['entry_time'][1]}, exit_time {trades['exit_time'][1]}"
    return (
        f"{place}: the trades break their schema:\n- a trade must begin when the last one has ended: "
        f"1 of {len(trades)} rows break this, first 1 ({row})"
    )


def ruin_told(equity: pd.DataFrame, prefix: str, name: str) -> str:
    return (
        f"{prefix}the {name} break their schema:\n- equity must be positive: "
        f"1 of {len(equity)} rows break this, first {equity.index[3]} (1x 0.0)"
    )


def hole_told(equity: pd.DataFrame, place: str) -> str:
    return (
        f"{place}: an equity of {len(equity) - 1} candles from {equity.index[0]} is not on the {len(equity)} fine "
        "candles of its window, or not on those of the curves beside it"
    )


def sortino_told(traded: Any, place: str) -> str:
    expected = traded.performance.sortino
    return f"{place}numbers are not those of the stored trades: performance.sortino 123.0, expected {expected}"


# backtest


@breaks("backtest", "schema")
def trades_that_overlap(subject: Subject) -> Tampered:
    return Tampered(of_backtest(subject, overlapping), overlap_told(subject.value.traded, "always BUY"))


@breaks("backtest", "schema")
def equity_of_nothing(subject: Subject) -> Tampered:
    equity = subject.value.traded.compared.backtest.equity
    return Tampered(of_backtest(subject, ruined), ruin_told(equity, "model: ", "equity"))


@breaks("backtest", "schema")
def holding_for_nothing(subject: Subject) -> Tampered:
    equity = subject.value.traded.compared.buy_and_hold
    return Tampered(of_backtest(subject, held_for_nothing), ruin_told(equity, "", "buy and hold"))


@breaks("backtest", "schema")
def curve_that_is_no_picture(subject: Subject) -> Tampered:
    return Tampered(
        replace(subject.value, plots={"equity": b"not drawn"}),
        "the plots break their schema:\n- a plot must be a PNG: "
        "1 of 1 rows break this, first 0 (plot equity, png False)",
    )


@breaks("backtest", "as_traded")
def sortino_of_other_trades(subject: Subject) -> Tampered:
    return Tampered(of_backtest(subject, with_sortino), sortino_told(subject.value.traded, ""))


@breaks("backtest", "of_the_test_slice")
def trades_that_the_model_did_not_ask_for(subject: Subject) -> Tampered:
    said = set(subject.value.traded.compared.backtest.trades["signal_time"])
    every = subject.value.traded.compared.always_buy.trades["signal_time"]
    model, frozen = subject.upstream("model").model, subject.upstream("calibration").calibration
    from cvntrade_assets.learning.recipe import Fitted, predict

    begins, features = subject.upstream("training_set").slice("test").features.index[0], subject.upstream("features")
    rows = features[features.index >= begins]
    answers = predict(Fitted(model, frozen, {}, False), rows)
    bought = set(answers.index[answers["signal"]] + HALF_HOUR)
    strange = [time for time in every if time not in bought]
    assert said <= bought
    return Tampered(
        of_backtest(subject, with_always_buy),
        f"{len(strange)} rows, the first at {strange[0]} follow no signal of the model",
    )


@breaks("backtest", "aligned")
def equity_with_a_hole(subject: Subject) -> Tampered:
    equity = subject.value.traded.compared.backtest.equity
    return Tampered(of_backtest(subject, holed), hole_told(equity, "the backtest"))


# walk_forward


@breaks("walk_forward", "schema")
def test_period_with_a_gap_before_it(subject: Subject) -> Tampered:
    plan = subject.value[0].folds[1].plan
    later = replace(plan, starts=(*plan.starts[:3], plan.starts[3] + HOUR))
    count = sum(len(tested.folds) for tested in subject.value)
    return Tampered(
        of_first(subject, of_fold(1, lambda fold: replace(fold, plan=later))),
        "the folds break their schema:\n- test periods must lie back to back: "
        f"1 of {count} rows break this, first 1 (test {later.starts[3]}, end {later.end})",
    )


@breaks("walk_forward", "schema")
def probability_above_one(subject: Subject) -> Tampered:
    tested = subject.value[0]
    rows = tested.folds[0].predictions
    wrong = with_cell(rows, 4, "probability", 1.5)
    return Tampered(
        of_first(subject, of_fold(0, lambda fold: replace(fold, predictions=wrong))),
        f"{tested.pte} fold 1: the predictions break their schema:\n- probability must lie within 0 to 1: "
        f"1 of {len(rows)} rows break this, first {rows.index[4]} (probability 1.5)",
    )


@breaks("walk_forward", "schema")
def tested_trades_that_overlap(subject: Subject) -> Tampered:
    tested = subject.value[0]
    return Tampered(of_first(subject, overlapping), overlap_told(tested, f"{tested.pte} always BUY"))


@breaks("walk_forward", "schema")
def tested_equity_of_nothing(subject: Subject) -> Tampered:
    tested = subject.value[0]
    told = ruin_told(tested.compared.backtest.equity, f"{tested.pte} model: ", "equity")
    return Tampered(of_first(subject, ruined), told)


@breaks("walk_forward", "schema")
def tested_holding_for_nothing(subject: Subject) -> Tampered:
    tested = subject.value[0]
    told = ruin_told(tested.compared.buy_and_hold, f"{tested.pte}: ", "buy and hold")
    return Tampered(of_first(subject, held_for_nothing), told)


@breaks("walk_forward", "after_the_choice")
def candidate_that_nobody_chose(subject: Subject) -> Tampered:
    other = PTE.parse("H5_SL1.0_TP1.0")
    names = [str(other), *(str(tested.pte) for tested in subject.value[1:])]
    chosen = ", ".join(str(pte) for pte in subject.upstream("screening_matrix").screening.candidates)
    return Tampered(
        of_first(subject, lambda tested: replace(tested, pte=other)),
        f"tested are {', '.join(names)}; the screening chose {chosen}, in this order",
    )


@breaks("walk_forward", "up_to_now")
def last_fold_left_out(subject: Subject) -> Tampered:
    tested = subject.value[0]
    return Tampered(
        of_first(subject, lambda each: replace(each, folds=each.folds[:-1])),
        f"{tested.pte} has {len(tested.folds) - 1} folds until {tested.folds[-2].plan.end}, expected "
        f"{len(tested.folds)} until {tested.last.plan.end}",
    )


@breaks("walk_forward", "unseen_rows")
def row_of_the_folds_own_past(subject: Subject) -> Tampered:
    tested = subject.value[0]
    rows = tested.folds[1].predictions
    before = tested.folds[1].plan.starts[3] - HALF_HOUR
    early = rows.set_axis([before, *rows.index[1:]])
    early.index.name = rows.index.name
    return Tampered(
        of_first(subject, of_fold(1, lambda fold: replace(fold, predictions=early))),
        f"1 rows, the first at {before} lie outside the test period of {tested.pte}, fold 2",
    )


@breaks("walk_forward", "beside_baseline")
def fold_without_its_baseline(subject: Subject) -> Tampered:
    tested = subject.value[0]
    report = tested.folds[0].report
    return Tampered(
        of_first(subject, of_fold(0, lambda fold: replace(fold, report=replace(report, baseline_f1_buy=0.0)))),
        f"{tested.pte}, fold 1: baseline_f1_buy is 0.0, its predictions give {report.baseline_f1_buy}",
    )


@breaks("walk_forward", "scores_alike")
def prediction_of_another_model(subject: Subject) -> Tampered:
    tested = subject.value[0]
    rows = tested.folds[1].predictions
    other = with_cell(rows, 2, "probability", 1.0 - rows["probability"].iloc[2])
    return Tampered(
        of_first(subject, of_fold(1, lambda fold: replace(fold, predictions=other))),
        f"1 rows, the first at {rows.index[2]} of {tested.pte}, fold 2 are predicted otherwise than the stored model "
        "says",
    )


@breaks("walk_forward", "as_traded")
def tested_sortino_of_other_trades(subject: Subject) -> Tampered:
    tested = subject.value[0]
    return Tampered(of_first(subject, with_sortino), sortino_told(tested, f"{tested.pte}: "))


@breaks("walk_forward", "as_traded")
def days_of_another_equity(subject: Subject) -> Tampered:
    tested = subject.value[0]
    return Tampered(
        of_first(subject, lambda each: replace(each, daily=each.daily + 0.01)),
        f"{tested.pte}: daily returns are not those of the stored equity",
    )


@breaks("walk_forward", "as_predicted")
def trades_against_the_prediction(subject: Subject) -> Tampered:
    tested = subject.value[0]
    rows = tested.last.predictions
    quiet = set(rows.index[~rows["signal"]] + HALF_HOUR)
    wrong = [time for time in tested.compared.always_buy.trades["signal_time"] if time in quiet]
    return Tampered(
        of_first(subject, with_always_buy),
        f"{len(wrong)} rows, the first at {wrong[0]} were signalled by candles that the model would not trade",
    )


@breaks("walk_forward", "aligned")
def tested_equity_with_a_hole(subject: Subject) -> Tampered:
    tested = subject.value[0]
    return Tampered(of_first(subject, holed), hole_told(tested.compared.backtest.equity, str(tested.pte)))


# rolling_backtest


@breaks("rolling_backtest", "schema")
def step_that_does_not_follow(subject: Subject) -> Tampered:
    first, second, *others = subject.value[0].steps
    later = replace(second.plan, starts=(*second.plan.starts[:3], second.plan.starts[3] + HOUR))
    count = sum(len(rolled.steps) for rolled in subject.value)
    return Tampered(
        of_first(subject, lambda each: replace(each, steps=(first, replace(second, plan=later), *others))),
        "the steps break their schema:\n- test periods must lie back to back: "
        f"1 of {count} rows break this, first 1 (test {later.starts[3]}, end {later.end})",
    )


@breaks("rolling_backtest", "schema")
def row_predicted_twice(subject: Subject) -> Tampered:
    rolled = subject.value[0]
    rows = rolled.predictions
    twice = pd.concat([rows.iloc[:4], rows.iloc[3:]])
    return Tampered(
        of_first(subject, lambda each: replace(each, predictions=twice)),
        f"{rolled.pte}: the predictions break their schema:\n- open_time must be strictly increasing: "
        f"1 of {len(twice)} rows break this, first {rows.index[3]}",
    )


@breaks("rolling_backtest", "schema")
def rolled_trades_that_overlap(subject: Subject) -> Tampered:
    rolled = subject.value[0]
    return Tampered(of_first(subject, overlapping), overlap_told(rolled, f"{rolled.pte} always BUY"))


@breaks("rolling_backtest", "schema")
def rolled_equity_of_nothing(subject: Subject) -> Tampered:
    rolled = subject.value[0]
    told = ruin_told(rolled.compared.backtest.equity, f"{rolled.pte} model: ", "equity")
    return Tampered(of_first(subject, ruined), told)


@breaks("rolling_backtest", "schema")
def rolled_holding_for_nothing(subject: Subject) -> Tampered:
    rolled = subject.value[0]
    told = ruin_told(rolled.compared.buy_and_hold, f"{rolled.pte}: ", "buy and hold")
    return Tampered(of_first(subject, held_for_nothing), told)


@breaks("rolling_backtest", "whole_window")
def last_step_left_out(subject: Subject) -> Tampered:
    rolled, window = subject.value[0], subject.upstream("walk_forward")[0].last.plan
    return Tampered(
        of_first(subject, lambda each: replace(each, steps=each.steps[:-1])),
        f"{rolled.pte}: the steps run from {window.starts[3]} to {rolled.steps[-2].plan.end}, the window is "
        f"{window.starts[3]} to {window.end}",
    )


@breaks("rolling_backtest", "no_search")
def step_that_searched(subject: Subject) -> Tampered:
    rolled = subject.value[0]
    return Tampered(
        of_first(subject, lambda each: replace(each, last=replace(each.last, tuned=True))),
        f"{rolled.pte}: its last step was fitted with {dict(rolled.last.params)}, not with the last fold's",
    )


@breaks("rolling_backtest", "scores_alike")
def prediction_of_another_step(subject: Subject) -> Tampered:
    rolled = subject.value[0]
    rows = rolled.predictions
    other = with_cell(rows, -1, "probability", 1.0 - rows["probability"].iloc[-1])
    return Tampered(
        of_first(subject, lambda each: replace(each, predictions=other)),
        f"1 rows, the first at {rows.index[-1]} of {rolled.pte}, last step are predicted otherwise than the stored "
        "model says",
    )


@breaks("rolling_backtest", "scores_alike")
def model_that_knows_its_own_step(subject: Subject) -> Tampered:
    rolled = subject.value[0]
    begins = rolled.steps[-1].plan.starts[3]
    return Tampered(
        of_first(subject, lambda each: replace(each, data_until=begins + HOUR)),
        f"{rolled.pte}: the last step's model knows candles until {begins + HOUR}, the step begins {begins}",
    )


@breaks("rolling_backtest", "as_traded")
def rolled_sortino_of_other_trades(subject: Subject) -> Tampered:
    rolled = subject.value[0]
    return Tampered(of_first(subject, with_sortino), sortino_told(rolled, f"{rolled.pte}: "))


@breaks("rolling_backtest", "aligned")
def rolled_equity_with_a_hole(subject: Subject) -> Tampered:
    rolled = subject.value[0]
    return Tampered(of_first(subject, holed), hole_told(rolled.compared.backtest.equity, str(rolled.pte)))


# evaluation


def with_record(subject: Subject, **changes: Any) -> Any:
    """The evaluation with its leading record changed."""
    leading = subject.value.leading
    others = [record.model_copy(update=changes) if record is leading else record for record in subject.value.records]
    return replace(subject.value, records=tuple(others))


@breaks("evaluation", "schema")
def trials_that_nobody_counted(subject: Subject) -> Tampered:
    place = subject.value.records.index(subject.value.leading)
    return Tampered(
        with_record(subject, trials=0),
        "the records break their schema:\n- trials must count every candidate: "
        f"1 of {len(subject.value.records)} rows break this, first {place} (trials 0)",
    )


@breaks("evaluation", "schema")
def page_without_its_heat_map(subject: Subject) -> Tampered:
    plots = {name: png for name, png in subject.value.plots.items() if name != "screening_heat_map"}
    listed = "equity_of_the_test, equity_rolling, exit_shares, fold_bars, reliability, screening_heat_map"
    return Tampered(replace(subject.value, plots=plots), f"the plots break their schema:\n- the plots must be {listed}")


@breaks("evaluation", "complete")
def nobody_who_leads(subject: Subject) -> Tampered:
    return Tampered(with_record(subject, leading=False), "0 candidates lead (none), expected exactly one")


@breaks("evaluation", "complete")
def record_of_another_market(subject: Subject) -> Tampered:
    pte = subject.value.leading.pte
    return Tampered(with_record(subject, market="binance"), f"the records of {pte} are not of BTCUSDC on simulated")


@breaks("evaluation", "leader")
def rank_that_screening_did_not_give(subject: Subject) -> Tampered:
    pte = subject.value.leading.pte
    return Tampered(with_record(subject, rank=77), f"{pte} have another rank than the screening gave")


@breaks("evaluation", "gates")
def gate_that_was_opened(subject: Subject) -> Tampered:
    leading = subject.value.leading
    shut = next(gate for gate in leading.gates if not gate.passed)
    gates = tuple(gate.model_copy(update={"passed": True}) if gate is shut else gate for gate in leading.gates)
    return Tampered(
        with_record(subject, gates=gates), f"{leading.pte}: the numbers give another verdict of {shut.name}"
    )


@breaks("evaluation", "numbers")
def f1_that_nobody_found(subject: Subject) -> Tampered:
    leading = subject.value.leading
    return Tampered(with_record(subject, f1_buy=0.99), f"{leading.pte}: f1_buy are not what was found")
