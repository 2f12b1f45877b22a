"""Entrance: what streams and hot requests need of Serve, arranged before Serve sees the request.

Serve 2.60 reads the body of a request ahead, into a queue without a bound, to notice that its client went away; a
header tells it not to. Only then can a stream stop reading; and a request that moves money is carried to its end
anyway, so that a watcher beside each, a fifth of what Serve itself costs, would be for nothing.

And a replica that is about to end tells it to nobody but a load balancer, through the health check of its HTTP server.
Every HTTP server of Serve calls `middlewares`, because `cluster.config.SERVE_ENVIRONMENT` names it.
"""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

from starlette.middleware import Middleware

STREAM_PATH = "/v1/grabs/stream"
DRAINING: ContextVar[Callable[[], Awaitable[bool]] | None] = ContextVar("draining", default=None)
"""Asks the replica that serves the current request whether it is about to end; None: nobody can be asked."""

_MONEY = "/v1/"
_DO_NOT_READ_AHEAD = (b"x-request-disconnect-disabled", b"?1")
_HEALTH = {"type": "http", "method": "GET", "path": "/-/healthz", "root_path": "", "query_string": b""}


class Entrance:
    """The ASGI layer around Serve's own."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"].startswith(_MONEY):
            scope["headers"] = [*scope["headers"], _DO_NOT_READ_AHEAD]
            if scope["path"] == STREAM_PATH:
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
