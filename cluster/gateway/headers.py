"""Heads: what a client says in a request's head about who it is and what it repeats, read strictly, in one place.

Every text of a head is UTF-8 or refused: a byte that is read as another character is another person. The acting user
may be percent-encoded as well, for clients whose HTTP library writes ASCII alone; a "%" always begins an escape.
A header that says who acts, or what is repeated, or what the body is, is sent once or refused: two readers of one
request would otherwise choose differently.
"""

import re
import uuid
from collections.abc import Sequence
from urllib.parse import unquote_to_bytes

from actors.kernel.names import USER_RULE, is_user
from cluster.gateway.problems import Problem

SINGLE = frozenset({b"authorization", b"x-acting-user", b"idempotency-key", b"content-type", b"content-encoding"})
"""Headers that a request has once, in the lower case of ASGI."""

ACTING_USER = "X-Acting-User"
IDEMPOTENCY_KEY_BYTES_MAX = 255
_REQUEST_ID = re.compile(rb"[!-~]{1,128}")
_ESCAPED = re.compile(rb"(?:[^%]|%[0-9A-Fa-f]{2})*")


def request_id_of(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """Return the client's own id of the request, the first if there are several, if it is sound, else a fresh one."""
    told = next((value for name, value in headers if name == b"x-request-id"), b"")
    return told.decode("ascii") if _REQUEST_ID.fullmatch(told) else uuid.uuid4().hex


def check_single(headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Refuse a request that says twice what it may say once. Raises Problem."""
    names = [name for name, _ in headers if name in SINGLE]
    for name in sorted(set(names)):
        if names.count(name) > 1:
            raise Problem("malformed", f"Send the header {name.decode().title()} once, not {names.count(name)} times.")


def read_token(authorization: bytes) -> str | None:
    """Return the token of an Authorization header; None: it has none. Tokens are ASCII."""
    scheme, token = authorization[:7], authorization[7:].strip()
    if (scheme != b"Bearer " and scheme.lower() != b"bearer ") or not token.isascii():
        return None
    return token.decode("ascii") or None


def read_acting_user(value: bytes) -> str:
    """Return the user whom X-Acting-User names, in UTF-8 or percent-encoded. Raises Problem."""
    try:
        user = _unescaped(value).decode()
    except ValueError:  # UnicodeDecodeError is one
        user = ""
    if not is_user(user):
        fields = {ACTING_USER: f"{USER_RULE}; in UTF-8 or percent-encoded"}
        raise Problem("invalid", f"{ACTING_USER} is not a user id.", fields)
    return user


def read_key(value: bytes) -> str:
    """Return the idempotency key that a header holds. Raises Problem.

    A key is UTF-8, and is kept as the bytes it came as, one character a byte: so were keys kept before they had to be
    UTF-8, and a repeat of such a key must still be a repeat.
    """
    if not value:
        raise Problem("idempotency_key_missing", "Send an Idempotency-Key header, a fresh one for every new send.")
    if len(value) > IDEMPOTENCY_KEY_BYTES_MAX:
        limit = f"at most {IDEMPOTENCY_KEY_BYTES_MAX} bytes"
        raise Problem("invalid", "The idempotency key is too long.", {"Idempotency-Key": limit})
    try:
        value.decode()
    except UnicodeDecodeError as failure:
        raise Problem("invalid", "Correct the named fields.", {"Idempotency-Key": "a text in UTF-8"}) from failure
    return value.decode("latin-1")


def _unescaped(value: bytes) -> bytes:
    """Undo percent-encoding. Raises ValueError for an escape that is none."""
    if b"%" not in value:
        return value
    if not _ESCAPED.fullmatch(value):
        raise ValueError("a % without two hexadecimal digits")
    return unquote_to_bytes(value)
