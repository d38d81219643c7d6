"""Views for dashboards and for the exporter: what the role grafana_ro may read, and all that it may read.

A view says itself what is stale, simulated, stuck or overdue, so that no panel has to know how that is told.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

# An older observation or state counts as missing: the operators' CVN_STATE_STALE_MINUTES, else its default. So does one
# from a clock that is that far ahead: it would never grow old.
STALE_SECONDS = """
(select 60 * coalesce((select value from base_env where key = 'CVN_STATE_STALE_MINUTES'), '15')::double precision)
"""

# What a subject looks like that is a crypto; jobs are written in lower case.
CRYPTO = "'^[A-Z0-9]{5,20}$'"

# Always one row: without a state, or with one that is too old, it is UNKNOWN, which is never fine.
STATE = f"""
create view ops_state as
select
    case when shown.is_stale then 'UNKNOWN' else shown.state end as state,
    case when shown.is_stale then null
        else array_position(array['GREEN', 'YELLOW', 'ORANGE', 'RED'], shown.state) - 1 end as level,
    shown.state as last_state,
    shown.raw_state as last_raw_state,
    shown.since,
    shown.computed_at,
    shown.age_seconds,
    shown.is_stale,
    case when shown.computed_at is null then 'no state was ever computed'
        when shown.is_stale then 'the last state was computed ' || round(shown.age_seconds / 60) || ' minutes ago'
        else shown.reasons end as reasons,
    shown.market,
    coalesce(shown.market = 'simulated', false) as simulated,
    shown.as_of
from (
    select
        newest.*,
        coalesce(abs(newest.age_seconds) > {STALE_SECONDS}, true) as is_stale
    from (select) one
    left join lateral (
        select
            global_states.state,
            global_states.raw_state,
            global_states.since,
            global_states.computed_at,
            global_states.market,
            global_states.as_of,
            extract(epoch from now() - global_states.computed_at)::double precision as age_seconds,
            (
                select string_agg(reason ->> 'text', '; ' order by place)
                from jsonb_array_elements(global_states.reasons) with ordinality as told (reason, place)
            ) as reasons
        from global_states
        order by id desc
        limit 1
    ) newest on true
) shown
"""

STATE_HISTORY = """
create view ops_state_history as
select
    computed_at,
    state,
    array_position(array['GREEN', 'YELLOW', 'ORANGE', 'RED'], state) - 1 as level,
    raw_state,
    array_position(array['GREEN', 'YELLOW', 'ORANGE', 'RED'], raw_state) - 1 as raw_level,
    (
        select string_agg(reason ->> 'text', '; ' order by place)
        from jsonb_array_elements(reasons) with ordinality as told (reason, place)
    ) as reasons,
    market,
    market = 'simulated' as simulated
from global_states
"""

UNIVERSE = """
create view ops_universe as
select crypto, string_agg(group_name, ', ' order by group_name) as groups
from cvntrade_universes
group by crypto
"""

# Signals are those of the market in force. A value that is too old is not shown as one of now.
SIGNALS = f"""
create view ops_signals as
select
    judged.signal,
    judged.subject,
    case when judged.subject = '' then 'platform'
        when judged.subject ~ {CRYPTO} and state.simulated then judged.subject || ' (SIMULATED)'
        else judged.subject end as label,
    ops_universe.groups,
    case when judged.is_stale then null else judged.value end as value,
    case when judged.is_stale then 'unknown' else judged.level end as level,
    case when judged.is_stale then 3
        else array_position(array['ok', 'warning', 'critical', 'unknown'], judged.level) - 1 end as level_number,
    case when judged.is_stale
        then 'last observed ' || round(judged.age_seconds / 60) || ' minutes ago, when it was ' || judged.level || ': '
        else '' end || judged.reason as reason,
    judged.inputs,
    judged.observed_at,
    judged.level_since,
    judged.age_seconds,
    judged.is_stale,
    state.market,
    state.simulated
