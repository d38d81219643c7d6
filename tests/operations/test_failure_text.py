"""What an exception says, without the names of this code's classes."""

import pytest

from cvntrade_assets.operations.failure_text import plainly


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ("cvntrade_assets.learning.splits.UnusableSplitError: too few candles\n", "too few candles"),
        ("resources.artifacts.ArtifactError: gone: resources.x.Y: z", "gone: resources.x.Y: z"),
        ("ValueError: no such fold", "ValueError: no such fold"),
        ("sqlalchemy.exc.OperationalError: refused", "sqlalchemy.exc.OperationalError: refused"),
        ("resources of XRPUSDC: none", "resources of XRPUSDC: none"),
        ("resources.artifacts.ArtifactError: ", "resources.artifacts.ArtifactError:"),
    ],
)
def test_only_the_classes_of_this_code_go(kept: str, said: str) -> None:
    assert plainly(kept) == said
