"""A run's worker waits for a PostgreSQL that is gone for a moment, rather than lose the work of an hour.

Dagster's storage asks six times within six seconds and has no setting for it; a failover takes longer. Commands,
servers and daemons do not wait: somebody looks at the first, and the others come round again by themselves.
"""

import logging
import time
from typing import Any

import sqlalchemy as sa

from resources.code_version import is_run_worker

WAIT_SECONDS = 60.0
"""How long a server may be gone; after that the run fails, an infrastructure fault, and is tried again."""

_PAUSE_SECONDS = 0.5
# What waiting does not mend.
_FINAL = (
    "authentication failed",
    "does not exist",
    "permission denied",
    "no pg_hba.conf entry",
    "but SSL was required",
)
_LOG = logging.getLogger("cvntrade")


def wait_for_server(engine: sa.Engine, seconds: float = WAIT_SECONDS) -> None:
    """Have an engine of a run's worker wait when it cannot connect; in any other process nothing changes."""
    if is_run_worker():
        sa.event.listen(engine, "do_connect", _Patience(seconds).connect)


class _Patience:
    """Connects, and tries again for as long as the server has been gone for less than the limit."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._gone_since: float | None = None

    def connect(self, dialect: Any, record: Any, arguments: Any, options: Any) -> Any:
        """As SQLAlchemy's event of that name: returns a new connection of the driver."""
        del record
        while True:
            try:
                connection = dialect.connect(*arguments, **options)
            except dialect.loaded_dbapi.OperationalError as error:
                if any(text in str(error) for text in _FINAL):
                    raise
                now = time.monotonic()
                if self._gone_since is None:
                    self._gone_since = now
                    _LOG.warning("PostgreSQL does not answer; waiting for it for at most %.0f s", self._seconds)
                if now - self._gone_since > self._seconds:
                    raise
                time.sleep(_PAUSE_SECONDS)
            else:
                self._gone_since = None
                return connection
