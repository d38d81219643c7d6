"""How often drift is reported where nothing happened, and how often where something did. Real candles, real models.

Every quarter a model is made of each symbol's candles so far, 24 months at most, and every week of the following eight
is looked at. Weeks are quiet when their volatility and their largest move lie within the middle nine tenths of the
weeks before: said of the candles alone, without any feature, score or test. What models until `CHOSEN_UNTIL`
saw is for choosing limits, and printed apart from what later models saw. Shifts are laid over the last day and the
last three of a quiet week of every later model.

Run from the repository's root: `python -m benchmarks.drift ARCHIVE [SYMBOL …] [KEY=VALUE …]`. ARCHIVE is a folder laid
out as the exchange's archive; the keys are operators' settings, such as CVN_DRIFT_WINDOW_DAYS.
"""

import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.drift_shifts import PER_DAY, SHIFTS
from cvntrade_assets.market.binance import archive_month_path, read_archive_zip
from cvntrade_assets.operations.drift import DriftLimits, DriftReport, past_of
from cvntrade_assets.operations.drift_columns import Past
from cvntrade_assets.operations.drift_evidence import Learnt
from cvntrade_assets.operations.drift_look import drift_limits, look_at
from cvntrade_assets.settings import Settings, resolve

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "BNBUSDT", "LDOUSDT", "ADAUSDT", "BONKUSDT")
FIRST, LAST = "2023-01", "2025-08"
MODELS = tuple(pd.date_range("2024-07-01", "2025-07-01", freq="3MS", tz="UTC"))
CHOSEN_UNTIL = pd.Timestamp("2024-12-31", tz="UTC")
WEEKS = 8
INTERVAL, WEEK = pd.Timedelta("30min"), pd.Timedelta(days=7)
SHIFTED_DAYS = (1, 3)
ALPHAS = (0.01, 0.02, 0.05, 0.1)
SHARES = (0.03, 0.05, 0.1, 0.2, 0.3)
MIDDLE = (0.05, 0.95)
_MONTHS = pd.DateOffset(months=24)
_WARNED = ("warning", "critical")
_MONTHLY = 0.05
_TAIL = 700
"""Candles before a window that its features remember."""

RUN = {
    "CVN_MARKET": "binance",
    "CVN_DEFAULT_N_TRIALS": "1",
    "CVN_TUNING_FOLDS": "2",
    "CVN_TUNING_WORKERS": "1",
    "CVN_HPO_XGBOOST_30M_NUM_BOOST_ROUND": "100",
}


@dataclass(frozen=True)
class Seen:
    """One look.

    Attributes:
        symbol: Whose candles.
        made: When the model was made.
        week: When the window begins.
        quiet: Whether nothing much happened in it.
        what: The shift and its days; empty for the candles as they were.
        report: What the look came to.
        seconds: What it took.
    """

    symbol: str
    made: pd.Timestamp
    week: pd.Timestamp
    quiet: bool
    what: str
    report: DriftReport
    seconds: float

    def share(self, alpha: float) -> float:
        """Share of columns that would have drifted at a level of significance."""
        return float(np.mean([column.adjusted < alpha for column in self.report.columns]))

    def outcomes_drifted(self, alpha: float) -> bool:
        """Whether the rate of BUY or calibration would have."""
        found = (self.report.buy_rate, self.report.calibration)
        return any(each is not None and each.p_value < alpha for each in found)


