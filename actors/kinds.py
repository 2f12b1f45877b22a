"""Kinds: the kinds of actors that the platform has. The only module that imports them all; everything else asks it."""

from collections.abc import Sequence
from types import GenericAlias

import msgspec

from actors.kernel.handler import Reply
from actors.kernel.host import Host
from actors.kernel.kind import EVENTS, REPLIES, Kind, UnknownKind, kind_name_of, registry, union_of
from actors.kernel.metrics import Tally
from actors.kernel.ports import Clock, Journals
from actors.kernel.rules import Rules, Services, StreamCounts
from actors.packet.kind import PACKET
from actors.wallet.kind import WALLET

KINDS = registry(PACKET, WALLET)
"""name -> kind. A new kind is a folder beside `packet` and `wallet`, and a name in this call."""


def kind_named(name: str) -> Kind:
    """Return a kind. Raises UnknownKind."""
    kind = KINDS.get(name)
    if kind is None:
        raise UnknownKind(f"{name!r} is not a kind of actor; there are {', '.join(KINDS)}")
    return kind


def kind_of(stream: str) -> Kind:
    """Return the kind of a stream, e.g. of "wallet-003". Raises UnknownKind for any other form of name."""
    return kind_named(kind_name_of(stream))


def streams_of(layout: StreamCounts) -> dict[str, str]:
    """Return every stream of a layout and its kind, e.g. "bank-003" -> "bank". Raises UnknownKind."""
    counts = {kind_named(kind).name: sum(pools.values()) for kind, pools in layout.items()}
    return {f"{kind}-{index:03d}": kind for kind, count in counts.items() for index in range(count)}


def event_types() -> tuple[type[msgspec.Struct], ...]:
    """Return every type of event that any stream of the platform holds."""
    return (*EVENTS, *(event for kind in KINDS.values() for event in kind.events))


def reply_decoder() -> msgspec.msgpack.Decoder[list[list[Reply]]]:
    """Return the decoder of what a host of any kind answers: `[[reply, ...], ...]`."""
    replies = union_of((*REPLIES, *(reply for kind in KINDS.values() for reply in kind.replies)))
    return msgspec.msgpack.Decoder(GenericAlias(list, (GenericAlias(list, (replies,)),)))


def build_host(
    name: str,
    kind: Kind,
    streams: Sequence[str],
    journals: Journals,
    clock: Clock,
    services: Services,
    rules: Rules,
    tally: Tally | None = None,
) -> Host:
    """Return a host of some streams of one kind. Raises UnknownKind: a stream is of another."""
    for stream in streams:
        if kind_name_of(stream) != kind.name:
            raise UnknownKind(f"{stream!r} is not a stream of kind {kind.name!r}, which {name} hosts")
    return kind.host(name, kind, streams, journals, clock, services, rules, tally)
