"""Model: what the journals alone say, read by separate code, and whether that explains an answer.

No machine, no book and no posting of the platform is used here. Every event is checked as it is read: ranks, sums,
balances, numbers of transfers, seeds. An answer is explained if the journals, at the moment it is given, hold what it
tells (successes, ends) or held it at some moment since it was asked (reads, missing money).
"""

import hashlib
from typing import Any
from zlib import crc32

from actors.ledger.transfer import PacketFunded, PayoutsReceived, Refused, Settled, SnapshotTaken
from actors.packet.messages import Expired, Grabbed, Opened, OpeningReturned, PacketView, Passivated, Won
from actors.wallet.messages import SandboxCredited, WalletView
from cluster.journal.codec import Chain
from cluster.journal.memory import MemoryJournals

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
        self.refunded_fen = 0
        self.history = [self.now()]

    @property
    def paid_fen(self) -> int:
        """What the takers have."""
        return sum(amount for _, amount, _ in self.shares.values())

    def now(self) -> tuple[str, int, int, int]:
        """Return what a reader would see."""
        return self.state, len(self.shares), self.paid_fen, self.refunded_fen

    def grabbed(self, event: Grabbed) -> None:
        """Take a share in."""
        funding = self.funding
        assert self.state == "open", "nobody wins after the end"
        assert event.user not in self.shares, "one share a user"
        assert event.rank == len(self.shares) + 1 <= funding.count, "no more shares than the count, in ranks from one"
        assert funding.share_fen_min <= event.amount_fen <= funding.share_fen_max
        assert event.at_ms < funding.expires_at_ms, "a share was taken in time"
        self.shares[event.user] = event.rank, event.amount_fen, event.at_ms
        if event.rank < funding.count:
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


