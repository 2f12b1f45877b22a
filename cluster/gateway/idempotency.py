"""Keyed: what routes have in common that take effect once an idempotency key."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from cluster.gateway import responses
from cluster.gateway.headers import IDEMPOTENCY_KEY_BYTES_MAX, read_key
from cluster.gateway.raw_http import headers_of

KEY_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": IDEMPOTENCY_KEY_BYTES_MAX},
}
"""The header, for the OpenAPI."""

REPLAYED = {"idempotent-replayed": "true"}


def key_of(request: Request) -> str:
    """Return a request's idempotency key. Raises Problem."""
    return read_key(headers_of(request.scope).get(b"idempotency-key", b""))


def told_once(body: Any, *, replayed: bool, location: str = "") -> Response:
    """Answer a request that took effect, or had taken effect before. `location`: of what it made (201); "": nothing."""
    headers = (REPLAYED if replayed else {}) | ({"location": location} if location else {})
    return responses.json_response(body, 201 if location else 200, headers)
