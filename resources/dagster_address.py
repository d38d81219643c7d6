"""Where Dagster's tables are read, and as whom: what dagster.yaml's storage reads from the environment."""

from collections.abc import Mapping

import sqlalchemy as sa

from resources.warehouse import DAGSTER_DATABASE, WarehouseError

_VARIABLES = ("CVN_PG_HOST", "CVN_PG_PORT", "CVN_PG_USER", "CVN_PG_PASSWORD")


def dagster_url(environment: Mapping[str, str]) -> str | None:
    """The SQLAlchemy address of Dagster's database, password included.

    It says nothing of TLS, as the one that dagster.yaml's storage makes: libpq's PGSSLMODE decides for both.

    Returns:
        None when the environment does not name it: then the operations schema's own role reads there too, as on a
        server with one role.

    Raises:
        WarehouseError: CVN_PG_PORT is no port.
    """
    host, port, user, password = (environment.get(name, "") for name in _VARIABLES)
    if not (host and port and user and password):
        return None
    if not port.isdecimal():
        raise WarehouseError(f"CVN_PG_PORT is {port!r}: give the port of the PostgreSQL that holds Dagster's tables.")
    url = sa.URL.create("postgresql+psycopg2", user, password, host, int(port), DAGSTER_DATABASE)
    return url.render_as_string(hide_password=False)
