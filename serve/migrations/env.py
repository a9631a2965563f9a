"""Called by Alembic, with the connection that :func:`serve.store.database.migrate` has opened."""

from alembic import context

from serve.store.tables import Table

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Table.metadata,
    transactional_ddl=True,  # all steps or none, on SQLite too
)
with context.begin_transaction():
    context.run_migrations()