def main() -> None:
    """Print false alarms of real weeks, and detections of shifts."""
    archive, *given = sys.argv[1:]
    limits = dict(pair.split("=", 1) for pair in given if "=" in pair)
    seen: list[Seen] = []
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        asked = [name for name in given if "=" not in name] or SYMBOLS
        for symbol, looks in zip(asked, pool.map(partial(looks_at, archive, limits), asked), strict=True):
            print(f"{symbol}: {len(looks)} looks, the slowest {max(look.seconds for look in looks):.2f} s", flush=True)
            seen += looks
    as_they_were = [look for look in seen if not look.what]
    chosen = [look for look in as_they_were if look.made <= CHOSEN_UNTIL]
    reported = [look for look in as_they_were if look.made > CHOSEN_UNTIL]
    for title, looks in (("for choosing limits", chosen), ("reported", reported)):
        for kind, some in (("quiet weeks", [look for look in looks if look.quiet]), ("all weeks", looks)):
            _print_alarms(f"{title}: {kind}", some)
    _print_weeks(as_they_were)
    _print_detections([look for look in seen if look.what], drift_limits(_settings(limits, MODELS[0])))


def looks_at(archive: str, limits: Mapping[str, str], symbol: str) -> list[Seen]:
    """Every look at one symbol."""
    return list(_looks_at(read_candles(Path(archive), symbol), limits, symbol))


def _settings(limits: Mapping[str, str], made: pd.Timestamp) -> Settings:
    return resolve(base_env=limits, run=RUN | {"CVN_AS_OF": made.isoformat()}, now=pd.Timestamp.now("UTC"))


def read_candles(archive: Path, symbol: str) -> pd.DataFrame:
    """Every month of a symbol that the archive has."""
    months = [f"{month:%Y-%m}" for month in pd.date_range(f"{FIRST}-01", f"{LAST}-01", freq="MS")]
    paths = [archive / archive_month_path(symbol, "30m", month) for month in months]
    return pd.concat([read_archive_zip(path.read_bytes(), path.name, INTERVAL) for path in paths if path.exists()])


class Watch:
    """Looks at one model; what is usual is worked out by the first of them."""

    def __init__(self, symbol: str, made: pd.Timestamp, learnt: Learnt, settings: Settings) -> None:
        self._symbol, self._made, self._learnt, self._settings = symbol, made, learnt, settings
        self._past: dict[int, dict[str, Past]] = {}

    def look(self, week: pd.Timestamp, candles: pd.DataFrame, quiet: bool, what: str) -> Seen:
        """Look at the newest candles."""
        from cvntrade_assets.learning.barriers import label_candles
        from cvntrade_assets.learning.features import compute_features

        features = compute_features(candles)
        labels = label_candles(candles, self._settings.pte, interval=INTERVAL, binary=True)
        unseen = int((features.index >= self._learnt.known_until).sum())
        length = min(unseen, drift_limits(self._settings).longest)
        began = time.perf_counter()
        evidence, report = look_at(self._learnt, features, labels, self._settings, self._past.get(length))
        seconds = time.perf_counter() - began
        if length not in self._past:
            self._past[length] = past_of(evidence)
        return Seen(self._symbol, self._made, week, quiet, what, report, seconds)


def _looks_at(candles: pd.DataFrame, limits: Mapping[str, str], symbol: str) -> Iterator[Seen]:
    for made in MODELS:
        past = candles[(candles.index >= made - _MONTHS) & (candles.index < made)]
        if len(past) < 365 * PER_DAY:
            continue
        settings = _settings(limits, made)
        learnt = make_model(past, settings)
        watch, has_shifted = Watch(symbol, made, learnt, settings), made <= CHOSEN_UNTIL
        for week in (made + i * WEEK for i in range(WEEKS)):
            until = candles[candles.index < week + WEEK].iloc[-(_TAIL + 7 * PER_DAY) :]
            if until.index[-1] + INTERVAL < week + WEEK:
                break
            quiet = is_quiet(past, until[until.index >= week])
            yield watch.look(week, until, quiet, "")
            if quiet and not has_shifted:
                has_shifted = True
                for name, days in ((name, days) for name in SHIFTS for days in SHIFTED_DAYS):
                    changed = SHIFTS[name](until, len(until) - days * PER_DAY)
                    yield watch.look(week, changed, quiet, f"{name}, {days} days")


