"""Favours: what the journals say of commitments, of lishi and of thank-you notes, and whether that explains an answer.

Moments are numbers of events, of all streams together, as the auditor reads them; stamps and periods are Unix ms.
"""

from typing import Any, Generic, NamedTuple, TypeVar

from actors.transfers.funding import PacketFunded
from actors.transfers.ids import Layout
from actors.wallet.commands import AskLishi, CommitSeed, WriteNote
from actors.wallet.events import Committed, LishiAsked, LishiClosed, LishiCounted, Noted
from actors.wallet.replies import Lishi, LishiList, LishiTold
from actors.wallet.rules import WalletRules
from cluster.config import Settings
from tests.simulation.recount import hash_of

T = TypeVar("T")


class Moments(Generic[T]):
    """What something was, and from which event on."""

    def __init__(self, first: T, seq: int = 0) -> None:
        self._past = [(seq, first)]

    @property
    def now(self) -> T:
        """What it is."""
        return self._past[-1][1]

    @property
    def began(self) -> int:
        """From which event on it has been anything."""
        return self._past[0][0]

    def become(self, value: T, seq: int) -> None:
        """Let it be something else."""
        self._past.append((seq, value))

    def since(self, seq: int) -> list[T]:
        """Return all that it has been since that event."""
        first = max((at for at, (begin, _) in enumerate(self._past) if begin <= seq), default=0)
        return [value for _, value in self._past[first:]]


class Note(NamedTuple):
    """A note as it stood."""

    user: str
    text: str
    at_ms: int
    changes: int


def _committed_as(funding: PacketFunded) -> tuple[str, int, tuple[int, int, int]]:
    """Return the commitment's id that a packet is of, its place among all, and (star's shares, bursts, all)."""
    special = funding.special
    if special is not None and special.bursts:
        return special.reference, special.burst, (0, special.bursts, special.bursts)
    if funding.kind != "star":
        return funding.packet_id, 0, (0, 0, 1)
    assert special is not None, "a star packet knows that it is one"
    if special.lanes > 1:
        return funding.packet_id.rpartition(".")[0], special.lane, (special.whole_count, 0, special.lanes)
    return funding.packet_id, 0, (funding.count, 0, 1)


