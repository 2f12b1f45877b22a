"""Request limits: what holds for every request: an id, who calls, whether it is let in, and bounds on its body.

They hold in this order. A plain ASGI layer, because every request pays for it; what each route asks for stands in
`cluster.gateway.routing`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from cluster.config import Settings
from cluster.gateway.headers import check_single, request_id_of
from cluster.gateway.middleware.admission import Admission
from cluster.gateway.middleware.overload_control import EXEMPT
from cluster.gateway.problems import Problem, answer
from cluster.gateway.raw_http import BodyLimit, check_length, has_body, write
from cluster.gateway.request import Request
from cluster.gateway.route import BodySize
from cluster.gateway.routing import Operation, RouteTable

Dispatch = Callable[[Operation, Request, Any], Awaitable[None]]
"""Answers a request that is let in: takes its operation, the request and the ASGI `send`."""


class RequestLimits:
    """The ASGI layer before the dispatcher."""

    def __init__(
        self, dispatch: Dispatch, table: RouteTable, admission: Admission, settings: Settings, *, stamps: bool
    ) -> None:
        """`stamps`: write X-Request-Id on responses; Serve does that itself, with the same id."""
        self._dispatch = dispatch
        self._table = table
        self._admission = admission
        self._stamps = stamps
        bounds, timing = settings.bounds, settings.timing
        small = BodyLimit(bounds.body_bytes_max, bounds.body_parts_max, timing.body_ms / 1000)
        self._limits: dict[BodySize, BodyLimit] = {
            BodySize.SMALL: small,
            BodySize.BATCH: BodyLimit(bounds.batch_bytes_max, None, timing.body_ms / 1000),
            # The last byte may come a moment late: the upload's own deadline tells its client so first.
            BodySize.PHOTO: BodyLimit(bounds.photo_bytes_max, None, timing.photo_upload_ms / 1000 + 1),
            BodySize.STREAM: small,
        }

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        listed = scope["headers"]
        headers = dict(listed)
        request_id = request_id_of(listed)
        scope["hongbao.request_id"] = request_id
        if self._stamps:
            send = _stamping(send, request_id)
        operation, name = self._table.find(scope["method"], scope["path"])
        route = operation.route
        admission, limit = self._admission, self._limits[route.size]
        until_s = 0.0
        try:
            if len(headers) < len(listed):
                check_single(listed)
            caller = admission.authenticate(route, headers)
            streams = route.size is BodySize.STREAM  # one long request: streams have bounds of their own
            if not streams:
                if not admission.lets_in(route.priority, caller):
                    await admission.refuse(request_id, send)
                    return
                if has_body(headers):
                    check_length(headers, limit)
                    until_s = asyncio.get_running_loop().time() + limit.seconds_max
        except Problem as problem:
            await write(send, answer(problem, request_id))
            return
        request = Request(
            scope, receive, headers, request_id=request_id, name=name, caller=caller, limit=limit, until_s=until_s
        )
        if streams or (route.priority == EXEMPT and caller.operates):
            await self._dispatch(operation, request, send)
            return
        admission.enter(caller)
        try:
            await self._dispatch(operation, request, send)
        finally:
            admission.leave(caller)


def _stamping(send: Any, request_id: str) -> Any:
    """Write X-Request-Id on a response."""
    stamp = (b"x-request-id", request_id.encode())

    async def send_with_id(message: Any) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], stamp]
        await send(message)

    return send_with_id
