"""Wire: the lightest closed-loop clients that asyncio allows, so that the server is what is measured.

HTTP/1.1 over keep-alive connections, one request under way on each; RESP pipelines of a fixed depth. Requests are
bytes made beforehand.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

import hiredis

from loadtest.fairness.statistic import percentile


class HttpRun(NamedTuple):
    """What a run over HTTP saw. Latencies in milliseconds, sorted; `kept`: (status, body) by request."""

    seconds: float
    statuses: dict[int, int]
    latencies_ms: list[float]
    kept: list[tuple[int, bytes]]

    @property
    def bodies(self) -> list[bytes]:
        """What was answered, in the order of the requests."""
        return [body for _, body in self.kept]

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return sum(self.statuses.values()) / self.seconds

    def percentile_ms(self, share: float) -> float:
        """Return a latency percentile."""
        return percentile(self.latencies_ms, share)


def body_at(received: bytes) -> int:
    """Return where the body of a whole response begins; 0: the rest is still to come. Nobody pipelines here."""
    head = received.find(b"\r\n\r\n")
    at = received.lower().find(b"content-length:", 0, head) if head >= 0 else -1
    if at >= 0:
        whole = len(received) >= head + 4 + int(received[at + 15 : received.find(b"\r\n", at)])
    else:
        whole = head >= 0 and received.endswith(b"0\r\n\r\n", head + 4)  # chunked
    return head + 4 if whole else 0


def http_request(method: str, path: str, token: str = "", body: bytes = b"", **headers: str) -> bytes:
    """Make a request's bytes; header names are given with underscores."""
    lines = [f"{method} {path} HTTP/1.1", "Host: bench", f"Content-Length: {len(body)}"]
    if body:
        lines.append("Content-Type: application/json")
    if token:
        lines.append(f"Authorization: Bearer {token}")
    lines += [f"{name.replace('_', '-')}: {text}" for name, text in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


class _WireConnection(asyncio.Protocol):
    """Sends the next request as soon as the last is answered, until none is left."""

    def __init__(self, requests: Iterator[bytes], run: "_Run") -> None:
        self._requests = requests
        self._run = run
        self._buffer = b""
        self._sent_s = 0.0
        self._number = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionResetError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        body = body_at(self._buffer)
        if not body:
            return
        self._run.latencies_ms.append((time.perf_counter() - self._sent_s) * 1_000)
        status = int(self._buffer[9:12])
        self._run.statuses[status] = self._run.statuses.get(status, 0) + 1
        if self._run.keep:
            self._run.kept.append((self._number, status, self._buffer[body:]))
        self._buffer = b""
        self._next()

    def _next(self) -> None:
        run = self._run
        request = next(self._requests, None) if time.perf_counter() < run.until_s else None
        if request is None:
            if not self.done.done():
                self.done.set_result(None)
            self._transport.close()
            return
        self._number = run.sent
        run.sent += 1
        self._sent_s = time.perf_counter()
        assert isinstance(self._transport, asyncio.WriteTransport)
        if run.every_s:
            self._pace(request, self._transport)
        else:
            self._transport.write(request)

    def _pace(self, request: bytes, transport: asyncio.WriteTransport) -> None:
        """Send a request when it is due, and count its latency from then: a late answer delays nobody unseen."""
        due_s = self._run.began_s + self._number * self._run.every_s
        late_s = self._sent_s - due_s
        self._sent_s = due_s
        if late_s >= 0:
            transport.write(request)
        else:
            asyncio.get_running_loop().call_later(-late_s, transport.write, request)


class _Run:
    def __init__(self, began_s: float, seconds: float, keep: bool, every_s: float) -> None:
        self.began_s = began_s
        self.until_s = began_s + seconds
        self.keep = keep
        self.every_s = every_s
        self.sent = 0
        self.statuses: dict[int, int] = {}
        self.latencies_ms: list[float] = []
        self.kept: list[tuple[int, int, bytes]] = []


async def drive_http(
    url: str,
    requests: Iterator[bytes],
    *,
    connections: int,
    seconds: float,
    keep: bool = False,
    per_second: float = 0.0,
) -> HttpRun:
    """Send requests over that many connections until they or the time run out. Raises OSError.

    `keep`: return statuses and bodies by request. `per_second`: an open loop, each request when it is due.
    """
    place = urlsplit(url)
    loop = asyncio.get_running_loop()
    started_s = time.perf_counter()
    run = _Run(started_s, seconds, keep, 1 / per_second if per_second else 0.0)
    open_: list[_WireConnection] = []
    for _ in range(connections):
        _, protocol = await loop.create_connection(
            lambda: _WireConnection(requests, run), place.hostname or "127.0.0.1", place.port or 80
        )
        open_.append(protocol)
    await asyncio.gather(*(connection.done for connection in open_))
    seconds_taken = time.perf_counter() - started_s
    kept = [(status, body) for _, status, body in sorted(run.kept)]
    return HttpRun(seconds_taken, run.statuses, sorted(run.latencies_ms), kept)


def resp(*words: str | bytes | int) -> bytes:
    """Encode one command for Redis."""
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


async def drive_resp(path: str, commands: Sequence[bytes], *, connections: int, depth: int) -> tuple[float, int]:
    """Send commands in pipelines of `depth`; return (seconds, replies that were a value). Raises ValueError."""
    pipelines = iter([(b"".join(c := commands[at : at + depth]), len(c)) for at in range(0, len(commands), depth)])
    values = 0

    async def one() -> None:
        nonlocal values
        reader, writer = await asyncio.open_unix_connection(path)
        parser = hiredis.Reader()
        for payload, count in pipelines:
            writer.write(payload)
            left = count
            while left:
                parser.feed(await reader.read(1 << 16))
                while (reply := parser.gets()) is not False:
                    if isinstance(reply, hiredis.ReplyError):
                        raise ValueError(f"the store refused a command: {reply}")
                    values += reply is not None
                    left -= 1
        writer.close()

    started_s = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(connections)))
    return time.perf_counter() - started_s, values
