"""Client: the HTTP contract of the platform for Python programs: async, typed, without imports of the platform's own.

- An answer is a value: a struct of `cluster.client.answers`, or an `ApiProblem`. What a server does raises nothing.
- A request has one identity. A retry carries the same `Idempotency-Key` (grabs are identified by packet and user),
  waits with backoff and jitter, never before `Retry-After`, and ends at the deadline.
- `ApiProblem.unknown` is an outcome: an attempt may have taken effect. The same request with the same key tells.
- Amounts are integer fen, instants and durations in a name with `_ms` milliseconds, deadlines seconds.
"""

from cluster.client.answers import (
    AuditAnswer,
    BatchAnswer,
    BurstAnswer,
    CommitmentAnswer,
    GrabAnswer,
    ItemAnswer,
    LishiAnswer,
    LuckiestAnswer,
    NoteAnswer,
    PacketAnswer,
    PausedSwitch,
    PaymentAnswer,
    PhotoAnswer,
    RainAnswer,
    StatementAnswer,
    StatementRow,
    TakenShare,
    UserAnswer,
    WalletAnswer,
)
from cluster.client.client import Client
from cluster.client.orders import BurstOrder, GrabOrder, PacketOrder, RainOrder
from cluster.client.problems import BROKEN_CONTRACT, NO_ANSWER, RETRYABLE_ITEM_CODES, ApiProblem, problem_of
from cluster.client.stream import GrabStream, LineAnswer
from cluster.client.transport import BACKOFF_MS_MAX, BACKOFF_MS_MIN, BATCH_SIZE_MAX, Backoff, RawAnswer

__all__ = [
    "BACKOFF_MS_MAX",
    "BACKOFF_MS_MIN",
    "BATCH_SIZE_MAX",
    "BROKEN_CONTRACT",
    "NO_ANSWER",
    "RETRYABLE_ITEM_CODES",
    "ApiProblem",
    "AuditAnswer",
    "Backoff",
    "BatchAnswer",
    "BurstAnswer",
    "BurstOrder",
    "Client",
    "CommitmentAnswer",
    "GrabAnswer",
    "GrabOrder",
    "GrabStream",
    "ItemAnswer",
    "LineAnswer",
    "LishiAnswer",
    "LuckiestAnswer",
    "NoteAnswer",
    "PacketAnswer",
    "PacketOrder",
    "PausedSwitch",
    "PaymentAnswer",
    "PhotoAnswer",
    "RainAnswer",
    "RainOrder",
    "RawAnswer",
    "StatementAnswer",
    "StatementRow",
    "TakenShare",
    "UserAnswer",
    "WalletAnswer",
    "problem_of",
]
