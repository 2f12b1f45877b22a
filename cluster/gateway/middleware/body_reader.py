"""Incoming: a request's body on its way in: bounded in bytes and in time, whoever reads it.

A small body is JSON, and its parts (commas and colons) are counted before anybody decodes it: of twenty thousand
unknown fields each would be named. Half a body holds a place until its deadline, so every body has one. A body that
tells its length is as long as that (the server sees to it); one that does not is counted.
"""

import asyncio
from typing import Any

from starlette.exceptions import HTTPException

from cluster.gateway.problems import Problem
from cluster.gateway.raw_http import Headers

_DIGITS_MAX = 18
"""Of a length that is told, zeros in front of it included."""


def has_body(headers: Headers) -> bool:
    """Tell whether a request announces a body."""
    return b"transfer-encoding" in headers or headers.get(b"content-length", b"0") != b"0"


def check_length(headers: Headers, bytes_max: int) -> None:
    """Refuse a body by the length that it tells, before any of it is read. Raises Problem."""
    told = headers.get(b"content-length", b"")
    if told.isdigit() and (len(told) > _DIGITS_MAX or int(told) > bytes_max):
        raise Problem("too_large", _too_large(bytes_max))


def bounded(receive: Any, headers: Headers, bytes_max: int, parts_max: int | None, until_s: float) -> Any:
    """Return what reads the body; it must have come by then, on the loop's clock. `parts_max` None: it has none."""
    told = headers.get(b"content-length", b"")
    counted = not told.isdigit() or b"transfer-encoding" in headers
    read, parts, whole = 0, 0, False

    async def receive_bounded() -> Any:
        nonlocal read, parts, whole
        if whole:  # what is awaited now is the end of the connection
            return await receive()
        try:
            async with asyncio.timeout_at(until_s):
                message = await receive()
        except TimeoutError as late:
            # An HTTPException is the only kind that FastAPI lets through.
            raise HTTPException(408, "The body did not come in time; nothing was done, send it at once.") from late
        whole = not message.get("more_body", False)
        body = message.get("body", b"")
        if counted:
            read += len(body)
            if read > bytes_max:
                raise HTTPException(413, _too_large(bytes_max))
        if parts_max is not None:
            parts += body.count(b",") + body.count(b":")
            if parts > parts_max:
                raise HTTPException(413, f"A body may have at most {parts_max} commas and colons.")
        return message

    return receive_bounded


def _too_large(bytes_max: int) -> str:
    return f"A body may have at most {bytes_max} bytes."
