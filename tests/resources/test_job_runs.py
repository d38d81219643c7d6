"""Runs of named jobs, read from Dagster's tables: on a real instance, whose runs are made by running jobs."""

from contextlib import closing

import dagster as dg
import pytest
import sqlalchemy as sa
from dagster_on_postgres import instance, run_job
from services import create_database

from resources.embedded_postgres import EmbeddedPostgres
from resources.job_runs import JobRuns
from resources.warehouse import Warehouse, WarehouseError

__all__ = ["instance"]


@pytest.fixture
def job() -> str:
    """A job's name."""
    return "discovery"


@pytest.fixture
def records(warehouse: Warehouse) -> JobRuns:
    return JobRuns(warehouse)


def test_of_every_job_and_crypto_the_newest_run_is_told(
    instance: dg.DagsterInstance, records: JobRuns, job: str
) -> None:
    run_job(instance, job, "BTCUSDC", fails=ValueError("early"))
    newest = run_job(instance, job, "BTCUSDC")
    failed = run_job(instance, job, "ADAUSDC", fails=ValueError("late"))
    other = run_job(instance, f"{job}_2", "BTCUSDC")
    run_job(instance, f"{job}_3", "BTCUSDC")
    found = {(run.pipeline, run.crypto): (run.run_id, run.state) for run in records.newest([job, f"{job}_2"])}
    assert found == {
        (job, "BTCUSDC"): (newest, "succeeded"),
        (job, "ADAUSDC"): (failed, "failed"),
        (f"{job}_2", "BTCUSDC"): (other, "succeeded"),
    }


def test_a_job_that_never_ran_has_no_runs(instance: dg.DagsterInstance, records: JobRuns, job: str) -> None:
    assert records.newest([job]) == []


def test_what_a_run_was_given_is_read_back(instance: dg.DagsterInstance, records: JobRuns, job: str) -> None:
    settings, variants = {"sl_range": "1.2,1.5", "CVN_SEED": "7"}, {"calibration": "isotonic"}
    tags = {"cvntrade/session": "s1", "cvntrade/group": "defi", "cvntrade/force": "true"}
    run_job(instance, job, "BTCUSDC", settings=settings, variants=variants, tags=tags)
    [run] = records.newest([job])
    assert (run.settings, run.variants) == (settings, variants)
    assert (run.session, run.group, run.is_forced) == ("s1", "defi", True)
    assert str(run.created.tz) == "UTC"


@pytest.mark.parametrize(
    ("tags", "session"),
    [({"dagster/backfill": "abcdefgh", "cvntrade/session": "s1"}, "abcdefgh"), ({"cvntrade/session": "s1"}, "s1")],
)
def test_the_session_is_the_backfill_or_what_ties_the_runs(
    instance: dg.DagsterInstance, records: JobRuns, job: str, tags: dict[str, str], session: str
) -> None:
    run_job(instance, job, "BTCUSDC", tags=tags)
    [run] = records.newest([job])
    assert run.session == session


def test_a_run_without_either_is_its_own_session(instance: dg.DagsterInstance, records: JobRuns, job: str) -> None:
    run_id = run_job(instance, job, "BTCUSDC")
    [run] = records.newest([job])
    assert (run.session, run.group, run.is_forced, run.will_retry) == (run_id, None, False, False)


def test_a_failed_stage_is_named_with_its_reason_and_without_what_only_warned(
    instance: dg.DagsterInstance, records: JobRuns, job: str
) -> None:
    trouble = records.trouble(run_job(instance, job, "BTCUSDC", fails=ValueError("no [such] fold")))
    assert (trouble.stage, trouble.reasons) == ("walk_forward", ("ValueError: no [such] fold",))


def test_what_a_stage_says_of_its_failure_is_the_reason(
    instance: dg.DagsterInstance, records: JobRuns, job: str
) -> None:
    trouble = records.trouble(run_job(instance, job, "BTCUSDC", fails=dg.Failure("refused: build it anew")))
    assert trouble.reasons == ("refused: build it anew",)


def test_a_run_that_ended_before_its_first_stage_says_why(
    instance: dg.DagsterInstance, records: JobRuns, job: str
) -> None:
    run_id = run_job(instance, job, "BTCUSDC")
    run = instance.get_run_by_id(run_id)
    assert run is not None
    instance.report_run_failed(run, "the worker vanished")
    trouble = records.trouble(run_id)
    assert (trouble.stage, trouble.reasons) == (None, ("the worker vanished",))


def test_a_run_that_went_well_has_no_trouble_and_no_stage_at_work(
    instance: dg.DagsterInstance, records: JobRuns, job: str
) -> None:
    run_id = run_job(instance, job, "BTCUSDC")
    assert records.trouble(run_id).reasons == ()
    assert records.stage_at_work(run_id) is None


def test_the_stage_that_a_run_is_in_is_told(instance: dg.DagsterInstance, records: JobRuns, job: str) -> None:
    """A run of which the end of its last stage is not recorded yet."""
    run_id = run_job(instance, job, "BTCUSDC")
    address = records._url.render_as_string(hide_password=False)
    with closing(sa.create_engine(address).connect()) as connection, connection.begin():
        gone = "delete from event_logs where run_id = :run and step_key = :step and dagster_event_type = 'STEP_SUCCESS'"
        assert connection.execute(sa.text(gone), {"run": run_id, "step": "walk_forward"}).rowcount == 1
    assert records.stage_at_work(run_id) == "walk_forward"


def test_a_server_without_dagster_is_one_readable_error(postgres_server: EmbeddedPostgres, job: str) -> None:
    url = sa.make_url(create_database(postgres_server))
    with closing(Warehouse(url.render_as_string(hide_password=False))) as warehouse:
        records = JobRuns(warehouse)
        records._url = url
        with pytest.raises(WarehouseError, match=r"Dagster's records at .* cannot be read \(relation \"runs\""):
            records.newest([job])
