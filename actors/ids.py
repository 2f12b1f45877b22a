"""Ids: who, which packet, which stream. Stable for ever: an id once given always names the same stream.

Hashes here are CRC-32 (placement only) and HMAC-SHA256 (packet ids), never Python's `hash`.
"""

import base64
import hmac
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple
from zlib import crc32

USER_CHARS_MAX = 64
_USER = re.compile(r"[^\s\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,64}")
_TENANT = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_PACKET_ID = re.compile(r"[a-z2-7]{32}")
_BASE32 = {letter: value for value, letter in enumerate("abcdefghijklmnopqrstuvwxyz234567")}
_TAG_BYTES = 16
PACKET, PHOTO_PAYMENT = b"packet-id", b"photo-payment"
"""What packet ids are derived for: keys that clients choose, and payments, whose key no client can name."""


class User(NamedTuple):
    """A user of a tenant. Two strings, never joined: ("a", "b-c") and ("a-b", "c") are two people."""

    tenant: str
    user: str


def is_user(text: str) -> bool:
    """Tell whether `text` can name a user: 1 to 64 characters, none of them blank or a control."""
    if text.isascii() and text.isprintable() and " " not in text:  # the same for most, in a third of the time
        return 0 < len(text) <= USER_CHARS_MAX
    return _USER.fullmatch(text) is not None


def are_distinct(users: list[str]) -> bool:
    """Tell whether nobody is named twice."""
    return len(users) == 1 or len(set(users)) == len(users)


def is_tenant(text: str) -> bool:
    """Tell whether `text` can name a tenant: lower-case letters, digits and hyphens, at most 32."""
    return _TENANT.fullmatch(text) is not None


def wallet_stream(index: int) -> str:
    """Name a wallet stream, e.g. 3 -> "wallet-003"."""
    return f"wallet-{index:03d}"


def packet_stream(index: int) -> str:
    """Name a packet stream, e.g. 3 -> "packet-003"."""
    return f"packet-{index:03d}"


def wallet_index_of(tenant: str, user: str, wallet_streams: int) -> int:
    """Return the index of the wallet stream that holds the user's money."""
    return user_hash(tenant, user) % wallet_streams


def wallet_indexes_of(tenant: str, users: Sequence[str], wallet_streams: int) -> list[int]:
    """Return `wallet_index_of` each of many users of one tenant, in order."""
    start = _crc_of_tenant(tenant)
    return [crc32(user.encode(), start) % wallet_streams for user in users]


def user_hash(tenant: str, user: str) -> int:
    """Return 32 bits that stand for a user where a few strangers may be taken for him: for placement and filters."""
    return crc32(user.encode(), _crc_of_tenant(tenant))


@lru_cache(maxsize=1024)
def _crc_of_tenant(tenant: str) -> int:
    return crc32(f"{tenant}\n".encode())


class PacketId(NamedTuple):
    """What a packet id says: where the packet lives and whose book funded it."""

    packet_index: int
    wallet_index: int


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

    32 characters of lower-case base32 over 20 bytes: packet stream (u16), wallet stream (u16), 16 bytes of HMAC.
    """
    tag = tag_of(platform_key, domain, tenant, sender, key)[:_TAG_BYTES]
    packet_index = int.from_bytes(tag[:4], "big") % packet_streams
    wallet_index = wallet_index_of(tenant, sender, wallet_streams)
    raw = packet_index.to_bytes(2, "big") + wallet_index.to_bytes(2, "big") + tag
    return base64.b32encode(raw).decode().lower()


def tag_of(platform_key: bytes, domain: bytes, *words: str) -> bytes:
    """Return 32 bytes that stand for these words in a domain and cannot be guessed without the key."""
    message = b"".join(len(part).to_bytes(4, "big") + part for part in map(str.encode, words))
    return hmac.digest(platform_key, domain + b"\x00" + message, "sha256")


def parse_packet_id(packet_id: str) -> PacketId | None:
    """Read the two stream indexes out of a packet id; None if it is no packet id."""
    if _PACKET_ID.fullmatch(packet_id) is None:
        return None
    indexes = 0
    for letter in packet_id[:7]:  # 35 bits, of which the first 32 are the two indexes
        indexes = indexes << 5 | _BASE32[letter]
    return PacketId(indexes >> 19, indexes >> 3 & 0xFFFF)
