"""What is known of the accounts at remote sources: whether they can be used, and what their work costs."""

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass

from redis import Redis

ACCOUNTS, COSTS, SPENT, TRIED = "eo-tasks:accounts", "eo-tasks:costs", "eo-tasks:spent", "eo-tasks:sources-tried"
# account, job, run, credits, composites
_LEARN = """
local account, job, run, paid, cells = unpack(ARGV)
if redis.call('SADD', 'eo-tasks:paid:' .. account, job) == 0 then return end
redis.call('HINCRBY', 'eo-tasks:costs', account .. ':jobs', 1)
redis.call('HINCRBYFLOAT', 'eo-tasks:costs', account .. ':credits', paid)
redis.call('HINCRBY', 'eo-tasks:costs', account .. ':cells', cells)
redis.call('HINCRBYFLOAT', 'eo-tasks:spent', run, paid)
"""
LISTED_S = 24 * 3600  # an account's jobs are looked through again after this


@dataclass(frozen=True, slots=True)
class Standing:
    """How an account stands; times are seconds since 1970.

    Attributes:
        busy_until: It asked not to be asked before.
        out_until: Nothing can be asked for before, unless someone mends it.
        is_closed: Nor can what is at work be looked at.
        failing_since: It has not answered since; 0 if it does.
        reason: What it said.
    """

    busy_until: float = 0
    out_until: float = 0
    is_closed: bool = False
    failing_since: float = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Price:
    """What an account's finished jobs did cost.

    Attributes:
        jobs: How many told their costs.
        credits: Of all of these.
        cells: Composites that they made.
    """

    jobs: int = 0
    credits: float = 0
    cells: int = 0

    def of(self, cells: int) -> float | None:
        """What so many more composites are likely to cost; ``None`` if nothing is known."""
        return self.credits / self.cells * cells if self.cells else None


class Accounts:
    """The accounts, in Redis."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._learn = redis.register_script(_LEARN)

    def standing(self, account: str) -> Standing:
        """How an account stands."""
        text = self._redis.hget(ACCOUNTS, account)
        return Standing() if text is None else Standing(*json.loads(text))

    def note(self, account: str, standing: Standing) -> None:
        """Write down how an account stands."""
        if standing == Standing():
            self._redis.hdel(ACCOUNTS, account)
            return
        record = list(astuple(standing))
        self._redis.hset(ACCOUNTS, account, json.dumps(record))

    def forgive(self) -> None:
        """Try every account again: someone says that it is mended."""
        self._redis.delete(ACCOUNTS)

    def all(self) -> Mapping[str, Standing]:
        """Every account that does not stand well."""
        return {str(name): Standing(*json.loads(text)) for name, text in self._redis.hgetall(ACCOUNTS).items()}

    def learn(self, account: str, job_id: str, run: str, paid: float, cells: int) -> None:
        """Write down what a job did cost, and that a run paid for it; once a job, however often this is called."""
        self._learn(args=[account, job_id, run, paid, cells])

    def price(self, account: str) -> Price:
        """What the account's work did cost so far."""
        jobs, paid, cells = self._redis.hmget(COSTS, [f"{account}:{what}" for what in ("jobs", "credits", "cells")])
        return Price(int(jobs or 0), float(paid or 0), int(cells or 0))

    def prices(self) -> dict[str, Price]:
        """``price`` of every account that told of any."""
        accounts = sorted({str(field).rpartition(":")[0] for field in self._redis.hkeys(COSTS)})
        return {account: self.price(account) for account in accounts}

    def spent(self, run: str) -> float:
        """Credits that a run did cost so far."""
        return float(self._redis.hget(SPENT, run) or 0)

    def forget_spent(self, run: str) -> None:
        """Let a run's budget begin anew."""
        self._redis.hdel(SPENT, run)

    # Jobs at an account that no open order knows

    def is_listed(self, account: str) -> bool:
        """Whether the account's jobs were looked through lately, in this Redis."""
        return bool(self._redis.exists(_listed_key(account)))

    def keep_orphan(self, account: str, job_id: str, title: str, created_at: float) -> None:
        """Remember a job whose order is closed before its result was taken: it is paid for."""
        self._redis.hset(_orphans_key(account), job_id, json.dumps([title, created_at]))

    def keep_orphans(self, account: str, titles: Mapping[str, str]) -> None:
        """Remember all jobs that no open order knows: job id → its title and when it was created, as JSON."""
        pipe = self._redis.pipeline(transaction=True)
        pipe.delete(_orphans_key(account))
        if titles:
            pipe.hset(_orphans_key(account), mapping=dict(titles))  # type: ignore[arg-type]  # str is fine
        pipe.set(_listed_key(account), 1, ex=LISTED_S)
        pipe.execute()

    def orphans(self, account: str) -> dict[str, str]:
        """Jobs that no open order knows."""
        return {str(job_id): str(text) for job_id, text in self._redis.hgetall(_orphans_key(account)).items()}

    def adopt(self, account: str, job_id: str) -> bool:
        """Take a job out of these; ``False`` if someone else did."""
        return bool(self._redis.hdel(_orphans_key(account), job_id))

    # Sources that gave up on a unit

    def tried(self, unit_id: str) -> int:
        """How many sources, by preference, have failed for a unit for good."""
        return int(self._redis.hget(TRIED, unit_id) or 0)

    def set_tried(self, unit_id: str, number: int) -> None:
        """Write down how many have; 0 forgets it."""
        if number:
            self._redis.hset(TRIED, unit_id, number)
        else:
            self._redis.hdel(TRIED, unit_id)


def _listed_key(account: str) -> str:
    return f"eo-tasks:jobs-listed:{account}"


def _orphans_key(account: str) -> str:
    return f"eo-tasks:jobs-unknown:{account}"
