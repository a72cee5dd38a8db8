"""``python -m eo_tasks.dashboard``: serve the dashboard on MONITORING_HOST and MONITORING_PORT."""

import sys

from eo_tasks.dashboard.serve import serve
from eo_tasks.errors import EOTasksError

if __name__ == "__main__":
    try:
        serve()
    except EOTasksError as error:
        sys.exit(f"eo-tasks: {error}")