from (
    select seen.*, abs(seen.age_seconds) > {STALE_SECONDS} as is_stale
    from (
        select *, extract(epoch from now() - observed_at)::double precision as age_seconds from signals_now
    ) seen
) judged
cross join ops_state state
left join ops_universe on ops_universe.crypto = judged.subject
"""

# The market is that of the look which observed it.
SIGNAL_POINTS = f"""
create view ops_signal_points as
select
    signal_points.signal,
    signal_points.subject,
    case when signal_points.subject = '' then 'platform'
        when signal_points.subject ~ {CRYPTO} and look.market = 'simulated'
            then signal_points.subject || ' (SIMULATED)'
        else signal_points.subject end as label,
    signal_points.value,
    signal_points.level,
    array_position(array['ok', 'warning', 'critical', 'unknown'], signal_points.level) - 1 as level_number,
    signal_points.reason,
    signal_points.observed_at,
    look.market,
    coalesce(look.market = 'simulated', false) as simulated
from signal_points
left join lateral (
    select global_states.market
    from global_states
    where global_states.computed_at <= signal_points.observed_at
    order by global_states.computed_at desc
    limit 1
) look on true
"""

FRESHNESS = """
create view ops_freshness as
select
    ops_universe.crypto,
    max(found.label) as label,
    ops_universe.groups,
    max(found.value) filter (where found.signal = 'candle_freshness') as candle_hours,
    coalesce(max(found.level) filter (where found.signal = 'candle_freshness'), 'unknown') as candle_level,
    max(found.value) filter (where found.signal = 'model_freshness') as model_days,
    coalesce(max(found.level) filter (where found.signal = 'model_freshness'), 'unknown') as model_level,
    max(found.value) filter (where found.signal = 'model_overdue') as overdue_days,
    coalesce(max(found.level) filter (where found.signal = 'model_overdue'), 'unknown') as overdue_level,
    max(found.reason) filter (where found.signal = 'model_overdue') as reason,
    max(found.market) as market,
    coalesce(bool_or(found.simulated), false) as simulated
from ops_universe
left join ops_signals found on found.subject = ops_universe.crypto
group by ops_universe.crypto, ops_universe.groups
"""

ALERTS = """
create view ops_alerts as
select
    alerts.id,
    alerts.key,
    alerts.source,
    alerts.kind,
    alerts.severity,
    alerts.owner,
    alerts.what,
    alerts.place,
    alerts.next_step,
    alerts.link,
    alerts.since,
    alerts.opened_at,
    alerts.seen_at,
    alerts.seen_count,
    alerts.told_at,
    alerts.acknowledged_at,
    alerts.acknowledged_by,
    alerts.acknowledgement,
    alerts.escalations,
    alerts.escalated_at,
    alerts.resolved_at,
    alerts.resolution,
    case when alerts.resolved_at is not null then 'resolved' when alerts.acknowledged_at is not null then 'acknowledged'
        else 'open' end as status,
    extract(epoch from coalesce(alerts.resolved_at, now()) - alerts.opened_at)::double precision as seconds
from alerts
"""

# What is waiting is what nobody has been told yet, whatever the reason.
ALERT_MESSAGES = """
create view ops_alert_messages as
select
    alert_messages.id,
    alert_messages.alert_id,
    alerts.key,
    alert_messages.event,
    alert_messages.severity,
    alert_messages.audience,
    alert_messages.created_at,
    alert_messages.due_at,
    alert_messages.attempts,
    alert_messages.last_error,
    alert_messages.sent_at,
    alert_messages.sent_by,
    alert_messages.dropped_at,
    alert_messages.dropped_why,
    case when alert_messages.sent_at is not null then 'sent' when alert_messages.dropped_at is not null then 'dropped'
        else 'waiting' end as status,
    extract(epoch from
        coalesce(alert_messages.sent_at, alert_messages.dropped_at, now()) - alert_messages.created_at
    )::double precision as seconds
