"""Raw HTTP: the bytes of a request in and the bytes of an answer out, without a framework.

The body of a request is bounded in bytes and in time, in every route. A small body is JSON, and its parts (commas and
colons) are counted before anybody decodes it: of twenty thousand unknown fields each would be named. Half a body holds
a place until its deadline, so every body has one.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from typing import Any, NamedTuple

from cluster.gateway.problems import NEVER_KEPT, Answer, Problem

Headers = Mapping[bytes, bytes]
"""Names in lower case. What is read of them is there once: the limits and the server see to it."""

Streamed = Callable[[Any], Awaitable[None]]
"""An answer that is written piece by piece: takes the ASGI `send`."""

_JSON = (b"content-type", b"application/json")
_DIGITS_MAX = 18
"""Of a length that is told, zeros in front of it included."""


class BodyLimit(NamedTuple):
    """How much one body may be, and how long it may take. `parts_max` None: its parts are not counted."""

    bytes_max: int
    parts_max: int | None
    seconds_max: float


def has_body(headers: Headers) -> bool:
    """Tell whether a request announces a body."""
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"


def check_length(headers: Headers, limit: BodyLimit) -> None:
    """Refuse a body by the length that it tells, before any of it is read. Raises Problem."""
    told = headers.get(b"content-length", b"")
    if told.isdigit() and (len(told) > _DIGITS_MAX or int(told) > limit.bytes_max):
        raise Problem("too_large", _too_large(limit))


async def read_body(receive: Any, limit: BodyLimit, until_s: float) -> bytes:
    """Read a body, at most until then on the loop's clock. Raises Problem."""
    chunks: list[bytes] = []
    bytes_read = parts = 0
    while True:
        message = await _within(receive(), until_s)
        if message["type"] == "http.disconnect":
            raise Problem("malformed", "The request ended before its body.")
        chunk: bytes = message.get("body", b"")
        bytes_read += len(chunk)
        if bytes_read > limit.bytes_max:
            raise Problem("too_large", _too_large(limit))
        if limit.parts_max is not None:
            parts += chunk.count(b",") + chunk.count(b":")
            if parts > limit.parts_max:
                raise Problem("too_large", f"A body may have at most {limit.parts_max} commas and colons.")
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def json_answer(content: bytes, status: int = 200, *more: tuple[bytes, bytes]) -> Answer:
    """Put JSON, already encoded, into an answer; `more`: further headers."""
    return status, [_JSON, NEVER_KEPT, (b"content-length", b"%d" % len(content)), *more], content


async def write(send: Any, answer: Answer) -> None:
    """Send an answer."""
    status, headers, content = answer
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def serve_lifespan(receive: Any, send: Any, prepare: Sequence[Callable[[], object]]) -> None:
    """Serve one start and end of the server (ASGI's lifespan): get ready before anybody is served."""
    while (await receive())["type"] == "lifespan.startup":
        for step in prepare:
            step()
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


async def _within(receiving: Coroutine[Any, Any, Any], until_s: float) -> Any:
    """Await a message, at most until then. A message that is there already costs no timer. Raises Problem."""
    try:
        waited_for = receiving.send(None)
    except StopIteration as there:
        return there.value
    try:
        async with asyncio.timeout_at(until_s):
            return await _Rest(receiving, waited_for)
    except TimeoutError as late:
        raise Problem("too_slow", "The body did not come in time; nothing was done, send it at once.") from late


class _Rest:
    """The rest of a coroutine that was begun by hand and waits for something."""

    def __init__(self, begun: Coroutine[Any, Any, Any], waited_for: Any) -> None:
        self._begun = begun
        self._waited_for = waited_for

    def __await__(self) -> Generator[Any, Any, Any]:
        waited_for = self._waited_for
        try:
            while True:
                try:
                    sent = yield waited_for
                except BaseException as failure:
                    waited_for = self._begun.throw(failure)
                else:
                    waited_for = self._begun.send(sent)
        except StopIteration as done:
            return done.value


def _too_large(limit: BodyLimit) -> str:
    return f"A body may have at most {limit.bytes_max} bytes."
