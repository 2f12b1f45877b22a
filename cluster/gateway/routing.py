"""Doors: the one table of every route: who may come in, what body it takes, and how it ranks under load.

The edge authenticates by it before it reads a body, so a route that does not stand here cannot be served: `check`
refuses to build an app that has one.
"""

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from fastapi.routing import iter_route_contexts
from starlette.routing import BaseRoute

from cluster.gateway.middleware.overload_control import EXEMPT, GRAB, LAST, MANY, READ, SEND


class Callers(Enum):
    """Whose token opens a door."""

    PUBLIC = "everybody, also without a token"
    USERS = "users, and chat gateways that name one"
    GATEWAYS = "chat gateways"
    OPERATORS = "operators"


class Body(Enum):
    """How much a door reads, and for how long; the bounds are in configs/."""

    SMALL = "body_bytes_max"
    BATCH = "batch_bytes_max"
    PHOTO = "photo_bytes_max"
    STREAM = "bounded by `cluster.gateway.packet.stream` itself"


class Door(NamedTuple):
    """One route. `kind`: see `cluster.gateway.middleware.overload_control`; `EXEMPT` holds for operators only."""

    method: str
    path: str
    callers: Callers
    kind: int
    body: Body = Body.SMALL


_PUBLIC, _USERS, _GATEWAYS, _OPERATORS = Callers

DOORS = (
    Door("POST", "/v1/packets", _USERS, SEND),
    Door("GET", "/v1/packets/{packet_id}", _USERS, READ),
    Door("GET", "/v1/packets/{packet_id}/proof", _USERS, READ),
    Door("POST", "/v1/packets/{packet_id}/grabs", _USERS, GRAB),
    Door("POST", "/v1/packets/{packet_id}/note", _USERS, READ),
    Door("POST", "/v1/grabs/batch", _GATEWAYS, MANY, Body.BATCH),
    Door("POST", "/v1/grabs/stream", _GATEWAYS, MANY, Body.STREAM),
    Door("POST", "/v1/commitments", _USERS, SEND),
    Door("POST", "/v1/rains", _USERS, SEND),
    Door("GET", "/v1/rains/{rain_id}", _USERS, READ),
    Door("POST", "/v1/lishi", _USERS, READ),
    Door("GET", "/v1/lishi", _USERS, READ),
    Door("GET", "/v1/lishi/{lishi_id}", _USERS, READ),
    Door("POST", "/v1/lishi/{lishi_id}/accept", _USERS, SEND),
    Door("POST", "/v1/lishi/{lishi_id}/decline", _USERS, READ),
    Door("POST", "/v1/photos", _USERS, LAST, Body.PHOTO),
    Door("GET", "/v1/photos/{photo_id}", _USERS, READ),
    Door("GET", "/v1/photos/{photo_id}/blurred", _USERS, READ),
    Door("GET", "/v1/photos/{photo_id}/clear", _USERS, READ),
    Door("POST", "/v1/photos/{photo_id}/payments", _USERS, SEND),
    Door("GET", "/v1/wallet", _USERS, READ),
    Door("GET", "/v1/wallet/statement", _USERS, READ),
    Door("GET", "/v1/audit", _OPERATORS, LAST),
    Door("GET", "/v1/figures", _OPERATORS, LAST),
    # Operators' levers must work when they are needed most, and a sandbox's clock moves whatever its users do.
    Door("GET", "/v1/levers", _OPERATORS, EXEMPT),
    Door("PUT", "/v1/levers/sends", _OPERATORS, EXEMPT),
    Door("PUT", "/v1/levers/grabs", _OPERATORS, EXEMPT),
    Door("PUT", "/v1/levers/packets/{packet_id}", _OPERATORS, EXEMPT),
    Door("POST", "/sandbox/users", _OPERATORS, EXEMPT),
    Door("POST", "/sandbox/clock", _OPERATORS, EXEMPT),
    Door("GET", "/healthz", _PUBLIC, EXEMPT),
    Door("GET", "/readyz", _PUBLIC, EXEMPT),
    Door("GET", "/openapi.json", _PUBLIC, LAST),
    Door("GET", "/docs", _PUBLIC, LAST),
    Door("GET", "/docs/{name}", _PUBLIC, LAST),
)

NOWHERE = Door("", "", Callers.PUBLIC, LAST)
"""What is asked where there is no door: it is told so, and its body is not read."""

_ANY = "{}"


def _key(path: str) -> tuple[str, ...]:
    return tuple(_ANY if part.startswith("{") else part for part in path.split("/"))


_EXACT = {(door.method, door.path): door for door in DOORS if "{" not in door.path}
_NAMED = {(door.method, *_key(door.path)): door for door in DOORS if "{" in door.path}
_PLACES = sorted({_key(door.path).index(_ANY) for door in DOORS if "{" in door.path})
"""Where a name may stand in a path, e.g. 3 in /v1/packets/{packet_id}/note."""
_PARTS_MAX = max(map(len, _NAMED))


def door_of(method: str, path: str) -> Door:
    """Return the door that a request knocks at. HEAD is a GET."""
    if method == "HEAD":
        method = "GET"
    door = _EXACT.get((method, path))
    if door is not None:
        return door
    parts = path.split("/", _PARTS_MAX)
    for place in _PLACES:
        if place < len(parts) and parts[place]:
            door = _NAMED.get((method, *parts[:place], _ANY, *parts[place + 1 :]))
            if door is not None:
                return door
    return NOWHERE


def served(routes: Sequence[BaseRoute]) -> set[tuple[str, tuple[str, ...]]]:
    """Return what an app's routes answer, by method and path with its names left open; HEAD is a GET."""
    found = set()
    for route in iter_route_contexts(routes):
        for method in route.methods or ():
            found.add(("GET" if method == "HEAD" else method, _key(route.path or "")))
    return found


def check(routes: Sequence[BaseRoute]) -> None:
    """Refuse an app with a route that has no door. Raises ValueError naming it: write it into the table."""
    doors = {(door.method, _key(door.path)) for door in DOORS}
    if missing := sorted(served(routes) - doors):
        named = ", ".join(f"{method} {'/'.join(path)}" for method, path in missing)
        raise ValueError(f"routes without a door in cluster.gateway.routing: {named}")
