"""The guardrails' record: evaluations, results, watched runs, rollout gates, changes of base_env; and its views."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

APPEND_ONLY = ("guardrail_evaluations", "rollout_gates", "base_env_history")

# Before the statement and not before each row: a change that would meet no row is refused too. ALWAYS: also in a
# session that plays the replica, which skips ordinary triggers.
REFUSE_CHANGE = """
create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% is append-only: % is refused', tg_table_name, tg_op
        using errcode = 'restrict_violation',
              detail = 'What was recorded stays as it was recorded, whoever asks.',
              hint = 'Insert a new row that says what is different now.';
end
$$
"""
GUARD = """
create trigger {table}_append_only before update or delete or truncate on {table}
    for each statement execute function refuse_change();
alter table {table} enable always trigger {table}_append_only
"""

# Author and reason come from the transaction (resources.warehouse sets them); by hand, from the row or the role.
# A key that is renamed was removed, and another one set.
NOTE_BASE_ENV = """
create function note_base_env() returns trigger language plpgsql as $$
declare
    told text := nullif(current_setting('cvntrade.author', true), '');
    why text := nullif(current_setting('cvntrade.reason', true), '');
begin
    if tg_op = 'UPDATE' and new.key = old.key then
        if new.value <> old.value then
            insert into base_env_history (key, old_value, new_value, author, reason)
                values (new.key, old.value, new.value, coalesce(told, new.updated_by), why);
        end if;
        return null;
    end if;
    if tg_op <> 'INSERT' then
        insert into base_env_history (key, old_value, author, reason)
            values (old.key, old.value, coalesce(told, session_user), why);
    end if;
    if tg_op <> 'DELETE' then
        insert into base_env_history (key, new_value, author, reason)
            values (new.key, new.value, coalesce(told, new.updated_by), why);
    end if;
    return null;
end
$$
"""
NOTE_TRIGGER = """
create trigger base_env_changed after insert or update or delete on base_env
    for each row execute function note_base_env()
"""
# TRUNCATE fires no row trigger, so it would empty the table without a trace.
NO_TRUNCATE = """
create function refuse_truncate() returns trigger language plpgsql as $$
begin
    raise exception '% is not truncated: every change of it is on record', tg_table_name
        using errcode = 'restrict_violation', hint = 'Delete the rows instead.';
end
$$
"""
NO_TRUNCATE_TRIGGER = """
create trigger base_env_not_truncated before truncate on base_env
    for each statement execute function refuse_truncate()
"""

# The newest evaluation of each preflight number; slow is what went over a limit, chosen or not. NULL: nobody judged it.
RUN_RESULTS = """
create view run_results as
select
    results.*,
    judged.samples::integer as preflight_samples,
    judged.features::integer as preflight_features,
    judged.memory_gb::real as preflight_memory_gb,
    judged.slow_run as guardrail_slow_run,
    judged.slow_reason as guardrail_slow_reason,
    judged.explicit as guardrail_explicit,
    results.override_reason is not null or coalesce(judged.overridden, false) as guardrail_override,
    coalesce(results.override_reason, judged.override_reason) as guardrail_override_reason
from results
cross join lateral (
    select
        (array_agg(value order by id desc) filter (
            where guardrail = 'rows_within_limit' and value is not null))[1] as samples,
        (array_agg(value order by id desc) filter (
            where guardrail = 'features_within_limit' and value is not null))[1] as features,
        (array_agg(value order by id desc) filter (
            where guardrail = 'memory_within_limit' and value is not null))[1] as memory_gb,
        bool_or(verdict <> 'passed') filter (where timed and verdict <> 'unknown') as slow_run,
        string_agg(message, '; ' order by id) filter (
            where timed and verdict not in ('passed', 'unknown')) as slow_reason,
        bool_or(verdict = 'allowed' and explicit) as explicit,
        bool_or(override) as overridden,
        (array_agg(evaluation.override_reason order by id desc) filter (where override))[1] as override_reason
    from (
        select *, guardrail in ('stage_in_time', 'run_in_time') as timed from guardrail_evaluations
    ) evaluation
    where evaluation.run_id = results.run_id
      and (evaluation.crypto = results.crypto or evaluation.crypto is null)
) judged
"""

# Runs of a crypto only: housekeeping trains nothing. What nobody recorded is NULL and not 0. A guardrail that says the
# same of a run twice has said it once. Measured is a session whose runs were watched, and that trained or was judged.
GUARDRAIL_SESSIONS = """
create view guardrail_sessions as
select
    session,
    coalesce(watched.started_at, judged.first_recorded_at) as started_at,
    watched.runs,
    watched.trained_runs,
    watched.run_seconds,
    judged.blocks,
    judged.flags,
    judged.overrides,
    judged.guardrail_seconds,
    watched.runs is not null and (watched.trained_runs > 0 or judged.blocks is not null) as measured
