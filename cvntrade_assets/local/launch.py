"""The first lines of Dagster's servers: import, wait for the code server, be Dagster's program.

Importing takes seconds and so does the code server; this lets them do it at the same time. A Dagster process
that finds no code server instead comes up without the location and looks again only after 10 to 60 s.

    python -m cvntrade_assets.local.launch webserver|daemon|shared-daemon CODE_SERVER_PORT ARGUMENT…
    python -m cvntrade_assets.local.launch code-server ARGUMENT…

Each keeps one connection to PostgreSQL open, which shows for as long as it lives which code it runs: of their own
accord the code server and the webserver connect for moments only.

A daemon first ends the runs that an earlier stack left behind. A shared daemon does not: its PostgreSQL may hold
the runs of other stacks, and those look the same from here.
"""

import os
import socket
import sys
import time

WAIT_SECONDS = 120.0
POLL_SECONDS = 0.1
# Dagster looks for new backfills every 30 s and has no setting for it; on a laptop somebody is waiting.
BACKFILL_SECONDS = 2


def main() -> None:
    """Become the program named by the first argument."""
    if sys.argv[1] == "code-server":
        _become("dagster", "api", "grpc", *sys.argv[2:])
        _code_server()
        return
    program, port, *arguments = sys.argv[1:]
    _become(f"dagster-{program.removeprefix('shared-')}", *arguments)
    if program == "webserver":
        _webserver(int(port))
    else:
        _daemon(int(port), is_shared=program == "shared-daemon")


def _become(*arguments: str) -> None:
    """Take a program's command line, and say to PostgreSQL who this is, before any of its code is loaded."""
    from resources.code_version import stay_visible

    sys.argv = list(arguments)
    stay_visible(os.environ["CVN_WAREHOUSE_URL"])


def _code_server() -> None:
    from dagster._cli import main as dagster

    dagster()  # type: ignore[no-untyped-call]


def _webserver(port: int) -> None:
    from dagster_webserver.cli import main as webserver

    _wait_for(port)
    webserver()  # type: ignore[no-untyped-call]


def _daemon(port: int, *, is_shared: bool) -> None:
    import dagster as dg
    from dagster._daemon import controller
    from dagster._daemon.cli import main as daemon

    from cvntrade_assets.local.abandoned import end_abandoned_runs

    if not hasattr(controller, "DEFAULT_DAEMON_INTERVAL_SECONDS"):
        raise RuntimeError(
            "This Dagster has no dagster._daemon.controller.DEFAULT_DAEMON_INTERVAL_SECONDS: "
            "see how its backfill daemon decides how long to sleep, and mend cvntrade_assets/local/launch.py."
        )
    controller.DEFAULT_DAEMON_INTERVAL_SECONDS = BACKFILL_SECONDS
    if not is_shared:
        with dg.DagsterInstance.get() as instance:
            end_abandoned_runs(instance)
    _wait_for(port)
    daemon()


def _wait_for(port: int) -> None:
    """Return once the code server listens, which it does after it has loaded the definitions."""
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        with socket.socket() as connection:
            if connection.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(POLL_SECONDS)
    raise SystemExit(f"No code server on port {port} within {WAIT_SECONDS:.0f} s; see code-server.log beside this log.")


if __name__ == "__main__":
    main()
