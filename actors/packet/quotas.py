"""Quotas: who holds how much of what the packets of one stream share, and whether more of it is for them. Pure.

Payouts that no wallet has acknowledged are counted by tenant and packet: a packet's takers are many people, and what
they take is its sender's doing. Fundings that opened before their predecessors are counted by their senders, for each
pair of streams. The counts follow from the state: they are made anew from a snapshot's, and kept by events.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from actors.kernel.quota import Bound, Counts
from actors.ledger.book import Received
from actors.packet.state import PacketStreamState
from actors.transfers.funding import PacketFunded
from actors.transfers.ids import wallet_index_of, wallet_stream
from actors.transfers.payout import PayoutRun

if TYPE_CHECKING:
    from actors.packet.rules import PacketRules


class _Ahead:
    """The fundings of one source that came before their predecessors: number -> (tenant, sender)."""

    __slots__ = ("counts", "owners")

    def __init__(self, bound: Bound) -> None:
        self.counts = Counts(bound)
        self.owners: dict[int, tuple[str, str]] = {}


class PacketHolders:
    """Who holds what in one stream."""

    def __init__(self, rules: "PacketRules", wallet_streams: int, state: PacketStreamState) -> None:
        self.payouts = Counts(Bound.of(rules.unsettled_max, rules.fair.unsettled_max))
        self._bound = Bound.of(rules.opened_ahead_max, rules.fair.opened_ahead_max)
        self._ahead: dict[str, _Ahead] = {}
        for sent in state.book.sent.values():
            for run in sent.unsettled.values():
                self.payouts.add(run.tenant, run.packet_id, run.transfers)
        for source, received in state.book.received.items():
            if received.ahead:
                self._rebuild(source, received, state, wallet_streams)

    def has_room_ahead(self, source: str, received: Received, funding: PacketFunded) -> bool:
        """Tell whether a funding may open before its predecessors have come."""
        if len(received.ahead) >= self._bound.whole:
            return False
        ahead = self._ahead.get(source) or _Ahead(self._bound)
        return ahead.counts.full(funding.tenant, funding.sender) is None

    # Apply: writes only, once the state has taken the event in.

    def came(self, source: str, received: Received, funding: PacketFunded) -> None:
        """Count a funding that is ahead, or no more those that it closed the gap before."""
        number, ahead = funding.number, self._ahead.get(source)
        if number > received.number:
            if ahead is None:
                ahead = self._ahead[source] = _Ahead(self._bound)
            ahead.owners[number] = funding.tenant, funding.sender
            ahead.counts.add(funding.tenant, funding.sender)
        elif ahead is not None:
            for following in range(number + 1, received.number + 1):
                owner = ahead.owners.pop(following, None)
                if owner is not None:
                    ahead.counts.remove(*owner)

    def settled(self, runs: Iterable[PayoutRun]) -> None:
        """Count these as settled."""
        for run in runs:
            self.payouts.remove(run.tenant, run.packet_id, run.transfers)

    def _rebuild(self, source: str, received: Received, state: PacketStreamState, wallet_streams: int) -> None:
        """Find the owners of what is ahead among the packets, the newest first; of what went back nobody is known."""
        ahead = self._ahead[source] = _Ahead(self._bound)
        for packet in reversed(state.packets.values()):
            funding = packet.terms
            if funding.number not in received.ahead:
                continue
            if wallet_stream(wallet_index_of(funding.tenant, funding.sender, wallet_streams)) == source:
                ahead.owners[funding.number] = funding.tenant, funding.sender
                ahead.counts.add(funding.tenant, funding.sender)
                if len(ahead.owners) == len(received.ahead):
                    return
