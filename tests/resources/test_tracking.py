"""MLflow: what is logged holds no secret, and links can be followed by anybody."""

import json
import shutil
from pathlib import Path

import dagster as dg
import pytest

from resources.secrets import process_mask
from resources.tracking import TrackingResource, experiment_name

CRYPTO, CANARY, UI_CANARY = "BTCUSDC", "tracking-canary-0123", "ui-canary-0123"
PICTURE = b"\x89PNG\r\n\x1a\n\xff"


@dg.op(required_resource_keys={"tracking"})
def log_secrets(context: dg.OpExecutionContext) -> None:
    context.resources.tracking.log(
        {"seed": 7, "api_token": "by-its-name"},
        {"f1": 0.5},
        {"model_version": "abc", "said": f"with {CANARY}"},
        {f"notes/{CANARY}.txt": f"it is {CANARY}".encode(), "plot.png": PICTURE},
    )


def test_no_secret_reaches_mlflow(
    tmp_path: Path, mlflow_store: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("CVN_EXCHANGE_API_KEY", CANARY)
    process_mask.cache_clear()
    request.addfinalizer(process_mask.cache_clear)
    shutil.copy(mlflow_store, tmp_path / "mlflow.db")
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    files = tmp_path / "files"
    experiment = client.create_experiment(experiment_name(CRYPTO), artifact_location=str(files))
    tracking = TrackingResource(
        uri=f"sqlite:///{tmp_path / 'mlflow.db'}", ui_url=f"https://operator:{UI_CANARY}@ui.example"
    )

    job = dg.JobDefinition(name="logs", graph_def=dg.GraphDefinition(name="logs", node_defs=[log_secrets]))
    ran = job.execute_in_process(resources={"tracking": tracking}, tags={"dagster/partition": CRYPTO})

    [run] = client.search_runs([experiment])
    assert run.data.params == {"seed": "7", "api_token": "***"} and run.data.metrics == {"f1": 0.5}
    assert (run.data.tags["model_version"], run.data.tags["said"]) == ("abc", "with ***")
    assert run.data.tags["dagster_run_url"] == f"https://ui.example/runs/{ran.run_id}"
    written = {path.name: path.read_bytes() for path in files.rglob("*") if path.is_file()}
    assert written == {"***.txt": b"it is ***", "plot.png": PICTURE}
    everything = json.dumps(run.to_dictionary()) + repr(list(files.rglob("*")))
    assert CANARY not in everything and UI_CANARY not in everything
    assert CANARY.encode() not in (tmp_path / "mlflow.db").read_bytes()
