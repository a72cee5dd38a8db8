"""What waits in the broker: the queues as they are, read without touching them."""

import json
from collections.abc import Collection, Iterator

from redis import Redis

CHUNK = 500
PEEK = 50


def queued_ids(broker: Redis, queues: Collection[str]) -> set[str]:
    """Task ids of every message that waits in the queues.

    Messages that a worker has taken are not among them: a worker takes only what it starts at once, so that the
    ledger shows them as started, unless the worker died in between. Nor are a chain's later steps, which are sent when
    the step before ends.
    """
    return {json.loads(text)["headers"]["id"] for queue in queues for text in _all(broker, queue)}


def next_ids(broker: Redis, queue: str) -> Iterator[str]:
    """Task ids of the messages that wait in a queue, next to be delivered first, looked up as they are asked for.

    While others take messages from the queue, some may be passed over; none is given twice.
    """
    tried, seen = 0, set[str]()
    while chunk := broker.lrange(queue, -(tried + PEEK), -(tried + 1)):
        tried += len(chunk)
        for text in reversed(chunk):
            task_id = json.loads(text)["headers"]["id"]
            if task_id not in seen:
                seen.add(task_id)
                yield task_id


def queue_lengths(broker: Redis, queues: Collection[str]) -> dict[str, int]:
    """Messages waiting in each queue."""
    return {queue: int(broker.llen(queue)) for queue in queues}


def _all(broker: Redis, queue: str) -> Iterator[str]:
    start = 0
    while chunk := broker.lrange(queue, start, start + CHUNK - 1):
        yield from map(str, chunk)
        start += CHUNK
