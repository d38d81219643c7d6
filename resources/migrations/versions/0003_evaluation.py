"""Evaluations of candidates, registered models with their events, what results say of trading; and the views."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

# Each change that a model's state can take. The state machine itself is operations/lifecycle.py; a test tries every
# pair of states here and there.
GUARD_MODEL = """
create function guard_model_version() returns trigger language plpgsql as $$
declare
    what text := new.crypto || ' model ' || new.number;
begin
    if tg_op = 'INSERT' then
        if new.state <> 'candidate' or new.epoch <> 1 or num_nonnulls(new.challenger_at, new.champion_at) > 0 then
            raise exception '% begins as a candidate of epoch 1', what
                using errcode = 'restrict_violation', hint = 'Insert it as such, then change its state.';
        end if;
        return new;
    end if;
    if (new.id, new.crypto, new.number, new.market, new.pte, new.rolling_version, new.model_sha256, new.fitted_until,
            new.data_until, new.run_id, new.created_at)
        is distinct from (old.id, old.crypto, old.number, old.market, old.pte, old.rolling_version, old.model_sha256,
            old.fitted_until, old.data_until, old.run_id, old.created_at)
        or new.evaluation_version <> old.evaluation_version and old.state <> 'candidate' then
        raise exception '% stays what it was registered as', what
            using errcode = 'restrict_violation', hint = 'Register another model.';
    end if;
    if new.state = old.state then
        if (new.epoch, new.challenger_at, new.champion_at, new.changed_at)
            is distinct from (old.epoch, old.challenger_at, old.champion_at, old.changed_at) then
            raise exception '% keeps its epoch for as long as it keeps its state', what
                using errcode = 'restrict_violation';
        end if;
        return new;
    end if;
    if (old.state, new.state) not in (
        ('candidate', 'challenger'),
        ('candidate', 'archived'),
        ('challenger', 'champion'),
        ('challenger', 'quarantined'),
        ('challenger', 'archived'),
        ('champion', 'quarantined'),
        ('champion', 'archived'),
        ('quarantined', 'challenger'),
        ('quarantined', 'archived'),
        ('archived', 'champion')
    ) then
        raise exception '% cannot go from % to %', what, old.state, new.state using errcode = 'restrict_violation';
    end if;
    if new.epoch <> old.epoch + 1 then
        raise exception '% is of epoch %, and a change of its state makes that %', what, old.epoch, old.epoch + 1
            using errcode = 'restrict_violation';
    end if;
    if new.state = 'challenger' and not exists (
        select from evaluations
        where crypto = new.crypto and pte = new.pte and market = new.market and gates_passed
            and evaluation_version = new.evaluation_version and rolling_version = new.rolling_version
    ) then
        raise exception '% has no evaluation on record in which it passed every gate', what
            using errcode = 'restrict_violation', hint = 'Evaluate it first.';
    end if;
    if old.state = 'archived' and new.state = 'champion' and old.champion_at is null then
        raise exception '% was never champion: a rollback brings back what was', what
            using errcode = 'restrict_violation';
    end if;
    new.changed_at := now();
    new.challenger_at := case when new.state = 'challenger' then coalesce(old.challenger_at, now())
        else old.challenger_at end;
    new.champion_at := case when new.state = 'champion' then coalesce(old.champion_at, now())
        else old.champion_at end;
    return new;
end
$$
"""
GUARD_MODEL_TRIGGER = """
create trigger model_versions_guarded before insert or update on model_versions
    for each row execute function guard_model_version();
alter table model_versions enable always trigger model_versions_guarded
"""

# Author, role, reason and run come from the transaction (resources.registry sets them); by hand there is only the role
# of the database. Written here and not by the caller: no state changes without its event.
NOTE_MODEL = """
create function note_model_version() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' and new.state = old.state then
        return null;
    end if;
    insert into model_events (model_id, crypto, number, from_state, to_state, epoch, author, role, reason, run_id)
    values (
        new.id, new.crypto, new.number, case when tg_op = 'UPDATE' then old.state end, new.state, new.epoch,
        coalesce(nullif(current_setting('cvntrade.author', true), ''), session_user),
        nullif(current_setting('cvntrade.role', true), ''),
        nullif(current_setting('cvntrade.reason', true), ''),
        nullif(current_setting('cvntrade.run', true), '')
    );
    return null;
