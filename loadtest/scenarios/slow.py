"""Slow: requests of clients that hold their connection, one of three manners after another.

- `read slowly`: the whole request, then the answer a few bytes at a time.
- `half a body`: the head and half of the body, held, then closed. It must not take effect.
- `left`: the whole request, and away without the answer. It may have taken effect.

Blocking sockets; in a locust process they are gevent's. Durations in seconds.
"""

import contextlib
import socket
import time
from urllib.parse import urlsplit

from cluster.client.chunked import Dechunker

SIP_BYTES = 16
_CONNECT_S = 5.0
MANNERS = ("read slowly", "half a body", "left")


def request_bytes(method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[bytes, bytes]:
    """Return head and body of an HTTP/1.1 request that closes its connection."""
    lines = [f"{method} {path} HTTP/1.1", "Host: load", "Connection: close", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode(), body


class SlowRequest:
    """One request; `number` chooses the manner."""

    def __init__(self, url: str, request: tuple[bytes, bytes], number: int) -> None:
        """Prepare it; `request` is head and body."""
        parts = urlsplit(url)
        assert parts.hostname is not None, "an address has a host"
        self._address = (parts.hostname, parts.port or 80)
        self._head, self._body = request
        self.manner = MANNERS[number % len(MANNERS)]
        self.answered = self.manner == MANNERS[0]
        """Whether this manner waits for an answer."""
        self.harmless = self.manner == MANNERS[1]
        """Whether the platform cannot have understood it."""
        self.left = self.manner == MANNERS[2]

    def run(self, hold_s: float, timeout_s: float) -> tuple[int, bytes]:
        """Ask in its manner, within `timeout_s`; return status and content of the answer, (0, b"") if none came."""
        try:
            with socket.create_connection(self._address, timeout=_CONNECT_S) as wire:
                wire.settimeout(timeout_s)
                half = self._body[: len(self._body) // 2] if self.harmless else self._body
                wire.sendall(self._head + half)
                if self.answered:
                    return self._read_slowly(wire, hold_s, timeout_s)
                if self.harmless:
                    return self._hold(wire, hold_s)
        except OSError:
            pass
        return 0, b""

    def _read_slowly(self, wire: socket.socket, hold_s: float, timeout_s: float) -> tuple[int, bytes]:
        end_s = time.monotonic() + hold_s + timeout_s
        answer = b""
        pause_s = hold_s / 32  # an answer has some hundred bytes
        while sip := wire.recv(SIP_BYTES):
            answer += sip
            time.sleep(pause_s if time.monotonic() < end_s else 0)
        return _parse(answer)

    def _hold(self, wire: socket.socket, hold_s: float) -> tuple[int, bytes]:
        """Wait with the rest of the body; a server may lose patience and say so."""
        wire.settimeout(hold_s)
        answer = b""
        with contextlib.suppress(TimeoutError):
            while piece := wire.recv(4_096):
                answer += piece
        return _parse(answer)


def _parse(answer: bytes) -> tuple[int, bytes]:
    """Return status and content; a cut answer is none."""
    head, ends, content = answer.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if not ends or len(words) < 2 or not words[1].isdigit():
        return 0, b""
    fields = head.lower()
    if b"transfer-encoding: chunked" in fields:
        content = Dechunker().feed(content)
    return int(words[1]), content
