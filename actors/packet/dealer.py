"""Dealer: the shares of packets, made from their seeds block by block. Touches no packet: any thread may deal.

A seed is used only if it is the one that the packet's sender was told the commitment of. Where the keys at hand give
another, or lack the packet's, it is withheld: no share leaves, nothing is published, it does not end; its money waits
for the right keys, which come with another start.
"""

from array import array
from collections.abc import Iterable, Mapping

from actors.kernel.ports import KeyRing
from actors.packet.fairness import share_seed_of
from actors.packet.rules import PacketRules
from actors.packet.split import BLOCK_COUNT_MAX, Division
from actors.packet.state import Packet
from actors.transfers.funding import PacketFunded
from actors.transfers.seeds import commitment_of, seed_of


class Dealer:
    """Knows the platform's keys, and by them every seed."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys
        self.withheld: dict[str, str] = {}
        """Packets whose seed is not known, and the id of the key it was made with; at most those of the stream."""
        self._untold: list[str] = []

    def seed(self, terms: PacketFunded) -> bytes | None:
        """Return the seed that is published at the packet's end; None: these keys do not give it."""
        try:
            seed = seed_of(self._keys.key(terms.key_id), terms.packet_id)
        except KeyError:
            seed = b""
        if seed and commitment_of(terms.algorithm, terms.packet_id, seed) == terms.commitment:
            return seed
        if terms.packet_id not in self.withheld:
            self.withheld[terms.packet_id] = terms.key_id
            self._untold.append(terms.packet_id)
        return None

    def untold(self) -> list[str]:
        """Return the packets that are withheld, each once."""
        untold, self._untold = self._untold, []
        return untold

    def deal(self, terms: PacketFunded, total_fen: int, block: int) -> bytes:
        """Return the shares of one block of ranks, as `Packet.shares` keeps them; none of a packet without a seed."""
        seed = self.seed(terms)
        if seed is None:
            return b""
        whole = Division(terms.algorithm, total_fen, terms.count, terms.share_fen_min, terms.share_fen_max)
        return array("I", whole.block(share_seed_of(seed, terms.sender_nonce), block)).tobytes()


def undealt(
    packets: Mapping[str, Packet], packet_ids: Iterable[str], rules: PacketRules
) -> list[tuple[PacketFunded, int, int, bool]]:
    """Return (terms, total, block, whether it is wanted now) of what is to be dealt next of big open packets.

    Blocks are dealt ahead, `dealt_ahead_max` shares; wanted is one that has fewer than `split_apart_min` ready.
    """
    found = []
    for packet_id in packet_ids:
        packet = packets.get(packet_id)
        ahead = rules.split_apart_min
        if packet is None or packet.ended != "open" or packet.count < ahead:
            continue
        ready = packet.made - len(packet.rank_of)
        if packet.made < packet.count and ready < rules.dealt_ahead_max:
            found.append((packet.terms, packet.total_fen, packet.made // BLOCK_COUNT_MAX, ready < ahead))
    return found
