"""Wire: a request's bytes in and out, without a framework: its headers read once, its answer written in two messages.

What the hot routes share. `Answer` is (status, headers, body).
"""

from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException

from cluster.gateway.problems import NEVER_KEPT, Answer, Problem

Headers = Mapping[bytes, bytes]

BODY_CODES = {408: "too_slow", 413: "too_large"}
"""What `cluster.gateway.middleware.body_reader` refuses."""

_JSON = (b"content-type", b"application/json")


def headers_of(scope: Any) -> Headers:
    """Return a request's headers: what is read of them is there once, the edge and the server see to it."""
    headers: Headers | None = scope.get("hongbao.headers")
    if headers is None:
        headers = scope["hongbao.headers"] = dict(scope["headers"])
    return headers


async def read_body(receive: Any) -> bytes:
    """Read a body. Raises Problem if its sender went away."""
    chunks: list[bytes] = []
    while True:
        try:
            message = await receive()
        except HTTPException as failure:  # the edge bounds it, and says so in FastAPI's words
            raise Problem(BODY_CODES[failure.status_code], failure.detail) from failure
        if message["type"] == "http.disconnect":
            raise Problem("malformed", "The request ended before its body.")
        chunks.append(message.get("body", b""))
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def json_answer(content: bytes, status: int = 200, *more: tuple[bytes, bytes]) -> Answer:
    """Put JSON, already encoded, into an answer; `more`: further headers."""
    return status, [_JSON, NEVER_KEPT, (b"content-length", b"%d" % len(content)), *more], content


async def write(send: Any, answer: Answer) -> None:
    """Send an answer."""
    status, headers, content = answer
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
