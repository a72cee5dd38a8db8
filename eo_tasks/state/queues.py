"""What waits in the broker: the queues as they are, read without touching them."""

import json
from collections.abc import Collection, Iterator

from redis import Redis

CHUNK = 500


def queued_ids(broker: Redis, queues: Collection[str]) -> set[str]:
    """Task ids of every message that waits in the queues.

    Messages that a worker has taken are not among them: a worker takes only what it starts at once, so that the
    ledger shows them as started, unless the worker died in between. Nor are a chain's later steps, which are sent when
    the step before ends.
    """
    return {json.loads(text)["headers"]["id"] for queue in queues for text in _all(broker, queue)}


def queue_lengths(broker: Redis, queues: Collection[str]) -> dict[str, int]:
    """Messages waiting in each queue."""
    return {queue: int(broker.llen(queue)) for queue in queues}


def _all(broker: Redis, queue: str) -> Iterator[str]:
    start = 0
    while chunk := broker.lrange(queue, start, start + CHUNK - 1):
        yield from map(str, chunk)
        start += CHUNK
