"""Sight: what a gateway replica tells about itself: every request counted, its failures logged with its id.

The outermost ASGI layer, outside the edge: two clock readings and two counts a request. The tally goes to the
supervisor once a `report_ms`; a replica that cannot reach it goes on counting.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from actors.tally import Tally
from cluster.directory import Directory, ShardUnavailable
from cluster.logs import REQUEST
from cluster.placement import SUPERVISOR

log = logging.getLogger(__name__)

ENCODER = msgspec.msgpack.Encoder()


class Queued(Protocol):
    """What is known of an item that leaves a queue."""

    deadline_s: float
    size: int


class Sight:
    """Counts requests on their way through; starts telling the supervisor when the application starts."""

    def __init__(self, app: Any, tally: Tally, directory: Directory | None, report_ms: int) -> None:
        """`directory`: None: nobody is told."""
        self._app = app
        self._tally = tally
        self._directory = directory
        self._report_ms = report_ms
        self._replica = secrets.token_hex(8)
        self._teller: asyncio.Task[None] | None = None
        self.sources: list[Callable[[], Mapping[str, Mapping[str, int]]]] = []
        """Whoever else counts in this replica: each gives all its counts, family -> label -> count, e.g. `shed`."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            self._start_telling()
            await self._app(scope, receive, send)
            return
        REQUEST.set(scope)
        began_s = time.perf_counter()
        status = 0

        async def send_counted(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_counted)
        except Exception:
            status = status or 500
            log.exception("%s %s failed", scope.get("method"), scope.get("path"))
            raise
        finally:
            self._tally.add("http_requests", str(status) if status else "gone")
            self._tally.latency("request", 1_000 * (time.perf_counter() - began_s))

    def _start_telling(self) -> None:
        if self._directory is not None and self._teller is None:
            self._teller = asyncio.get_running_loop().create_task(self._tell(self._directory), name="tell figures")

    async def _tell(self, directory: Directory) -> None:
        while True:
            await asyncio.sleep(self._report_ms / 1000)
            figures = self._tally.figures()
            for source in self.sources:
                figures = msgspec.structs.replace(figures, counts={**figures.counts, **source()})
            try:
                await directory.call(SUPERVISOR, "take_gateway", self._replica, ENCODER.encode(figures))
            except ShardUnavailable:
                continue  # the next one carries it as well


def count_batch(tally: Tally, parcels: Sequence[Queued], deadline_s: float) -> None:
    """Count what leaves for a shard in one call. `deadline_s`: how long after it was put each has its deadline."""
    if parcels:
        put_s = parcels[0].deadline_s - deadline_s
        tally.latency("queueing", 1_000 * (asyncio.get_running_loop().time() - put_s))
