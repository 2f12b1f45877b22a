"""Auditor: what the journals alone say, read by separate code, and whether that explains an answer.

No machine, no book and no posting of the platform is used here. Every event is checked as it is read: ranks, sums,
balances, numbers of transfers, seeds. An answer is explained if the journals, at the moment it is given, hold what it
tells (successes, ends) or held it at some moment since it was asked (reads, missing money).
"""

from collections.abc import Callable, Sequence
from typing import Any

from actors.kernel.messages import Refused, SnapshotTaken
from actors.kernel.ports import Position
from actors.kernel.switches import SwitchSet
from actors.ledger.holds import Held, HoldExpired, HoldPosted, HoldVoided
from actors.ledger.transfer import Settled
from actors.packet.events import Expired, GrabbedMany, Opened, OpeningReturned, Passivated, PhraseMissed
from actors.packet.replies import PacketView, Won
from actors.packet.rules import PacketRules
from actors.packet.switches import GRABS, packet_of, packet_switch
from actors.transfers.funding import PacketFunded
from actors.transfers.ids import Layout
from actors.wallet.commands import AcceptLishi, Send
from actors.wallet.events import (
    Committed,
    LishiAsked,
    LishiClosed,
    LishiCounted,
    Noted,
    PhotoKept,
    RunsReceived,
    SandboxCredited,
)
from actors.wallet.replies import Funded, Statement, WalletView
from actors.wallet.rules import WalletRules
from actors.wallet.switches import SENDS
from cluster.config import Settings
from cluster.journal.codec import Chain
from tests.simulation.favours import Favours, Moments
from tests.simulation.holds import HoldLives
from tests.simulation.keys import LostKeys
from tests.simulation.lives import Gift, Life, Tries
from tests.simulation.marks import Mark
from tests.simulation.memory_journal import MemoryJournals
from tests.simulation.parts import SentLately
from tests.simulation.pauses import Pauses
from tests.simulation.recount import day_of, hash_of

BEGIN = Position(0, 0)
"""Before every element."""

UNDECIDED = {"journal_unavailable", "shard_unavailable", "overloaded"}
"""Codes that promise nothing."""

Who = tuple[str, str]
"""(tenant, user)"""


def route_of(kind: str) -> str:
    """Return by which route what is of that kind was sent: a key is one of its route."""
    return kind if kind in ("rain", "photo") else ""


