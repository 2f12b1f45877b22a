"""Auditor: what the journals alone say, read by separate code, and whether that explains an answer.

No machine, no book and no posting of the platform is used here. Every event is checked as it is read: ranks, sums,
balances, numbers of transfers, seeds. An answer is explained if the journals, at the moment it is given, hold what it
tells (successes, ends) or held it at some moment since it was asked (reads, missing money).
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any
from zlib import crc32

from actors.ledger.levers import GRABS, SENDS, LeverSet, packet_lever, packet_of
from actors.ledger.transfer import PacketFunded, Refused, RunsReceived, Settled, SnapshotTaken
from actors.packet.messages import Expired, GrabbedMany, Opened, OpeningReturned, PacketView, Passivated, Won
from actors.ports import Position
from actors.wallet.messages import SandboxCredited, Statement, WalletView
from cluster.journal.codec import Chain
from cluster.journal.memory import MemoryJournals
from tests.simulation.pauses import Pauses

BEGIN = Position(0, 0)
"""Before every element."""

UNDECIDED = {"journal_unavailable", "shard_unavailable", "overloaded"}
"""Codes that promise nothing."""

Who = tuple[str, str]
"""(tenant, user)"""


class Life:
    """One packet's life."""

    def __init__(self, funding: PacketFunded, seq: int) -> None:
        self.funding = funding
        self.opened_seq = seq
        self.state = "open"
        self.shares: dict[str, tuple[int, int, int]] = {}
        """user -> (rank, amount, stamp)"""
        self.paid_fen = 0
        self.refunded_fen = 0
        self.payouts: list[tuple[tuple[str, str], int]] = []
        """((source, destination), number) of every transfer to a wallet."""
        self.history = [self.now()]

    def now(self) -> tuple[str, int, int, int]:
        """Return what a reader would see."""
        return self.state, len(self.shares), self.paid_fen, self.refunded_fen

    def grabbed(self, event: GrabbedMany) -> None:
        """Take shares in."""
        funding = self.funding
        assert self.state == "open", "nobody wins after the end"
        assert event.tenant == funding.tenant, "a packet is its tenant's"
        if funding.kind == "photo":
            assert funding.special is not None, "a price is paid to somebody"
            assert event.users == [funding.special.addressee], "the price of a photo is its owner's"
        else:
            assert event.at_ms < funding.expires_at_ms, "a share was taken in time"
        assert len(event.users) == len(event.amounts_fen) == len(event.to_wallets) > 0, "a row is a grab"
        for rank, (user, amount_fen) in enumerate(zip(event.users, event.amounts_fen, strict=True), event.first_rank):
            assert user not in self.shares, "one share a user"
            assert rank == len(self.shares) + 1 <= funding.count, "no more shares than the count, in ranks from one"
            assert funding.share_fen_min <= amount_fen <= funding.share_fen_max
            equal = amount_fen * funding.count == funding.total_fen
            assert funding.kind != "equal" or equal, "equal shares are equal"
            self.shares[user] = rank, amount_fen, event.at_ms
            self.paid_fen += amount_fen
        if len(self.shares) < funding.count:
            assert event.seed == b"", "the seed is published by the end"
        else:
            assert self.paid_fen == funding.total_fen, "the shares sum to the total"
            self._end("drained", event.seed)
        self.history.append(self.now())

    def expired(self, event: Expired) -> None:
        """Take the end of its time in."""
        assert self.state == "open", "a packet ends once"
        assert event.at_ms >= self.funding.expires_at_ms, "a packet lives its whole time"
        self.refunded_fen = event.amount_fen
        assert self.paid_fen + self.refunded_fen == self.funding.total_fen, "what was not taken goes back"
        self._end("expired", event.seed)
        self.history.append(self.now())

    def _end(self, state: str, seed: bytes) -> None:
        committed = self.funding.algorithm.encode() + b"\0" + self.funding.packet_id.encode() + b"\0" + seed
        assert hashlib.sha256(committed).digest() == self.funding.commitment, "the published seed is the committed one"
        self.state = state


