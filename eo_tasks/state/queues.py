"""What waits in the broker: the queues as they are, read without touching them."""

import json
from collections.abc import Collection, Iterator

from redis import Redis

UNACKED_KEY = "unacked"  # kombu's hash of messages that a worker holds
CHUNK = 500


def queued_ids(broker: Redis, queues: Collection[str]) -> set[str]:
    """Task ids of every message that waits in the queues or is held by a worker.

    A chain's later steps are not among them: they are sent when the step before ends.
    """
    held = (json.loads(text)[0] for text in broker.hvals(UNACKED_KEY))
    waiting = (json.loads(text) for queue in queues for text in _all(broker, queue))
    return {message["headers"]["id"] for message in (*waiting, *held)}


def queue_lengths(broker: Redis, queues: Collection[str]) -> dict[str, int]:
    """Messages waiting in each queue."""
    return {queue: int(broker.llen(queue)) for queue in queues}


def _all(broker: Redis, queue: str) -> Iterator[str]:
    start = 0
    while chunk := broker.lrange(queue, start, start + CHUNK - 1):
        yield from map(str, chunk)
        start += CHUNK