end
$$
"""
NOTE_MODEL_TRIGGER = """
create trigger model_versions_noted after insert or update on model_versions
    for each row execute function note_model_version();
alter table model_versions enable always trigger model_versions_noted
"""

# Nothing that was registered is removed; an archived model is out of use and still on record.
NO_REMOVAL = """
create trigger model_versions_append_only before delete or truncate on model_versions
    for each statement execute function refuse_change();
alter table model_versions enable always trigger model_versions_append_only
"""
EVENTS_APPEND_ONLY = """
create trigger model_events_append_only before update or delete or truncate on model_events
    for each statement execute function refuse_change();
alter table model_events enable always trigger model_events_append_only
"""

# As in migration 0002; `results.*` now has more columns.
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

# Of every crypto and market the candidate that its newest evaluation is about.
LATEST_EVALUATIONS = """
create view latest_evaluations as
select distinct on (crypto, market) *
from evaluations
where leads
order by crypto, market, recorded_at desc, run_id
"""

# Who waits for a promotion, since when, and what its evaluation came to.
PENDING_CHALLENGERS = """
create view pending_challengers as
select
    model_versions.crypto,
    model_versions.number,
    model_versions.market,
    model_versions.pte,
    model_versions.challenger_at,
    model_versions.fitted_until,
    model_versions.data_until,
    model_versions.mlflow_version,
    model_versions.mirrored_epoch is not distinct from model_versions.epoch as mirrored,
    evaluated.f1_buy,
    evaluated.baseline_f1_buy,
    evaluated.sortino,
    evaluated.rolling_sortino,
    evaluated.dsr,
    evaluated.primary_code
