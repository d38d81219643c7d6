"""What tests, rolling backtests and evaluations must keep: nothing known too early, and numbers that are those stored.

Everything is computed again from the stored files and from exactly the inputs that they were made from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from asset_checks.breach import ALL_ROWS, SHOWN_OFFENDERS, Breach, Offender, broken_rows
from asset_checks.contract import Rule, Subject
from asset_checks.report_numbers import expected_report, is_number
from cvntrade_assets.market.candles import timeframe_delta

if TYPE_CHECKING:
    from cvntrade_assets.learning.recipe import Fitted
    from cvntrade_assets.learning.rolling import Rolled
    from cvntrade_assets.learning.simulated_trading import Traded
    from cvntrade_assets.learning.walk_forward import FoldResult, Tested
    from cvntrade_assets.operations.correlation_data import CorrelationData
    from cvntrade_assets.trading.comparison import Compared

_PROBABILITY_TOLERANCE = 1e-9


# what was traded


def backtest_is_as_traded(subject: Subject) -> Breach | str | None:
    """Every number is that of the stored trades and equity, the baselines' too."""
    return _otherwise_measured({"": subject.value.traded}, subject)


def backtest_is_of_the_test_slice(subject: Subject) -> Breach | str | None:
    """Every trade was signalled by a candle from the test slice on that the frozen model would trade."""
    from cvntrade_assets.learning.answers import answers

    model, frozen = subject.upstream("model").model, subject.upstream("calibration").calibration
    features = subject.upstream("features")
    asked = features[features.index >= subject.upstream("training_set").slice("test").features.index[0]]
    signal = answers(model, frozen, asked)["signal"]
    said = signal.index[signal] + _interval(subject, "CVN_TIMEFRAME")
    return _unsaid(subject.value.traded.compared.backtest.trades, pd.DatetimeIndex(said))


def equity_lies_on_the_candles(subject: Subject) -> Breach | str | None:
    """The model's equity, always-BUY's and buy-and-hold's are of the same fine candles, without a hole."""
    fine = pd.DatetimeIndex(subject.upstream("backtest_candles").candles.index)
    for name, compared in _all_compared(subject):
        curves = (compared.backtest.equity, compared.always_buy.equity, compared.buy_and_hold)
        for curve in curves:
            expected = fine[(fine >= curve.index[0]) & (fine <= curve.index[-1])]
            if not (curve.index.equals(expected) and curve.index.equals(curves[0].index)):
                return (
                    f"{name or 'the backtest'}: an equity of {len(curve)} candles from {curve.index[0]} is not on the "
                    f"{len(expected)} fine candles of its window, or not on those of the curves beside it"
                )
    return None


# what was tested


def tests_lie_after_the_choice(subject: Subject) -> Breach | str | None:
    """The candidates are the screening's, in its order, and it saw no candle of a test period."""
    screening = subject.upstream("screening_matrix").screening
    offered = [str(pte) for pte in screening.candidates]
    names = [str(tested.pte) for tested in subject.value]
    if names != [name for name in offered if name in names]:
        return f"tested are {', '.join(names)}; the screening chose {', '.join(offered)}, in this order"
    begins = min(tested.folds[0].plan.starts[3] for tested in subject.value)
    last_day = screening.returns.index[-1]
    if last_day + pd.Timedelta(days=1) > begins:
        return f"the screening judged the day {last_day}, and the first test period begins {begins}"
    return None


def tests_end_with_the_candles(subject: Subject) -> Breach | str | None:
    """Every candidate has the folds that were asked for, and the last test period ends with the last candle."""
    asked = int(subject.manifest.provenance.settings["CVN_DEFAULT_N_FOLDS"])
    end = subject.upstream("candles").candles.index[-1] + _interval(subject, "CVN_TIMEFRAME")
    for tested in subject.value:
        if len(tested.folds) != asked or tested.last.plan.end != end:
            return (
                f"{tested.pte} has {len(tested.folds)} folds until {tested.last.plan.end}, expected {asked} until {end}"
            )
    return None


