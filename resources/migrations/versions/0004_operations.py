"""Signals over time, the global state, alerts with their outbox, drift reports and the incident log."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

APPEND_ONLY = """
create trigger global_states_append_only before update or delete or truncate on global_states
    for each statement execute function refuse_change();
alter table global_states enable always trigger global_states_append_only
"""
NO_REMOVAL = """
create trigger {table}_stay before delete or truncate on {table}
    for each statement execute function refuse_change();
alter table {table} enable always trigger {table}_stay
"""

# What is closed stays as it was closed: what is found out later is another incident, or stands in a follow-up.
CLOSED_STAYS = """
create function guard_closed_incident() returns trigger language plpgsql as $$
begin
    raise exception 'incident % is closed', old.id
        using errcode = 'restrict_violation', hint = 'Open another incident that names this one.';
end
$$
"""
CLOSED_STAYS_TRIGGER = """
create trigger incidents_closed_stay before update on incidents
    for each row when (old.closed_at is not null) execute function guard_closed_incident();
alter table incidents enable always trigger incidents_closed_stay
"""


def upgrade() -> None:
    """Create the tables and their guards."""
    _create_signal_points()
    _create_signals_now()
    _create_global_states()
    _create_alerts()
    _create_alert_messages()
    _create_alert_channels()
    _create_drift_reports()
    _create_incidents()
    _create_incident_alerts()
    op.execute(APPEND_ONLY)
    for table in ("alerts", "alert_messages", "incidents", "incident_alerts"):
        op.execute(NO_REMOVAL.format(table=table))
    op.execute(CLOSED_STAYS)
    op.execute(CLOSED_STAYS_TRIGGER)


def _create_signal_points() -> None:
    op.create_table(
        "signal_points",
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


def _create_signals_now() -> None:
    op.create_table(
        "signals_now",
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


def _create_global_states() -> None:
    op.create_table(
        "global_states",
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


def _create_alerts() -> None:
    op.create_table(
        "alerts",
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


def _create_alert_messages() -> None:
    op.create_table(
        "alert_messages",
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
        sa.Index(
            "alert_messages_waiting", "due_at", postgresql_where=sa.text("sent_at is null and dropped_at is null")
        ),
        sa.Index("alert_messages_alert", "alert_id"),
        comment="The outbox: what is to be told, written in the transaction that decided it, sent at least once.",
    )


def _create_alert_channels() -> None:
    op.create_table(
        "alert_channels",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("held_until", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.CheckConstraint("name in ('slack', 'sms', 'mail')", name="alert_channels_name"),
        comment="Until when a channel that had too much is left alone, by every worker.",
    )


def _create_drift_reports() -> None:
    op.create_table(
        "drift_reports",
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
        sa.Column("recorded_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.CheckConstraint("level in ('ok', 'warning', 'critical', 'unknown')", name="drift_reports_level"),
        sa.Index("drift_reports_crypto", "crypto", "market", "recorded_at"),
        comment="What every look for drift of a crypto's features, scores, labels and calibration found.",
    )


def _create_incidents() -> None:
    op.create_table(
        "incidents",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("severity", sa.Text, nullable=False),
        sa.Column("justification", sa.Text, nullable=False),
        sa.Column("symptom", sa.Text, nullable=False),
        sa.Column("opened_by", sa.Text, nullable=False),
        sa.Column("opened_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.text("now()")),
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


def _create_incident_alerts() -> None:
    op.create_table(
        "incident_alerts",
        sa.Column("incident_id", sa.BigInteger, sa.ForeignKey("incidents.id"), primary_key=True),
        sa.Column("alert_id", sa.BigInteger, sa.ForeignKey("alerts.id"), primary_key=True),
        comment="Which alerts an incident was about.",
    )


def downgrade() -> None:
    """Drop them again."""
    for table in (
        "incident_alerts",
        "incidents",
        "drift_reports",
        "alert_channels",
        "alert_messages",
        "alerts",
        "global_states",
        "signals_now",
        "signal_points",
    ):
        op.drop_table(table)
    op.execute("drop function guard_closed_incident")
