"""Model health: how the registered models of one crypto do on candles that they have never seen."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd

from cvntrade_assets.assets.page import picture
from cvntrade_assets.learning.from_settings import execution
from cvntrade_assets.market.candles import timeframe_delta
from cvntrade_assets.market.history import CandleHistory
from cvntrade_assets.market.shown import shown_market
from cvntrade_assets.operations.lifecycle import ModelState
from cvntrade_assets.partitions import CRYPTO
from cvntrade_assets.settings import Settings
from cvntrade_assets.trading.pte import PTE
from resources.artifacts import Artifact, ArtifactError
from resources.model_mirror import MODEL_FILE, model_files
from resources.registry import ModelVersion, models

if TYPE_CHECKING:
    from cvntrade_assets.learning.model_health import Examined, Unseen

_ASSET = "model_health"
_WATCHED = (ModelState.CHAMPION, ModelState.CHALLENGER)
_DAY = pd.Timedelta(days=1)

_INTACT, _BETTER = "models_are_those_registered", "better_than_always_buy"
_CHECKS = {
    _INTACT: "Every registered model's file is there, byte for byte",
    _BETTER: "No model does worse than always saying BUY",
}


def _specs() -> list[dg.AssetCheckSpec]:
    with warnings.catch_warnings():
        # Checks on partitions are new in Dagster; the README says so among the limits.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return [
            dg.AssetCheckSpec(name, asset=_ASSET, partitions_def=CRYPTO, description=meaning)
            for name, meaning in _CHECKS.items()
        ]


@dataclass(frozen=True)
class Looked:
    """One registered model, looked at.

    Attributes:
        model: The model.
        age: How long before the newest candle's close its data end, those that it was judged on too.
        broken: Why its files cannot be believed; then nothing was asked of it.
        examined: What was found.
    """

    model: ModelVersion
    age: pd.Timedelta
    broken: str | None = None
    examined: "Examined | None" = None

    def told(self) -> dict[str, Any]:
        """As the asset's page and the command line show it; None is undefined or too little to say."""
        identity = {
            "name": self.model.name,
            "number": self.model.number,
            "state": str(self.model.state),
            "pte": self.model.pte,
            "market": self.model.market,
            "fitted_until": pd.Timestamp(self.model.fitted_until).isoformat(),
            "data_until": pd.Timestamp(self.model.data_until).isoformat(),
            "age_days": round(self.age / _DAY, 3),
        }
        if self.examined is None:
            return {**identity, "notes": [str(self.broken)]}
        return {**identity, **self.examined.health.flat()}


