"""From what was screened, tested and rolled to one record per candidate, and to the candidate that leads.

The leader is the best-ranked by screening of the candidates that passed every gate, else the best-ranked of all. Gates
read results out of sample, and nothing else of them chooses: among those that passed it is the rank that decides, which
saw no test period. That several candidates may try is what `dsr` is deflated by.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from cvntrade_assets.operations.correlation_data import Benchmark, CorrelationData, Fold, Gate
from cvntrade_assets.trading.gates import GateLimits, GateResult, Measured, judge, refusals
from cvntrade_assets.trading.pass_rate import PassRate, pass_rate

if TYPE_CHECKING:
    from cvntrade_assets.learning.rolling import Rolled
    from cvntrade_assets.learning.screening import Screening
    from cvntrade_assets.learning.walk_forward import FoldResult, Tested
    from cvntrade_assets.trading.metrics import EquityMeasures, Performance

_OF_BACKTEST = (
    *("sortino", "sharpe", "total_return", "expectancy_net", "profit_factor", "hit_rate", "max_drawdown", "n_trades"),
    *("turnover", "exposure", "tp_pct", "sl_pct", "timeout_pct"),
)
_OF_LAST_FOLD = ("f1_buy", "baseline_f1_buy", "precision_buy", "recall_buy", "buy_rate")
_INTERVALS_OF_LAST_FOLD = ("f1_buy", "precision_buy", "recall_buy")


class EvaluationError(ValueError):
    """Parts that are not of one evaluation; the message says which do not fit."""


@dataclass(frozen=True)
class Occasion:
    """Whose evaluation it is, and what it is made with.

    Attributes:
        crypto: The pair.
        market: `binance` or `simulated`.
        run_id: The run that measures.
        session: The runs that were started together.
        run_settings: What the run itself set, by setting.
        variants: The variant of every factor that it was given.
        versions: Of the code and of what it was made from, by name.
        fine_interval: Timeframe of the candles that the backtests ran on.
        seed: Of the bootstraps.
        complete: Whether what was tested is of the candles that were screened: only then do the grid's counts say
            anything of this run.
    """

    crypto: str
    market: Literal["binance", "simulated"]
    run_id: str
    session: str
    run_settings: Mapping[str, str]
    variants: Mapping[str, str]
    versions: Mapping[str, str]
    fine_interval: pd.Timedelta
    seed: int
    complete: bool


@dataclass(frozen=True)
class Earlier:
    """Candidates that were tested before on overlapping windows: how many, and their daily Sharpe ratios if known."""

    count: int = 0
    sharpes: tuple[float, ...] = ()


@dataclass(frozen=True)
class Judged:
    """One candidate's record, and the Sharpe ratio per day of its returns over all test periods."""

    record: CorrelationData[str]
    daily_sharpe: float | None


