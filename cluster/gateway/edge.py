"""Edge: what holds for every request: an id, a bound on its body, and whether it is let in at all.

A plain ASGI wrapper, because every request pays for it. A refusal costs less still: it is decided on the route and on
who seems to ask, before a body is read or a signature checked, and answered with bytes made beforehand.
"""

import base64
import re
import uuid
from typing import Any, Protocol
from zlib import crc32

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request

from actors.ids import user_hash
from cluster.gateway.admission import EXEMPT, MANY, Admission, kind_of
from cluster.gateway.auth import Auth
from cluster.gateway.problems import Problem, respond
from cluster.gateway.pulse import Pulse

_REQUEST_ID = re.compile(r"[!-~]{1,128}")
_ENCODE = msgspec.json.Encoder().encode


class _Claimed(msgspec.Struct):
    sub: str
    tenant: str


_CLAIMED = msgspec.json.Decoder(_Claimed)


class Gate(Protocol):
    """What the edge needs of a replica's service."""

    admission: Admission
    pulse: Pulse


class Edge:
    """The outermost layer of the app."""

    def __init__(
        self, app: Any, auth: Auth, gate: Gate, *, body_bytes_max: int, requests_max: int, stamps: bool
    ) -> None:
        """`stamps`: write X-Request-Id on responses; Serve does that itself, with the same id."""
        self._app = app
        self._auth = auth
        self._admission = gate.admission
        self._pulse = gate.pulse
        self._stamps = stamps
        self._body_bytes_max = body_bytes_max
        self._requests_max = requests_max
        self._under_way = 0
        self._refusal = _refusal()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, length, authorization, acting = _read_headers(scope)
        kind = kind_of(scope["method"], scope["path"])
        if kind != EXEMPT and not self._lets_in(kind, authorization, acting):
            await self._refuse(request_id, send)
            return
        scope["hongbao.request_id"] = request_id

        async def send_with_id(message: Any) -> None:
            if message["type"] == "http.response.start" and self._stamps:
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        if length > self._body_bytes_max:
            await respond(Request(scope), self._too_large())(scope, receive, send_with_id)
            return
        self._under_way += 1
        try:
            await self._app(scope, self._counting(receive), send_with_id)
        finally:
            self._under_way -= 1

    def _lets_in(self, kind: int, authorization: bytes, acting: bytes) -> bool:
        """Decide whether a request is looked at."""
        admission = self._admission
        if not self._pulse.beating:
            self._pulse.start()
        if self._under_way >= self._requests_max:
            admission.tally.full += 1
            return False
        if admission.calm:
            admission.accept(kind)
            return True
        return admission.admit(kind, 0 if kind == MANY else self._asker(authorization, acting))

    def _asker(self, authorization: bytes, acting: bytes) -> int:
        """Return the hash of the user for whom a request seems to be. Good for his place in the queue and nothing else.

        A token that nobody has verified yet is read as it is: whoever lies in it is let in to be told that he lied.
        """
        token = authorization[7:].strip().decode("latin-1")
        claims = self._auth.known(token)
        try:
            if claims is None:
                claimed = _CLAIMED.decode(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
                user, tenant = claimed.sub, claimed.tenant
            else:
                user, tenant = claims.user, claims.tenant
            return user_hash(tenant, acting.decode("latin-1") or user)
        except (msgspec.DecodeError, ValueError, IndexError):
            return crc32(authorization)

    async def _refuse(self, request_id: str, send: Any) -> None:
        """Tell to come again later. The body stays unread; the server drops it."""
        retry_after_ms = self._admission.retry_after_ms(request_id)
        body = b"%s,%s:%s,%s:%d}" % (
            self._refusal,
            b'"request_id"',
            _ENCODE(request_id),
            b'"retry_after_ms"',
            retry_after_ms,
        )
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", b"%d" % len(body)),
            (b"retry-after", b"%d" % -(-retry_after_ms // 1000)),
        ]
        if self._stamps:
            headers.append((b"x-request-id", request_id.encode()))
        await send({"type": "http.response.start", "status": 429, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _counting(self, receive: Any) -> Any:
        """Bound a body that does not tell its length."""
        read = 0

        async def receive_bounded() -> Any:
            nonlocal read
            message = await receive()
            if message["type"] == "http.request":
                read += len(message.get("body", b""))
                if read > self._body_bytes_max:
                    raise HTTPException(413, self._too_large().detail)  # the only kind that FastAPI lets through
            return message

        return receive_bounded

    def _too_large(self) -> Problem:
        return Problem("too_large", f"A body may have at most {self._body_bytes_max} bytes.")


def _refusal() -> bytes:
    """Return the part of a refusal that is always the same, without the last bracket."""
    problem = Problem("overloaded", "This gateway has more to do than it can; nothing was done, repeat it later.")
    body = msgspec.json.decode(bytes(respond(Request({"type": "http"}), problem).body))
    del body["request_id"], body["retry_after_ms"]
    return _ENCODE(body)[:-1]


def _read_headers(scope: Any) -> tuple[str, int, bytes, bytes]:
    """Return the request's id (the caller's, if it is a sound one), its declared length, its token and acting user."""
    request_id, length, authorization, acting = "", 0, b"", b""
    for name, text in scope["headers"]:
        if name == b"x-request-id":
            request_id = text.decode("latin-1")
        elif name == b"content-length" and text.isdigit():
            length = int(text)
        elif name == b"authorization":
            authorization = text
        elif name == b"x-acting-user":
            acting = text
    if not _REQUEST_ID.fullmatch(request_id):
        request_id = uuid.uuid4().hex
    return request_id, length, authorization, acting
