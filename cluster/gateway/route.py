"""Route: one operation of the HTTP contract, declared once.

Everything that the gateway knows of an operation stands in its `Route`: who may call it, how it ranks under load, what
it reads and answers, how it refuses. Dispatch, admission, body bounds, HEAD, 404, 405 with Allow, the OpenAPI document
and its examples are derived from it. `cluster.gateway.routing` says how a route is added.
"""

from collections.abc import Awaitable, Callable, Mapping
from enum import Enum
from typing import Any, NamedTuple

from actors.kernel.names import User
from cluster.config import Settings
from cluster.gateway.auth import Callers
from cluster.gateway.contract import Query, RequestBody
from cluster.gateway.problems import Answer, status_of
from cluster.gateway.raw_http import Streamed
from cluster.gateway.replica import Replica
from cluster.gateway.request import Request

Handler = Callable[[Replica, Request], Awaitable[Answer | Streamed]]
"""Answers a request; raises Problem to refuse it. Its name is the operation's id, its docstring the description."""

Check = Callable[[dict[str, str], Any, Settings, User], None]
"""Takes the bad fields so far, to add to; a body; the configuration; the user who acts."""


class BodySize(Enum):
    """How much a route reads, and for how long; the bounds are in configs/."""

    SMALL = "body_bytes_max"
    BATCH = "batch_bytes_max"
    PHOTO = "photo_bytes_max"
    STREAM = "bounded by `cluster.gateway.packet.stream` itself"


class Media(NamedTuple):
    """A body that is not JSON: its media types, and its JSON Schema, or the structs of which it may be one."""

    types: tuple[str, ...]
    schema: Mapping[str, Any] | tuple[type, ...]
    untyped: bool = False
    """A request need not say its type: the body itself does."""


BINARY = {"type": "string", "format": "binary"}


class Route(NamedTuple):
    """One operation."""

    method: str
    path: str
    """At most one part of it is a name: `{packet_id}`."""
    handler: Handler
    callers: Callers
    priority: int
    """See `cluster.gateway.middleware.overload_control`; `EXEMPT` holds for operators only."""
    tag: str = ""
    """Under which the document lists it; empty: it is not in the document."""
    body: type[RequestBody] | Media | None = None
    body_required: bool = True
    reader: Callable[[Settings], Callable[[bytes], Any]] | None = None
    """Reads its bodies, where that is more than decoding the struct."""
    check: Check | None = None
    """Says what is wrong with a body beyond the bounds of its fields."""
    size: BodySize = BodySize.SMALL
    query: type[Query] | None = None
    reply: type | Media | None = None
    status: int = 200
    keyed: bool = False
    """It takes effect once an Idempotency-Key."""
    repeatable: bool = False
    """It takes effect once by nature, and tells a repeat as one."""
    located: bool = True
    """What was made (201) has a path of its own."""
    refusals: tuple[str, ...] = ()
    """Codes of its own; what follows from caller, body and key is added by `refusals_of`."""
    requests: Mapping[str, Any] = {}
    """Examples of bodies, by what they show. A test sends each, and it is granted."""
    answer: Any = None
    """An example of an answer."""
    served: Callable[[Settings], bool] = lambda settings: True
    """Whether a system of this configuration has it."""

    @property
    def name(self) -> str:
        """The operation's id."""
        return str(getattr(self.handler, "__name__", ""))


EVERYWHERE = ("malformed", "too_large", "overloaded", "gateway_unavailable", "internal")
"""What any request may hear: a head that cannot be read, a body beyond its bound, a replica with more to do than it
can, no replica at all, our own bug."""


def refusals_of(route: Route) -> dict[int, list[str]]:
    """Return the codes with which an operation refuses, by status, both in order."""
    codes: set[str] = {*EVERYWHERE, *route.refusals}
    if route.callers is not Callers.PUBLIC:
        codes |= {"unauthenticated", "forbidden"}
    if route.callers is Callers.USERS or route.keyed or route.body is not None or route.query is not None:
        codes.add("invalid")
    if route.keyed:
        codes.add("idempotency_key_missing")
    if route.body is not None:
        codes |= {"too_slow", "unsupported_media_type"}
    by_status: dict[int, list[str]] = {}
    for status, code in sorted((status_of(code), code) for code in codes):
        by_status.setdefault(status, []).append(code)
    return by_status
