"""Numbers and states as they change, to everyone who watches: read from Redis once, however many there are."""

import asyncio
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from time import monotonic
from typing import Any

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from fastapi.encoders import jsonable_encoder
from pydantic import BaseModel, Field, ValidationError
from redis.exceptions import RedisError

from eo_tasks.dashboard.asked import access_of, visitor_of
from eo_tasks.dashboard.routes.numbers import workers_now
from eo_tasks.dashboard.views import Views
from eo_tasks.errors import EOTasksError
from eo_tasks.logbook import LEVELS, Filter, Tail, fits
from eo_tasks.logs import folder_of
from eo_tasks.units import Stage

log = logging.getLogger(__name__)
router = APIRouter()

LOOK_S = 1.0
WORKERS_S, PING_S = 5.0, 15.0
BEHIND = 50  # messages that wait for a slow client; then it is told to load everything again
MOST_CLIENTS = 500
MOST_LINES = 200  # of logs, told at once
TOO_MANY, NOT_ALLOWED, UNKNOWN = 1013, 1008, 1007  # RFC 6455, section 7.4.1, and its registry

Message = dict[str, Any]


class LogFilter(BaseModel):
    """Which lines of the logs a client wants."""

    stage: Stage | None = None
    cell: int | None = None
    year: int | None = None
    level: str | None = Field(None, pattern=f"^({'|'.join(LEVELS)})$")
    text: str | None = Field(None, max_length=200)

    @property
    def wanted(self) -> Filter:
        """As the logs are read by it."""
        return Filter(self.stage, self.cell, self.year, self.level, self.text)


class Asked(BaseModel):
    """What a client may say: that it wants lines of logs, or none any more."""

    logs: LogFilter | None


class Client:
    """One who watches, and what it has not taken yet.

    Attributes:
        logs: Which lines of the logs it wants; ``None`` for none.
    """

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[str] = asyncio.Queue(BEHIND)
        self.logs: Filter | None = None

    def tell(self, text: str) -> None:
        """Have it sent when it is taken; who falls far behind begins anew."""
        try:
            self.waiting.put_nowait(text)
        except asyncio.QueueFull:
            while not self.waiting.empty():
                self.waiting.get_nowait()
            self.waiting.put_nowait(json.dumps({"type": "reload"}))


class Live:
    """Looks at Redis while anyone watches."""

    def __init__(self, views: Views) -> None:
        self.clients: set[Client] = set()
        self._views = views
        self._someone = asyncio.Event()
        self._told: dict[str, Any] = {}
        self._tail: Tail | None = None

    async def add(self, client: Client) -> None:
        """Begin to tell a client, with everything as it is."""
        self.clients.add(client)
        self._someone.set()
        for kind in ("summary", "workers"):
            if kind in self._told:
                client.tell(json.dumps({"type": kind, kind: self._told[kind]}))

    def drop(self, client: Client) -> None:
        """Tell it nothing more."""
        self.clients.discard(client)
        if not self.clients:
            self._someone.clear()

    async def run(self) -> None:
        """Look and tell until canceled."""
        self._loop = asyncio.get_running_loop()
        workers_at = ping_at = 0.0
        while True:
            await self._someone.wait()
            begun = monotonic()
            await self._try(self._tell_summary)
            await self._try(self._tell_cells)
            await self._try(self._tell_logs)
            if begun - workers_at >= WORKERS_S:
                workers_at = begun
                await self._try(self._tell_workers)
            if begun - ping_at >= PING_S:
                ping_at = begun
                self._tell({"type": "ping"})
            await asyncio.sleep(max(LOOK_S - (monotonic() - begun), LOOK_S / 10))

    async def _try(self, what: Callable[[], list[Message]]) -> None:
        try:
            messages = await asyncio.to_thread(what)
        except (RedisError, EOTasksError, OSError) as error:
            self._tell({"type": "trouble", "detail": str(error)})
            return
        except Exception:  # whatever it is, those who watch the rest go on
            log.exception("looking failed")
            return
        for message in messages:
            self._tell(message)

    def _tell(self, message: Message) -> None:
        text = json.dumps(message, separators=(",", ":"))
        for client in self.clients:
            client.tell(text)

    def _tell_summary(self) -> list[Message]:
        summary = self._views.summary()
        seen = jsonable_encoder(replace(summary, at=0, left_s=summary.left_s and round(summary.left_s, -1)))
        if self._told.get("seen") == seen:
            return []
        self._told |= {"seen": seen, "summary": jsonable_encoder(summary)}
        return [{"type": "summary", "summary": self._told["summary"]}]

    def _tell_cells(self) -> list[Message]:
        changes = self._views.states.refresh()
        if changes is None:
            return [{"type": "reload"}]
        return [{"type": "cells", "changes": changes}] if changes else []

    def _tell_logs(self) -> list[Message]:
        """Each client its own lines; nobody's logs are read while nobody asks."""
        readers = [client for client in self.clients if client.logs is not None]
        if not readers:
            self._tail = None
            return []
        if self._tail is None:
            self._tail = Tail(folder_of(self._views.pipeline.settings.folder))
            return []
        lines = self._tail.new()
        for client in readers:
            own = [asdict(line) for line in lines if client.logs is not None and fits(line, client.logs)]
            if own:
                text = json.dumps({"type": "logs", "lines": own[-MOST_LINES:]})
                self._loop.call_soon_threadsafe(client.tell, text)
        return []

    def _tell_workers(self) -> list[Message]:
        self._told["workers"] = jsonable_encoder(workers_now(self._views))
        return [{"type": "workers", "workers": self._told["workers"]}]


@router.websocket("/live")
async def live(socket: WebSocket) -> None:
    """Send what changes; the client sends nothing but its filter of logs."""
    hub: Live = socket.app.state.live
    visitor = await asyncio.to_thread(visitor_of, socket)
    if visitor.user is None and not access_of(socket).is_open_to_look:
        await socket.close(NOT_ALLOWED, "Log in first.")
        return
    if len(hub.clients) >= MOST_CLIENTS:
        await socket.close(TOO_MANY, "Too many watch.")
        return
    await socket.accept()
    client = Client()
    await hub.add(client)
    tasks = [asyncio.create_task(_send(socket, client)), asyncio.create_task(_receive(socket, client))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        hub.drop(client)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _send(socket: WebSocket, client: Client) -> None:
    with suppress(WebSocketDisconnect, RuntimeError):
        while True:
            await socket.send_text(await client.waiting.get())


async def _receive(socket: WebSocket, client: Client) -> None:
    with suppress(WebSocketDisconnect):
        while True:
            try:
                asked = Asked.model_validate_json(await socket.receive_text())
            except ValidationError:
                await socket.close(UNKNOWN, 'Say {"logs": {…}} or {"logs": null}.')
                return
            client.logs = None if asked.logs is None else asked.logs.wanted
