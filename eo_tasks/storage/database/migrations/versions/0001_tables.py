"""Cells, images, changes and their polygons, and the views that people query.

Every key contains the month or the start of the period, by which TimescaleDB may partition the tables later; plain
PostgreSQL has the same keys. Nothing refers to ``eo`` by a foreign key: that would forbid compressing its chunks.
"""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

TABLES = """
CREATE TABLE grid_cells (
    grid_id integer PRIMARY KEY,
    index_x integer NOT NULL,
    index_y integer NOT NULL,
    geom geometry(Polygon, 3857) NOT NULL,
    bbox_4326 geography(Polygon, 4326) NOT NULL,
    label text,
    epsg integer NOT NULL,
    bounds double precision[] NOT NULL
);

CREATE TABLE eo (
    id serial NOT NULL,
    time timestamptz NOT NULL,
    month date NOT NULL,
    grid_id integer NOT NULL REFERENCES grid_cells (grid_id),
    bbox geography(Polygon, 4326) NOT NULL,
    width integer NOT NULL,
    height integer NOT NULL,
    data_type text NOT NULL,
    b01 bytea, b02 bytea, b03 bytea, b04 bytea, b05 bytea, b06 bytea, b07 bytea, b08 bytea, b8a bytea,
    b09 bytea, b10 bytea, b11 bytea, b12 bytea,
    clear_count bytea,
    year integer GENERATED ALWAYS AS (extract(year FROM month)::integer) STORED,
    bands text[] NOT NULL,
    epsg integer NOT NULL,
    transform double precision[] NOT NULL,
    nodata double precision,
    checksum text NOT NULL,
    made_at timestamptz,
    record json NOT NULL,
    PRIMARY KEY (id, month),
    UNIQUE (grid_id, month),
    CHECK (month = date_trunc('month', month::timestamp)::date),
    CHECK (width > 0 AND height > 0)
);

CREATE TABLE eo_change (
    img_a_id integer NOT NULL,
    img_b_id integer NOT NULL,
    grid_id integer NOT NULL REFERENCES grid_cells (grid_id),
    period_start date NOT NULL,
    period_end date NOT NULL,
    bbox geography(Polygon, 4326) NOT NULL,
    width integer NOT NULL,
    height integer NOT NULL,
    data_type text NOT NULL,
    mask bytea NOT NULL,
    probability bytea,
    year_before integer GENERATED ALWAYS AS (extract(year FROM period_start)::integer) STORED,
    year_after integer GENERATED ALWAYS AS (extract(year FROM period_end)::integer) STORED,
    epsg integer NOT NULL,
    transform double precision[] NOT NULL,
    checksum text NOT NULL,
    model text NOT NULL,
    threshold double precision NOT NULL,
    changed_ha double precision NOT NULL,
    seen_ha double precision NOT NULL,
    made_at timestamptz,
    record json NOT NULL,
    PRIMARY KEY (img_a_id, img_b_id, period_start),
    CHECK (img_a_id < img_b_id),
    CHECK (period_start < period_end)
);

CREATE TABLE eo_change_polygons (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    img_a_id integer NOT NULL,
    img_b_id integer NOT NULL,
    grid_id integer NOT NULL REFERENCES grid_cells (grid_id),
    period_start date NOT NULL,
    period_end date NOT NULL,
    geom geometry(Polygon, 4326) NOT NULL,
    area_ha double precision NOT NULL,
    mean_probability double precision NOT NULL
);

CREATE INDEX ON grid_cells USING gist (geom);
CREATE INDEX ON grid_cells USING gist (bbox_4326);
CREATE INDEX ON eo (month, grid_id);
CREATE INDEX ON eo USING gist (bbox);
CREATE INDEX ON eo_change (period_start, grid_id);
CREATE INDEX ON eo_change USING gist (bbox);
CREATE INDEX ON eo_change_polygons USING gist (geom);
CREATE INDEX ON eo_change_polygons (img_a_id, img_b_id, period_start);
CREATE INDEX ON eo_change_polygons (period_start, period_end, grid_id);
"""

# Bands are uncompressed: PostgreSQL's compression costs 15 ms of CPU a megabyte and gains nothing on such images, and a
# part of an uncompressed value can be read by itself. Masks are mostly zeros, so they stay compressed.
IMAGE_BYTES = ("b01", "b02", "b03", "b04", "b05", "b06", "b07", "b08", "b8a", "b09", "b10", "b11", "b12")

VIEWS = """
CREATE VIEW eo_images AS
SELECT id, grid_id, year, month, time, bbox, epsg, width, height, bands, nodata, checksum, made_at,
       (record ->> 'clear_share')::double precision AS clear_share,
       record ->> 'source' AS source,
       record
FROM eo;

CREATE VIEW eo_changes AS
SELECT c.grid_id, c.year_before, c.year_after, c.changed_ha, c.seen_ha, c.model, c.threshold, c.made_at, c.bbox,
       before.id AS image_before_id, after.id AS image_after_id, c.img_a_id, c.img_b_id, c.period_start, c.period_end,
       c.record
FROM eo_change c
LEFT JOIN eo before ON before.grid_id = c.grid_id AND before.month = c.period_start
LEFT JOIN eo after ON after.grid_id = c.grid_id AND after.month = c.period_end;

CREATE VIEW eo_changed_area AS
SELECT grid_id, year_before, year_after, changed_ha, seen_ha,
       changed_ha / nullif(seen_ha, 0) AS changed_share
FROM eo_change;

CREATE VIEW eo_coverage AS
SELECT cell.grid_id, cell.label, years.year, image.grid_id IS NOT NULL AS has_image, image.clear_share,
       change.grid_id IS NOT NULL AS has_change, change.year_after
FROM grid_cells cell
CROSS JOIN (SELECT DISTINCT year FROM eo) years
LEFT JOIN (
    SELECT grid_id, year, max((record ->> 'clear_share')::double precision) AS clear_share
    FROM eo GROUP BY grid_id, year
) image ON image.grid_id = cell.grid_id AND image.year = years.year
LEFT JOIN (
    SELECT grid_id, year_before, min(year_after) AS year_after FROM eo_change GROUP BY grid_id, year_before
) change ON change.grid_id = cell.grid_id AND change.year_before = years.year;
"""


def upgrade() -> None:
    """Make everything."""
    op.execute(TABLES)
    for column in (*IMAGE_BYTES, "clear_count"):
        op.execute(f"ALTER TABLE eo ALTER COLUMN {column} SET STORAGE EXTERNAL")
    op.execute(VIEWS)


def downgrade() -> None:
    """Drop everything, the images too."""
    op.execute("DROP VIEW eo_images, eo_changes, eo_changed_area, eo_coverage")
    op.execute("DROP TABLE eo_change_polygons, eo_change, eo, grid_cells")
