"""`cvntrade rollout`: what it says when it is interrupted or settings change; the rest is tested on a live stack."""

from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from cvntrade_assets.commands import rollout
from cvntrade_assets.commands.backfill import INTERRUPTED
from cvntrade_assets.commands.errors import CommandError
from cvntrade_assets.commands.rollout import RolloutRequest
from cvntrade_assets.operations.rollout import RolloutStage
from resources.warehouse import Warehouse


def begun(warehouse: Warehouse, written: StringIO) -> SimpleNamespace:
    """A rollout under way on this database."""
    connection = SimpleNamespace(warehouse=lambda: warehouse)
    base_env = rollout._operators_settings(connection)  # type: ignore[arg-type]
    return SimpleNamespace(
        id="cleanlab-1-2", say=lambda text: written.write(f"{text}\n"), connection=connection, base_env=base_env
    )


@pytest.mark.parametrize(
    ("restart", "done", "said"),
    [
        (False, [RolloutStage.PREFLIGHT], "the same arguments continues with stage canary"),
        (True, [RolloutStage.PREFLIGHT], "the same arguments but --restart continues with stage canary"),
        (True, [], "the same arguments continues with stage preflight"),
    ],
)
def test_what_is_advised_does_not_begin_anew(
    monkeypatch: pytest.MonkeyPatch, warehouse: Warehouse, restart: bool, done: list[RolloutStage], said: str
) -> None:
    written = StringIO()
    under_way = begun(warehouse, written)

    def interrupted(*_: Any) -> None:
        raise rollout._Interrupted("Backfill abc goes on.")

    monkeypatch.setattr(rollout, "_begin", lambda *_: (under_way, done))
    monkeypatch.setattr(rollout, "_run_stage", interrupted)
    request = RolloutRequest("cleanlab", "defi", restart=restart)
    assert rollout.rollout(None, request, Console()) == INTERRUPTED  # type: ignore[arg-type]
    assert said in written.getvalue()


def test_settings_that_change_between_two_stages_end_the_rollout(
    monkeypatch: pytest.MonkeyPatch, warehouse: Warehouse
) -> None:
    ran: list[RolloutStage] = []

    def passes(under_way: Any, stage: RolloutStage) -> SimpleNamespace:
        ran.append(stage)
        # What counts as now moves on by itself, and is the rollout's own; seeds repeat defaults.
        moves = {"CVN_AS_OF": "2025-09-01", "CVN_HPO_JUDGE_30M_MAX_DEPTH": "3"}
        changes = moves if stage is RolloutStage.PREFLIGHT else {"CVN_MAX_FEATURES": "30"}
        warehouse.set_base_env(changes, "tests")
        return SimpleNamespace(passed=True)

    monkeypatch.setattr(rollout, "_begin", lambda *_: (begun(warehouse, StringIO()), []))
    monkeypatch.setattr(rollout, "_run_stage", passes)
    try:
        with pytest.raises(CommandError, match="CVN_MAX_FEATURES changed in the table base_env") as refused:
            rollout.rollout(None, RolloutRequest("cleanlab", "defi"), Console())  # type: ignore[arg-type]
    finally:
        gone = dict.fromkeys(("CVN_AS_OF", "CVN_MAX_FEATURES", "CVN_HPO_JUDGE_30M_MAX_DEPTH"))
        warehouse.set_base_env(gone, "tests")
    assert ran == [RolloutStage.PREFLIGHT, RolloutStage.CANARY]
    assert "its full stage" in str(refused.value)
