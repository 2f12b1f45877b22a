"""Gate: whether a request is looked at; and the refusal, which must cost next to nothing.

A refusal is decided on the route and on who seems to ask, before a body is read or a signature checked, and answered
with bytes made beforehand.
"""

import base64
from typing import Any
from zlib import crc32

import msgspec
from starlette.requests import Request

from actors.ids import user_hash
from cluster.gateway.admission import EXEMPT, MANY, Admission, kind_of
from cluster.gateway.auth import Auth
from cluster.gateway.heads import read_acting_user, read_token
from cluster.gateway.problems import Problem, respond
from cluster.gateway.pulse import Pulse
from cluster.gateway.wire import Headers, write

_ENCODE = msgspec.json.Encoder().encode


class _Claimed(msgspec.Struct):
    sub: str
    tenant: str


_CLAIMED = msgspec.json.Decoder(_Claimed)


class Gate:
    """The gate of one replica. `under_way` is kept by whoever carries the requests."""

    def __init__(self, auth: Auth, admission: Admission, pulse: Pulse, requests_max: int) -> None:
        self.under_way = 0
        self._auth = auth
        self._admission = admission
        self._pulse = pulse
        self._requests_max = requests_max
        self._refusal = _refusal()

    def lets_in(self, scope: Any, headers: Headers) -> bool:
        """Decide on a request by its head."""
        kind = kind_of(scope["method"], scope["path"])
        if kind == EXEMPT:
            return True
        admission = self._admission
        if not self._pulse.beating:
            self._pulse.start()
        if self.under_way >= self._requests_max:
            admission.tally.full += 1
            return False
        if admission.calm:
            admission.accept(kind)
            return True
        return admission.admit(kind, 0 if kind == MANY else self._asker(headers))

    def _asker(self, headers: Headers) -> int:
        """Return the hash of the user for whom a request seems to be. Good for his place in the queue and nothing else.

        A token that nobody has verified yet is read as it is: whoever lies in it is let in to be told that he lied.
        """
        authorization, acting = headers.get(b"authorization", b""), headers.get(b"x-acting-user")
        token = read_token(authorization) or ""
        claims = self._auth.known(token)
        try:
            if claims is None:
                claimed = _CLAIMED.decode(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
                user, tenant = claimed.sub, claimed.tenant
            else:
                user, tenant = claims.user, claims.tenant
            return user_hash(tenant, user if acting is None else read_acting_user(acting))
        except (msgspec.DecodeError, ValueError, IndexError, RecursionError, Problem):
            return crc32(authorization)

    async def refuse(self, request_id: str, send: Any) -> None:
        """Tell to come again later. The body stays unread; the server drops it."""
        retry_after_ms = self._admission.retry_after_ms(request_id)
        told = self._refusal, _ENCODE(request_id), retry_after_ms
        body = b'%s,"request_id":%s,"retry_after_ms":%d}' % told
        headers = [
            (b"content-type", b"application/problem+json"),
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
