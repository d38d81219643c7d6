"""`cvntrade rollout`: what it says when it is interrupted; the rest is tested on a live stack."""

from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from cvntrade_assets.commands import rollout
from cvntrade_assets.commands.backfill import INTERRUPTED
from cvntrade_assets.commands.rollout import RolloutRequest
from cvntrade_assets.operations.rollout import RolloutStage


@pytest.mark.parametrize(
    ("restart", "done", "said"),
    [
        (False, [RolloutStage.PREFLIGHT], "the same arguments continues with stage canary"),
        (True, [RolloutStage.PREFLIGHT], "the same arguments but --restart continues with stage canary"),
        (True, [], "the same arguments continues with stage preflight"),
    ],
)
def test_what_is_advised_does_not_begin_anew(
    monkeypatch: pytest.MonkeyPatch, restart: bool, done: list[RolloutStage], said: str
) -> None:
    written = StringIO()
    under_way = SimpleNamespace(say=lambda text: written.write(f"{text}\n"))

    def interrupted(*_: Any) -> None:
        raise rollout._Interrupted("Backfill abc goes on.")

    monkeypatch.setattr(rollout, "_begin", lambda *_: (under_way, done))
    monkeypatch.setattr(rollout, "_run_stage", interrupted)
    request = RolloutRequest("cleanlab", "defi", restart=restart)
    assert rollout.rollout(None, request, Console()) == INTERRUPTED  # type: ignore[arg-type]
    assert said in written.getvalue()
