"""The files that codecs share: tables as Parquet, facts as JSON, models as UBJSON, calibrators as skops."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from resources.artifacts import ArtifactError

if TYPE_CHECKING:
    from cvntrade_assets.learning.calibration import Calibration
    from cvntrade_assets.learning.training import TrainedModel

# What a stored calibrator's parts are. Skops trusts all of scikit-learn by itself, so the part's own type is compared
# too; a type from anywhere else it refuses.
ESTIMATORS: Mapping[str, str] = {
    "sigmoid": "sklearn.linear_model._logistic.LogisticRegression",
    "isotonic": "sklearn.isotonic.IsotonicRegression",
}
TRUSTED_TYPES = (*ESTIMATORS.values(), "scipy.interpolate._interpolate.interp1d")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write Parquet: floats split into byte streams and no dictionary of them, a third smaller and faster to write.

    Raises:
        ArtifactError: it is no DataFrame.
    """
    if not isinstance(table, pd.DataFrame):  # an annotation holds nobody back at run time (incident 17.1)
        raise ArtifactError(
            f"{path.name} would hold a {type(table).__name__}, expected a DataFrame with named columns; "
            "keep the frame as a frame on its way here."
        )
    floats = [str(name) for name, kind in table.dtypes.items() if kind.kind == "f"]
    others = [str(name) for name in table.columns if str(name) not in floats]
    table.to_parquet(path, engine="pyarrow", compression="zstd", use_dictionary=others, use_byte_stream_split=floats)


def write_json(path: Path, value: object) -> None:
    """Write what JSON knows, in one spelling; not a number is refused."""
    path.write_text(json.dumps(value, sort_keys=True, indent=1, allow_nan=False))


def read_json(path: Path) -> Any:
    """Read it back."""
    return json.loads(path.read_text())


def write_plots(folder: Path, plots: Mapping[str, bytes]) -> None:
    """Write every plot as `<name>.png`."""
    for name, png in plots.items():
        (folder / f"{name}.png").write_bytes(png)


def read_plots(folder: Path) -> dict[str, bytes]:
    """Every plot of a folder, by name."""
    return {path.stem: path.read_bytes() for path in sorted(folder.glob("*.png"))}


def write_model(folder: Path, prefix: str, model: "TrainedModel") -> None:
    """Write the booster as UBJSON and its description as JSON, their names beginning with `prefix`."""
    (folder / f"{prefix}model.ubj").write_bytes(model.ubj)
    write_json(
        folder / f"{prefix}model.json",
        {
            "feature_names": list(model.feature_names),
            "objective": model.objective,
            "best_iteration": model.best_iteration,
            "params": dict(model.params),
        },
    )


def read_model(folder: Path, prefix: str) -> "TrainedModel":
    """Read it back."""
    from cvntrade_assets.learning.training import TrainedModel

    described = read_json(folder / f"{prefix}model.json")
    names = tuple(described.pop("feature_names"))
    return TrainedModel(ubj=(folder / f"{prefix}model.ubj").read_bytes(), feature_names=names, **described)


def write_calibration(folder: Path, prefix: str, calibration: "Calibration") -> None:
    """Write the estimators as skops files and the rest as JSON, their names beginning with `prefix`."""
    import skops.io

    write_json(folder / f"{prefix}calibration.json", calibration.describe())
    for name, estimator in calibration.estimators.items():
        skops.io.dump(estimator, folder / f"{prefix}{name}.skops")


def read_calibration(folder: Path, prefix: str) -> "Calibration":
    """Read it back.

    Raises:
        ArtifactError: an estimator is not the one that its file name says.
    """
    from cvntrade_assets.learning.calibration import restore

    estimators = {
        path.stem.removeprefix(prefix): _read_estimator(path, path.stem.removeprefix(prefix))
        for path in sorted(folder.iterdir())
        if path.suffix == ".skops" and path.name.startswith(prefix)
    }
    return restore(read_json(folder / f"{prefix}calibration.json"), estimators)


def _read_estimator(path: Path, name: str) -> Any:
    import skops.io

    estimator = skops.io.load(path, trusted=list(TRUSTED_TYPES))
    found, expected = f"{type(estimator).__module__}.{type(estimator).__qualname__}", ESTIMATORS.get(name)
    if found != expected:
        raise ArtifactError(f"{path} holds a {found}, expected {expected or 'no such file'}; rebuild the calibration.")
    return estimator
