"""Holds: money that is reserved until it is taken, released, or its time is over. Pure; of any kind with accounts.

Reserve moves available money to held money; post takes it; void and expiry give it back.
Laws:
- a hold ends once: posted, voided or expired; its end follows from a journaled event, never from the clock alone;
- a hold is named by its id, for ever: the same command again is answered again, with what became of the hold;
- nobody takes a hold whose time is over, also if its expiry is not journaled yet: the command that meets it ends it;
- an open hold is never forgotten; an ended one is remembered for `keep_ms` by the stamps of events, so that a replay
  forgets the same ones; afterwards nobody finds it, and its id reserves anew;
- one stream keeps at most `total_max` holds, open and remembered, of which a user and a tenant have a part.
Amounts in fen, instants in Unix ms.
"""

from collections import deque
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, Literal

import msgspec

from actors.kernel.bounds import WHOLE, Percent, Period, Section, Shared
from actors.kernel.messages import Refused
from actors.kernel.quota import Bound, Counts
from actors.kernel.timer import Timer
from actors.ledger.accounts import AccountKind
from actors.ledger.posting import Leg, Postings, move

HoldState = Literal["open", "posted", "voided", "expired"]


class HoldRefusal(StrEnum):
    """A "no" to who wants to hold, take or release money."""

    INSUFFICIENT_FUNDS = "insufficient_funds"
    HOLD_NOT_FOUND = "hold_not_found"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    """The id stands for another hold, or for one that ended the other way."""
    EXPIRED = "expired"


NOT_FOUND = Refused(HoldRefusal.HOLD_NOT_FOUND)
INSUFFICIENT = Refused(HoldRefusal.INSUFFICIENT_FUNDS)
OTHERWISE = Refused(HoldRefusal.IDEMPOTENCY_KEY_REUSED)
EXPIRED = Refused(HoldRefusal.EXPIRED)

_TIMER_SLACK = 1_024
"""Timer entries of holds that ended early, beyond twice the open ones, before the timer is made anew."""


class Hold(msgspec.Struct, frozen=True, array_like=True, tag="hold"):
    """Command: reserve money of a user. `hold_id` is the caller's. `lifetime_ms`: at most that of the rules."""

    hold_id: str
    tenant: str
    user: str
    amount_fen: int
    lifetime_ms: int


class PostHold(msgspec.Struct, frozen=True, array_like=True, tag="post_hold"):
    """Command: take the held money."""

    hold_id: str


class VoidHold(msgspec.Struct, frozen=True, array_like=True, tag="void_hold"):
    """Command: give the held money back."""

    hold_id: str


class HoldTold(msgspec.Struct, frozen=True, array_like=True, tag="hold_told"):
    """Reply to all of these: the hold as it durably stands; `replayed` when the command had taken effect before."""

    hold_id: str
    amount_fen: int
    state: HoldState
    expires_at_ms: int
    replayed: bool


class Held(msgspec.Struct, frozen=True, array_like=True, tag="held"):
    """Event: money was reserved."""

    hold_id: str
    tenant: str
    user: str
    amount_fen: int
    at_ms: int
    expires_at_ms: int


class _HoldEnded(msgspec.Struct, frozen=True, array_like=True):
    hold_id: str
    tenant: str
    user: str
    amount_fen: int
    at_ms: int


class HoldPosted(_HoldEnded, frozen=True, array_like=True, tag="hold_posted"):
    """Event: held money was taken."""


class HoldVoided(_HoldEnded, frozen=True, array_like=True, tag="hold_voided"):
    """Event: held money was given back because the holder said so."""


class HoldExpired(_HoldEnded, frozen=True, array_like=True, tag="hold_expired"):
    """Event: held money was given back because nobody took it in time."""


HOLD_EVENTS = (Held, HoldPosted, HoldVoided, HoldExpired)
HoldEvent = Held | HoldPosted | HoldVoided | HoldExpired
_STATE_OF: dict[type, HoldState] = {HoldPosted: "posted", HoldVoided: "voided", HoldExpired: "expired"}


def hold_postings(
    available: AccountKind, held: AccountKind, taken: AccountKind
) -> Mapping[type, Callable[[Any], Postings]]:
    """Return what the events of holds post, on accounts of a kind; those of users are named by tenant and user."""

    def leg(account: AccountKind, event: HoldEvent) -> Leg:
        return Leg(account.of(event.tenant, event.user) if account.owner else account.of())

    def moves(source: AccountKind, destination: AccountKind) -> Callable[[Any], Postings]:
        return lambda event: move(leg(source, event), leg(destination, event), event.amount_fen, event.hold_id)

    back = moves(held, available)
    return {Held: moves(available, held), HoldPosted: moves(held, taken), HoldVoided: back, HoldExpired: back}


class HoldRules(Section, frozen=True):
    """How many, and how long (configs/)."""

    total_max: Shared
    """Open and remembered, of one stream."""
    lifetime_ms_max: Period
    keep_ms: Period
    """So long an ended hold is remembered."""
    fair: Percent = WHOLE


class HoldRecord(msgspec.Struct, frozen=True):
    """A hold and what became of it."""

    tenant: str
    user: str
    amount_fen: int
    expires_at_ms: int
    state: HoldState = "open"
    ended_at_ms: int = 0

    def told(self, hold_id: str, *, replayed: bool) -> HoldTold:
        """Return the reply that tells of it."""
        return HoldTold(hold_id, self.amount_fen, self.state, self.expires_at_ms, replayed)


