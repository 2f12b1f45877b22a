"""Contract: who may call each route, and with which codes it refuses. The OpenAPI document is written from it.

A route stands here under its operation id, which is the name of its function. The table holds what a route refuses by
itself; what follows from who calls it, from its body or from its key is added by `refusals_of`. A test asks every
answer that any test gets whether it stands here.
"""

from collections.abc import Iterable
from typing import NamedTuple

from cluster.gateway.problems import status_of
from cluster.tokens import GATEWAY_SCOPE, OPERATOR_SCOPE, USER_SCOPE


class Operation(NamedTuple):
    """One route: the scopes of the tokens that open it (none: it is open to all), and its own refusals."""

    scopes: tuple[str, ...]
    refusals: tuple[str, ...]

    @property
    def acts(self) -> bool:
        """Tell whether it acts for a user, whom a gateway's token may name."""
        return USER_SCOPE in self.scopes


_ALL = ()
_USERS = (USER_SCOPE, GATEWAY_SCOPE)
_GATEWAYS = (GATEWAY_SCOPE,)
_OPERATORS = (OPERATOR_SCOPE,)

EVERYWHERE = ("malformed", "too_large", "overloaded", "internal")
"""What any request may hear: a head that cannot be read, a body beyond its bound, a replica with more to do than it
can, our own bug."""
ELSEWHERE = ("route_not_found", "method_not_allowed")
"""What is heard where there is no operation."""

_UNKNOWN = ("journal_unavailable", "shard_unavailable")
_PACKET = (*_UNKNOWN, "packet_not_found", "seed_unknown")
_LISHI = (*_UNKNOWN, "lishi_not_found")
_PHOTO = (*_UNKNOWN, "photo_not_found")
_SEND = (*_UNKNOWN, "paused", "seed_unknown", "insufficient_funds", "idempotency_key_reused")
_COMMITTED = ("commitment_not_found", "commitment_mismatch", "bad_times")
_TAKE = (
    *_PACKET,
    *("paused", "drained", "expired", "not_addressee", "not_member", "wrong_passphrase", "rate_limited", "not_open"),
    *("own_packet", "day_limit"),
)
_ANSWER = (*_LISHI, "lishi_closed", "lishi_lapsed")

OPERATIONS = {
    "send_packet": Operation(_USERS, (*_SEND, *_COMMITTED)),
    "read_packet": Operation(_USERS, _PACKET),
    "read_proof": Operation(_USERS, _PACKET),
    "write_note": Operation(_USERS, (*_PACKET, "not_a_taker", "rate_limited")),
    "commit": Operation(_USERS, (*_UNKNOWN, "commitment_not_found", "rate_limited")),
    "grab": Operation(_USERS, _TAKE),
    "grab_batch": Operation(_GATEWAYS, _UNKNOWN),
    "grab_stream": Operation(_GATEWAYS, ("draining",)),
    "send_rain": Operation(_USERS, (*_SEND, *_COMMITTED)),
    "read_rain": Operation(_USERS, _PACKET),
    "ask_lishi": Operation(_USERS, (*_UNKNOWN, "idempotency_key_reused", "rate_limited", "lishi_lapsed")),
    "list_lishi": Operation(_USERS, _UNKNOWN),
    "read_lishi": Operation(_USERS, _LISHI),
    "accept_lishi": Operation(_USERS, (*_ANSWER, *_SEND)),
    "decline_lishi": Operation(_USERS, _ANSWER),
    "upload_photo": Operation(_USERS, (*_UNKNOWN, "idempotency_key_reused")),
    "read_photo": Operation(_USERS, _PHOTO),
    "read_blurred_photo": Operation(_USERS, _PHOTO),
    "read_clear_photo": Operation(_USERS, (*_PHOTO, "payment_required", "seed_unknown")),
    "pay_photo": Operation(_USERS, (*_PHOTO, *_SEND, "own_packet")),
    "read_wallet": Operation(_USERS, _UNKNOWN),
    "read_statement": Operation(_USERS, _UNKNOWN),
    "read_audit": Operation(_OPERATORS, _UNKNOWN),
    "read_figures": Operation(_OPERATORS, _UNKNOWN),
    "read_levers": Operation(_OPERATORS, _UNKNOWN),
    "set_sends_lever": Operation(_OPERATORS, _UNKNOWN),
    "set_grabs_lever": Operation(_OPERATORS, _UNKNOWN),
    "set_packet_lever": Operation(_OPERATORS, (*_PACKET, "drained", "expired")),
    "create_user": Operation(_OPERATORS, _UNKNOWN),
    "advance_clock": Operation(_OPERATORS, _UNKNOWN),
    "alive": Operation(_ALL, ()),
    "ready": Operation(_ALL, _UNKNOWN),
}


def refusals_of(name: str, *, keyed: bool, body: bool, asked: bool) -> dict[int, list[str]]:
    """Return the codes with which an operation refuses, by status, both in order.

    `keyed`: it takes an Idempotency-Key; `body`: it reads one; `asked`: it has parameters that can be wrong.
    """
    operation = OPERATIONS[name]
    codes: set[str] = {*EVERYWHERE, *operation.refusals}
    if operation.scopes:
        codes |= {"unauthenticated", "forbidden"}
    if operation.acts or keyed or body or asked:
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
