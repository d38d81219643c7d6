"""The few GraphQL calls to the Dagster webserver that the commands need."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any

import httpx

from cvntrade_assets.commands.errors import CommandError
from cvntrade_assets.operations.failure_text import plainly
from cvntrade_assets.operations.masking import public_address

LOCATION = "cvntrade"
REPOSITORY = "__repository__"
RUN_ENDED = frozenset({"SUCCESS", "FAILURE", "CANCELED"})
_POLL_SECONDS = 0.5
_NOT_BEGUN = frozenset({"NOT_STARTED", "QUEUED"})
# The webserver reads a run's whole history for its steps, about 12 ms a run.
_RUNS_AT_ONCE = 200

_LAUNCH = """
mutation($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
    ... on UnauthorizedError { message }
    ... on PartitionSetNotFoundError { message }
    ... on PartitionKeysNotFoundError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}"""

_LAUNCH_RUN = """
mutation($params: ExecutionParams!) {
  launchRun(executionParams: $params) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on UnauthorizedError { message }
    ... on PipelineNotFoundError { message }
    ... on InvalidSubsetError { message }
    ... on RunConfigValidationInvalid { errors { message } }
  }
}"""

_ADD_PARTITION = """
mutation($repository: RepositorySelector!, $key: String!) {
  addDynamicPartition(repositorySelector: $repository, partitionsDefName: "crypto", partitionKey: $key) {
    __typename
    ... on PythonError { message }
    ... on UnauthorizedError { message }
  }
}"""

_BACKFILL = """
query($id: String!, $tags: [ExecutionTag!]!) {
  partitionBackfillOrError(backfillId: $id) {
    __typename
    ... on PartitionBackfill { status error { message } }
    ... on BackfillNotFoundError { message }
    ... on PythonError { message }
  }
  runsOrError(filter: {tags: $tags}) {
    __typename
    ... on Runs {
      results { runId status startTime endTime tags { key value } }
    }
    ... on PythonError { message }
  }
}"""

_RUNS = """
query($tags: [ExecutionTag!]!) {
  runsOrError(filter: {tags: $tags}) {
    __typename
    ... on Runs {
      results { runId status startTime endTime tags { key value } }
    }
    ... on PythonError { message }
  }
}"""

_STEPS = """
query($ids: [String!]!) {
  runsOrError(filter: {runIds: $ids}) {
    __typename
    ... on Runs { results { runId stepStats { stepKey status } } }
    ... on PythonError { message }
  }
}"""

_ASSETS = "query { assetNodes { assetKey { path } dependencyKeys { path } metadataEntries { label } } }"

_RESULTS = """
query($keys: [AssetKeyInput!]!, $partitions: [String!]!) {
  assetNodes(assetKeys: $keys) {
    assetKey { path }
    latestMaterializationByPartition(partitions: $partitions) {
      partition runId timestamp
      metadataEntries {
        label
        ... on IntMetadataEntry { intValue }
        ... on FloatMetadataEntry { floatValue }
        ... on TextMetadataEntry { text }
        ... on JsonMetadataEntry { jsonString }
      }
    }
  }
}"""

_STATUS = """
query($id: ID!) {
  runOrError(runId: $id) {
    __typename
    ... on Run { status }
    ... on RunNotFoundError { message }
    ... on PythonError { message }
  }
}"""

_TERMINATE = """
mutation($ids: [String!]!, $policy: TerminateRunPolicy) {
  terminateRuns(runIds: $ids, terminatePolicy: $policy) {
    __typename
    ... on PythonError { message }
    ... on TerminateRunsResult {
      terminateRunResults {
        __typename
        ... on TerminateRunFailure { message }
        ... on RunNotFoundError { message }
        ... on UnauthorizedError { message }
        ... on PythonError { message }
      }
    }
  }
}"""

_FAILURES = """
query($id: ID!, $after: String) {
  logsForRun(runId: $id, afterCursor: $after, limit: 1000) {
    __typename
    ... on RunNotFoundError { message }
    ... on PythonError { message }
    ... on EventConnection {
      cursor hasMore
      events {
        __typename
        ... on ExecutionStepFailureEvent {
          stepKey error { message causes { message } } failureMetadata { description }
        }
        ... on AssetCheckEvaluationEvent {
          evaluation { checkName success description severity assetKey { path } }
        }
        ... on RunFailureEvent { message error { message } }
      }
    }
  }
}"""


@dataclass(frozen=True)
class BackfillState:
    """A backfill as the webserver tells it: its status, its error, and its runs with their steps."""

    status: str
    error: str | None
    runs: Sequence[Mapping[str, Any]]


class DagsterApi:
    """Talks to one webserver.

    Args:
        url: The webserver's address, such as http://127.0.0.1:3000.

    Attributes:
        url: The same without a user and password, for links that are shown.
    """

    def __init__(self, url: str) -> None:
        self.url = public_address(url)
        self._client = httpx.Client(base_url=url, timeout=60.0, trust_env=False)
        # The steps of runs that have ended, which no answer changes any more.
        self._ended: dict[str, list[Mapping[str, Any]]] = {}

    def launch_backfill(
        self,
        assets: Sequence[str],
        cryptos: Sequence[str],
        settings: Mapping[str, str],
        tags: Mapping[str, str],
        title: str,
        variants: Mapping[str, str] | None = None,
    ) -> str:
        """Start a backfill of the assets for the cryptos, one run a crypto; returns its id."""
        params: dict[str, Any] = {
            "assetSelection": [{"path": [name]} for name in assets],
            "partitionNames": list(cryptos),
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
            "title": title,
        }
        if settings or variants:
            params["runConfigData"] = run_config(settings, variants or {})
        answer = self._ask(_LAUNCH, {"params": params})["launchPartitionBackfill"]
        if answer["__typename"] != "LaunchBackfillSuccess":
            raise CommandError(f"Dagster refused the backfill: {_message(answer)}")
        return str(answer["backfillId"])

    def launch_run(
        self,
        job: str,
        config: Mapping[str, Any],
        tags: Mapping[str, str],
        checks: Mapping[str, Sequence[str]] | None = None,
    ) -> str:
        """Start one run of a job; returns its id.

        Args:
            job: The job's name.
            config: The run config.
            tags: The run's tags; `dagster/partition` says which partition.
            checks: Of these of its assets only, and only these checks of each; None for the whole job.
        """
        selector: dict[str, Any] = {
            "repositoryName": REPOSITORY,
            "repositoryLocationName": LOCATION,
            "jobName": job,
        }
        if checks is not None:
            selector["assetSelection"] = [{"path": [asset]} for asset in checks]
            selector["assetCheckSelection"] = [
                {"assetKey": {"path": [asset]}, "name": name} for asset, names in checks.items() for name in names
            ]
        params = {
            "selector": selector,
            "runConfigData": dict(config),
            "executionMetadata": {"tags": [{"key": key, "value": value} for key, value in tags.items()]},
        }
        answer = self._ask(_LAUNCH_RUN, {"params": params})["launchRun"]
        if answer["__typename"] != "LaunchRunSuccess":
            raise CommandError(f"Dagster refused a run of job {job}: {_message(answer)}")
        return str(answer["run"]["runId"])

    def wait_for_run(self, run_id: str) -> str:
        """The status that a run ends with."""
        while (status := self.run_status(run_id)) not in RUN_ENDED:
            time.sleep(_POLL_SECONDS)
        return status

    def assets(self, *, on_demand: bool = False) -> list[str]:
        """Every stage of the chain, upstream first: the assets that declare which settings they use.

        Args:
            on_demand: With those that only run when asked for.
        """
        found = self._ask(_ASSETS, {})["assetNodes"]
        labels = [{entry["label"] for entry in node["metadataEntries"]} for node in found]
        nodes = [
            node
            for node, said in zip(found, labels, strict=True)
            if "settings" in said and (on_demand or "on_demand" not in said)
        ]
        graph = {node["assetKey"]["path"][-1]: {key["path"][-1] for key in node["dependencyKeys"]} for node in nodes}
        return list(TopologicalSorter(graph).static_order())

    def add_partition(self, crypto: str) -> None:
        """Make a crypto known as a partition; one that exists already stays as it is."""
        repository = {"repositoryName": REPOSITORY, "repositoryLocationName": LOCATION}
        answer = self._ask(_ADD_PARTITION, {"repository": repository, "key": crypto})["addDynamicPartition"]
        if answer["__typename"] not in ("AddDynamicPartitionSuccess", "DuplicateDynamicPartitionError"):
            raise CommandError(f"Dagster refused the partition {crypto}: {_message(answer)}")

    def backfill(self, backfill_id: str) -> BackfillState:
        """The backfill's status and its runs so far."""
        answer = self._ask(_BACKFILL, {"id": backfill_id, "tags": [{"key": "dagster/backfill", "value": backfill_id}]})
        found, runs = answer["partitionBackfillOrError"], answer["runsOrError"]
        if found["__typename"] != "PartitionBackfill" or runs["__typename"] != "Runs":
            raise CommandError(f"backfill {backfill_id} cannot be read: {_message(found)} {_message(runs)}")
        return BackfillState(found["status"], (found["error"] or {}).get("message"), self._with_steps(runs["results"]))

    def tagged_runs(self, name: str, value: str) -> Sequence[Mapping[str, Any]]:
        """Every run with a tag, with its steps."""
        answer = self._ask(_RUNS, {"tags": [{"key": name, "value": value}]})["runsOrError"]
        if answer["__typename"] != "Runs":
            raise CommandError(f"the runs of {value} cannot be read: {_message(answer)}")
        return self._with_steps(answer["results"])

    def run_status(self, run_id: str) -> str:
        """A run's status, as Dagster names it."""
        found = self._ask(_STATUS, {"id": run_id})["runOrError"]
        if found["__typename"] != "Run":
            raise CommandError(f"run {run_id} cannot be read: {_message(found)}")
        return str(found["status"])

    def terminate(self, run_ids: Sequence[str], *, force: bool) -> None:
        """Ask runs to end; with `force`, record them as cancelled at once, whether or not somebody was left to ask."""
        policy = "MARK_AS_CANCELED_IMMEDIATELY" if force else "SAFE_TERMINATE"
        answer = self._ask(_TERMINATE, {"ids": list(run_ids), "policy": policy})["terminateRuns"]
        results = answer.get("terminateRunResults", [answer])
        refused = [_message(result) for result in results if result["__typename"] != "TerminateRunSuccess"]
        if refused:
            raise CommandError(
                f"Dagster did not end every run: {'; '.join(refused)}. When nobody is left to ask, "
                "`cvntrade stop --force RUN_ID` records a run as cancelled."
            )

    def latest_metadata(self, assets: Sequence[str], cryptos: Sequence[str]) -> dict[tuple[str, str], dict[str, Any]]:
        """The plain metadata of every (asset, crypto)'s newest materialization."""
        keys = [{"path": [name]} for name in assets]
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for node in self._ask(_RESULTS, {"keys": keys, "partitions": list(cryptos)})["assetNodes"]:
            for event in filter(None, node["latestMaterializationByPartition"]):
                key = (node["assetKey"]["path"][-1], event["partition"])
                found[key] = {"run_id": event["runId"], **_entries(event["metadataEntries"])}
        return found

    def failures(self, run_id: str) -> list[str]:
        """Why a run failed: its failed checks and steps, a sentence each; else what ended it before its steps."""
        events = list(self._events(run_id))
        reasons = [text for event in events if (text := _failure(event))]
        return reasons or [text for event in events if (text := _run_failure(event))]

    def _with_steps(self, runs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """The runs with their steps; of a run that has ended they are asked for once."""
        steps: dict[str, list[Mapping[str, Any]]] = {run["runId"]: [] for run in runs} | self._ended
        asked = [run["runId"] for run in runs if run["status"] not in _NOT_BEGUN and run["runId"] not in self._ended]
        for start in range(0, len(asked), _RUNS_AT_ONCE):
            answer = self._ask(_STEPS, {"ids": asked[start : start + _RUNS_AT_ONCE]})["runsOrError"]
            if answer["__typename"] != "Runs":
                raise CommandError(f"the steps of runs cannot be read: {_message(answer)}")
            steps |= {run["runId"]: run["stepStats"] for run in answer["results"]}
        self._ended |= {run["runId"]: steps[run["runId"]] for run in runs if run["status"] in RUN_ENDED}
        return [{**run, "stepStats": steps[run["runId"]]} for run in runs]

    def _events(self, run_id: str) -> Iterator[Mapping[str, Any]]:
        after: str | None = None
        while True:
            page = self._ask(_FAILURES, {"id": run_id, "after": after})["logsForRun"]
            if page["__typename"] != "EventConnection":
                raise CommandError(f"the events of run {run_id} cannot be read: {_message(page)}")
            yield from page["events"]
            if not page["hasMore"]:
                return
            after = page["cursor"]

    def _ask(self, query: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        try:
            response = self._client.post("/graphql", json={"query": query, "variables": dict(variables)})
            response.raise_for_status()
            answer = response.json()
        except httpx.HTTPStatusError as error:
            raise CommandError(
                f"the Dagster webserver at {self.url} answered {error.response.status_code} "
                f"{error.response.reason_phrase}: does its PostgreSQL still run? Its log says more."
            ) from error
        except (httpx.HTTPError, ValueError) as error:
            raise CommandError(
                f"the Dagster webserver at {self.url} did not answer as expected ({type(error).__name__}: {error}). "
                "Start it with `cvntrade up`, or set CVN_UI_URL to where it runs."
            ) from error
        if answer.get("errors"):
            raise CommandError(f"Dagster could not answer: {answer['errors'][0].get('message')}")
        data: dict[str, Any] = answer["data"]
        return data


def run_config(settings: Mapping[str, str], variants: Mapping[str, str]) -> dict[str, Any]:
    """The run config of a run that sets these keys and is given these variants."""
    config = {"settings": dict(settings), "variants": dict(variants)}
    return {"resources": {"run_settings": {"config": config}}}


def _entries(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    kinds = ("intValue", "floatValue", "text")
    plain = {entry["label"]: entry[kind] for entry in entries for kind in kinds if entry.get(kind) is not None}
    return plain | {entry["label"]: json.loads(entry["jsonString"]) for entry in entries if entry.get("jsonString")}


def _message(answer: Mapping[str, Any]) -> str:
    if "errors" in answer:
        return "; ".join(error["message"] for error in answer["errors"])
    return str(answer.get("message", answer["__typename"]))


def _run_failure(event: Mapping[str, Any]) -> str | None:
    if event["__typename"] != "RunFailureEvent":
        return None
    return str((event["error"] or {}).get("message") or event["message"]).strip()


def _failure(event: Mapping[str, Any]) -> str | None:
    if event["__typename"] == "AssetCheckEvaluationEvent":
        evaluation = event["evaluation"]
        if evaluation["success"] or evaluation["severity"] != "ERROR":
            return None
        return f"check {evaluation['checkName']} of {evaluation['assetKey']['path'][-1]}: {evaluation['description']}"
    if event["__typename"] == "ExecutionStepFailureEvent":
        described = (event["failureMetadata"] or {}).get("description")
        causes = (event["error"] or {}).get("causes") or []
        reason = described or (
            causes[-1]["message"] if causes else (event["error"] or {}).get("message", "no reason given")
        )
        return f"step {event['stepKey']}: {plainly(reason)}"
    return None
