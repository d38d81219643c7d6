"""The few GraphQL calls to the Dagster webserver that the commands need."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any

import httpx

from cvntrade_assets.commands.errors import CommandError

LOCATION = "cvntrade"
REPOSITORY = "__repository__"

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
      results { runId status startTime endTime tags { key value } stepStats { stepKey status startTime endTime } }
    }
    ... on PythonError { message }
  }
}"""

_ASSETS = "query { assetNodes { assetKey { path } dependencyKeys { path } } }"

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
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._client = httpx.Client(base_url=url, timeout=60.0, trust_env=False)

    def launch_backfill(
        self,
        assets: Sequence[str],
        cryptos: Sequence[str],
        settings: Mapping[str, str],
        tags: Mapping[str, str],
        title: str,
    ) -> str:
        """Start a backfill of the assets for the cryptos, one run a crypto; returns its id."""
        params: dict[str, Any] = {
            "assetSelection": [{"path": [name]} for name in assets],
            "partitionNames": list(cryptos),
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
            "title": title,
        }
        if settings:
            params["runConfigData"] = {"resources": {"run_settings": {"config": {"settings": dict(settings)}}}}
        answer = self._ask(_LAUNCH, {"params": params})["launchPartitionBackfill"]
        if answer["__typename"] != "LaunchBackfillSuccess":
            raise CommandError(f"Dagster refused the backfill: {_message(answer)}")
        return str(answer["backfillId"])

    def assets(self) -> list[str]:
        """Every asset, upstream first."""
        nodes = self._ask(_ASSETS, {})["assetNodes"]
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
        return BackfillState(found["status"], (found["error"] or {}).get("message"), runs["results"])

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


def _entries(entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    kinds = ("intValue", "floatValue", "text")
    return {entry["label"]: entry[kind] for entry in entries for kind in kinds if entry.get(kind) is not None}


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
        return f"step {event['stepKey']}: {reason.strip()}"
    return None
