"""Wallet stream: decides who may spend what. Pure: no clock, no randomness, no I/O, no Ray.

`decide_*` only reads, `apply` only writes, and `apply` cannot fail: the journal replays through it.
Laws:
- a balance is never negative, and what is held cannot be spent;
- the debit of a send and the whole packet it pays for are one event: a packet is funded once per key, or not at all;
- only successes are remembered under a key (`actors.wallet.idempotency`); a refusal is decided afresh;
- a payout in transit is never refused: an unknown user gets an account;
- while sends are paused nobody funds a new packet; the same send again is still answered again.
Amounts are integer fen (1 CNY = 100 fen); instants are Unix milliseconds stamped by the shell.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from struct import Struct

import msgspec

from actors.kernel.machine import BookMachine
from actors.kernel.messages import Refused
from actors.kernel.ports import Event
from actors.kernel.rules import Services
from actors.kernel.switches import Switch
from actors.ledger.book import Book
from actors.ledger.holds import (
    HOLD_EVENTS,
    Held,
    Hold,
    HoldBook,
    HoldEvent,
    HoldPosted,
    Holds,
    HoldTold,
)
from actors.refusals import Refusal
from actors.transfers.funding import PacketFunded
from actors.transfers.ids import whole_id
from actors.wallet.asks import AskBook
from actors.wallet.commands import CommitSeed, CreditSandbox, KeepPhoto, Send
from actors.wallet.commitments import NOT_FOUND as COMMITMENT_NOT_FOUND
from actors.wallet.commitments import Commitments
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
from actors.wallet.idempotency import remember
from actors.wallet.lishi import LishiBook
from actors.wallet.notes import NoteBook
from actors.wallet.postings import BANK, CHANGE, FAUCET, HELD, STATEMENT, STATEMENT_WORDS, cause_of
from actors.wallet.quotas import Fresh, WalletHolders
from actors.wallet.replies import Funded, Statement, StatementLine, WalletView
from actors.wallet.rules import WalletRules
from actors.wallet.sends import Place, Terms, TermsMaker, fundings, is_same, is_timely
from actors.wallet.switches import SENDS

_LINE = Struct("<QBqQ32s")
"""One statement line: stamp (ms), kind, signed amount (fen), available balance after it (fen), reference."""
_CODE = {moved: STATEMENT_WORDS.index(word) for moved, word in STATEMENT.items()}
"""What moves money -> the kind of its statement line."""

INSUFFICIENT = Refused(Refusal.INSUFFICIENT_FUNDS)
KEY_REUSED = Refused(Refusal.IDEMPOTENCY_KEY_REUSED)
OVERLOADED = Refused(Refusal.OVERLOADED)
PAUSED = Refused(Refusal.PAUSED)
NOT_FOUND = Refused(Refusal.PACKET_NOT_FOUND)
BAD_TIMES = Refused(Refusal.BAD_TIMES)


class Account(msgspec.Struct, gc=False):
    """One user's money: spendable, reserved, and the newest statement lines (packed, oldest first)."""

    available_fen: int = 0
    held_fen: int = 0
    lines: bytes = b""
    lines_count: int = 0
    """Lines ever written; the newest of them are kept."""


class WalletState(msgspec.Struct):
    """Everything durable about one wallet stream: what a snapshot holds."""

    accounts: dict[str, dict[str, Account]] = {}
    """tenant -> user -> account."""
    accounts_count: int = 0
    fundings: dict[str, PacketFunded] = {}
    """packet id -> what was sent: of the last `idempotency_ms`, or not arrived. An id stands for a sender's key."""
    holds: HoldBook = msgspec.field(default_factory=HoldBook)
    faucet_fen: int = 0
    bank_fen: int = 0
    book: Book[PacketFunded] = msgspec.field(default_factory=Book)
    stamp_ms: int = 0
    version: int = 0
    switches: dict[str, Switch] = {}
    """The switches that are on: `sends`."""
    named: dict[str, list[str]] = {}
    """packet id that a key stands for -> what was funded by it, where that is another packet, or several."""
    commitments: dict[str, Committed] = {}
    """packet id -> commitment nobody has used yet."""
    lishi: LishiBook = msgspec.field(default_factory=LishiBook)
    notes: NoteBook = msgspec.field(default_factory=NoteBook)
    asks: AskBook = msgspec.field(default_factory=AskBook)
    photos: dict[str, PhotoKept] = {}
    """photo id -> what it takes on the disk."""


