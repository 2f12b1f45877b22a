"""History: what every client asked and what it was told, in memory for the checker and as NDJSON for people.

One line for each attempt, written when it is over; an attempt that was broken off counts as unknown. Whoever repeats a
request repeats its identity: (user, key) of a send, (packet, user) of a grab.

| outcome | what the client knows |
|---|---|
| `ok` | it happened, as told |
| `refused` | it did not happen, and why |
| `later` | it did not happen now; the same request may pass later (409 and 429, retryable) |
| `unknown` | nothing: no answer, or a 5xx behind which an effect may hide |

Times are microseconds of a monotonic clock since the run began; amounts fen; ranks count from 1.
"""

import time
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


class Send(Attempt, tag="send", kw_only=True):
    """A packet sent under a key. `packet_id` if told; `open`: the answer meant that it can be grabbed."""

    key: str
    kind: str
    total_fen: int
    count: int
    packet_id: str = ""
    open: bool = False


class Grab(Attempt, tag="grab", kw_only=True):
    """A share asked for."""

    packet_id: str
    rank: int = 0
    amount_fen: int = 0


class View(Attempt, tag="view", kw_only=True):
    """A packet looked at by its sender, who sees the whole list."""

    packet_id: str
    state: str = ""
    grabbed_fen: int = 0
    shares: list[Share] = []


class Balance(Attempt, tag="wallet", kw_only=True):
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

    def __init__(self, path: Path) -> None:
        """Write to `path`, a new file."""
        self.attempts: list[Attempt] = []
        self._began_ns = time.monotonic_ns()
        self._encoder = msgspec.json.Encoder()
        self._file = path.open("wb")

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
        self._file.write(self._encoder.encode(attempt) + b"\n")

    def mark(self, fault: FaultLine) -> None:
        """Note a fault between the attempts."""
        self._file.write(self._encoder.encode(fault) + b"\n")

    def close(self) -> None:
        """Finish the file."""
        self._file.close()
