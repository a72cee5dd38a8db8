"""Composites and masks in PostgreSQL with PostGIS, and with TimescaleDB where it is there."""
