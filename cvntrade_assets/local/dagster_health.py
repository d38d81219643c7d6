"""Whether Dagster's servers do their work, asked from the webserver as the UI asks it."""

from collections.abc import Mapping
from typing import Any

import httpx

_LOCATION = """
{ workspaceOrError {
    __typename
    ... on PythonError { message }
    ... on Workspace { locationEntries {
      name loadStatus
      locationOrLoadError { __typename ... on PythonError { message } }
    } } } }"""

_DAEMONS = """
{ instance { daemonHealth { allDaemonStatuses {
    daemonType required healthy lastHeartbeatTime lastHeartbeatErrors { message } } } } }"""


class LocationError(ValueError):
    """The definitions do not load; the message is Dagster's."""


class DaemonError(ValueError):
    """A daemon reports an error."""


class DagsterHealth:
    """Asks one webserver.

    Args:
        url: the webserver's address.
    """

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=10.0, trust_env=False)

    def answers(self) -> bool:
        """Whether the webserver is there."""
        try:
            return self._client.get("/server_info").is_success
        except httpx.TransportError:
            return False

    def location_loaded(self) -> bool:
        """Whether the one code location is there, without error.

        Raises:
            LocationError: it came up with an error.
        """
        workspace = self._ask(_LOCATION)["workspaceOrError"]
        if workspace["__typename"] != "Workspace":
            raise LocationError(f"Dagster has no workspace: {workspace.get('message')}")
        entries = workspace["locationEntries"]
        for entry in entries:
            found = entry["locationOrLoadError"]
            if found and found["__typename"] == "PythonError":
                raise LocationError(f"Dagster cannot load {entry['name']}: {found['message'].strip()}")
        return bool(entries) and all(entry["loadStatus"] == "LOADED" for entry in entries)

    def silent_daemons(self, since: float) -> list[str]:
        """The required daemons without a heartbeat after `since` (seconds since the epoch).

        Raises:
            DaemonError: one has sent a heartbeat that carries an error.
        """
        statuses = self._ask(_DAEMONS)["instance"]["daemonHealth"]["allDaemonStatuses"]
        silent = []
        for status in statuses:
            if not status["required"]:
                continue
            if (status["lastHeartbeatTime"] or 0.0) < since:
                silent.append(str(status["daemonType"]))
            elif status["lastHeartbeatErrors"]:
                reasons = "; ".join(error["message"].strip() for error in status["lastHeartbeatErrors"])
                raise DaemonError(f"Dagster's {status['daemonType']} daemon reports: {reasons}")
        return silent

    def close(self) -> None:
        """Give the connection back."""
        self._client.close()

    def _ask(self, query: str) -> Mapping[str, Any]:
        response = self._client.post("/graphql", json={"query": query})
        response.raise_for_status()
        data: Mapping[str, Any] = response.json()["data"]
        return data