class Auditor:
    """Everything the journals of one system say, so far as it was durable at the last `advance`."""

    def __init__(self, journals: MemoryJournals, wallet_streams: int, idempotency_ms: int, *, reads: bool) -> None:
        """`reads`: what the journals hold is durable at once, so read it before each answer is explained; and hosts
        are asked directly, too, who need not know of a packet that was only paid.
        """
        self._journals = journals
        self._reads = reads
        self.noted: Callable[[str, Position, Sequence[Any]], None] = lambda stream, position, events: None
        """Called for every element as it is read."""
        self._wallet_streams = wallet_streams
        self._idempotency_ms = idempotency_ms
        self._chains: dict[str, Chain] = {}
        self._read: dict[str, Position] = {}
        self._stamps: dict[str, int] = {}
        self._later: list[tuple[str, str, int, int, Who]] = []
        self._acknowledged: dict[tuple[str, str], int] = {}
        self._taken_in: list[PacketFunded] = []
        self.passivated: set[str] = set()
        self._passivated: list[str] = []
        self._settled: list[tuple[str, Settled]] = []
        self.seq = 0
        """Events read, of all streams."""
        self.packets: dict[str, Life] = {}
        self.fundings: dict[str, list[PacketFunded]] = {}
        self.funded_seq: dict[str, list[int]] = {}
        self.balances: dict[Who, list[int]] = {}
        """Every balance that a user ever had, the newest last."""
        self.credited_fen = 0
        self.sent: dict[tuple[str, str], list[tuple[int, Who]]] = {}
        """(source, destination) -> (amount, for whom), by number"""
        self.received: dict[tuple[str, str], dict[int, int]] = {}
        """(source, destination) -> number -> amount"""
        self.pauses = Pauses()

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
                assert event.funding.packet_id in self.packets, "only a second funding goes back"
                self._receive_funding(stream, event)
                funding = event.funding
                who = funding.tenant, funding.sender
                self._send(stream, event.to_wallet, event.number, funding.total_fen, who)
            case GrabbedMany():
                life = self.packets[event.packet_id]
                if life.funding.kind != "photo":
                    self.pauses.check_grab(stream, event.packet_id)
                life.grabbed(event)
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
                life.expired(event)
                self.pauses.packet_ended(stream, event.packet_id, self.seq)
                who = life.funding.tenant, life.funding.sender
                self._send(stream, event.to_wallet, event.number, event.amount_fen, who, life)
            case RunsReceived():
                for run in event.runs:
                    for at, (user, amount_fen) in enumerate(zip(run.users, run.amounts_fen, strict=True)):
                        self._receive(event.source, stream, run.number + at, amount_fen, (run.tenant, user))
                        self._change((run.tenant, user), amount_fen)
            case Settled():
                self._settled.append((stream, event))
            case Passivated():
                for packet_id in event.packet_ids:
                    assert packet_id not in self.passivated, "a packet leaves memory once"
                    self.passivated.add(packet_id)
                    self._passivated.append(packet_id)
            case LeverSet():
                life = self.packets.get(packet_of(event.lever) or "")
                self.pauses.take(stream, event, life and (life.state, life.funding.packet_stream), self.seq)
            case SnapshotTaken():
                pass
            case _:
                raise AssertionError(f"the model knows no {type(event).__name__}")

    def _take_funding(self, stream: str, event: PacketFunded) -> None:
        assert not self.pauses.is_on(stream, SENDS), "a packet was sent although sends are paused"
        earlier = self.fundings.setdefault(event.packet_id, [])
        for other in earlier:
            assert (other.tenant, other.sender, other.key) == (event.tenant, event.sender, event.key)
            assert event.at_ms - other.at_ms >= self._idempotency_ms, "a key funds once while it is remembered"
        self.funded_seq.setdefault(event.packet_id, []).append(self.seq)
        earlier.append(event)
        who = event.tenant, event.sender
        sent = self.sent.setdefault((stream, event.packet_stream), [])
        sent.append((event.total_fen, who))
        assert event.number == len(sent), "transfers are numbered without gaps"
        self._change(who, -event.total_fen)

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
        index = crc32("\n".join(who).encode()) % self._wallet_streams
        assert to_wallet == index, "money goes where its owner's wallet is"
        way = stream, f"wallet-{index:03d}"
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
        packets = sum(life.funding.total_fen - life.paid_fen - life.refunded_fen for life in self.packets.values())
        assert wallets + packets + self.in_flight_fen() == self.credited_fen

    # Explaining.

    def _follow(self) -> None:
        if self._reads:
            self.advance()

    def mark(self, who: Who | None = None, packet_id: str = "") -> tuple[int, int]:
        """Return where the history stands as something is asked: (events read, entries of the thing's own history)."""
        self._follow()
        if who is not None:
            return self.seq, len(self.balances.get(who, [0]))
        life = self.packets.get(packet_id)
        return self.seq, len(life.history) if life else 0

    def explain_grab(self, packet_id: str, user: str, reply: Any, since: tuple[int, int]) -> None:
        """Check the answer to a grab."""
        self._follow()
        life = self.packets.get(packet_id)
        if isinstance(reply, Won):
            assert life is not None, "a share of a packet that never opened"
            assert life.shares.get(user) == (reply.rank, reply.amount_fen, reply.at_ms), "the journal holds the share"
            return
        assert isinstance(reply, Refused)
        if reply.code in ("drained", "expired"):
            assert life is not None, "an end of a packet that never opened"
            assert life.state == reply.code, f"{reply.code} was told, the journal says {life.state}"
            assert user not in life.shares, "a winner is never refused"
        elif reply.code == "packet_not_found":
            assert life is None or life.opened_seq > since[0], "an open packet was not found"
            paid = [] if self._reads else self.fundings.get(packet_id, [])
            for funding, seq in zip(paid, self.funded_seq.get(packet_id, []), strict=False):
                assert seq > since[0] or self.forgotten(funding), "a paid packet was not found"
        elif reply.code == "paused":
            assert life is not None, "a pause of a packet that never opened"
            levers = GRABS, packet_lever(packet_id)
            assert any(self.pauses.was_on(life.funding.packet_stream, lever, since[0]) for lever in levers), "no pause"
            assert since[1] == 0 or life.history[since[1] - 1][0] == "open", "an end is told, also while it is paused"
            assert user not in life.shares or life.shares[user][0] >= since[1], "a winner is never refused"
        else:
            assert reply.code in UNDECIDED, reply

    def explain_lever(self, lever: str, paused: bool, answer: str, since: tuple[int, int]) -> None:
        """Check what an operator was told who paused something or let it go on."""
        self._follow()
        packet_id = packet_of(lever)
        if answer == "done":
            if packet_id is not None:
                streams = [self.packets[packet_id].funding.packet_stream]
            else:
                kind = "wallet-" if lever == SENDS else "packet-"
                streams = [stream for stream in self._journals.stored if stream.startswith(kind)]
            for stream in streams:
                so = self.pauses.was_on if paused else self.pauses.was_off
                assert so(stream, lever, since[0]), f"{lever} was told to be set, and never was in {stream}"
        elif answer in ("drained", "expired"):
            assert paused, "whatever has ended goes on"
            assert self.packets[packet_id or ""].state == answer
        elif answer == "packet_not_found":
            self.explain_grab(packet_id or "", "", Refused(answer), since)  # type: ignore[arg-type]
        else:
            assert answer in UNDECIDED, answer

    def forgotten(self, funding: PacketFunded) -> bool:
        """Tell whether its wallet stream may have forgotten this funding's key."""
        index = crc32("\n".join((funding.tenant, funding.sender)).encode()) % self._wallet_streams
        return self._stamps[f"wallet-{index:03d}"] - funding.at_ms >= self._idempotency_ms

    def explain_statement(self, who: Who, reply: Any, since: tuple[int, int]) -> None:
        """Check lines that were told, newest first."""
        if not isinstance(reply, Statement):
            assert reply.code in UNDECIDED, reply
            return
        told = [line.balance_fen for line in reply.lines]
        assert [line.balance_fen - line.amount_fen for line in reply.lines[:-1]] == told[1:], "lines follow one another"
        history = self.balances.get(who, [0])
        ends = range(max(1, since[1]), len(history) + 1)
        newest_first = history[::-1]
        moments = [newest_first[len(history) - end :][: len(told)] for end in ends]
        assert told in moments, f"the lines of {who} end in {told}, the journal's in {moments}"

    def explain_wallet(self, who: Who, reply: Any, since: tuple[int, int]) -> None:
        """Check a balance that was told."""
        self._follow()
        if isinstance(reply, WalletView):
            moments = self.balances.get(who, [0])[since[1] - 1 :]
            assert reply.available_fen in moments, f"{who} was shown {reply.available_fen}, had {moments} meanwhile"
        else:
            assert reply.code in UNDECIDED, reply

    def explain_view(self, packet_id: str, reply: Any, since: tuple[int, int]) -> None:
        """Check a packet that was shown."""
        self._follow()
        if not isinstance(reply, PacketView):
            assert reply.code != "paused", "everything can be looked at"
            self.explain_grab(packet_id, "", reply, since)
            return
        seen = reply.state, len(reply.grabs), reply.grabbed_fen, reply.refunded_fen
        life = self.packets[packet_id]
        moments = life.history[max(0, since[1] - 1) :]
        assert seen in moments, f"shown {seen}, was {moments} meanwhile"
        listed = {line.user: (rank, line.amount_fen, line.at_ms) for rank, line in enumerate(reply.grabs, 1)}
        assert listed.items() <= life.shares.items(), "the list is the journal's"
        assert (reply.seed == b"") is (reply.state == "open"), "the seed is published by the end"

    def explain_send(self, who: Who, key: str, wish: tuple[Any, ...], answer: Any, since: tuple[int, int]) -> None:
        """Check the answer to a send: a funding, or the code of a refusal. `wish`: (kind, total, count, greeting)."""
        self._follow()
        mine = [
            fundings
            for fundings in self.fundings.values()
            if (fundings[0].tenant, fundings[0].sender, fundings[0].key) == (*who, key)
        ]
        assert len(mine) <= 1, "a key means one packet"
        fundings = mine[0] if mine else []
        if isinstance(answer, PacketFunded):
            assert answer in fundings, "the journal holds the funding"
            assert (answer.kind, answer.total_fen, answer.count, answer.greeting) == wish
            assert self.packets[answer.packet_id].funding == answer, "201 means open"
        elif answer == "insufficient_funds":
            moments = self.balances.get(who, [0])[since[1] - 1 :]
            assert min(moments) < wish[1], f"{who} was refused {wish[1]}, had {moments} meanwhile"
        elif answer == "idempotency_key_reused":
            same = [(f.kind, f.total_fen, f.count, f.greeting) == wish for f in fundings]
            assert not all(same) or len(fundings) > 1, "only another request, or a forgotten key, is refused"
        elif answer == "paused":
            index = crc32("\n".join(who).encode()) % self._wallet_streams
            assert self.pauses.was_on(f"wallet-{index:03d}", SENDS, since[0]), "no pause"
            for funding in fundings:
                [*_, seq] = self.funded_seq[funding.packet_id]
                assert seq > since[0] or self.forgotten(funding), "what was sent is answered again all the same"
        else:
            assert answer in UNDECIDED, answer
