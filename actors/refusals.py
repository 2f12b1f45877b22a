"""Refusals: the codes of every business "no" of the platform's kinds. A code, once told, keeps its meaning.

The value is the `code` of the HTTP contract. The kernel's own are among them; it knows no other.
"""

from enum import StrEnum

from actors.kernel.messages import KernelRefusal
from actors.ledger.holds import HoldRefusal


class Refusal(StrEnum):
    """A business "no". The value is the `code` of the HTTP contract."""

    PACKET_NOT_FOUND = "packet_not_found"
    DRAINED = "drained"
    EXPIRED = "expired"
    NOT_ADDRESSEE = "not_addressee"
    NOT_MEMBER = "not_member"
    NOT_OPEN = "not_open"
    OWN_PACKET = "own_packet"
    DAY_LIMIT = "day_limit"
    WRONG_PASSPHRASE = "wrong_passphrase"
    RATE_LIMITED = KernelRefusal.RATE_LIMITED
    INSUFFICIENT_FUNDS = "insufficient_funds"
    COMMITMENT_NOT_FOUND = "commitment_not_found"
    BAD_TIMES = "bad_times"
    COMMITMENT_MISMATCH = "commitment_mismatch"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    HOLD_NOT_FOUND = HoldRefusal.HOLD_NOT_FOUND
    LISHI_NOT_FOUND = "lishi_not_found"
    LISHI_CLOSED = "lishi_closed"
    LISHI_LAPSED = "lishi_lapsed"
    OVERLOADED = KernelRefusal.OVERLOADED
    PAUSED = KernelRefusal.PAUSED
    SEED_UNKNOWN = "seed_unknown"
    JOURNAL_UNAVAILABLE = KernelRefusal.JOURNAL_UNAVAILABLE
    SHARD_UNAVAILABLE = KernelRefusal.SHARD_UNAVAILABLE
    OUT_OF_ORDER = KernelRefusal.OUT_OF_ORDER
