"""The one partition dimension: the crypto. Its keys are synced from the table `cvntrade_universes`."""

import dagster as dg

CRYPTO = dg.DynamicPartitionsDefinition(name="crypto")