# Dagster recognises the bare class only, once an asset judges itself.
@dg.asset(
    name=_ASSET,
    ins={name: dg.AssetIn(dagster_type=dg.Any) for name in ("candles", "backtest_candles")},
    partitions_def=CRYPTO,
    code_version="1",
    group_name="operations",
    owners=["team:ml-owner"],
    kinds={"postgres", "xgboost"},
    required_resource_keys={"run_settings", "warehouse", "io_manager"},
    check_specs=_specs(),
)
def model_health(
    context: dg.AssetExecutionContext, candles: Artifact[CandleHistory], backtest_candles: Artifact[CandleHistory]
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """The crypto's champion and challengers on candles that closed after everything that they were judged on.

    Each model is read as it is registered, checksum compared; features are computed anew; F1 stands beside always-BUY.
    Where there are too few candles or trades to say anything, nothing is said, and why. A crypto without a registered
    model is none that is ill.
    """
    crypto, settings = context.partition_key, context.resources.run_settings
    registered = models(context.resources.warehouse, [crypto], _WATCHED, candles.market)
    looked = _look(context, settings, registered, candles, backtest_candles) if registered else []
    told = _sentence(crypto, candles.market, looked)
    context.log.info(told)
    return dg.MaterializeResult(
        metadata={
            "health": told,
            "market": shown_market(candles.market),
            "models": dg.MetadataValue.json([each.told() for each in looked]),
            **dict(_pictures(looked)),
        },
        check_results=[_judge_intact(looked), _judge_better(looked)],
    )


def _look(
    context: dg.AssetExecutionContext,
    settings: Settings,
    registered: Sequence[ModelVersion],
    candles: Artifact[CandleHistory],
    fine: Artifact[CandleHistory],
) -> list[Looked]:
    from cvntrade_assets.learning.features import compute_features
    from cvntrade_assets.learning.model_health import Unseen

    # What the candles say of themselves: this run's settings may be others than those they were fetched with.
    timeframe, fine_timeframe = (str(each.manifest.summary["timeframe"]) for each in (candles, fine))
    history, interval = candles.load().candles, timeframe_delta(timeframe)
    features, now = compute_features(history), history.index[-1] + interval
    looked = []
    for model in registered:
        context.log.info(f"looking at {model.name}")
        since = pd.Timestamp(model.data_until)
        unseen = Unseen(history, features, fine.load().candles, since, interval, timeframe_delta(fine_timeframe))
        looked.append(_look_at(context, settings, model, unseen, now))
    return looked


def _look_at(
    context: dg.AssetExecutionContext, settings: Settings, model: ModelVersion, unseen: "Unseen", now: pd.Timestamp
) -> Looked:
    from cvntrade_assets.learning.model_health import examine

    store, age = context.resources.io_manager.store, now - pd.Timestamp(model.data_until)
    try:
        rolling = store.require("rolling_backtest", model.crypto, model.rolling_version)
        _require_registered_bytes(rolling, model)
        rolled = next(each for each in rolling.load() if str(each.pte) == model.pte)
    except ArtifactError as error:
        return Looked(model, age, broken=str(error))
    learnt_on = rolling.manifest.provenance.lineage["CVN_TIMEFRAME"]
    if timeframe_delta(learnt_on) != unseen.interval:
        raise dg.Failure(
            f"{model.name} learnt on {learnt_on} candles, and those of {model.crypto} are of {unseen.interval}: fetch "
            f"them with `cvntrade monitoring --crypto {model.crypto} --set CVN_TIMEFRAME={learnt_on}`.",
            allow_retries=False,
        )
    examined = examine(rolled.last, PTE.parse(model.pte), unseen, execution(settings))
    return Looked(model, age, examined=examined)


def _require_registered_bytes(rolling: Artifact[Any], model: ModelVersion) -> None:
    """ArtifactError when the model's file is not the one that was registered."""
    file = model_files(rolling, model.pte)[MODEL_FILE]
    found = rolling.manifest.files[file.name]
    if found != model.model_sha256:
        raise ArtifactError(
            f"{file} has sha256 {found}, and {model.name} is registered with {model.model_sha256}: it is not the model "
            "that was judged. Find out who replaced it; nothing was asked of it."
        )


def _sentence(crypto: str, market: str, looked: Sequence[Looked]) -> str:
    if not looked:
        states = " or ".join(str(state) for state in _WATCHED)
        return f"no {states} of {crypto} is registered on the market {market}: nothing to look at"
    broken = [each.model.name for each in looked if each.broken]
    names = ", ".join(each.model.name for each in looked)
    return f"looked at {names}" + (f"; not as registered: {', '.join(broken)}" if broken else "")


def _judge_intact(looked: Sequence[Looked]) -> dg.AssetCheckResult:
    broken = [each.broken for each in looked if each.broken]
    said = "; ".join(broken) or ("every file is the one registered" if looked else "no model is registered")
    return dg.AssetCheckResult(check_name=_INTACT, passed=not broken, description=said)


def _judge_better(looked: Sequence[Looked]) -> dg.AssetCheckResult:
    """A warning only: a short window says little, and what to do is decided by people."""
    worse, unknown = [], []
    for each in looked:
        found = None if each.examined is None else each.examined.health.scores
        if found is None:
            unknown.append(each.model.name)
        elif found.f1_buy <= found.baseline_f1_buy:
            worse.append(f"{each.model.name}: {found.f1_buy:.3f}, always-BUY {found.baseline_f1_buy:.3f}")
    said = [*(f"not better than always-BUY: {text}" for text in worse), *(f"unknown: {name}" for name in unknown)]
    return dg.AssetCheckResult(
        check_name=_BETTER,
        # What cannot be said is not fine.
        passed=not worse and not unknown,
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(said) or ("every model is better" if looked else "no model is registered"),
    )


def _pictures(looked: Sequence[Looked]) -> Iterator[tuple[str, dg.MetadataValue[Any]]]:
    """Numbers that the UI plots over time, and a reliability diagram, of every model that has them."""
    from cvntrade_assets.learning.plots import reliability_diagram

    for each in looked:
        prefix = f"model_{each.model.number}"
        told = each.told()
        for name in ("f1_buy", "baseline_f1_buy", "sortino", "age_days"):
            if told.get(name) is not None:
                yield f"{prefix}_{name}", dg.MetadataValue.float(told[name])
        if each.examined is not None and each.examined.health.scores is not None:
            rows, model = each.examined.rows, each.model
            truth = (rows["label"] == 1).astype("int8")
            png = reliability_diagram(
                truth, rows["score"], rows["probability"], crypto=model.crypto, market=model.market
            )
            yield f"{prefix}_reliability", dg.MetadataValue.md(picture("reliability", png))
