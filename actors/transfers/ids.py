"""Ids: who, which packet, which stream. Stable for ever: an id once given always names the same stream.

A crowd's packet may be several: in lanes, "<id>.0", "<id>.1", ..., which nobody outside can name; or one for each burst
of a rain. Which streams these are in follows from the id and the layout.

Hashes here are CRC-32 (placement only) and HMAC-SHA256 (packet ids), never Python's `hash`.
"""

import base64
import hmac
from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

from actors.kernel.names import User, crc_of_tenant, is_id, stream_name, tag_of, user_hash
from actors.kernel.rules import StreamCounts

_BASE32 = {letter: value for value, letter in enumerate("abcdefghijklmnopqrstuvwxyz234567")}
_TAG_BYTES = 16
_WALLET_TAG_BYTES = 18
PACKET, RAIN, PHOTO_PAYMENT, COMMITMENT = b"packet-id", b"rain-id", b"photo-payment", b"commitment-id"
"""What packet ids are derived for: keys that clients choose, by route, and what no client can name the key of."""


def wallet_stream(index: int) -> str:
    """Name a wallet stream, e.g. 3 -> "wallet-003"."""
    return stream_name("wallet", index)


def packet_stream(index: int) -> str:
    """Name a packet stream, e.g. 3 -> "packet-003"."""
    return stream_name("packet", index)


def wallet_index_of(tenant: str, user: str, wallet_streams: int) -> int:
    """Return the index of the wallet stream that holds the user's money."""
    return user_hash(tenant, user) % wallet_streams


def wallet_indexes_of(tenant: str, users: Sequence[str], wallet_streams: int) -> list[int]:
    """Return `wallet_index_of` each of many users of one tenant, in order."""
    start = crc_of_tenant(tenant)
    return [crc32(user.encode(), start) % wallet_streams for user in users]


LANES_MAX = 16
_STREAM_BITS = 12


class Layout(NamedTuple):
    """How many streams there are: of ordinary packets, of crowds' packets (numbered behind them), of wallets.

    Crowds' streams may become more. The lanes of a packet are in streams one after another, so that they stay where
    they are.
    """

    packet: int
    hot: int
    wallet: int

    @classmethod
    def of(cls, counts: StreamCounts) -> "Layout":
        """Read what all kinds have."""
        return cls(counts["packet"][""], counts["packet"]["hot"], counts["wallet"][""])

    @property
    def lanes_max(self) -> int:
        """Into how many lanes a packet may be divided: each is in a stream of its own."""
        return min(self.hot or self.packet, LANES_MAX)


class PacketId(NamedTuple):
    """What a packet id says: where the packet (or its first lane) lives, whose book funded it, how many lanes it is."""

    packet_index: int
    wallet_index: int
    lanes: int = 1


def packet_id_of(
    platform_key: bytes,
    tenant: str,
    sender: str,
    key: str,
    packet_streams: int,
    wallet_streams: int,
    domain: bytes = PACKET,
) -> str:
    """Derive the packet id of a send: the same (tenant, sender, idempotency key) always gives the same packet.

    32 characters of lower-case base32 over 20 bytes: 4 bits of lanes - 1, 12 of the packet stream, u16 of the wallet
    stream, 16 bytes of HMAC. `domain`: what the key is a key of, where it is none of a send.
    """
    tag = tag_of(platform_key, domain, tenant, sender, key)
    packet_index = int.from_bytes(tag[:4], "big") % packet_streams
    return _written(packet_index, wallet_index_of(tenant, sender, wallet_streams), tag)


def crowd_id_of(platform_key: bytes, who: User, key: str, layout: Layout, lanes: int) -> str:
    """Derive the packet id of a send to a crowd: in a hot stream, if there are any, and in as many lanes."""
    tag = tag_of(platform_key, b"crowd-id", who.tenant, who.user, key)
    first, count = (layout.packet, layout.hot) if layout.hot else (0, layout.packet)
    packet_index = first + int.from_bytes(tag[:4], "big") % (count - lanes + 1)
    return _written((lanes - 1) << _STREAM_BITS | packet_index, wallet_index_of(*who, layout.wallet), tag)


