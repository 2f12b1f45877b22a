"""Dealing: the shares of packets, made from their seeds block by block. Touches no state: any thread may deal."""

from array import array

from actors.ledger.transfer import PacketFunded
from actors.packet.fairness import seed_of, share_seed_of
from actors.packet.split import Division
from actors.ports import KeyRing


class Dealer:
    """Knows the platform's keys, and by them every seed."""

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys

    def seed(self, terms: PacketFunded) -> bytes:
        """Return the seed that is published at the packet's end."""
        return seed_of(self._keys.key(terms.key_id), terms.packet_id)

    def deal(self, terms: PacketFunded, total_fen: int, block: int) -> bytes:
        """Return the shares of one block of ranks, as `Packet.shares` keeps them."""
        whole = Division(terms.algorithm, total_fen, terms.count, terms.share_fen_min, terms.share_fen_max)
        shares = whole.block(share_seed_of(self.seed(terms), terms.sender_nonce), block)
        return array("I", shares).tobytes()
