"""Composites computed by an openEO backend: its login, process graph, batch jobs, results and faults."""