def lane_id(packet_id: str, lane: int) -> str:
    """Name one lane of a packet that is several."""
    return f"{packet_id}.{lane}"


def whole_id(packet_id: str) -> str:
    """Return the id of the packet that a lane is one of; of any other packet its own."""
    return packet_id.partition(".")[0]


def burst_id(platform_key: bytes, rain_id: str, burst: int) -> str:
    """Derive the packet id of one burst of a rain, from 0; that of the first is the rain's own."""
    if burst == 0:
        return rain_id
    indexes = base64.b32decode(rain_id.upper())[:4]
    message = b"burst\x00" + rain_id.encode() + burst.to_bytes(4, "big")
    return _text(indexes + hmac.digest(platform_key, message, "sha256")[:_TAG_BYTES])


def _written(packet_index: int, wallet_index: int, tag: bytes) -> str:
    return _text(packet_index.to_bytes(2, "big") + wallet_index.to_bytes(2, "big") + tag[:_TAG_BYTES])


def _text(raw: bytes) -> str:
    return base64.b32encode(raw).decode().lower()


def parse_packet_id(packet_id: str) -> PacketId | None:
    """Read out of a packet id where it is; None if it is not a packet id."""
    if not is_id(packet_id):
        return None
    indexes = 0
    for letter in packet_id[:7]:  # 35 bits, of which the first 32 are the two indexes
        indexes = indexes << 5 | _BASE32[letter]
    packet_index = indexes >> 19
    return PacketId(packet_index & (1 << _STREAM_BITS) - 1, indexes >> 3 & 0xFFFF, (packet_index >> _STREAM_BITS) + 1)


def home_lane(tenant: str, user: str, lanes: int) -> int:
    """Return the lane in which a user asks first."""
    return user_hash(tenant, user) % lanes


class LanePlace(NamedTuple):
    """Where one lane of a packet is; most packets are one."""

    packet_id: str
    packet_index: int
    wallet_index: int


def lanes_of(packet_id: str, layout: Layout) -> list[LanePlace]:
    """Return every lane of a packet, in order; none if it is not a packet id of such a system."""
    place = parse_packet_id(packet_id)
    if place is None or place.wallet_index >= layout.wallet:
        return []
    if place.packet_index + place.lanes > layout.packet + layout.hot:
        return []
    if place.lanes == 1:
        return [LanePlace(packet_id, place.packet_index, place.wallet_index)]
    return [
        LanePlace(lane_id(packet_id, lane), place.packet_index + lane, place.wallet_index)
        for lane in range(place.lanes)
    ]


def lishi_packet_id_of(
    platform_key: bytes, tenant: str, asked: str, lishi_id: str, packet_streams: int, wallet_streams: int
) -> str:
    """Derive the packet id of a lishi's acceptance: one packet a lishi, whatever key it is accepted with."""
    domain = b"lishi-packet-id"
    return packet_id_of(platform_key, tenant, asked, lishi_id, packet_streams, wallet_streams, domain)


def lishi_id_of(platform_key: bytes, tenant: str, asker: str, key: str, wallet_index: int) -> str:
    """Derive the id of a lishi: the same (tenant, asker, idempotency key) in the same stream is always the same one.

    32 characters of lower-case base32 over 20 bytes: wallet stream of who is asked (u16), 18 bytes of HMAC.
    """
    return wallet_id(wallet_index, tag_of(platform_key, b"lishi-id", tenant, asker, key))


def wallet_id(wallet_index: int, tag: bytes) -> str:
    """Write the id of something that a wallet stream is named by: its index (u16), then 18 bytes of a tag."""
    return _text(wallet_index.to_bytes(2, "big") + tag[:_WALLET_TAG_BYTES])


def parse_lishi_id(lishi_id: str) -> int | None:
    """Read the index of the wallet stream out of a lishi's id; None if it is none."""
    if not is_id(lishi_id):
        return None
    return int.from_bytes(base64.b32decode(lishi_id.upper())[:2], "big")
