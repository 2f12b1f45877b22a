"""Packet stream: decides who gets which share of which packet. Pure: no clock, no randomness, no I/O, no Ray.

`decide_*` only reads, `apply` only writes, and `apply` cannot fail: the journal replays through it.
Laws:
- paid + remaining + refunded = funded, for every packet; shares leave in order, each once; one share a user;
- whoever has won stays the winner: a repeat is answered with the same share, also after the end;
- an end (`drained`, `expired`) follows from a journaled event, never from the clock alone;
- a funding in transit is never refused: it opens, opens and refunds, or goes back in the same entry;
- a packet leaves memory only ended, settled and with its record kept; whoever asks about it then is answered from that.
Amounts are integer fen (1 CNY = 100 fen); instants are Unix milliseconds stamped by the shell.
"""

from array import array
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush
from itertools import islice
from struct import iter_unpack
from typing import Any

import msgspec

from actors.ids import user_hash, wallet_index_of, wallet_stream
from actors.ledger.book import Sent
from actors.ledger.machine import BookMachine
from actors.ledger.transfer import Outgoing, PacketFunded, Payout, Receive, Refusal, Refused, Settled, SnapshotTaken
from actors.packet.fairness import seed_of
from actors.packet.messages import (
    Expired,
    Grabbed,
    GrabLine,
    Opened,
    OpeningReturned,
    OpenNow,
    PacketEnd,
    PacketState,
    PacketView,
    Passivated,
    Won,
)
from actors.packet.split import split
from actors.packet.state import GRAB, Leaving, Packet, State, decode_record
from actors.ports import KeyRing

_EXPIRIES_SLACK = 1_024
"""Timer entries of packets that ended early, beyond twice the packets in memory, before the timer is made anew."""

NOT_FOUND = Refused(Refusal.PACKET_NOT_FOUND)
DRAINED = Refused(Refusal.DRAINED)
EXPIRED = Refused(Refusal.EXPIRED)
OVERLOADED = Refused(Refusal.OVERLOADED)


class PacketRules(msgspec.Struct, frozen=True):
    """The bounds of one packet stream (configs/)."""

    wallet_streams: int
    unsettled_max: int
    opened_ahead_max: int
    settle_batch_max: int
    passivate_after_ms: int
    passivate_batch_max: int


