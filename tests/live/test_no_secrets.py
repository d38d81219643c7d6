"""No secret gets out: canaries are planted wherever one may enter, everything is run, and everything is searched.

Searched are every column of every table of every database, every file under the stack's home, what every command and
the stack printed, what the webserver answered, and what `ps` shows. Left out are the password file of the database
server and its data files, which are read as tables instead.
"""

import base64
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psycopg2
import pytest
from live.leaking_assets import UNNAMED
from live.live_stack import DATABASES, ROOT, LiveStack, as_options, processes_of
from polling import until
from services import QUICK

from cvntrade_assets.commands.backfill import ENDED
from cvntrade_assets.commands.dagster_api import LOCATION, REPOSITORY

# Setting up is most of it.
pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]

GROUP = ("BTCUSDC", "ETHUSDC")
PARTS = "3141592653589793"
AWKWARD = "awk \"ward'/pa%s\\s+é@:canary-0f1e2d3c4b5a69"
LEAKING = ("telling", "failing")
MADE_UP = ("print", "log", "repr", "tag", "metadata", "link", "json", "file", "param", "mlflow-tag", "check")
MADE_UP_TOO = ("exception", "tick", "cursor")

_BACKFILL = """
mutation($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message stack }
  }
}"""
_LAUNCH = """
mutation($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message stack }
  }
}"""
_EVENTS = """
query($id: ID!) {
  runOrError(runId: $id) { ... on Run { runId status tags { key value } runConfigYaml eventConnection { events {
    ... on MessageEvent { message level } ... on ExecutionStepFailureEvent { error { message stack } }
  } } } }
}"""
_TICKS = """
query($selector: SensorSelector!) {
  sensorOrError(sensorSelector: $selector) { ... on Sensor {
    sensorState { ticks(limit: 20) { status skipReason cursor error { message stack } } }
  } }
}"""


def canary(place: str) -> str:
    """A canary that names where it was planted."""
    return f"canary-{place}-7a1b2c3d4e5f6789"


@dataclass
class Planted:
    """A stack on which everything has run: the canaries by place, what was said, and the ids of what ran."""

    stack: LiveStack
    canaries: dict[str, str]
    said: dict[str, str] = field(default_factory=dict)
    runs: list[str] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)


def environment() -> dict[str, str]:
    """The variables of the stack that hold canaries, and what its own definitions need."""
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    return {
        "PYTHONPATH": paths,
        "CVN_EXCHANGE_API_KEY": canary("api-key"),
        "CVN_ALERT_WEBHOOK_URL": f"https://hooks.example.invalid/services/T0/{canary('webhook')}",
        "CVN_ALERT_URL": f"https://alert:{canary('alert-url')}@example.invalid/x",
        "CVN_AWKWARD_SECRET": AWKWARD,
        "MLFLOW_TRACKING_USERNAME": "me",
        "MLFLOW_TRACKING_PASSWORD": canary("mlflow"),
        "CVN_CONTROL_TOKEN": canary("control"),
        UNNAMED: PARTS[::-1],
    }


@pytest.fixture(scope="module")
def planted() -> Iterator[Planted]:
    """Everything that may leak has been run."""
    with LiveStack((str(ROOT / "tests" / "live" / "leaking_assets.py"),), **environment()) as stack:
        known = ("api-key", "webhook", "alert-url", "mlflow")
        canaries = {place: canary(place) for place in known} | {
            "postgres": stack.password(),
            **stack.role_passwords(),
            "awkward": AWKWARD,
            **{place: f"canary-{place}-{PARTS}" for place in (*MADE_UP, *MADE_UP_TOO)},
        }
        made = Planted(stack, canaries)
        for step in (plant_in_sql, try_the_doors, try_the_commands, run_everything, look_at_the_ui):
            step(made)
        yield made


def plant(made: Planted, place: str) -> str:
    """A new canary that the search looks for."""
    return made.canaries.setdefault(place, canary(place))


def plant_in_sql(made: Planted) -> None:
    """What operators and other programs may write into the tables, and a statement that fails."""
    insert = "insert into base_env (key, value, updated_by) values (%s, %s, 'psql')"
    made.stack.sql(
        "cvntrade", insert, "CVN_BINANCE_ARCHIVE_URL", f"https://me:{plant(made, 'base-env')}@example.invalid"
    )
    refused = made.stack.cli("plan", "--crypto", GROUP[0])
    made.said["plan"] = refused.stdout + refused.stderr
    assert refused.returncode == 2 and "CVN_BINANCE_ARCHIVE_URL" in refused.stderr
    made.refused.append({"run": launch(made, {})})
    made.stack.sql("cvntrade", "delete from base_env where key = 'CVN_BINANCE_ARCHIVE_URL'")
    with pytest.raises(psycopg2.DataError):
        made.stack.sql("cvntrade", "select 1 / (length(%s) * 0)", plant(made, "statement"))
    with pytest.raises(psycopg2.IntegrityError):
        made.stack.sql("cvntrade", insert, plant(made, "failing-row"), None)


