"""Commands that texts name, read by the real command line without being carried out."""

import re
import shlex
from typing import Any

import pandas as pd
import typer
from typer.main import get_command

from cvntrade_assets.assets.candles import candles
from cvntrade_assets.assets.features import features
from cvntrade_assets.assets.screening_matrix import screening_matrix
from cvntrade_assets.cli import app, read_pairs
from cvntrade_assets.operations.factors import resolve_run
from cvntrade_assets.settings import Settings

NOW = pd.Timestamp("2025-09-01", tz="UTC")


def typed_in(text: str) -> list[str]:
    """The commands that stand between backticks."""
    return re.findall(r"`(cvntrade [^`]+)`", text)


GROUP = get_command(app)
# Typer brings its own copy of Click, and this is what it raises for anything mistyped.
UsageError = typer.BadParameter.__mro__[1]


def parse(command: str) -> dict[str, Any]:
    """What the real command line reads from a command without carrying it out; UsageError when it does not take it."""
    program, *words = shlex.split(command)
    assert program == "cvntrade"
    context = GROUP.make_context(program, words)
    name, found, rest = GROUP.resolve_command(context, words)  # type: ignore[attr-defined]
    return dict(found.make_context(name, rest, parent=context).params)


def resolved(pairs: list[str]) -> Settings:
    return resolve_run(base_env={}, run=read_pairs(pairs), now=NOW)


# What a screening is made with: a run that takes the last one is refused when it sets any of it differently.
SCREENED = [
    name for asset in (candles, features, screening_matrix) for name in asset.metadata_by_key[asset.key]["settings"]
]


def is_refused(command: str) -> bool:
    """Whether the run takes a screening and sets what that was not made with."""
    if command.split()[1] not in ("backtesting", "walkforward", "retrain"):
        return False
    given_ = resolved(parse(command).get("pairs") or [])
    return given_.used(SCREENED) != resolved([]).used(SCREENED)