from (
    select
        session,
        min(started_at) as started_at,
        count(*) as runs,
        count(training_began_at) as trained_runs,
        sum(extract(epoch from coalesce(ended_at, seen_at) - started_at))::double precision as run_seconds
    from watched_runs
    where crypto is not null
    group by session
) watched
full join (
    select
        session,
        min(recorded_at) as first_recorded_at,
        count(distinct judgement) filter (where verdict = 'blocked') as blocks,
        count(distinct judgement) filter (where verdict in ('warned', 'critical', 'unknown')) as flags,
        count(distinct judgement) filter (where verdict = 'overridden') as overrides,
        sum(seconds) as guardrail_seconds
    from guardrail_evaluations, lateral (select (run_id, crypto, guardrail) as judgement) once
    where session is not null
    group by session
) judged using (session)
"""

# Over the last ten measured sessions; less than a month of them counts as a month.
GUARDRAIL_PAYOFF = """
create view guardrail_payoff as
with last_sessions as (
    select session
    from guardrail_sessions
    where measured
    order by started_at desc nulls last, session desc
    limit 10
),
session_runs as (
    select
        watched_runs.started_at,
        seen_at,
        training_began_at is not null as trained,
        extract(epoch from coalesce(ended_at, seen_at) - started_at)::double precision as run_seconds,
        judged.evaluations > 0 as judged,
        judged.guardrail_seconds,
        -- Two clocks. NULL stays NULL, which `greatest` alone would make 0.
        case when judged.detected_at > started_at
            then extract(epoch from judged.detected_at - started_at)::double precision
            when judged.detected_at <= started_at then 0
        end as seconds_to_detect,
        training_began_at is not null and (
            coalesce(judged.slow_or_stuck, false)
            or ended_at is not null and coalesce(judged.blocked_at >= training_began_at, false)
        ) as wasted
    from watched_runs
    join last_sessions using (session)
    cross join lateral (
        select
            count(*) as evaluations,
            sum(seconds) as guardrail_seconds,
            min(recorded_at) filter (
                where verdict in ('blocked', 'overridden', 'warned', 'critical', 'unknown')) as detected_at,
            max(recorded_at) filter (where verdict = 'blocked') as blocked_at,
            bool_or(
                guardrail in ('stage_in_time', 'run_in_time')
                    and verdict in ('warned', 'critical', 'blocked', 'overridden') and not explicit
                or guardrail = 'run_progresses' and verdict not in ('passed', 'unknown')
            ) as slow_or_stuck
        from guardrail_evaluations
        where guardrail_evaluations.run_id = watched_runs.run_id
    ) judged
    where watched_runs.crypto is not null
),
session_blocks as (
    select distinct on (block.run_id, block.crypto, block.guardrail) exists (
        select from guardrail_evaluations later
        where later.crypto = block.crypto
          and later.guardrail = block.guardrail
          and (later.verdict = 'overridden' or later.verdict = 'allowed' and later.explicit)
          and later.recorded_at > block.recorded_at
          and later.recorded_at <= block.recorded_at + interval '7 days'
    ) as false_positive
    from guardrail_evaluations block
    join last_sessions using (session)
    where block.verdict = 'blocked'
    order by block.run_id, block.crypto, block.guardrail, block.recorded_at
),
run_sums as (
    select
        count(*) as runs,
        count(*) filter (where trained) as trained_runs,
        count(*) filter (where trained and not judged) as unjudged_runs,
        count(*) filter (where judged) as judged_runs,
        min(started_at) as first_started_at,
        max(seen_at) as last_seen_at,
        count(*) filter (where wasted) as wasted_runs,
        percentile_cont(0.5) within group (order by seconds_to_detect) as median_seconds_to_detect,
        sum(run_seconds) filter (where judged) as run_seconds,
        sum(guardrail_seconds) filter (where run_seconds is not null) as guardrail_seconds
    from session_runs
),
block_sums as (
    select count(*) as blocks, count(*) filter (where false_positive) as false_positives from session_blocks
)
select
    (select count(*) from last_sessions) as sessions,
    runs,
    trained_runs,
    unjudged_runs,
    first_started_at,
    last_seen_at,
    case when judged_runs > 0 then wasted_runs end as wasted_runs,
    case when judged_runs > 0 then
        wasted_runs / greatest(1, extract(epoch from last_seen_at - first_started_at) / 2592000)
    end::double precision as wasted_runs_per_month,
    median_seconds_to_detect,
    blocks,
    false_positives,
    false_positives::double precision / nullif(blocks, 0) as false_positive_rate,
    run_seconds,
    guardrail_seconds,
    guardrail_seconds / nullif(run_seconds, 0) as overhead
