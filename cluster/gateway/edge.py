"""Edge: what holds for every request: an id, a bound on its body, and whether it is let in at all.

A plain ASGI wrapper, because every request pays for it.
"""

from typing import Any

from starlette.exceptions import HTTPException

from cluster.gateway.entrance import STREAM_PATH
from cluster.gateway.gate import Gate
from cluster.gateway.heads import check_single, request_id_of
from cluster.gateway.problems import Problem, answer
from cluster.gateway.wire import headers_of, write

PHOTOS_PATH = "/v1/photos"
"""Whose bodies are pictures, and larger than others."""


class Edge:
    """The outermost layer of the app."""

    def __init__(self, app: Any, gate: Gate, *, body_bytes_max: int, stamps: bool, photo_bytes_max: int = 0) -> None:
        """`stamps`: write X-Request-Id on responses; Serve does that itself, with the same id."""
        self._app = app
        self._stamps = stamps
        self._body_bytes_max = body_bytes_max
        self._photo_bytes_max = photo_bytes_max
        self._gate = gate

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = headers_of(scope)
        request_id = request_id_of(scope["headers"])
        scope["hongbao.request_id"] = request_id
        if self._stamps:
            send = _stamping(send, request_id)
        if len(headers) < len(scope["headers"]):
            try:
                check_single(scope["headers"])
            except Problem as problem:
                await write(send, answer(problem, request_id))
                return
        if scope["path"] == STREAM_PATH:  # one long request: streams have bounds of their own
            await self._app(scope, receive, send)
            return
        if not self._gate.lets_in(scope, headers):
            await self._gate.refuse(request_id, send)
            return
        bytes_max = self._photo_bytes_max if scope["path"] == PHOTOS_PATH else self._body_bytes_max
        told = headers.get(b"content-length", b"")
        if not told.isdigit() or b"transfer-encoding" in headers:
            receive = _counting(receive, bytes_max)
        elif int(told) > bytes_max:
            await write(send, answer(_too_large(bytes_max), request_id))
            return
        self._gate.under_way += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._gate.under_way -= 1


def _counting(receive: Any, bytes_max: int) -> Any:
    """Bound a body that does not tell its length. (One that does is as long as that: the server sees to it.)"""
    read = 0

    async def receive_bounded() -> Any:
        nonlocal read
        message = await receive()
        if message["type"] == "http.request":
            read += len(message.get("body", b""))
            if read > bytes_max:
                raise HTTPException(413, _too_large(bytes_max).detail)  # the only kind that FastAPI lets through
        return message

    return receive_bounded


def _too_large(bytes_max: int) -> Problem:
    return Problem("too_large", f"A body may have at most {bytes_max} bytes.")


def _stamping(send: Any, request_id: str) -> Any:
    """Write X-Request-Id on a response."""
    stamp = (b"x-request-id", request_id.encode())

    async def send_with_id(message: Any) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], stamp]
        await send(message)

    return send_with_id
