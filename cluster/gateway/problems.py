"""Problems: every answer that is not a success, as RFC 9457 `application/problem+json`.

One table from code to status. `retryable` means: the same request again, with the same key, may succeed.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from actors.kernel.messages import Refused
from actors.refusals import Refusal

RETRY_AFTER_MS = 1_000
"""What a refused caller is asked to wait where nothing better is known."""

RATE_LIMITED_AFTER_MS = 60_000
"""A user who tried too often waits for minutes, or a day: asking every second is in vain."""

MEDIA_TYPE = "application/problem+json"

NEVER_KEPT = (b"cache-control", b"no-store")
"""On every answer about somebody or to somebody: no cache on the way keeps it."""

FRAMES_MAX = 256
"""Problems kept encoded. A detail that names what was asked makes one more, so they are bounded."""

Answer = tuple[int, list[tuple[bytes, bytes]], bytes]
"""(status, headers, body)"""

R = TypeVar("R")

_ENCODE = msgspec.json.Encoder().encode

_TABLE: dict[str, tuple[int, str]] = {
    "malformed": (400, "The request is not valid JSON or HTTP"),
    "idempotency_key_missing": (400, "An Idempotency-Key header is required"),
    "unauthenticated": (401, "The caller is unknown"),
    "insufficient_funds": (402, "The wallet does not hold that much"),
    "payment_required": (402, "The price has not been paid"),
    "forbidden": (403, "The caller may not do this"),
    "packet_not_found": (404, "There is no such packet"),
    "lishi_not_found": (404, "There is no such request for a packet"),
    "photo_not_found": (404, "There is no such photo"),
    "commitment_not_found": (404, "There is no such commitment"),
    "route_not_found": (404, "There is no such route"),
    "method_not_allowed": (405, "The route does not know this method"),
    "not_addressee": (409, "The packet is for somebody else"),
    "not_member": (409, "The packet is for members of a group"),
    "wrong_passphrase": (409, "That is not the phrase"),
    "not_open": (409, "The packet does not open yet"),
    "own_packet": (409, "The packet is the caller's own"),
    "day_limit": (409, "No more shares leave today"),
    "rate_limited": (429, "That was tried too often"),
    "drained": (409, "The packet is empty"),
    "expired": (409, "The packet's time is over"),
    "lishi_closed": (409, "The request was answered otherwise"),
    "lishi_lapsed": (409, "The request's time is over"),
    "not_a_taker": (409, "The caller has no share of the packet"),
    "already_in_progress": (409, "The same request is still under way"),
    "too_slow": (408, "The request did not come in time"),
    "too_large": (413, "The request is too large"),
    "unsupported_media_type": (415, "The body is of a type that the route does not take"),
    "invalid": (422, "The request is not valid"),
    "bad_times": (422, "It opens too late, or a burst ends before now"),
    "commitment_mismatch": (422, "The commitment is for another algorithm, kind or count"),
    "idempotency_key_reused": (422, "The key belongs to another request"),
    "overloaded": (429, "Too much is under way"),
    "journal_unavailable": (503, "The store does not answer"),
    "shard_unavailable": (503, "The shard does not answer"),
    "gateway_unavailable": (503, "No gateway replica answers"),
    "draining": (503, "The gateway's replica is about to end"),
    "paused": (503, "The operator has paused this"),
    "seed_unknown": (503, "The packet's shares cannot be proven now"),
    "internal": (500, "Our own fault"),
}
_RETRYABLE = {
    "too_slow",
    "already_in_progress",
    "overloaded",
    "rate_limited",
    "not_open",
    "day_limit",
    "journal_unavailable",
    "shard_unavailable",
    "gateway_unavailable",
    "draining",
    "paused",
    "seed_unknown",
    "internal",
}


class Problem(Exception):
    """A request that ends with a problem. `detail` says what to do; `part`: whose part of a shared bound is full."""

    def __init__(self, code: str, detail: str = "", fields: dict[str, str] | None = None, part: str = "") -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail
        self.fields = fields
        self.part = part


_DETAILS: dict[str, str] = {
    Refusal.JOURNAL_UNAVAILABLE: "The outcome is not known yet; repeat the request with the same key.",
    Refusal.SHARD_UNAVAILABLE: "The outcome is not known yet; repeat the request with the same key.",
    Refusal.OVERLOADED: "Nothing was done; repeat the request later with the same key.",
    Refusal.COMMITMENT_NOT_FOUND: "It is used, over, or another's; ask for a new one.",
    Refusal.NOT_OPEN: "Ask again once it opens.",
    Refusal.DAY_LIMIT: "Ask again tomorrow.",
    Refusal.RATE_LIMITED: "Too many wrong phrases; try again later.",
    Refusal.PAUSED: "Nothing was done; repeat the request later with the same key.",
    Refusal.SEED_UNKNOWN: "No share leaves and nothing is lost; repeat the request later.",
}


_PART_DETAILS = {
    "user": "One user may hold a part of what all share, and yours is full; nothing was done, repeat it later.",
    "tenant": "One tenant may hold a part of what all share, and yours is full; nothing was done, repeat it later.",
}
"""Of a part of a shared bound that is full, see `actors.kernel.quota`."""


def refused(code: str, part: str = "") -> Problem:
    """Return the problem of a refusal by a shard."""
    return Problem(str(code), _PART_DETAILS.get(part) or _DETAILS.get(code, ""), part=part)


def expect(reply: Any, kind: type[R]) -> R:
    """Return a shard's reply if it is of that kind. Raises Problem for a refusal."""
    if isinstance(reply, Refused):
        raise refused(reply.code, reply.part)
    assert isinstance(reply, kind), f"{type(reply).__name__} is not a {kind.__name__}"
    return reply


