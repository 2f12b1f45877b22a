"""Gate: who calls, and whether the request is looked at; and the refusal, which must cost next to nothing.

The caller is known before anything else is decided: who proves nothing is told so at once, takes nobody's place, and
cannot speak in another's name. A refusal is decided on the route and on who calls, before a body is read, and answered
with bytes made beforehand.
"""

from typing import Any, NamedTuple

import msgspec
from starlette.requests import Request

from actors.kernel.names import user_hash
from actors.kernel.quota import Bound, Counts
from cluster.gateway.auth import Auth
from cluster.gateway.middleware.overload_control import EXEMPT, MANY, Admission
from cluster.gateway.middleware.queue_delay import Pulse
from cluster.gateway.problems import NEVER_KEPT, Problem, respond
from cluster.gateway.raw_http import Headers, write
from cluster.gateway.routing import Callers, Door
from cluster.tokens import OPERATOR_SCOPE

_ENCODE = msgspec.json.Encoder().encode


class Caller(NamedTuple):
    """For whom a request is. `user` is empty where it is nobody's in particular, `tenant` where nobody said who."""

    tenant: str
    user: str
    operates: bool = False


_ANYBODY = Caller("", "")
_OPERATOR = Caller("", "", operates=True)


class Gate:
    """The gate of one replica."""

    def __init__(self, auth: Auth, admission: Admission, pulse: Pulse, under_way: Bound) -> None:
        """`under_way`: how many requests may be under way, in all, of one user and of one tenant."""
        self._auth = auth
        self._admission = admission
        self._pulse = pulse
        self._under_way = Counts(under_way)
        self._refusal = _refusal()

    def authenticate(self, door: Door, headers: Headers) -> Caller:
        """Return who calls, if they may use this door. Raises Problem. What is proved once is remembered by `Auth`."""
        if door.callers is Callers.USERS:
            tenant, user = self._auth.acting(headers)
            return Caller(tenant, user)
        if door.callers is Callers.GATEWAYS:
            return Caller(self._auth.gateway(headers).tenant, "")
        if door.callers is Callers.OPERATORS:
            self._auth.operator(headers)
            return _OPERATOR
        if door.kind == EXEMPT and b"authorization" in headers:  # questions about health need no token
            try:
                operates = self._auth.claims(headers).scope == OPERATOR_SCOPE
            except Problem:
                operates = False
            return _OPERATOR if operates else _ANYBODY
        return _ANYBODY

    def lets_in(self, kind: int, caller: Caller) -> bool:
        """Decide on a request by its kind and its caller."""
        if kind == EXEMPT and caller.operates:
            return True
        admission = self._admission
        if not self._pulse.beating:
            self._pulse.start()
        if self._under_way.full(caller.tenant, caller.user) is not None:
            admission.tally.full += 1
            return False
        if kind == EXEMPT:
            return True
        if admission.calm:
            admission.accept(kind)
            return True
        return admission.admit(kind, 0 if kind == MANY else user_hash(caller.tenant, caller.user), caller.tenant)

    def enter(self, caller: Caller) -> None:
        """Count a request that is under way from now on."""
        self._under_way.add(caller.tenant, caller.user)

    def leave(self, caller: Caller) -> None:
        """Count it no more."""
        self._under_way.remove(caller.tenant, caller.user)

    async def refuse(self, request_id: str, send: Any) -> None:
        """Tell to come again later. The body stays unread; the server drops it."""
        retry_after_ms = self._admission.retry_after_ms(request_id)
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
    body = msgspec.json.decode(bytes(respond(Request({"type": "http"}), problem).body))
    del body["request_id"], body["retry_after_ms"]
    return _ENCODE(body)[:-1]
