"""Allowance: a kind with a book. A pot pays its owner 1 fen a day into their wallet, and at its end the rest."""

from collections.abc import Callable, Iterator, Mapping
from typing import Literal

import msgspec

from actors.kernel.bounds import OfOperator, Period
from actors.kernel.handler import Command, Handler, Reply, Step, user_of
from actors.kernel.kind import Kind
from actors.kernel.machine import OVERLOADED, BookMachine
from actors.kernel.messages import Refused
from actors.kernel.ports import Event
from actors.kernel.rules import Rules, Services
from actors.kernel.switches import Switch
from actors.ledger.accounts import AccountKind, Side
from actors.ledger.book import Book
from actors.ledger.posting import Leg, Postings, move, sent
from actors.transfers.ids import wallet_index_of, wallet_stream
from actors.transfers.payout import PayoutRun

DAY_MS = 86_400_000
POT = AccountKind(name="pot", side=Side.LIABILITY, owner=("tenant", "user"))
TREASURY = AccountKind(name="treasury", side=Side.ASSET)


class AllowanceRules(Rules, frozen=True, kw_only=True):
    """The bounds of one stream."""

    pots_max: OfOperator
    lifetime_ms: Period


class OpenPot(msgspec.Struct, frozen=True, array_like=True, tag="open_pot"):
    """Command: fill a user's pot, once."""

    tenant: str
    user: str
    amount_fen: int


class PotTold(msgspec.Struct, frozen=True, array_like=True, tag="pot_told"):
    """Reply: what is in the pot."""

    left_fen: int


class PotOpened(msgspec.Struct, frozen=True, array_like=True, tag="pot_opened"):
    """Event: `treasury -> pot`."""

    tenant: str
    user: str
    amount_fen: int
    at_ms: int


class PotPaid(msgspec.Struct, frozen=True, array_like=True, tag="pot_paid"):
    """Event: `pot -> transit`, one day's fen or all that is left."""

    run: PayoutRun
    stream: str
    at_ms: int


class Pot(msgspec.Struct):
    """One pot."""

    left_fen: int
    ends_at_ms: int
    paid_at_ms: int


class State(msgspec.Struct):
    """Everything durable about one stream."""

    pots: dict[tuple[str, str], Pot] = {}
    treasury_fen: int = 0
    book: Book[PayoutRun] = msgspec.field(default_factory=Book)
    stamp_ms: int = 0
    version: int = 0
    switches: dict[str, Switch] = {}


class AllowanceMachine(BookMachine[State, PayoutRun]):
    """The pots of one stream."""

    def __init__(self, stream: str, rules: AllowanceRules, services: Services) -> None:
        super().__init__(stream, State(), rules.settle_batch_max)
        self._rules = rules
        self._wallets = services.streams("wallet")

    @property
    def book(self) -> Book[PayoutRun]:
        """Both ends of this stream's transfers."""
        return self._state.book

    def _own_balances(self) -> dict[str, int]:
        pots = self._state.pots.values()
        return {POT.name: sum(pot.left_fen for pot in pots), TREASURY.name: self._state.treasury_fen}

    def decide_open(self, command: OpenPot, now_ms: int) -> PotOpened | PotTold | Refused:
        """Fill a pot, tell what is in it, or refuse."""
        prior = self._state.pots.get((command.tenant, command.user))
        if prior is not None:
            return PotTold(prior.left_fen)
        if len(self._state.pots) >= self._rules.pots_max:
            return OVERLOADED
        return PotOpened(command.tenant, command.user, command.amount_fen, now_ms)

    def due(self, now_ms: int, limit: int) -> Iterator[Event]:
        """Pay every pot's day, and give back what is left at its end."""
        pots = self._state.pots
        ready = [name for name, pot in pots.items() if now_ms >= min(pot.paid_at_ms + DAY_MS, pot.ends_at_ms)]
        for tenant, user in ready[:limit]:
            pot, stream = self._state.pots[tenant, user], wallet_stream(wallet_index_of(tenant, user, self._wallets))
            kind: Literal["share", "refund"] = "refund" if now_ms >= pot.ends_at_ms else "share"
            amount_fen = pot.left_fen if kind == "refund" else 1
            number = self.book.next_number(stream)
            yield PotPaid(PayoutRun(number, kind, tenant, "allowance", [user], [amount_fen], now_ms), stream, now_ms)

    def appliers(self) -> Mapping[type[Event], Callable[..., None]]:
        """Return what takes each event type into the state."""
        return {PotOpened: self._apply_opened, PotPaid: self._apply_paid}

    def _apply_opened(self, event: PotOpened) -> None:
        ends_at_ms = event.at_ms + self._rules.lifetime_ms
        self._state.pots[event.tenant, event.user] = Pot(event.amount_fen, ends_at_ms, event.at_ms)
        self._state.treasury_fen -= event.amount_fen

    def _apply_paid(self, event: PotPaid) -> None:
        name = event.run.tenant, event.run.users[0]
        pot = self._state.pots[name]
        pot.left_fen -= event.run.amount_fen
        pot.paid_at_ms = event.at_ms
        self.book.to(event.stream).add(event.run)
        if not pot.left_fen:
            del self._state.pots[name]

    def restore(self, state: bytes) -> None:
        """Replace the whole state by a snapshot's."""
        self._state = msgspec.msgpack.decode(state, type=State)


def open_pot(step: Step[AllowanceMachine], command: OpenPot) -> Reply:
    """Fill a pot, once."""
    decided = step.machine.decide_open(command, step.now_ms)
    if isinstance(decided, PotOpened):
        step.stage(decided)
        return PotTold(decided.amount_fen)
    return decided


def opened(event: PotOpened) -> Postings:
    """Return the postings of a pot that is filled."""
    return move(Leg(TREASURY.of()), Leg(POT.of(event.tenant, event.user)), event.amount_fen)


def paid(event: PotPaid) -> Postings:
    """Return the postings of a payment."""
    pot = Leg(POT.of(event.run.tenant, event.run.users[0]))
    return move(pot, sent(event.stream, event.run.number), event.run.amount_fen, "allowance")


HANDLERS: Mapping[type[Command], Handler] = {OpenPot: Handler(open_pot, owner=user_of)}
ALLOWANCE = Kind(
    name="allowance",
    rules=AllowanceRules,
    machine=AllowanceMachine,
    handlers=HANDLERS,
    replies=(PotTold,),
    events=(PotOpened, PotPaid),
    postings={PotOpened: opened, PotPaid: paid},
    accounts=(POT, TREASURY),
)
