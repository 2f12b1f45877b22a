"""Entrance: what a stream needs of Serve, arranged before Serve sees the request.

Serve 2.60 reads the body of a request ahead, into a queue without a bound, to notice that its client went away; a
header tells it not to, and only then can a stream stop reading. And a replica that is about to end tells it to nobody
but a load balancer, through the health check of its HTTP server. Every HTTP server of Serve calls `middlewares`,
because `cluster.config.SERVE_ENVIRONMENT` names it.
"""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from starlette.middleware import Middleware

STREAM_PATH = "/v1/grabs/stream"
DRAINING: ContextVar[Callable[[], Awaitable[bool]] | None] = ContextVar("draining", default=None)
"""Asks the replica that serves the current request whether it is about to end; None: nobody can be asked."""

_DO_NOT_READ_AHEAD = (b"x-request-disconnect-disabled", b"?1")
_HEALTH = {"type": "http", "method": "GET", "path": "/-/healthz", "root_path": "", "query_string": b""}


class Entrance:
    """The ASGI layer around Serve's own."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["path"] == STREAM_PATH:
            scope["headers"] = [*scope["headers"], _DO_NOT_READ_AHEAD]
            DRAINING.set(self._is_draining)
        await self._app(scope, receive, send)

    async def _is_draining(self) -> bool:
        """Ask Serve's health check, as a load balancer does. An unhealthy replica is not a draining one."""
        body = b""

        async def receive() -> Any:
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            nonlocal body
            body += message.get("body", b"")

        await self._app({**_HEALTH, "headers": []}, receive, send)
        return b"DRAINING" in body


def middlewares() -> list[Middleware]:
    """Return the layers that Serve puts around its HTTP servers."""
    return [Middleware(Entrance)]
