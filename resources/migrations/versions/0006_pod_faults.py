"""What went wrong with the pods of runs."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

APPEND_ONLY = """
create trigger pod_faults_append_only before update or delete or truncate on pod_faults
    for each statement execute function refuse_change();
alter table pod_faults enable always trigger pod_faults_append_only
"""


def upgrade() -> None:
    """Create the table and its guard."""
    op.create_table(
        "pod_faults",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("run_id", sa.Text, nullable=False),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("crypto", sa.Text),
        sa.Column("work", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("pod", sa.Text, nullable=False),
        sa.Column("node", sa.Text, nullable=False),
        sa.Column("memory_gib", sa.Double),
        sa.Column("message", sa.Text, nullable=False),
        sa.Column("found_at", sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.text("now()")),
        sa.UniqueConstraint("run_id", "kind", "pod", name="pod_faults_once"),
        comment="What went wrong with the pods of runs: lost, killed for want of memory, never scheduled.",
    )
    op.create_index("pod_faults_found", "pod_faults", ["found_at"])
    op.execute(APPEND_ONLY)


def downgrade() -> None:
    """Drop it again."""
    op.drop_table("pod_faults")
