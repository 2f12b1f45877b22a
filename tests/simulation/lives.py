"""Lives: what the journals say of one packet, and of one gift: all packets of one send, lanes or bursts.

Amounts in fen, stamps in Unix ms. Each check is made by this code alone, from events.
"""

from typing import NamedTuple

from actors.packet.events import Expired, GrabbedMany
from actors.transfers.funding import PacketFunded, Special
from actors.wallet.commands import Send
from tests.simulation.recount import committed_to, day_of, first_head, next_link, shares_of

ORDINARY = Special()

ALGORITHMS = {"lucky": "even/1", "equal": "equal/1"}
"""Of a send that does not name one."""


class Seen(NamedTuple):
    """What a reader of a packet sees at one moment."""

    state: str
    count: int  # type: ignore[assignment]  # hides tuple.count
    paid_fen: int
    refunded_fen: int
    rolled_in_fen: int
    rolled_out_fen: int
    chain: bytes


class Tries(NamedTuple):
    """How often a phrase may be wrong."""

    tries_max: int
    tries_ms: int
    missers_max: int


class Life:
    """One packet's life."""

    def __init__(self, funding: PacketFunded, seq: int) -> None:
        self.funding = funding
        self.packet_id = funding.packet_id
        self.special = funding.special or ORDINARY
        self.opened_seq = seq
        self.state = "open"
        self.shares: dict[str, tuple[int, int, int]] = {}
        """user -> (rank over all lanes, amount, stamp)"""
        self.paid_fen = self.refunded_fen = self.rolled_in_fen = self.rolled_out_fen = 0
        self.chain = b""
        self.days: dict[int, int] = {}
        """day -> shares that left on it"""
        self.missed: dict[str, list[int]] = {}
        """user -> when he said a wrong phrase, since that was forgiven"""
        self.missed_seq: dict[str, int] = {}
        self.limited: dict[str, int] = {}
        """user -> when he began to say wrong phrases, until they were too many"""
        self.payouts: list[tuple[tuple[str, str], int]] = []
        """((source, destination), number) of every transfer to a wallet."""
        self.history = [self.now()]

    @property
    def total_fen(self) -> int:
        """What it pays, with what came from the burst before it."""
        return self.funding.total_fen + self.rolled_in_fen

    @property
    def rest_fen(self) -> int:
        """What is in it."""
        return self.total_fen - self.paid_fen - self.refunded_fen - self.rolled_out_fen

    def now(self) -> Seen:
        """Return what a reader would see."""
        fen = self.paid_fen, self.refunded_fen, self.rolled_in_fen, self.rolled_out_fen
        return Seen(self.state, len(self.shares), *fen, self.chain or self._first_head())

    def _first_head(self) -> bytes:
        """Return the head of the claim chain before the first share is taken."""
        funding = self.funding
        limits = funding.count, funding.share_fen_min, funding.share_fen_max
        return first_head(funding.commitment, funding.algorithm, self.total_fen, *limits, funding.sender_nonce)

    def grabbed(self, event: GrabbedMany, tries: Tries) -> None:
        """Take shares in."""
        funding, special, at_ms = self.funding, self.special, event.at_ms
        assert self.state == "open", "nobody wins after the end"
        assert event.tenant == funding.tenant, "a packet is its tenant's"
        in_time = special.opens_at_ms <= at_ms < funding.expires_at_ms
        assert in_time or funding.kind == "photo", "a share was taken in time"
        assert len(event.users) == len(event.amounts_fen) == len(event.to_wallets) > 0, "a row is a grab"
        for rank, (user, amount_fen) in enumerate(zip(event.users, event.amounts_fen, strict=True), event.first_rank):
            assert user not in self.shares, "one share a user"
            assert rank == len(self.shares) + 1 <= funding.count, "no more shares than the count, in ranks from one"
            assert funding.share_fen_min <= amount_fen <= funding.share_fen_max
            assert special.addressee in ("", user), "a direct packet is for its addressee alone"
            assert user != special.excluded, "what is for the public is not for its sender"
            assert self.tries_of(user, at_ms, tries) < tries.tries_max, "too many wrong phrases shut a packet"
            self.shares[user] = special.rank_base + rank, amount_fen, at_ms
            self.paid_fen += amount_fen
        day = day_of(at_ms)
        self.days[day] = self.days.get(day, 0) + len(event.users)
        assert not special.day_count_max or self.days[day] <= special.day_count_max, "so many shares leave on a day"
        self.chain = next_link(self.chain or self._first_head(), event.users, event.amounts_fen, at_ms)
        if len(self.shares) < funding.count:
            assert event.seed == b"", "the seed is published by the end"
        else:
            assert self.rest_fen == 0, "the shares sum to the total"
            self._end("drained", event.seed)
        self.history.append(self.now())

    def rolled_in(self, amount_fen: int) -> None:
        """Take what the burst before it left."""
        assert self.state == "open", "nothing rolls into what has ended"
        assert not self.shares, "nothing rolls in once shares are taken"
        self.rolled_in_fen += amount_fen
        assert self.total_fen <= self.funding.share_fen_max * self.funding.count, "its shares can hold it"
        equal = self.funding.algorithm == "equal/1"
        assert not equal or self.total_fen % self.funding.count == 0, "equal shares stay equal"
        self.history.append(self.now())

    def expired(self, event: Expired, following: "Life | None") -> None:
        """Take the end of its time in; `following`: the burst after it, if it is there."""
        assert self.state == "open", "a packet ends once"
        assert event.at_ms >= self.funding.expires_at_ms, "a packet lives its whole time"
        rolls = self.special.rolls and following is not None and following.state == "open" and not following.shares
        room_fen = 0
        if rolls and following is not None:
            count = following.funding.count
            room_fen = min(self.rest_fen, following.funding.share_fen_max * count - following.total_fen)
            room_fen -= room_fen % count if following.funding.algorithm == "equal/1" else 0
        assert event.rolled_fen == room_fen, "what the next burst can hold goes into it, and nothing else"
        if following is not None and event.rolled_fen:
            assert event.rolled_into == following.packet_id, "what is left goes into the next burst"
            following.rolled_in(event.rolled_fen)
        self.rolled_out_fen = event.rolled_fen
        self.refunded_fen = event.amount_fen
        assert self.rest_fen == 0, "what was not taken goes on or back"
        self._end("expired", event.seed)
        self.history.append(self.now())

    def _end(self, state: str, seed: bytes) -> None:
        funding = self.funding
        committed = committed_to(funding.algorithm, self.packet_id, seed)
        assert committed == funding.commitment, "the published seed is the committed one"
        band = funding.share_fen_min, funding.share_fen_max
        shares = shares_of(funding.algorithm, seed, funding.sender_nonce, self.total_fen, funding.count, *band)
        taken = [amount_fen for _, amount_fen, _ in self.shares.values()]
        assert taken == shares[: len(taken)], "the shares are those that follow from the seed"
        self.state = state

    # Wrong phrases.

    def tries_of(self, user: str, at_ms: int, tries: Tries) -> int:
        """Return how many wrong phrases of a user count at an instant."""
        missed = self.missed.get(user, [])
        return len(missed) if missed and at_ms < missed[0] + tries.tries_ms else 0

    def misses(self, users: list[str], at_ms: int, seq: int, tries: Tries) -> None:
        """Take wrong phrases in."""
        assert self.special.phrase, "only a password packet asks for a phrase"
        assert self.state == "open"
        for user in users:
            assert user not in self.shares, "a winner is not asked again"
            counted = self.tries_of(user, at_ms, tries)
            assert counted < tries.tries_max, "beyond so many, nobody's phrase is looked at"
            missed = self.missed.setdefault(user, [])
            if not counted:
                missed.clear()
            missed.append(at_ms)
            if counted + 1 == tries.tries_max:
                self.limited[user] = missed[0]
            self.missed_seq[user] = seq
        assert len(self.missed) <= tries.missers_max, "so many are counted"

    def refuses_phrases_of(self, user: str, at_ms: int, tries: Tries) -> bool:
        """Tell whether a phrase of this user may not have been looked at, at that instant or later."""
        if user in self.limited and at_ms < self.limited[user] + tries.tries_ms:
            return True
        return len(self.missed) >= tries.missers_max


