"""MLflow through dagster-mlflow: one MLflow run per crypto and Dagster run, named and ended by us.

dagster-mlflow starts, tags and resumes the run, but names every run alike and leaves the run of a failed Dagster run
FINISHED. MLflow is slow to import, so nothing is started before something is logged.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import dagster as dg

from cvntrade_assets.operations.masking import public_address
from resources.model_mirror import ModelMirror
from resources.secrets import process_mask


def experiment_name(crypto: str) -> str:
    """The MLflow experiment of a crypto."""
    return f"cvntrade-{crypto}"


class Tracking:
    """Logs parameters, metrics and files of one Dagster run to MLflow.

    Args:
        context: The Dagster run's resource context.
        uri: Address of the MLflow server.
        ui_url: Address of the Dagster UI, for the link back.
    """

    def __init__(self, context: dg.InitResourceContext, uri: str, ui_url: str) -> None:
        self._context = context
        self._uri = uri
        self._ui_url = ui_url

    @cached_property
    def _mlflow(self) -> Any:
        from dagster_mlflow.resources import MlFlow

        run = self._context.dagster_run
        assert run is not None and self._context.run_id is not None
        crypto = run.tags["dagster/partition"]
        config = {
            "experiment_name": experiment_name(crypto),
            "mlflow_tracking_uri": self._uri,
            "env": {},
            "extra_tags": {
                "mlflow.runName": f"{crypto} {self._context.run_id[:8]}",
                "crypto": crypto,
                "dagster_run_url": f"{public_address(self._ui_url)}/runs/{self._context.run_id}",
            },
        }
        return MlFlow(self._context.replace_config(config))  # type: ignore[no-untyped-call]

    def log(
        self,
        params: Mapping[str, Any],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        files: Mapping[str, bytes],
    ) -> str:
        """Log everything of one model and its report, without secrets: who reads MLflow need not know them.

        Args:
            params: Settings and hyperparameters.
            metrics: Finite numbers; undefined ones are left out by the caller.
            tags: Market, versions and the like.
            files: Contents by path inside the run's artifacts.

        Returns:
            The run's place below MLflow's address, for `link`.
        """
        mlflow = self._mlflow
        mask = process_mask()
        mlflow.log_params(mask.value(params))
        mlflow.log_metrics(dict(metrics))
        mlflow.set_tags(mask.value(tags))
        with tempfile.TemporaryDirectory() as folder:
            for name, content in mask.value(files).items():
                path = Path(folder) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            mlflow.log_artifacts(folder)
        experiment = mlflow.experiment.experiment_id
        run_id = mlflow.active_run().info.run_id
        return f"experiments/{experiment}/runs/{run_id}"

    @property
    def mirror(self) -> ModelMirror:
        """MLflow's model registry, as a mirror of ours."""
        return ModelMirror(self._uri, self._ui_url)

    def link(self, place: str) -> str:
        """Where a run is looked at, MLflow's address being what it is now, without a user and password."""
        return f"{public_address(self._uri)}/#/{place}"

    def end(self) -> None:
        """End the MLflow run, when one was started, as FAILED if a step of the Dagster run failed."""
        if "_mlflow" not in self.__dict__:
            return
        run_id, instance = self._context.run_id, self._context.instance
        assert run_id is not None and instance is not None
        failures = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        self._mlflow.end_run("FAILED" if failures else "FINISHED")


class TrackingResource(dg.ConfigurableResource[Tracking]):
    """Hands out the run's MLflow tracking."""

    uri: str
    ui_url: str

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Tracking]:
        """Open lazily, end with the run's true outcome."""
        tracking = Tracking(context, self.uri, self.ui_url)
        try:
            yield tracking
        finally:
            tracking.end()