def tests_knew_nothing_of_their_period(subject: Subject) -> Breach | str | None:
    """Every tested row opens in its fold's test period, after the embargo, and its outcome is known when that ends."""
    embargo = pd.Timedelta(hours=float(subject.manifest.provenance.settings["CVN_EMBARGO_HOURS"]))
    for tested in subject.value:
        for fold in tested.folds:
            rows = fold.predictions
            outside = (rows.index < fold.plan.starts[3] + embargo) | (rows["exit_time"] > fold.plan.end).to_numpy()
            found = broken_rows(
                rows[["entry_time", "exit_time"]],
                np.asarray(outside),
                f"lie outside the test period of {tested.pte}, fold {fold.plan.number}",
                f"from {fold.plan.starts[3]} + {embargo} to {fold.plan.end}",
            )
            if found is not None:
                return found
    return None


def folds_stand_beside_baselines(subject: Subject) -> Breach | str | None:
    """Every fold has its own always-BUY, and its scores are those of its predictions at its frozen threshold."""
    for tested in subject.value:
        for fold in tested.folds:
            found = _other_scores(fold)
            if found is not None:
                return f"{tested.pte}, fold {fold.plan.number}: {found}"
    return None


def folds_score_alike(subject: Subject) -> Breach | str | None:
    """Every fold's stored model and calibration give its stored predictions."""
    features = subject.upstream("features")
    for tested in subject.value:
        for fold in tested.folds:
            place = f"{tested.pte}, fold {fold.plan.number}"
            found = _other_probabilities(fold.fitted, fold.predictions, features, place)
            if found is not None:
                return found
    return None


def tests_are_as_traded(subject: Subject) -> Breach | str | None:
    """Every candidate's numbers are those of its stored trades and equity."""
    return _otherwise_measured({f"{tested.pte}: ": tested for tested in subject.value}, subject)


def tests_trade_what_was_said(subject: Subject) -> Breach | str | None:
    """No trade of the backtest was signalled by a labelled candle that the last fold's model did not signal."""
    interval = _interval(subject, "CVN_TIMEFRAME")
    for tested in subject.value:
        found = _contradicted(tested.compared.backtest.trades, tested.last.predictions, interval)
        if found is not None:
            return found
    return None


# what was rolled


def steps_fill_the_window(subject: Subject) -> Breach | str | None:
    """The steps of every candidate fill the last fold's test period; who was tested and not rolled is said why."""
    tested = _by_pte(subject.upstream("walk_forward"))
    names, untestable = [str(rolled.pte) for rolled in subject.value], set(subject.manifest.summary["untestable"])
    if names != [name for name in tested if name not in untestable]:
        return f"rolled are {', '.join(names)}, tested were {', '.join(tested)}"
    for rolled in subject.value:
        window, last = (
            (rolled.steps[0].plan.starts[3], rolled.steps[-1].plan.end),
            tested[str(rolled.pte)].last.plan,
        )
        if window != (last.starts[3], last.end):
            demand = f"the window is {last.starts[3]} to {last.end}"
            return f"{rolled.pte}: the steps run from {window[0]} to {window[1]}, {demand}"
    return None


def steps_use_the_last_folds_parameters(subject: Subject) -> Breach | str | None:
    """No step searched for hyperparameters: they are the last fold's, found before the window began."""
    tested = _by_pte(subject.upstream("walk_forward"))
    for rolled in subject.value:
        if rolled.last.tuned or dict(rolled.last.params) != dict(tested[str(rolled.pte)].last.fitted.params):
            return f"{rolled.pte}: its last step was fitted with {dict(rolled.last.params)}, not with the last fold's"
    return None


def last_model_scores_alike(subject: Subject) -> Breach | str | None:
    """The model that may be registered gives the stored predictions of the last step, and knows nothing of it."""
    features = subject.upstream("features")
    for rolled in subject.value:
        begins = rolled.steps[-1].plan.starts[3]
        if rolled.data_until > begins:
            return (
                f"{rolled.pte}: the last step's model knows candles until {rolled.data_until}, the step begins {begins}"
            )
        own = rolled.predictions[rolled.predictions.index >= begins]
        found = _other_probabilities(rolled.last, own, features, f"{rolled.pte}, last step")
        if found is not None:
            return found
    return None


