"""What is written in plots, for the tests that read them."""

import pytest


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text that figures hold when they are saved."""
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    seen: list[str] = []
    save = Figure.savefig

    def keep_texts(figure: Figure, *arguments, **options) -> None:
        save(figure, *arguments, **options)
        seen.extend(text.get_text() for text in figure.findobj(Text))

    monkeypatch.setattr(Figure, "savefig", keep_texts)
    return seen