from run_sums cross join block_sums
"""

VIEWS = {
    "run_results": RUN_RESULTS,
    "guardrail_sessions": GUARDRAIL_SESSIONS,
    "guardrail_payoff": GUARDRAIL_PAYOFF,
}


def _stamp(name: str) -> "sa.Column[Any]":
    return sa.Column(name, sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.text("now()"))


def _number() -> "sa.Column[Any]":
    return sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True)


def upgrade() -> None:
    """Create the record, its guards and its views."""
    _create_evaluations()
    _create_results()
    _create_watched_runs()
    _create_rollout_gates()
    _create_base_env_history()
    op.execute(REFUSE_CHANGE)
    for table in APPEND_ONLY:
        op.execute(GUARD.format(table=table))
    for statement in (NOTE_BASE_ENV, NOTE_TRIGGER, NO_TRUNCATE, NO_TRUNCATE_TRIGGER):
        op.execute(statement)
    for view in VIEWS.values():
        op.execute(view)


def _create_evaluations() -> None:
    op.create_table(
        "guardrail_evaluations",
        _number(),
        sa.Column("run_id", sa.Text),
        sa.Column("session", sa.Text),
        sa.Column("crypto", sa.Text),
        sa.Column("factor", sa.Text),
        sa.Column("variant", sa.Text),
        sa.Column("guardrail", sa.Text, nullable=False),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("value", sa.Double),
        sa.Column("limit_value", sa.Double),
        sa.Column("explicit", sa.Boolean, nullable=False),
        sa.Column("layer", sa.Text, nullable=False),
        sa.Column("override", sa.Boolean, nullable=False),
        sa.Column("override_reason", sa.Text),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        _stamp("recorded_at"),
        sa.CheckConstraint(
            "verdict in ('passed', 'allowed', 'warned', 'overridden', 'blocked', 'critical', 'unknown')",
            name="guardrail_evaluations_verdict",
        ),
        sa.CheckConstraint(
            "source in ('check', 'command', 'settings', 'watch', 'rollout')", name="guardrail_evaluations_source"
        ),
        sa.CheckConstraint(
            "override = (verdict = 'overridden') and override = (override_reason is not null)",
            name="guardrail_evaluations_override",
        ),
        sa.Index("guardrail_evaluations_run", "run_id"),
        sa.Index("guardrail_evaluations_session", "session"),
        sa.Index("guardrail_evaluations_crypto", "crypto", "guardrail", "recorded_at"),
        comment="Every evaluation of a guardrail; append-only. `seconds` is this row's share of what judging took.",
    )


def _create_results() -> None:
    op.create_table(
        "results",
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("crypto", sa.Text, primary_key=True),
        sa.Column("session", sa.Text, nullable=False),
        sa.Column("factor", sa.Text),
        sa.Column("variant", sa.Text),
        sa.Column("market", sa.Text, nullable=False),
        sa.Column("report_version", sa.Text, nullable=False),
        sa.Column("reused", sa.Boolean, nullable=False),
        sa.Column("rows", sa.BigInteger, nullable=False),
        sa.Column("threshold", sa.Double, nullable=False),
        sa.Column("f1_buy", sa.Double, nullable=False),
        sa.Column("baseline_f1_buy", sa.Double, nullable=False),
        sa.Column("precision_buy", sa.Double),
        sa.Column("recall_buy", sa.Double),
        sa.Column("buy_rate", sa.Double, nullable=False),
        sa.Column("predicted_buy_rate", sa.Double, nullable=False),
        sa.Column("pr_auc", sa.Double),
        sa.Column("pr_auc_chance", sa.Double),
        sa.Column("brier_before", sa.Double, nullable=False),
        sa.Column("brier_after", sa.Double, nullable=False),
        sa.Column("brier_base_rate", sa.Double, nullable=False),
        sa.Column("sortino", sa.Double),
        sa.Column("override_reason", sa.Text),
        _stamp("recorded_at"),
        sa.Index("results_session", "session"),
        comment="What each run came to on the test slice of its crypto; sortino is NULL until a backtest tells.",
    )


def _create_watched_runs() -> None:
    op.create_table(
        "watched_runs",
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("session", sa.Text, nullable=False),
        sa.Column("crypto", sa.Text),
        sa.Column("factor", sa.Text),
        sa.Column("variant", sa.Text),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("code", sa.Text),
        sa.Column("started_at", sa.TIMESTAMP(timezone=True)),
        sa.Column("training_began_at", sa.TIMESTAMP(timezone=True)),
        sa.Column("ended_at", sa.TIMESTAMP(timezone=True)),
        _stamp("seen_at"),
        sa.Index("watched_runs_session", "session"),
        comment="How each run that the watch saw went: when it began, when it began to train, when and how it ended.",
    )


def _create_rollout_gates() -> None:
    op.create_table(
        "rollout_gates",
        _number(),
        sa.Column("rollout", sa.Text, nullable=False),
        sa.Column("factor", sa.Text, nullable=False),
        sa.Column("definition", sa.Text, nullable=False),
        sa.Column("stage", sa.Text, nullable=False),
        sa.Column("crypto_group", sa.Text, nullable=False),
        sa.Column("passed", sa.Boolean, nullable=False),
        sa.Column("reasons", JSONB, nullable=False),
        sa.Column("runs", JSONB, nullable=False),
        _stamp("recorded_at"),
        sa.CheckConstraint("stage in ('preflight', 'canary', 'full')", name="rollout_gates_stage"),
        sa.Index("rollout_gates_factor", "factor", "definition"),
        comment="The verdict of every gate of every staged rollout; append-only.",
    )


def _create_base_env_history() -> None:
    op.create_table(
        "base_env_history",
        _number(),
        sa.Column("key", sa.Text, nullable=False),
        sa.Column("old_value", sa.Text),
        sa.Column("new_value", sa.Text),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        _stamp("changed_at"),
        comment="Every change of base_env, written by a trigger so that no door goes around it; append-only.",
    )


def downgrade() -> None:
    """Drop them again."""
    for view in reversed(VIEWS):
        op.execute(f"drop view {view}")
    for trigger in ("base_env_not_truncated", "base_env_changed"):
        op.execute(f"drop trigger {trigger} on base_env")
    for table in ("base_env_history", "rollout_gates", "watched_runs", "results", "guardrail_evaluations"):
        op.drop_table(table)
    for function in ("refuse_truncate", "note_base_env", "refuse_change"):
        op.execute(f"drop function {function}")
