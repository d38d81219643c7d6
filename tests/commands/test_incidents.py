"""`cvntrade incident` from opening to closing, on a real operations schema."""

import re

import pandas as pd
import pytest
from scripted_webserver import Cvntrade, Webserver

OPEN = ("incident", "open", "--title", "A sweep failed", "--severity", "p2", "--justification", "training only")
SYMPTOM = ("--symptom", "ValueError: got [DataFrame]")
CLOSING = ("--root-cause", "a package", "--fix", "declared", "--lesson", "declare it", "--follow-up", "a gate")


@pytest.fixture
def opened(cvntrade: Cvntrade, webserver: Webserver) -> str:
    """The number of an entry that began two hours ago."""
    began = f"{pd.Timestamp.now('UTC') - pd.Timedelta('2h'):%Y-%m-%dT%H:%M}"
    code, out, error = cvntrade(*OPEN, *SYMPTOM, "--began", began)
    assert (code, error) == (0, "")
    found = re.match(r"Incident (\d+) is open: P2, began \(began ", out)
    assert found, out
    return found[1]


def test_from_opening_to_closing(cvntrade: Cvntrade, opened: str) -> None:
    code, out, _ = cvntrade("incident", "list", "--open")
    assert code == 0 and "A sweep failed" in out and "unknown" in out
    code, out, error = cvntrade("incident", "update", opened, "--acknowledged", "now", "--mitigated", "now")
    assert (code, error) == (0, "") and f"Incident {opened} is up to date: P2, mitigated (began " in out
    code, out, error = cvntrade("incident", "close", opened, "--fixed", "now", "--test-gap", "no smoke", *CLOSING)
    assert (code, error) == (0, "")
    assert f"### {opened} " in out and "(P2, closed)" in out and "1. declare it" in out
    assert f"| F{opened}.1 | a gate | open |" in out
    assert "to acknowledge, from the beginning: 2.0 h" in out and "to detect, from the beginning: unknown" in out
    assert "ValueError: got [DataFrame]" in out, "brackets are no markup"
    assert cvntrade("incident", "show", opened)[1] == out
    code, out, _ = cvntrade("incident", "list", "--open")
    assert (code, out) == (0, "No incident is open: `cvntrade incident open`.\n")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "nothing is given that would change"),
        (("--severity", "P7"), "--severity 'P7': expected one of P0, P1, P2, P3."),
        (("--fixed", "yesterday"), "--fixed 'yesterday': expected a UTC date or time"),
        (("--fixed", "2001-01-01"), "fixed 2001-01-01 00:00 UTC lies before began"),
        (("--alert", "99999"), "there is no alert 99999"),
        (("--alert", "signal/none"), "there is no alert signal/none; `cvntrade alerts` names those that are open"),
    ],
)
def test_what_cannot_be_is_one_message(cvntrade: Cvntrade, opened: str, arguments: tuple[str, ...], why: str) -> None:
    code, out, error = cvntrade("incident", "update", opened, *arguments)
    assert (code, out) == (2, "")
    assert error.count("\n") == 1 and why in error


def test_closing_without_a_cause_says_what_is_missing(cvntrade: Cvntrade, opened: str) -> None:
    code, _, error = cvntrade("incident", "close", opened, "--fix", "declared")
    assert code == 2 and "cannot be closed without root_cause, fixed: give --root-cause, --fixed" in error


def test_an_entry_that_does_not_exist(cvntrade: Cvntrade, webserver: Webserver) -> None:
    code, _, error = cvntrade("incident", "show", "99999")
    assert code == 2 and "there is no incident 99999; `cvntrade incident list`" in error
