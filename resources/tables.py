"""The operations schema: the tables and views of ours in PostgreSQL, as SQLAlchemy Core declarations.

Migrations under `resources/migrations` create them; a test holds the two against each other.
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

METADATA = sa.MetaData()
# Views are read like tables, and created by migrations alone.
VIEWS = sa.MetaData()

_NOW = sa.text("now()")

UNIVERSES = sa.Table(
    "cvntrade_universes",
    METADATA,
    sa.Column("group_name", sa.Text, primary_key=True),
    sa.Column("crypto", sa.Text, primary_key=True),
    sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
    comment="Which cryptos exist and in which groups they are: the source of truth for partitions.",
)

BASE_ENV = sa.Table(
    "base_env",
    METADATA,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sa.Column("updated_by", sa.Text, nullable=False),
    sa.Column("updated_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
    comment="The settings layer that operators edit.",
)

ARTIFACT_VERSIONS = sa.Table(
    "artifact_versions",
    METADATA,
    sa.Column("asset", sa.Text, primary_key=True),
    sa.Column("crypto", sa.Text, primary_key=True),
    sa.Column("version", sa.Text, primary_key=True),
    sa.Column("market", sa.Text, nullable=False),
    sa.Column("location", sa.Text, nullable=False),
    sa.Column("manifest_sha256", sa.Text, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("manifest", JSONB, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("published_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
    comment="Every artifact version that was published whole; written last, after the files are safe.",
)

ARCHIVE_FILES = sa.Table(
    "archive_files",
    METADATA,
    sa.Column("crypto", sa.Text, primary_key=True),
    sa.Column("timeframe", sa.Text, primary_key=True),
    sa.Column("month", sa.Text, primary_key=True),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("sha256", sa.Text),
    sa.Column("replaced_sha256", sa.Text),
    sa.Column("reason", sa.Text),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("seen_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
    sa.CheckConstraint("status in ('good', 'absent', 'quarantined')", name="archive_files_status"),
    comment="What is known of every monthly file of the archive: its checksum, or why it does not count.",
)

EXCHANGE_BANS = sa.Table(
    "exchange_bans",
    METADATA,
    sa.Column("host", sa.Text, primary_key=True),
    sa.Column("release_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
    sa.Column("seen_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
    comment="Until when an API host has banned this network address: no run calls it before.",
)

# Append-only: triggers refuse every UPDATE, DELETE and TRUNCATE, whoever asks.
GUARDRAIL_EVALUATIONS = sa.Table(
    "guardrail_evaluations",
    METADATA,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
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
    sa.Column("recorded_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
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

RESULTS = sa.Table(
    "results",
    METADATA,
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
    sa.Column("recorded_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
    *(sa.Column(name, sa.Double) for name in ("sharpe", "expectancy_net", "max_drawdown")),
    sa.Column("n_trades", sa.BigInteger),
    *(
        sa.Column(f"{name}_{end}", sa.Double)
        for name in ("f1_buy", "pr_auc", "brier_after", "sortino")
        for end in ("low", "high")
    ),
    sa.Index("results_session", "session"),
    comment="What each run came to on the test slice of its crypto; sortino is NULL until a backtest tells.",
)

WATCHED_RUNS = sa.Table(
    "watched_runs",
    METADATA,
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
    sa.Column("seen_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
    sa.Index("watched_runs_session", "session"),
    comment="How each run that the watch saw went: when it began, when it began to train, when and how it ended.",
)

ROLLOUT_GATES = sa.Table(
    "rollout_gates",
    METADATA,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("rollout", sa.Text, nullable=False),
    sa.Column("factor", sa.Text, nullable=False),
    sa.Column("definition", sa.Text, nullable=False),
    sa.Column("stage", sa.Text, nullable=False),
    sa.Column("crypto_group", sa.Text, nullable=False),
    sa.Column("passed", sa.Boolean, nullable=False),
    sa.Column("reasons", JSONB, nullable=False),
    sa.Column("runs", JSONB, nullable=False),
    sa.Column("recorded_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
    sa.CheckConstraint("stage in ('preflight', 'canary', 'full')", name="rollout_gates_stage"),
    sa.Index("rollout_gates_factor", "factor", "definition"),
    comment="The verdict of every gate of every staged rollout; append-only.",
)

BASE_ENV_HISTORY = sa.Table(
    "base_env_history",
    METADATA,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("old_value", sa.Text),
    sa.Column("new_value", sa.Text),
    sa.Column("author", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("changed_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
    comment="Every change of base_env, written by a trigger so that no door goes around it; append-only.",
)

EVALUATION_HEADLINES = (
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
EVALUATION_COUNTS = ("n_trades", "trials", "screened", "eligible", "tested", "passed")

EVALUATIONS = sa.Table(
    "evaluations",
    METADATA,
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
    *(sa.Column(name, sa.Double) for name in EVALUATION_HEADLINES),
    *(sa.Column(name, sa.BigInteger) for name in EVALUATION_COUNTS),
    sa.Column("gates_passed", sa.Boolean, nullable=False),
    sa.Column("primary_code", sa.Text, nullable=False),
    sa.Column("codes", JSONB, nullable=False),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("record", JSONB, nullable=False),
    sa.Column("recorded_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
    sa.CheckConstraint("window_from < window_to", name="evaluations_window"),
    sa.Index("evaluations_crypto", "crypto", "market", "recorded_at"),
    sa.Index("evaluations_version", "evaluation_version"),
    sa.Index("evaluations_leading", "run_id", "crypto", unique=True, postgresql_where=sa.text("leads")),
    comment="Every evaluation of every tested candidate: its headlines, gates and diagnosis, and the whole record.",
)

# A trigger allows the changes of operations/lifecycle.py and no others, and writes each one's event.
MODEL_VERSIONS = sa.Table(
    "model_versions",
    METADATA,
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
    sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
    sa.Column("changed_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
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

# Append-only, and written by a trigger.
MODEL_EVENTS = sa.Table(
    "model_events",
    METADATA,
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
    sa.Column("recorded_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
    sa.UniqueConstraint("model_id", "epoch", name="model_events_epoch"),
    sa.Index("model_events_crypto", "crypto", "id"),
    comment="Every change of a model's state, written by a trigger so that no door goes around it; append-only.",
)

# The history of every signal: a point when its level changes, and one an hour.
SIGNAL_POINTS = sa.Table(
    "signal_points",
    METADATA,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("signal", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("value", sa.Double),
    sa.Column("level", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("observed_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.CheckConstraint("level in ('ok', 'warning', 'critical', 'unknown')", name="signal_points_level"),
    sa.Index("signal_points_signal", "signal", "subject", "observed_at"),
    sa.Index("signal_points_observed", "observed_at"),
    comment="Signals over time: a point whenever a level changes, and one an hour.",
)

SIGNALS_NOW = sa.Table(
    "signals_now",
    METADATA,
    sa.Column("signal", sa.Text, primary_key=True),
    sa.Column("subject", sa.Text, primary_key=True),
    sa.Column("value", sa.Double),
    sa.Column("level", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("inputs", JSONB, nullable=False),
    sa.Column("observed_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("level_since", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("point_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.CheckConstraint("level in ('ok', 'warning', 'critical', 'unknown')", name="signals_now_level"),
    comment="Every signal as it was last observed, since when its level holds, and when its last point was kept.",
)

# Append-only.
GLOBAL_STATES = sa.Table(
    "global_states",
    METADATA,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("computed_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("raw_state", sa.Text, nullable=False),
    sa.Column("since", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("reasons", JSONB, nullable=False),
    sa.Column("market", sa.Text, nullable=False),
    sa.Column("as_of", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.CheckConstraint("state in ('GREEN', 'YELLOW', 'ORANGE', 'RED')", name="global_states_state"),
    sa.CheckConstraint("raw_state in ('GREEN', 'YELLOW', 'ORANGE', 'RED')", name="global_states_raw_state"),
    sa.Index("global_states_computed", "computed_at"),
    comment="The global state at every look: as it is shown, as it was at that moment alone, and why.",
)

ALERTS = sa.Table(
    "alerts",
    METADATA,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("what", sa.Text, nullable=False),
    sa.Column("place", sa.Text, nullable=False),
    sa.Column("next_step", sa.Text, nullable=False),
    sa.Column("link", sa.Text, nullable=False),
    sa.Column("since", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("opened_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("seen_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("seen_count", sa.BigInteger, nullable=False),
    sa.Column("told_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("acknowledged_at", sa.TIMESTAMP(timezone=True)),
    sa.Column("acknowledged_by", sa.Text),
    sa.Column("acknowledgement", sa.Text),
    sa.Column("escalations", sa.BigInteger, nullable=False),
    sa.Column("escalated_at", sa.TIMESTAMP(timezone=True)),
    sa.Column("resolved_at", sa.TIMESTAMP(timezone=True)),
    sa.Column("resolution", sa.Text),
    sa.CheckConstraint("severity in ('P0', 'P1', 'P2', 'P3')", name="alerts_severity"),
    sa.CheckConstraint(
        "num_nonnulls(acknowledged_at, acknowledged_by, acknowledgement) in (0, 3)", name="alerts_acknowledgement"
    ),
    sa.CheckConstraint("(resolved_at is null) = (resolution is null)", name="alerts_resolution"),
    sa.Index("alerts_open", "key", unique=True, postgresql_where=sa.text("resolved_at is null")),
    sa.Index("alerts_opened", "opened_at"),
    comment="Conditions that were told: one open alert a key, for as long as the condition holds.",
)

ALERT_MESSAGES = sa.Table(
    "alert_messages",
    METADATA,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("alert_id", sa.BigInteger, sa.ForeignKey("alerts.id"), nullable=False),
    sa.Column("dedup_key", sa.Text, nullable=False, unique=True),
    sa.Column("event", sa.Text, nullable=False),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("audience", sa.Text, nullable=False),
    sa.Column("group_key", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("created_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("due_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("attempts", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("last_error", sa.Text),
    sa.Column("sent_at", sa.TIMESTAMP(timezone=True)),
    sa.Column("sent_by", sa.Text),
    sa.Column("dropped_at", sa.TIMESTAMP(timezone=True)),
    sa.Column("dropped_why", sa.Text),
    sa.CheckConstraint(
        "event in ('opened', 'worsened', 'repeated', 'escalated', 'recovered')", name="alert_messages_event"
    ),
    sa.CheckConstraint("severity in ('P0', 'P1', 'P2', 'P3')", name="alert_messages_severity"),
    sa.CheckConstraint("(sent_at is null) = (sent_by is null)", name="alert_messages_sent"),
    sa.CheckConstraint("(dropped_at is null) = (dropped_why is null)", name="alert_messages_dropped"),
    sa.Index("alert_messages_waiting", "due_at", postgresql_where=sa.text("sent_at is null and dropped_at is null")),
    sa.Index("alert_messages_alert", "alert_id"),
    comment="The outbox: what is to be told, written in the transaction that decided it, sent at least once.",
)

DRIFT_REPORTS = sa.Table(
    "drift_reports",
    METADATA,
    sa.Column("run_id", sa.Text, primary_key=True),
    sa.Column("crypto", sa.Text, primary_key=True),
    sa.Column("market", sa.Text, nullable=False),
    sa.Column("drift_version", sa.Text, nullable=False),
    sa.Column("model_version", sa.Text, nullable=False),
    sa.Column("window_from", sa.TIMESTAMP(timezone=True)),
    sa.Column("window_to", sa.TIMESTAMP(timezone=True)),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("features", sa.BigInteger, nullable=False),
    sa.Column("drifted", sa.BigInteger, nullable=False),
    sa.Column("share", sa.Double),
    sa.Column("worst_feature", sa.Text),
    sa.Column("worst_psi", sa.Double),
    sa.Column("score_psi", sa.Double),
    sa.Column("score_p", sa.Double),
    sa.Column("labelled", sa.BigInteger, nullable=False),
    sa.Column("buy_rate_reference", sa.Double),
    sa.Column("buy_rate", sa.Double),
    sa.Column("buy_rate_p", sa.Double),
    sa.Column("calibration_error_reference", sa.Double),
    sa.Column("calibration_error", sa.Double),
    sa.Column("calibration_p", sa.Double),
    sa.Column("level", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("details", JSONB, nullable=False),
    sa.Column("recorded_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
    sa.CheckConstraint("level in ('ok', 'warning', 'critical', 'unknown')", name="drift_reports_level"),
    sa.Index("drift_reports_crypto", "crypto", "market", "recorded_at"),
    comment="What every look for drift of a crypto's features, scores, labels and calibration found.",
)

INCIDENTS = sa.Table(
    "incidents",
    METADATA,
    sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("justification", sa.Text, nullable=False),
    sa.Column("symptom", sa.Text, nullable=False),
    sa.Column("opened_by", sa.Text, nullable=False),
    sa.Column("opened_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=_NOW),
    sa.Column("began_at", sa.TIMESTAMP(timezone=True), nullable=False),
    sa.Column("detected_at", sa.TIMESTAMP(timezone=True)),
    sa.Column("acknowledged_at", sa.TIMESTAMP(timezone=True)),
    sa.Column("mitigated_at", sa.TIMESTAMP(timezone=True)),
    sa.Column("fixed_at", sa.TIMESTAMP(timezone=True)),
    *(sa.Column(name, sa.Text) for name in ("root_cause", "test_gap", "fix", "audit_trail")),
    sa.Column("lessons", JSONB, nullable=False, server_default=sa.text("'[]'")),
    sa.Column("follow_ups", JSONB, nullable=False, server_default=sa.text("'[]'")),
    sa.Column("closed_by", sa.Text),
    sa.Column("closed_at", sa.TIMESTAMP(timezone=True)),
    sa.CheckConstraint("severity in ('P0', 'P1', 'P2', 'P3')", name="incidents_severity"),
    sa.CheckConstraint("began_at <= coalesce(detected_at, 'infinity')", name="incidents_detected"),
    sa.CheckConstraint(
        "coalesce(detected_at, began_at) <= coalesce(acknowledged_at, 'infinity')", name="incidents_acknowledged"
    ),
    sa.CheckConstraint(
        "coalesce(acknowledged_at, detected_at, began_at) <= coalesce(mitigated_at, 'infinity')",
        name="incidents_mitigated",
    ),
    sa.CheckConstraint(
        "coalesce(mitigated_at, acknowledged_at, detected_at, began_at) <= coalesce(fixed_at, 'infinity')",
        name="incidents_fixed",
    ),
    sa.CheckConstraint(
        "closed_at is null or num_nonnulls(closed_by, root_cause, fix, fixed_at) = 4", name="incidents_closed"
    ),
    comment="The incident log (the manual's section 17); nothing is removed from it, and what is closed stays.",
)

INCIDENT_ALERTS = sa.Table(
    "incident_alerts",
    METADATA,
    sa.Column("incident_id", sa.BigInteger, sa.ForeignKey("incidents.id"), primary_key=True),
    sa.Column("alert_id", sa.BigInteger, sa.ForeignKey("alerts.id"), primary_key=True),
    comment="Which alerts an incident was about.",
)

RUN_RESULTS = sa.Table(
    "run_results",
    VIEWS,
    *(sa.Column(column.name, column.type) for column in RESULTS.columns),
    sa.Column("preflight_samples", sa.Integer),
    sa.Column("preflight_features", sa.Integer),
    sa.Column("preflight_memory_gb", sa.REAL),
    sa.Column("guardrail_slow_run", sa.Boolean),
    sa.Column("guardrail_slow_reason", sa.Text),
    sa.Column("guardrail_explicit", sa.Boolean),
    sa.Column("guardrail_override", sa.Boolean),
    sa.Column("guardrail_override_reason", sa.Text),
)

GUARDRAIL_SESSIONS = sa.Table(
    "guardrail_sessions",
    VIEWS,
    sa.Column("session", sa.Text),
    sa.Column("started_at", sa.TIMESTAMP(timezone=True)),
    sa.Column("runs", sa.BigInteger),
    sa.Column("trained_runs", sa.BigInteger),
    sa.Column("run_seconds", sa.Double),
    sa.Column("blocks", sa.BigInteger),
    sa.Column("flags", sa.BigInteger),
    sa.Column("overrides", sa.BigInteger),
    sa.Column("guardrail_seconds", sa.Double),
    sa.Column("measured", sa.Boolean),
)

GUARDRAIL_PAYOFF = sa.Table(
    "guardrail_payoff",
    VIEWS,
    sa.Column("sessions", sa.BigInteger),
    sa.Column("runs", sa.BigInteger),
    sa.Column("trained_runs", sa.BigInteger),
    sa.Column("unjudged_runs", sa.BigInteger),
    sa.Column("first_started_at", sa.TIMESTAMP(timezone=True)),
    sa.Column("last_seen_at", sa.TIMESTAMP(timezone=True)),
    sa.Column("wasted_runs", sa.BigInteger),
    sa.Column("wasted_runs_per_month", sa.Double),
    sa.Column("median_seconds_to_detect", sa.Double),
    sa.Column("blocks", sa.BigInteger),
    sa.Column("false_positives", sa.BigInteger),
    sa.Column("false_positive_rate", sa.Double),
    sa.Column("run_seconds", sa.Double),
    sa.Column("guardrail_seconds", sa.Double),
    sa.Column("overhead", sa.Double),
)

LATEST_EVALUATIONS = sa.Table(
    "latest_evaluations",
    VIEWS,
    *(sa.Column(column.name, column.type) for column in EVALUATIONS.columns),
)

PENDING_CHALLENGERS = sa.Table(
    "pending_challengers",
    VIEWS,
    sa.Column("crypto", sa.Text),
    sa.Column("number", sa.BigInteger),
    sa.Column("market", sa.Text),
    sa.Column("pte", sa.Text),
    sa.Column("challenger_at", sa.TIMESTAMP(timezone=True)),
    sa.Column("fitted_until", sa.TIMESTAMP(timezone=True)),
    sa.Column("data_until", sa.TIMESTAMP(timezone=True)),
    sa.Column("mlflow_version", sa.Text),
    sa.Column("mirrored", sa.Boolean),
    sa.Column("f1_buy", sa.Double),
    sa.Column("baseline_f1_buy", sa.Double),
    sa.Column("sortino", sa.Double),
    sa.Column("rolling_sortino", sa.Double),
    sa.Column("dsr", sa.Double),
    sa.Column("primary_code", sa.Text),
)
