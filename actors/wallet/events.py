"""Wallet events: what happens in a wallet stream, as its journal holds it for ever.

A field is only ever added at the end, with a default. Amounts in fen, instants in Unix ms.
"""

from typing import Literal

import msgspec

from actors.transfers.payout import PayoutRun


class RunsReceived(msgspec.Struct, frozen=True, array_like=True, tag="runs_received"):
    """The wallet stream took the next transfers of one packet stream: `transit -> change`, watermark included."""

    source: str
    runs: list[PayoutRun]
    at_ms: int


class Committed(msgspec.Struct, frozen=True, array_like=True, tag="committed"):
    """The platform committed to the seed of a packet that is not sent yet. No money moves. Also replies to `Commit`.

    Of a packet in lanes, or of a rain, `commitment` is the first one's and `further` are those after it, in order.
    """

    packet_id: str
    tenant: str
    user: str
    algorithm: str
    key_id: str
    commitment: bytes
    at_ms: int
    expires_at_ms: int
    star_count: int = 0
    bursts: int = 0
    further: list[bytes] = []

    @property
    def commitments(self) -> list[bytes]:
        """All of them, in order."""
        return [self.commitment, *self.further]


class LishiCounted(msgspec.Struct, frozen=True, array_like=True, tag="lishi_counted"):
    """In the asker's stream: they are about to ask that user. No money moves."""

    tenant: str
    asker: str
    asked: str
    key: str
    at_ms: int


class LishiAsked(msgspec.Struct, frozen=True, array_like=True, tag="lishi_asked"):
    """Somebody asked for a packet. No money moves."""

    lishi_id: str
    tenant: str
    asker: str
    asked: str
    greeting: str
    at_ms: int
    lapses_at_ms: int
    counted_ms: int = 0
    """The stamp of its `LishiCounted`, which is in the asker's stream."""


class LishiClosed(msgspec.Struct, frozen=True, array_like=True, tag="lishi_closed"):
    """A lishi was answered, or its time is over. Accepted: the `PacketFunded` behind it in the same entry pays."""

    lishi_id: str
    outcome: Literal["accepted", "declined", "lapsed"]
    at_ms: int
    packet_id: str = ""


class Noted(msgspec.Struct, frozen=True, array_like=True, tag="noted"):
    """A taker of a packet wrote to its sender; this replaces their note before. No money moves."""

    packet_id: str
    user: str
    text: str
    at_ms: int
    tenant: str = ""


class PhotoKept(msgspec.Struct, frozen=True, array_like=True, tag="photo_kept"):
    """In the owner's stream: a photo of theirs takes so many bytes, for ever. No money moves."""

    photo_id: str
    tenant: str
    user: str
    size_bytes: int
    at_ms: int


class SandboxCredited(msgspec.Struct, frozen=True, array_like=True, tag="sandbox_credited"):
    """The faucet paid a new user: `faucet -> change`. Zero makes an empty account."""

    tenant: str
    user: str
    amount_fen: int
    at_ms: int
