"""Keyed: what routes have in common that take effect once an idempotency key."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from cluster.gateway import answers
from cluster.gateway.problems import Problem
from cluster.gateway.wire import headers_of

IDEMPOTENCY_KEY_CHARS_MAX = 255
KEY_PARAMETER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": IDEMPOTENCY_KEY_CHARS_MAX},
}
"""The header, for the OpenAPI."""

REPLAYED = {"idempotent-replayed": "true"}


def check_key(key: bytes) -> str:
    """Return the idempotency key. Raises Problem."""
    if not key:
        raise Problem("idempotency_key_missing", "Send an Idempotency-Key header, a fresh one for every new send.")
    if len(key) > IDEMPOTENCY_KEY_CHARS_MAX:
        limit = f"at most {IDEMPOTENCY_KEY_CHARS_MAX} characters"
        raise Problem("invalid", "The idempotency key is too long.", {"Idempotency-Key": limit})
    return key.decode("latin-1")


def key_of(request: Request) -> str:
    """Return a request's idempotency key. Raises Problem."""
    return check_key(headers_of(request.scope).get(b"idempotency-key", b""))


def told_once(body: Any, *, replayed: bool, status: int = 201) -> Response:
    """Answer a request that took effect, or had taken effect before."""
    return answers.json_response(body, status, REPLAYED if replayed else None)
