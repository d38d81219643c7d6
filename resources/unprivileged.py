"""The ordinary account that a server of ours runs as when we are root.

PostgreSQL refuses to run as root, and every folder on the way to its files must let its account pass. A clone
under `/root` (mode 700) does not, so such files go to `SYSTEM_STATE` instead of opening somebody's home
folder to everyone.
"""

import os
import pwd
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

ACCOUNT = "nobody"
SYSTEM_STATE = Path("/var/lib/cvntrade")


@dataclass(frozen=True)
class Account:
    """A user that owns a server's files and runs its process."""

    name: str
    uid: int
    gid: int


def server_account() -> Account | None:
    """The account to drop to, or None when this process is an ordinary user already.

    Raises:
        ValueError: this process is root and the machine has no user `nobody`.
    """
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(ACCOUNT)
    except KeyError:
        raise ValueError(
            f"PostgreSQL does not run as root, and this machine has no user {ACCOUNT!r} to run it as: "
            "create that user, or run this command as an ordinary user."
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def can_enter(folder: Path, account: Account) -> bool:
    """Whether `account` may pass through `folder` and every folder above it (by mode bits, not by ACL)."""
    folder = folder.resolve()
    return all(_may_search(part, account) for part in (folder, *folder.parents))


def _may_search(folder: Path, account: Account) -> bool:
    status = folder.stat()
    if status.st_uid == account.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == account.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def new_system_folder(purpose: str) -> Path:
    """A new folder under `SYSTEM_STATE` that everybody may enter, its name beginning with `purpose`."""
    SYSTEM_STATE.mkdir(mode=0o755, parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{purpose}-", dir=SYSTEM_STATE))
    folder.chmod(0o755)
    return folder
