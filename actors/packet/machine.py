"""Packet stream: decides who gets which share of which packet. Pure: no clock, no randomness, no I/O, no Ray.

`decide_*` only reads, `apply` only writes, and `apply` cannot fail: the journal replays through it.
Laws:
- paid + remaining + refunded = funded, for every packet; shares leave in order, each once; one share a user;
- a winner stays a winner: a repeat is answered with the same share, also after the end;
- an end (`drained`, `expired`) follows from a journaled event, never from the clock alone;
- a funding in transit is never refused: it opens, opens and refunds, or goes back in the same entry;
- a packet leaves memory only ended, settled and with its record kept; later requests are answered from that;
- while it is paused nobody takes a fresh share; that prolongs no life, and its switch ends with the packet;
- no share leaves and no seed is published but of the seed that was committed to: until then a packet is withheld.
Amounts are integer fen (1 CNY = 100 fen); instants are Unix milliseconds stamped by the shell.
"""

from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice

from actors.kernel.machine import BookMachine
from actors.kernel.messages import Refused
from actors.kernel.names import are_distinct
from actors.kernel.ports import Event
from actors.kernel.rules import Services
from actors.kernel.switches import SwitchSet
from actors.kernel.timer import Timer
from actors.ledger.book import Book
from actors.packet.commands import View
from actors.packet.dealer import Dealer, undealt
from actors.packet.eligibility import Tries, outsiders
from actors.packet.events import Expired, GrabbedMany, Opened, OpeningReturned, Passivated, PhraseMissed
from actors.packet.grab_replies import (
    DAY_LIMIT,
    DRAINED,
    EXPIRED,
    NOBODY,
    NOT_FOUND,
    OVERLOADED,
    PAUSED,
    SEED_UNKNOWN,
    refusal_of,
    replies_of,
)
from actors.packet.postings import ESCROW
from actors.packet.quotas import PacketHolders
from actors.packet.rain import is_of_second_rain, overdue_before, rest_of
from actors.packet.recall import Recalled, Unhashed
from actors.packet.replies import OpenNow, PacketEnd, PacketState, PacketView, Shares, Takings, Won
from actors.packet.rules import PacketRules
from actors.packet.split import BLOCK_COUNT_MAX
from actors.packet.state import SHARE_BYTES, Packet, PacketStreamState, back_to_sender, decode_state
from actors.packet.switches import GRABS, packet_of, packet_switch
from actors.packet.views import records_of, totals_of, view_of, winners_of
from actors.refusals import Refusal
from actors.transfers.funding import PacketFunded
from actors.transfers.ids import wallet_index_of, wallet_indexes_of, wallet_stream
from actors.transfers.payout import PayoutRun
from actors.transfers.phrase import kept

_TIMER_SLACK = 1_024
"""Timer entries of packets that ended early, beyond twice the packets in memory, before the timer is made anew."""


