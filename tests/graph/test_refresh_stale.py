"""A stale crypto starts its own refresh: real ticks of the sensor, and real runs of what they ask for."""

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from services import Graph, make_graph
from spoilt_market import materialised, price_below_zero, refusal, spoil_market

from cvntrade_assets.automation import refresh_stale
from cvntrade_assets.automation.refresh_stale import refresh_stale_cryptos
from cvntrade_assets.automation.sensors import SENSORS
from cvntrade_assets.definitions import build_defs
from cvntrade_assets.operations.pipelines import PIPELINES
from cvntrade_assets.operations.signals import Level, Observation
from resources.signal_store import store
from resources.tracking import TrackingResource
from resources.warehouse import WarehouseError
from resources.warehouse_resource import WarehouseResource

BTC, ETH, SOL, XRP = CRYPTOS = ("BTCUSDC", "ETHUSDC", "SOLUSDC", "XRPUSDC")
CANDLES = {"candles", "backtest_candles"}
RETRAIN = set(PIPELINES["retrain"].assets)
CRITICAL, WARNING, OK, UNKNOWN = Level.CRITICAL, Level.WARNING, Level.OK, Level.UNKNOWN

Asked = dict[str, set[str]]


@dataclass
class Place:
    """A graph, what its signals say, and the sensor's ticks."""

    graph: Graph
    cursor: str | None = None
    levels: dict[tuple[str, str], Level] = field(default_factory=dict)

    def see(self, level: Level, crypto: str = BTC, signal: str = "candle_freshness", age: str = "0s") -> None:
        """A look at the signals finds one of them otherwise, and the others as they were."""
        self.levels[signal, crypto] = level
        now = pd.Timestamp.now("UTC") - pd.Timedelta(age)
        rows = [
            Observation(name, subject, None if each is UNKNOWN else 1.0, each, "seeded", now)
            for (name, subject), each in self.levels.items()
        ]
        with self.graph.warehouse.begin() as connection:
            store(connection, rows)

    def tick(self) -> Asked:
        """What one tick asks for: by crypto, the assets of its one run."""
        context = dg.build_sensor_context(
            instance=self.graph.instance,
            cursor=self.cursor,
            repository_def=self.graph.defs.get_repository_def(),
        )
        data = refresh_stale_cryptos.evaluate_tick(context)
        self.cursor = data.cursor
        requests = data.run_requests or []
        assert len({request.partition_key for request in requests}) == len(requests), "one run a crypto"
        return {str(each.partition_key): _names(each.asset_selection or ()) for each in requests}


def _names(keys: Iterable[dg.AssetKey]) -> set[str]:
    return {key.to_user_string() for key in keys}


@pytest.fixture
def place(tmp_path: Path, warehouse_url: str, mlflow_store: Path) -> Iterator[Place]:
    graph = make_graph(tmp_path, warehouse_url, cryptos=CRYPTOS, mlflow_store=mlflow_store)
    with closing(graph.warehouse), graph.instance:
        with graph.warehouse.begin() as connection:
            connection.exec_driver_sql("truncate signals_now, signal_points")
        yield Place(graph)


def test_it_is_off_until_somebody_turns_the_one_switch() -> None:
    assert refresh_stale_cryptos.default_status is dg.DefaultSensorStatus.STOPPED
    [only] = [each for each in SENSORS if isinstance(each, dg.AutomationConditionSensorDefinition)]
    assert only is refresh_stale_cryptos


def test_every_asset_with_a_condition_belongs_to_that_sensor(place: Place) -> None:
    graph = place.graph.defs.resolve_asset_graph()
    conditioned = {key for key in graph.get_all_asset_keys() if graph.get(key).automation_condition is not None}
    assert conditioned == refresh_stale_cryptos.asset_selection.resolve(graph)
    # Else Dagster would make a sensor of its own for the rest, which could be turned on beside this one.
    names = [each.name for each in place.graph.defs.get_repository_def().sensor_defs]
    assert not [name for name in names if name.startswith("default_automation")]


def test_a_crypto_with_stale_candles_is_asked_for_once(place: Place) -> None:
    place.see(CRITICAL, BTC)
    place.see(WARNING, ETH)
    place.see(UNKNOWN, SOL)
    place.see(OK, XRP)
    assert place.tick() == {BTC: CANDLES}
    assert [place.tick() for _ in range(5)] == [{}] * 5


def test_a_crypto_with_an_old_model_is_trained_anew_in_one_run(place: Place) -> None:
    place.see(CRITICAL, BTC, "model_overdue")
    place.see(CRITICAL, ETH)
    # Both at once are one run still.
    place.see(CRITICAL, SOL)
    place.see(CRITICAL, SOL, "model_overdue")
    assert place.tick() == {BTC: RETRAIN, ETH: CANDLES, SOL: RETRAIN}
    assert place.tick() == {}


def test_no_other_signal_starts_anything(place: Place) -> None:
    for signal in ("model_freshness", "sortino", "drift"):
        place.see(CRITICAL, BTC, signal)
    assert place.tick() == {}


