"""Grab items: the grabs of many users in one body, items of a batch or lines of a stream, each judged alone. Pure."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from actors.kernel.names import is_user
from actors.transfers.phrase import PHRASE_CHARS_MAX, spoken
from cluster.config import Settings
from cluster.gateway.contract import BodyDecoder
from cluster.gateway.packet.contract import GrabItem, GrabItems
from cluster.gateway.problems import Problem
from cluster.gateway.validation import NOT_JSON, RepeatedKeys, read_marked, texts_in


class RawItems(msgspec.Struct, forbid_unknown_fields=True):
    """A batch with something bad in it: looked at item by item."""

    grabs: list[msgspec.Raw]


class Said(NamedTuple):
    """A packet whose takers say something: see `actors.packet.commands.Grab`."""

    packet_id: str
    phrase: bytes
    group: str


Asked = str | Said
"""A packet's id, where its takers say nothing; else what they do."""

_ITEMS = msgspec.json.Decoder(GrabItems)
_RAW_ITEMS = msgspec.json.Decoder(RawItems)
_ITEM = msgspec.json.Decoder(GrabItem)
_NAMED = BodyDecoder(GrabItems)


def is_sound(item: Any) -> bool:
    """Tell whether a batch's item or a stream's line may be asked."""
    if not is_user(item.user) or (item.group is not None and not is_user(item.group)):
        return False
    return item.passphrase is None or len(item.passphrase) <= PHRASE_CHARS_MAX


def asked(item: Any, platform_key: bytes) -> Asked:
    """Return what a batch's item or a stream's line asks."""
    return said_to(item.packet_id, item.passphrase, item.group, platform_key)


def said_to(packet_id: str, passphrase: str | None, group: str | None, platform_key: bytes) -> Asked:
    """Return what takers ask who say that to a packet; the phrase goes no further."""
    if not passphrase and not group:
        return packet_id
    return Said(packet_id, spoken(platform_key, passphrase) if passphrase else b"", group or "")


def batch_reader(settings: Settings) -> Callable[[bytes], Sequence[GrabItem | None]]:
    """Return what reads batches of at most the configured size."""
    items_max = settings.bounds.batch_size_max
    return lambda body: read_items(body, items_max)


def read_items(body: bytes, items_max: int) -> Sequence[GrabItem | None]:
    """Read a batch; None: an item is not a grab. Raises Problem, for too many before it looks at each."""
    try:
        grabs: list[GrabItem] = _ITEMS.decode(body).grabs
    except NOT_JSON:
        pass
    else:
        _check_count(grabs, items_max)
        if texts_in(body) == 1 + texts_of(grabs):
            return grabs
    try:
        raw = _RAW_ITEMS.decode(body).grabs
    except msgspec.ValidationError:
        _NAMED(body)  # it is bad as a whole, and that says why
        raise AssertionError("what is not a list of items is not a batch") from None
    except NOT_JSON as failure:
        raise Problem("malformed", f"The body is not valid JSON: {failure}.") from failure
    _check_count(raw, items_max)
    marked = read_marked(body)
    if isinstance(marked, RepeatedKeys):
        raise Problem("malformed", "The body says grabs more than once.")
    return [
        None if isinstance(told, RepeatedKeys) else _item(item) for item, told in zip(raw, marked["grabs"], strict=True)
    ]


def texts_of(grabs: Sequence[Any]) -> int:
    """Return how many texts, keys included, are in items (of lines: without their ids) that say each key once."""
    said = sum([(grab.passphrase is not None) + (grab.group is not None) for grab in grabs])
    return 4 * len(grabs) + 2 * said


def _check_count(grabs: Sequence[Any], items_max: int) -> None:
    if len(grabs) > items_max:
        raise Problem("too_large", f"A batch may have at most {items_max} grabs; send several.")


def _item(item: msgspec.Raw) -> GrabItem | None:
    try:
        return _ITEM.decode(item)
    except NOT_JSON:
        return None