class Gift:
    """What one send paid for."""

    def __init__(self, first: PacketFunded, seq: int) -> None:
        self.fundings = [first]
        self.seq = seq

    @property
    def packet_ids(self) -> list[str]:
        """The ids that people know it by: one of all its lanes, one of each of its bursts."""
        return list(dict.fromkeys(funding.packet_id.partition(".")[0] for funding in self.fundings))

    def add(self, funding: PacketFunded) -> None:
        """Take another lane or burst in."""
        self.fundings.append(funding)

    def check(self) -> None:
        """Check that its parts are what they say of the whole."""
        fundings = self.fundings
        specials = [funding.special or ORDINARY for funding in fundings]
        for funding in fundings:
            least, most = funding.share_fen_min * funding.count, funding.share_fen_max * funding.count
            assert least <= funding.total_fen <= most, "every part can be divided"
            assert funding.algorithm != "equal/1" or funding.total_fen % funding.count == 0, "equal shares are equal"
        first = specials[0]
        if first.lanes > 1:
            assert [special.lane for special in specials] == list(range(first.lanes)), "a send pays for every lane"
            assert sum(funding.total_fen for funding in fundings) == first.whole_fen, "the lanes sum to the total"
            assert sum(funding.count for funding in fundings) == first.whole_count
            bases = [sum(funding.count for funding in fundings[:lane]) for lane in range(first.lanes)]
            assert [special.rank_base for special in specials] == bases, "ranks are unique over all lanes"
            assert len({funding.packet_stream for funding in fundings}) == len(fundings), "lanes are in several streams"
        elif first.bursts:
            assert [special.burst for special in specials] == list(range(first.bursts)), "a send pays for every burst"
            assert {special.reference for special in specials} == {fundings[0].packet_id}
            for before, after in zip(fundings, specials[1:], strict=False):
                assert before.expires_at_ms <= after.opens_at_ms, "a burst opens when the one before has ended"
        else:
            assert len(fundings) == 1, "most packets are one"

    def answers(self, send: Send) -> bool:
        """Tell whether it is what that send asks for. (A phrase is not compared: nobody sees it here.)"""
        first = self.fundings[0]
        special, wanted = first.special or ORDINARY, send.special or ORDINARY
        told = (first.kind, first.greeting, first.algorithm, first.sender_nonce, special.addressee, special.group)
        asked = (send.kind, send.greeting, send.algorithm or ALGORITHMS[send.kind], send.sender_nonce)
        if told != (*asked, wanted.addressee, wanted.group):
            return False
        days = sum((funding.special or ORDINARY).day_count_max for funding in self.fundings)
        if (special.sponsor, special.excluded, special.rolls) != (wanted.sponsor, wanted.excluded, wanted.rolls):
            return False
        if send.share_fen_max and (first.share_fen_min, first.share_fen_max) != (
            send.share_fen_min,
            send.share_fen_max,
        ):
            return False
        if send.bursts:
            parts = [
                ((funding.special or ORDINARY).opens_at_ms, funding.expires_at_ms, funding.total_fen, funding.count)
                for funding in self.fundings
            ]
            return parts == [(one.opens_at_ms, one.ends_at_ms, one.total_fen, one.count) for one in send.bursts]
        whole = sum(funding.total_fen for funding in self.fundings), sum(funding.count for funding in self.fundings)
        whole_wanted = send.total_fen, send.count
        return (*whole, days, special.opens_at_ms) == (*whole_wanted, wanted.day_count_max, wanted.opens_at_ms)
