"""CORRELATION DATA: the versioned record of what one candidate of one crypto was worth, from which a diagnosis is made.

Every number stands beside what it must be read against: an F1 beside that of always saying BUY, a strategy beside
holding the crypto, a headline beside its interval. `None` means undefined or unknown, and never stands for 0.
`docs/correlation-data.md` describes every field, and what makes a new schema version.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Generic, Literal, Self, TypeAlias, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, ValidationError, model_validator

from cvntrade_assets.trading.pte import PTE

SCHEMA_VERSION: Literal[2] = 2

C = TypeVar("C", bound=str)
"""A crypto. It is invariant: a record of one crypto is no record of another, and none of both."""

_NOISE = 1e-6


class RecordError(ValueError):
    """Something that is no record of this crypto and schema version; says what was expected and what to do."""


def _in_utc(value: datetime) -> datetime:
    if value.utcoffset() != timedelta(0):
        raise ValueError(f"{value.isoformat()} is not in UTC: convert it")
    # A plain datetime, as JSON gives it back, also of a pandas Timestamp.
    return datetime.combine(value.date(), value.time(), UTC)


def _canonical_pte(text: str) -> str:
    canonical = str(PTE.parse(text))
    if text != canonical:
        raise ValueError(f"{text} is not the canonical spelling: write {canonical}")
    return text


Share: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Count: TypeAlias = Annotated[int, Field(ge=0)]
Moment: TypeAlias = Annotated[AwareDatetime, AfterValidator(_in_utc)]
Text: TypeAlias = Annotated[str, Field(min_length=1)]
# JSON has no tuples: two numbers, both undefined or neither.
Interval: TypeAlias = tuple[float | None, float | None]


class _Part(BaseModel, frozen=True, extra="forbid", strict=True, allow_inf_nan=False):
    """What holds for the record and for its parts: frozen, nothing unknown, no NaN, no text for a number."""


class Gate(_Part, frozen=True):
    """One gate's verdict on the candidate."""

    name: Text = Field(description="which gate")
    passed: bool = Field(description="whether the candidate passed it; an undefined value never does")
    value: float | None = Field(description="what was measured; None when undefined")
    limit: float = Field(description="what it was compared with")
    reason: str = Field(description="what was measured, what is demanded")


class Fold(_Part, frozen=True):
    """One test period of the walk-forward."""

    number: Annotated[int, Field(ge=1)] = Field(description="from 1, oldest first")
    test_from: Moment = Field(description="the test period's begin, UTC")
    test_until: Moment = Field(description="its end, UTC")
    rows: Count = Field(description="labelled candles in it")
    buy_rate: Share = Field(description="share of BUY labels")
    f1_buy: Share = Field(description="F1 of BUY")
    baseline_f1_buy: Share = Field(description="F1 of always saying BUY on the same rows")
    threshold: float = Field(description="BUY is said from this probability on")
    trade_threshold: float = Field(description="a candle is traded from this probability on; above 1: none is")
    n_trades: Count = Field(description="decided trades, on the candles that models learn on")
    sortino: float | None = Field(description="annualised Sortino ratio on those candles; None when undefined")


class Benchmark(_Part, frozen=True):
    """What a strategy without a model came to, over the same candles and costs."""

    n_trades: Count = Field(description="decided trades")
    total_return: float | None = Field(description="net, as a fraction")
    sortino: float | None = Field(description="annualised; None when undefined")
    sharpe: float | None = Field(description="annualised; None when undefined")
    max_drawdown: Share | None = Field(description="largest fall from a peak, as a share")


class Platform(_Part, frozen=True):
    """How the platform was when the run reported; None is unknown, which is not healthy."""

    success_rate: Share | None = Field(
        default=None, description="share of the job's runs of the last days that succeeded"
    )
    oom_kills: Count | None = Field(default=None, description="processes killed for want of memory, last 24 hours")
    pvc_used: Share | None = Field(default=None, description="share of the fullest volume that is used")
    cpu_used: Share | None = Field(default=None, description="share of the processors that is used")
    pods_lost: Count | None = Field(default=None, description="pods of runs lost or without a node, last 24 hours")


