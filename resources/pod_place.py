"""Where pods of runs are made, and with which names of the cluster: from the environment that the chart sets."""

from collections.abc import Mapping
from dataclasses import dataclass

_REQUIRED = (
    "CVN_POD_NAMESPACE",
    "CVN_POD_SERVICE_ACCOUNT",
    "CVN_POD_IMAGE",
    "CVN_POD_INSTANCE_CONFIG_MAP",
    "DAGSTER_HOME",
)


class PodPlaceError(ValueError):
    """The environment does not say where pods are made; the message names every variable that is missing."""


@dataclass(frozen=True)
class PodPlace:
    """Names in the cluster.

    Attributes:
        namespace: Where Jobs are made.
        service_account: Whose name pods have; they get no token of it.
        image: What they run.
        instance_config_map: Holds dagster.yaml.
        dagster_home: Folder that it is mounted at.
        env_config_maps: ConfigMaps whose entries are the environment.
        env_secrets: Secrets whose entries are.
        pull_secrets: Secrets that the image is fetched with.
    """

    namespace: str
    service_account: str
    image: str
    instance_config_map: str
    dagster_home: str
    env_config_maps: tuple[str, ...] = ()
    env_secrets: tuple[str, ...] = ()
    pull_secrets: tuple[str, ...] = ()

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "PodPlace":
        """The place that the environment names.

        Raises:
            PodPlaceError: something is missing.
        """
        missing = [name for name in (*_REQUIRED, "CVN_WAREHOUSE_URL") if not environment.get(name)]
        if missing:
            raise PodPlaceError(
                f"runs are to be pods (CVN_RUNS_IN=pods), and {', '.join(missing)} is not set. The chart sets it on "
                "the daemon and the webserver."
            )
        namespace, account, image, config_map, home = (environment[name] for name in _REQUIRED)
        lists = ("CVN_POD_ENV_CONFIG_MAPS", "CVN_POD_ENV_SECRETS", "CVN_POD_PULL_SECRETS")
        config_maps, secrets, pull_secrets = (_listed(environment.get(name, "")) for name in lists)
        return cls(namespace, account, image, config_map, home, config_maps, secrets, pull_secrets)


def _listed(text: str) -> tuple[str, ...]:
    return tuple(name for part in text.split(",") if (name := part.strip()))
