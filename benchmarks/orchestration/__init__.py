"""Our orchestration against Celery alone, and in the sizes of a country (``python -m benchmarks.orchestration``)."""