class WalletMachine(BookMachine[WalletState, PacketFunded]):
    """The accounts of one stream."""

    def __init__(self, stream: str, rules: WalletRules, services: Services) -> None:
        super().__init__(stream, WalletState(), rules.settle_batch_max)
        self._rules = rules
        self.maker = TermsMaker(rules.sends, services)
        self.lishi_rules = rules.lishi.among(services.streams("wallet"))
        self._commitments = Commitments(self._state.commitments, rules.commitments)
        self._holders = WalletHolders(rules, self._state)
        self.holds = Holds(self._state.holds, rules.holds)
        self._lines_bytes = rules.statement_lines_max * _LINE.size

    # Decide: reads only.

    def decide_send(self, send: Send, terms: Terms, now_ms: int) -> list[PacketFunded] | Funded | Refused:
        """Fund a packet (or all of a crowd's), answer the same send again, or refuse. The first rule that matches wins.

        What it returns first is only decided on; the caller stages it, all in one step.
        """
        state = self._state
        names = state.named.get(terms.named_by_key, [terms.named_by_key])
        paid = [state.fundings[packet_id] for packet_id in names if packet_id in state.fundings]
        if paid:
            return Funded(self.stream, paid[0], True, paid[1:]) if is_same(send, paid, terms) else KEY_REUSED
        if SENDS in state.switches:
            return PAUSED
        if not is_timely(send, terms, now_ms):
            return BAD_TIMES
        if send.commitment_id:
            found = self._commitments.find(send, terms.algorithm, now_ms)
            if isinstance(found, Refused):
                return found
            terms = terms.committed(found)
        wanted = fundings(send, terms, now_ms)
        account = self._account(send.tenant, send.user)
        if account is None or account.available_fen < send.total_fen:
            return INSUFFICIENT
        full = self._holders.refusal_of_sends(send.tenant, send.user, len(wanted), now_ms)
        if full is not None:
            return full
        # From here the send must succeed.
        numbers: dict[str, int] = {}
        for index, one in enumerate(wanted):
            number = numbers.get(one.packet_stream) or state.book.next_number(one.packet_stream)
            wanted[index] = msgspec.structs.replace(one, number=number)
            numbers[one.packet_stream] = number + 1
        return wanted

    def decide_commit(
        self, commit: CommitSeed, places: Sequence[Place], key_id: str, now_ms: int
    ) -> Committed | Refused:
        """Commit to a packet that is not sent yet (or to several); what is not new was there before.

        A request that comes late, when its commitment is used, must not make it usable again.
        """
        if places[0].packet_id in self._state.fundings:
            return COMMITMENT_NOT_FOUND
        commitments = [place.commitment for place in places]
        made = self._commitments.decide(commit, whole_id(places[0].packet_id), key_id, commitments, now_ms)
        if isinstance(made, Refused) or self.is_committed(made.packet_id):
            return made
        return self.refusal(made, now_ms) or made

    def is_committed(self, packet_id: str) -> bool:
        """Tell whether there is an unused commitment for that packet."""
        return packet_id in self._state.commitments

    def decide_credit(self, credit: CreditSandbox, now_ms: int) -> SandboxCredited | WalletView | Refused:
        """Make a sandbox user; an existing one keeps their balance."""
        account = self._account(credit.tenant, credit.user)
        if account is not None:
            return WalletView(account.available_fen, account.held_fen)
        credited = SandboxCredited(credit.tenant, credit.user, credit.amount_fen, now_ms)
        return self.refusal(credited, now_ms) or credited

    def decide_hold(self, hold: Hold, now_ms: int) -> tuple[HoldEvent | None, HoldTold | Refused]:
        """Reserve money, once per hold id; return what happens, and the reply."""
        account = self._account(hold.tenant, hold.user)
        return self.holds.decide_hold(hold, 0 if account is None else account.available_fen, now_ms)

    def decide_photo(self, keep: KeepPhoto, now_ms: int) -> PhotoKept | Refused | None:
        """Count what a photo takes; None: as much of it is counted already."""
        return self._holders.decide_photo(keep, self._state.photos.get(keep.photo_id), now_ms)

    def refusal(self, event: Fresh, now_ms: int) -> Refused | None:
        """Say no to what was decided, but has no room in its owner's part; None: it fits."""
        replaces = isinstance(event, Noted) and (event.packet_id, event.user) in self._state.notes.all
        return None if replaces else self._holders.refusal(event, now_ms)

    def find_funding(self, packet_id: str) -> Funded | Refused:
        """Return what this book paid for that packet."""
        funding = self._state.fundings.get(packet_id)
        return NOT_FOUND if funding is None else Funded(self.stream, funding, replayed=True)

    def view(self, tenant: str, user: str) -> WalletView:
        """Return a user's balance; zeros for a user without an account."""
        account = self._account(tenant, user) or Account()
        return WalletView(account.available_fen, account.held_fen)

    def statement(self, tenant: str, user: str, limit: int, below: int | None) -> Statement:
        """Return at most `limit` lines, newest first, under line number `below`."""
        account = self._account(tenant, user) or Account()
        kept = len(account.lines) // _LINE.size
        oldest = account.lines_count - kept
        end = account.lines_count if below is None else min(below, account.lines_count)
        start = max(oldest, end - limit)
        lines = []
        for index in range(end - 1, start - 1, -1):
            at_ms, kind, amount_fen, balance_fen, reference = _LINE.unpack_from(
                account.lines, (index - oldest) * _LINE.size
            )
            lines.append(
                StatementLine(at_ms, STATEMENT_WORDS[kind], amount_fen, balance_fen, reference.rstrip(b"\x00").decode())
            )
        return Statement(lines, start if start > oldest and lines else None, min(end, oldest))

    def _may_leave(self, moved: PacketFunded, now_ms: int) -> bool:
        """Leave the gateways time to deliver a funding themselves."""
        return now_ms - moved.at_ms >= self._rules.relay_after_ms

    def _own_balances(self) -> dict[str, int]:
        state = self._state
        accounts = [account for users in state.accounts.values() for account in users.values()]
        return {
            CHANGE.name: sum(account.available_fen for account in accounts),
            HELD.name: sum(account.held_fen for account in accounts),
            BANK.name: state.bank_fen,
            FAUCET.name: state.faucet_fen,
        }

    @property
    def rules(self) -> WalletRules:
        """The bounds of this stream."""
        return self._rules

    @property
    def book(self) -> Book[PacketFunded]:
        """Both ends of this stream's transfers."""
        return self._state.book

    @property
    def lishi(self) -> LishiBook:
        """What was asked of the people of this stream."""
        return self._state.lishi

    @property
    def asks(self) -> AskBook:
        """What the people of this stream ask of others."""
        return self._state.asks

    @property
    def notes(self) -> NoteBook:
        """What takers wrote to the senders of this stream."""
        return self._state.notes

    @property
    def members(self) -> int:
        """Accounts in memory."""
        return self._state.accounts_count

    def due(self, now_ms: int, limit: int) -> Iterator[Event]:
        """Give back what is held by holds whose time is over."""
        yield from self.holds.due(now_ms, limit)

    # Apply: writes only.

    def appliers(self) -> Mapping[type[Event], Callable[..., None]]:
        """Return what takes each event type into the state."""
        return {
            RunsReceived: self._apply_runs,
            PacketFunded: self._apply_funded,
            Committed: self._apply_committed,
            SandboxCredited: self._apply_credited,
            **dict.fromkeys(HOLD_EVENTS, self._apply_hold),
            LishiAsked: self._apply_lishi,
            LishiClosed: self._apply_lishi,
            LishiCounted: self._apply_counted,
            Noted: self._apply_noted,
            PhotoKept: self._apply_photo,
        }

    def apply(self, event: Event) -> None:
        """Take an event into the state, and count what it has added to a table."""
        super().apply(event)
        self._holders.take(event, self._state)

    def _settled(self, moved: list[PacketFunded]) -> None:
        self._holders.settled(moved)

    def _apply_committed(self, event: Committed) -> None:
        self._commitments.add(event)

    def _apply_credited(self, event: SandboxCredited) -> None:
        self._state.faucet_fen -= event.amount_fen
        account = self._open_account(event.tenant, event.user)
        self._change(account, event.amount_fen, event.at_ms, _CODE["sandbox_credited"], b"")

    def _apply_lishi(self, event: LishiAsked | LishiClosed) -> None:
        self._state.lishi.apply(event, self.lishi_rules)

    def _apply_counted(self, event: LishiCounted) -> None:
        self._state.asks.apply(event, self._rules.asks)

    def _apply_noted(self, event: Noted) -> None:
        self._state.notes.apply(event, self._rules.notes)

    def _apply_photo(self, event: PhotoKept) -> None:
        self._holders.photo(event, self._state.photos.get(event.photo_id))
        self._state.photos[event.photo_id] = event

    def _apply_hold(self, event: HoldEvent) -> None:
        self.holds.apply(event)
        account = self._open_account(event.tenant, event.user)
        amount_fen = event.amount_fen if isinstance(event, Held) else -event.amount_fen
        account.held_fen += amount_fen
        assert account.held_fen >= 0, "what is taken or released was held"
        if isinstance(event, HoldPosted):
            self._state.bank_fen += event.amount_fen
            return
        code = _CODE[str(type(event).__struct_config__.tag)]
        self._change(account, -amount_fen, event.at_ms, code, _reference(event.hold_id))

    def _apply_funded(self, event: PacketFunded) -> None:
        state = self._state
        account = self._open_account(event.tenant, event.sender)
        code = _CODE[cause_of(event) or "packet_funded"]
        self._change(account, -event.total_fen, event.at_ms, code, _reference(event.packet_id))
        state.book.to(event.packet_stream).add(event)
        remember(state, event, self._rules.idempotency_ms)
        if event.named_by_key:
            self._commitments.use(whole_id(event.packet_id))
        self._holders.funded(event)

    def _apply_runs(self, event: RunsReceived) -> None:
        received = self._state.book.source(event.source)
        for run in event.runs:
            received.add_run(run.number, run.amounts_fen)
            kind, reference = _CODE[run.kind], _reference(run.packet_id)
            for user, amount_fen in zip(run.users, run.amounts_fen, strict=True):
                self._change(self._open_account(run.tenant, user), amount_fen, event.at_ms, kind, reference)

    def _change(self, account: Account, amount_fen: int, at_ms: int, kind: int, reference: bytes) -> None:
        account.available_fen = available_fen = account.available_fen + amount_fen
        assert available_fen >= 0, "a balance is never negative"
        line = _LINE.pack(at_ms, kind, amount_fen, available_fen, reference)
        account.lines = (account.lines + line)[-self._lines_bytes :]
        account.lines_count += 1

    def _account(self, tenant: str, user: str) -> Account | None:
        users = self._state.accounts.get(tenant)
        return None if users is None else users.get(user)

    def _open_account(self, tenant: str, user: str) -> Account:
        users = self._state.accounts.setdefault(tenant, {})
        account = users.get(user)
        if account is None:
            account = users[user] = Account()
            self._state.accounts_count += 1
            self._holders.opened(tenant)
        return account

    def restore(self, state: bytes) -> None:
        """Replace the whole state by a snapshot's."""
        self._state = msgspec.msgpack.decode(state, type=WalletState)
        self._commitments = Commitments(self._state.commitments, self._rules.commitments)
        self._holders = WalletHolders(self._rules, self._state)
        self.holds = Holds(self._state.holds, self._rules.holds)


def _reference(name: str) -> bytes:
    """Return what a statement line keeps of a packet's or hold's id."""
    return name.encode()[:32]
