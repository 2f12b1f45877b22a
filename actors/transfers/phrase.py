"""Phrase: what a password packet keeps of its phrase. Pure. The phrase itself is in no journal, log or message.

Two people say the same phrase when it is the same after Unicode NFKC (full and half width), case folding and without
any blank. What travels is HMAC-SHA256(platform key, "phrase" 0x00 phrase); what a packet keeps binds that to its id, so
that nobody sees in the store that two packets ask for the same, and without the key nobody can try phrases.
"""

import hmac
import unicodedata

PHRASE_CHARS_MAX = 128


def normal(phrase: str) -> str:
    """Return the form in which phrases are compared; empty if nothing but blanks was said."""
    folded = unicodedata.normalize("NFKC", phrase).casefold()
    return "".join(unicodedata.normalize("NFKC", folded).split())


def spoken(platform_key: bytes, phrase: str) -> bytes:
    """Return the 32 bytes that stand for a phrase on its way."""
    return hmac.digest(platform_key, b"phrase\x00" + normal(phrase).encode(), "sha256")


def kept(platform_key: bytes, packet_id: str, said: bytes) -> bytes:
    """Return the 32 bytes that a packet keeps; `said` is what `spoken` returned."""
    return hmac.digest(platform_key, b"packet phrase\x00" + packet_id.encode() + said, "sha256")
