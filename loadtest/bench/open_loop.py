"""Open loop: offers requests at a fixed rate, whatever becomes of those before them, as a crowd does.

HTTP/1.1 over keep-alive connections, one request under way on each. A request whose time has come waits for a free
connection, and its latency counts from that time: a client that asks only after an answer never sees a queue. Requests
are bytes made beforehand.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

from loadtest.bench.wire import body_at

TICK_S = 0.001
END_S = 3.0
"""After the last request is offered, what is under way may take so long."""

OK, CREATED, REFUSED = 200, 201, 429


class OpenRun(NamedTuple):
    """What became of the requests. Latencies in milliseconds, sorted; `unsent` found no free connection to the end."""

    seconds: float
    offered: int
    accepted: int
    refused: int
    other: dict[int, int]
    unsent: int
    accepted_ms: list[float]
    refused_ms: list[float]
    partial: int
    """Accepted ones with a refusal inside."""

    @property
    def accepted_per_second(self) -> float:
        """Requests let in and answered, a second."""
        return self.accepted / self.seconds


class _Connection(asyncio.Protocol):
    def __init__(self, crowd: "_Crowd") -> None:
        self._crowd = crowd
        self._buffer = b""
        self._due_s = 0.0
        self.transport: asyncio.WriteTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._crowd.lost(self)

    def send(self, request: bytes, due_s: float) -> None:
        self._due_s = due_s
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer = self._buffer + data if self._buffer else data
        if not body_at(buffer):
            return
        self._buffer = b""
        self._crowd.answered(self, int(buffer[9:12]), self._due_s, buffer)


class _Crowd:
    """Everybody who asks, on a number of connections."""

    def __init__(self, requests: Iterator[bytes]) -> None:
        self.requests = requests
        self.free: list[_Connection] = []
        self.waiting: deque[float] = deque()
        self.open: list[_Connection] = []
        self.under_way = 0
        self.accepted_ms: list[float] = []
        self.refused_ms: list[float] = []
        self.other: dict[int, int] = {}
        self.partial = 0
        self.ending = False
        self.ended = asyncio.Event()

    def offer(self, due_s: float) -> None:
        if self.free and not self.waiting:
            self._send(self.free.pop(), due_s)
        else:
            self.waiting.append(due_s)

    def _send(self, connection: _Connection, due_s: float) -> None:
        self.under_way += 1
        connection.send(next(self.requests), due_s)

    def answered(self, connection: _Connection, status: int, due_s: float, answer: bytes) -> None:
        latency_ms = (time.perf_counter() - due_s) * 1_000
        self.under_way -= 1
        if status in (OK, CREATED):
            self.accepted_ms.append(latency_ms)
            self.partial += b'"overloaded"' in answer
        elif status == REFUSED:
            self.refused_ms.append(latency_ms)
        else:
            self.other[status] = self.other.get(status, 0) + 1
        if self.waiting:
            self._send(connection, self.waiting.popleft())
        else:
            self.free.append(connection)
            if self.under_way == 0 and self.ending:
                self.ended.set()

    def lost(self, connection: _Connection) -> None:
        if not self.ending:
            self.other[0] = self.other.get(0, 0) + 1

    def end(self) -> int:
        """Offer no more; return how many have found no connection."""
        unsent, self.ending = len(self.waiting), True
        self.waiting.clear()
        if self.under_way == 0:
            self.ended.set()
        return unsent


async def offer(url: str, requests: Iterator[bytes], *, rate: float, seconds: float, connections: int) -> OpenRun:
    """Offer that many requests a second, evenly spaced, for that long; `requests` must be enough. Raises OSError."""
    place = urlsplit(url)
    loop = asyncio.get_running_loop()
    crowd = _Crowd(requests)
    for _ in range(connections):
        _, connection = await loop.create_connection(
            lambda: _Connection(crowd), place.hostname or "127.0.0.1", place.port or 80
        )
        crowd.open.append(connection)
    crowd.free = list(crowd.open)
    began_s = time.perf_counter()
    offered, count = 0, int(rate * seconds)
    while offered < count:
        due = min(count, int((time.perf_counter() - began_s) * rate) + 1)
        for number in range(offered, due):
            crowd.offer(began_s + number / rate)
        offered = due
        await asyncio.sleep(TICK_S)
    took_s = time.perf_counter() - began_s
    unsent = crowd.end()
    # What is answered after the end was asked before it, and the other way round at the beginning: about the same.
    accepted, refused = len(crowd.accepted_ms), len(crowd.refused_ms)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(crowd.ended.wait(), END_S)
    for connection in crowd.open:
        connection.transport.close()
    return OpenRun(
        took_s,
        offered,
        accepted,
        refused,
        crowd.other,
        unsent,
        sorted(crowd.accepted_ms),
        sorted(crowd.refused_ms),
        crowd.partial,
    )
