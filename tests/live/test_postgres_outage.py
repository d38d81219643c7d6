"""PostgreSQL is out of reach for 20 s, under a run, on a server of one's own: every connection is cut, none is taken.

The stack reaches PostgreSQL through a door that the test shuts and opens. The run is cut in the middle of the statement
that records a version, with its files in place, so it cannot end as if nothing had been.
"""

import time
from collections.abc import Iterator
from contextlib import closing

import httpx
import pandas as pd
import pytest
from alert_receiver import WebReceiver
from alert_rows import condition, find
from live.live_stack import LiveStack
from live.test_faults import brake, run_held, whole_versions
from polling import until
from services import QUICK, own_postgres
from tcp_door import TcpDoor

from cvntrade_assets.operations.taxonomy import Severity
from resources.embedded_postgres import USER, EmbeddedPostgres
from resources.warehouse import Warehouse

pytestmark = pytest.mark.live

CRYPTO, STAGES = "BTCUSDC", ("candles", "features", "labels")
OUTAGE_SECONDS = 20.0
PATIENCE = 120.0
WHAT = "an alert of the outage"


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL that somebody else looks after."""
    with own_postgres("outage") as started:
        yield started


def mlflow_answers(stack: LiveStack) -> bool:
    try:
        return httpx.get(f"{stack.addresses.mlflow_url}/health", timeout=5.0, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def times_told(web: WebReceiver) -> int:
    """How often the alert arrived."""
    return sum(WHAT in f"{each.title} {each.body}" for each in web.received)


def outbox(stack: LiveStack) -> str:
    """How the alert's messages stand."""
    query = "select attempts, last_error, due_at, sent_at, dropped_why from alert_messages where text like %s"
    return str(stack.sql("cvntrade", query, f"%{WHAT}%"))


@pytest.mark.timeout(900)
def test_twenty_seconds_without_postgres_cost_a_retry_and_lose_nothing(server: EmbeddedPostgres) -> None:
    with TcpDoor(server.port) as door, WebReceiver() as web:
        own = {
            "CVN_PG_HOST": "127.0.0.1",
            "CVN_PG_PORT": str(door.port),
            "CVN_PG_USER": USER,
            "CVN_PG_PASSWORD": server.password,
            "CVN_ALERT_SLACK_URL": web.url("/slack"),
        }
        with LiveStack(**own) as stack:
            # While it makes its tables it cannot be without them.
            until("MLflow answers", lambda: mlflow_answers(stack), PATIENCE, pause=1.0)
            with brake(stack, CRYPTO) as held:
                held.hold(CRYPTO, "labels")
                run = stack.launch(STAGES, CRYPTO, QUICK)
                assert run_held(stack, held, CRYPTO, "labels") == run
                with closing(Warehouse(server.dsn("cvntrade"))) as direct:
                    door.shut()
                    # Written by somebody who reaches PostgreSQL, to be sent by a stack that does not.
                    find(
                        direct,
                        [condition(severity=Severity.P2, source="outage", what=WHAT)],
                        pd.Timestamp.now("UTC"),
                        "outage",
                    )
                    time.sleep(OUTAGE_SECONDS)
                    door.open()
            ended = until(
                "a run has succeeded",
                lambda: [each for each, status in stack.runs(CRYPTO) if status == "SUCCESS"],
                PATIENCE,
                alive=lambda: stack.story_of(CRYPTO),
            )
            assert not stack.ended(), stack.said()
            if ended != [run]:
                assert stack.tags(ended[0])["dagster/parent_run_id"] == run
            assert all(status in ("SUCCESS", "FAILURE") for _, status in stack.runs(CRYPTO))

            recorded, visible = whole_versions(stack, CRYPTO)
            assert recorded == visible and {folder.parent.parent.name for folder in recorded} == set(STAGES)
            assert len(recorded) == len(STAGES), "a version was published twice"

            until("the alert is sent", lambda: times_told(web), PATIENCE, alive=lambda: outbox(stack))
            sent = "select count(*) from alert_messages where text like %s and sent_at is not null"
            assert stack.sql("cvntrade", sent, f"%{WHAT}%") == [(1,)]
            assert times_told(web) == 1

            # The daemon came round again by itself: it takes and ends another run.
            again = stack.launch(["candles"], "ETHUSDC", QUICK)
            assert stack.wait_for(again) == "SUCCESS"