from model_versions
left join lateral (
    select *
    from evaluations
    where evaluations.crypto = model_versions.crypto and evaluations.pte = model_versions.pte
        and evaluations.evaluation_version = model_versions.evaluation_version
    order by recorded_at desc
    limit 1
) evaluated on true
where model_versions.state = 'challenger'
"""

VIEWS = {
    "run_results": RUN_RESULTS,
    "latest_evaluations": LATEST_EVALUATIONS,
    "pending_challengers": PENDING_CHALLENGERS,
}

# What a backtest says of a result, and the intervals of its headlines.
RESULT_COLUMNS = {
    **dict.fromkeys(("sharpe", "expectancy_net", "max_drawdown"), sa.Double),
    "n_trades": sa.BigInteger,
    **{
        f"{name}_{end}": sa.Double for name in ("f1_buy", "pr_auc", "brier_after", "sortino") for end in ("low", "high")
    },
}


def _stamp(name: str) -> "sa.Column[Any]":
    return sa.Column(name, sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.text("now()"))


def upgrade() -> None:
    """Create the tables, their guards and views."""
    _create_evaluations()
    _create_model_versions()
    _create_model_events()
    for statement in (GUARD_MODEL, GUARD_MODEL_TRIGGER, NOTE_MODEL, NOTE_MODEL_TRIGGER, NO_REMOVAL, EVENTS_APPEND_ONLY):
        op.execute(statement)
    op.execute("drop view run_results")
    for name, kind in RESULT_COLUMNS.items():
        op.add_column("results", sa.Column(name, kind))
    for view in VIEWS.values():
        op.execute(view)


def _create_evaluations() -> None:
    op.create_table(
        "evaluations",
        sa.Column("run_id", sa.Text, primary_key=True),
        sa.Column("crypto", sa.Text, primary_key=True),
        sa.Column("pte", sa.Text, primary_key=True),
        sa.Column("session", sa.Text, nullable=False),
        sa.Column("market", sa.Text, nullable=False),
        sa.Column("simulated", sa.Boolean, sa.Computed("market = 'simulated'", persisted=True), nullable=False),
        sa.Column("evaluation_version", sa.Text, nullable=False),
        sa.Column("walk_forward_version", sa.Text, nullable=False),
        sa.Column("rolling_version", sa.Text, nullable=False),
        sa.Column("reused", sa.Boolean, nullable=False),
        sa.Column("window_from", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("window_to", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("daily_sharpe", sa.Double),
        sa.Column("rank", sa.BigInteger),
        sa.Column("leads", sa.Boolean, nullable=False),
        *(sa.Column(name, sa.Double) for name in HEADLINES),
        *(sa.Column(name, sa.BigInteger) for name in COUNTS),
        sa.Column("gates_passed", sa.Boolean, nullable=False),
        sa.Column("primary_code", sa.Text, nullable=False),
        sa.Column("codes", JSONB, nullable=False),
        sa.Column("severity", sa.Text, nullable=False),
        sa.Column("record", JSONB, nullable=False),
        _stamp("recorded_at"),
        sa.CheckConstraint("window_from < window_to", name="evaluations_window"),
        sa.Index("evaluations_crypto", "crypto", "market", "recorded_at"),
        sa.Index("evaluations_version", "evaluation_version"),
        sa.Index("evaluations_leading", "run_id", "crypto", unique=True, postgresql_where=sa.text("leads")),
        comment="Every evaluation of every tested candidate: its headlines, gates and diagnosis, and the whole record.",
    )


HEADLINES = (
    "f1_buy",
    "baseline_f1_buy",
    "precision_buy",
    "recall_buy",
    "buy_rate",
    "screening_f1_buy",
    "last_fold_f1_buy",
    "std_f1_buy",
    "sortino",
    "rolling_sortino",
    "sharpe",
    "expectancy_net",
    "profit_factor",
    "hit_rate",
    "max_drawdown",
    "turnover",
    "exposure",
    "tp_pct",
    "sl_pct",
    "timeout_pct",
    "dsr",
    "dsr_screening",
    "pbo",
)
COUNTS = ("n_trades", "trials", "screened", "eligible", "tested", "passed")


def _create_model_versions() -> None:
    op.create_table(
        "model_versions",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("crypto", sa.Text, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("market", sa.Text, nullable=False),
        sa.Column("pte", sa.Text, nullable=False),
        sa.Column("rolling_version", sa.Text, nullable=False),
        sa.Column("model_sha256", sa.Text, nullable=False),
        sa.Column("evaluation_version", sa.Text, nullable=False),
        sa.Column("fitted_until", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("data_until", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("run_id", sa.Text),
        sa.Column("challenger_at", sa.TIMESTAMP(timezone=True)),
        sa.Column("champion_at", sa.TIMESTAMP(timezone=True)),
        sa.Column("mlflow_version", sa.Text),
        sa.Column("mirrored_epoch", sa.BigInteger),
        _stamp("created_at"),
        _stamp("changed_at"),
        sa.UniqueConstraint("crypto", "number", name="model_versions_number"),
        sa.UniqueConstraint("crypto", "rolling_version", "pte", name="model_versions_model"),
        sa.CheckConstraint(
            "state in ('candidate', 'challenger', 'champion', 'quarantined', 'archived')", name="model_versions_state"
        ),
        sa.CheckConstraint("market in ('binance', 'simulated')", name="model_versions_market"),
        sa.CheckConstraint("fitted_until <= data_until", name="model_versions_moments"),
        sa.CheckConstraint(
            "not (state = 'champion' and market = 'simulated')", name="model_versions_no_simulated_champion"
        ),
        sa.Index("model_versions_one_champion", "crypto", unique=True, postgresql_where=sa.text("state = 'champion'")),
        comment="Every registered model and its state; changes of state are guarded, and on record in model_events. "
        "MLflow mirrors what ever was a challenger: it shows `mirrored_epoch`.",
    )


def _create_model_events() -> None:
    op.create_table(
        "model_events",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("model_id", sa.BigInteger, sa.ForeignKey("model_versions.id"), nullable=False),
        sa.Column("crypto", sa.Text, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("from_state", sa.Text),
        sa.Column("to_state", sa.Text, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("role", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("run_id", sa.Text),
        _stamp("recorded_at"),
        sa.UniqueConstraint("model_id", "epoch", name="model_events_epoch"),
        sa.Index("model_events_crypto", "crypto", "id"),
        comment="Every change of a model's state, written by a trigger so that no door goes around it; append-only.",
    )


def downgrade() -> None:
    """Drop them again."""
    for view in reversed(VIEWS):
        op.execute(f"drop view {view}")
    for name in RESULT_COLUMNS:
        op.drop_column("results", name)
    op.execute(RUN_RESULTS)
    for table in ("model_events", "model_versions", "evaluations"):
        op.drop_table(table)
    for function in ("note_model_version", "guard_model_version"):
        op.execute(f"drop function {function}")
