"""Following runs leaves the webserver time for others."""

import pytest

from cvntrade_assets.commands.progress import pause_after


@pytest.mark.parametrize(("took", "pause"), [(0.0, 0.5), (0.24, 0.5), (0.25, 0.5), (0.26, 0.52), (5.0, 10.0)])
def test_an_answer_that_takes_long_is_asked_for_less_often(took: float, pause: float) -> None:
    assert pause_after(took) == pytest.approx(pause)
