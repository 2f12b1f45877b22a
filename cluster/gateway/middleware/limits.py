"""Edge: what holds for every request: an id, who calls, whether it is let in, and bounds on its body, in this order.

A plain ASGI wrapper, because every request pays for it. What each route asks for stands in `cluster.gateway.routing`.
"""

import asyncio
from typing import Any

from cluster.config import Settings
from cluster.gateway.headers import check_single, request_id_of
from cluster.gateway.middleware.admission import Gate
from cluster.gateway.middleware.body_reader import bounded, check_length, has_body
from cluster.gateway.middleware.overload_control import EXEMPT
from cluster.gateway.problems import Problem, answer
from cluster.gateway.raw_http import headers_of, write
from cluster.gateway.routing import Body, door_of


class Edge:
    """The outermost layer of the app."""

    def __init__(self, app: Any, gate: Gate, settings: Settings, *, stamps: bool) -> None:
        """`stamps`: write X-Request-Id on responses; Serve does that itself, with the same id."""
        self._app = app
        self._gate = gate
        self._stamps = stamps
        bounds, timing = settings.bounds, settings.timing
        self._bodies: dict[Body, tuple[int, int | None, float]] = {
            Body.SMALL: (bounds.body_bytes_max, bounds.body_parts_max, timing.body_ms / 1000),
            Body.BATCH: (bounds.batch_bytes_max, None, timing.body_ms / 1000),
            # The last byte may come a moment late: the upload's own deadline tells its client so first.
            Body.PHOTO: (bounds.photo_bytes_max, None, timing.photo_upload_ms / 1000 + 1),
        }

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
        door = door_of(scope["method"], scope["path"])
        try:
            if len(headers) < len(scope["headers"]):
                check_single(scope["headers"])
            caller = self._gate.authenticate(door, headers)
            if door.body is Body.STREAM:  # one long request: streams have bounds of their own
                await self._app(scope, receive, send)
                return
            if not self._gate.lets_in(door.kind, caller):
                await self._gate.refuse(request_id, send)
                return
            if has_body(headers):
                bytes_max, parts_max, seconds_max = self._bodies[door.body]
                check_length(headers, bytes_max)
                until_s = asyncio.get_running_loop().time() + seconds_max
                receive = bounded(receive, headers, bytes_max, parts_max, until_s)
        except Problem as problem:
            await write(send, answer(problem, request_id))
            return
        if door.kind == EXEMPT and caller.operates:
            await self._app(scope, receive, send)
            return
        self._gate.enter(caller)
        try:
            await self._app(scope, receive, send)
        finally:
            self._gate.leave(caller)


def _stamping(send: Any, request_id: str) -> Any:
    """Write X-Request-Id on a response."""
    stamp = (b"x-request-id", request_id.encode())

    async def send_with_id(message: Any) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], stamp]
        await send(message)

    return send_with_id
