"""What the commands' tests share: a scripted webserver, and the command line in this process."""

from collections.abc import Callable, Iterator

import pytest
from scripted_webserver import Webserver

from cvntrade_assets import cli
from resources.warehouse import Warehouse


@pytest.fixture
def webserver(monkeypatch: pytest.MonkeyPatch, warehouse_url: str, warehouse: Warehouse) -> Iterator[Webserver]:
    """What CVN_UI_URL and CVN_WAREHOUSE_URL name."""
    warehouse.seed_universes()
    with Webserver() as server:
        monkeypatch.setenv("CVN_UI_URL", server.url)
        monkeypatch.setenv("CVN_WAREHOUSE_URL", warehouse_url)
        yield server


@pytest.fixture
def cvntrade(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs the command line; returns its exit code and what it wrote to either stream."""

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["cvntrade", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        written = capsys.readouterr()
        return int(ended.value.code or 0), written.out, written.err

    return run
