"""What this process's mask knows."""

from collections.abc import Iterator

import pytest

from resources.secrets import learn_secrets, process_mask


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A mask that is built anew, and forgotten after the test."""
    monkeypatch.setattr("resources.secrets._learned", set())
    process_mask.cache_clear()
    yield
    process_mask.cache_clear()


def test_it_knows_the_environment_and_is_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CVN_ALERT_TOKEN", "alert-canary")
    monkeypatch.setenv("CVN_WAREHOUSE_URL", "postgresql+psycopg2://u:url%2Dcanary@h/db")
    mask = process_mask()
    assert mask.text("alert-canary, url%2Dcanary and url-canary") == "***, *** and ***"
    assert process_mask() is mask


def test_it_learns_what_is_handed_to_a_child() -> None:
    assert process_mask().text("child-canary") == "child-canary"
    learn_secrets({"CHILD_PASSWORD": "child-canary"})
    assert process_mask().text("child-canary") == "***"
