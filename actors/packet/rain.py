"""Rain: how the packets of a rain follow one another. Pure; reads only.

A burst is a packet that opens and ends at set times. What it leaves rolls into the next, if the rain says so: as much
as the shares of that one can hold, before anybody has taken one of them; the rest goes back to the sender.
"""

from collections.abc import Callable, Mapping

from actors.packet.state import Packet
from actors.transfers.funding import PacketFunded
from actors.transfers.ids import burst_id


def rest_of(packet: Packet, packets: Mapping[str, Packet], platform_key: bytes) -> tuple[int, str]:
    """Return how much (fen) of a packet that ends now rolls into which other one; 0 and no name: nothing."""
    special = packet.special
    if special is None or not special.rolls or special.burst + 1 >= special.bursts:
        return 0, ""
    packet_id = burst_id(platform_key, special.reference, special.burst + 1)
    following = packets.get(packet_id)
    if following is None or following.ended != "open" or following.rank_of:
        return 0, ""
    terms = following.terms
    rolled_fen = min(packet.remaining_fen, terms.share_fen_max * terms.count - following.total_fen)
    if terms.algorithm == "equal/1":
        rolled_fen -= rolled_fen % terms.count
    return (rolled_fen, packet_id) if rolled_fen > 0 else (0, "")


def is_of_second_rain(funding: PacketFunded, find: Callable[[str], Packet | None]) -> bool:
    """Tell whether a burst belongs to another rain than the one that its key has paid for: a key never funds twice.

    The bursts of one rain are paid for at one instant. The second rain may have more bursts than the first had.
    """
    special = funding.special
    if special is None or not special.burst:
        return False
    first = find(special.reference)
    return first is not None and first.terms.at_ms != funding.at_ms


def overdue_before(packet: Packet, packets: Mapping[str, Packet], platform_key: bytes, now_ms: int) -> list[str]:
    """Return the earlier bursts of the same rain whose time is over and that have not ended: what they leave counts.

    The timer is up to a second late; nobody may take a share of a burst before its predecessors have ended.
    """
    special = packet.special
    if special is None or not special.burst or packet.rank_of:
        return []
    names = [burst_id(platform_key, special.reference, burst) for burst in range(special.burst)]
    found = ((name, packets.get(name)) for name in names)
    return [name for name, one in found if one and one.ended == "open" and now_ms >= one.expires_at_ms]
