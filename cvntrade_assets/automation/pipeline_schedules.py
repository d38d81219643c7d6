"""Schedules of the pipelines: one run for every crypto of the universe; operators turn them on."""

from collections.abc import Iterator

import dagster as dg

from cvntrade_assets.automation.jobs import PIPELINE_JOBS
from cvntrade_assets.operations.sessions import SESSION_TAG
from cvntrade_assets.partitions import CRYPTO
from resources.warehouse import Warehouse

# UTC. A retrain tests its candidates on nearly the windows of the one before, and every such test deflates the
# Sharpe ratios of the next: so it comes once a week, between two discoveries.
CRON = {
    "discovery": "0 1 * * 0",
    "retrain": "0 1 * * 3",
    "monitoring": "0 5 * * *",
}


def _schedule(pipeline: str, cron: str) -> dg.ScheduleDefinition:
    @dg.schedule(
        name=f"{pipeline}_of_the_universe",
        job=PIPELINE_JOBS[pipeline],
        cron_schedule=cron,
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=f"Starts {pipeline} for every crypto of cvntrade_universes, one run each.",
    )
    def start(
        context: dg.ScheduleEvaluationContext, warehouse: dg.ResourceParam[Warehouse]
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        cryptos = sorted({crypto for members in warehouse.universes().values() for crypto in members})
        if not cryptos:
            yield dg.SkipReason("cvntrade_universes names no crypto: `cvntrade universe set GROUP CRYPTO…`")
        # One that joined the universe a moment ago may not be a partition yet.
        context.instance.add_dynamic_partitions(str(CRYPTO.name), cryptos)
        # Dagster starts nothing twice under one run key, for ever: the moment makes it this tick's own.
        session = f"{pipeline}-{context.scheduled_execution_time:%Y-%m-%dT%H:%MZ}"
        for crypto in cryptos:
            yield dg.RunRequest(run_key=f"{session}-{crypto}", partition_key=crypto, tags={SESSION_TAG: session})

    return start


PIPELINE_SCHEDULES = tuple(_schedule(pipeline, cron) for pipeline, cron in CRON.items())
