"""Routing: the one table of every route, assembled from one table per kind. A route that is not listed cannot exist.

To add a route, write its handler and one `Route` into the `ROUTES` of its kind (`cluster/gateway/<kind>/routes.py`),
and the structs of its body and reply into the kind's `contract.py`. A new kind adds its `ROUTES` to the list below.
Nothing else has to change: who may call it, its rank under load, its body's bounds, its dispatch, HEAD, 405 with Allow,
the OpenAPI document and the tests of the contract follow from the entry. A refusal that is new needs its status in
`cluster.gateway.problems`.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from cluster.config import Settings
from cluster.gateway.auth import Callers
from cluster.gateway.contract import BodyDecoder, Bounds, QueryDecoder, bounds_of
from cluster.gateway.middleware.overload_control import LAST
from cluster.gateway.operator import routes as operator
from cluster.gateway.operator import switch_routes
from cluster.gateway.packet import photo_routes, rain_routes
from cluster.gateway.packet import routes as packet
from cluster.gateway.problems import Answer, Problem, answer
from cluster.gateway.replica import Replica
from cluster.gateway.request import Request
from cluster.gateway.route import Media, Route
from cluster.gateway.validation import UNTYPED
from cluster.gateway.wallet import lishi_routes
from cluster.gateway.wallet import routes as wallet

ROUTES: tuple[Route, ...] = (
    *packet.ROUTES,
    *rain_routes.ROUTES,
    *photo_routes.ROUTES,
    *wallet.ROUTES,
    *lishi_routes.ROUTES,
    *operator.ROUTES,
    *switch_routes.ROUTES,
)

_NAME = "{}"


class Operation(NamedTuple):
    """A route, ready to serve in one configuration."""

    route: Route
    decode: Callable[[bytes], Any] | None
    """Reads its body; None: its handler does, or it has none."""
    bounds: Bounds
    """Of the fields of its body."""
    media: tuple[str, ...]
    """Types of a body that its handler reads itself; none: it has none."""
    read_query: Callable[[bytes], Any]


class RouteTable:
    """The routes that one system serves."""

    def __init__(self, routes: Iterable[Route], settings: Settings) -> None:
        """Take the routes that this configuration has. Raises ValueError for two of one method and path."""
        self.routes = [route for route in routes if route.served(settings)]
        self._exact: dict[tuple[str, str], Operation] = {}
        self._named: dict[tuple[str, ...], Operation] = {}
        self._methods: dict[tuple[str, ...], list[str]] = {}
        places = set()
        for route in self.routes:
            operation, parts = _operation(route, settings), _parts(route.path)
            key = (route.method, *parts)
            if key in self._named:
                raise ValueError(f"two routes {route.method} {route.path}")
            self._named[key] = operation
            self._methods.setdefault(parts, []).append(route.method)
            if _NAME in parts:
                places.add(parts.index(_NAME))
            else:
                self._exact[route.method, route.path] = operation
        self._places = sorted(places, key=lambda place: (place != 3, place))
        """Where a name may stand in a path: mostly 3, as in /v1/packets/{packet_id}/note."""
        self._parts_max = max(map(len, self._methods), default=0)
        self._nowhere = Operation(
            Route("", "", self._tell_nowhere, Callers.PUBLIC, LAST), None, {}, (), lambda query: None
        )

    def find(self, method: str, path: str) -> tuple[Operation, str]:
        """Return the operation of a request and the name in its path; HEAD is a GET. What is nowhere is told so."""
        if method == "HEAD":
            method = "GET"
        operation = self._exact.get((method, path))
        if operation is not None:
            return operation, ""
        parts = path.split("/", self._parts_max)
        for place in self._places:
            if place < len(parts) and (name := parts[place]):
                parts[place] = _NAME
                operation = self._named.get((method, *parts))
                if operation is not None:
                    return operation, name
                parts[place] = name
        return self._nowhere, ""

    def allowed(self, path: str) -> list[str]:
        """Return the methods by which a path may be asked; HEAD wherever GET is."""
        parts = path.split("/", self._parts_max)
        methods = {*self._methods.get(tuple(parts), ())} if _NAME not in parts else set()
        for place in self._places:
            if place < len(parts) and parts[place]:
                methods.update(self._methods.get((*parts[:place], _NAME, *parts[place + 1 :]), ()))
        return sorted(methods | ({"HEAD"} if "GET" in methods else set()))

    async def _tell_nowhere(self, replica: Replica, request: Request) -> Answer:
        """Tell that there is no such route, or by which methods it may be asked."""
        method, path = request.scope["method"], request.scope["path"]
        allowed = self.allowed(path)
        if not allowed:
            raise Problem("route_not_found", f"{method} {path}: Not Found")
        problem = Problem("method_not_allowed", f"{method} {path}: Method Not Allowed")
        status, headers, content = answer(problem, request.id)
        return status, [*headers, (b"allow", ", ".join(allowed).encode())], content


def _parts(path: str) -> tuple[str, ...]:
    return tuple(_NAME if part.startswith("{") else part for part in path.split("/"))


def _operation(route: Route, settings: Settings) -> Operation:
    body, query = route.body, QueryDecoder(route.query, settings)
    if body is None:
        return Operation(route, None, {}, (), query)
    if isinstance(body, Media):
        return Operation(route, None, {}, (*body.types, UNTYPED) if body.untyped else body.types, query)
    if route.reader is not None:
        return Operation(route, route.reader(settings), {}, (), query)
    return Operation(route, BodyDecoder(body, required=route.body_required), bounds_of(body, settings), (), query)
