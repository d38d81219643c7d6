"""Alembic's entry point: runs the migrations on the connection that `resources.migrating` hands over."""

from alembic import context

from resources.tables import METADATA

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=METADATA, transaction_per_migration=False)
with context.begin_transaction():
    context.run_migrations()
