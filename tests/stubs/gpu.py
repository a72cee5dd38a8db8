"""The GPU worker with stub steps and without a network (``celery -A tests.stubs.gpu worker``).

Its pool's process is a fresh interpreter as the real one's is: it imports this module again.
"""

from typing import Any

from celery.signals import worker_process_init

from tests.stubs.steps import install

install()

from workers import gpu  # noqa: E402  # after the stubs are in place
from workers.ready import announce  # noqa: E402

app = gpu.app
app.conf.imports = ("tests.stubs.gpu",)
worker_process_init.disconnect(gpu.load_network)


@worker_process_init.connect
def load_nothing(**_: Any) -> None:
    """Be ready."""
    announce()