def steps_are_as_traded(subject: Subject) -> Breach | str | None:
    """Every candidate's numbers are those of its stored trades and equity."""
    return _otherwise_measured({f"{rolled.pte}: ": rolled for rolled in subject.value}, subject)


# what was evaluated


def records_are_complete(subject: Subject) -> Breach | str | None:
    """Every tested candidate has its record, of this crypto and market, and exactly one leads."""
    records = subject.value.records
    names = sorted(record.pte for record in records)
    expected = sorted(str(tested.pte) for tested in subject.upstream("walk_forward"))
    if names != expected:
        return f"there are records of {', '.join(names)}, tested were {', '.join(expected)}"
    leaders = [record.pte for record in records if record.leading]
    if len(leaders) != 1:
        return f"{len(leaders)} candidates lead ({', '.join(leaders) or 'none'}), expected exactly one"
    own = (subject.manifest.crypto, subject.manifest.provenance.market)
    strangers = [record.pte for record in records if (record.crypto, record.market) != own]
    return f"the records of {', '.join(strangers)} are not of {' on '.join(own)}" if strangers else None


def screening_names_the_leader(subject: Subject) -> Breach | str | None:
    """The leader is the best-ranked by screening of those that passed every gate, else the best-ranked rolled one."""
    records: Sequence[CorrelationData[str]] = subject.value.records
    points = subject.upstream("screening_matrix").screening.points
    ranks = dict(zip(points["pte"], points["rank"], strict=True))
    wrong = [record.pte for record in records if record.rank != ranks[record.pte]]
    if wrong:
        return f"{', '.join(wrong)} have another rank than the screening gave"
    rolled = _by_pte(subject.upstream("rolling_backtest"))
    passed = [record for record in records if record.passes]
    passed = passed or [record for record in records if record.pte in rolled]
    expected = min(passed, key=lambda record: ranks[record.pte]).pte
    leader = subject.value.leading.pte
    return None if leader == expected else f"{leader} leads, the screening puts {expected} first"


def gates_follow_the_numbers(subject: Subject) -> Breach | str | None:
    """Every gate's verdict is what the record's own numbers and the limits of the settings give."""
    from cvntrade_assets.learning.from_settings import GATE_SETTINGS, gate_limits
    from cvntrade_assets.trading.gates import Measured, judge

    limits = gate_limits(subject.settings(GATE_SETTINGS))
    rolled = _by_pte(subject.upstream("rolling_backtest"))
    for record in subject.value.records:
        after = rolled.get(record.pte)
        drawdowns = (record.max_drawdown, None if after is None else after.performance.max_drawdown)
        measured = Measured(
            f1_buy_delta=record.f1_buy_delta,
            std_f1_buy=record.std_f1_buy,
            sortino=record.sortino,
            rolling_sortino=record.rolling_sortino,
            n_trades=record.n_trades,
            max_drawdown=None if None in drawdowns else max(drawdowns),
            screening_gap=record.screening_gap,
            dsr=record.dsr,
        )
        expected = {result.name: result for result in judge(measured, limits)}
        if [gate.name for gate in record.gates] != list(expected):
            return f"{record.pte} was judged by {[gate.name for gate in record.gates]}, expected {list(expected)}"
        wrong = [gate for gate in record.gates if not _same_verdict(gate, expected[gate.name])]
        if wrong:
            offenders = [
                Offender(gate.name, record.pte, f"{gate.passed}: {gate.reason}", expected[gate.name].reason)
                for gate in wrong
            ]
            listed = ", ".join(gate.name for gate in wrong)
            return Breach(f"{record.pte}: the numbers give another verdict of {listed}", tuple(offenders))
    return None


