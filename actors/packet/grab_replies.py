"""Grab replies: what the users of one group of grabs are told, each in their place. Pure."""

from collections.abc import Mapping
from types import MappingProxyType

from actors.kernel.messages import Refused
from actors.packet.replies import Takings, Won
from actors.packet.state import Packet
from actors.refusals import Refusal

NOT_FOUND = Refused(Refusal.PACKET_NOT_FOUND)
DRAINED = Refused(Refusal.DRAINED)
EXPIRED = Refused(Refusal.EXPIRED)
OVERLOADED = Refused(Refusal.OVERLOADED)
PAUSED = Refused(Refusal.PAUSED)
SEED_UNKNOWN = Refused(Refusal.SEED_UNKNOWN)
NOT_ADDRESSEE = Refused(Refusal.NOT_ADDRESSEE)
NOT_MEMBER = Refused(Refusal.NOT_MEMBER)
WRONG_PASSPHRASE = Refused(Refusal.WRONG_PASSPHRASE)
RATE_LIMITED = Refused(Refusal.RATE_LIMITED)
NOT_OPEN = Refused(Refusal.NOT_OPEN)
OWN_PACKET = Refused(Refusal.OWN_PACKET)
DAY_LIMIT = Refused(Refusal.DAY_LIMIT)


NOBODY: Mapping[str, Refused] = MappingProxyType({})


def refusal_of(packet: Packet, now_ms: int, barred: Refused | None) -> Refused | None:
    """Return why a user who has not won yet gets no share whatever is left; None if they may get one."""
    if packet.ended == "drained":
        return DRAINED
    if packet.ended == "expired" or now_ms >= packet.expires_at_ms:
        return EXPIRED
    if packet.special is not None and now_ms < packet.special.opens_at_ms:
        return NOT_OPEN
    return barred


def replies_of(
    packet: Packet,
    users: list[str],
    won: dict[str, Won],
    refusal: Refused,
    now_ms: int,
    outside: Mapping[str, Refused] = NOBODY,
) -> Takings:
    """Answer each user: who won before, who wins now (and again, if named twice), who does not.

    `outside`: who may not take this packet, and why.
    """
    replies: list[Won | Refused] = []
    for user in users:
        rank = packet.rank_of.get(user)
        if rank is not None:
            replies.append(packet.won(rank, replayed=True))
            continue
        share = won.get(user)
        replies.append(outside.get(user, refusal) if share is None else share)
        if share is not None and not share.replayed:
            won[user] = Won(share.rank, share.amount_fen, now_ms, True)
    return Takings(replies)