def make_model(past: pd.DataFrame, settings: Settings) -> Learnt:
    """The chain in short: no search, everything else as the assets do it."""
    from cvntrade_assets.learning.barriers import label_candles
    from cvntrade_assets.learning.cusum import cusum_events
    from cvntrade_assets.learning.features import compute_features
    from cvntrade_assets.learning.from_settings import recipe, slice_fractions
    from cvntrade_assets.learning.recipe import fit
    from cvntrade_assets.learning.training_set import assemble_training_set
    from cvntrade_assets.market.volatility import average_true_range

    how = recipe(settings)
    features = compute_features(past)
    labels = label_candles(past, settings.pte, interval=INTERVAL, binary=how.binary)
    rows = assemble_training_set(
        features,
        labels,
        cusum_events(past, average_true_range(past), how.cusum_threshold),
        how.cusum_mode,
        slice_fractions(settings),
        how.embargo,
        how.uniqueness_weights,
    )
    fitted = fit(how, rows, say=lambda _: None)
    return Learnt(fitted.model, fitted.calibration, features, labels, rows.targets)


def is_quiet(past: pd.DataFrame, week: pd.DataFrame) -> bool:
    """Whether a week's volatility and largest move are within the middle nine tenths of the past's weeks."""
    size = len(week)
    moves = np.log(past["close"]).diff().dropna().to_numpy()
    weeks = moves[len(moves) % size :].reshape(-1, size)
    now = np.log(week["close"]).diff().dropna().to_numpy()
    for measure in (lambda x: x.std(axis=-1), lambda x: np.abs(x).max(axis=-1)):
        low, high = np.quantile(measure(weeks), MIDDLE)
        if not low <= measure(now) <= high:
            return False
    return True


def _print_alarms(title: str, looks: Sequence[Seen]) -> None:
    print(f"\n{title}, {len(looks)} looks: share of looks in which at least so many of the columns drifted")
    if not looks:
        return
    for alpha in ALPHAS:
        shares = np.array([look.share(alpha) for look in looks])
        cells = [f"any {np.mean(shares > 0):.1%}"]
        cells += [f">={share:.0%} {np.mean(shares >= share):.1%}" for share in SHARES]
        found = [(look.report.buy_rate, look.report.calibration) for look in looks]
        rate, error = (
            np.mean([p is not None and p.p_value < alpha for p in some]) for some in zip(*found, strict=True)
        )
        print(f"  alpha {alpha:g}: {', '.join(cells)}; rate of BUY {rate:.1%}, calibration {error:.1%}")
    levels = pd.Series([str(look.report.level) for look in looks]).value_counts(normalize=True)
    print("  with the limits in force: " + ", ".join(f"{level} {share:.1%}" for level, share in levels.items()))


def _print_weeks(looks: Sequence[Seen]) -> None:
    by_week: dict[str, list[float]] = defaultdict(list)
    for look in looks:
        by_week[f"{look.week:%Y-%m}"].append(look.share(_MONTHLY))
    print(f"\nmonth by month, share of columns that drifted (mean, largest), alpha {_MONTHLY:g}")
    for month, shares in sorted(by_week.items()):
        print(f"  {month}: {np.mean(shares):.3f}  {max(shares):.2f}  of {len(shares)} looks")


def _print_detections(looks: Sequence[Seen], limits: DriftLimits) -> None:
    print(
        "\nshifts over quiet weeks of later models: share of looks that warn at least, and that are critical, with the "
        f"limits in force (alpha {limits.alpha:g}, {limits.warning_share:.0%}, {limits.critical_share:.0%})"
    )
    for what in dict.fromkeys(look.what for look in looks):
        some = [look for look in looks if look.what == what]
        levels = [str(look.report.level) for look in some]
        warned, critical = (np.mean([level in kinds for level in levels]) for kinds in (_WARNED, _WARNED[1:]))
        outcomes = np.mean([look.outcomes_drifted(limits.outcome_alpha) for look in some])
        print(f"  {what:40s} warned {warned:6.1%}  critical {critical:6.1%}  outcomes {outcomes:6.1%}  of {len(some)}")


if __name__ == "__main__":
    main()