class Model:
    """Everything the journals of one system say."""

    def __init__(self, journals: MemoryJournals, wallet_streams: int, idempotency_ms: int) -> None:
        self._journals = journals
        self._wallet_streams = wallet_streams
        self._idempotency_ms = idempotency_ms
        self._chains: dict[str, Chain] = {}
        self._elements_read: dict[str, int] = {}
        self._later: list[tuple[str, str, int, int, Who]] = []
        self._settled: list[tuple[str, Settled]] = []
        self.seq = 0
        """Events read, of all streams."""
        self.packets: dict[str, Life] = {}
        self.fundings: dict[str, list[PacketFunded]] = {}
        self.funded_seq: dict[str, int] = {}
        self.balances: dict[Who, list[int]] = {}
        """Every balance that a user ever had, the newest last."""
        self.credited_fen = 0
        self.sent: dict[tuple[str, str], list[tuple[int, Who]]] = {}
        """(source, destination) -> (amount, for whom), by number"""
        self.received: dict[tuple[str, str], dict[int, int]] = {}
        """(source, destination) -> number -> amount"""

    # Reading.

    def advance(self) -> None:
        """Read what was appended since, and check it."""
        for stream, stored in self._journals.stored.items():
            chain = self._chains.setdefault(stream, Chain(self._journals.codec, stream))
            for position, payload in stored.elements[self._elements_read.get(stream, 0) :]:
                for event in chain.take(position, payload):
                    self.seq += 1
                    self._take(stream, event)
            self._elements_read[stream] = len(stored.elements)
        for source, destination, number, amount_fen, who in self._later:
            assert self.sent[source, destination][number - 1] == (amount_fen, who), "only what was sent is received"
        self._later.clear()
        for stream, event in self._settled:
            received = self.received[stream, event.destination]
            assert all(n in received for n in range(1, event.number + 1)), "only what was received is acknowledged"
        self._settled.clear()

    def _take(self, stream: str, event: Any) -> None:
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
                who = event.funding.tenant, event.funding.sender
                self._send(stream, event, event.funding.total_fen, who)
            case Grabbed():
                life = self.packets[event.packet_id]
                life.grabbed(event)
                self._send(stream, event, event.amount_fen, (life.funding.tenant, event.user))
            case Expired():
                life = self.packets[event.packet_id]
                life.expired(event)
                self._send(stream, event, event.amount_fen, (life.funding.tenant, life.funding.sender))
            case PayoutsReceived():
                for payout in event.payouts:
                    self._receive(event.source, stream, payout.number, payout.amount_fen, (payout.tenant, payout.user))
                    self._change((payout.tenant, payout.user), payout.amount_fen)
            case Settled():
                self._settled.append((stream, event))
            case Passivated():
                for packet_id in event.packet_ids:
                    assert self.packets[packet_id].state != "open", "only what has ended leaves memory"
            case SnapshotTaken():
                pass
            case _:
                raise AssertionError(f"the model knows no {type(event).__name__}")

    def _take_funding(self, stream: str, event: PacketFunded) -> None:
        earlier = self.fundings.setdefault(event.packet_id, [])
        for other in earlier:
            assert (other.tenant, other.sender, other.key) == (event.tenant, event.sender, event.key)
            assert event.at_ms - other.at_ms >= self._idempotency_ms, "a key funds once while it is remembered"
        self.funded_seq.setdefault(event.packet_id, self.seq)
        earlier.append(event)
        who = event.tenant, event.sender
        sent = self.sent.setdefault((stream, event.packet_stream), [])
        sent.append((event.total_fen, who))
        assert event.number == len(sent), "transfers are numbered without gaps"
        self._change(who, -event.total_fen)

    def _receive_funding(self, stream: str, event: Opened | OpeningReturned) -> None:
        funding = event.funding
        who = funding.tenant, funding.sender
        assert funding in self.fundings.get(funding.packet_id, [funding])
        self._receive(event.source, stream, funding.number, funding.total_fen, who)

    def _change(self, who: Who, amount_fen: int) -> None:
        history = self.balances.setdefault(who, [0])
        history.append(history[-1] + amount_fen)
        assert history[-1] >= 0, f"the balance of {who} is negative"

    def _send(self, stream: str, event: Any, amount_fen: int, who: Who) -> None:
        index = crc32("\n".join(who).encode()) % self._wallet_streams
        assert event.to_wallet == index, "money goes where its owner's wallet is"
        sent = self.sent.setdefault((stream, f"wallet-{index:03d}"), [])
        sent.append((amount_fen, who))
        assert event.number == len(sent), "transfers are numbered without gaps"

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

    def check_conservation(self) -> None:
        """Check that every fen is in a wallet, in a packet, or between two books."""
        wallets = sum(history[-1] for history in self.balances.values())
        packets = sum(life.funding.total_fen - life.paid_fen - life.refunded_fen for life in self.packets.values())
        assert wallets + packets + self.in_flight_fen() == self.credited_fen

    # Explaining.

    def mark(self, who: Who | None = None, packet_id: str = "") -> tuple[int, int]:
        """Return where the history stands as something is asked: (events read, entries of the thing's own history)."""
        self.advance()
        if who is not None:
            return self.seq, len(self.balances.get(who, [0]))
        life = self.packets.get(packet_id)
        return self.seq, len(life.history) if life else 0

    def explain_grab(self, packet_id: str, user: str, reply: Any, since: tuple[int, int]) -> None:
        """Check the answer to a grab."""
        self.advance()
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
        else:
            assert reply.code in UNDECIDED, reply

    def explain_wallet(self, who: Who, reply: Any, since: tuple[int, int]) -> None:
        """Check a balance that was told."""
        self.advance()
        if isinstance(reply, WalletView):
            moments = self.balances.get(who, [0])[since[1] - 1 :]
            assert reply.available_fen in moments, f"{who} was shown {reply.available_fen}, had {moments} meanwhile"
        else:
            assert reply.code in UNDECIDED, reply

    def explain_view(self, packet_id: str, reply: Any, since: tuple[int, int]) -> None:
        """Check a packet that was shown."""
        self.advance()
        if not isinstance(reply, PacketView):
            self.explain_grab(packet_id, "", reply, since)
            return
        seen = reply.state, len(reply.grabs), reply.grabbed_fen, reply.refunded_fen
        moments = self.packets[packet_id].history[max(0, since[1] - 1) :]
        assert seen in moments, f"shown {seen}, was {moments} meanwhile"
        assert (reply.seed == b"") is (reply.state == "open"), "the seed is published by the end"

    def explain_send(self, who: Who, key: str, wish: tuple[Any, ...], answer: Any, since: tuple[int, int]) -> None:
        """Check the answer to a send: a funding, or the code of a refusal. `wish`: (kind, total, count, greeting)."""
        self.advance()
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
        else:
            assert answer in UNDECIDED, answer
