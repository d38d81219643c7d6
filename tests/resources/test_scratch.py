"""Scratch stores: they are apart, they go, and what a killed process left goes with the next."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from resources.scratch import PREFIX, scratch_schema, scratch_tracking
from resources.warehouse import Warehouse


def schemas(warehouse: Warehouse) -> set[str]:
    with sa.create_engine(warehouse.address, poolclass=sa.NullPool).connect() as connection:
        found = connection.scalars(sa.text("select nspname from pg_namespace")).all()
    return {name for name in found if name.startswith(PREFIX)}


def test_a_scratch_schema_is_apart_and_goes(warehouse: Warehouse) -> None:
    warehouse.set_group("btc-core", ["BTCUSDC"])
    with scratch_schema(warehouse) as url:
        scratch = Warehouse(url)
        assert scratch.universes() == {}
        scratch.set_group("defi", ["SOLUSDC"])
        assert scratch.universes() == {"defi": ("SOLUSDC",)}
        assert len(schemas(warehouse)) == 1
        scratch.close()
    assert warehouse.universes() == {"btc-core": ("BTCUSDC",)}
    assert schemas(warehouse) == set()


def test_a_scratch_schema_goes_when_the_work_fails(warehouse: Warehouse) -> None:
    with pytest.raises(ValueError, match="broken"), scratch_schema(warehouse):
        raise ValueError("broken")
    assert schemas(warehouse) == set()


def test_what_a_killed_process_left_goes_with_the_next_and_what_is_in_use_stays(warehouse: Warehouse) -> None:
    engine = sa.create_engine(warehouse.address, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        connection.execute(sa.schema.CreateSchema(f"{PREFIX}left_behind"))
    with scratch_schema(warehouse) as url, scratch_schema(warehouse):
        in_use = schemas(warehouse)
        assert len(in_use) == 2
        assert f"{PREFIX}left_behind" not in in_use
        assert Warehouse(url).universes() == {}
    assert schemas(warehouse) == set()


def test_scratch_tracking_keeps_its_files_in_the_folder(tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    tracking = scratch_tracking(tmp_path, "BTCUSDC")
    experiment = MlflowClient(tracking_uri=tracking.uri).get_experiment_by_name("cvntrade-BTCUSDC")
    assert experiment is not None
    assert experiment.artifact_location == str(tmp_path / "mlflow")
