"""The staged rollout of a factor: says which stage was run, and gives back what stood before it."""

import dagster as dg

from cvntrade_assets.operations.rollout import RolloutStage
from cvntrade_assets.partitions import FACTOR
from resources.rollouts import stage_runs, stood_before


class RolloutConfig(dg.Config):
    """Which stage of which rollout."""

    rollout: str
    stage: str
    group: str
    variants: list[str]


@dg.asset(
    partitions_def=FACTOR,
    group_name="operations",
    owners=["team:mlops-maintainer"],
    kinds={"postgres"},
)
def rollout(context: dg.AssetExecutionContext, config: RolloutConfig) -> dg.MaterializeResult[None]:
    """One stage of a factor's staged rollout, whose gate is a check beside it; `cvntrade rollout` builds it.

    The stage's runs have built versions with a variant. What was current before them is made current again, so that
    a trial leaves nothing behind that the next stage of the chain would build on.
    """
    stage = RolloutStage(config.stage)
    runs = stage_runs(context.instance, config.rollout, stage)
    before = stood_before(context.instance, runs)
    for materialized in before:
        context.log_event(materialized)
        context.log.info(f"{materialized.asset_key.to_user_string()} of {materialized.partition} is what it was before")
    return dg.MaterializeResult(
        metadata={
            "rollout": config.rollout,
            "stage": str(stage),
            "group": config.group,
            "variants": dg.MetadataValue.json(config.variants),
            "runs": dg.MetadataValue.json([run.run_id for run in runs if run.run_id != context.run.run_id]),
            "current_again": len(before),
        }
    )
