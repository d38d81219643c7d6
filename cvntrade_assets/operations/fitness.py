"""Whether inputs that each passed their checks may be used together, and by this run."""

from collections.abc import Collection, Iterator, Mapping

import pandas as pd

from cvntrade_assets.operations.provenance import Provenance
from cvntrade_assets.settings import Settings


def unfit_reasons(
    inputs: Mapping[str, Provenance],
    versions: Mapping[str, str | None],
    settings: Settings,
    may_be_older: Collection[str] = (),
) -> list[str]:
    """Why inputs do not belong together or not to this run; empty when they do.

    Args:
        inputs: Provenance of every input that is to be judged, by asset.
        versions: Version of every input that will be loaded beside them; None where only running can tell.
        settings: The run's settings.
        may_be_older: Inputs that may have been built from another version of an input beside them.
    """
    dated = {name: made for name, made in inputs.items() if name not in may_be_older}
    return [
        *_built_with_other_settings(inputs, settings),
        *_built_from_other_versions(dated, versions),
        *_from_the_future(inputs, settings),
    ]


def _built_with_other_settings(inputs: Mapping[str, Provenance], settings: Settings) -> Iterator[str]:
    """A setting of the run must not be ignored because an input that it shapes is older."""
    for name, made in inputs.items():
        wanted = settings.used(made.lineage)
        other = [
            f"{key}={then!r} (this run: {wanted[key]!r})" for key, then in made.lineage.items() if wanted[key] != then
        ]
        if other:
            yield f"{name} {made.version} was built with {', '.join(other)}"


def _built_from_other_versions(inputs: Mapping[str, Provenance], versions: Mapping[str, str | None]) -> Iterator[str]:
    """A model of one training set must not be tested on another's slices: rows that it learned from may be in them."""
    for name, made in inputs.items():
        for parent, version in made.inputs.items():
            if parent in versions and versions[parent] != version:
                yield f"{name} {made.version} was built from {parent} {version}, which is no longer the current one"


def _from_the_future(inputs: Mapping[str, Provenance], settings: Settings) -> Iterator[str]:
    """A replay of the past must not learn from candles that had not closed by then."""
    for name, made in inputs.items():
        if made.data_until is not None and pd.Timestamp(made.data_until) > settings.as_of:
            now = settings.as_of.isoformat()
            yield f"{name} {made.version} knows candles until {made.data_until}, and now is {now} (CVN_AS_OF)"
