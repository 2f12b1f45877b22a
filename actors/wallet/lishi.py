"""Lishi (要利是): decides who may ask whom for a packet, and what becomes of it. Pure: no clock, no randomness, no I/O.

A request lives in the wallet stream of the person who is asked, because that is whose money it is about. It is open
until that person accepts or declines it or its time is over; each of these is journaled, once. Laws:
- of one asker and one asked person at most one is open, and after a decline or lapse none for `cooldown_ms`;
- at most `open_max` are open to one person, and `total_max` are remembered in one stream;
- an accepted one has paid for one packet, in the same step; its packet id follows from the lishi's id, so that even a
  lishi that was forgotten and asked anew under its old key pays nobody twice: the packet's stream sends it back.
What one asker asks of many people is counted in the asker's own stream, before (`actors.wallet.asks`). Both streams
remember an ask for a time, each by stamps of its own, and neither knows the other's time. So an ask brings the stamp
of its count, and this stream keeps, of each stream of askers, the greatest one that it has forgotten: an ask that was
counted no later than that may have been here before, and has lapsed. So each count is asked at most once.
Amounts are integer fen; instants and periods are Unix milliseconds.
"""

import msgspec

from actors.kernel.bounds import Own, Period, Section, Shared
from actors.kernel.messages import Refused
from actors.refusals import Refusal
from actors.transfers.funding import PacketFunded
from actors.transfers.ids import wallet_index_of
from actors.wallet.commands import AcceptLishi, AskLishi, DeclineLishi, ListLishi, ReadLishi
from actors.wallet.events import LishiAsked, LishiClosed
from actors.wallet.replies import Funded, Lishi

NOT_FOUND = Refused(Refusal.LISHI_NOT_FOUND)
NOT_ASKED = Refused(Refusal.NOT_ADDRESSEE)
CLOSED = Refused(Refusal.LISHI_CLOSED)
LAPSED = Refused(Refusal.LISHI_LAPSED)
KEY_REUSED = Refused(Refusal.IDEMPOTENCY_KEY_REUSED)
RATE_LIMITED = Refused(Refusal.RATE_LIMITED)
OVERLOADED = Refused(Refusal.OVERLOADED)

LishiCommand = AskLishi | ReadLishi | ListLishi | AcceptLishi | DeclineLishi


class LishiRules(Section, frozen=True):
    """The limits of lishi in one wallet stream (configs/)."""

    lifetime_ms: Period
    cooldown_ms: Period
    open_max: Own
    """Of one person's answer: of one asker and one asked at most one is open."""
    total_max: Shared
    keep_ms: Period
    """A closed one is remembered that long, at least as long as it counts for anything."""

    def among(self, wallet_streams: int) -> "LishiTerms":
        """Return these rules in a system of so many wallet streams."""
        return LishiTerms(**msgspec.structs.asdict(self), wallet_streams=wallet_streams)


class LishiTerms(LishiRules, frozen=True):
    """The limits of lishi in one wallet stream among others."""

    wallet_streams: int