class Duration(_Part, frozen=True):
    """How long the run that reports took until then."""

    minutes: Annotated[float, Field(ge=0)] = Field(description="since the run's begin")
    p95_minutes: Annotated[float, Field(gt=0)] | None = Field(description="95th percentile of earlier runs; None: none")
    slowest_stage: str | None = Field(description="the stage that took longest; None when unknown")


class CorrelationData(_Part, Generic[C], frozen=True):
    """What one candidate of one crypto was worth.

    Shares are fractions of 1, returns and falls fractions, Sortino and Sharpe ratios annualised. Records of two
    cryptos are two types: nothing that compares takes both.

    Raises:
        ValidationError: a field is missing, unknown, ill typed, out of range, or at odds with another; it is a
            ValueError.
    """

    schema_version: Literal[2] = Field(default=SCHEMA_VERSION, description="version of this schema")
    crypto: Annotated[C, Field(pattern=r"^[A-Z0-9]+$")] = Field(description="the pair, e.g. BTCUSDC")
    market: Literal["binance", "simulated"] = Field(description="where the candles come from")
    pte: Annotated[str, AfterValidator(_canonical_pte)] = Field(description="trade execution parameters, canonical")
    run_id: Text = Field(description="the run that measured it")
    session: Text = Field(description="the runs that were started together")
    rank: Annotated[int, Field(ge=1)] | None = Field(description="place in the screening; None without a screening")
    leading: bool = Field(description="whether it leads the run's candidates")

    f1_buy: Share = Field(description="F1 of BUY on the newest test period")
    baseline_f1_buy: Share = Field(description="F1 of always saying BUY there: 2p / (1 + p) of buy_rate p")
    precision_buy: Share | None = Field(description="share of predicted BUY that was BUY; None: none was predicted")
    recall_buy: Share | None = Field(description="share of BUY that was predicted; None: there was none")
    buy_rate: Share = Field(description="share of BUY labels there")
    screening_f1_buy: Share | None = Field(description="F1 of the screening's cheap recipe on the newest test period")
    last_fold_f1_buy: Share | None = Field(description="F1 of the full recipe there: same metric, same period")
    std_f1_buy: Annotated[float, Field(ge=0)] | None = Field(description="sample deviation of f1_buy over the folds")

    sortino: float | None = Field(description="of the backtest on the newest test period, net of costs")
    rolling_sortino: float | None = Field(description="of the rolling backtest, refitted at every step")
    sharpe: float | None = Field(description="of the backtest")
    total_return: float | None = Field(description="of the backtest, net")
    expectancy_net: float | None = Field(description="mean net return of a trade")
    profit_factor: Annotated[float, Field(ge=0)] | None = Field(description="gains over losses; None without a loss")
    hit_rate: Share | None = Field(description="share of trades with a net gain")
    max_drawdown: Share | None = Field(description="largest fall from a peak")
    n_trades: Count = Field(description="decided trades")
    turnover: Annotated[float, Field(ge=0)] | None = Field(
        description="half of what was paid and received over mean equity, a year"
    )
    exposure: Share | None = Field(description="share of candles with an open position")
    tp_pct: Share | None = Field(description="share of trades that the take-profit ended; None without a trade")
    sl_pct: Share | None = Field(description="share that the stop-loss ended; None without a trade")
    timeout_pct: Share | None = Field(description="share that the horizon ended; None without a trade")

    dsr: Share | None = Field(description="deflated Sharpe ratio over all test periods, by every candidate ever tested")
    dsr_screening: Share | None = Field(description="deflated Sharpe ratio on the selection slice, by all points")
    pbo: Share | None = Field(description="probability of backtest overfitting among the screened points")
    trials: Count = Field(description="candidates that dsr is deflated by")
    intervals: dict[str, Interval] = Field(description="bootstrap interval of a field, by its name: low, high")
    buy_and_hold: Benchmark = Field(
        description="all bought at the first candle, sold at the last, whatever the position fraction"
    )
    always_buy: Benchmark = Field(description="the same execution, and BUY at every candle")
    folds: tuple[Fold, ...] = Field(description="the walk-forward's test periods, oldest first")
    gates: tuple[Gate, ...] = Field(min_length=1, description="every gate's verdict")

    screened: Count | None = Field(description="points screened; None, as the next four, unless the run was complete")
    eligible: Count | None = Field(description="of them, worth testing")
    tested: Count | None = Field(description="of them, tested")
    passed: Count | None = Field(description="of them, that passed every gate")
    refusals: dict[str, Annotated[int, Field(ge=1)]] | None = Field(
        description="by gate, how many of the tested candidates it refused"
    )

    platform: Platform = Field(default=Platform(), description="how the platform was when the run reported")
    duration: Duration | None = Field(default=None, description="how long the run that reports took; None when unknown")
    run_settings: dict[str, str] = Field(
        description="what the run itself set, by setting: a next command sets it again"
    )
    variants: dict[str, str] = Field(description="the variant of every factor that the run was given")
    versions: dict[str, Text] = Field(min_length=1, description="of the code and of what it was made from, by name")
    data_from: Moment = Field(description="first candle that was used, UTC")
    data_until: Moment = Field(description="close of the last one, UTC")

    @model_validator(mode="after")
    def _baseline_is_of_the_same_rows(self) -> Self:
        _check_baseline("", self.baseline_f1_buy, self.buy_rate)
        for fold in self.folds:
            _check_baseline(f"fold {fold.number}: ", fold.baseline_f1_buy, fold.buy_rate)
        return self

    @model_validator(mode="after")
    def _shares_are_of_trades(self) -> Self:
        shares = {name: getattr(self, name) for name in ("tp_pct", "sl_pct", "timeout_pct")}
        known = [share for share in shares.values() if share is not None]
        if len(known) != (len(shares) if self.n_trades else 0):
            raise ValueError(
                f"{self.n_trades} trades and {shares}: shares are numbers when there are trades, else None"
            )
        if sum(known) > 1 + _NOISE:
            raise ValueError(f"{shares} are more than all trades: give shares of 1")
        return self

    @model_validator(mode="after")
    def _counts_of_a_complete_run(self) -> Self:
        counts = (self.screened, self.eligible, self.tested, self.passed, self.refusals)
        if all(count is None for count in counts):
            return self
        if self.screened is None or self.eligible is None or self.tested is None or self.passed is None:
            raise ValueError("screened, eligible, tested, passed and refusals: all of a complete run, or None each")
        if self.refusals is None:
            raise ValueError("refusals is None and a complete run has them: give {} when every candidate passed")
        if not self.passed <= self.tested <= self.screened or not self.eligible <= self.screened:
            raise ValueError(
                f"screened {self.screened}, eligible {self.eligible}, tested {self.tested}, passed {self.passed}: "
                "each is a part of screened, and passed of tested"
            )
        _check_refusals(self.refusals, self.tested - self.passed)
        return self

    @model_validator(mode="after")
    def _names_and_order(self) -> Self:
        names = [gate.name for gate in self.gates]
        if len(set(names)) < len(names):
            raise ValueError(f"gates are named twice: {names}")
        if [fold.number for fold in self.folds] != list(range(1, len(self.folds) + 1)):
            raise ValueError(
                f"folds are numbered {[fold.number for fold in self.folds]}: expected 1, 2, …, oldest first"
            )
        for name, (low, high) in self.intervals.items():
            if name not in type(self).model_fields:
                raise ValueError(f"intervals: {name} is no field of the record")
            if (low is None) != (high is None) or (low is not None and high is not None and low > high):
                raise ValueError(f"intervals: {name} is [{low}, {high}]: expected low, then high, or None twice")
        if self.data_from >= self.data_until:
            raise ValueError(f"data_from {self.data_from} is not before data_until {self.data_until}")
        return self

    @property
    def f1_buy_delta(self) -> float:
        """How far f1_buy lies above always saying BUY; 0.05 are 5 points."""
        return self.f1_buy - self.baseline_f1_buy

    @property
    def screening_gap(self) -> float | None:
        """How much better the screening's recipe was on the newest test period; None when either is unknown."""
        if self.screening_f1_buy is None or self.last_fold_f1_buy is None:
            return None
        return self.screening_f1_buy - self.last_fold_f1_buy

    @property
    def execution(self) -> PTE:
        """The trade execution parameters."""
        return PTE.parse(self.pte)

    @property
    def is_simulated(self) -> bool:
        """Whether it was made on the simulated market: it is shown as such, and can never be in charge."""
        return self.market == "simulated"

    @property
    def passes(self) -> bool:
        """Whether the candidate passed every gate."""
        return all(gate.passed for gate in self.gates)

    @property
    def refusing(self) -> tuple[str, ...]:
        """The gates that refused the candidate."""
        return tuple(gate.name for gate in self.gates if not gate.passed)

    def to_record(self) -> dict[str, Any]:
        """The record as JSON takes it; `from_record` is the way back."""
        record: dict[str, Any] = self.model_dump(mode="json")
        return record


