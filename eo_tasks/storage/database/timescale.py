"""TimescaleDB, where a database has it: images and changes are cut into chunks of one year each."""

from sqlalchemy import Connection, text

# A year is 360 days to TimescaleDB. The Augusts of two years are further apart, so each year has its own chunk.
HYPERTABLES = (("eo", "month"), ("eo_change", "period_start"))
EXTENSION = "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"
IS_HYPERTABLE = "SELECT 1 FROM timescaledb_information.hypertables WHERE hypertable_name = :name"
MAKE = (
    "SELECT create_hypertable('{table}', by_range('{column}', INTERVAL '1 year'), "
    "create_default_indexes => false, migrate_data => true)"
)


def make_hypertables(connection: Connection) -> bool:
    """Make the large tables hypertables if the extension is there and they are not; rows that they have move along.

    Returns:
        Whether the extension is there.
    """
    if connection.scalar(text(EXTENSION)) is None:
        return False
    for table, column in HYPERTABLES:
        if connection.scalar(text(IS_HYPERTABLE), {"name": table}) is None:
            connection.execute(text(MAKE.format(table=table, column=column)))
    return True
