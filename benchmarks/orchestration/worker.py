"""What the workers of both sides have in common.

``BENCHMARK_READY`` is the file that says that a worker is ready, ``BENCHMARK_PROFILE`` the one that a solo worker's
profile goes to.
"""

import cProfile
import os
from pathlib import Path
from typing import Any

from celery.signals import worker_init, worker_ready, worker_shutdown

from eo_tasks.celery import BTC, DOWNLOADS, STORES, queue

ORDER = (STORES, BTC, DOWNLOADS)  # what is nearly done first, as the CPU worker does


def prepare(celery: Any) -> None:
    """Have a worker of an app take all queues in one order, say when it is ready, and keep its profile."""
    celery.conf.task_queues = [queue(name) for name in ORDER]
    celery.conf.broker_transport_options = {**celery.conf.broker_transport_options, "queue_order_strategy": "priority"}
    profile = cProfile.Profile()
    profile_file = os.environ.get("BENCHMARK_PROFILE")

    @worker_init.connect(weak=False)
    def begin(**_: Any) -> None:
        if profile_file:
            profile.enable()

    @worker_ready.connect(weak=False)
    def say(**_: Any) -> None:
        if ready_file := os.environ.get("BENCHMARK_READY"):
            Path(ready_file).touch()

    @worker_shutdown.connect(weak=False)
    def keep(**_: Any) -> None:
        if profile_file:
            profile.disable()
            profile.dump_stats(profile_file)