AnyRecord: TypeAlias = CorrelationData[Any]


def from_record(record: Mapping[str, Any] | str | bytes, crypto: C) -> CorrelationData[C]:
    """Read a record back as exactly what it was.

    Args:
        record: JSON text, or what it stands for.
        crypto: the crypto whose record this must be.

    Raises:
        RecordError: it is no JSON object, of another crypto, of another schema version, or not valid.
    """
    found = _with_pods(_as_mapping(record))
    version = found.get("schema_version")
    if type(version) is not int or version != SCHEMA_VERSION:
        raise RecordError(_wrong_version(version))
    if found.get("crypto") != crypto:
        raise RecordError(
            f"this record is of {found.get('crypto')!r} and not of {crypto!r}: records of two cryptos are never mixed"
        )
    try:
        return CorrelationData.model_validate_json(json.dumps(found))
    except ValidationError as error:
        raise RecordError(_in_words(error)) from None


def _with_pods(found: dict[str, Any]) -> dict[str, Any]:
    """A record of version 1 as one of version 2: nobody counted the pods of runs then."""
    if found.get("schema_version") != 1 or isinstance(found["schema_version"], bool):
        return found
    platform = found.get("platform")
    if isinstance(platform, dict) and "pods_lost" in platform:
        return found
    return {**found, "schema_version": SCHEMA_VERSION}