def launch(made: Planted, settings: Mapping[str, str], **tags: str) -> str | None:
    """Ask for a run as the launchpad does; its id, or None when it was refused."""
    every = {"dagster/partition": GROUP[0], **tags}
    params = {
        "selector": {
            "repositoryName": REPOSITORY,
            "repositoryLocationName": LOCATION,
            "jobName": "candles_to_report",
            "assetSelection": [{"path": ["candles"]}],
        },
        "runConfigData": {"resources": {"run_settings": {"config": {"settings": {**QUICK, **settings}}}}},
        "executionMetadata": {"tags": [{"key": name, "value": value} for name, value in every.items()]},
    }
    answer = ask(made, _LAUNCH, {"params": params})["launchRun"]
    if answer["__typename"] != "LaunchRunSuccess":
        made.refused.append(answer)
        return None
    made.runs.append(answer["run"]["runId"])
    return made.runs[-1]


def ask(made: Planted, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
    """What the webserver answers; kept to be searched."""
    answer: dict[str, Any] = made.stack.graphql(query, variables)
    made.said[f"graphql {len(made.said)}"] = json.dumps(answer, ensure_ascii=False)
    return answer


def secret_settings(made: Planted, door: str) -> list[dict[str, str]]:
    """Run config that must be refused, however it holds a secret."""
    return [
        {"CVN_BINANCE_ARCHIVE_URL": f"https://me:{plant(made, f'{door}-archive')}@example.invalid"},
        {"CVN_UNHEARD_OF": plant(made, f"{door}-unknown-key")},
        {"CVN_UNHEARD_OF_TOKEN": plant(made, f"{door}-named")},
        {"CVN_CUSUM_THRESHOLD_H": plant(made, f"{door}-malformed")},
        {"CVN_CUSUM_THRESHOLD_H": canary("api-key")},
        {
            "CVN_GUARDRAIL_OVERRIDE": "1",
            "CVN_GUARDRAIL_OVERRIDE_REASON": f"approved by Ada, with token={plant(made, f'{door}-reason')}",
        },
    ]


def try_the_doors(made: Planted) -> None:
    """Run config, tags and titles through GraphQL, as the UI and other programs send them."""
    for settings in secret_settings(made, "launchpad"):
        assert launch(made, settings) is None, settings
    for settings in secret_settings(made, "backfill"):
        assert backfill(made, ["candles"], "plain", settings) is None, settings
    tags = {"my-token": plant(made, "run-tag"), "note": f"see {canary('api-key')}"}
    assert launch(made, {}, **tags) is not None


def backfill(made: Planted, assets: list[str], title: str, settings: Mapping[str, str], **tags: str) -> str | None:
    """Start a backfill of the group; its id, or None when it was refused."""
    params: dict[str, Any] = {
        "assetSelection": [{"path": [name]} for name in assets],
        "partitionNames": list(GROUP),
        "title": title,
        "tags": [{"key": name, "value": value} for name, value in tags.items()],
    }
    if settings:
        params["runConfigData"] = {"resources": {"run_settings": {"config": {"settings": dict(settings)}}}}
    answer = ask(made, _BACKFILL, {"params": params})["launchPartitionBackfill"]
    if answer["__typename"] != "LaunchBackfillSuccess":
        made.refused.append(answer)
        return None
    return str(answer["backfillId"])


def try_the_commands(made: Planted) -> None:
    """Arguments that hold secrets, well formed or not, and what else commands write and show."""
    of_runs = [as_options(settings) for settings in secret_settings(made, "command")]
    wrong = [["backfill", "--crypto", GROUP[0], *options] for options in of_runs]
    wrong += [
        ["plan", "--crypto", GROUP[0], "--set", plant(made, "no-pair")],
        ["plan", "--set", f"CVN_SEED={plant(made, 'twice')}", "--set", f"CVN_SEED={plant(made, 'twice-too')}"],
        ["settings", "set", "CVN_BINANCE_ARCHIVE_URL", f"https://me:{plant(made, 'settings-set')}@example.invalid"],
        ["universe", "set", plant(made, "group-name").upper(), "BTCUSDC"],
    ]
    wrong[-2] += ["--reason", "the exchange has moved"]
    reason = f"the exchange moved, api_key={plant(made, 'settings-reason')} approved by Ada"
    right = [
        # Judged with the override whose reason holds a secret, and written down.
        ["preflight", "--crypto", GROUP[0], *as_options(QUICK), *of_runs[-1]],
        ["settings", "set", "CVN_SEED", "7", "--reason", reason],
        ["settings", "unset", "CVN_SEED", "--reason", f"back again because of {canary('api-key')}"],
        ["settings", "show"],
        ["overrides"],
        ["doctor"],
    ]
    with ThreadPoolExecutor(2) as pool:
        mistaken = list(pool.map(lambda command: made.stack.cli(*command), wrong))
    for done in (*mistaken, *(made.stack.cli(*command) for command in right)):
        made.said[f"command {len(made.said)}: {done.args[3:5]}"] = done.stdout + done.stderr
        assert done not in mistaken or done.returncode == 2, done
    address = f"postgresql+psycopg2://me:{plant(made, 'warehouse-url')}@127.0.0.1:9/cvntrade"
    for url in (address, address.replace("//me", "/me")):
        done = made.stack.cli("settings", "show", CVN_WAREHOUSE_URL=url, CVN_UI_URL="http://127.0.0.1:9")
        made.said[f"elsewhere {len(made.said)}"] = done.stdout + done.stderr
        assert done.returncode == 2, done


def run_everything(made: Planted) -> None:
    """A group backfill of assets that tell everything, and fail; and one of the product's own."""
    title = f"because token={plant(made, 'title')}"
    tags = {"my-token": plant(made, "backfill-tag"), "note": f"see {canary('api-key')}"}
    for crypto in GROUP:
        made.stack.api.add_partition(crypto)
    started = backfill(made, list(LEAKING), title, {}, **tags)
    assert started is not None
    state = until(
        "the backfill has ended",
        lambda: found if (found := made.stack.api.backfill(started)).status in ENDED else None,
        180,
    )
    assert state.status == "COMPLETED_FAILED"
    made.runs += [run["runId"] for run in state.runs]
    assert len(state.runs) >= len(GROUP)
    for run in made.runs:
        made.stack.wait_for(run)
    made.said["failures"] = "\n".join(made.stack.api.failures(made.runs[-1]))


def look_at_the_ui(made: Planted) -> None:
    """What the pages show and are made of."""
    for run in made.runs:
        ask(made, _EVENTS, {"id": run})
    repository = {"repositoryName": REPOSITORY, "repositoryLocationName": LOCATION}

    def failed_tick() -> bool:
        answer = ask(made, _TICKS, {"selector": repository | {"sensorName": "ticking"}})
        statuses = {tick["status"] for tick in answer["sensorOrError"]["sensorState"]["ticks"]}
        return {"FAILURE", "SKIPPED"} <= statuses

    until("the sensor has failed and skipped", failed_tick, 60, pause=1.0)
    with httpx.Client(base_url=made.stack.addresses.ui_url, timeout=30.0, trust_env=False) as client:
        logs = sorted((made.stack.home / "compute_logs").rglob("*.err"))
        assert logs
        pages = ["/", "/runs", f"/runs/{made.runs[-1]}", "/overview/backfills", "/assets/telling", "/instance/config"]
        for page in (*pages, f"/logs/{made.runs[-1]}/compute_logs/{logs[-1].stem}/err"):
            made.said[page] = client.get(page).text


# The search


def forms(secret: str) -> set[bytes]:
    """A secret as it may stand somewhere."""
    escaped = json.dumps(secret)[1:-1]
    texts = {secret, quote(secret), quote(secret, safe=""), escaped, json.dumps(escaped)[1:-1], repr(secret)[1:-1]}
    texts |= {json.dumps(secret, ensure_ascii=False)[1:-1], base64.b64encode(secret.encode()).decode()}
    return {text.encode() for text in texts} | {base64.b64encode(f"me:{secret}".encode())}


def in_tables(stack: LiveStack) -> Iterator[tuple[str, bytes]]:
    """Every row of every table, with its place; compressed columns are unpacked."""
    tables = (
        "select table_schema, table_name from information_schema.tables "
        "where table_type = 'BASE TABLE' and table_schema not in ('pg_catalog', 'information_schema')"
    )
    for database in DATABASES:
        address = stack.addresses.database.url(database).replace("+psycopg2", "")
        with closing(psycopg2.connect(address)) as connection, connection.cursor() as cursor:
            cursor.execute(tables)
            for schema, table in cursor.fetchall():
                cursor.execute(f'select * from "{schema}"."{table}"')
                for row in cursor.fetchall():
                    yield f"{database}.{table}", b" ".join(as_bytes(value) for value in row)


def as_bytes(value: Any) -> bytes:
    if not isinstance(value, memoryview | bytes):
        return (json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)).encode()
    try:
        return bytes(value) + zlib.decompress(value)
    except zlib.error:
        return bytes(value)


