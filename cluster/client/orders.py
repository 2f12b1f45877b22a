"""Orders: the bodies of requests. A field that is None is not sent. The contract says which kind takes which field."""

import msgspec


class PacketOrder(msgspec.Struct, frozen=True, omit_defaults=True):
    """A packet to send: `lucky`, `equal`, `direct`, `group`, `password` or `star`."""

    kind: str
    total_fen: int
    count: int
    greeting: str | None = None
    shares: str | None = None
    algorithm: str | None = None
    commitment_id: str | None = None
    sender_nonce: str | None = None
    addressee: str | None = None
    group: str | None = None
    passphrase: str | None = None
    opens_at_ms: int | None = None
    sponsor: str | None = None
    day_count_max: int | None = None
    share_fen_min: int | None = None
    share_fen_max: int | None = None


class BurstOrder(msgspec.Struct, frozen=True):
    """One burst of a rain: open from one instant until before another."""

    opens_at_ms: int
    ends_at_ms: int
    total_fen: int
    count: int


class RainOrder(msgspec.Struct, frozen=True, omit_defaults=True):
    """A rain to send: bursts one after another. `rest`: what a burst leaves rolls into the next, or returns."""

    bursts: list[BurstOrder]
    rest: str | None = None
    greeting: str | None = None
    sponsor: str | None = None
    shares: str | None = None
    algorithm: str | None = None
    share_fen_min: int | None = None
    share_fen_max: int | None = None
    commitment_id: str | None = None
    sender_nonce: str | None = None


class GrabOrder(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A grab that a gateway passes on for a user."""

    packet_id: str
    user: str
    passphrase: str | None = None
    group: str | None = None
