"""Streaming: one long request of a chat gateway, NDJSON both ways (`POST /v1/grabs/stream`), for locust's greenlets.

- A line is a grab; it carries the arrival's number, by which the answer is found, in whatever order they come.
- At most `inflight_max` lines are unanswered; `room` waits for some to be.
- A stream that drains or breaks, or says nothing for `timeout_s` with lines unanswered, is over: what became of those
  lines is unknown, so they may be repeated with the same identity on the next one.

Blocking sockets and greenlets of gevent. Durations in seconds.
"""

import contextlib
import socket
from collections.abc import Callable, Iterator
from io import BufferedReader
from typing import NamedTuple
from urllib.parse import urlsplit

import gevent
import msgspec
from gevent.event import Event

from cluster.client import BROKEN_CONTRACT, NO_ANSWER, ItemAnswer, LineAnswer, problem_of
from cluster.client.chunked import LAST_CHUNK, Dechunker, chunk
from loadtest.scenarios.answers import Answer, failed, of_results
from loadtest.scenarios.schedule import Arrival

DRAINING = "draining"
"""What a stream says of itself, in a line without id, before it ends: another is to be opened."""

_CONNECT_S = 5.0
RECEIVE_BYTES = 65_536


class _Asked(NamedTuple):
    arrival: Arrival
    began_us: int


Tell = Callable[[Arrival, int, int, Answer], None]
"""Hears of an arrival, when it was asked in us, the status and the answer."""

_DECODE = msgspec.json.Decoder(LineAnswer).decode


class StreamClient:
    """Streams one after another; at most one is open."""

    def __init__(self, url: str, token: str, inflight_max: int, timeout_s: float, tell: Tell) -> None:
        """Prepare it; nothing is opened before the first line."""
        parts = urlsplit(url)
        assert parts.hostname is not None, "an address has a host"
        self._address = (parts.hostname, parts.port or 80)
        self._head = (
            f"POST /v1/grabs/stream HTTP/1.1\r\nHost: load\r\nAuthorization: Bearer {token}\r\n"
            "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
        ).encode()
        self._inflight_max = inflight_max
        self._timeout_s = timeout_s
        self._tell = tell
        self._asked: dict[str, _Asked] = {}
        self._wire: socket.socket | None = None
        self._reader: gevent.Greenlet | None = None
        self._answered = Event()

    def room(self, seconds: float) -> int:
        """Return how many lines may be written now, after waiting for some room; 0: none."""
        if len(self._asked) >= self._inflight_max:
            self._answered.clear()
            self._answered.wait(seconds)
        return self._inflight_max - len(self._asked)

    def write(self, lines: list[tuple[Arrival, str, str]], began_us: int) -> None:
        """Ask for these: arrival, packet id and user each."""
        content = b""
        for arrival, packet_id, user in lines:
            name = f"{arrival.number}-{arrival.attempt}"
            self._asked[name] = _Asked(arrival, began_us)
            content += msgspec.json.encode({"id": name, "packet_id": packet_id, "user": user}) + b"\n"
        try:
            wire = self._open()
            wire.sendall(chunk(content))
        except OSError:
            self._break(0, NO_ANSWER, again=True)

    def finish(self) -> None:
        """Half-close the stream and wait for what is unanswered."""
        if self._wire is not None:
            with contextlib.suppress(OSError):
                self._wire.sendall(LAST_CHUNK)
            if self._reader is not None:
                self._reader.join(self._timeout_s)
        self._break(0, NO_ANSWER, again=False)

    def _open(self) -> socket.socket:
        if self._wire is None:
            self._wire = socket.create_connection(self._address, timeout=_CONNECT_S)
            self._wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._wire.settimeout(self._timeout_s)
            self._wire.sendall(self._head)
            self._reader = gevent.spawn(self._read, self._wire)
        return self._wire

    def _read(self, wire: socket.socket) -> None:
        """Pass answers on until the stream is over."""
        status, code, again = 0, NO_ANSWER, True
        try:
            with wire.makefile("rb") as file:
                status = int(file.readline().split(b" ", 2)[1])
                fields = {}
                while (line := file.readline().strip()) != b"":
                    name, _, value = line.partition(b":")
                    fields[name.lower()] = value.strip().decode("latin-1")
                if status == 200:
                    code = self._answers(file)
                    status, again = 0, code in (NO_ANSWER, DRAINING)
                else:
                    whole = b"transfer-encoding" in fields
                    content = b"".join(_contents(file)) if whole else file.read(int(fields.get(b"content-length", 0)))
                    problem = problem_of(status, content, fields.get(b"retry-after", ""))
                    code, again = problem.code, problem.retryable
        except (OSError, IndexError):
            status = 0
        except (ValueError, KeyError, msgspec.MsgspecError):
            status, code, again = 200, BROKEN_CONTRACT, False
        if self._wire is wire:
            self._break(status, code, again=again)

    def _answers(self, file: BufferedReader) -> str:
        """Pass answers on; return what the stream said of its own end."""
        rest, code = b"", NO_ANSWER
        for content in _contents(file):
            *lines, rest = (rest + content).split(b"\n")
            for line in lines:
                said = _DECODE(line)
                if type(said.id) is not str:
                    code = said.code
                    continue
                asked = self._asked.pop(said.id)
                item = ItemAnswer(said.amount_fen, said.rank, said.replayed, said.code)
                self._tell(asked.arrival, asked.began_us, 200, of_results(asked.arrival.people, [item]))
            self._answered.set()
        return code

    def _break(self, status: int, code: str, *, again: bool) -> None:
        """End the stream; nobody knows what became of its unanswered lines."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()
        unanswered, self._asked = list(self._asked.values()), {}
        for asked in unanswered:
            unknown = not 400 <= status < 500
            self._tell(asked.arrival, asked.began_us, status, failed(asked.arrival, code, unknown=unknown, again=again))
        self._answered.set()


def _contents(file: BufferedReader) -> Iterator[bytes]:
    """Yield the content of a chunked body up to its end. Raises ConnectionError if it is cut."""
    body = Dechunker()
    while not body.ended:
        received = file.read1(RECEIVE_BYTES)
        if not received:
            raise ConnectionError("the stream was cut")
        yield body.feed(received)
