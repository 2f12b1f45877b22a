"""Responses: the structs of the contract modules as answers."""

from typing import Any

import msgspec

from cluster.gateway.problems import Answer
from cluster.gateway.raw_http import json_answer

REPLAYED = (b"idempotent-replayed", b"true")

_ENCODE = msgspec.json.Encoder().encode


def respond(reply: Any, status: int = 200) -> Answer:
    """Answer with any value that msgspec encodes."""
    return json_answer(_ENCODE(reply), status)


def respond_once(reply: Any, *, replayed: bool, location: str = "") -> Answer:
    """Answer a request that took effect, or had taken effect before. `location`: of what it made (201); "": nothing."""
    headers = [REPLAYED] if replayed else []
    if location:
        headers.append((b"location", location.encode()))
    return json_answer(_ENCODE(reply), 201 if location else 200, *headers)
