"""How the schema is changed, by Alembic."""
