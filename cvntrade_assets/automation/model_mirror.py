"""Shows in MLflow what it did not show when it was decided, until it does."""

import dagster as dg

from resources.model_mirror import mirror_pending
from resources.registry import unmirrored
from resources.warehouse import Warehouse


@dg.op(
    description="Has MLflow show every model that it does not show as our registry has it.",
    required_resource_keys={"io_manager", "warehouse", "tracking"},
)
def mirror_registry(context: dg.OpExecutionContext) -> None:
    """Try once; what MLflow does not take waits for the next time."""
    resources = context.resources
    report = mirror_pending(resources.warehouse, resources.io_manager.store, resources.tracking.mirror)
    for model, why in report.waiting:
        context.log.warning(f"{model.name} waits: {why}")
    shown, waiting = [model.name for model in report.shown], [model.name for model, _ in report.waiting]
    context.add_output_metadata(
        {"shown": dg.MetadataValue.json(shown), "still_waiting": dg.MetadataValue.json(waiting)}
    )


@dg.job(description="Mirror our registry of models to MLflow; runs while something is not mirrored.")
def mirror_models() -> None:
    """One step: show what is not shown yet."""
    mirror_registry()


@dg.schedule(
    job=mirror_models,
    cron_schedule="*/15 * * * *",
    execution_timezone="UTC",
    default_status=dg.DefaultScheduleStatus.RUNNING,
)
def mirror_models_schedule(warehouse: dg.ResourceParam[Warehouse]) -> dg.RunRequest | dg.SkipReason:
    """A run when there is something to show, so that a healthy day has none."""
    waiting = [model.name for model in unmirrored(warehouse)]
    if not waiting:
        return dg.SkipReason("MLflow shows every model as it is registered")
    return dg.RunRequest()