def records_say_what_was_found(subject: Subject) -> Breach | str | None:
    """Every headline is what the walk-forward test and the rolling backtest hold."""
    tested, rolled = (_by_pte(subject.upstream(asset)) for asset in ("walk_forward", "rolling_backtest"))
    for record in subject.value.records:
        expected = _found(tested[record.pte], rolled.get(record.pte))
        wrong = [name for name, value in expected.items() if not is_number(getattr(record, name), value)]
        if wrong:
            offenders = [Offender(name, record.pte, str(getattr(record, name)), str(expected[name])) for name in wrong]
            message = f"{record.pte}: {', '.join(wrong)} are not what was found"
            return Breach(message, tuple(offenders[:SHOWN_OFFENDERS]))
        folds = [fold.report.f1_buy for fold in tested[record.pte].folds]
        if not np.allclose([fold.f1_buy for fold in record.folds], folds, rtol=0.0, atol=1e-12):
            return f"{record.pte}: the fold table shows other f1_buy than the folds found"
    return None


BACKTEST_RULES = (
    Rule("as_traded", "Numbers are those of the stored trades and equity", backtest_is_as_traded),
    Rule("of_the_test_slice", "Trades follow what the model says of the test slice", backtest_is_of_the_test_slice),
    Rule("aligned", "Equity and its baselines lie on the same fine candles", equity_lies_on_the_candles),
)
WALK_FORWARD_RULES = (
    Rule("after_the_choice", "The screening chose the candidates, and saw no test period", tests_lie_after_the_choice),
    Rule("up_to_now", "As many folds as asked for, up to the last candle", tests_end_with_the_candles),
    Rule("unseen_rows", "Test rows lie in their own test period", tests_knew_nothing_of_their_period),
    Rule("beside_baseline", "Every fold has its baseline and its own scores", folds_stand_beside_baselines),
    Rule("scores_alike", "The stored models give the stored predictions", folds_score_alike),
    Rule("as_traded", "Numbers are those of the stored trades and equity", tests_are_as_traded),
    Rule("as_predicted", "No trade contradicts what the model said", tests_trade_what_was_said),
    Rule("aligned", "Equity and its baselines lie on the same fine candles", equity_lies_on_the_candles),
)
ROLLING_RULES = (
    Rule("whole_window", "The steps fill the last test period", steps_fill_the_window),
    Rule("no_search", "Hyperparameters are the last fold's", steps_use_the_last_folds_parameters),
    Rule("scores_alike", "The last step's model gives its stored predictions", last_model_scores_alike),
    Rule("as_traded", "Numbers are those of the stored trades and equity", steps_are_as_traded),
    Rule("aligned", "Equity and its baselines lie on the same fine candles", equity_lies_on_the_candles),
)
EVALUATION_RULES = (
    Rule("complete", "A record per tested candidate, exactly one of which leads", records_are_complete),
    Rule("leader", "Screening decides who leads, no result out of sample", screening_names_the_leader),
    Rule("gates", "Verdicts follow from the numbers and the limits", gates_follow_the_numbers),
    Rule("numbers", "Headlines are what was tested and rolled", records_say_what_was_found),
)


def _all_compared(subject: Subject) -> Iterator[tuple[str, Compared]]:
    """Every comparison of a version, by what messages call it."""
    value = subject.value
    if not isinstance(value, tuple):
        yield "", value.traded.compared
        return
    for each in value:
        yield str(each.pte), each.compared


def _otherwise_measured(backtests: Mapping[str, Traded | Tested | Rolled], subject: Subject) -> Breach | None:
    from cvntrade_assets.learning.simulated_trading import measured

    interval = _interval(subject, "CVN_BACKTEST_TIMEFRAME")
    for place, stored in backtests.items():
        again = measured(stored.compared, interval=interval)
        wrong = [
            Offender(f"{name}.{field}", place or ALL_ROWS, str(said), str(value))
            for name in ("performance", "always_buy", "buy_and_hold")
            for field, said, value in _pairs(getattr(stored, name), getattr(again, name))
            if not is_number(said, value)
        ]
        if wrong:
            listed = ", ".join(f"{each.column} {each.value}, expected {each.demand}" for each in wrong)
            return Breach(f"{place}numbers are not those of the stored trades: {listed}", tuple(wrong))
        if not stored.daily.equals(again.daily):
            return Breach(f"{place}daily returns are not those of the stored equity")
    return None


