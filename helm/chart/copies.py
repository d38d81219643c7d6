"""Files that stand in the repository once and must reach the chart, because Helm reads nothing outside a chart."""

from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
CHART = REPOSITORY / "helm" / "cvntrade"
# One dagster.yaml for laptop, CI and cluster; one workspace.
COPIED = ("dagster.yaml", "workspace.yaml")


@dataclass(frozen=True)
class Copy:
    """A file of the repository and its copy in the chart."""

    original: Path
    copy: Path

    @property
    def equal(self) -> bool:
        """Whether the copy is the original, byte for byte."""
        return self.copy.is_file() and self.copy.read_bytes() == self.original.read_bytes()

    def refresh(self) -> bool:
        """Write the copy where it differs; whether it did."""
        if self.equal:
            return False
        self.copy.parent.mkdir(parents=True, exist_ok=True)
        self.copy.write_bytes(self.original.read_bytes())
        return True


COPIES = tuple(Copy(REPOSITORY / name, CHART / "files" / name) for name in COPIED)
