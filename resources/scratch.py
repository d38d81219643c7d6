"""Stores for work that must leave nothing behind: a schema beside the operations schema, an MLflow store in a folder.

Where this role makes no schemas in the operations schema's database, the schema is made in `cvntrade_scratch`.

A scratch schema is dropped at the end. One whose process was killed is dropped by the next that makes one: every schema
in use is locked by a session of its own, and PostgreSQL releases that lock however the process ends.
"""

import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import sqlalchemy as sa

from resources.server_roles import SCRATCH_DATABASE
from resources.tracking import TrackingResource, experiment_name
from resources.warehouse import Warehouse

PREFIX = "cvntrade_scratch_"


@contextmanager
def scratch_schema(warehouse: Warehouse) -> Iterator[str]:
    """The address of a new, migrated operations schema on the same server, dropped at the end with all that it holds.

    Whoever uses the address sees this schema and not the real one. It holds the password: pass it on, never print it.

    Raises:
        WarehouseError: the server does not answer.
    """
    name = f"{PREFIX}{uuid.uuid4().hex}"
    place = _place(warehouse)
    engine = sa.create_engine(place, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as session:
        _drop_abandoned(session)
        # Locked before it is there, so that nobody takes it for abandoned.
        session.execute(sa.select(sa.func.pg_advisory_lock(sa.func.hashtext(name))))
        session.execute(sa.schema.CreateSchema(name))
        try:
            url = place.update_query_dict({"options": f"-csearch_path={name}"})
            address = url.render_as_string(hide_password=False)
            with closing(Warehouse(address)) as scratch:
                scratch.migrate()
            yield address
        finally:
            session.execute(sa.schema.DropSchema(name, cascade=True))


def _place(warehouse: Warehouse) -> sa.URL:
    with warehouse.begin() as connection:
        may_create = connection.scalar(sa.text("select has_database_privilege(current_database(), 'create')"))
    return warehouse.address if may_create else warehouse.address.set(database=SCRATCH_DATABASE)


def _drop_abandoned(session: sa.Connection) -> None:
    known = sa.text("select nspname from pg_namespace where starts_with(nspname, :prefix)")
    for name in session.scalars(known, {"prefix": PREFIX}).all():
        lock = sa.func.hashtext(name)
        if session.scalar(sa.select(sa.func.pg_try_advisory_lock(lock))):
            session.execute(sa.schema.DropSchema(name, cascade=True, if_exists=True))
            session.execute(sa.select(sa.func.pg_advisory_unlock(lock)))


def scratch_tracking(folder: Path, crypto: str) -> TrackingResource:
    """MLflow in a folder: a store that it migrates itself, with its files beside it.

    Args:
        folder: Where it goes; there already.
        crypto: Whose experiment keeps its files there. Others would go to the working folder.
    """
    from mlflow.tracking import MlflowClient

    uri = f"sqlite:///{folder / 'mlflow.db'}"
    client = MlflowClient(tracking_uri=uri)
    client.create_experiment(experiment_name(crypto), artifact_location=str(folder / "mlflow"))
    return TrackingResource(uri=uri, ui_url="")