from alert_messages
join alerts on alerts.id = alert_messages.alert_id
"""

_HEADLINES = """
    evaluations.f1_buy,
    evaluations.baseline_f1_buy,
    evaluations.f1_buy - evaluations.baseline_f1_buy as f1_delta,
    evaluations.precision_buy,
    evaluations.recall_buy,
    evaluations.buy_rate,
    evaluations.screening_f1_buy,
    evaluations.last_fold_f1_buy,
    evaluations.screening_f1_buy - evaluations.last_fold_f1_buy as screening_gap,
    evaluations.std_f1_buy,
    evaluations.sortino,
    evaluations.rolling_sortino,
    evaluations.sharpe,
    evaluations.expectancy_net,
    evaluations.profit_factor,
    evaluations.hit_rate,
    evaluations.max_drawdown,
    evaluations.turnover,
    evaluations.exposure,
    evaluations.tp_pct,
    evaluations.sl_pct,
    evaluations.timeout_pct,
    evaluations.dsr,
    evaluations.dsr_screening,
    evaluations.pbo,
    evaluations.n_trades,
    evaluations.trials,
    evaluations.screened,
    evaluations.eligible,
    evaluations.tested,
    evaluations.passed,
    evaluations.gates_passed,
    evaluations.primary_code,
    (
        select string_agg(code, ', ' order by place)
        from jsonb_array_elements_text(evaluations.codes) with ordinality as told (code, place)
    ) as codes,
    evaluations.severity
