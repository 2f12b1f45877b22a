"""Recall: packets that are not in memory any more, as those who ask about them need them. Pure; never journaled.

Whatever left memory has ended and never changes, so what is kept here is only saved work. A few big packets stay known,
because reading one takes long, and so do the hashes of the winners of a few.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from actors.packet.state import Packet, decode_record

BIG_RECORD_BYTES = 65_536
BIG_KEPT = 4
WINNERS_KEPT = 8


class Unhashed(NamedTuple):
    """The winners of a packet, to be hashed by `actors.packet.views.winners_of`."""

    packet_id: str
    tenant: str
    users: list[str]


class Recalled:
    """What one stream knows of passivated packets."""

    def __init__(self) -> None:
        self._now: Mapping[str, Packet] = {}
        self._big: dict[str, Packet] = {}
        self.winners: dict[str, bytes] = {}
        """packet id -> `PacketEnd.winners`, of big packets, passivated or not."""

    def find(self, packet_id: str) -> Packet | None:
        """Return a packet that was recalled for this step, or is still known."""
        return self._now.get(packet_id) or self._big.get(packet_id)

    def strangers(self, packet_ids: Iterable[str], packets: Mapping[str, Packet]) -> set[str]:
        """Return those of the ids that are neither among the packets in memory nor still known."""
        return {packet_id for packet_id in packet_ids if packet_id not in packets and packet_id not in self._big}

    def take(self, records: Mapping[str, bytes]) -> None:
        """Let the decisions of this step know these packets."""
        if not records and not self._now:
            return
        self._now = {packet_id: decode_record(record) for packet_id, record in records.items()}
        for packet_id, record in records.items():
            if len(record) >= BIG_RECORD_BYTES:
                self._big[packet_id] = self._now[packet_id]
        while len(self._big) > BIG_KEPT:
            del self._big[next(iter(self._big))]

    def unhashed(self, packets: Iterable[Packet | None], least: int, most: int) -> list[Unhashed]:
        """Return those that have ended, with so many winners that to hash them takes long, and are not hashed yet."""
        return [
            Unhashed(packet_id, packet.tenant, list(packet.rank_of))
            for packet in packets
            if packet and packet.ended != "open" and least <= len(packet.rank_of) <= most
            if (packet_id := packet.terms.packet_id) not in self.winners
        ]

    def keep_winners(self, packet_id: str, winners: bytes) -> None:
        """Keep the winners of a packet that has ended; the oldest of a few go."""
        self.winners[packet_id] = winners
        if len(self.winners) > WINNERS_KEPT:
            del self.winners[next(iter(self.winners))]
