"""Serve hooks: what stands before Serve: it cleans the heads that Serve reads, and tells as problems what Serve says.

Serve 2.60 obeys headers of its clients (a timeout that cuts a send in its middle, a model, a session), and ends with a
plain 500 where one of them is not UTF-8: nobody here has a use for them, so they go. A request has one sound id from
here on, its client's or a fresh one.

Serve reads the body of a request ahead, into a queue without a bound, to notice that its client went away; a header
tells it not to. Only then can a stream stop reading; and a request that moves money is carried to its end anyway, so
that a watcher beside each, a fifth of what Serve itself costs, would be for nothing.

And a replica that is about to end tells it to nobody but a load balancer, through the health check of its HTTP server.
Every HTTP server of Serve calls `middlewares`, because `cluster.config.SERVE_ENVIRONMENT` names it.
"""

import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from itertools import product
from typing import Any

from starlette.middleware import Middleware
from uvicorn.config import HTTP_PROTOCOLS

from cluster.gateway.headers import request_id_of
from cluster.gateway.problems import MEDIA_TYPE, Problem, answer, internal
from cluster.gateway.raw_http import write

log = logging.getLogger(__name__)

STREAM_PATH = "/v1/grabs/stream"
DRAINING: ContextVar[Callable[[], Awaitable[bool]] | None] = ContextVar("draining", default=None)
"""Asks the replica that serves the current request whether it is about to end; None: nobody can be asked."""

_MONEY = "/v1/"
_SERVES_OWN = "/-/"
_DO_NOT_READ_AHEAD = (b"x-request-disconnect-disabled", b"?1")
_HEALTH = {"type": "http", "method": "GET", "path": "/-/healthz", "root_path": "", "query_string": b""}


def _spellings(*words: bytes) -> set[bytes]:
    """Return a header's name with either sign between its words: Serve takes one for the other."""
    return {
        b"".join(pair) for pair in product(*([word + sign for sign in (b"-", b"_")] for word in words[:-1]), words[-1:])
    }


READ_BY_SERVE = frozenset(
    {
        b"x-request-id",
        b"x-request-timeout-seconds",
        b"x-request-disconnect-disabled",
        b"traceparent",
        b"tracestate",
        *_spellings(b"serve", b"multiplexed", b"model", b"id"),
        *_spellings(b"x", b"session", b"id"),
    }
)
"""Headers that Serve decodes or obeys; no client's reaches it."""

_CODES = {404: "route_not_found", 408: "overloaded", 429: "overloaded", 499: "malformed", 503: "overloaded"}
"""What Serve's own refusals mean, in our words."""


class ServeHooks:
    """The ASGI layer around Serve's own."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"].startswith(_SERVES_OWN):
            await self._app(scope, receive, send)
            return
        request_id = request_id_of(scope["headers"])
        headers = [header for header in scope["headers"] if header[0] not in READ_BY_SERVE]
        headers.append((b"x-request-id", request_id.encode()))
        if scope["method"] == "POST" and scope["path"].startswith(_MONEY):
            headers.append(_DO_NOT_READ_AHEAD)
            if scope["path"] == STREAM_PATH:
                DRAINING.set(self._is_draining)
        scope["headers"] = headers
        telling = _Telling(send, request_id)
        try:
            await self._app(scope, receive, telling)
        except BaseException as failure:
            if not telling.begun:
                if isinstance(failure, Exception):
                    log.exception("request %s failed", request_id)
                await telling.refuse(internal())
            raise

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


class _Telling:
    """Sends an answer on; what is a refusal and no problem of ours becomes one."""

    def __init__(self, send: Any, request_id: str) -> None:
        self._send = send
        self._request_id = request_id
        self._replaced = False
        self.begun = False

    async def __call__(self, message: Any) -> None:
        """Send one message."""
        if message["type"] == "http.response.start":
            self.begun = True
            if message["status"] >= 400 and not _is_problem(message["headers"]):
                self._replaced = True
                await self.refuse(Problem(_CODES.get(message["status"], "internal")))
        if not self._replaced:
            await self._send(message)

    async def refuse(self, problem: Problem) -> None:
        """Answer with a problem of our own."""
        status, headers, body = answer(problem, self._request_id)
        await write(self._send, (status, [*headers, (b"x-request-id", self._request_id.encode())], body))


def _is_problem(headers: Any) -> bool:
    return any(name.lower() == b"content-type" and value == MEDIA_TYPE.encode() for name, value in headers)


def middlewares() -> list[Middleware]:
    """Return the layers that Serve puts around its HTTP servers, and have these read HTTP by our protocol."""
    HTTP_PROTOCOLS["auto"] = "cluster.gateway.middleware.http_protocol:Protocol"
    return [Middleware(ServeHooks)]
