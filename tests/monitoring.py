"""Names of the metrics that there are: ours, and Flower's (2.2, ``flower/events.py``)."""

OURS = frozenset(
    {
        "eo_tasks_units",
        "eo_tasks_left_seconds",
        "eo_tasks_unit_seconds_bucket",
        "eo_tasks_unit_seconds_count",
        "eo_tasks_unit_seconds_sum",
        "eo_tasks_pixels_total",
        "eo_tasks_queue_length",
        "eo_tasks_queue_age_seconds",
        "eo_tasks_runs",
        "eo_tasks_orders",
        "eo_tasks_credits_total",
        "eo_tasks_workers",
        "eo_tasks_worker_units",
        "eo_tasks_worker_memory_bytes",
        "eo_tasks_host_cpu_ratio",
        "eo_tasks_host_memory_bytes",
        "eo_tasks_host_memory_total_bytes",
        "eo_tasks_host_disk_free_bytes",
        "eo_tasks_host_disk_total_bytes",
        "eo_tasks_gpu_load_ratio",
        "eo_tasks_gpu_memory_bytes",
        "eo_tasks_gpu_memory_total_bytes",
        "eo_tasks_alerts",
        "eo_tasks_tick_ended_timestamp_seconds",
    }
)
FLOWERS = frozenset(
    {
        "flower_events_total",
        "flower_task_runtime_seconds_bucket",
        "flower_task_runtime_seconds_count",
        "flower_task_runtime_seconds_sum",
        "flower_task_prefetch_time_seconds",
        "flower_worker_prefetched_tasks",
        "flower_worker_online",
        "flower_worker_number_of_currently_executing_tasks",
    }
)
