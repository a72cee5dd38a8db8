"""When things happen: the schedule, and the ticks that make the system converge.

``celery -A beat beat`` is the clock; ``celery -A beat worker`` answers it and runs ``enqueue_years``.
"""

from beat import schedule
from eo_tasks.celery import app
from workers.login import check_login
from workers.logs import keep_logs

__all__ = ["app", "schedule"]

keep_logs()
check_login()
