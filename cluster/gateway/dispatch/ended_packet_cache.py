"""Ended packet cache: packets that ended durably, so that a replica tells losers without asking a shard.

Laws:
- a winner is never told that the packet is empty: a user whose hash is among the winners' is asked about at the shard
  (two users may share a hash), and only the rest is answered here;
- another tenant is never answered from it, and a 404 is never kept;
- only what can never change enters: a shard tells an end once it is durable, and an ended packet has no new winners;
- bounded by packets and by bytes, in all and for each tenant; the least recently asked for goes.

The idea is a Bloom filter's, with exact 32-bit hashes: a loser is taken for a winner once in 2^32 / winners.
"""

from array import array
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

from actors.kernel.messages import Refused
from actors.kernel.names import user_hash
from actors.kernel.quota import Bound
from actors.packet.commands import ReadEnd
from actors.packet.replies import PacketEnd
from actors.refusals import Refusal
from cluster.fair_cache import FairCache

ENTRY_BYTES = 600
"""What a packet takes here beside its winners: texts, objects, the place in the table."""

_REFUSED = {"drained": Refused(Refusal.DRAINED), "expired": Refused(Refusal.EXPIRED)}
_ENDS = frozenset({Refusal.DRAINED, Refusal.EXPIRED})


class EndedPacket:
    """One packet's end. `winners` None: too many to be kept; the shard is asked about everybody."""

    __slots__ = ("refused", "tenant", "winners")

    def __init__(self, tenant: str, refused: Refused, winners: "array[int] | None") -> None:
        self.tenant = tenant
        self.refused = refused
        self.winners = winners

    def may_have_won(self, user: str) -> bool:
        """Tell whether the shard must be asked about this user."""
        winners = self.winners
        if winners is None:
            return True
        wanted = user_hash(self.tenant, user)
        place = bisect_left(winners, wanted)
        return place < len(winners) and winners[place] == wanted

    @property
    def size(self) -> int:
        """The bytes this takes."""
        return ENTRY_BYTES + (0 if self.winners is None else len(self.winners) * self.winners.itemsize)


class EndedPacketCache:
    """The packets of which one replica knows that they ended."""

    def __init__(self, ask: Callable[[str, list[Any]], Any], *, packets: Bound, sizes: Bound) -> None:
        """`ask` asks a stream commands and returns a future of its replies; it never raises. `sizes`: bytes."""
        self._ask = ask
        self._bytes_max = sizes.tenant
        self._ended: FairCache[str, EndedPacket] = FairCache(packets, sizes)
        self._asking: set[str] = set()

    def find(self, packet_id: str, tenant: str) -> EndedPacket | None:
        """Return the packet's end, if it is known and the packet is this tenant's."""
        ended = self._ended.get(packet_id)
        return None if ended is None or ended.tenant != tenant else ended

    def notice(self, reply: Any, stream: str, packet_id: str, tenant: str) -> None:
        """Hear what a shard replied to a grab; if that was the packet's end, ask once who had won."""
        if type(reply) is not Refused or reply.code not in _ENDS:
            return
        if packet_id in self._ended or packet_id in self._asking:
            return
        self._asking.add(packet_id)
        asked = self._ask(stream, [ReadEnd(packet_id, tenant)])
        asked.add_done_callback(lambda done: self._told(packet_id, tenant, done))

    def _told(self, packet_id: str, tenant: str, done: Any) -> None:
        self._asking.discard(packet_id)
        if done.cancelled():
            return
        [reply] = done.result()
        if type(reply) is PacketEnd and reply.state in _REFUSED:
            self._keep(packet_id, tenant, reply)

    def _keep(self, packet_id: str, tenant: str, end: PacketEnd) -> None:
        ended = EndedPacket(tenant, _REFUSED[end.state], array("I", end.winners))
        if end.many or ended.size > self._bytes_max:
            ended.winners = None  # kept as that, so that its every loser does not ask for its winners again
        self._ended.put(packet_id, ended, tenant, 1, ended.size)