def evaluate(
    occasion: Occasion,
    screening: "Screening",
    tested: "Sequence[Tested]",
    rolled: "Sequence[Rolled]",
    earlier: Earlier,
    limits: GateLimits,
) -> tuple[Judged, ...]:
    """Judge every tested candidate.

    Args:
        occasion: Whose evaluation it is.
        screening: What the candidates were chosen from.
        tested: The candidates after their folds.
        rolled: Those of them whose rolling backtest could be made; the others pass no gate that asks for it, and
            none of them leads.
        earlier: What was tested before this.
        limits: Of the gates.

    Returns:
        One per candidate, best-ranked by screening first; exactly one leads.

    Raises:
        EvaluationError: Nothing was tested or rolled, or a candidate was rolled and not tested, or not screened.
    """
    from cvntrade_assets.trading.overfitting import overfitting_probability

    order = _ranks(screening, tested, rolled)
    walked = {each.pte: each for each in rolled}
    ranked = sorted(tested, key=lambda each: order[str(each.pte)])
    pairs = [(each, walked.get(each.pte)) for each in ranked]
    luck = _Luck.of(screening, [_all_days(each) for each, _ in pairs], earlier)
    pbo = overfitting_probability(screening.returns).pbo
    verdicts = [judge(_measured(each, after, luck.dsr(place)), limits) for place, (each, after) in enumerate(pairs)]
    rate = pass_rate(screening.trials, int(screening.points["eligible"].sum()), verdicts)
    leader = _leader(pairs, verdicts)
    judged = []
    for place, (each, after) in enumerate(pairs):
        record = CorrelationData[str](
            crypto=occasion.crypto,
            market=occasion.market,
            pte=str(each.pte),
            run_id=occasion.run_id,
            session=occasion.session,
            rank=order[str(each.pte)],
            leading=place == leader,
            screening_f1_buy=each.screening_f1_buy,
            last_fold_f1_buy=each.last_fold_f1_buy,
            std_f1_buy=each.std_f1_buy,
            **{name: getattr(each.last.report, name) for name in _OF_LAST_FOLD},
            **{name: getattr(each.performance, name) for name in _OF_BACKTEST},
            rolling_sortino=None if after is None else after.performance.sortino,
            dsr=luck.dsr(place),
            dsr_screening=luck.dsr_screening(str(each.pte)),
            pbo=pbo,
            trials=luck.trials,
            intervals=_intervals(occasion, each, after),
            buy_and_hold=_held(each.buy_and_hold),
            always_buy=_benchmark(each.always_buy),
            folds=tuple(_fold(fold) for fold in each.folds),
            gates=tuple(Gate(**asdict(result)) for result in verdicts[place]),
            **_counts(rate if occasion.complete else None),
            run_settings=dict(occasion.run_settings),
            variants=dict(occasion.variants),
            versions=dict(occasion.versions),
            data_from=each.folds[0].plan.starts[0],
            data_until=each.last.plan.end,
        )
        judged.append(Judged(record, luck.sharpes[place]))
    return tuple(judged)


def _leader(pairs: "Sequence[tuple[Tested, Rolled | None]]", verdicts: Sequence[Sequence[GateResult]]) -> int:
    """The place of the best-ranked candidate that passed, else of the best-ranked whose rolling backtest was made."""
    passed = [place for place, results in enumerate(verdicts) if not refusals(results)]
    return (passed or [place for place, (_, after) in enumerate(pairs) if after is not None])[0]


@dataclass(frozen=True)
class _Luck:
    """What choosing among many explains.

    Attributes:
        screening: The points' daily returns on the selection slice.
        daily: Per candidate, its daily returns over all test periods.
        sharpes: Their Sharpe ratios per day.
        earlier: What was tested before.
    """

    screening: pd.DataFrame
    daily: "Sequence[pd.Series[float]]"
    sharpes: tuple[float | None, ...]
    earlier: Earlier

    @classmethod
    def of(cls, screening: "Screening", daily: "Sequence[pd.Series[float]]", earlier: Earlier) -> "_Luck":
        from cvntrade_assets.trading.selection_bias import sharpe_ratio

        return cls(screening.returns, daily, tuple(sharpe_ratio(returns) for returns in daily), earlier)

    @property
    def trials(self) -> int:
        """Candidates ever tested on overlapping windows, these among them."""
        return len(self.daily) + self.earlier.count

    def dsr(self, place: int) -> float | None:
        """Of the candidate's returns over all test periods, deflated by every candidate ever tested on them."""
        from cvntrade_assets.trading.selection_bias import deflated_sharpe

        return deflated_sharpe(self.daily[place], [*self.sharpes, *self.earlier.sharpes], self.trials)

    def dsr_screening(self, pte: str) -> float | None:
        """Of the point's returns on the selection slice, deflated by every point that was screened."""
        from cvntrade_assets.trading.selection_bias import deflated_sharpe, sharpe_ratio

        known = [sharpe_ratio(self.screening[name]) for name in self.screening]
        return deflated_sharpe(self.screening[pte], known, len(known))


