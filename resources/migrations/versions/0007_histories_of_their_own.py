"""Histories that only their triggers write: these run as the tables' owner, so that nobody else need insert there.

The rights themselves are `resources/table_rights.py`'s to give.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# note_base_env writes base_env_history, note_model_version writes model_events.
WRITERS = ("note_base_env", "note_model_version")


def upgrade() -> None:
    """Have the triggers' functions run as their owner, and find the tables where they stand themselves."""
    schema = op.get_bind().scalar(sa.text("select quote_ident(current_schema())"))
    for function in WRITERS:
        # The caller's search path would have the owner write where the caller likes.
        op.execute(f"alter function {function}() security definer set search_path = {schema}, pg_temp")


def downgrade() -> None:
    """Nothing: the functions write the same rows, and the application has no right to write them itself."""