class Auditor:
    """Everything the journals of one system say, so far as it was durable at the last `advance`."""

    def __init__(self, journals: MemoryJournals, settings: Settings, *, reads: bool) -> None:
        """`reads`: what the journals hold is durable at once, so read it before each answer is explained; and hosts
        are asked directly, too, who need not know of a packet that was only paid.
        """
        self._journals = journals
        self._reads = reads
        self.noted: Callable[[str, Position, Sequence[Any]], None] = lambda stream, position, events: None
        """Called for every element as it is read."""
        packets, wallets = settings.rules(PacketRules), settings.rules(WalletRules)
        self._wallet_streams = Layout.of(settings.layout).wallet
        self._idempotency_ms = wallets.idempotency_ms
        self.sent_lately = SentLately(settings)
        self._opens_ms_max = wallets.sends.opens_ms_max
        self._tries = Tries(packets.phrase_tries_max, packets.phrase_tries_ms, packets.phrase_missers_max)
        self._chains: dict[str, Chain] = {}
        self._read: dict[str, Position] = {}
        self._stamps: dict[str, int] = {}
        self._later: list[tuple[str, str, int, int, Who]] = []
        self._acknowledged: dict[tuple[str, str], int] = {}
        self._heard: dict[tuple[str, str], int] = {}
        self._taken_in: list[PacketFunded] = []
        self.passivated: set[str] = set()
        self._passivated: list[str] = []
        self._settled: list[tuple[str, Settled]] = []
        self.seq = 0  # events read, of all streams
        self.packets: dict[str, Life] = {}
        self.fundings: dict[str, list[PacketFunded]] = {}
        self.funded_seq: dict[str, list[int]] = {}
        self.gifts: dict[tuple[str, str, str, str], list[Gift]] = {}
        """(tenant, sender, key, "") or (tenant, sender, "", lishi id) -> what was paid for by that, the newest last"""
        self.packet_ids: dict[str, None] = {}
        """Every packet that was paid for, as people know it, in order."""
        self.divided: dict[str, list[str]] = {}
        """packet id as people know it -> ids of its lanes"""
        self.rains: dict[str, list[str]] = {}
        """rain id -> packet ids of its bursts"""
        self._new_gifts: list[Gift] = []
        self._forwarded: list[tuple[str, list[str]]] = []
        """(user, ids of lanes) whose lanes must have been empty."""
        self.admitted: set[tuple[str, str]] = set()
        """(packet id, user) of whoever said, in some request, the phrase, or was said to be of the group."""
        self.favours = Favours(settings)
        self.holds = HoldLives(settings)
        self.balances: dict[Who, list[int]] = {}
        """Every balance that a user ever had, the newest last."""
        self.credited_fen = 0
        self.sent: dict[tuple[str, str], list[tuple[int, Who]]] = {}
        """(source, destination) -> (amount, for whom), by number"""
        self.received: dict[tuple[str, str], dict[int, int]] = {}
        """(source, destination) -> number -> amount"""
        self.pauses = Pauses()
        self.lost_keys = LostKeys(self.fundings)

    # Reading.

    def advance(self) -> None:
        """Read what was appended since, and check it."""
        for stream, stored in self._journals.stored.items():
            chain = self._chains.setdefault(stream, Chain(self._journals.codec, stream))
            elements, begin = stored.elements, len(stored.elements)
            after = self._read.get(stream, BEGIN)
            while begin and elements[begin - 1][0] > after:
                begin -= 1
            for position, payload in elements[begin:]:
                events = chain.take(position, payload)
                self.noted(stream, position, events)
                for event in events:
                    self.seq += 1
                    self._take(stream, event)
                self._read[stream] = position
                for gift in self._new_gifts:
                    gift.check()
                self._new_gifts.clear()
                self.favours.all_paid()
        for source, destination, number, amount_fen, who in self._later:
            sent = self.sent.get((source, destination), [])[number - 1 : number]
            assert sent == [(amount_fen, who)], "only what was sent is received"
        self._later.clear()
        for funding in self._taken_in:
            assert funding in self.fundings.get(funding.packet_id, []), "nobody re-decides a field of a funding"
        self._taken_in.clear()
        for stream, event in self._settled:
            received = self.received.get((stream, event.destination), {})
            assert all(n in received for n in range(1, event.number + 1)), "only what was received is acknowledged"
            self._acknowledged[stream, event.destination] = event.number
        self._settled.clear()
        for packet_id in self._passivated:
            life = self.packets[packet_id]
            assert life.state != "open", "only what has ended leaves memory"
            settled = [self._acknowledged.get(way, 0) >= number for way, number in life.payouts]
            assert all(settled), "only what is settled leaves memory"
        self._passivated.clear()
        for user, lanes in self._forwarded:
            states = [self.packets[lane].state for lane in lanes]
            assert set(states) == {"drained"}, f"{user} took a share of another lane, those before are {states}"
        self._forwarded.clear()
        for packet_id, user in self.favours.wrote:
            lives = [self.packets.get(lane) for lane in self.lanes_of(packet_id)]
            assert any(life and user in life.shares for life in lives), "only who has a share writes to the sender"
        self.favours.wrote.clear()

    def _take(self, stream: str, event: Any) -> None:
        stamp_ms = getattr(event, "at_ms", 0)
        assert stamp_ms == 0 or stamp_ms >= self._stamps.get(stream, 0), "time never goes back in a journal"
        self._stamps[stream] = max(stamp_ms, self._stamps.get(stream, 0))
        match event:
            case SandboxCredited():
                self.credited_fen += event.amount_fen
                self._change((event.tenant, event.user), event.amount_fen)
            case PacketFunded():
                self._take_funding(stream, event)
            case Opened():
                assert event.funding.packet_id not in self.packets, "a packet opens once"
                self._receive_funding(stream, event)
                self.packets[event.funding.packet_id] = Life(event.funding, self.seq)
            case OpeningReturned():
                special = event.funding.special
                rain_id = special.reference if special is not None and special.burst else ""
                second = {event.funding.packet_id, rain_id} & self.packets.keys()
                assert second, "only a second funding goes back"
                self._receive_funding(stream, event)
                funding = event.funding
                who = funding.tenant, funding.sender
                self._send(stream, event.to_wallet, event.number, funding.total_fen, who)
            case GrabbedMany():
                life = self.packets[event.packet_id]
                if life.funding.kind != "photo":
                    self.pauses.check_grab(stream, event.packet_id)
                life.grabbed(event, self._tries)
                self._check_takers(life, event)
                if life.state != "open":
                    self.pauses.packet_ended(stream, event.packet_id, self.seq)
                following = dict(event.numbers)
                for user, amount_fen, to_wallet in zip(event.users, event.amounts_fen, event.to_wallets, strict=True):
                    who = life.funding.tenant, user
                    self._send(stream, to_wallet, following[to_wallet], amount_fen, who, life)
                    following[to_wallet] += 1
                assert following.keys() == set(event.to_wallets), "a number for each wallet stream"
            case Expired():
                life = self.packets[event.packet_id]
                life.expired(event, self._burst_after(life))
                self.pauses.packet_ended(stream, event.packet_id, self.seq)
                who = life.funding.tenant, life.funding.sender
                assert (event.number > 0) is (event.amount_fen > 0), "nothing is not sent back"
                if event.number:
                    self._send(stream, event.to_wallet, event.number, event.amount_fen, who, life)
            case PhraseMissed():
                self.packets[event.packet_id].misses(event.users, event.at_ms, self.seq, self._tries)
            case Committed() | LishiCounted() | LishiAsked() | LishiClosed() | Noted():
                self.favours.take(stream, event, self.seq)
            case Held() | HoldPosted() | HoldVoided() | HoldExpired():
                change_fen = self.holds.take(stream, event, self.seq)
                if change_fen:  # what is taken was reserved before
                    self._change((event.tenant, event.user), change_fen)
            case RunsReceived():
                for run in event.runs:
                    for at, (user, amount_fen) in enumerate(zip(run.users, run.amounts_fen, strict=True)):
                        self._receive(event.source, stream, run.number + at, amount_fen, (run.tenant, user))
                        self._change((run.tenant, user), amount_fen)
            case Settled():
                self._settled.append((stream, event))
                self._heard[stream, event.destination] = event.number
            case Passivated():
                for packet_id in event.packet_ids:
                    assert packet_id not in self.passivated, "a packet leaves memory once"
                    self.passivated.add(packet_id)
                    self._passivated.append(packet_id)
            case SwitchSet():
                paused = self.packets.get(packet_of(event.switch) or "")
                about = None if paused is None else (paused.state, paused.funding.packet_stream)
                self.pauses.take(stream, event, about, self.seq)
            case SnapshotTaken() | PhotoKept():
                pass
            case _:
                raise AssertionError(f"the model knows no {type(event).__name__}")

    def _take_funding(self, stream: str, event: PacketFunded) -> None:
        assert not self.pauses.is_on(stream, SENDS), "a packet was sent although sends are paused"
        self.fundings.setdefault(event.packet_id, []).append(event)
        self.funded_seq.setdefault(event.packet_id, []).append(self.seq)
        self._take_gift(stream, event)
        self.sent_lately.take(event)
        self.favours.pay(event, self.seq)
        who = event.tenant, event.sender
        sent = self.sent.setdefault((stream, event.packet_stream), [])
        sent.append((event.total_fen, who))
        assert event.number == len(sent), "transfers are numbered without gaps"
        self._change(who, -event.total_fen)

    def _take_gift(self, stream: str, event: PacketFunded) -> None:
        special, lishi_id = event.special, ""
        if special is not None:
            assert special.opens_at_ms <= event.at_ms + self._opens_ms_max, "nothing opens so late"
            assert not special.bursts or event.at_ms < event.expires_at_ms, "every burst can still come"
            lishi_id = special.reference if event.kind == "lishi" else ""
        key = "" if lishi_id else event.key
        gifts = self.gifts.setdefault((event.tenant, event.sender, key, lishi_id or route_of(event.kind)), [])
        if gifts and gifts[-1] in self._new_gifts:
            gifts[-1].add(event)
        else:
            last = gifts[-1].fundings if gifts else []
            assert all(event.at_ms - one.at_ms >= self._idempotency_ms for one in last), "a key funds once in its time"
            assert all(self._arrived(stream, one) for one in last), "a key funds once while it is remembered"
            gifts.append(Gift(event, self.seq))
            self._new_gifts.append(gifts[-1])
        packet_id = event.packet_id.partition(".")[0]
        self.packet_ids[packet_id] = None
        if special is not None and special.lanes > 1:
            lanes = self.divided.setdefault(packet_id, [])
            lanes += [event.packet_id] if event.packet_id not in lanes else []
        if special is not None and special.bursts:
            bursts = self.rains.setdefault(special.reference, [])
            bursts += [event.packet_id] if event.packet_id not in bursts else []

    def _check_takers(self, life: Life, event: GrabbedMany) -> None:
        """Check what one packet cannot know: other lanes, earlier bursts, what was said."""
        special = life.special
        if special.group or special.phrase:
            said = all((event.packet_id, user) in self.admitted for user in event.users)
            assert said, "nobody takes a share who is not of the group, or never said the phrase"
        if special.lanes > 1:
            for user in event.users:
                lanes = self._from_home(event.packet_id.partition(".")[0], user)
                has = [lane for lane in lanes if lane in self.packets and user in self.packets[lane].shares]
                assert has == [event.packet_id], "one share a user over all lanes"
                if lanes[0] != event.packet_id:
                    self._forwarded.append((user, lanes[: lanes.index(event.packet_id)]))
        if special.burst:
            before = [self.packets.get(burst) for burst in self.rains[special.reference][: special.burst]]
            late = [one for one in before if one and one.state == "open" and one.funding.expires_at_ms <= event.at_ms]
            assert not late, "nobody takes a share of a burst before those before it have ended"

    def _burst_after(self, life: Life) -> Life | None:
        """Return the burst that comes after this one, if there is one, and it is there."""
        if not life.special.bursts or life.special.burst + 1 == life.special.bursts:
            return None
        return self.packets.get(self.rains[life.special.reference][life.special.burst + 1])

    def lanes_of(self, packet_id: str) -> list[str]:
        """Return the lanes of a packet, in order; of one that is not several, or not known, itself."""
        return self.divided.get(packet_id, [packet_id])

    def has_shares(self, packet_id: str) -> bool:
        """Tell whether somebody may find a share in a packet, once it opens."""
        lives = [self.packets.get(lane) for lane in self.lanes_of(packet_id)]
        return any(life is None or life.state == "open" for life in lives)

    def _from_home(self, packet_id: str, user: str) -> list[str]:
        """Return the lanes of a packet from a user's own on."""
        lanes = self.lanes_of(packet_id)
        if len(lanes) == 1:
            return lanes
        home = hash_of(self.fundings[lanes[0]][0].tenant, user) % len(lanes)
        return lanes[home:] + lanes[:home]

    def wallet_of(self, who: Who) -> str:
        """Name the stream that holds somebody's money."""
        return f"wallet-{hash_of(*who) % self._wallet_streams:03d}"

    def _receive_funding(self, stream: str, event: Opened | OpeningReturned) -> None:
        funding = event.funding
        who = funding.tenant, funding.sender
        self._taken_in.append(funding)
        self._receive(event.source, stream, funding.number, funding.total_fen, who)

    def _change(self, who: Who, amount_fen: int) -> None:
        history = self.balances.setdefault(who, [0])
        history.append(history[-1] + amount_fen)
        assert history[-1] >= 0, f"the balance of {who} is negative"

    def _send(
        self, stream: str, to_wallet: int, number: int, amount_fen: int, who: Who, life: Life | None = None
    ) -> None:
        assert f"wallet-{to_wallet:03d}" == self.wallet_of(who), "money goes where its owner's wallet is"
        way = stream, self.wallet_of(who)
        sent = self.sent.setdefault(way, [])
        sent.append((amount_fen, who))
        assert number == len(sent), "transfers are numbered without gaps"
        if life is not None:
            life.payouts.append((way, number))

    def _receive(self, source: str, stream: str, number: int, amount_fen: int, who: Who) -> None:
        received = self.received.setdefault((source, stream), {})
        assert number not in received, "a transfer enters a book once"
        received[number] = amount_fen
        self._later.append((source, stream, number, amount_fen, who))

    # Sums.

    def balance_fen(self, who: Who) -> int:
        """Return what a user durably has."""
        return self.balances.get(who, [0])[-1]

    def in_flight_fen(self) -> int:
        """Return what was sent and not received."""
        sent = sum(amount for transfers in self.sent.values() for amount, _ in transfers)
        return sent - sum(sum(received.values()) for received in self.received.values())

    def unsettled(self) -> bool:
        """Tell whether a source has not heard yet that its money has arrived."""
        return any(self._acknowledged.get(way, 0) < len(transfers) for way, transfers in self.sent.items())

    def check_conservation(self) -> None:
        """Check that every fen is in a wallet, in a packet, or between two books."""
        wallets = sum(history[-1] for history in self.balances.values())
        packets = sum(life.rest_fen for life in self.packets.values())
        holds = self.holds.open_fen() + self.holds.taken_fen
        assert wallets + packets + holds + self.in_flight_fen() == self.credited_fen

    # Explaining.

    def _follow(self) -> None:
        if self._reads:
            self.advance()

    def mark(self, who: Who | None = None, packet_id: str = "") -> Mark:
        """Return where the history stands as something is asked, of a wallet or of a packet."""
        self._follow()
        balances = len(self.balances.get(who, [0])) if who is not None else 0
        lanes = self.lanes_of(packet_id) if packet_id else []
        seen = {lane: len(self.packets[lane].history) for lane in lanes if lane in self.packets}
        return Mark(self.seq, balances, seen, dict(self._stamps))

    def explain_grab(self, packet_id: str, user: str, reply: Any, since: Mark, *, said: bool = True) -> None:
        """Check the answer to a grab; `said`: he said the phrase, or was said to be of the group, if need be."""
        self._follow()
        lanes = self._from_home(packet_id, user)
        lives = [self.packets.get(lane) for lane in lanes]
        if isinstance(reply, Won):
            has = [life.shares[user] for life in lives if life and user in life.shares]
            assert has == [(reply.rank, reply.amount_fen, reply.at_ms)], "the journal holds the share"
            return
        assert isinstance(reply, Refused)
        # Whoever is refused was so by his own lane, or by a later one, all those before it being empty.
        empty = next((at for at, life in enumerate(lives) if life is None or life.state != "drained"), len(lives))
        met = lives[: empty + 1]
        if reply.code == "packet_not_found":
            self._explain_lost(lanes, since)
        elif reply.code == "drained":
            assert empty == len(lives), "drained was told while there were shares"
            assert not any(life and user in life.shares for life in lives), "a winner is never refused"
        elif reply.code == "expired":
            states = [life.state if life else "" for life in met]
            assert states[-1] == "expired", f"expired was told, the journal says {states}"
            assert not any(life and user in life.shares for life in lives), "a winner is never refused"
        elif reply.code not in UNDECIDED:
            reasons = [self._has_reason(reply.code, life, user, since, said=said) for life in met if life]
            assert any(reasons) or self.lost_keys.hold(reply.code, lanes), f"{reply.code} was told without a reason"

    def _explain_lost(self, lanes: list[str], since: Mark) -> None:
        """Check that a packet, or one of its lanes, was not to be found."""
        lives = [self.packets.get(lane) for lane in lanes]
        assert any(life is None or life.opened_seq > since.seq for life in lives), "an open packet was not found"
        for lane in [] if self._reads else lanes:
            paid = self.fundings.get(lane, [])
            for funding, seq in zip(paid, self.funded_seq.get(lane, []), strict=False):
                assert seq > since.seq or self.forgotten(funding), "a paid packet was not found"

    def _has_reason(self, code: str, life: Life, user: str, since: Mark, *, said: bool) -> bool:
        """Tell whether a packet, or one lane, may have refused a user so, since he asked."""
        seen = since.seen.get(life.packet_id, 0)
        if seen and life.history[seen - 1].state != "open":
            return False  # an end is told, whatever else is in the way
        special, stream = life.special, life.funding.packet_stream
        if user in life.shares and life.shares[user][0] - special.rank_base <= (
            life.history[seen - 1].count if seen else 0
        ):
            return False  # a winner is never refused
        stamp_ms = since.stamps.get(stream, 0)
        match code:
            case "paused":
                levers = GRABS, packet_switch(life.packet_id)
                return any(self.pauses.was_on(stream, lever, since.seq) for lever in levers)
            case "seed_unknown":
                return self.lost_keys.ever
            case "not_open":
                return stamp_ms < special.opens_at_ms
            case "day_limit":
                today = day_of(stamp_ms)
                return any(day >= today and count == special.day_count_max for day, count in life.days.items())
            case "own_packet":
                return user == special.excluded
            case "not_addressee":
                return special.addressee not in ("", user)
            case "not_member":
                return bool(special.group) and not said
            case "wrong_passphrase":
                return bool(special.phrase) and not said and life.missed_seq.get(user, 0) > since.seq
            case "rate_limited":
                return bool(special.phrase) and life.refuses_phrases_of(user, stamp_ms, self._tries)
        raise AssertionError(f"nobody refuses a grab with {code}")

    def explain_lever(self, lever: str, paused: bool, answer: str, since: Mark) -> None:
        """Check what an operator was told who paused something or let it go on."""
        self._follow()
        packet_id = packet_of(lever) or ""
        lives = [self.packets.get(lane) for lane in self.lanes_of(packet_id)]
        if answer == "done":
            self.pauses.explain(lever, paused, lives, self._journals.stored, since.seq)
        elif answer in ("drained", "expired"):
            assert paused, "whatever has ended goes on"
            states = [life.state for life in lives if life]
            assert "open" not in states, "what is open can be paused"
            assert answer in states
        elif answer == "packet_not_found":
            self._explain_lost(self.lanes_of(packet_id), since)
        else:
            assert answer in UNDECIDED, answer

    def stamp_ms(self, stream: str) -> int:
        """Return the greatest stamp in a stream."""
        return self._stamps.get(stream, 0)

    def forgotten(self, funding: PacketFunded) -> bool:
        """Tell whether its wallet stream may have forgotten this funding's key: it is past, and its packet is there."""
        wallet = self.wallet_of((funding.tenant, funding.sender))
        return self._stamps[wallet] - funding.at_ms >= self._idempotency_ms and self._arrived(wallet, funding)

    def _arrived(self, wallet: str, funding: PacketFunded) -> bool:
        return self._heard.get((wallet, funding.packet_stream), 0) >= funding.number

    def explain_statement(self, who: Who, reply: Any, since: Mark) -> None:
        """Check lines that were told, newest first."""
        if not isinstance(reply, Statement):
            assert reply.code in UNDECIDED, reply
            return
        told = [line.balance_fen for line in reply.lines]
        assert [line.balance_fen - line.amount_fen for line in reply.lines[:-1]] == told[1:], "lines follow one another"
        history = self.balances.get(who, [0])
        ends = range(max(1, since.balances), len(history) + 1)
        moments = [history[::-1][len(history) - end :][: len(told)] for end in ends]
        assert told in moments, f"the lines of {who} end in {told}, the journal's in {moments}"

    def explain_wallet(self, who: Who, reply: Any, since: Mark) -> None:
        """Check a balance that was told."""
        self._follow()
        if isinstance(reply, WalletView):
            moments = self.balances.get(who, [0])[since.balances - 1 :]
            assert reply.available_fen in moments, f"{who} was shown {reply.available_fen}, had {moments} meanwhile"
            held = self.holds.held.get(who, Moments(0)).since(since.seq)
            assert reply.held_fen in held, f"{who} was shown {reply.held_fen} held, had {held} meanwhile"
        else:
            assert reply.code in UNDECIDED, reply

    def explain_view(self, packet_id: str, reply: Any, since: Mark) -> None:
        """Check a packet that was shown: its lanes, or a refusal."""
        self._follow()
        lanes = self.lanes_of(packet_id)
        if isinstance(reply, Refused):
            if reply.code == "packet_not_found":
                self._explain_lost(lanes, since)
            else:
                assert reply.code in UNDECIDED or self.lost_keys.hold(reply.code, lanes), reply
            return
        assert [view.funding.packet_id for view in reply] == lanes, "all lanes are shown, in order"
        for view in reply:
            self._explain_lane(view, since)

    def _explain_lane(self, view: PacketView, since: Mark) -> None:
        life = self.packets[view.funding.packet_id]
        assert view.funding == life.funding
        fen = view.grabbed_fen, view.refunded_fen, view.rolled_in_fen, view.rolled_out_fen
        seen = (view.state, len(view.grabs), *fen, view.chain)
        moments = life.history[max(0, since.seen.get(life.packet_id, 0) - 1) :]
        assert seen in moments, f"shown {seen}, was {moments} meanwhile"
        lines = enumerate(view.grabs, life.special.rank_base + 1)
        listed = {line.user: (rank, line.amount_fen, line.at_ms) for rank, line in lines}
        assert listed.items() <= life.shares.items(), "the list is the journal's"
        assert (view.seed == b"") is (view.state == "open"), "the seed is published by the end"

    def explain_send(self, send: Send, answer: Funded | str, since: Mark) -> None:
        """Check the answer to a send: what it paid for, or the code of a refusal."""
        self._follow()
        made = self.favours.committed.get(send.commitment_id)
        if answer == "commitment_not_found":
            assert send.commitment_id, "nothing was committed to"
        elif answer == "commitment_mismatch":
            assert made is not None, "nothing was committed to"
            wanted = send.algorithm, send.count if send.kind == "star" else 0, len(send.bursts)
            assert (made.algorithm, made.star_count, made.bursts) != wanted, "it was for that packet"
        elif answer == "bad_times":
            assert send.special is not None, "it opens at once"
            assert send.special.opens_at_ms or send.bursts, "it opens at once"
        else:
            gifts = self.gifts.get((send.tenant, send.user, send.key, route_of(send.kind)), [])
            self._explain_payment(
                (send.tenant, send.user), send.total_fen, gifts, lambda gift: gift.answers(send), answer, since
            )

    def _explain_payment(
        self,
        who: Who,
        total_fen: int,
        gifts: list[Gift],
        is_wanted: Callable[[Gift], bool],
        answer: Funded | str,
        since: Mark,
    ) -> None:
        """Check the answer to whoever wants to pay. `gifts`: what was paid for under his key."""
        if isinstance(answer, Funded):
            told = [answer.funding, *answer.others]
            [gift] = [gift for gift in gifts if gift.fundings == told]
            assert is_wanted(gift), "what was asked for is sent"
            opened = [self.packets[funding.packet_id].funding for funding in told]
            assert opened == told, "201 means open"
        elif answer == "insufficient_funds":
            moments = self.balances.get(who, [0])[since.balances - 1 :]
            assert min(moments) < total_fen, f"{who} was refused {total_fen}, had {moments} meanwhile"
        elif answer == "idempotency_key_reused":
            same = [is_wanted(gift) for gift in gifts]
            assert not all(same) or len(gifts) > 1, "only another request, or a forgotten key, is refused"
        elif answer == "rate_limited":
            self.sent_lately.explain(who, since.stamps.get(self.wallet_of(who), 0))
        elif answer == "paused":
            assert self.pauses.was_on(self.wallet_of(who), SENDS, since.seq), "no pause"
            late = [gift.seq > since.seq or self.forgotten(gift.fundings[0]) for gift in gifts[-1:]]
            assert all(late), "what was sent is answered again all the same"
        else:
            paid = [funding.packet_id for gift in gifts for funding in gift.fundings]
            assert answer in UNDECIDED or self.lost_keys.hold(answer, paid), answer

    def explain_accept(self, accept: AcceptLishi, answer: Funded | str, since: Mark) -> None:
        """Check the answer to whoever accepts a lishi."""
        self._follow()
        who = accept.tenant, accept.user
        if answer in ("lishi_not_found", "not_addressee", "lishi_closed", "lishi_lapsed"):
            self.favours.explain_lishi(accept.lishi_id, *who, answer, since.seq)
            return
        gifts = self.gifts.get((*who, "", accept.lishi_id), [])

        def is_wanted(gift: Gift) -> bool:
            [funding] = gift.fundings
            return (funding.kind, funding.total_fen, funding.greeting) == ("lishi", accept.amount_fen, accept.greeting)

        self._explain_payment(who, accept.amount_fen, gifts, is_wanted, answer, since)
