"""What the daemon does before it becomes Dagster's program."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.tags import GRPC_INFO_TAG

ROOT = Path(__file__).parent.parent.parent
NOBODY = "postgresql+psycopg2://nobody:nothing@127.0.0.1:1/none"


@pytest.mark.parametrize(("program", "status"), [("daemon", "FAILURE"), ("shared-daemon", "STARTED")])
def test_runs_of_an_earlier_stack_are_ended_unless_other_stacks_may_own_them(
    tmp_path: Path, program: str, status: str
) -> None:
    tags = {GRPC_INFO_TAG: json.dumps({"host": "127.0.0.1", "port": 1})}
    run = dg.DagsterRun("job", status=dg.DagsterRunStatus.STARTED, tags=tags)
    with (
        dg.DagsterInstance.local_temp(str(tmp_path)) as instance,
        socket.create_server(("127.0.0.1", 0)) as code_server,
    ):
        instance.add_run(run)
        port = str(code_server.getsockname()[1])
        launched = subprocess.run(
            [sys.executable, "-m", "cvntrade_assets.local.launch", program, port, "--help"],
            cwd=ROOT,
            env={**os.environ, "DAGSTER_HOME": str(tmp_path), "CVN_WAREHOUSE_URL": NOBODY},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert launched.returncode == 0, launched.stderr
        assert "dagster-daemon" in launched.stdout
        found = instance.get_run_by_id(run.run_id)
        assert found is not None
        assert found.status.value == status
