"""Bodies: what grabs are asked with, decoded and checked by msgspec: strict types, unknown fields refused.

Each shape stands once, here or in `cluster.gateway.packet.send_bodies`: it decodes, it says what is bad, and it is in
the OpenAPI.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from actors.kernel.names import USER_RULE, is_user
from actors.transfers.phrase import PHRASE_CHARS_MAX, spoken
from cluster.gateway.middleware.validation import Twice, read_json, read_marked, texts_in
from cluster.gateway.problems import Problem

PASSPHRASE_CHARS_MAX = PHRASE_CHARS_MAX


class GrabBody(msgspec.Struct, forbid_unknown_fields=True):
    """Nothing for most packets; a phrase for one that asks for it, `group` (gateways only) for a group's."""

    passphrase: str | None = None
    group: str | None = None


class GrabItem(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """One grab of a batch."""

    packet_id: str
    user: str
    passphrase: str | None = None
    group: str | None = None


class GrabItems(msgspec.Struct, forbid_unknown_fields=True):
    """A batch."""

    grabs: list[GrabItem]


class RawItems(msgspec.Struct, forbid_unknown_fields=True):
    """A batch with something bad in it: looked at item by item, so that a bad one fails alone."""

    grabs: list[msgspec.Raw]


class Said(NamedTuple):
    """A packet whose takers say something: see `actors.packet.commands.Grab`."""

    packet_id: str
    phrase: bytes
    group: str


Asked = str | Said
"""A packet's id, where its takers say nothing; else what they do."""

NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are no JSON, or nested deeper than anything that is asked here."""

_GRAB = msgspec.json.Decoder(GrabBody | None)
_ITEMS = msgspec.json.Decoder(GrabItems)
_RAW_ITEMS = msgspec.json.Decoder(RawItems)
_ITEM = msgspec.json.Decoder(GrabItem)


def read_grab(body: bytes) -> GrabBody:
    """Read the body of a single grab. Raises Problem."""
    wanted: GrabBody = decode(_GRAB, body) or GrabBody()
    read_json(body)  # for what msgspec does not refuse
    fields: dict[str, str] = {}
    if wanted.passphrase is not None and len(wanted.passphrase) > PASSPHRASE_CHARS_MAX:
        fields["passphrase"] = f"at most {PASSPHRASE_CHARS_MAX} characters"
    if wanted.group is not None and not is_user(wanted.group):
        fields["group"] = USER_RULE
    if fields:
        raise Problem("invalid", "Correct the named fields.", fields)
    return wanted


def is_sound(item: Any) -> bool:
    """Tell whether a batch's item or a stream's line may be asked."""
    if not is_user(item.user) or (item.group is not None and not is_user(item.group)):
        return False
    return item.passphrase is None or len(item.passphrase) <= PASSPHRASE_CHARS_MAX


def asked(item: Any, platform_key: bytes) -> Asked:
    """Return what a batch's item or a stream's line asks."""
    return said(item.packet_id, item.passphrase, item.group, platform_key)


def said(packet_id: str, passphrase: str | None, group: str | None, platform_key: bytes) -> Asked:
    """Return what takers ask who say that to a packet; the phrase goes no further."""
    if not passphrase and not group:
        return packet_id
    return Said(packet_id, spoken(platform_key, passphrase) if passphrase else b"", group or "")


def read_items(body: bytes, items_max: int) -> Sequence[GrabItem | None]:
    """Read a batch; None stands for an item that is none. Raises Problem, for too many before it looks at each."""
    try:
        items: list[GrabItem] = _ITEMS.decode(body).grabs
    except NOT_JSON:
        pass
    else:
        _check_count(items, items_max)
        if texts_in(body) == 1 + texts_of(items):
            return items
    raw = decode(_RAW_ITEMS, body).grabs
    _check_count(raw, items_max)
    told = read_marked(body)
    if isinstance(told, Twice):
        raise Problem("malformed", "The body says grabs more than once.")
    return [None if isinstance(one, Twice) else _item(item) for item, one in zip(raw, told["grabs"], strict=True)]


def texts_of(grabs: Sequence[Any]) -> int:
    """Return how many texts, keys included, are in items (of lines: without their ids) that say each key once."""
    said = sum([(grab.passphrase is not None) + (grab.group is not None) for grab in grabs])
    return 4 * len(grabs) + 2 * said


def _check_count(items: Sequence[Any], items_max: int) -> None:
    if len(items) > items_max:
        raise Problem("too_large", f"A batch may have at most {items_max} grabs; send several.")


def _item(item: msgspec.Raw) -> GrabItem | None:
    try:
        return _ITEM.decode(item)
    except NOT_JSON:
        return None


def decode(decoder: Any, body: bytes) -> Any:
    """Read a body. Raises Problem."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as failure:
        read_json(body)  # what is no JSON further on is malformed first
        raise Problem("invalid", "Correct the body.", {"body": str(failure)}) from failure
    except NOT_JSON as failure:
        raise Problem("malformed", f"The body is not valid JSON: {failure}.") from failure
