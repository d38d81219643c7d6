"""Universes, operator settings, artifact versions, the exchange's archive files and its bans."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def _stamp(name: str) -> "sa.Column[Any]":
    return sa.Column(name, sa.TIMESTAMP(timezone=True), nullable=False, server_default=sa.text("now()"))


def upgrade() -> None:
    """Create the first tables."""
    op.create_table(
        "cvntrade_universes",
        sa.Column("group_name", sa.Text, primary_key=True),
        sa.Column("crypto", sa.Text, primary_key=True),
        _stamp("updated_at"),
        comment="Which cryptos exist and in which groups they are: the source of truth for partitions.",
    )
    op.create_table(
        "base_env",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("updated_by", sa.Text, nullable=False),
        _stamp("updated_at"),
        comment="The settings layer that operators edit.",
    )
    op.create_table(
        "artifact_versions",
        sa.Column("asset", sa.Text, primary_key=True),
        sa.Column("crypto", sa.Text, primary_key=True),
        sa.Column("version", sa.Text, primary_key=True),
        sa.Column("market", sa.Text, nullable=False),
        sa.Column("location", sa.Text, nullable=False),
        sa.Column("manifest_sha256", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("manifest", JSONB, nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        _stamp("published_at"),
        comment="Every artifact version that was published whole; written last, after the files are safe.",
    )
    op.create_table(
        "archive_files",
        sa.Column("crypto", sa.Text, primary_key=True),
        sa.Column("timeframe", sa.Text, primary_key=True),
        sa.Column("month", sa.Text, primary_key=True),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text),
        sa.Column("replaced_sha256", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("run_id", sa.Text, nullable=False),
        _stamp("seen_at"),
        sa.CheckConstraint("status in ('good', 'absent', 'quarantined')", name="archive_files_status"),
        comment="What is known of every monthly file of the archive: its checksum, or why it does not count.",
    )
    op.create_table(
        "exchange_bans",
        sa.Column("host", sa.Text, primary_key=True),
        sa.Column("release_at", sa.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("run_id", sa.Text, nullable=False),
        _stamp("seen_at"),
        comment="Until when an API host has banned this network address: no run calls it before.",
    )


def downgrade() -> None:
    """Drop them again."""
    for name in ("exchange_bans", "archive_files", "artifact_versions", "base_env", "cvntrade_universes"):
        op.drop_table(name)