class PacketMachine(BookMachine[PacketStreamState, PayoutRun]):
    """The packets of one stream."""

    def __init__(self, stream: str, rules: PacketRules, services: Services) -> None:
        super().__init__(stream, PacketStreamState(), rules.settle_batch_max)
        self._rules = rules
        self._first_key = services.first_key
        self._wallet_streams = services.streams("wallet")
        self.dealer = Dealer(services.keys)
        self._tries = Tries(rules.phrase_tries_max, rules.phrase_tries_ms, rules.phrase_missers_max)
        self._timer = Timer()
        self._quiet: deque[str] = deque()
        self.recalled = Recalled()
        self._adopt(self._state)

    @property
    def book(self) -> Book[PayoutRun]:
        """Both ends of this stream's transfers."""
        return self._state.book

    # Decide: reads only.

    def decide_grabs(
        self,
        packet_id: str,
        tenant: str,
        users: list[str],
        now_ms: int,
        barred: Refused | None = None,
        *,
        phrase: bytes = b"",
        group: str = "",
    ) -> tuple[GrabbedMany | Expired | PhraseMissed | None, Shares | Takings | Refused]:
        """Answer the grabs of one packet, one after another; return what happens by it, and the replies.

        `barred`: why no fresh share may be taken now; `phrase`, `group`: see `Grab`. The first rule that matches a user
        wins, so their order is the contract: a winner hears it again, also after the end (a client may learn late that
        it had won); the end; the bar; whether the packet is for them (`actors.packet.eligibility`); the next share.
        `Expired` happens when the first grab past the end meets it, and refuses that grab.
        """
        packet = self._find(packet_id)
        if packet is None or packet.tenant != tenant:
            return None, NOT_FOUND
        if self._state.switches and self._is_paused(packet_id):
            barred = PAUSED
        rank_of = packet.rank_of
        refusal = refusal_of(packet, now_ms, barred)
        if not packet.shares and (refusal is None or (refusal is EXPIRED and packet.ended == "open")):
            refusal = refusal if self.dealer.seed(packet.terms) else SEED_UNKNOWN  # asked before anything was dealt
        if refusal is not None:
            replies = refusal if rank_of.keys().isdisjoint(users) else replies_of(packet, users, {}, refusal, now_ms)
            ends = refusal is EXPIRED and packet.ended == "open" and not rank_of.keys() >= set(users)
            return self._expired(packet, now_ms) if ends else None, replies
        # From here the grabs of fresh users must succeed while shares are left.
        room, short = packet.count - len(rank_of), DRAINED
        outside: Mapping[str, Refused] = NOBODY
        if packet.special is not None:
            if (today := packet.left_on(now_ms)) < room:
                room, short = today, DAY_LIMIT
            said = kept(self._first_key, packet_id, phrase) if phrase else b""
            outside, missed = outsiders(packet, packet.special, users, said, group, now_ms, self._tries)
            if outside and all(user in outside or user in rank_of for user in users):
                miss = PhraseMissed(packet_id, missed, now_ms) if missed else None
                return miss, replies_of(packet, users, {}, short, now_ms, outside)
        first = packet.rank_base + len(rank_of) + 1
        if not outside and len(users) <= room and rank_of.keys().isdisjoint(users) and are_distinct(users):
            event = self._taken(packet, packet_id, users, now_ms)
            return event, Shares(first, event.amounts_fen, now_ms)
        fresh = [user for user in dict.fromkeys(users) if user not in rank_of and user not in outside][:room]
        if not fresh:
            return None, replies_of(packet, users, {}, short, now_ms, outside)
        event = self._taken(packet, packet_id, fresh, now_ms)
        won = {
            user: Won(rank, amount_fen, now_ms, False)
            for rank, (user, amount_fen) in enumerate(zip(fresh, event.amounts_fen, strict=True), first)
        }
        return event, replies_of(packet, users, won, short, now_ms, outside)

    def _taken(self, packet: Packet, packet_id: str, users: list[str], now_ms: int) -> GrabbedMany:
        """Give the next shares to these users, as many of them as there are."""
        first = len(packet.rank_of) + 1
        last = first + len(users) - 1
        while packet.made < last:
            packet.shares += self.dealer.deal(packet.terms, packet.total_fen, packet.made // BLOCK_COUNT_MAX)
        amounts = array("I")
        amounts.frombytes(packet.shares[SHARE_BYTES * (first - 1) : SHARE_BYTES * last])
        to_wallets = wallet_indexes_of(packet.tenant, users, self._wallet_streams)
        sent = self._sent
        numbers = {index: sent[index].last_number + 1 for index in set(to_wallets)}
        seed = self.dealer.seed(packet.terms) if last == packet.count else b""
        assert seed is not None, "what was dealt was dealt of a seed that is known"
        return GrabbedMany(packet_id, packet.tenant, first, users, amounts.tolist(), now_ms, to_wallets, numbers, seed)

    def _is_paused(self, packet_id: str) -> bool:
        """Tell whether nobody may take a fresh share of an open packet now."""
        switches = self._state.switches
        return GRABS in switches or packet_switch(packet_id) in switches

    def decide_switch(self, switch: str, paused: bool, by: str, now_ms: int) -> SwitchSet | Refused | None:
        """Pause all grabs or those of a packet, or let them go on; None if it is so already.

        A packet that has ended cannot be paused: the answer is how it ended.
        """
        packet_id = packet_of(switch)
        if packet_id is not None:
            packet = self._find(packet_id)
            if packet is None:
                return NOT_FOUND
            if paused and packet.ended != "open":
                return EXPIRED if packet.ended == "expired" else DRAINED
        return super().decide_switch(switch, paused, by, now_ms)

    def decide_expiry(self, packet_id: str, now_ms: int) -> Expired | None:
        """End the packet if its time is over; None if not, or it has ended, does not exist, or is withheld."""
        packet = self._state.packets.get(packet_id)
        if packet is None or packet.ended != "open" or now_ms < packet.expires_at_ms:
            return None
        return self._expired(packet, now_ms)

    def decide_opening(self, source: str, funding: PacketFunded) -> Opened | OpeningReturned | OpenNow | Refused:
        """Take a funding in. It is delivered at least once and perhaps before its predecessors."""
        if funding.packet_stream != self.stream:
            return NOT_FOUND  # a gateway with another configuration sent it here
        received = self._state.book.watermark(source)
        packet = self._find(funding.packet_id)
        if received.has(funding.number):
            if packet is None or packet.terms != funding:
                return Refused(Refusal.IDEMPOTENCY_KEY_REUSED)  # it was the second of its id, and went back
            return OpenNow(packet.ended)
        if funding.number != received.number + 1 and not self._holders.has_room_ahead(source, received, funding):
            return OVERLOADED  # nothing is lost: settlement delivers it in order
        if packet is not None or is_of_second_rain(funding, self._find):
            to_wallet, number = self._way_back(funding)
            return OpeningReturned(source, funding, to_wallet, number)
        if funding.kind == "photo" and self.dealer.seed(funding) is None:
            return SEED_UNKNOWN  # it opens and is taken in one step, or waits in transit
        return Opened(source, funding)

    def decide_payment(self, funding: PacketFunded, now_ms: int) -> GrabbedMany:
        """Give what opened as the price of a photo to its addressee, once: no pause and no end comes in between."""
        packet, special = self._state.packets[funding.packet_id], funding.special
        assert special is not None, "a price is paid to somebody"
        return self._taken(packet, funding.packet_id, [special.addressee], now_ms)

    def due(self, now_ms: int, limit: int) -> Iterator[Event]:
        """Take at most `limit` packets whose time may be over off the timer, and end them."""
        for packet_id in self._timer.due(now_ms, limit):
            expired = self.decide_expiry(packet_id, now_ms)
            if expired is not None:
                yield expired

    def view(self, asked: View) -> PacketView | Refused:
        """Return a packet with a page of its list in order of rank."""
        packet = self._find(asked.packet_id)
        if packet is None or packet.tenant != asked.tenant:
            return NOT_FOUND
        return view_of(packet, asked)

    def end(self, packet_id: str, tenant: str) -> PacketEnd | Refused:
        """Tell how a packet ended and who may have won; one that has not ended is not to be found.

        O(winners), unless they are hashed already; of more than `winners_max` none are told.
        """
        packet = self._find(packet_id)
        if packet is None or packet.tenant != tenant or packet.ended == "open":
            return NOT_FOUND
        if len(packet.rank_of) > self._rules.winners_max:
            return PacketEnd(packet.ended, b"", many=True)
        return PacketEnd(packet.ended, self.recalled.winners.get(packet_id) or winners_of(tenant, packet.rank_of))

    def unhashed(self, packet_ids: Iterable[str]) -> list[Unhashed]:
        """Return big ended packets whose winners nobody has hashed yet."""
        return self.recalled.unhashed(map(self._find, packet_ids), self._rules.split_apart_min, self._rules.winners_max)

    def has_room(self, packet_id: str, tenant: str) -> bool:
        """Tell whether a packet's takers may be accepted: settlement is not too far behind, in all and with theirs."""
        return self._holders.payouts.full(tenant, packet_id) is None

    def is_final(self, packet_id: str, durable_version: int) -> bool:
        """Tell whether every answer about this packet is durable and can never change: it has ended, durably."""
        packet = self._state.packets.get(packet_id)
        if packet is None:
            return self.recalled.find(packet_id) is not None
        return packet.ended != "open" and packet.ended_version <= durable_version

    # Passivation: what has ended leaves memory, what left is recalled for one step.

    def passivable(self, now_ms: int) -> dict[str, bytes]:
        """Return the records of packets that may leave memory, by id: quiet, and ended long enough ago.

        All of them are durable: a payout is settled only after its source was.
        """
        quiet, before_ms = islice(self._quiet, self._rules.passivate_batch_max), now_ms - self._rules.passivate_after_ms
        return records_of(quiet, self._state.packets, before_ms)

    def decide_passivation(self, ids: Sequence[str]) -> Passivated | None:
        """Let packets go whose records are kept; None if none of them is here any more."""
        here = [packet_id for packet_id in ids if packet_id in self._state.packets]
        return Passivated(here) if here else None

    def strangers(self, ids: Iterable[str]) -> set[str]:
        """Return those of the ids that may name a passivated packet: not in memory, and not known to be new."""
        may_have = self._state.departed.may_have
        return {packet_id for packet_id in self.recalled.strangers(ids, self._state.packets) if may_have(packet_id)}

    def recall(self, records: Mapping[str, bytes]) -> None:
        """Let the decisions of the next step know these packets."""
        self.recalled.take(records)

    def undealt(self, packet_ids: Iterable[str]) -> list[tuple[PacketFunded, int, int, bool]]:
        """Return what is to be dealt next of big open packets, see `actors.packet.dealer`."""
        return undealt(self._state.packets, packet_ids, self._rules)

    def keep_shares(self, packet_id: str, total_fen: int, block: int, shares: bytes) -> None:
        """Keep one block of a packet's shares, if it is still open, of that total, and wants for this block."""
        packet = self._state.packets.get(packet_id)
        if packet is not None and packet.ended == "open" and packet.total_fen == total_fen:
            packet.shares += shares if packet.made == block * BLOCK_COUNT_MAX else b""

    @property
    def passivated(self) -> int:
        """How many packets have left memory; a record looked up before the last one left may be missing."""
        return self._state.passed.packets

    def _own_balances(self) -> dict[str, int]:
        return {ESCROW.name: sum(packet.remaining_fen for packet in self._state.packets.values())}

    def totals(self) -> dict[str, int]:
        """Return what its packets were paid and have paid, in fen: O(packets)."""
        return totals_of(self._state)

    @property
    def withheld(self) -> int:
        """Packets found whose seed the keys at hand do not give."""
        return len(self.dealer.withheld)

    @property
    def members(self) -> int:
        """Packets in memory."""
        return len(self._state.packets)

    # Apply: writes only.

    def appliers(self) -> Mapping[type[Event], Callable[..., None]]:
        """Return what takes each event type into the state."""
        return {
            GrabbedMany: self._apply_grabs,
            Opened: self._apply_opened,
            Expired: self._apply_expired,
            OpeningReturned: self._apply_returned,
            Passivated: self._apply_passivated,
            PhraseMissed: self._apply_missed,
        }

    def _apply_returned(self, event: OpeningReturned) -> None:
        funding = event.funding
        self._receive(event.source, funding)
        self._holders.payouts.add(funding.tenant, funding.packet_id)
        back = back_to_sender("returned", event.number, funding, funding.total_fen, funding.at_ms)
        self._sent[event.to_wallet].add(back)

    def _apply_missed(self, event: PhraseMissed) -> None:
        self._tries.miss(self._state.packets[event.packet_id], event.users, event.at_ms)

    def _apply_grabs(self, event: GrabbedMany) -> None:
        packet = self._state.packets[event.packet_id]
        packet.add(event.first_rank, event.users, event.amounts_fen, event.at_ms)
        for to_wallet, run in event.runs().items():
            self._sent[to_wallet].add(run)
        self._holders.payouts.add(packet.tenant, event.packet_id, len(event.users))
        if len(packet.rank_of) == packet.count:
            assert packet.remaining_fen == 0, "the last share empties the escrow"
            self._end(packet, "drained", event.seed)

    def _apply_opened(self, event: Opened) -> None:
        funding = event.funding
        assert funding.packet_id not in self._state.packets, "a packet opens once"
        self._state.packets[funding.packet_id] = Packet(funding)
        self._receive(event.source, funding)
        self._timer.put(funding.expires_at_ms, funding.packet_id)

    def _receive(self, source: str, funding: PacketFunded) -> None:
        self._state.book.receive(source, funding.number, funding.total_fen)
        self._holders.came(source, self._state.book.received[source], funding)

    def _apply_expired(self, event: Expired) -> None:
        packet = self._state.packets[event.packet_id]
        assert event.amount_fen + event.rolled_fen == packet.remaining_fen, "an end empties the escrow"
        if event.rolled_fen:
            assert packet.crowd is not None, "a burst is for a crowd"
            packet.crowd.rolled_out_fen = event.rolled_fen
            self._state.packets[event.rolled_into].roll_in(event.rolled_fen)
        if event.number:
            packet.refunded_fen = event.amount_fen
            packet.unsettled += 1
            self._holders.payouts.add(packet.tenant, event.packet_id)
            back = back_to_sender("refund", event.number, packet.terms, event.amount_fen, event.at_ms)
            self._sent[event.to_wallet].add(back)
        self._end(packet, "expired", event.seed)
        if packet.is_quiet:
            self._quiet.append(event.packet_id)

    def _settled(self, moved: list[PayoutRun]) -> None:
        packets = self._state.packets
        self._holders.settled(moved)
        for run in moved:
            if run.kind == "returned":
                continue  # the second funding of a packet is not part of it
            packet = packets[run.packet_id]
            packet.unsettled -= run.transfers
            if packet.is_quiet:
                self._quiet.append(run.packet_id)

    def _apply_passivated(self, event: Passivated) -> None:
        state, passed = self._state, self._state.passed
        for packet_id in event.packet_ids:
            packet = state.packets.pop(packet_id)
            assert packet.is_quiet, "only what can never change leaves memory"
            passed.add(packet)
            state.departed.add(packet_id)
        while self._quiet and self._quiet[0] not in state.packets:
            self._quiet.popleft()
        if self._timer.entries > 2 * len(state.packets) + _TIMER_SLACK:
            self._timer = self._timer_of_open()

    def _end(self, packet: Packet, ended: PacketState, seed: bytes) -> None:
        packet.ended = ended
        packet.ended_version = self._state.version
        packet.seed = seed
        packet.shares = b""
        packet.missed = None
        if self._state.switches:
            self._state.switches.pop(packet_switch(packet.terms.packet_id), None)

    def restore(self, state: bytes) -> None:
        """Replace the whole state by a snapshot's."""
        self._adopt(decode_state(state))

    # Derived.

    def _adopt(self, state: PacketStreamState) -> None:
        self._state = state
        self._timer = self._timer_of_open()
        self._quiet = deque(packet_id for packet_id, packet in state.packets.items() if packet.is_quiet)
        wallets = (wallet_stream(index) for index in range(self._wallet_streams))
        self._sent = [state.book.to(wallet) for wallet in wallets]
        self._holders = PacketHolders(self._rules, self._wallet_streams, state)

    def _timer_of_open(self) -> Timer:
        """Return a timer of the open packets."""
        packets = self._state.packets.items()
        return Timer((packet.expires_at_ms, packet_id) for packet_id, packet in packets if packet.ended == "open")

    def _find(self, packet_id: str) -> Packet | None:
        return self._state.packets.get(packet_id) or self.recalled.find(packet_id)

    def _expired(self, packet: Packet, now_ms: int) -> Expired | None:
        """End a packet and publish its seed; None if that is not known."""
        if (seed := self.dealer.seed(funding := packet.terms)) is None:
            return None
        rolled_fen, rolled_into = rest_of(packet, self._state.packets, self._first_key)
        to_wallet, number = self._way_back(funding)
        back_fen = packet.remaining_fen - rolled_fen
        back = back_fen, now_ms, to_wallet, number if back_fen else 0
        return Expired(funding.packet_id, *back, seed, rolled_fen, rolled_into)

    def overdue_before(self, packet_id: str, now_ms: int) -> list[str]:
        """Return the packets that must end before anybody takes a share of this one, in order."""
        packet = self._state.packets.get(packet_id)
        return [] if packet is None else overdue_before(packet, self._state.packets, self._first_key, now_ms)

    def _way_back(self, funding: PacketFunded) -> tuple[int, int]:
        """Return the sender's wallet stream and the number of the next transfer to it."""
        to_wallet = wallet_index_of(funding.tenant, funding.sender, self._wallet_streams)
        return to_wallet, self._sent[to_wallet].last_number + 1
