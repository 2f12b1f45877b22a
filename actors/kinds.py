"""Kinds: the kinds of actors that the platform has. The only module that imports them all; everything else asks it."""

from actors.kernel.kind import Kind, UnknownKind, registry
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
    name, dash, number = stream.rpartition("-")
    if not dash or not number.isascii() or not number.isdecimal():
        raise UnknownKind(f"{stream!r} does not name a stream: <kind>-<number>")
    return kind_named(name)
