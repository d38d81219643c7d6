"""The operations schema: the tables of ours in PostgreSQL, as SQLAlchemy Core declarations.

Migrations under `resources/migrations` create them; a test holds the two against each other.
"""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

METADATA = sa.MetaData()

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
