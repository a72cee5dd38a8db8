"""How Alembic runs the migrations: on the connection that it is given, in its transaction."""

from alembic import context

from eo_tasks.storage.database.models import Base
from eo_tasks.storage.database.schema import VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,
)
context.run_migrations()
