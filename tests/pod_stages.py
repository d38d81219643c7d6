"""A job whose stage works until it is interrupted, for a run in a process of its own, and a job of named stages."""

import os
import time
from pathlib import Path

import dagster as dg
from dagster_on_postgres import CRYPTOS

from cvntrade_assets.operations.run_pods import pool_of

AT_WORK = "TEST_FOLDER_OF_WORK"
"""Environment variable that names the folder where `candles` says that it is at work."""

NAMES = ("features", "drift", "walk_forward", "screening_matrix")


@dg.asset(partitions_def=CRYPTOS)
def model(context: dg.AssetExecutionContext) -> None:
    """Says that it is at work, and does not end by itself for long."""
    context.log.info("at work")
    time.sleep(120)


@dg.asset(partitions_def=CRYPTOS, pool=pool_of("candles"))
def candles(context: dg.AssetExecutionContext) -> None:
    """Is at work until it is told to go on."""
    folder = Path(os.environ[AT_WORK])
    (folder / f"{context.partition_key}.at-work").touch()
    deadline = time.monotonic() + 120
    while not (folder / "go").exists() and time.monotonic() < deadline:
        time.sleep(0.1)


def named(name: str) -> dg.AssetsDefinition:
    """A stage of the product's name."""

    @dg.asset(name=name, partitions_def=CRYPTOS)
    def stage() -> None: ...

    return stage


def training() -> dg.JobDefinition:
    """A job of the one stage that works."""
    return _job("training", model)


def fetching() -> dg.JobDefinition:
    """A job of the one stage that asks the exchange."""
    return _job("fetching", candles)


def everything() -> dg.JobDefinition:
    """A job of several stages, some of which a run selects."""
    return _job("everything", model, candles, *(named(name) for name in NAMES))


def _job(name: str, *assets: dg.AssetsDefinition) -> dg.JobDefinition:
    job = dg.define_asset_job(name, selection=dg.AssetSelection.all())
    return dg.Definitions(assets=list(assets), jobs=[job], executor=dg.in_process_executor).resolve_job_def(name)