class LishiBook(msgspec.Struct):
    """The lishi of one stream: a part of its state."""

    all: dict[str, Lishi] = {}
    """lishi id -> lishi, in the order in which they were asked."""
    open: dict[tuple[str, str], list[str]] = {}
    """(tenant, asked) -> ids of those that are not closed, in order."""
    newest: dict[tuple[str, str, str], str] = {}
    """(tenant, asker, asked) -> id of the last one between the two."""
    forgotten: dict[int, int] = {}
    """wallet index of an asker's stream -> the latest count of that stream whose lishi is forgotten here."""

    # Decide: reads only. `due` goes first, so that what follows finds every lapse journaled.

    def due(self, command: LishiCommand, now_ms: int) -> list[LishiClosed]:
        """Return the lapses of the person whom a command concerns: at most `open_max`."""
        match command:
            case AskLishi():
                person = command.tenant, command.asked
            case ListLishi():
                person = command.tenant, command.user
            case _:
                lishi = self.all.get(command.lishi_id)
                person = ("", "") if lishi is None else (lishi.tenant, lishi.asked)
        opened = [self.all[lishi_id] for lishi_id in self.open.get(person, ())]
        return [LishiClosed(one.lishi_id, "lapsed", now_ms) for one in opened if now_ms >= one.lapses_at_ms]

    def decide_ask(self, ask: AskLishi, lishi_id: str, rules: LishiTerms, now_ms: int) -> LishiAsked | Lishi | Refused:
        """Let somebody ask, answer the same request again, or refuse. The first rule that matches wins."""
        prior = self.all.get(lishi_id)
        if prior is not None:
            same = (prior.tenant, prior.asker, prior.asked, prior.greeting)
            return prior if same == (ask.tenant, ask.user, ask.asked, ask.greeting) else KEY_REUSED
        if ask.counted_ms <= self.forgotten.get(_counted_in(ask.tenant, ask.user, rules), -1):
            return LAPSED
        last = self.all.get(self.newest.get((ask.tenant, ask.user, ask.asked), ""))
        # Of an open one the end is still to come.
        if last is not None and last.state != "accepted" and now_ms < last.ended_ms + rules.cooldown_ms:
            return RATE_LIMITED
        if len(self.open.get((ask.tenant, ask.asked), ())) >= rules.open_max:
            return RATE_LIMITED
        if len(self.all) >= rules.total_max and not self._forgettable(rules, now_ms):
            return OVERLOADED
        # From here the request must succeed.
        lapses_at_ms = now_ms + rules.lifetime_ms
        stamps = now_ms, lapses_at_ms, ask.counted_ms
        return LishiAsked(lishi_id, ask.tenant, ask.user, ask.asked, ask.greeting, *stamps)

    def find(self, lishi_id: str, tenant: str, user: str, *, asked_only: bool = False) -> Lishi | Refused:
        """Return a lishi to one of its two; nobody else is told that it exists. `asked_only`: to the asked one."""
        lishi = self.all.get(lishi_id)
        if lishi is None or lishi.tenant != tenant or user not in (lishi.asker, lishi.asked):
            return NOT_FOUND
        return NOT_ASKED if asked_only and user != lishi.asked else lishi

    def opened(self, tenant: str, user: str) -> list[Lishi]:
        """Return those that wait for this person's answer, oldest first; at most `open_max`."""
        return [self.all[lishi_id] for lishi_id in self.open.get((tenant, user), ())]

    # Apply: writes only.

    def apply(self, event: LishiAsked | LishiClosed, rules: LishiTerms) -> None:
        """Take an event in, and forget what is past its time by its stamp, so that a replay forgets the same."""
        if isinstance(event, LishiAsked):
            lishi_id, tenant, asker, asked = event.lishi_id, event.tenant, event.asker, event.asked
            stamps = event.at_ms, event.lapses_at_ms
            words = lishi_id, tenant, asker, asked, event.greeting
            self.all[lishi_id] = Lishi(*words, *stamps, counted_ms=event.counted_ms)
            self.open.setdefault((tenant, asked), []).append(lishi_id)
            self.newest[tenant, asker, asked] = lishi_id
        else:
            lishi = self.all.get(event.lishi_id)
            if lishi is not None:  # else it is forgotten: another configuration may remember for a shorter time
                self._close(lishi)
                closed = msgspec.structs.replace(
                    lishi, state=event.outcome, closed_at_ms=event.at_ms, packet_id=event.packet_id
                )
                self.all[event.lishi_id] = closed
        while self.all and self._forgettable(rules, event.at_ms):
            lishi = next(iter(self.all.values()))
            self._forget(lishi)
            counted_in = _counted_in(lishi.tenant, lishi.asker, rules)
            self.forgotten[counted_in] = max(lishi.counted_ms, self.forgotten.get(counted_in, -1))

    def _forgettable(self, rules: LishiTerms, now_ms: int) -> bool:
        """Tell whether the oldest is past its time."""
        return now_ms >= next(iter(self.all.values())).ended_ms + rules.keep_ms

    def _close(self, lishi: Lishi) -> None:
        person = lishi.tenant, lishi.asked
        opened = self.open.get(person, [])
        if lishi.lishi_id in opened:
            opened.remove(lishi.lishi_id)
        if not opened:
            self.open.pop(person, None)

    def _forget(self, lishi: Lishi) -> None:
        self._close(lishi)
        del self.all[lishi.lishi_id]
        pair = lishi.tenant, lishi.asker, lishi.asked
        if self.newest.get(pair) == lishi.lishi_id:
            del self.newest[pair]


def _counted_in(tenant: str, asker: str, rules: LishiTerms) -> int:
    """Return the index of the stream in which this asker's asks are counted."""
    return wallet_index_of(tenant, asker, rules.wallet_streams)


def decide_decline(lishi: Lishi, now_ms: int) -> LishiClosed | Lishi | Refused:
    """Decline an open lishi; one that is declined already is answered again."""
    if lishi.state == "asked":
        return LishiClosed(lishi.lishi_id, "declined", now_ms)
    return lishi if lishi.state == "declined" else _closed(lishi)


def decide_accept(
    lishi: Lishi, accept: AcceptLishi, prior: Funded | Refused, paid: list[PacketFunded] | Funded | Refused
) -> tuple[LishiClosed, PacketFunded] | Funded | Refused:
    """Accept an open lishi: it closes and its packet is paid for, both or nothing; the same again is answered again.

    `prior`: what the book has paid for its packet id; `paid`: what the book says to paying for it now.
    """
    if lishi.state == "accepted" and isinstance(prior, Funded):
        if isinstance(paid, Funded):
            return paid
        return KEY_REUSED if prior.funding.key == accept.key else CLOSED
    if lishi.state != "asked":
        return _closed(lishi)
    if isinstance(prior, Funded):  # of a lishi that was forgotten and asked anew under its old key
        return CLOSED
    if isinstance(paid, Refused):
        return paid
    assert isinstance(paid, list), "nothing is paid yet"
    [funding] = paid
    return LishiClosed(lishi.lishi_id, "accepted", funding.at_ms, funding.packet_id), funding


def _closed(lishi: Lishi) -> Refused:
    return LAPSED if lishi.state == "lapsed" else CLOSED