class Favours:
    """All of one system."""

    def __init__(self, settings: Settings) -> None:
        self._rules = settings.rules(WalletRules)
        self._wallets = Layout.of(settings.layout).wallet
        self._keep_ms = self._rules.lishi.keep_ms
        self.committed: dict[str, Committed] = {}
        self.used: dict[str, tuple[int, int]] = {}
        """packet id of a commitment -> when it was used: event, stamp"""
        self.lishi: dict[str, Moments[Lishi]] = {}
        self._counted: dict[tuple[str, str], list[LishiCounted]] = {}
        """(tenant, asker) -> all that he was about to ask, in order"""
        self._of_pair: dict[tuple[str, str, str], list[str]] = {}
        """(tenant, asker, asked) -> ids, the newest last"""
        self.waiting: dict[tuple[str, str], Moments[tuple[str, ...]]] = {}
        """(tenant, asked) -> ids of what waits for an answer"""
        self._remembered: dict[str, dict[str, None]] = {}
        """wallet stream -> ids of lishi that it remembers, in the order in which they were asked"""
        self._asked: dict[tuple[str, str, int], int] = {}
        """(asker, asked, stamp of a count) -> how often that was asked"""
        self._ever_forgotten: set[str] = set()
        self._forgotten_ms: dict[tuple[str, int], int] = {}
        """(wallet stream, of which askers) -> the latest count among the lishi that it has forgotten"""
        self._accepted: dict[str, str] = {}
        """lishi id -> packet id of what was accepted and is not paid yet"""
        self._kept: dict[str, dict[tuple[str, str], tuple[Note, int]]] = {}
        """wallet stream -> (packet id, user) -> note, and when it was first written"""
        self.notes: dict[str, Moments[tuple[Note, ...]]] = {}
        """packet id -> notes in order"""
        self.wrote: list[tuple[str, str]] = []
        """(packet id, user) of notes that are to be checked once everything is read."""

    def take(self, stream: str, event: Any, seq: int) -> None:
        """Take an event in, and check it."""
        match event:
            case Committed():
                self._commit(event)
            case LishiCounted():
                self._count(event)
            case LishiAsked():
                self._ask(stream, event, seq)
            case LishiClosed():
                self._close(stream, event, seq)
            case Noted():
                self._note(stream, event, seq)
            case _:
                raise AssertionError(f"the model knows no {type(event).__name__}")

    def pay(self, funding: PacketFunded, seq: int) -> None:
        """Check what was paid for against what was committed to, or asked for."""
        name, part, shape = _committed_as(funding)
        made = self.committed.get(name)
        if funding.sender_nonce:
            assert made is not None, "a nonce is added to a commitment"
            if part == 0:
                assert self._may_be_used(name, funding.at_ms), "a commitment is used once"
                self.used[name] = seq, funding.at_ms
            assert self.used[name][1] == funding.at_ms, "all lanes and bursts are paid for at once"
            assert (made.tenant, made.user) == (funding.tenant, funding.sender), "a commitment is its user's"
            assert made.at_ms <= funding.at_ms < made.expires_at_ms, "a commitment is used in time"
            assert shape == (made.star_count, made.bursts, 1 + len(made.further)), "it is what was committed to"
            terms = funding.algorithm, funding.key_id, funding.commitment
            committed = (made.commitment, *made.further)[part]
            assert terms == (made.algorithm, made.key_id, committed), "what was committed to is kept"
        else:
            assert made is None, "what was committed to has a nonce"
        if funding.kind == "lishi":
            assert funding.special is not None
            lishi = self.lishi[funding.special.reference].now
            assert self._accepted.pop(lishi.lishi_id, "") == funding.packet_id, "an accepted lishi pays once"
            two = lishi.tenant, lishi.asker, lishi.asked
            assert two == (funding.tenant, funding.special.addressee, funding.sender), "who was asked pays who asked"

    def all_paid(self) -> None:
        """Check, at the end of an entry, that what was accepted in it is paid in it."""
        assert not self._accepted, "an accepted lishi has paid"

    # Commitments.

    def _may_be_used(self, packet_id: str, at_ms: int) -> bool:
        """Tell whether a commitment is unused; of one that was used so long ago, the second payment goes back."""
        return packet_id not in self.used or at_ms - self.used[packet_id][1] >= self._rules.idempotency_ms

    def _commit(self, event: Committed) -> None:
        prior = self.committed.get(event.packet_id)
        assert self._may_be_used(event.packet_id, event.at_ms), "what was used is not committed to again"
        assert prior is None or event.at_ms >= prior.expires_at_ms, "a commitment is made once"
        self.committed[event.packet_id] = event
        own = self._unused(event.tenant, event.user, event.at_ms, 0)
        assert own <= self._rules.commitments.unused_max, "so many may be unused"

    def _unused(self, tenant: str, user: str, at_ms: int, seq: int) -> int:
        """Count those of a user that were not used by that event, nor over by that instant."""
        return sum(
            at_ms < one.expires_at_ms and (packet_id not in self.used or 0 < seq < self.used[packet_id][0])
            for packet_id, one in self.committed.items()
            if (one.tenant, one.user) == (tenant, user)
        )

    def explain_commit(self, commit: CommitSeed, answer: Any, seq: int, stamp_ms: int) -> None:
        """Check the answer to a wish for a commitment; `seq`, `stamp_ms`: where its stream was when it was asked."""
        if isinstance(answer, Committed):
            assert self.committed.get(answer.packet_id) == answer, "the journal holds the commitment"
            assert (answer.tenant, answer.user, answer.algorithm) == (commit.tenant, commit.user, commit.algorithm)
            assert (answer.star_count, answer.bursts) == (commit.star_count, commit.bursts)
        else:
            assert answer == "rate_limited", answer
            unused = self._unused(commit.tenant, commit.user, stamp_ms, max(seq, 1))
            assert unused >= self._rules.commitments.unused_max, "nobody has so many that are unused"

    # Lishi.

    def _ask(self, stream: str, event: LishiAsked, seq: int) -> None:
        pair = self._of_pair.setdefault((event.tenant, event.asker, event.asked), [])
        prior = self.lishi.get(event.lishi_id)
        remembered = self._remembered.setdefault(stream, {})
        assert event.lishi_id not in remembered, "a lishi is asked once while it is remembered"
        last = self.lishi[pair[-1]].now if pair and pair[-1] in remembered else None
        # A key that both streams had forgotten may have asked somebody else since: its id is that one's now.
        if last is not None and (last.asker, last.asked) == (event.asker, event.asked):
            free_ms = 0 if last.state == "accepted" else last.ended_ms + self._rules.lishi.cooldown_ms
            assert last.state != "asked", "nobody is asked twice at once"
            assert event.at_ms >= free_ms, "nobody is asked again and again"
        assert event.lapses_at_ms == event.at_ms + self._rules.lishi.lifetime_ms
        stamps = event.at_ms, event.lapses_at_ms
        words = event.lishi_id, event.tenant, event.asker, event.asked, event.greeting
        lishi = Lishi(*words, *stamps, counted_ms=event.counted_ms)
        if prior is None:
            self.lishi[event.lishi_id] = Moments(lishi, seq)
        else:
            prior.become(lishi, seq)
        pair.append(event.lishi_id)
        counted = [one for one in self._counted.get((event.tenant, event.asker), ()) if one.asked == event.asked]
        assert len(pair) <= len(counted), "who asks is counted before"
        of_count = event.asker, event.asked, event.counted_ms
        self._asked[of_count] = self._asked.get(of_count, 0) + 1
        there = sum(one.at_ms == event.counted_ms for one in counted)
        assert self._asked[of_count] <= there, "each count is asked at most once"
        waiting = self._waiting(event.tenant, event.asked)
        waiting.become((*waiting.now, event.lishi_id), seq)
        assert len(waiting.now) <= self._rules.lishi.open_max, "so many wait for one person"
        remembered[event.lishi_id] = None
        self._forget(stream, event.at_ms, seq)
        assert len(remembered) <= self._rules.lishi.total_max, "a stream remembers so many"

    def _forget(self, stream: str, at_ms: int, seq: int) -> None:
        """Forget what is past its time, from the oldest on."""
        remembered = self._remembered[stream]
        for lishi_id in list(remembered):
            lishi = self.lishi[lishi_id].now
            if at_ms < lishi.ended_ms + self._keep_ms:
                break
            del remembered[lishi_id]
            self._ever_forgotten.add(lishi_id)
            way = stream, hash_of(lishi.tenant, lishi.asker) % self._wallets
            self._forgotten_ms[way] = max(lishi.counted_ms, self._forgotten_ms.get(way, -1))
            self._waits_no_more(lishi, seq)

    def _waits_no_more(self, lishi: Lishi, seq: int) -> None:
        waiting = self._waiting(lishi.tenant, lishi.asked)
        waiting.become(tuple(one for one in waiting.now if one != lishi.lishi_id), seq)

    def _close(self, stream: str, event: LishiClosed, seq: int) -> None:
        moments = self.lishi[event.lishi_id]
        lishi = moments.now
        assert lishi.state == "asked", "a lishi is closed once"
        assert (event.at_ms >= lishi.lapses_at_ms) is (event.outcome == "lapsed"), "it is answered in time, or lapses"
        fields = lishi.lishi_id, lishi.tenant, lishi.asker, lishi.asked, lishi.greeting
        stamps = lishi.asked_at_ms, lishi.lapses_at_ms
        moments.become(Lishi(*fields, *stamps, event.outcome, event.at_ms, event.packet_id, lishi.counted_ms), seq)
        if event.outcome == "accepted":
            self._accepted[event.lishi_id] = event.packet_id
        self._waits_no_more(lishi, seq)
        self._forget(stream, event.at_ms, seq)

    def _waiting(self, tenant: str, asked: str) -> Moments[tuple[str, ...]]:
        return self.waiting.setdefault((tenant, asked), Moments(()))

    def _count(self, event: LishiCounted) -> None:
        mine = self._counted.setdefault((event.tenant, event.asker), [])
        again = [one for one in mine if one.key == event.key and event.at_ms < one.at_ms + self._rules.idempotency_ms]
        assert not again, "an ask is counted once"
        mine.append(event)
        assert self._asks(event.tenant, event.asker, event.at_ms) <= self._rules.asks.asks_max, "so often one asks"

    def _asks(self, tenant: str, asker: str, at_ms: int) -> int:
        """Count how often somebody has asked, as one knows at that instant."""
        counted = self._counted.get((tenant, asker), ())
        return sum(at_ms < one.at_ms + self._rules.idempotency_ms for one in counted)

    def explain_ask(self, ask: AskLishi, answer: Any, seq: int, own_ms: int, stamp_ms: int, asked_in: str) -> None:
        """Check the answer to a request; `own_ms`, `stamp_ms`: the stamps of the asker's stream, and of `asked_in`."""
        if isinstance(answer, LishiTold):
            self._explain_told(answer, seq)
            told, wanted = answer.lishi, (ask.tenant, ask.user, ask.asked, ask.greeting)
            assert (told.tenant, told.asker, told.asked, told.greeting) == wanted
        elif answer == "rate_limited" and self._asks(ask.tenant, ask.user, own_ms) < self._rules.asks.asks_max:
            waiting = self._waiting(ask.tenant, ask.asked).since(seq)
            if max(map(len, waiting)) < self._rules.lishi.open_max:
                pair = self._of_pair.get((ask.tenant, ask.user, ask.asked), [])
                ends = [
                    lishi.ended_ms + self._rules.lishi.cooldown_ms
                    for lishi_id in pair
                    for lishi in self.lishi[lishi_id].since(seq)
                    if lishi.state != "accepted"
                ]
                assert max(ends, default=0) > stamp_ms, "nothing bars this request"
        elif answer == "lishi_lapsed":
            way = asked_in, hash_of(ask.tenant, ask.user) % self._wallets
            mine = [one.at_ms for one in self._counted.get((ask.tenant, ask.user), ()) if one.key == ask.key]
            assert min(mine) <= self._forgotten_ms.get(way, -1), "nothing that was counted so late is forgotten"
        elif answer != "rate_limited":
            assert answer == "idempotency_key_reused", answer
            used = [one for one in self._counted.get((ask.tenant, ask.user), ()) if one.key == ask.key]
            assert used, "nobody used that key"

    def _explain_told(self, answer: LishiTold, seq: int) -> None:
        moments = self.lishi.get(answer.lishi.lishi_id)
        assert moments is not None, "a lishi that nobody asked"
        assert answer.lishi in moments.since(seq), "the journal tells otherwise"

    def explain_lishi(self, lishi_id: str, tenant: str, user: str, answer: Any, seq: int) -> None:
        """Check the answer to whoever looks at a lishi, declines it, or may not accept it."""
        if isinstance(answer, LishiTold):
            self._explain_told(answer, seq)
            assert (answer.lishi.lishi_id, answer.lishi.tenant) == (lishi_id, tenant)
            assert user in (answer.lishi.asker, answer.lishi.asked), "a lishi is between two"
            return
        moments = self.lishi.get(lishi_id)
        been = [] if moments is None else moments.since(seq)
        if answer == "lishi_not_found":
            mine = [one for one in been if one.tenant == tenant and user in (one.asker, one.asked)]
            # What is past its time may be forgotten by now.
            news = moments is not None and moments.began > seq
            assert not mine or news or lishi_id in self._ever_forgotten, "one of the two hears of a lishi"
        elif answer == "not_addressee":
            assert user in {one.asker for one in been}, "who is asked may answer"
        elif answer == "lishi_closed":
            closed = {"accepted", "declined"} & {one.state for one in been}
            assert closed or lishi_id in self._ever_forgotten, "what waits for an answer is not closed"
        else:
            assert answer == "lishi_lapsed", answer
            assert "lapsed" in {one.state for one in been}, "a lapse is journaled before it is told"

    def explain_list(self, tenant: str, user: str, answer: LishiList, seq: int) -> None:
        """Check what somebody was told that waits for him."""
        told = tuple(lishi.lishi_id for lishi in answer.lishi)
        assert told in self._waiting(tenant, user).since(seq), "the list is the journal's"

    # Notes.

    def _note(self, stream: str, event: Noted, seq: int) -> None:
        kept = self._kept.setdefault(stream, {})
        for (packet_id, user), (_, since_ms) in list(kept.items()):
            if event.at_ms < since_ms + self._rules.notes.keep_ms:
                break
            del kept[packet_id, user]
            left = tuple(note for note in self.notes[packet_id].now if note.user != user)
            self.notes[packet_id].become(left, seq)
        written = event.packet_id, event.user
        prior, since_ms = kept.get(written, (None, event.at_ms))
        changes = 0 if prior is None else prior.changes + 1
        note = Note(event.user, event.text, event.at_ms, changes)
        assert changes <= self._rules.notes.changes_max, "a note is changed so often"
        kept[written] = note, since_ms
        moments = self.notes.setdefault(event.packet_id, Moments(()))
        if prior is None:
            moments.become((*moments.now, note), seq)
        else:
            moments.become(tuple(note if one.user == event.user else one for one in moments.now), seq)
        assert len(moments.now) <= self._rules.notes.per_packet_max, "a packet has so many notes"
        assert len(kept) <= self._rules.notes.total_max, "a stream has so many notes"
        self.wrote.append(written)

    def explain_note(self, write: WriteNote, answer: Any, seq: int) -> None:
        """Check the answer to who wrote: its stamp, or the code of a refusal."""
        been = self.notes.get(write.packet_id, Moments(())).since(seq)
        mine = [note for notes in been for note in notes if note.user == write.user]
        if isinstance(answer, int):
            assert (write.text, answer) in [(note.text, note.at_ms) for note in mine], "the journal holds the note"
        else:
            assert answer == "rate_limited", answer
            full = max(map(len, been), default=0) >= self._rules.notes.per_packet_max
            assert full or any(note.changes >= self._rules.notes.changes_max for note in mine), "nothing bars this note"

    def explain_notes(self, packet_id: str, answer: list[Any], seq: int) -> None:
        """Check the notes that were shown."""
        told = tuple(Note(note.user, note.text, note.at_ms, note.changes) for note in answer)
        assert told in self.notes.get(packet_id, Moments(())).since(seq), "the notes are the journal's"
