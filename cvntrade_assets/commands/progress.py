"""A progress bar per stage of a backfill, drawn from what the webserver says of its runs."""

from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, track

_DONE = frozenset({"SUCCESS", "FAILURE", "SKIPPED"})
_POLL_SECONDS = 0.5
_PATIENCE = 2.0


def pause_after(took: float) -> float:
    """Seconds until the webserver is asked again, after an answer that took some.

    Hundreds of runs with their steps take it seconds to tell: whoever follows leaves it two thirds of its time.
    """
    return max(_POLL_SECONDS, _PATIENCE * took)


def told_cryptos(cryptos: Sequence[str], what: str, console: Console) -> Iterable[str]:
    """The cryptos one after the other, under a bar that goes when they are done; none where nobody looks."""
    return track(cryptos, what, console=console, transient=True, disable=not console.is_terminal)


class StageProgress:
    """One bar per asset; its length is the number of cryptos."""

    def __init__(self, assets: Sequence[str], cryptos: int, console: Console) -> None:
        columns = (
            TextColumn("{task.description:<18}"),
            BarColumn(),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._progress = Progress(*columns, console=console)
        self._bars: dict[str, TaskID] = {
            name: self._progress.add_task(name, total=cryptos, note="", start=False) for name in assets
        }

    def __enter__(self) -> "StageProgress":
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def update(self, runs: Sequence[Mapping[str, Any]]) -> None:
        """Move every bar to what the runs' steps say."""
        steps: dict[str, list[str]] = {name: [] for name in self._bars}
        for run in runs:
            for step in run["stepStats"]:
                if step["stepKey"] in steps:
                    steps[step["stepKey"]].append(step["status"])
        for name, statuses in steps.items():
            self._move(self._bars[name], statuses)

    def _move(self, bar: TaskID, statuses: Sequence[str]) -> None:
        if not statuses:
            return
        self._progress.start_task(bar)
        done = sum(status in _DONE for status in statuses)
        wrong = [status.lower() for status in ("FAILURE", "SKIPPED") if status in statuses]
        running = ["running"] if done < len(statuses) else []
        self._progress.update(bar, completed=done, note=", ".join(wrong + running))
        if self._progress.tasks[bar].finished:
            self._progress.stop_task(bar)