def _as_mapping(record: Mapping[str, Any] | str | bytes) -> dict[str, Any]:
    if isinstance(record, Mapping):
        return dict(record)
    try:
        found = json.loads(record)
    except ValueError as error:
        raise RecordError(f"this record is no JSON ({error}): evaluate again") from None
    if not isinstance(found, dict):
        raise RecordError(f"this record is a JSON {type(found).__name__}, expected an object: evaluate again")
    return found


def _wrong_version(version: object) -> str:
    if isinstance(version, int) and version > SCHEMA_VERSION:
        return (
            f"this record has schema version {version}, and this code knows none after {SCHEMA_VERSION}: newer code "
            "wrote it; install that code, or evaluate again with this one"
        )
    return f"this record has schema version {version!r}, expected {SCHEMA_VERSION}: evaluate again"


def _in_words(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False)
    unknown = [".".join(map(str, each["loc"])) for each in found if each["type"] == "extra_forbidden"]
    if unknown:
        return (
            f"this record has {', '.join(unknown)}, which schema version {SCHEMA_VERSION} does not know: other code "
            "wrote it; install that code, or evaluate again with this one"
        )
    wrong = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'record'}: {each['msg']}" for each in found)
    return f"this record is not valid ({wrong}): evaluate again"


def _check_baseline(where: str, baseline: float, buy_rate: float) -> None:
    """No F1 stands beside the baseline of other rows."""
    expected = 2 * buy_rate / (1 + buy_rate)
    if abs(baseline - expected) > _NOISE:
        raise ValueError(
            f"{where}baseline_f1_buy is {baseline} and buy_rate {buy_rate} makes it {expected}: take both from "
            "the same rows"
        )


def _check_refusals(refusals: Mapping[str, int], not_passed: int) -> None:
    """Each candidate that did not pass was refused by a gate, and no other was."""
    if max(refusals.values(), default=0) > not_passed or sum(refusals.values()) < not_passed:
        raise ValueError(f"refusals are {dict(refusals)} and {not_passed} of the tested candidates did not pass")
