"""Edge: what holds for every request: an id, a bound on its body, and whether it is let in at all.

A plain ASGI wrapper, because every request pays for it.
"""

import re
import uuid
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

from cluster.gateway.gate import Gate
from cluster.gateway.problems import Problem, respond

_REQUEST_ID = re.compile(r"[!-~]{1,128}")


class Edge:
    """The outermost layer of the app."""

    def __init__(self, app: Any, gate: Gate, *, body_bytes_max: int, stamps: bool) -> None:
        """`stamps`: write X-Request-Id on responses; Serve does that itself, with the same id."""
        self._app = app
        self._stamps = stamps
        self._body_bytes_max = body_bytes_max
        self._gate = gate

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, length = _read_headers(scope)
        scope["hongbao.request_id"] = request_id

        async def send_with_id(message: Any) -> None:
            if message["type"] == "http.response.start" and self._stamps:
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        if not self._gate.lets_in(scope):
            await self._gate.refuse(request_id, send_with_id)
            return
        if length > self._body_bytes_max:
            await respond(Request(scope), self._too_large())(scope, receive, send_with_id)
            return
        self._gate.under_way += 1
        try:
            await self._app(scope, self._counting(receive), send_with_id)
        finally:
            self._gate.under_way -= 1

    def _counting(self, receive: Any) -> Any:
        """Bound a body that does not tell its length."""
        read = 0

        async def receive_bounded() -> Any:
            nonlocal read
            message = await receive()
            if message["type"] == "http.request":
                read += len(message.get("body", b""))
                if read > self._body_bytes_max:
                    raise HTTPException(413, self._too_large().detail)  # the only kind that FastAPI lets through
            return message

        return receive_bounded

    def _too_large(self) -> Problem:
        return Problem("too_large", f"A body may have at most {self._body_bytes_max} bytes.")


def _read_headers(scope: Any) -> tuple[str, int]:
    """Return the request's id (the caller's, if it is a sound one) and its declared length."""
    request_id, length = "", 0
    for name, text in scope["headers"]:
        if name == b"x-request-id":
            request_id = text.decode("latin-1")
        elif name == b"content-length" and text.isdigit():
            length = int(text)
    if not _REQUEST_ID.fullmatch(request_id):
        request_id = uuid.uuid4().hex
    return request_id, length
