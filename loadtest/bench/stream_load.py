"""Stream load: closed-loop load on `POST /v1/grabs/stream` from a process of its own, as light as Python allows.

`python -m loadtest.bench.stream_load` reads a `StreamJob` from standard input and writes a `StreamReport` to standard
output. Each connection keeps `window` grabs under way: as many lines leave in one chunk as answers came in one read. At
the end of the time or of the lines it half-closes and waits for the rest, so that everything sent is answered.
"""

import asyncio
import functools
import os
import sys
import time
from typing import cast
from urllib.parse import urlsplit

import msgspec
import uvloop

from cluster.client import LineAnswer
from cluster.client.chunked import LAST_CHUNK, Dechunker, chunk
from cluster.client.stream import PATH

FAREWELL_S_MAX = 20.0


class StreamJob(msgspec.Struct):
    """What to send. `grabs`: the lines of each connection, as (packet, user)."""

    url: str
    token: str
    window: int
    seconds: float
    grabs: list[list[tuple[str, str]]]


class StreamReport(msgspec.Struct):
    """What was seen. `codes`: refusals by code; `seconds`: until the time was up; `answers`: until then."""

    seconds: float
    answers: int
    answers_in_all: int
    sent: int
    codes: dict[str, int]
    p50_ms: float
    p99_ms: float
    cpu_s: float


_ANSWERS = msgspec.json.Decoder(LineAnswer)


class Stream(asyncio.Protocol):
    """One connection."""

    def __init__(self, order: StreamJob, grabs: list[tuple[str, str]]) -> None:
        self._order = order
        self.until_s = 0.0
        encode = msgspec.json.encode
        self._lines = [
            encode({"id": number, "packet_id": packet_id, "user": user}) + b"\n"
            for number, (packet_id, user) in enumerate(grabs)
        ]
        self._sent_s = [0.0] * len(self._lines)
        self._buffer = b""
        self._text = b""
        self._in_body = False
        self._body = Dechunker()
        self._closed = False
        self.sent = 0
        self.answers = 0
        self.answers_in_time = 0
        self.last_s = 0.0
        self.latencies_s: list[float] = []
        self.codes: dict[str, int] = {}
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the stream and send a window of grabs."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        head = [
            f"POST {PATH} HTTP/1.1",
            "Host: bench",
            f"Authorization: Bearer {self._order.token}",
            "Content-Type: application/x-ndjson",
            "Transfer-Encoding: chunked",
        ]
        self._transport.write(("\r\n".join(head) + "\r\n\r\n").encode())
        self._send(self._order.window)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail if not everything was answered."""
        self._finish(ConnectionResetError("the stream was closed before everything was answered"))

    def data_received(self, data: bytes) -> None:
        """Take answers, send as many grabs."""
        if not self._in_body:
            self._buffer += data
            if not self._read_head():
                return
            data = self._buffer
        payload = self._body.feed(data)
        found = 0
        if payload:
            text = self._text + payload
            end = text.rfind(b"\n") + 1
            self._text = text[end:]
            found = self._take(text[:end]) if end else 0
        if self._body.ended:
            self._finish(None if self.answers == self.sent else ConnectionResetError("some grabs were not answered"))
        elif found:
            self._send(found)

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        if self._buffer[9:12] != b"200":
            self._finish(ConnectionResetError(f"the stream was refused: {self._buffer[:500]!r}"))
            return False
        self._buffer = self._buffer[end + 4 :]
        self._in_body = True
        return True

    def _take(self, lines: bytes) -> int:
        now_s = time.perf_counter()
        found = _ANSWERS.decode_lines(lines)
        sent_s, latencies_s = self._sent_s, self.latencies_s
        for answer in found:
            assert type(answer.id) is int, f"the stream ended: {answer.code}"
            latencies_s.append(now_s - sent_s[answer.id])
            if answer.code:
                self.codes[answer.code] = self.codes.get(answer.code, 0) + 1
        self.answers += len(found)
        if now_s <= self.until_s:
            self.answers_in_time = self.answers
            self.last_s = now_s
        return len(found)

    def _send(self, count: int) -> None:
        now_s = time.perf_counter()
        lines = [] if self._closed or now_s > self.until_s else self._lines[self.sent : self.sent + count]
        if lines:
            payload = b"".join(lines)
            self._sent_s[self.sent : self.sent + len(lines)] = [now_s] * len(lines)
            self.sent += len(lines)
            self._transport.write(chunk(payload))
        elif not self._closed:
            self._closed = True
            self._transport.write(LAST_CHUNK)

    def _finish(self, failure: Exception | None) -> None:
        if self.done.done():
            return
        if failure is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(failure)
        self._transport.close()


def _same(stream: Stream) -> Stream:
    return stream


async def drive(order: StreamJob) -> StreamReport:
    """Send everything. Raises OSError if a stream is refused or cut."""
    place = urlsplit(order.url)
    loop = asyncio.get_running_loop()
    streams = [Stream(order, grabs) for grabs in order.grabs]  # the lines are made before anything is sent
    began_s, cpu_s = time.perf_counter(), time.process_time()
    for stream in streams:
        stream.until_s = began_s + order.seconds
        await loop.create_connection(functools.partial(_same, stream), place.hostname or "127.0.0.1", place.port or 80)
    try:
        async with asyncio.timeout(order.seconds + FAREWELL_S_MAX):
            await asyncio.gather(*(stream.done for stream in streams))
    except TimeoutError:
        seen = [(stream.sent, stream.answers) for stream in streams]
        raise TimeoutError(f"the streams do not end; sent and answered: {seen}") from None
    latencies_s = sorted(latency for stream in streams for latency in stream.latencies_s)
    codes: dict[str, int] = {}
    for stream in streams:
        for code, count in stream.codes.items():
            codes[code] = codes.get(code, 0) + count
    return StreamReport(
        seconds=max(stream.last_s for stream in streams) - began_s,
        answers=sum(stream.answers_in_time for stream in streams),
        answers_in_all=len(latencies_s),
        sent=sum(stream.sent for stream in streams),
        codes=codes,
        p50_ms=latencies_s[len(latencies_s) // 2] * 1000,
        p99_ms=latencies_s[int(len(latencies_s) * 0.99)] * 1000,
        cpu_s=time.process_time() - cpu_s,
    )


async def run_apart(order: StreamJob) -> StreamReport:
    """Let a process of its own send everything. Raises OSError."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "loadtest.bench.stream_load",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, complaint = await process.communicate(msgspec.msgpack.encode(order))
    if process.returncode != os.EX_OK:
        raise OSError(f"the stream's client failed: {complaint.decode().strip()[-500:]}")
    return msgspec.msgpack.decode(output, type=StreamReport)


def main() -> None:
    """Carry out one order."""
    order = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=StreamJob)
    report = uvloop.run(drive(order))
    sys.stdout.buffer.write(msgspec.msgpack.encode(report))


if __name__ == "__main__":
    main()