class HoldBook(msgspec.Struct):
    """The holds of one stream: a part of its state."""

    open: dict[str, HoldRecord] = {}
    ended: dict[str, HoldRecord] = {}
    """In the order of their ends; the oldest are forgotten."""


class Holds:
    """The holds of one stream, with what follows from them: who has how many, and when the next one expires."""

    def __init__(self, book: HoldBook, rules: HoldRules) -> None:
        self._book = book
        self._rules = rules
        self._counts = Counts(Bound.of(rules.total_max, rules.fair))
        self._remembered: deque[tuple[int, str, str]] = deque()
        """(ended_at_ms, tenant, user) of the ended holds that still count."""
        self._timer = self._timer_of_open()
        for record in book.open.values():
            self._counts.add(record.tenant, record.user)
        for record in book.ended.values():
            self._counts.add(record.tenant, record.user)
            self._remembered.append((record.ended_at_ms, record.tenant, record.user))

    # Decide: reads only.

    def decide_hold(self, hold: Hold, available_fen: int, now_ms: int) -> tuple[HoldEvent | None, HoldTold | Refused]:
        """Reserve money, once per hold id; return what happens, and the reply once it has."""
        prior = self._find(hold.hold_id)
        if prior is not None:
            same = (prior.tenant, prior.user, prior.amount_fen) == (hold.tenant, hold.user, hold.amount_fen)
            return None, prior.told(hold.hold_id, replayed=True) if same else OTHERWISE
        if available_fen < hold.amount_fen:
            return None, INSUFFICIENT
        self._count_no_more(now_ms)
        full = self._counts.refusal(hold.tenant, hold.user)
        if full is not None:
            return None, full
        # From here the hold must succeed.
        expires_at_ms = now_ms + min(hold.lifetime_ms, self._rules.lifetime_ms_max)
        held = Held(hold.hold_id, hold.tenant, hold.user, hold.amount_fen, now_ms, expires_at_ms)
        return held, HoldTold(hold.hold_id, hold.amount_fen, "open", expires_at_ms, replayed=False)

    def decide_end(self, command: PostHold | VoidHold, now_ms: int) -> tuple[HoldEvent | None, HoldTold | Refused]:
        """Take or release a hold; one whose time is over expires instead, and the command is refused."""
        hold_id, event_type = command.hold_id, HoldPosted if isinstance(command, PostHold) else HoldVoided
        record, wanted = self._find(hold_id), _STATE_OF[event_type]
        if record is None:
            return None, NOT_FOUND
        if record.state == wanted:
            return None, record.told(hold_id, replayed=True)
        if record.state == "expired":
            return None, EXPIRED
        if record.state != "open":
            return None, OTHERWISE
        fields = hold_id, record.tenant, record.user, record.amount_fen, now_ms
        if now_ms >= record.expires_at_ms:
            return HoldExpired(*fields), EXPIRED
        return event_type(*fields), HoldTold(hold_id, record.amount_fen, wanted, record.expires_at_ms, replayed=False)

    def due(self, now_ms: int, limit: int) -> list[HoldExpired]:
        """Take at most `limit` holds off the timer, and end those whose time is over, in the same step."""
        names = self._timer.due(now_ms, limit)
        over = [(hold_id, self._book.open[hold_id]) for hold_id in names if hold_id in self._book.open]
        # An id that was forgotten and reserved anew has two entries.
        over = [(hold_id, record) for hold_id, record in dict(over).items() if now_ms >= record.expires_at_ms]
        return [HoldExpired(hold_id, one.tenant, one.user, one.amount_fen, now_ms) for hold_id, one in over]

    # Apply: writes only.

    def apply(self, event: HoldEvent) -> None:
        """Take an event in; the money moves in the accounts of the machine."""
        self._forget(event.at_ms)
        book = self._book
        if isinstance(event, Held):
            assert event.hold_id not in book.open, "a hold is made once"
            book.open[event.hold_id] = HoldRecord(event.tenant, event.user, event.amount_fen, event.expires_at_ms)
            self._counts.add(event.tenant, event.user)
            self._timer.put(event.expires_at_ms, event.hold_id)
            return
        record = book.open.pop(event.hold_id)
        ended = msgspec.structs.replace(record, state=_STATE_OF[type(event)], ended_at_ms=event.at_ms)
        book.ended[event.hold_id] = ended
        self._remembered.append((event.at_ms, record.tenant, record.user))
        if self._timer.entries > 2 * len(book.open) + _TIMER_SLACK:
            self._timer = self._timer_of_open()

    def _forget(self, at_ms: int) -> None:
        """Forget what ended so long ago, by the stamp of an event."""
        ended = self._book.ended
        while ended and at_ms - ended[oldest := next(iter(ended))].ended_at_ms >= self._rules.keep_ms:
            del ended[oldest]
        self._count_no_more(at_ms)

    def _count_no_more(self, now_ms: int) -> None:
        """Count no more what is to be forgotten by now, even while the book still has it."""
        remembered = self._remembered
        while remembered and now_ms - remembered[0][0] >= self._rules.keep_ms:
            _, tenant, user = remembered.popleft()
            self._counts.remove(tenant, user)

    def _find(self, hold_id: str) -> HoldRecord | None:
        return self._book.open.get(hold_id) or self._book.ended.get(hold_id)

    def _timer_of_open(self) -> Timer:
        return Timer((record.expires_at_ms, hold_id) for hold_id, record in self._book.open.items())
