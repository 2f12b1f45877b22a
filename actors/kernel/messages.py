"""Messages: what the kernel asks, answers and journals in every stream. The rest is transfers and switches."""

from enum import StrEnum

import msgspec


class KernelRefusal(StrEnum):
    """A "no" that any stream may answer."""

    RATE_LIMITED = "rate_limited"
    """One user's part of a bound is full."""
    OVERLOADED = "overloaded"
    """A bound is full, or one tenant's part of it."""
    PAUSED = "paused"
    """A switch is on."""
    JOURNAL_UNAVAILABLE = "journal_unavailable"
    SHARD_UNAVAILABLE = "shard_unavailable"
    OUT_OF_ORDER = "out_of_order"


class Refused(msgspec.Struct, frozen=True, array_like=True, tag="refused"):
    """The reply that carries a refusal. `part`: whose part of a bound is full (`actors.kernel.quota`), or empty."""

    code: str
    part: str = ""


class Done(msgspec.Struct, frozen=True, array_like=True, tag="done"):
    """Reply: it is so, durably."""


class AdoptSnapshot(msgspec.Struct, frozen=True, array_like=True, tag="adopt_snapshot"):
    """Command to any stream: a snapshot of this version, up to this position, has been written and verified."""

    epoch: int
    seq: int
    version: int
    work: int
    """What a replay up to there costs: see `actors.kernel.machine`."""


class SnapshotTaken(msgspec.Struct, frozen=True, array_like=True, tag="snapshot_taken"):
    """A snapshot of the stream up to the named position was written and verified; activation may start from it."""

    epoch: int
    seq: int
