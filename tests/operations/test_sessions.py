"""Sessions: which runs tell how a pipeline stands, and what resumes one."""

import shlex

import pandas as pd
import pytest

from cvntrade_assets.operations.sessions import PipelineRun, standings

NOON = pd.Timestamp("2025-09-01T12:00Z")


def run(
    crypto: str = "BTCUSDC",
    status: str = "SUCCESS",
    session: str = "one",
    minute: int = 0,
    pipeline: str = "discovery",
    **more: object,
) -> PipelineRun:
    created = NOON + pd.Timedelta(minutes=minute)
    return PipelineRun(f"{crypto}-{minute}", pipeline, crypto, session, None, status, created, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "will_retry", "state", "needs_resuming"),
    [
        ("SUCCESS", False, "succeeded", False),
        ("FAILURE", False, "failed", True),
        ("FAILURE", True, "waiting", False),
        ("CANCELED", False, "cancelled", True),
        ("CANCELING", False, "running", False),
        ("STARTED", False, "running", False),
        ("QUEUED", False, "waiting", False),
        ("STARTING", False, "waiting", False),
    ],
)
def test_how_a_run_stands(status: str, will_retry: bool, state: str, needs_resuming: bool) -> None:
    one = run(status=status, will_retry=will_retry)
    assert (one.state, one.needs_resuming) == (state, needs_resuming)


def test_the_newest_run_of_a_crypto_replaces_the_one_that_it_retries() -> None:
    [standing] = standings([run(minute=1), run(status="FAILURE", minute=0)]).values()
    assert [each.state for each in standing.latest] == ["succeeded"]
    assert standing.to_resume == ()


def test_the_latest_session_is_told_whole_and_in_order() -> None:
    runs = [run("XRPUSDC", "FAILURE"), run("ADAUSDC"), run("BTCUSDC", session="zero", minute=-5)]
    [standing] = standings(runs).values()
    assert [each.crypto for each in standing.latest] == ["ADAUSDC", "XRPUSDC"]
    assert standing.unmended == ()


def test_what_failed_before_the_latest_session_is_not_forgotten_until_it_is_mended() -> None:
    failed = [run("ADAUSDC", "FAILURE"), run("XRPUSDC", "CANCELED")]
    resumed = run("ADAUSDC", session="two", minute=5)
    [standing] = standings([*failed, resumed]).values()
    assert standing.latest == (resumed,)
    assert standing.unmended == standing.to_resume == (failed[1],)
    [mended] = standings([*failed, resumed, run("XRPUSDC", session="three", minute=6)]).values()
    assert mended.to_resume == ()


def test_pipelines_are_told_apart() -> None:
    found = standings([run(status="FAILURE"), run(pipeline="retrain", session="two", minute=3)])
    assert list(found) == ["discovery", "retrain"]
    assert found["discovery"].to_resume and not found["retrain"].to_resume


def test_the_command_that_resumes_says_everything_that_was_given() -> None:
    """A reason with spaces and quotes comes out as one word of a shell."""
    settings = {"sl_range": "1.2,1.5", "CVN_GUARDRAIL_OVERRIDE_REASON": "it's fine; approved by @name"}
    command = run(settings=settings, variants={"calibration": "isotonic"}, is_forced=True).resume_command()
    expected = ["cvntrade", "discovery", "--crypto", "BTCUSDC"]
    expected += ["--set", "sl_range=1.2,1.5", "--set", "CVN_GUARDRAIL_OVERRIDE_REASON=it's fine; approved by @name"]
    expected += ["--factor", "calibration", "--variant", "isotonic", "--force"]
    assert shlex.split(command) == expected


def test_nothing_is_added_to_what_was_given() -> None:
    assert run(pipeline="monitoring").resume_command() == "cvntrade monitoring --crypto BTCUSDC"
