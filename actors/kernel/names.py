"""Names: who people are, and what may stand for them. Stable for ever. Pure.

Hashes here are CRC-32 (placement only) and HMAC-SHA256 (ids), never Python's `hash`.
"""

import hmac
import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple
from zlib import crc32

USER_CHARS_MAX = 64
USER_RULE = "1 to 64 characters in Unicode's composed form (NFC), none of them blank, control, format or invisible"
_REFUSED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp", "Zs"})
"""Categories of Unicode that no user id holds: controls, formats (zero width, bidi, soft hyphen, BOM), blanks."""
_INVISIBLE = re.compile(
    "[ \u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2065\u2800\u3164"
    "\ufe00-\ufe0f\uffa0\ufff0-\ufff8\U000e0000-\U000e0fff]"
)
"""Characters of other categories that nobody sees: fillers, variation selectors, the empty Braille pattern."""
_ONCE_USER = re.compile(r"[^\s\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,64}")
_TENANT = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_ID = re.compile(r"[a-z2-7]{32}")


class User(NamedTuple):
    """A user of a tenant. Two strings, never joined: ("a", "b-c") and ("a-b", "c") are two people."""

    tenant: str
    user: str


def is_user(text: str) -> bool:
    """Tell whether `text` can name a user, by `USER_RULE`: two ids that look the same are the same person."""
    if text.isascii() and text.isprintable() and " " not in text:  # the same for most, in a third of the time
        return 0 < len(text) <= USER_CHARS_MAX
    if not 0 < len(text) <= USER_CHARS_MAX or not unicodedata.is_normalized("NFC", text) or _INVISIBLE.search(text):
        return False
    # What is printable has none of these categories, but so has what a later Unicode assigns, which may be a name.
    return text.isprintable() or all(unicodedata.category(letter) not in _REFUSED for letter in text)


def may_have_lines(text: str) -> bool:
    """Tell whether a journal may hold money of a user named so: `USER_RULE` was once no more than "no blanks"."""
    return _ONCE_USER.fullmatch(text) is not None


def is_id(text: str) -> bool:
    """Tell whether `text` can be an id that is derived here: 32 characters of lower-case base32."""
    return _ID.fullmatch(text) is not None


def are_distinct(users: list[str]) -> bool:
    """Tell whether nobody is named twice."""
    return len(users) == 1 or len(set(users)) == len(users)


def is_tenant(text: str) -> bool:
    """Tell whether `text` can name a tenant: lower-case letters, digits and hyphens, at most 32."""
    return _TENANT.fullmatch(text) is not None


def user_hash(tenant: str, user: str) -> int:
    """Return 32 bits that stand for a user where a few others may be taken for that user: for placement and filters."""
    return crc32(user.encode(), crc_of_tenant(tenant))


@lru_cache(maxsize=1024)
def crc_of_tenant(tenant: str) -> int:
    """Return the CRC-32 that those of a tenant's users go on from."""
    return crc32(f"{tenant}\n".encode())


def tag_of(platform_key: bytes, domain: bytes, *words: str) -> bytes:
    """Return 32 bytes that stand for these words in a domain and cannot be guessed without the key."""
    message = b"".join(len(part).to_bytes(4, "big") + part for part in map(str.encode, words))
    return hmac.digest(platform_key, domain + b"\x00" + message, "sha256")


def stream_name(kind: str, index: int) -> str:
    """Name a stream, e.g. ("bank", 3) -> "bank-003"."""
    return f"{kind}-{index:03d}"
