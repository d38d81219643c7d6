"""From candles that a model would trade to the moments at which a backtest can act on them."""

from __future__ import annotations

import pandas as pd

from cvntrade_assets.trading.execution import TrendFilter

_SPANS: dict[TrendFilter, int] = {"ema_50": 50, "ema_200": 200}


def signals_at(signal: pd.Series, atr: pd.Series, *, interval: pd.Timedelta) -> pd.DataFrame:
    """The moments at which signals became known, with the ATR known then.

    Args:
        signal: bool per candle, it is to be traded; index: open times, strictly increasing.
        atr: float64 average true range per candle, in price units; index: open times, at least those of `signal`.
        interval: The candles' timeframe: a candle's signal is known at its close, one interval after its open.

    Returns:
        A frame with the column `atr`, float64; its index, named `signal_time`, holds the closes of the candles that
        are to be traded.

    Raises:
        ValueError: `signal` is not boolean, or a candle that is to be traded has no row in `atr`.
    """
    if signal.dtype != bool:
        raise ValueError(f"signal has dtype {signal.dtype}: expected bool, True where a candle is to be traded")
    opens = pd.DatetimeIndex(signal.index[signal.to_numpy()])
    unknown = opens.difference(pd.DatetimeIndex(atr.index))
    if len(unknown):
        raise ValueError(f"atr has no row for {unknown[0]}: expected one for every candle that is to be traded")
    closes = (opens + interval).rename("signal_time")
    return pd.DataFrame({"atr": atr.loc[opens].to_numpy(dtype="float64")}, index=closes)


def above_trend(closes: pd.Series, kind: TrendFilter) -> pd.Series:
    """Whether each candle closed above the exponential moving average of the closes up to and including its own.

    The average starts at the first close and moves by 2 / (span + 1) of the distance to each new one. It counts rows: a
    gap is one step. Pass closes from well before the window of interest, as the first ones weigh on it for a few spans.

    Args:
        closes: float64 close per candle, in order of time.
        kind: The span, 50 or 200 candles; `off` lets every candle pass.

    Returns:
        bool on the index of `closes`; False where fewer closes than the span are known.

    Raises:
        ValueError: Another kind.
    """
    if kind == "off":
        return pd.Series(True, index=closes.index, name="above_trend")
    if kind not in _SPANS:
        raise ValueError(f"trend filter {kind!r}: expected one of off, {', '.join(_SPANS)}")
    span = _SPANS[kind]
    average = closes.ewm(span=span, adjust=False, min_periods=span).mean()
    return (closes > average).rename("above_trend")
