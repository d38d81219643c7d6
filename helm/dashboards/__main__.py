"""Write every dashboard; what is no dashboard any more goes."""

from pathlib import Path

from helm.dashboards.catalogue import DASHBOARDS, as_json

FOLDER = Path(__file__).parents[1] / "cvntrade" / "files" / "dashboards"


def main() -> None:
    """Bring the folder up to date."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for file in FOLDER.glob("*.json"):
        if file.stem not in DASHBOARDS:
            file.unlink()
    for uid, make in DASHBOARDS.items():
        (FOLDER / f"{uid}.json").write_text(as_json(make()))


if __name__ == "__main__":
    main()
