"""The chain with its artifacts in object storage: built, judged, gated and reused as on a disk."""

import hashlib
import json
from pathlib import Path

import pytest
from s3_server import client, everything_in
from services import Graph, make_graph
from spoilt_market import price_below_zero, refusal, spoil_market

from resources.gate import Gate
from resources.object_storage import S3Address

CRYPTO, SPOILT = "BTCUSDC", "ETHUSDC"


@pytest.fixture
def graph(tmp_path: Path, warehouse_url: str, mlflow_store: Path, bucket: S3Address) -> Graph:
    return make_graph(tmp_path, warehouse_url, mlflow_store=mlflow_store, artifacts=str(bucket))


def test_the_chain_is_built_judged_gated_and_reused(graph: Graph, bucket: S3Address) -> None:
    first = graph.run(CRYPTO)
    assert first.success
    assert all(verdict.passed for verdict in first.get_asset_check_evaluations())
    built = {event.asset_key.to_user_string(): event for event in first.get_asset_materialization_events()}
    assert len(built) == 12

    # What stands there is what was published, byte for byte, by an oracle that knows nothing of the store.
    objects = everything_in(bucket.bucket)
    counted = set()
    for asset, event in built.items():
        location = S3Address.parse(str(event.materialization.metadata["location"].value))
        assert str(location).startswith(f"{bucket}/{asset}/{CRYPTO}/")
        manifest = json.loads(objects[f"{location.key}/manifest.json"])
        counted.add(f"{location.key}/manifest.json")
        for name, sha256 in manifest["files"].items():
            key = f"{location.key}/{manifest['upload']}/{name}"
            assert hashlib.sha256(objects[key]).hexdigest() == sha256
            counted.add(key)
    assert set(objects) == counted

    second = graph.run(CRYPTO)
    assert second.success
    assert set(everything_in(bucket.bucket)) == counted, "nothing changed, nothing recomputed"

    with pytest.MonkeyPatch.context() as patch:
        spoil_market(patch, price_below_zero)
        assert not graph.run(SPOILT, ["candles", "backtest_candles"]).success
    assert "check schema failed" in refusal(graph.run(SPOILT, ["features"]), "features")

    # An object that somebody changed is refused by whatever loads it next.
    version = Gate(graph.instance, {}).current_version("training_set", CRYPTO)
    [key] = [key for key in counted if f"/{version}/" in key and key.endswith("targets.parquet")]
    client().put_object(Bucket=bucket.bucket, Key=key, Body=objects[key][:-1] + b"x")
    refused = graph.run(CRYPTO, ["feature_selection"], {"CVN_MAX_FEATURES": "9"})
    [failed] = [event for event in refused.all_events if event.event_type_value == "STEP_FAILURE"]
    assert f"s3://{bucket.bucket}/{key} is not what was published: sha256" in failed.step_failure_data.error.to_string()
