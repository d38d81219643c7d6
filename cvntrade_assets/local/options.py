"""What the environment says about a local stack: folders, ports, an own or somebody else's PostgreSQL."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cvntrade_assets.local.addresses import Database

PROJECT = Path(__file__).resolve().parents[2]
DEFAULT_HOME = ".cvntrade"
DEFAULT_UI_PORT = 3000
DEFAULT_MLFLOW_PORT = 5000


class OptionError(ValueError):
    """A variable whose value cannot be used."""


@dataclass(frozen=True)
class StackOptions:
    """How to bring a stack up.

    Attributes:
        home: folder for everything the stack keeps.
        ui_port: wanted port of the Dagster UI; the next free one is taken when it is in use.
        mlflow_port: the same for MLflow, so that links to it still lead there after a restart.
        database: a PostgreSQL that runs already, or None to start an own one in `home`.
        pg_bin: folder with PostgreSQL's programs for the own one, or None to look for them.
        definitions: the module whose Dagster definitions are served.
    """

    home: Path
    ui_port: int = DEFAULT_UI_PORT
    mlflow_port: int = DEFAULT_MLFLOW_PORT
    database: Database | None = None
    pg_bin: Path | None = None
    definitions: str = "cvntrade_assets.definitions"


def stack_options(environment: Mapping[str, str]) -> StackOptions:
    """Read CVN_HOME, CVN_UI_PORT, CVN_MLFLOW_PORT, CVN_PG_BIN and CVN_PG_HOST, _PORT, _USER and _PASSWORD.

    Raises:
        OptionError: a value that is not a port, or a PostgreSQL named without its user and password.
    """
    return StackOptions(
        home=home_folder(environment),
        ui_port=_port(environment, "CVN_UI_PORT", DEFAULT_UI_PORT),
        mlflow_port=_port(environment, "CVN_MLFLOW_PORT", DEFAULT_MLFLOW_PORT),
        database=_database(environment),
        pg_bin=Path(environment["CVN_PG_BIN"]) if environment.get("CVN_PG_BIN") else None,
    )


def home_folder(environment: Mapping[str, str]) -> Path:
    """CVN_HOME, or `.cvntrade` in the working folder, as an absolute path."""
    return Path(environment.get("CVN_HOME") or DEFAULT_HOME).absolute()


def _database(environment: Mapping[str, str]) -> Database | None:
    host = environment.get("CVN_PG_HOST")
    if not host:
        return None
    missing = [name for name in ("CVN_PG_USER", "CVN_PG_PASSWORD") if not environment.get(name)]
    if missing:
        raise OptionError(
            f"CVN_PG_HOST names the PostgreSQL at {host} without {' and without '.join(missing)}: set that too, "
            "or leave CVN_PG_HOST out to have a PostgreSQL started for you."
        )
    port = _port(environment, "CVN_PG_PORT", 5432)
    return Database(host, port, environment["CVN_PG_USER"], environment["CVN_PG_PASSWORD"])


def _port(environment: Mapping[str, str], name: str, default: int) -> int:
    text = environment.get(name) or str(default)
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise OptionError(f"{name} is {text!r}: give a port between 1 and 65535.")
    return int(text)
