"""Strict: what every route asks of a request's form, in one place: its media type, its JSON, its query, its method.

What could be read in two ways is refused, not read in one of them: JSON is UTF-8 without a byte order mark and says
each key of an object once; a whole number of a query is written in one way only; a path is a route's or nobody's.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError
from starlette.responses import Response

from cluster.gateway.problems import Problem
from cluster.gateway.raw_http import Headers, headers_of, read_body

JSON = "application/json"
UNTYPED = "application/octet-stream"
"""What a body is that tells no type (RFC 9110, 8.3); only pictures may be, they say themselves what they are."""

_JSON_TYPE = re.compile(
    rb'application/json\s*(?:;\s*charset\s*=\s*"?utf-8"?\s*|;(?!\s*charset\s*=)[^;]*)*', re.IGNORECASE
)
_WHOLE = re.compile("0|[1-9][0-9]*")
_KEY_CHARS_MAX = 64


# Media types.


def check_json_type(headers: Headers) -> None:
    """Refuse a body that is not JSON in UTF-8 by its own word. Raises Problem."""
    if not _JSON_TYPE.fullmatch(headers.get(b"content-type", b"")) or b"content-encoding" in headers:
        raise _unsupported(JSON)


def check_type(headers: Headers, accepted: Sequence[str]) -> None:
    """Refuse a body of a type that a route does not take. Raises Problem."""
    told = headers.get(b"content-type", UNTYPED.encode()).partition(b";")[0].strip().lower()
    if told.decode("latin-1") not in accepted or b"content-encoding" in headers:
        raise _unsupported(*accepted)


def _unsupported(*accepted: str) -> Problem:
    return Problem("unsupported_media_type", f"Send the body as it is, with Content-Type: {' or '.join(accepted)}.")


# JSON.


class Twice:
    """Stands for an object that says these keys more than once."""

    def __init__(self, keys: list[str]) -> None:
        self.keys = keys


def _marked(pairs: list[tuple[str, Any]]) -> dict[str, Any] | Twice:
    told = dict(pairs)
    if len(told) == len(pairs):
        return told
    return Twice([key for key, count in Counter(key for key, _ in pairs).items() if count > 1])


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    told = _marked(pairs)
    if isinstance(told, Twice):
        key = told.keys[0][:_KEY_CHARS_MAX].encode(errors="replace").decode()
        raise Problem("malformed", f"An object says its key {key} twice; say each once.")
    return told


_ONCE, _MARKED = json.JSONDecoder(object_pairs_hook=_once), json.JSONDecoder(object_pairs_hook=_marked)


def read_json(body: bytes) -> Any:
    """Return what a body says. Raises Problem, also for a key that is there twice in one object."""
    return _decoded(_ONCE, body)


def read_marked(body: bytes) -> Any:
    """Return what a body says, with `Twice` in the place of an object that says a key twice. Raises Problem."""
    return _decoded(_MARKED, body)


def texts_in(body: bytes) -> int:
    """Return how many texts well-formed JSON has, keys included; -1 if that is not plain to see.

    Counting costs a fraction of decoding: if the keys and texts that were decoded are all there are, then no object
    says a key twice.
    """
    return -1 if b'\\"' in body else body.count(b'"') // 2


def _decoded(decoder: json.JSONDecoder, body: bytes) -> Any:
    try:
        return decoder.decode(body.decode())
    except (ValueError, RecursionError) as failure:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise Problem("malformed", "The body is not valid JSON in UTF-8 (without a byte order mark).") from failure


# Queries.


def _check_whole(told: Any) -> Any:
    if isinstance(told, str) and not _WHOLE.fullmatch(told):
        raise PydanticCustomError("whole_number", "a whole number, in digits alone")
    return told


Whole = Annotated[int, BeforeValidator(_check_whole)]
"""A whole number of a query, from 0, written in one way: no sign, no leading zeros, no blanks."""


def is_whole(text: str) -> bool:
    """Tell whether a text is a whole number from 0, written in one way."""
    return _WHOLE.fullmatch(text) is not None


def _check_query(query: bytes) -> None:
    names = Counter(name for name, _ in parse_qsl(query.decode("latin-1"), keep_blank_values=True))
    twice = {name[:_KEY_CHARS_MAX]: "once" for name, count in names.items() if count > 1}
    if twice:
        raise Problem("invalid", "Say each parameter of the query once.", dict(list(twice.items())[:20]))


# Routes.


class _Read(Request):
    """A request whose body has been read."""

    def __init__(self, scope: Any, content: bytes, told: Any) -> None:
        super().__init__(scope)
        self._content, self._told = content, told

    async def body(self) -> bytes:
        """Return its bytes."""
        return self._content

    async def json(self) -> Any:
        """Return what they say."""
        return self._told


async def _read(request: Request) -> Request:
    content = await read_body(request.receive)
    if not content:
        return _Read(request.scope, content, None)
    check_json_type(headers_of(request.scope))
    return _Read(request.scope, content, read_json(content))


class StrictRoute(APIRoute):
    """A route that takes what its OpenAPI says, in the form that this module asks for."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request of this route."""
        handle = super().get_route_handler()
        content = (self.openapi_extra or {}).get("requestBody", {}).get("content")
        types = (*content, UNTYPED) if content else ()

        async def strictly(request: Request) -> Response:
            if request.scope["query_string"]:
                _check_query(request.scope["query_string"])
            if types:
                check_type(headers_of(request.scope), types)
            elif self.body_field is not None:
                request = await _read(request)
            return await handle(request)

        return strictly


class StrictRouter(APIRouter):
    """A router of strict routes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(route_class=StrictRoute, redirect_slashes=False, **options)


class HeadAsGet:
    """An ASGI layer: answers HEAD as GET, without the body."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_head(message: Any) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        # A copy: the server beneath looks at its own, and must not write a body either.
        await self._app({**scope, "method": "GET"}, receive, send_head)
