"""`cvntrade overrides` on a real PostgreSQL."""

import pandas as pd
import pytest
import sqlalchemy as sa
from scripted_webserver import Cvntrade, Webserver

from cvntrade_assets.operations.guardrails import Evaluation, Verdict
from cvntrade_assets.setting_kinds import approver
from resources.guardrail_log import Occasion, record_evaluations
from resources.warehouse import Warehouse

START = pd.Timestamp("2025-09-01 09:30", tz="Europe/Paris")
REASON = "flash crash [/red], retrain at once, approved by @ceven"
RUN = "0f3c2e1a-7a53-4b0e-9a63-5d1f0c6b9e11"


def override(
    warehouse: Warehouse, crypto: str | None, day: int, run_id: str | None = RUN, reason: str = REASON
) -> None:
    found = [
        Evaluation("rows_within_limit", Verdict.OVERRIDDEN, "28,070 rows", 28_070, 10_000, override_reason=reason),
        Evaluation("rows_enough", Verdict.PASSED, "enough", 28_070, 50),
    ]
    occasion = Occasion(run_id, crypto, run_id, {}, "check")
    record_evaluations(warehouse, occasion, found, 0.1, at=START + pd.Timedelta(day, "D"))


@pytest.fixture(scope="module")
def recorded(warehouse: Warehouse) -> Warehouse:
    warehouse.seed_universes()
    override(warehouse, "BTCUSDC", 0)
    override(warehouse, "SOLUSDC", 1, reason="the regulator asks for it today; approved by Jane")
    override(warehouse, None, 2, run_id=None)
    # One that has left its groups.
    override(warehouse, "DOGEUSDC", 3)
    settings = Evaluation("rollout_passed", Verdict.OVERRIDDEN, "n_features has no canary", override_reason=REASON)
    record_evaluations(warehouse, Occasion(RUN, "ETHUSDC", RUN, {}, "check"), [settings], 0.1, at=START)
    return warehouse


def headings(written: str) -> list[str]:
    return [line for line in written.splitlines() if " UTC  " in line]


def test_an_override_is_listed_with_everything_one_asks_about_it(
    webserver: Webserver, cvntrade: Cvntrade, recorded: Warehouse
) -> None:
    code, out, err = cvntrade("overrides", "--crypto", "BTCUSDC")
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        "2025-09-01 07:30:00 UTC  BTCUSDC  rows_within_limit: 28,070, limit 10,000",
        f"  reason    {REASON}",
        "  approver  @ceven",
        f"  run       {webserver.url}/runs/{RUN}",
    ]


def test_links_to_a_ui_behind_a_password_are_shown_without_it(
    webserver: Webserver, cvntrade: Cvntrade, recorded: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CVN_UI_URL", webserver.url.replace("//", "//operator:ui-canary-0123@"))
    code, out, err = cvntrade("overrides", "--crypto", "BTCUSDC")
    assert (code, err) == (0, "") and f"{webserver.url}/runs/{RUN}" in out


def test_all_overrides_are_listed_newest_first(webserver: Webserver, cvntrade: Cvntrade, recorded: Warehouse) -> None:
    _, out, _ = cvntrade("overrides")
    assert [line.split("UTC  ")[1].split("  ")[0] for line in headings(out)] == [
        "DOGEUSDC",
        "no crypto",
        "SOLUSDC",
        "ETHUSDC",
        "BTCUSDC",
    ]
    assert "  run       none, judged without a run" in out.splitlines()
    assert "  approver  Jane" in out.splitlines()
    assert "rollout_passed: n_features has no canary" in out


def test_a_group_means_its_cryptos(webserver: Webserver, cvntrade: Cvntrade, recorded: Warehouse) -> None:
    _, out, _ = cvntrade("overrides", "--group", "btc-core")
    assert [line.split()[3] for line in headings(out)] == ["ETHUSDC", "BTCUSDC"]
    _, out, _ = cvntrade("overrides", "--crypto", "DOGEUSDC", "--crypto", "SOLUSDC")
    assert [line.split()[3] for line in headings(out)] == ["DOGEUSDC", "SOLUSDC"]


def test_a_limit_says_that_it_was_reached(webserver: Webserver, cvntrade: Cvntrade, recorded: Warehouse) -> None:
    _, out, _ = cvntrade("overrides", "--limit", "2")
    assert len(headings(out)) == 2
    assert out.splitlines()[-1] == "These are the newest 2; there may be more: --limit."
    _, out, _ = cvntrade("overrides", "--limit", "50")
    assert "--limit" not in out


def test_no_override_is_said_and_is_no_error(webserver: Webserver, cvntrade: Cvntrade, recorded: Warehouse) -> None:
    code, out, _ = cvntrade("overrides", "--crypto", "XRPUSDC")
    assert (code, out) == (0, "No override is on record for XRPUSDC.\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--group", "btc-core", "--crypto", "BTCUSDC"), "not both"),
        (("--group", "nosuch"), "group 'nosuch' is not in cvntrade_universes; known: btc-core, defi"),
        (("--limit", "0"), "--limit 0: expected at least 1."),
    ],
)
def test_a_wrong_question_is_one_message(
    webserver: Webserver, cvntrade: Cvntrade, recorded: Warehouse, arguments: tuple[str, ...], said: str
) -> None:
    code, out, err = cvntrade("overrides", *arguments)
    assert (code, out) == (2, "")
    assert said in err.replace("\n", " ")


def test_what_is_listed_is_what_was_overridden(recorded: Warehouse) -> None:
    with recorded.begin() as connection:
        query = "select count(*) filter (where override), count(*) from guardrail_evaluations"
        assert tuple(connection.execute(sa.text(query)).one()) == (5, 9)


@pytest.mark.parametrize(
    ("reason", "who"),
    [
        ("emergency retraining after flash crash — approved by @ceven 2026-04-15", "@ceven"),
        ("a canary went well, see the log; @ann", "@ann"),
        ("approved by: Jane after the call", "Jane"),
        ("nobody did", None),
        ("mail ops@example.com", None),
    ],
)
def test_the_approver_is_read_from_the_reason(reason: str, who: str | None) -> None:
    assert approver(reason) == who