def in_files(home: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below the stack's home, but for what has to hold the password and the server's raw data."""
    for folder, folders, names in os.walk(home):
        here = Path(folder)
        if here == home / "postgres":
            folders[:] = [name for name in folders if name != "cluster"]
        for path in (here / name for name in names):
            if path.is_file() and path != home / "postgres" / "password":
                yield str(path.relative_to(home)), path.read_bytes()


def found(made: Planted, secrets: Mapping[str, str]) -> set[tuple[str, str]]:
    """(name of the canary, place where it was found) of everything that got out."""
    places = [*in_tables(made.stack), *in_files(made.stack.home)]
    places += [(f"said: {name}", text.encode()) for name, text in made.said.items()]
    places.append(("said: cvntrade up", made.stack.log.read_bytes()))
    places += [("ps", arguments.encode()) for arguments in processes_of(made.stack.home).values()]
    wanted = {name: forms(secret) for name, secret in secrets.items()}
    return {
        (name, place)
        for place, content in places
        for name, texts in wanted.items()
        if any(text in content for text in texts)
    }


def test_no_canary_gets_out(planted: Planted) -> None:
    # What was typed into the table by hand stands in its history, beside who typed it.
    by_hand = {("base-env", "cvntrade.base_env_history")}
    assert found(planted, planted.canaries) - by_hand == set()


def test_everything_was_said_and_only_the_secrets_are_missing(planted: Planted) -> None:
    """Otherwise nothing is found because nothing is there."""
    texts = b"\n".join(content for _, content in in_files(planted.stack.home)).decode(errors="replace")
    for said in ("printed ***", "written ***", "child ***", "logged ***", "warned ***", "password=***", "cause ***"):
        assert said in texts, said
    rows = b"\n".join(content for _, content in in_tables(planted.stack)).decode(errors="replace")
    for said in ("told ***", "api_key=***", "found ***", "cause ***", "https://***@example.invalid", "skipped ***"):
        assert said in rows, said
    titles = planted.stack.sql("dagster", "select body from bulk_actions")
    assert any("because token=(masked)" in body for (body,) in titles)
    assert ("***",) in planted.stack.sql("dagster", "select value from run_tags where key = 'my-token'")
    params = planted.stack.sql("mlflow", "select key, value from params where key in ('api_key', 'note')")
    assert set(params) >= {("api_key", "***")} and len(planted.canaries) > 40


def test_what_holds_a_secret_is_refused_with_the_place(planted: Planted) -> None:
    messages = [answer["message"] for answer in planted.refused if "message" in answer]
    assert len(messages) == 2 * len(secret_settings(planted, "launchpad"))
    for message in messages:
        assert "holds what looks like a secret, at resources: run_settings: config: settings: CVN_" in message


@pytest.mark.parametrize("control", ["event log", "file", "warehouse", "mlflow", "output"])
def test_the_search_finds_what_is_not_masked(planted: Planted, control: str) -> None:
    """The mask of one channel switched off: the same search finds the canary there."""
    secret = canary("control") if control == "event log" else canary(f"control-{control}")
    assert found(planted, {"control": secret}) == set()
    place = unmask(planted, control, secret)
    assert ("control", place) in found(planted, {"control": secret})


def unmask(made: Planted, control: str, secret: str) -> str:
    """Let a canary past the mask; returns the place where it must be found."""
    stack = made.stack
    if control == "event log":
        started = backfill(made, ["unmasked"], "control", {})
        assert started is not None
        until("the backfill has ended", lambda: stack.api.backfill(started).status in ENDED, 120)
        return "dagster.event_logs"
    if control == "file":
        (stack.home / "artifacts" / "notes.bin").write_bytes(b"\0\xff" + secret.encode())
        return "artifacts/notes.bin"
    if control == "warehouse":
        stack.sql("cvntrade", "insert into exchange_bans values (%s, now(), 'run', now())", secret)
        return "cvntrade.exchange_bans"
    if control == "mlflow":
        stack.sql("mlflow", "insert into experiments (name) values (%s)", secret)
        return "mlflow.experiments"
    made.said["control"] = f"said {secret}"
    return "said: control"
