"""Golden signals: how a crypto stands, signal by signal, each a check that is red or green."""

import warnings

import dagster as dg
import pandas as pd

from cvntrade_assets.partitions import CRYPTO
from resources.signal_store import read_now
from resources.signal_verdicts import CRYPTO_SIGNALS, GOLDEN_SIGNALS, crypto_page, crypto_verdicts, spec_texts


def _specs() -> list[dg.AssetCheckSpec]:
    with warnings.catch_warnings():
        # Checks on partitions are new in Dagster; the README says so among the limits.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        return [
            dg.AssetCheckSpec(name, asset=GOLDEN_SIGNALS, partitions_def=CRYPTO, description=meaning)
            for name, meaning in spec_texts(CRYPTO_SIGNALS).items()
        ]


# Dagster recognises the bare class only, once an asset judges itself.
@dg.asset(
    name=GOLDEN_SIGNALS,
    partitions_def=CRYPTO,
    code_version="1",
    group_name="operations",
    owners=["team:mlops-maintainer"],
    kinds={"postgres"},
    required_resource_keys={"run_settings", "warehouse"},
    check_specs=_specs(),
)
def golden_signals(context: dg.AssetExecutionContext) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """The signals of one crypto, as the sensor `golden_signals_watch` last observed them; it shows changes by itself.

    Materialising shows what is stored now. An observation that is too old says nothing, and is unknown.
    """
    crypto, settings, now = context.partition_key, context.resources.run_settings, pd.Timestamp.now("UTC")
    counted = [each.counted(now, settings) for each in read_now(context.resources.warehouse) if each.subject == crypto]
    return dg.MaterializeResult(
        metadata=crypto_page(counted, crypto, settings.text("CVN_MARKET")),
        check_results=[verdict.result() for verdict in crypto_verdicts(counted, crypto)],
    )