"""

# The newest leading candidate of a crypto and market is `is_latest`: the one that latest_evaluations shows.
EVALUATIONS = f"""
create view ops_evaluations as
select
    evaluations.run_id,
    evaluations.session,
    evaluations.crypto,
    evaluations.crypto || case when evaluations.simulated then ' (SIMULATED)' else '' end as label,
    evaluations.market,
    evaluations.simulated,
    evaluations.pte,
    evaluations.rank,
    evaluations.leads,
    evaluations.leads and evaluations.run_id = latest.run_id as is_latest,
    evaluations.reused,
    evaluations.window_from,
    evaluations.window_to,
    evaluations.recorded_at,
{_HEADLINES},
    (evaluations.record ->> 'total_return')::double precision as total_return,
    (evaluations.record #>> '{{always_buy,total_return}}')::double precision as always_buy_return,
    (evaluations.record #>> '{{buy_and_hold,total_return}}')::double precision as buy_and_hold_return
from evaluations
left join lateral (
    select newest.run_id
    from evaluations newest
    where newest.leads and newest.crypto = evaluations.crypto and newest.market = evaluations.market
    order by newest.recorded_at desc, newest.run_id
    limit 1
) latest on true
"""

GATES = """
create view ops_gates as
select
    evaluations.run_id,
    evaluations.session,
    evaluations.crypto,
    evaluations.crypto || case when evaluations.simulated then ' (SIMULATED)' else '' end as label,
    evaluations.market,
    evaluations.simulated,
    evaluations.pte,
    evaluations.leads,
    evaluations.recorded_at,
    told.gate ->> 'name' as gate,
    (told.gate ->> 'passed')::boolean as passed,
    (told.gate ->> 'value')::double precision as value,
    (told.gate ->> 'limit')::double precision as limit_value,
    told.gate ->> 'reason' as reason
from evaluations
cross join lateral jsonb_array_elements(evaluations.record -> 'gates') as told (gate)
"""

FOLDS = """
create view ops_folds as
select
    evaluations.run_id,
    evaluations.session,
    evaluations.crypto,
    evaluations.crypto || case when evaluations.simulated then ' (SIMULATED)' else '' end as label,
    evaluations.market,
    evaluations.simulated,
    evaluations.pte,
    evaluations.leads,
    evaluations.recorded_at,
    (told.fold ->> 'number')::bigint as number,
    (told.fold ->> 'test_from')::timestamptz as test_from,
    (told.fold ->> 'test_until')::timestamptz as test_until,
    (told.fold ->> 'f1_buy')::double precision as f1_buy,
    (told.fold ->> 'baseline_f1_buy')::double precision as baseline_f1_buy,
    (told.fold ->> 'n_trades')::bigint as n_trades,
    (told.fold ->> 'sortino')::double precision as sortino
from evaluations
cross join lateral jsonb_array_elements(evaluations.record -> 'folds') as told (fold)
"""

# A crypto's leading record carries its whole grid's counts; of one that was evaluated twice in a session the later
# evaluation counts. A session is complete when every one of them has them and none of its runs goes on.
SESSIONS = """
create view ops_sessions as
select
    session,
    market,
    market = 'simulated' as simulated,
    min(recorded_at) as first_recorded_at,
    max(recorded_at) as recorded_at,
    count(*) as cryptos,
    sum(screened)::bigint as screened,
    sum(eligible)::bigint as eligible,
    sum(tested)::bigint as tested,
    sum(passed)::bigint as passed,
    sum(passed)::double precision / nullif(sum(screened), 0) as pass_rate,
    count(*) filter (where gates_passed) as useful,
    bool_and(screened is not null and passed is not null) and not exists (
        select from watched_runs where watched_runs.session = newest.session and watched_runs.ended_at is null
    ) as complete
from (
    select distinct on (session, market, crypto) *
    from evaluations
    where leads
    order by session, market, crypto, recorded_at desc, run_id
) newest
group by session, market
"""

# A run that goes on has taken as long as the watch has seen. What it was slow or stuck by is the watch's finding. Its
# market is that of what it made; of a run that made nothing new it is unknown.
RUNS = """
create view ops_runs as
select
    watched_runs.run_id,
    watched_runs.session,
    watched_runs.job,
    coalesce(watched_runs.crypto, '-') as crypto,
    watched_runs.factor,
    watched_runs.variant,
    watched_runs.status,
    watched_runs.code,
    watched_runs.started_at,
    watched_runs.training_began_at,
    watched_runs.ended_at,
    watched_runs.seen_at,
    watched_runs.ended_at is null as goes_on,
    extract(epoch from
        coalesce(watched_runs.ended_at, watched_runs.seen_at) - watched_runs.started_at
    )::double precision as seconds,
    found.stuck_at,
    coalesce(found.chosen, false) as slowness_chosen,
    found.reason as slow_reason,
    coalesce(found.overridden, false) as overridden,
    made.market,
    made.market = 'simulated' as simulated
from watched_runs
left join lateral (
    select
        min(recorded_at) filter (where guardrail = 'run_progresses' and verdict = 'critical') as stuck_at,
        bool_or(guardrail = 'run_in_time' and verdict = 'allowed') as chosen,
        string_agg(message, '; ' order by id) filter (
            where guardrail in ('run_in_time', 'stage_in_time', 'run_progresses')
                and verdict not in ('passed', 'unknown')) as reason,
        bool_or(override) as overridden
    from guardrail_evaluations
    where guardrail_evaluations.run_id = watched_runs.run_id
) found on true
left join lateral (
    select market
    from (
        select market, published_at as moment
        from artifact_versions
        where artifact_versions.run_id = watched_runs.run_id
        union all
        select market, recorded_at from results where results.run_id = watched_runs.run_id
        union all
        select market, recorded_at from evaluations where evaluations.run_id = watched_runs.run_id
    ) told
    order by moment desc
    limit 1
) made on true
"""

# Over as many of a factor's newest successful runs as the watch judges its average by.
FACTOR_TIMES = """
create view ops_factor_times as
select
    factor,
    count(*) as runs,
    avg(seconds) as mean_seconds,
    max(seconds) as longest_seconds,
    max(ended_at) as last_ended_at
from (
    select
        factor,
        ended_at,
        extract(epoch from ended_at - started_at)::double precision as seconds,
        row_number() over (partition by factor order by ended_at desc) as place
    from watched_runs
    where factor is not null and status = 'SUCCESS' and started_at is not null and ended_at is not null
) newest
where place <= 50
group by factor
"""

# Ages of models count from the moment that the last state was computed as of. The useful one is the champion, else the
# newest challenger, of its crypto and market.
MODELS = """
create view ops_models as
select
    model_versions.crypto,
    model_versions.crypto || case when model_versions.market = 'simulated' then ' (SIMULATED)' else '' end as label,
    model_versions.number,
    model_versions.state,
    model_versions.state in ('champion', 'challenger') and row_number() over (
        partition by model_versions.crypto, model_versions.market
        order by model_versions.state = 'champion' desc, model_versions.state = 'challenger' desc,
            model_versions.number desc
    ) = 1 as is_useful,
    model_versions.market,
    model_versions.market = 'simulated' as simulated,
    model_versions.pte,
    model_versions.fitted_until,
    model_versions.data_until,
    extract(epoch from state.as_of - model_versions.data_until)::double precision / 86400 as age_days,
    model_versions.run_id,
    model_versions.challenger_at,
    model_versions.champion_at,
    case when model_versions.state = 'challenger'
        then extract(epoch from now() - model_versions.challenger_at)::double precision / 86400 end as waiting_days,
    model_versions.mlflow_version,
    model_versions.mirrored_epoch is not distinct from model_versions.epoch as mirrored,
    model_versions.created_at,
    model_versions.changed_at,
    evaluated.f1_buy,
    evaluated.baseline_f1_buy,
    evaluated.f1_buy - evaluated.baseline_f1_buy as f1_delta,
    evaluated.sortino,
    evaluated.rolling_sortino,
    evaluated.dsr,
    evaluated.primary_code
from model_versions
cross join ops_state state
left join lateral (
    select *
    from evaluations
    where evaluations.crypto = model_versions.crypto and evaluations.pte = model_versions.pte
        and evaluations.evaluation_version = model_versions.evaluation_version
    order by evaluations.recorded_at desc
    limit 1
) evaluated on true
"""

MODEL_EVENTS = """
create view ops_model_events as
select
    model_events.crypto,
    model_events.number,
    model_versions.market,
    model_versions.market = 'simulated' as simulated,
    model_events.from_state,
    model_events.to_state,
    model_events.epoch,
    model_events.author,
    model_events.role,
    model_events.reason,
    model_events.run_id,
    model_events.recorded_at
from model_events
join model_versions on model_versions.id = model_events.model_id
"""

RESULTS = """
create view ops_results as
select
    run_results.run_id,
    run_results.session,
    run_results.crypto,
    run_results.crypto || case when run_results.market = 'simulated' then ' (SIMULATED)' else '' end as label,
    coalesce(run_results.factor, '-') as factor,
    coalesce(run_results.variant, '-') as variant,
    run_results.market,
    run_results.market = 'simulated' as simulated,
    run_results.reused,
    run_results.rows,
    run_results.f1_buy,
    run_results.f1_buy_low,
    run_results.f1_buy_high,
    run_results.baseline_f1_buy,
    run_results.f1_buy - run_results.baseline_f1_buy as f1_delta,
    run_results.precision_buy,
    run_results.recall_buy,
    run_results.buy_rate,
    run_results.pr_auc,
    run_results.pr_auc_chance,
    run_results.brier_before,
    run_results.brier_after,
    run_results.brier_base_rate,
    run_results.sortino,
    run_results.sortino_low,
    run_results.sortino_high,
    run_results.sharpe,
    run_results.expectancy_net,
    run_results.max_drawdown,
    run_results.n_trades,
    run_results.preflight_samples,
    run_results.preflight_features,
    run_results.preflight_memory_gb,
    run_results.guardrail_slow_run,
    run_results.guardrail_slow_reason,
    run_results.guardrail_explicit,
    run_results.guardrail_override,
    run_results.guardrail_override_reason,
    extract(epoch from watched_runs.ended_at - watched_runs.started_at)::double precision as seconds,
    run_results.recorded_at
from run_results
left join watched_runs on watched_runs.run_id = run_results.run_id
"""

GUARDRAILS = """
create view ops_guardrails as
select
    run_id,
    session,
    coalesce(crypto, '-') as crypto,
    factor,
    variant,
    guardrail,
    verdict,
    value,
    limit_value,
    explicit,
    override,
    override_reason,
    message,
    source,
    recorded_at
from guardrail_evaluations
where verdict <> 'passed'
"""

DRIFT = """
create view ops_drift as
select
    drift_reports.run_id,
    drift_reports.crypto,
    drift_reports.crypto || case when drift_reports.market = 'simulated' then ' (SIMULATED)' else '' end as label,
    drift_reports.market,
    drift_reports.market = 'simulated' as simulated,
    drift_reports.window_from,
    drift_reports.window_to,
    drift_reports.rows,
    drift_reports.features,
    drift_reports.drifted,
    drift_reports.share,
    drift_reports.worst_feature,
    drift_reports.worst_psi,
    drift_reports.score_psi,
    drift_reports.score_p,
    drift_reports.labelled,
    drift_reports.buy_rate_reference,
    drift_reports.buy_rate,
    drift_reports.buy_rate_p,
    drift_reports.calibration_error_reference,
    drift_reports.calibration_error,
    drift_reports.calibration_p,
    drift_reports.level,
    array_position(array['ok', 'warning', 'critical', 'unknown'], drift_reports.level) - 1 as level_number,
    drift_reports.reason,
    drift_reports.recorded_at,
    row_number() over (
        partition by drift_reports.crypto, drift_reports.market order by drift_reports.recorded_at desc
    ) = 1 as is_latest
from drift_reports
"""

# Times as the incident log counts them: to detect, to acknowledge and to recover from the beginning, to mitigate and to
# fix from the acknowledgement; with an unknown end they are unknown.
INCIDENTS = """
create view ops_incidents as
select
    incidents.id,
    incidents.title,
    incidents.severity,
    incidents.symptom,
    incidents.root_cause,
    incidents.opened_by,
    incidents.opened_at,
    incidents.began_at,
    incidents.closed_at,
    case when incidents.closed_at is null then 'open' else 'closed' end as status,
    extract(epoch from incidents.detected_at - incidents.began_at)::double precision as seconds_to_detect,
    extract(epoch from incidents.acknowledged_at - incidents.began_at)::double precision as seconds_to_acknowledge,
    extract(epoch from incidents.mitigated_at - incidents.acknowledged_at)::double precision as seconds_to_mitigate,
    extract(epoch from incidents.fixed_at - incidents.acknowledged_at)::double precision as seconds_to_fix,
    extract(epoch from incidents.fixed_at - incidents.began_at)::double precision as seconds_to_recover,
    (select count(*) from incident_alerts where incident_alerts.incident_id = incidents.id) as alerts
from incidents
"""

ARTIFACTS = """
create view ops_artifacts as
select asset, crypto, market, market = 'simulated' as simulated, version, bytes, run_id, published_at
from artifact_versions
"""

# In the order in which they can be created: some read others.
VIEWS = {
    "ops_state": STATE,
    "ops_state_history": STATE_HISTORY,
    "ops_universe": UNIVERSE,
    "ops_signals": SIGNALS,
    "ops_signal_points": SIGNAL_POINTS,
    "ops_freshness": FRESHNESS,
    "ops_alerts": ALERTS,
    "ops_alert_messages": ALERT_MESSAGES,
    "ops_evaluations": EVALUATIONS,
    "ops_gates": GATES,
    "ops_folds": FOLDS,
    "ops_sessions": SESSIONS,
    "ops_runs": RUNS,
    "ops_factor_times": FACTOR_TIMES,
    "ops_models": MODELS,
    "ops_model_events": MODEL_EVENTS,
    "ops_results": RESULTS,
    "ops_guardrails": GUARDRAILS,
    "ops_drift": DRIFT,
    "ops_incidents": INCIDENTS,
    "ops_artifacts": ARTIFACTS,
}


def upgrade() -> None:
    """Create the views, and the index that finds what a run made."""
    op.create_index("artifact_versions_run", "artifact_versions", ["run_id"])
    for view in VIEWS.values():
        op.execute(view)


def downgrade() -> None:
    """Drop them again."""
    for view in reversed(VIEWS):
        op.execute(f"drop view {view}")
    op.drop_index("artifact_versions_run", "artifact_versions")
