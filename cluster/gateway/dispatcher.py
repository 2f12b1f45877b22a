"""Dispatcher: from a route to its answer: the request in the form that the route asks for, its handler, a problem.

Whatever goes wrong is answered as a problem with the request's id; what is our own bug is in the log under it.
"""

import logging
from typing import Any

from cluster.gateway.contract import misfits, refuse_misfits
from cluster.gateway.headers import read_key
from cluster.gateway.problems import Answer, Problem, answer, internal
from cluster.gateway.raw_http import Streamed, write
from cluster.gateway.replica import Replica
from cluster.gateway.request import Request
from cluster.gateway.routing import Operation
from cluster.gateway.validation import check_json_type, check_type

log = logging.getLogger(__name__)


class Dispatcher:
    """Answers the requests of one replica that were let in."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    async def __call__(self, operation: Operation, request: Request, send: Any) -> None:
        """Answer one request. HEAD is GET without the body."""
        if request.scope["method"] == "HEAD":
            send = _without_body(send)
        route = operation.route
        told: Answer | Streamed
        try:
            query = request.scope.get("query_string", b"")
            if query or route.query is not None:
                request.query = operation.read_query(query)
            if operation.media:
                check_type(request.headers, operation.media)
            body = await request.read() if operation.decode is not None else b""
            if route.keyed:
                request.key = read_key(request.headers.get(b"idempotency-key", b""))
            if operation.decode is not None:
                if body:
                    check_json_type(request.headers)
                request.body = operation.decode(body)
                if body:
                    self._check(operation, request)
            told = await route.handler(self._replica, request)
        except Problem as problem:
            told = answer(problem, request.id)
        except Exception:
            log.exception("request %s failed", request.id)
            told = answer(internal(), request.id)
        if isinstance(told, tuple):
            await write(send, told)
        else:
            await told(send)

    def _check(self, operation: Operation, request: Request) -> None:
        """Refuse a body with bad fields, naming them all. Raises Problem."""
        fields = misfits(request.body, operation.bounds)
        if operation.route.check is not None:
            operation.route.check(fields, request.body, self._replica.settings, request.user)
        refuse_misfits(fields)


def _without_body(send: Any) -> Any:
    async def send_head(message: Any) -> None:
        await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

    return send_head
