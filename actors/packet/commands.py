"""Packet commands: what a packet stream is asked. Amounts in fen, instants in Unix ms, ranks from 1."""

import msgspec

from actors.transfers.funding import PacketFunded


class Grab(msgspec.Struct, frozen=True, array_like=True, tag="grab", gc=False):
    """A user opens a packet and wants a share."""

    packet_id: str
    tenant: str
    user: str
    phrase: bytes = b""
    """The user's phrase, see `actors.transfers.phrase`; empty: nothing."""
    group: str = ""
    """The group whose member the user is, by their chat gateway; empty: of none."""


class GrabMany(msgspec.Struct, frozen=True, array_like=True, tag="grab_many"):
    """Users who open one packet, in order of their arrival at the gateway: a `Grab` each, all saying the same."""

    packet_id: str
    tenant: str
    users: list[str]
    phrase: bytes = b""
    group: str = ""


class Open(msgspec.Struct, frozen=True, array_like=True, tag="open"):
    """The gateway delivers a funding at once; settlement would deliver the same one later."""

    source: str
    funding: PacketFunded


class View(msgspec.Struct, frozen=True, array_like=True, tag="view"):
    """Somebody looks at a packet, and at no more than `lines_max` lines of its list, behind `after_rank`."""

    packet_id: str
    tenant: str
    reader: str = ""
    after_rank: int = 0
    lines_max: int = 100
    proof: bool = False
    """Whether it is for a proof: lines and links only once it has ended, and links only from the first rank on."""


class ReadEnd(msgspec.Struct, frozen=True, array_like=True, tag="read_end"):
    """A gateway learnt that a packet has ended, and asks who had won: the others are answered there."""

    packet_id: str
    tenant: str
