"""Machine: the state of one stream, what it decides and what events do to it. Pure: no clock, no randomness, no I/O.

`decide_*` only reads, `apply` only writes, and `apply` cannot fail: the journal replays through it.
A state is everything durable about one stream, as a snapshot holds it; `version` counts the events applied to it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

import msgspec

from actors.kernel.messages import KernelRefusal, Refused, SnapshotTaken
from actors.kernel.ports import Event
from actors.kernel.switches import SWITCHES_MAX, Switch, SwitchSet
from actors.ledger.book import Book, BookView, Moving
from actors.ledger.transfer import Outgoing, Receive, Settled, transfer_of

OUT_OF_ORDER = Refused(KernelRefusal.OUT_OF_ORDER)
OVERLOADED = Refused(KernelRefusal.OVERLOADED)


class Machine(Protocol):
    """All that shells, hosts, settlement and audits need of a machine."""

    stream: str

    @property
    def version(self) -> int:
        """Events applied."""
        ...

    @property
    def work(self) -> int:
        """What a replay of the whole stream costs: events, and the transfers in them (an event may hold a thousand)."""
        ...

    @property
    def stamp_ms(self) -> int:
        """The greatest stamp in the journal."""
        ...

    @property
    def members(self) -> int:
        """How much is in memory, in whatever its kind counts."""
        ...

    @property
    def withheld(self) -> int:
        """What this stream can neither give nor end with the keys at hand."""
        ...

    @property
    def book(self) -> BookView:
        """Both ends of this stream's transfers."""
        ...

    @property
    def switches(self) -> dict[str, Switch]:
        """The switches that are on, by name."""
        ...

    def apply(self, event: Event) -> None:
        """Take an event into the state. Live and replay go through here."""
        ...

    def restore(self, state: bytes) -> None:
        """Replace the whole state by a snapshot's."""
        ...

    def snapshot(self) -> bytes:
        """Encode the whole state."""
        ...

    def balances(self) -> dict[str, int]:
        """Return the sum of each kind of account of this book, in fen: O(accounts). Together they are 0."""
        ...

    def totals(self) -> dict[str, int]:
        """Return what its kind adds up for audits beside its balances (`Kind.totals`), in fen."""
        ...

    def decide_switch(self, switch: str, paused: bool, by: str, now_ms: int) -> SwitchSet | Refused | None:
        """Pause something, or let it go on; None if it is so already."""
        ...

    def decide_settled(self, destination: str, number: int) -> Settled | Refused | None:
        """Note that `destination` has everything up to `number`; None if that is not news."""
        ...

    def outgoing(self, now_ms: int) -> list[Outgoing]:
        """Return the next delivery to every destination; a host delivers it only once it is durable."""
        ...

    def due(self, now_ms: int, limit: int) -> Iterator[Event]:
        """Decide what the clock alone brings about, at most `limit` steps; each is applied before the next is taken."""
        ...

    @property
    def passivated(self) -> int:
        """How many records have left memory; one that was looked up before the last one left may be missing."""
        ...

    def strangers(self, ids: Iterable[str]) -> set[str]:
        """Return those of the ids whose record must be looked up: not in memory, and perhaps passivated."""
        ...

    def recall(self, records: Mapping[str, bytes]) -> None:
        """Let the decisions of the next step know what these records say, and no other."""
        ...

    def passivable(self, now_ms: int) -> dict[str, bytes]:
        """Return the records of what may leave memory, by id. All of them are durable."""
        ...

    def decide_passivation(self, ids: Sequence[str]) -> Event | None:
        """Let go of what has its record kept; None if nothing of it is here any more."""
        ...


class StreamState(Protocol):
    """What the state of any stream has."""

    stamp_ms: int
    version: int
    switches: dict[str, Switch]


S = TypeVar("S", bound=StreamState)
E = TypeVar("E", bound=Moving)

_NO_BOOK: Book[Moving] = Book()