@contextmanager
def told(code: Refusal, detail: str) -> Iterator[None]:
    """Say what a refusal means in one place, where its code means something else elsewhere."""
    try:
        yield
    except Problem as problem:
        if problem.code == code.value and not problem.part:
            problem.detail = detail
        raise


def internal() -> Problem:
    """Return the problem of our own bug."""
    return Problem("internal", "The failure is in the log under this request id.")


def answer(problem: Problem, request_id: str) -> Answer:
    """Write a problem."""
    status, headers, head, tail = _frame(problem.code, problem.detail)
    if problem.fields:
        tail = b',"fields":' + _ENCODE(problem.fields) + tail
    content = head + _ENCODE(request_id) + tail
    return status, [*headers, (b"content-length", b"%d" % len(content))], content


@lru_cache(maxsize=FRAMES_MAX)
def _frame(code: str, detail: str) -> tuple[int, list[tuple[bytes, bytes]], bytes, bytes]:
    """Encode all of a problem but its request id, once: status, headers, what comes before the id and after it."""
    status, title = _TABLE[code]
    body = {
        "type": f"urn:hongbao:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail or f"{title}.",
        "code": code,
        "retryable": code in _RETRYABLE,
    }
    headers = [(b"content-type", MEDIA_TYPE.encode()), NEVER_KEPT]
    tail = b"}"
    if status in (429, 503):
        after_ms = RATE_LIMITED_AFTER_MS if code == Refusal.RATE_LIMITED else RETRY_AFTER_MS
        headers.append((b"retry-after", b"%d" % -(-after_ms // 1000)))
        tail = b',"retry_after_ms":%d}' % after_ms
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return status, headers, _ENCODE(body)[:-1] + b',"request_id":', tail


def codes() -> list[str]:
    """Return every code that there is."""
    return list(_TABLE)


def status_of(code: str) -> int:
    """Return the status that a code comes with."""
    return _TABLE[code][0]


def example_of(code: str) -> dict[str, Any]:
    """Return a problem of that code, for the OpenAPI."""
    shown = refused(Refusal(code)) if code in list(Refusal) else Problem(code)
    if code == "invalid":
        shown = Problem(code, "Correct the named fields.", {"field": "what it must be"})
    problem: dict[str, Any] = msgspec.json.decode(answer(shown, "0f8fad5bd9cb469fa165708677289501")[2])
    return problem


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a problem."""
    return {
        "title": "Problem",
        "description": "Why a request was refused, and whether the same request may succeed later. Decide by `code`.",
        "type": "object",
        "required": ["type", "title", "status", "detail", "code", "retryable", "request_id"],
        "properties": {
            "type": {"type": "string", "description": "`urn:hongbao:problem:` and the code"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string", "description": "what to do"},
            "code": {"type": "string", "description": "stable; more may be added"},
            "retryable": {"type": "boolean", "description": "the same request, with the same key, may succeed"},
            "request_id": {"type": "string"},
            "retry_after_ms": {"type": "integer", "description": "of 429 and 503: when to ask again"},
            "fields": {
                "type": "object",
                "additionalProperties": {"type": "string"},
                "description": "of `invalid`: what each bad field must be, by its name",
            },
        },
    }
