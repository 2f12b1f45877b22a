"""History: what every client asked and what it was answered, in memory for the oracle and as NDJSON for people.

One line per attempt, written when it is over; an attempt that was broken off counts as unknown. A repeat carries the
identity of the first: (user, key) of a send, (packet, user) of a grab.

| outcome | what the client knows |
|---|---|
| `ok` | it happened, as told |
| `refused` | it did not happen, and why |
| `later` | it did not happen now; the same request may pass later (409 and 429, retryable) |
| `unknown` | nothing: no answer, or a 5xx behind which an effect may hide |

Times are microseconds of a monotonic clock since the run began; amounts fen; ranks count from 1.
"""

import os
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

ATTEMPTS_MAX = 300_000
"""The crowd stops asking there; the end of the run may still add what it must."""

Outcome = Literal["ok", "refused", "later", "unknown"]
Share = tuple[str, int, int]
"""(user, rank, amount) of one line of a packet's list."""


class Attempt(msgspec.Struct, kw_only=True, tag_field="what"):
    """One request and what came of it. `via` is "http", or "rival": a second actor on the same streams."""

    user: str
    asked_us: int
    answered_us: int = 0
    outcome: Outcome = "unknown"
    status: int = 0
    code: str = ""
    via: str = "http"


class SendAttempt(Attempt, tag="send", kw_only=True):
    """A packet sent under a key. `packet_id` if told; `open`: the answer meant that it can be grabbed."""

    key: str
    kind: str
    total_fen: int
    count: int
    packet_id: str = ""
    open: bool = False


class GrabAttempt(Attempt, tag="grab", kw_only=True):
    """A share asked for."""

    packet_id: str
    rank: int = 0
    amount_fen: int = 0


class ViewAttempt(Attempt, tag="view", kw_only=True):
    """A packet read by somebody; `count` is 0 where the size was not noted."""

    packet_id: str
    state: str = ""
    total_fen: int = 0
    count: int = 0
    grabbed_count: int = 0
    grabbed_fen: int = 0
    refunded_fen: int = 0
    shares: list[Share] | None = []
    """None: the reader is not shown the list."""


class BalanceAttempt(Attempt, tag="wallet", kw_only=True):
    """A wallet looked at by its owner."""

    available_fen: int = 0
    held_fen: int = 0


class FaultLine(msgspec.Struct, kw_only=True, tag="fault", tag_field="what"):
    """What was done to the system, and when it served again (None: it never did)."""

    kind: str
    at_us: int
    recovery_ms: int | None
    note: str = ""


class History:
    """All attempts of a run, in the order in which they ended."""

    def __init__(self, path: Path | None = None, before: Iterable[Attempt] = ()) -> None:
        """Write to `path`, a new file; None: nowhere. `before`: attempts of other processes, which are over."""
        self.attempts: list[Attempt] = list(before)
        self.outcomes: Counter[tuple[type[Attempt], Outcome]] = Counter()
        last_us = max((attempt.answered_us for attempt in self.attempts), default=0)
        self._began_ns = time.monotonic_ns() - 1_000 * last_us
        self._encoder = msgspec.json.Encoder()
        self._file = (path or Path(os.devnull)).open("wb")

    def now_us(self) -> int:
        """Return the time of the run."""
        return (time.monotonic_ns() - self._began_ns) // 1_000

    @property
    def full(self) -> bool:
        """Whether the crowd has asked enough."""
        return len(self.attempts) >= ATTEMPTS_MAX

    def add(self, attempt: Attempt) -> None:
        """Enter an attempt that is over."""
        attempt.answered_us = self.now_us()
        self.attempts.append(attempt)
        self.outcomes[type(attempt), attempt.outcome] += 1
        self._file.write(self._encoder.encode(attempt) + b"\n")

    def mark(self, fault: FaultLine) -> None:
        """Note a fault between the attempts."""
        self._file.write(self._encoder.encode(fault) + b"\n")

    def close(self) -> None:
        """Finish the file."""
        self._file.close()


def wins_of(attempts: Iterable[Attempt]) -> dict[tuple[str, str], GrabAttempt]:
    """Return the first answer that told of a share, by (packet id, user)."""
    wins: dict[tuple[str, str], GrabAttempt] = {}
    for attempt in attempts:
        if isinstance(attempt, GrabAttempt) and attempt.outcome == "ok":
            wins.setdefault((attempt.packet_id, attempt.user), attempt)
    return wins
