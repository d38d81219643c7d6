"""What assets are partitioned by: the crypto, synced from the table `cvntrade_universes`; for a rollout, the factor."""

import dagster as dg

from cvntrade_assets.operations.factors import FACTORS

CRYPTO = dg.DynamicPartitionsDefinition(name="crypto")
FACTOR = dg.StaticPartitionsDefinition(list(FACTORS))
