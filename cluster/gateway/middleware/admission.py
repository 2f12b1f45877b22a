"""Admission: who calls, and whether the request is looked at; and the refusal, which must cost next to nothing.

The caller is known before anything else is decided: who proves nothing is told so at once, takes nobody's place, and
cannot speak in another's name. A refusal is decided on the route and on who calls, before a body is read, and answered
with bytes made beforehand.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from actors.kernel.names import user_hash
from actors.kernel.quota import Bound, Counts
from cluster.gateway.auth import Auth, Callers, acting
from cluster.gateway.middleware.overload_control import EXEMPT, MANY, OverloadControl
from cluster.gateway.middleware.queue_delay import QueueDelay
from cluster.gateway.problems import NEVER_KEPT, Problem, answer
from cluster.gateway.raw_http import Headers, write
from cluster.tokens import OPERATOR_SCOPE, Claims

if TYPE_CHECKING:
    from cluster.gateway.route import Route

_ENCODE = msgspec.json.Encoder().encode


class Caller(NamedTuple):
    """For whom a request is. `user` is empty where it is nobody's in particular, `tenant` where nobody said who."""

    tenant: str
    user: str
    operates: bool = False
    claims: Claims | None = None


_ANYBODY = Caller("", "")


class Admission:
    """Authenticates the callers of one replica and counts what is under way."""

    def __init__(self, auth: Auth, overload: OverloadControl, queue_delay: QueueDelay, under_way: Bound) -> None:
        """`under_way`: how many requests may be under way, in all, of one user and of one tenant."""
        self._auth = auth
        self._overload = overload
        self._queue_delay = queue_delay
        self._under_way = Counts(under_way)
        self._refusal = _refusal()

    def authenticate(self, route: "Route", headers: Headers) -> Caller:
        """Return who calls, if they may use this route. Raises Problem. What is proved once is remembered by `Auth`."""
        callers = route.callers
        if callers is Callers.USERS:
            claims = self._auth.claims(headers)
            tenant, user = acting(claims, headers)
            return Caller(tenant, user, False, claims)
        if callers is Callers.GATEWAYS:
            claims = self._auth.gateway(headers)
            return Caller(claims.tenant, "", False, claims)
        if callers is Callers.OPERATORS:
            return Caller("", "", True, self._auth.operator(headers))
        if route.priority == EXEMPT and b"authorization" in headers:  # questions about health need no token
            try:
                claims = self._auth.claims(headers)
            except Problem:
                return _ANYBODY
            return Caller("", "", True, claims) if claims.scope == OPERATOR_SCOPE else _ANYBODY
        return _ANYBODY

    def lets_in(self, priority: int, caller: Caller) -> bool:
        """Decide on a request by its route's priority and its caller."""
        if priority == EXEMPT and caller.operates:
            return True
        overload = self._overload
        if not self._queue_delay.measuring:
            self._queue_delay.start()
        if self._under_way.full(caller.tenant, caller.user) is not None:
            overload.tally.full += 1
            return False
        if priority == EXEMPT:
            return True
        if overload.calm:
            overload.accept(priority)
            return True
        hashed = 0 if priority == MANY else user_hash(caller.tenant, caller.user)
        return overload.admit(priority, hashed, caller.tenant)

    def enter(self, caller: Caller) -> None:
        """Count a request that is under way from now on."""
        self._under_way.add(caller.tenant, caller.user)

    def leave(self, caller: Caller) -> None:
        """Count it no more."""
        self._under_way.remove(caller.tenant, caller.user)

    async def refuse(self, request_id: str, send: Any) -> None:
        """Tell to come again later. The body stays unread; the server drops it."""
        retry_after_ms = self._overload.retry_after_ms(request_id)
        told = self._refusal, _ENCODE(request_id), retry_after_ms
        body = b'%s,"request_id":%s,"retry_after_ms":%d}' % told
        headers = [
            (b"content-type", b"application/problem+json"),
            NEVER_KEPT,
            (b"content-length", b"%d" % len(body)),
            (b"retry-after", b"%d" % -(-retry_after_ms // 1000)),
        ]
        await write(send, (429, headers, body))


def _refusal() -> bytes:
    """Return the part of a refusal that is always the same, without the last bracket."""
    problem = Problem("overloaded", "This gateway has more to do than it can; nothing was done, repeat it later.")
    body = msgspec.json.decode(answer(problem, "")[2])
    del body["request_id"], body["retry_after_ms"]
    return _ENCODE(body)[:-1]
