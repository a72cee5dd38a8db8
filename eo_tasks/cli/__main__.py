"""``python -m eo_tasks.cli``: the ``eo-tasks`` command."""

from eo_tasks.cli.main import main

main(prog_name="eo-tasks")