class PlainMachine(Generic[S]):
    """The machine of a stream without accounts: switches and events. Nothing of it leaves memory by itself."""

    def __init__(self, stream: str, state: S) -> None:
        self.stream = stream
        self._state = state
        self._appliers: Mapping[type[Event], Callable[..., None]] = {
            SwitchSet: self._apply_switch,
            SnapshotTaken: _ignore,
            **self.appliers(),
        }

    def appliers(self) -> Mapping[type[Event], Callable[..., None]]:
        """Return, for every event type of its kind, what takes such an event into the state."""
        return {}

    @property
    def version(self) -> int:
        """Events applied."""
        return self._state.version

    @property
    def work(self) -> int:
        """What a replay of the whole stream costs."""
        return self._state.version

    @property
    def stamp_ms(self) -> int:
        """The greatest stamp in the journal."""
        return self._state.stamp_ms

    @property
    def members(self) -> int:
        """What is in memory."""
        return 0

    @property
    def withheld(self) -> int:
        """What this stream can neither give nor end with the keys at hand."""
        return 0

    @property
    def book(self) -> BookView:
        """No transfers."""
        return _NO_BOOK

    @property
    def switches(self) -> dict[str, Switch]:
        """The switches that are on, by name."""
        return self._state.switches

    def apply(self, event: Event) -> None:
        """Take an event into the state. Live and replay go through here."""
        state, applier = self._state, self._appliers.get(type(event))
        assert applier is not None, f"{type(event).__name__} is not an event of {self.stream}"
        state.version += 1
        applier(event)
        at_ms = getattr(event, "at_ms", 0)
        if at_ms > state.stamp_ms:
            state.stamp_ms = at_ms

    def _apply_switch(self, event: SwitchSet) -> None:
        if event.paused:
            self._state.switches[event.switch] = Switch(event.at_ms, event.by)
        else:
            del self._state.switches[event.switch]

    def snapshot(self) -> bytes:
        """Encode the whole state."""
        return msgspec.msgpack.encode(self._state)

    def balances(self) -> dict[str, int]:
        """Return the sum of each kind of account of this book, in fen: O(accounts). Together they are 0."""
        return {}

    def totals(self) -> dict[str, int]:
        """Return what its kind adds up for audits beside its balances (`Kind.totals`), in fen."""
        return {}

    def decide_switch(self, switch: str, paused: bool, by: str, now_ms: int) -> SwitchSet | Refused | None:
        """Pause something, or let it go on; None if it is so already."""
        switches = self._state.switches
        if (switch in switches) is paused:
            return None
        if paused and len(switches) >= SWITCHES_MAX:
            return OVERLOADED
        return SwitchSet(switch, paused, now_ms, by)

    def decide_settled(self, destination: str, number: int) -> Settled | Refused | None:
        """Refuse: nothing was ever sent."""
        return OUT_OF_ORDER

    def outgoing(self, now_ms: int) -> list[Outgoing]:
        """Return nothing."""
        return []

    def due(self, now_ms: int, limit: int) -> Iterator[Event]:
        """Decide what the clock alone brings about; nothing."""
        return iter(())

    @property
    def passivated(self) -> int:
        """How many records have left memory."""
        return 0

    def strangers(self, ids: Iterable[str]) -> set[str]:
        """Return those of the ids whose record must be looked up; none."""
        return set()

    def recall(self, records: Mapping[str, bytes]) -> None:
        """Know what these records say; there are none."""

    def passivable(self, now_ms: int) -> dict[str, bytes]:
        """Return the records of what may leave memory; none."""
        return {}

    def decide_passivation(self, ids: Sequence[str]) -> Event | None:
        """Let nothing go."""
        return None


class BookMachine(PlainMachine[S], Generic[S, E]):
    """The machine of a stream with a book."""

    def __init__(self, stream: str, state: S, settle_batch_max: int) -> None:
        super().__init__(stream, state)
        self._appliers = {Settled: self._apply_settled, **self._appliers}
        self._settle_batch_max = settle_batch_max

    @property
    def book(self) -> Book[E]:
        """Both ends of this stream's transfers."""
        raise NotImplementedError

    @property
    def work(self) -> int:
        """What a replay of the whole stream costs: events, and the transfers in them (an event may hold a thousand)."""
        return self._state.version + self.book.transfers

    def balances(self) -> dict[str, int]:
        """Return the sum of each kind of account of this book, in fen: O(accounts). Together they are 0."""
        return self._own_balances() | self.book.balances()

    def _own_balances(self) -> dict[str, int]:
        """Return those of the accounts that its kind declares."""
        return {}

    def decide_settled(self, destination: str, number: int) -> Settled | Refused | None:
        """Note that `destination` has everything up to `number`; None if that is not news.

        A number beyond the last one sent is refused: a zombie lags behind, and a bug must not forget money.
        """
        sent = self.book.sent.get(destination)
        if number > (sent.last_number if sent else 0):
            return OUT_OF_ORDER
        if sent is None or number <= sent.settled_number:
            return None
        return Settled(destination, number)

    def _apply_settled(self, event: Settled) -> None:
        self._settled(self.book.settle(event.destination, event.number))

    def _settled(self, moved: list[E]) -> None:
        """Apply: these have arrived."""

    def _may_leave(self, moved: E, now_ms: int) -> bool:
        """Tell whether settlement may deliver it now."""
        return True

    def outgoing(self, now_ms: int) -> list[Outgoing]:
        """Return the next delivery to every destination, about `settle_batch_max` transfers: no run is divided.

        A delivery without transfers asks for the watermark.
        """
        batches = []
        for destination, sent in self.book.sent.items():
            if not sent.unsettled:
                continue
            transfers, following = [], sent.settled_number + 1
            last = min(sent.last_number, sent.settled_number + self._settle_batch_max)
            while following <= last:
                moved = sent.unsettled[following]
                if not self._may_leave(moved, now_ms):
                    break
                transfers.append(transfer_of(moved))
                following += moved.transfers
            receive = Receive(self.stream, sent.settled_number, sent.settled_fen, transfers)
            batches.append(Outgoing(self.stream, destination, receive))
        return batches


def _ignore(event: SnapshotTaken) -> None:
    """Apply nothing: where activations start from is not part of a state."""