def _pairs(said: Any, again: Any) -> Iterator[tuple[str, Any, Any]]:
    """Field, what is stored, what it is when it is measured again."""
    fields = again._asdict() if hasattr(again, "_asdict") else asdict(again)
    yield from ((name, getattr(said, name), value) for name, value in fields.items())


def _unsaid(trades: pd.DataFrame, said: pd.DatetimeIndex) -> Breach | None:
    signals = trades.set_index("signal_time")[["entry_time", "exit_time"]]
    strange = ~np.asarray(signals.index.isin(said))
    return broken_rows(signals, strange, "follow no signal of the model", "the close of a candle that it would trade")


def _contradicted(trades: pd.DataFrame, predictions: pd.DataFrame, interval: pd.Timedelta) -> Breach | None:
    """A period's last candles have no label yet, and may be traded."""
    quiet = pd.DatetimeIndex(predictions.index[~predictions["signal"].to_numpy()]) + interval
    signals = trades.set_index("signal_time")[["entry_time", "exit_time"]]
    wrong = np.asarray(signals.index.isin(quiet))
    return broken_rows(
        signals, wrong, "were signalled by candles that the model would not trade", "a candle that it would trade"
    )


def _other_scores(fold: FoldResult) -> str | None:
    if fold.report.threshold != fold.threshold:
        return f"threshold is {fold.report.threshold}, the fold froze {fold.threshold}"
    for name, value in expected_report(fold.predictions).items():
        if not is_number(getattr(fold.report, name), value):
            return f"{name} is {getattr(fold.report, name)}, its predictions give {value}"
    return None


def _other_probabilities(
    fitted: Fitted, predictions: pd.DataFrame, features: pd.DataFrame, place: str
) -> Breach | None:
    from cvntrade_assets.learning.recipe import predict

    given = predict(fitted, features.loc[predictions.index])
    apart = np.abs(given["probability"] - predictions["probability"]) > _PROBABILITY_TOLERANCE
    other = (given[["predicted", "signal"]] != predictions[["predicted", "signal"]]).any(axis=1)
    wrong = np.asarray(apart | other)
    both = predictions[["probability", "predicted", "signal"]].assign(model=given["probability"])
    complaint = f"of {place} are predicted otherwise than the stored model says"
    return broken_rows(both, wrong, complaint, "the stored model's probability")


def _same_verdict(gate: Any, expected: Any) -> bool:
    same = (gate.passed, gate.limit) == (expected.passed, expected.limit)
    return same and is_number(gate.value, expected.value)


def _by_pte(candidates: Sequence[Any]) -> dict[str, Any]:
    return {str(each.pte): each for each in candidates}


def _found(tested: Tested, rolled: Rolled | None) -> dict[str, float | None]:
    report, performance = tested.last.report, tested.performance
    scores = ("f1_buy", "baseline_f1_buy", "precision_buy", "recall_buy", "buy_rate")
    traded = ("sortino", "sharpe", "total_return", "max_drawdown", "n_trades", "hit_rate", "expectancy_net")
    exits = ("profit_factor", "turnover", "exposure", "tp_pct", "sl_pct", "timeout_pct")
    return {
        **{name: getattr(report, name) for name in scores},
        **{name: getattr(performance, name) for name in (*traded, *exits)},
        "screening_f1_buy": tested.screening_f1_buy,
        "last_fold_f1_buy": tested.last_fold_f1_buy,
        "std_f1_buy": tested.std_f1_buy,
        "rolling_sortino": None if rolled is None else rolled.performance.sortino,
    }


def _interval(subject: Subject, key: str) -> pd.Timedelta:
    lineage = subject.manifest.provenance.lineage
    interval: pd.Timedelta = timeframe_delta(lineage[key])
    return interval
