"""What an artifact's version is made of."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

# The run tag, with the value "true", that asks for everything to be computed again.
FORCE_TAG = "cvntrade/force"
# The input that a forced run adds, so that it gets a version of its own.
FORCED = "forced_by_run"
# The input that stands for what was read beside the assets: of the outside world, or of the record.
CONTENT = "content"


@dataclass(frozen=True)
class Provenance:
    """Where a version comes from.

    Attributes:
        code_version: The asset's code version.
        inputs: Version of every input, by asset name, and the digest of what was read beside them.
        settings: Canonical texts of the settings that the asset uses.
        market: The market behind the candles, `binance` or `simulated`.
        lineage: The settings of this asset and of everything upstream, so that a run can tell whether an input was
            built with other settings than its own.
        data_until: ISO moment at which the newest candle behind it closed, so that a replay of the past can refuse what
            knows more; None for what no candle stands behind.
    """

    code_version: str
    inputs: Mapping[str, str]
    settings: Mapping[str, str]
    market: str
    lineage: Mapping[str, str]
    data_until: str | None = None

    @property
    def version(self) -> str:
        """The version: 20 hex digits of a hash of code version, inputs and own settings."""
        parts = {"code": self.code_version, "inputs": dict(self.inputs), "settings": dict(self.settings)}
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:20]
