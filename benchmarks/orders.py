"""What pending orders cost: 10,000 of them in Redis, looked at once a tick, with no worker waiting.

    python -m benchmarks.orders

Starts its own Redis. Prints a table and writes ``benchmarks/results/orders.json``.
"""

import os
import platform
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from subprocess import DEVNULL, Popen
from tempfile import TemporaryDirectory
from time import perf_counter

from redis import Redis
from rich.console import Console
from rich.table import Table

from benchmarks.orchestration.system import commit
from eo_tasks import __version__
from eo_tasks.files import write_json
from eo_tasks.local.redis_server import prepare_redis, wait_for_redis
from eo_tasks.state.connection import connect
from eo_tasks.state.entry import Limits
from eo_tasks.state.order import Order
from eo_tasks.state.orders import Orders
from eo_tasks.urls import with_login

RESULTS = Path(__file__).parent / "results" / "orders.json"
NUMBERS = (100, 1000, 10_000)
LOOKS = 9


def main() -> None:
    """Measure and report."""
    with TemporaryDirectory() as folder:
        server = prepare_redis(Path(folder))
        with Popen(server.argv, stdout=DEVNULL) as process:
            try:
                wait_for_redis(server)
                known = server.environment
                redis = connect(with_login(known["REDIS_RESULT_URL"], known["REDIS_USERNAME"], known["REDIS_PASSWORD"]))
                rows = [measure(redis, number) for number in NUMBERS]
            finally:
                process.terminate()
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    about = {"made_at": datetime.now(UTC).isoformat(timespec="seconds"), "version": __version__, "commit": commit()}
    write_json(RESULTS, {**about, **machine, "rows": rows})
    table = Table("Open orders", "To open one, ms", "To look at all, ms", "Redis, bytes each")
    for row in rows:
        table.add_row(*(f"{row[name]:,.6g}" for name in ("orders", "open_ms", "look_ms", "bytes_each")))
    Console().print(table)


def measure(redis: Redis, number: int) -> dict[str, float]:
    """Open so many orders of one cell each, and look at them as a tick does."""
    redis.flushdb()
    orders = Orders(redis, Limits())
    empty = int(redis.info("memory")["used_memory"])
    plain = Order("", "openeo", "0123456789ab", True, 2023, (0,), "01234567", "0123456789", created_at=1764100000.123)
    begun = perf_counter()
    for cell in range(number):
        orders.join(replace(plain, id=f"{cell:010x}", cells=(cell,)))
    open_ms = 1000 * (perf_counter() - begun) / number
    looks = []
    for _ in range(LOOKS):
        begun = perf_counter()
        found = orders.all(plain.account)
        looks.append(1000 * (perf_counter() - begun))
        assert len(found) == number
    used = (int(redis.info("memory")["used_memory"]) - empty) / number
    return {
        "orders": number,
        "open_ms": round(open_ms, 4),
        "look_ms": round(median(looks), 3),
        "bytes_each": round(used),
    }


if __name__ == "__main__":
    main()