def test_what_it_asks_for_builds_it_and_it_is_asked_for_again_the_next_time(place: Place) -> None:
    place.see(CRITICAL)
    [(crypto, assets)] = place.tick().items()
    assert place.graph.run(crypto, assets).success
    place.see(OK)
    assert place.tick() == {}
    place.see(CRITICAL)
    assert place.tick() == {BTC: CANDLES}
    assert place.tick() == {}


def test_a_refresh_that_fails_is_not_started_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.see(CRITICAL)
    [(crypto, assets)] = place.tick().items()
    spoil_market(monkeypatch, price_below_zero)
    assert not place.graph.run(crypto, assets).success
    for _ in range(10):
        place.see(CRITICAL)
        assert place.tick() == {}


@pytest.mark.parametrize("between", [UNKNOWN, WARNING])
def test_only_what_was_seen_fresh_can_become_stale_again(place: Place, between: Level) -> None:
    place.see(CRITICAL)
    assert place.tick() == {BTC: CANDLES}
    place.see(between)
    assert place.tick() == {}
    place.see(CRITICAL)
    assert place.tick() == ({} if between is UNKNOWN else {BTC: CANDLES})


def test_signals_that_were_not_observed_lately_say_nothing(place: Place) -> None:
    place.see(CRITICAL, age="16min")
    assert place.tick() == {}
    place.see(CRITICAL, age="14min")
    assert place.tick() == {BTC: CANDLES}


def test_a_switch_that_was_off_knows_what_it_missed(place: Place) -> None:
    place.see(CRITICAL, BTC)
    place.see(CRITICAL, ETH)
    assert place.tick() == {BTC: CANDLES, ETH: CANDLES}
    # Nobody ticks meanwhile: one of them was fresh for a while, the other never.
    place.see(OK, BTC)
    place.see(CRITICAL, BTC)
    assert place.tick() == {BTC: CANDLES}


def test_one_that_left_the_universe_is_not_asked_for(place: Place) -> None:
    place.see(CRITICAL, "DOGEUSDC")
    place.see(CRITICAL, ETH)
    assert place.tick() == {ETH: CANDLES}


def test_nothing_is_built_upon_a_failed_blocking_check(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.see(CRITICAL, BTC, "model_overdue")
    [(crypto, assets)] = place.tick().items()
    spoil_market(monkeypatch, price_below_zero)
    assert materialised(place.graph.run(crypto, assets)) == CANDLES
    # The gate holds what failed, whoever asks.
    monkeypatch.undo()
    later = place.graph.run(crypto, assets - CANDLES)
    assert "prices must be positive" in refusal(later, "features")
    assert place.tick() == {}


def test_a_retrain_runs_in_order_and_is_refused_what_was_never_screened(place: Place) -> None:
    place.see(CRITICAL, BTC, "model_overdue")
    [(crypto, assets)] = place.tick().items()
    result = place.graph.run(crypto, assets)
    made = [event.materialization.asset_key.to_user_string() for event in result.get_asset_materialization_events()]
    assert set(made) == {"candles", "backtest_candles", "features"} and made[-1] == "features"
    assert "screening_matrix of BTCUSDC was never built" in refusal(result, "walk_forward")
    assert [place.tick() for _ in range(3)] == [{}] * 3


def test_signals_that_cannot_be_read_fail_the_tick(tmp_path: Path, place: Place) -> None:
    nowhere = WarehouseResource(url="postgresql+psycopg2://cvntrade:secret@127.0.0.1:1/none")
    tracking = TrackingResource(uri=f"sqlite:///{tmp_path / 'none.db'}", ui_url="http://127.0.0.1:3000")
    blind = build_defs({"warehouse": nowhere, "tracking": tracking}).get_repository_def()
    context = dg.build_sensor_context(instance=place.graph.instance, repository_def=blind)
    with pytest.raises(Exception, match="Error while evaluating conditions") as raised:
        refresh_stale_cryptos.evaluate_tick(context)
    assert isinstance(raised.value.__cause__, WarehouseError)
    assert "secret" not in str(raised.value.__cause__)


def test_a_tick_asks_the_database_once_however_many_assets_and_cryptos(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = [f"C{number:03}USDC" for number in range(200)]
    place.graph.instance.add_dynamic_partitions("crypto", many)
    place.levels.update({("candle_freshness", crypto): CRITICAL for crypto in many})
    place.see(CRITICAL)
    looks, real = [], refresh_stale.stale_cryptos

    def counted(*asked: object) -> object:
        looks.append(asked)
        return real(*asked)  # type: ignore[arg-type]

    monkeypatch.setattr(refresh_stale, "stale_cryptos", counted)
    assert place.tick() == dict.fromkeys((BTC, *many), CANDLES)
    assert len(looks) == 1
    assert place.tick() == {} and len(looks) == 2


def test_dagsters_own_evaluation_agrees(place: Place) -> None:
    place.see(CRITICAL, BTC, "model_overdue")
    first = dg.evaluate_automation_conditions(place.graph.defs, place.graph.instance)
    assert first.total_requested == len(RETRAIN)
    assert all(first.get_requested_partitions(dg.AssetKey(name)) == {BTC} for name in RETRAIN)
    again = dg.evaluate_automation_conditions(place.graph.defs, place.graph.instance, cursor=first.cursor)
    assert again.total_requested == 0
