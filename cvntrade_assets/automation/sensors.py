"""Sensors: keep the crypto partitions in step with the table `cvntrade_universes`, and watch over runs."""

import dagster as dg

from cvntrade_assets.automation.alert_delivery import alert_delivery
from cvntrade_assets.automation.alert_sources import alert_sources
from cvntrade_assets.automation.freshness_watch import freshness_watch
from cvntrade_assets.automation.golden_signals import golden_signals_watch
from cvntrade_assets.automation.pools import sync_pools
from cvntrade_assets.automation.refresh_stale import refresh_stale_cryptos
from cvntrade_assets.automation.run_watch import run_watch
from cvntrade_assets.partitions import CRYPTO
from resources.warehouse import Warehouse


@dg.sensor(
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Adds a partition for every crypto of cvntrade_universes and removes those that left it.",
)
def sync_universe(
    context: dg.SensorEvaluationContext, warehouse: dg.ResourceParam[Warehouse]
) -> dg.SensorResult | dg.SkipReason:
    """Make the partitions what the table says; the history of a crypto that left stays in the event log."""
    assert CRYPTO.name is not None
    wanted = {crypto for members in warehouse.universes().values() for crypto in members}
    known = set(context.instance.get_dynamic_partitions(CRYPTO.name))
    requests: list[dg.AddDynamicPartitionsRequest | dg.DeleteDynamicPartitionsRequest] = []
    if added := sorted(wanted - known):
        requests.append(CRYPTO.build_add_request(added))
    if gone := sorted(known - wanted):
        requests.append(CRYPTO.build_delete_request(gone))
    if not requests:
        return dg.SkipReason(f"{len(known)} cryptos, as cvntrade_universes says")
    return dg.SensorResult(dynamic_partitions_requests=requests)


SENSORS = (
    sync_universe,
    sync_pools,
    run_watch,
    golden_signals_watch,
    freshness_watch,
    refresh_stale_cryptos,
    alert_sources,
    alert_delivery,
)
