"""Where runs take place: each in a process of the code server's machine, or each in a pod of its own.

dagster.yaml is the same for both; CVN_RUNS_IN says which. What Dagster gets is the one or the other, never a wrapper:
Dagster asks a launcher what it is.
"""

from collections.abc import Mapping
from typing import Any

from dagster import StringSource
from dagster._core.launcher import RunLauncher
from dagster._serdes import ConfigurableClass, ConfigurableClassData

PROCESSES = "processes"
PODS = "pods"


class PlacedRunLauncher(RunLauncher, ConfigurableClass):
    """What dagster.yaml names; building it from there gives the launcher of the place."""

    @classmethod
    def config_type(cls) -> Mapping[str, Any]:
        """One word, most often from the environment."""
        return {"runs_in": StringSource}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]) -> Any:
        """The launcher of the place.

        Raises:
            ValueError: there is no such place.
        """
        place = config_value["runs_in"]
        if place == PROCESSES:
            from resources.process_launcher import EndingRunLauncher

            return EndingRunLauncher(inst_data)
        if place == PODS:
            from resources.pod_launcher import pod_launcher

            return pod_launcher(inst_data)
        raise ValueError(
            f"run_launcher.runs_in in dagster.yaml (CVN_RUNS_IN) is {place!r}: expected {PROCESSES} or {PODS}"
        )