class PacketMachine(BookMachine[State, Leaving]):
    """The packets of one stream."""

    def __init__(self, stream: str, rules: PacketRules, keys: KeyRing) -> None:
        super().__init__(stream, State())
        self._rules = rules
        self._keys = keys
        self._shares: dict[str, Sequence[int]] = {}
        self._expiries: list[tuple[int, str]] = []
        self._quiet: deque[str] = deque()
        self._recalled: Mapping[str, Packet] = {}
        self._adopt(self._state)

    # Decide: reads only.

    def decide_grab(self, packet_id: str, tenant: str, user: str, now_ms: int) -> Grabbed | Expired | Won | Refused:
        """Answer one grab. The first rule that matches wins, so their order is the contract.

        `Expired` is the answer of the first grab past the end: it ends the packet, and the grab is refused.
        """
        packet = self._state.packets.get(packet_id)
        if packet is None:
            packet = self._recalled.get(packet_id)
        if packet is None or packet.funding.tenant != tenant:
            return NOT_FOUND
        rank = packet.rank_of.get(user)
        if rank is not None:
            return packet.won(rank, replayed=True)  # also after the end: a client may learn late that it had won
        if packet.ended != "open":
            return EXPIRED if packet.ended == "expired" else DRAINED
        funding = packet.funding
        if now_ms >= funding.expires_at_ms:
            return self._expired(packet, now_ms)
        # From here the grab must succeed.
        shares = self._shares.get(packet_id)
        if shares is None:
            shares = self._split(funding)
        rank = len(packet.rank_of) + 1
        to_wallet = wallet_index_of(tenant, user, self._rules.wallet_streams)
        number = self._sent[to_wallet].last_number + 1
        seed = self._seed(funding) if rank == funding.count else b""
        return Grabbed(packet_id, user, rank, shares[rank - 1], now_ms, to_wallet, number, seed)

    def decide_expiry(self, packet_id: str, now_ms: int) -> Expired | None:
        """End the packet if its time is over; None if it is not, or has ended already, or does not exist."""
        packet = self._state.packets.get(packet_id)
        if packet is None or packet.ended != "open" or now_ms < packet.funding.expires_at_ms:
            return None
        return self._expired(packet, now_ms)

    def decide_opening(self, source: str, funding: PacketFunded) -> Opened | OpeningReturned | OpenNow | Refused:
        """Take a funding in. It is delivered at least once and perhaps before its predecessors."""
        assert funding.packet_stream == self.stream, "a funding names the stream that opens it"
        received = self._state.book.watermark(source)
        packet = self._find(funding.packet_id)
        if received.has(funding.number):
            if packet is None or packet.funding != funding:
                return Refused(Refusal.IDEMPOTENCY_KEY_REUSED)  # it was the second of its id, and went back
            return OpenNow(packet.funding, packet.ended)
        if funding.number != received.number + 1 and len(received.ahead) >= self._rules.opened_ahead_max:
            return OVERLOADED  # nothing is lost: settlement delivers it in order
        if packet is not None:
            to_wallet, number = self._way_back(funding)
            return OpeningReturned(source, funding, to_wallet, number)
        return Opened(source, funding)

    def due(self, now_ms: int, limit: int) -> list[str]:
        """Take at most `limit` packets whose time may be over off the timer; expire them in the same step."""
        names: list[str] = []
        while self._expiries and self._expiries[0][0] <= now_ms and len(names) < limit:
            names.append(heappop(self._expiries)[1])
        return names

    def view(self, packet_id: str, tenant: str) -> PacketView | Refused:
        """Return a packet with its list in order of rank."""
        packet = self._find(packet_id)
        if packet is None or packet.funding.tenant != tenant:
            return NOT_FOUND
        lines = [
            GrabLine(user, amount_fen, at_ms)
            for user, (amount_fen, at_ms) in zip(packet.rank_of, iter_unpack(GRAB.format, packet.grabs), strict=True)
        ]
        return PacketView(packet.funding, packet.ended, packet.grabbed_fen, packet.refunded_fen, packet.seed, lines)

    def end(self, packet_id: str, tenant: str) -> PacketEnd | Refused:
        """Tell how a packet ended and who may have won; one that has not ended is not to be found: O(winners)."""
        packet = self._find(packet_id)
        if packet is None or packet.funding.tenant != tenant or packet.ended == "open":
            return NOT_FOUND
        hashes = array("I", sorted(user_hash(tenant, user) for user in packet.rank_of))
        return PacketEnd(packet.ended, hashes.tobytes())

    @property
    def has_room(self) -> bool:
        """Tell whether another group of grabs may be accepted: settlement is not too far behind."""
        return self._state.book.unsettled_count < self._rules.unsettled_max

    def is_final(self, packet_id: str, durable_version: int) -> bool:
        """Tell whether every answer about this packet is durable and can never change: it has ended, durably."""
        packet = self._state.packets.get(packet_id)
        if packet is None:
            return packet_id in self._recalled
        return packet.ended != "open" and packet.ended_version <= durable_version

    # Passivation: what has ended leaves memory, what left is recalled for one step.

    def passivable(self, now_ms: int) -> dict[str, bytes]:
        """Return the records of packets that may leave memory, by id: quiet, and ended long enough ago.

        All of them are durable: a payout is settled only after its source was.
        """
        records: dict[str, bytes] = {}
        for packet_id in islice(self._quiet, self._rules.passivate_batch_max):
            packet = self._state.packets.get(packet_id)
            if packet is None:
                continue  # it left before those in front of it
            if now_ms - packet.ended_ms < self._rules.passivate_after_ms:
                break
            records[packet_id] = msgspec.msgpack.encode(packet)
        return records

    def decide_passivation(self, packet_ids: Sequence[str]) -> Passivated | None:
        """Let packets go whose records are kept; None if none of them is here any more."""
        here = [packet_id for packet_id in packet_ids if packet_id in self._state.packets]
        return Passivated(here) if here else None

    def strangers(self, packet_ids: Iterable[str]) -> set[str]:
        """Return those of the ids that name no packet in memory: unknown, or passivated."""
        return {packet_id for packet_id in packet_ids if packet_id not in self._state.packets}

    @property
    def passivated(self) -> int:
        """How many packets have left memory; a record looked up before the last one left may be missing."""
        return self._state.passed.packets

    def recall(self, records: Mapping[str, bytes]) -> None:
        """Let the decisions of this step know passivated packets (no events: replay never needs them)."""
        if not records and not self._recalled:
            return
        self._recalled = {packet_id: decode_record(record) for packet_id, record in records.items()}

    def outgoing(self, now_ms: int) -> list[Outgoing]:
        """Return the next payouts for every wallet stream; the shell delivers them only once they are durable."""
        batches = []
        for destination, sent in self._state.book.sent.items():
            if not sent.unsettled:
                continue
            first = sent.settled_number + 1
            last = min(sent.last_number, sent.settled_number + self._rules.settle_batch_max)
            payouts = [self._payout(sent.unsettled[n]) for n in range(first, last + 1)]
            receive = Receive(self.stream, sent.settled_number, sent.settled_fen, [], payouts)
            batches.append(Outgoing(self.stream, destination, receive))
        return batches

    def figures(self) -> dict[str, int]:
        """Return the sums an audit adds up, all in fen, read from every packet: O(packets)."""
        packets, passed = self._state.packets.values(), self._state.passed
        figures = {
            "funded_fen": passed.funded_fen + sum(p.funding.total_fen for p in packets),
            "paid_fen": passed.paid_fen + sum(p.grabbed_fen for p in packets),
            "refunded_fen": passed.refunded_fen + sum(p.refunded_fen for p in packets),
            "remaining_fen": sum(p.remaining_fen for p in packets),
            "packets": passed.packets + len(packets),
            "live_packets": len(packets),
        }
        figures["book_sum_fen"] = figures["remaining_fen"] + self._state.book.transit_fen()
        return figures

    @property
    def members(self) -> int:
        """Packets in memory."""
        return len(self._state.packets)

    # Apply: writes only.

    def apply(self, event: Any) -> None:
        """Take an event into the state. Live and replay go through here."""
        if type(event) is Grabbed:
            self.apply_grabbed(event)
            return
        state = self._state
        state.version += 1
        match event:
            case Opened():
                self._apply_opened(event)
            case Expired():
                self._apply_expired(event)
            case OpeningReturned():
                state.book.receive(event.source, event.funding.number, event.funding.total_fen)
                self._sent[event.to_wallet].add(event)
            case Settled():
                self._apply_settled(event)
            case Passivated():
                self._apply_passivated(event)
            case SnapshotTaken():
                pass
            case _:
                raise AssertionError(f"{type(event).__name__} is no event of a packet stream")

    def apply_grabbed(self, event: Grabbed) -> None:
        """Take a grab into the state: the branch of `apply` that carries the peak."""
        state = self._state
        state.version += 1
        packet = state.packets[event.packet_id]
        rank = event.rank
        assert rank == len(packet.rank_of) + 1, "shares leave in order, each once"
        packet.rank_of[event.user] = rank
        packet.grabs.extend(GRAB.pack(event.amount_fen, event.at_ms))
        packet.grabbed_fen += event.amount_fen
        packet.unsettled += 1
        self._sent[event.to_wallet].add(event)
        if event.at_ms > state.stamp_ms:
            state.stamp_ms = event.at_ms
        if rank == packet.funding.count:
            assert packet.remaining_fen == 0, "the last share empties the escrow"
            self._end(packet, "drained", event.seed)

    def _apply_opened(self, event: Opened) -> None:
        funding = event.funding.compact()
        assert funding.packet_id not in self._state.packets, "a packet opens once"
        self._state.packets[funding.packet_id] = Packet(funding)
        self._state.book.receive(event.source, funding.number, funding.total_fen)
        heappush(self._expiries, (funding.expires_at_ms, funding.packet_id))

    def _apply_expired(self, event: Expired) -> None:
        packet = self._state.packets[event.packet_id]
        assert event.amount_fen == packet.remaining_fen, "a refund empties the escrow"
        packet.refunded_fen = event.amount_fen
        packet.unsettled += 1
        self._state.stamp_ms = max(self._state.stamp_ms, event.at_ms)
        self._sent[event.to_wallet].add(event)
        self._end(packet, "expired", event.seed)

    def _apply_settled(self, event: Settled) -> None:
        packets = self._state.packets
        for settled in self._state.book.settle(event.destination, event.number):
            if isinstance(settled, OpeningReturned):
                continue  # the second funding of a packet is no part of it
            packet = packets[settled.packet_id]
            packet.unsettled -= 1
            if packet.is_quiet:
                self._quiet.append(settled.packet_id)

    def _apply_passivated(self, event: Passivated) -> None:
        state, passed = self._state, self._state.passed
        for packet_id in event.packet_ids:
            packet = state.packets.pop(packet_id)
            assert packet.is_quiet, "only what can never change leaves memory"
            passed.packets += 1
            passed.funded_fen += packet.funding.total_fen
            passed.paid_fen += packet.grabbed_fen
            passed.refunded_fen += packet.refunded_fen
        while self._quiet and self._quiet[0] not in state.packets:
            self._quiet.popleft()
        if len(self._expiries) > 2 * len(state.packets) + _EXPIRIES_SLACK:
            self._expiries = self._open_expiries()

    def _end(self, packet: Packet, ended: PacketState, seed: bytes) -> None:
        packet.ended = ended
        packet.ended_version = self._state.version
        packet.seed = seed
        self._shares.pop(packet.funding.packet_id, None)

    def restore(self, state: bytes) -> None:
        """Replace the whole state by a snapshot's."""
        self._adopt(msgspec.msgpack.decode(state, type=State))

    # Derived.

    def _adopt(self, state: State) -> None:
        self._state = state
        self._shares = {}
        self._expiries = self._open_expiries()
        self._quiet = deque(packet_id for packet_id, packet in state.packets.items() if packet.is_quiet)
        wallets = (wallet_stream(index) for index in range(self._rules.wallet_streams))
        self._sent: list[Sent[Leaving]] = [state.book.to(wallet) for wallet in wallets]

    def _open_expiries(self) -> list[tuple[int, str]]:
        """Return the timer: a heap of the open packets by the end of their time."""
        packets = self._state.packets.items()
        expiries = [(p.funding.expires_at_ms, packet_id) for packet_id, p in packets if p.ended == "open"]
        heapify(expiries)
        return expiries

    def _find(self, packet_id: str) -> Packet | None:
        return self._state.packets.get(packet_id) or self._recalled.get(packet_id)

    def _expired(self, packet: Packet, now_ms: int) -> Expired:
        funding = packet.funding
        to_wallet, number = self._way_back(funding)
        return Expired(funding.packet_id, packet.remaining_fen, now_ms, to_wallet, number, self._seed(funding))

    def _way_back(self, funding: PacketFunded) -> tuple[int, int]:
        """Return the sender's wallet stream and the number of the next transfer to it."""
        to_wallet = wallet_index_of(funding.tenant, funding.sender, self._rules.wallet_streams)
        return to_wallet, self._sent[to_wallet].last_number + 1

    def _seed(self, funding: PacketFunded) -> bytes:
        return seed_of(self._keys.key(funding.key_id), funding.packet_id)

    def _split(self, funding: PacketFunded) -> Sequence[int]:
        """Make the shares of a packet and keep them until it ends (a cache: replay never needs them)."""
        shares = split(
            funding.algorithm,
            self._seed(funding),
            funding.total_fen,
            funding.count,
            funding.share_fen_min,
            funding.share_fen_max,
        )
        self._shares[funding.packet_id] = kept = array("I", shares)
        return kept

    def _payout(self, event: Leaving) -> Payout:
        if type(event) is Grabbed:
            tenant = self._state.packets[event.packet_id].funding.tenant
            return Payout(event.number, "share", tenant, event.user, event.amount_fen, event.packet_id)
        funding = event.funding if isinstance(event, OpeningReturned) else self._state.packets[event.packet_id].funding
        return Payout(event.number, "refund", funding.tenant, funding.sender, event.amount_fen, funding.packet_id)
