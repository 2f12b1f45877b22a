"""Contract: with which codes each route refuses. The OpenAPI document is written from it, and from `doors`.

A route stands here under its operation id, which is the name of its function. The table holds what a route refuses by
itself; what follows from who calls it, from its body or from its key is added by `refusals_of`. Every answer that any
test gets is judged by it.
"""

from collections.abc import Iterable

from cluster.gateway.problems import status_of
from cluster.gateway.routing import Callers, door_of
from cluster.tokens import GATEWAY_SCOPE, OPERATOR_SCOPE, USER_SCOPE

_SCOPES = {
    Callers.PUBLIC: (),
    Callers.USERS: (USER_SCOPE, GATEWAY_SCOPE),
    Callers.GATEWAYS: (GATEWAY_SCOPE,),
    Callers.OPERATORS: (OPERATOR_SCOPE,),
}
EVERYWHERE = ("malformed", "too_large", "overloaded", "gateway_unavailable", "internal")
"""What any request may hear: a head that cannot be read, a body beyond its bound, a replica with more to do than it
can, no replica at all, our own bug."""
ELSEWHERE = ("route_not_found", "method_not_allowed")
"""What is heard where there is no operation."""

_UNKNOWN = ("journal_unavailable", "shard_unavailable")
_PACKET = (*_UNKNOWN, "packet_not_found", "seed_unknown")
_LISHI = (*_UNKNOWN, "lishi_not_found")
_PHOTO = (*_UNKNOWN, "photo_not_found")
_SEND = (*_UNKNOWN, "paused", "seed_unknown", "insufficient_funds", "idempotency_key_reused", "rate_limited")
_COMMITTED = ("commitment_not_found", "commitment_mismatch", "bad_times")
_TAKE = (
    *_PACKET,
    *("paused", "drained", "expired", "not_addressee", "not_member", "wrong_passphrase", "rate_limited", "not_open"),
    *("own_packet", "day_limit"),
)
_ANSWER = (*_LISHI, "lishi_closed", "lishi_lapsed")

REFUSALS: dict[str, tuple[str, ...]] = {
    "send_packet": (*_SEND, *_COMMITTED),
    "read_packet": _PACKET,
    "read_proof": _PACKET,
    "write_note": (*_PACKET, "not_a_taker", "rate_limited"),
    "commit": (*_UNKNOWN, "commitment_not_found", "rate_limited"),
    "grab": _TAKE,
    "grab_batch": _UNKNOWN,
    "grab_stream": ("draining",),
    "send_rain": (*_SEND, *_COMMITTED),
    "read_rain": _PACKET,
    "ask_lishi": (*_UNKNOWN, "idempotency_key_reused", "rate_limited", "lishi_lapsed"),
    "list_lishi": _UNKNOWN,
    "read_lishi": _LISHI,
    "accept_lishi": (*_ANSWER, *_SEND),
    "decline_lishi": _ANSWER,
    "upload_photo": (*_UNKNOWN, "idempotency_key_reused", "rate_limited"),
    "read_photo": _PHOTO,
    "read_blurred_photo": _PHOTO,
    "read_clear_photo": (*_PHOTO, "payment_required", "seed_unknown"),
    "pay_photo": (*_PHOTO, *_SEND, "own_packet"),
    "read_wallet": _UNKNOWN,
    "read_statement": _UNKNOWN,
    "read_audit": _UNKNOWN,
    "read_figures": _UNKNOWN,
    "read_levers": _UNKNOWN,
    "set_sends_lever": _UNKNOWN,
    "set_grabs_lever": _UNKNOWN,
    "set_packet_lever": (*_PACKET, "drained", "expired"),
    "create_user": _UNKNOWN,
    "advance_clock": _UNKNOWN,
    "alive": (),
    "ready": _UNKNOWN,
}


def scopes_of(method: str, path: str) -> tuple[str, ...]:
    """Return the scopes of the tokens that open a route; none: it is open to all."""
    return _SCOPES[door_of(method, path).callers]


def refusals_of(name: str, scopes: tuple[str, ...], *, keyed: bool, body: bool, asked: bool) -> dict[int, list[str]]:
    """Return the codes with which an operation refuses, by status, both in order.

    `keyed`: it takes an Idempotency-Key; `body`: it reads one; `asked`: it has parameters that can be wrong.
    """
    codes: set[str] = {*EVERYWHERE, *REFUSALS[name]}
    if scopes:
        codes |= {"unauthenticated", "forbidden"}
    if USER_SCOPE in scopes or keyed or body or asked:
        codes.add("invalid")
    if keyed:
        codes.add("idempotency_key_missing")
    if body:
        codes |= {"too_slow", "unsupported_media_type"}
    return _by_status(codes)


def _by_status(codes: Iterable[str]) -> dict[int, list[str]]:
    by_status: dict[int, list[str]] = {}
    for status, code in sorted((status_of(code), code) for code in codes):
        by_status.setdefault(status, []).append(code)
    return by_status
