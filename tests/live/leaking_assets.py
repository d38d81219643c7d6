"""Assets that tell every secret they know, beside the product's own; run as a program, `cvntrade up` that serves them.

Those in LEAKED the mask knows, because they stand in the environment. Others are made up on the spot, and only the name
beside them says what they are.
"""

import logging
import os
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import replace

import dagster as dg

import resources.dagster_storage
from cvntrade_assets.definitions import build_defs
from cvntrade_assets.operations.masking import Mask
from cvntrade_assets.partitions import CRYPTO
from resources.tracking import Tracking

LEAKED = (
    "CVN_PG_PASSWORD",
    "CVN_WAREHOUSE_URL",
    "CVN_EXCHANGE_API_KEY",
    "CVN_ALERT_WEBHOOK_URL",
    "CVN_ALERT_URL",
    "CVN_AWKWARD_SECRET",
    "MLFLOW_TRACKING_PASSWORD",
)
# Holds the end of the made-up ones, backwards, so that no mask can know them.
UNNAMED = "CVN_TEST_CANARY_PARTS"


def leaked() -> str:
    """All that a run can know, in one text."""
    return " ".join(os.environ[name] for name in LEAKED)


def made_up(place: str) -> str:
    """A canary that no variable holds: only the name beside it says that it is a secret."""
    return f"canary-{place}-" + os.environ[UNNAMED][::-1]


@dg.asset(partitions_def=CRYPTO, required_resource_keys={"tracking"})
def telling(context: dg.AssetExecutionContext) -> None:
    """Says everything everywhere."""
    print("printed", leaked())  # noqa: T201
    os.write(2, f"written {leaked()}\n".encode())
    subprocess.run([sys.executable, "-c", f"import os; print('child', os.environ['{LEAKED[0]}'])"], check=True)
    print(f"password={made_up('print')}", file=sys.stderr)  # noqa: T201
    logging.getLogger("leaking").warning("logged %s", leaked())
    warnings.warn(f"warned {leaked()}", stacklevel=1)
    context.log.info(f"told {leaked()} and api_key={made_up('log')}")
    context.log.error("told as JSON %r", {"my-token": made_up("repr"), "all": leaked()})
    context.instance.add_run_tags(context.run_id, {"my-token": made_up("tag"), "note": f"see {leaked()}"})
    context.add_output_metadata(
        {
            "note": leaked(),
            "client_secret": made_up("metadata"),
            "link": dg.MetadataValue.url(f"https://me:{made_up('link')}@example.invalid/x"),
            "table": dg.MetadataValue.json({"rows": [leaked()], "password": made_up("json")}),
        }
    )
    tracking: Tracking = context.resources.tracking
    files = {"notes/all.txt": leaked().encode(), "notes/config.json": f'{{"token": "{made_up("file")}"}}'.encode()}
    params = {"note": leaked()[:400], "api_key": made_up("param")}
    tracking.log(params, {"n": 1.0}, {"note": leaked(), "token": made_up("mlflow-tag")}, files)


@dg.asset_check(asset=telling, partitions_def=CRYPTO)
def described() -> dg.AssetCheckResult:
    """Describes what it should not."""
    metadata = {"note": leaked(), "token": made_up("check")}
    return dg.AssetCheckResult(passed=False, description=f"found {leaked()}", metadata=metadata)


@dg.asset(partitions_def=CRYPTO, deps=[telling])
def failing() -> None:
    """Fails with a cause, and prints its own traceback first."""
    try:
        try:
            raise ValueError(f"cause {leaked()}")
        except ValueError as error:
            raise RuntimeError(f"connecting to https://me:{made_up('exception')}@example.invalid failed") from error
    except RuntimeError:
        traceback.print_exc()
        raise


@dg.asset(partitions_def=CRYPTO)
def unmasked(context: dg.AssetExecutionContext) -> None:
    """Switches the mask off before Dagster's storage, in this run's own process, and tells a secret."""
    resources.dagster_storage.process_mask = lambda: Mask([])
    context.log.info(f"control: {os.environ['CVN_CONTROL_TOKEN']}")


@dg.sensor(target=telling, minimum_interval_seconds=1, default_status=dg.DefaultSensorStatus.RUNNING)
def ticking(context: dg.SensorEvaluationContext) -> Iterator[dg.SkipReason]:
    """Now fails and now skips, and says why."""
    if time.time() % 6 < 3:
        raise RuntimeError(f"tick {leaked()} token={made_up('tick')}")
    context.update_cursor(f"token={made_up('cursor')}")
    yield dg.SkipReason(f"skipped {leaked()}")


defs = dg.Definitions.merge(
    build_defs(),
    dg.Definitions(assets=[telling, failing, unmasked], asset_checks=[described], sensors=[ticking]),
)

if __name__ == "__main__":
    from cvntrade_assets.commands import up

    options = up.stack_options
    up.stack_options = lambda environment: replace(options(environment), definitions="live.leaking_assets")
    from cvntrade_assets.cli import main

    sys.argv = ["cvntrade", "up", "--no-run"]
    main()