def _ranks(screening: "Screening", tested: "Sequence[Tested]", rolled: "Sequence[Rolled]") -> dict[str, int]:
    """Rank by PTE, after a look at whether the parts belong together."""
    ranks = {str(pte): int(rank) for pte, rank in zip(screening.points["pte"], screening.points["rank"], strict=True)}
    names = [str(each.pte) for each in tested]
    if not names:
        raise EvaluationError("no candidate was tested, so there is nothing to evaluate; build walk_forward again")
    others = [str(each.pte) for each in rolled if str(each.pte) not in names]
    if others or not rolled:
        raise EvaluationError(
            f"tested are {', '.join(names)}, rolled {', '.join(str(each.pte) for each in rolled) or 'none'}: expected "
            "some of the same; build rolling_backtest again"
        )
    strangers = [name for name in names if name not in ranks]
    if strangers:
        raise EvaluationError(f"{', '.join(strangers)} was tested and never screened; build walk_forward again")
    return ranks


def _all_days(tested: "Tested") -> "pd.Series[float]":
    """Net daily returns of all test periods, one after the other."""
    days: pd.Series[float] = pd.concat([fold.daily for fold in tested.folds])
    return days


def _measured(tested: "Tested", rolled: "Rolled | None", dsr: float | None) -> Measured:
    drawdowns = [tested.performance.max_drawdown, None if rolled is None else rolled.performance.max_drawdown]
    known = [each for each in drawdowns if each is not None]
    return Measured(
        f1_buy_delta=tested.last.report.f1_buy_delta,
        std_f1_buy=tested.std_f1_buy,
        sortino=tested.performance.sortino,
        rolling_sortino=None if rolled is None else rolled.performance.sortino,
        n_trades=tested.performance.n_trades,
        max_drawdown=max(known) if len(known) == len(drawdowns) else None,
        screening_gap=tested.screening_f1_buy - tested.last_fold_f1_buy,
        dsr=dsr,
    )


def _intervals(
    occasion: Occasion, tested: "Tested", rolled: "Rolled | None"
) -> dict[str, tuple[float | None, float | None]]:
    from cvntrade_assets.trading.performance_intervals import performance_intervals

    of_backtest, of_rolling = (
        None
        if each is None
        else performance_intervals(
            each.compared.backtest,
            interval=occasion.fine_interval,
            horizon=tested.pte.horizon,
            seed=occasion.seed,
        )
        for each in (tested, rolled)
    )
    report = tested.last.report
    scored = {
        name: (getattr(report, f"{name}_low"), getattr(report, f"{name}_high")) for name in _INTERVALS_OF_LAST_FOLD
    }
    rolling = (None, None) if of_rolling is None else of_rolling["sortino"]
    return {**scored, **(of_backtest or {}), "rolling_sortino": rolling}


def _fold(fold: "FoldResult") -> Fold:
    return Fold(
        number=fold.plan.number,
        test_from=fold.plan.starts[3],
        test_until=fold.plan.end,
        rows=fold.report.rows,
        buy_rate=fold.report.buy_rate,
        f1_buy=fold.report.f1_buy,
        baseline_f1_buy=fold.report.baseline_f1_buy,
        threshold=fold.threshold,
        trade_threshold=fold.trade_threshold,
        n_trades=fold.performance.n_trades,
        sortino=fold.performance.sortino,
    )


def _benchmark(performance: "Performance") -> Benchmark:
    names = ("n_trades", "total_return", "sortino", "sharpe", "max_drawdown")
    return Benchmark(**{name: getattr(performance, name) for name in names})


def _held(measures: "EquityMeasures") -> Benchmark:
    """Buying once and holding is one trade."""
    return Benchmark(n_trades=1, **measures._asdict())


def _counts(rate: PassRate | None) -> dict[str, Any]:
    names = ("screened", "eligible", "tested", "passed")
    if rate is None:
        return dict.fromkeys((*names, "refusals"))
    return {**{name: getattr(rate, name) for name in names}, "refusals": dict(rate.refused_by)}
