"""Kind: all that the platform must know of one kind of actor.

`actors.kinds` names the kinds; everything else asks it. What a kind does not declare does not exist: nowhere else is
there a branch by the name of a kind, and nowhere a default for a kind that is not known.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from types import GenericAlias
from typing import Union

import msgspec

from actors.kernel.errors import OperatingFailure
from actors.kernel.handler import Command, Handler
from actors.kernel.host import Host
from actors.kernel.machine import OUT_OF_ORDER, Machine
from actors.kernel.messages import AdoptSnapshot, Done, Refused, SnapshotTaken
from actors.kernel.ports import Event
from actors.kernel.proof import Prover
from actors.kernel.rules import Rules
from actors.kernel.switches import ReadSwitches, SetSwitch, Switches, SwitchSet
from actors.ledger.accounts import TRANSIT, AccountKind
from actors.ledger.book import Moving, Received
from actors.ledger.posting import Postings
from actors.ledger.transfer import Acknowledge, Receive, Settled, Transfer, Watermark

COMMANDS: tuple[type[msgspec.Struct], ...] = (Receive, Acknowledge, AdoptSnapshot, SetSwitch, ReadSwitches)
"""What every stream is asked."""
REPLIES: tuple[type[msgspec.Struct], ...] = (Refused, Done, Watermark, Switches)
"""What any stream answers."""
EVENTS: tuple[type[msgspec.Struct], ...] = (Settled, SnapshotTaken, SwitchSet)
"""What happens in any stream, and moves no money. An event type that was once written is never taken out."""


class UnknownKind(OperatingFailure):
    """A catalogue, a configuration or the name of a stream names a kind that the platform does not have."""


class DuplicateKind(OperatingFailure):
    """Two kinds declare the same name, event, command or account."""


class IncompleteKind(OperatingFailure):
    """A kind does not declare something that the platform must know of it."""


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """The declaration of a kind of actor. Every member is used by the kernel or by `cluster`, none by another kind."""

    name: str
    """Prefix of its streams ("bank-003") and hosts ("bank-shard-0"), its section of configs/, its metric label."""
    rules: type[Rules]
    """Its section of configs/."""
    machine: Callable[..., Machine]
    """(stream, rules, services) -> the empty machine of a stream."""
    host: type[Host] = Host
    handlers: Mapping[type[Command], Handler] = {}
    """command type -> what answers it, beside the kernel's (`actors.kernel.handler`)."""
    accepts: tuple[type[msgspec.Struct], ...] = ()
    """What is content of the transfers that come to its streams; empty: none do."""
    ordered: bool = True
    """Whether transfers of one source are taken in the order of their numbers only."""
    receive: Callable[..., None] | None = None
    """(step, source, contents): take them. Contents are fresh, and the next ones where it is ordered."""
    received_ids: Callable[..., tuple[str, ...]] | None = None
    """content -> the ids of the records that taking it needs, if they have left memory."""
    switch_ids: Callable[..., tuple[str, ...]] | None = None
    """command to set a switch -> the ids of the records that this needs, if they have left memory."""
    count: Callable[..., None] | None = None
    """(tally, groups, replies): count the answers of one call to a host."""
    commands: tuple[type[Command], ...] = ()
    """What its own host answers in groups, without a handler."""
    replies: tuple[type[msgspec.Struct], ...]
    events: tuple[type[msgspec.Struct], ...]
    """What happens in its streams. An event type that was once written is never taken out."""
    postings: Mapping[type, Callable[..., Postings] | None]
    """event type -> its postings; None: it moves no money. Every event type of the kind is named."""
    accounts: tuple[AccountKind, ...] = ()
    """Its chart of accounts, beyond the two ends of transits."""
    statement: Mapping[str, str] = {}
    """What moves money (the tag of an event, or the cause that its postings name) -> the word for it on a statement."""
    home: Callable[[str, str, int], int] | None = None
    """(tenant, user, number of streams) -> the stream of a user's accounts; None: no user has an account here."""
    prove: Callable[[str], Prover] | None = None
    """Stream -> its offline check of records that have ended."""
    totals: tuple[str, ...] = ()
    """What its machines add up beside their balances, as columns of a live audit, in fen."""
    pools: tuple[str, ...] = ("",)
    """Groups of its streams that have hosts of their own, in the order of their numbers: ("", "hot")."""

    @property
    def asked(self) -> tuple[type[Command], ...]:
        """Every type of command that its streams are asked, beyond what the kernel asks every stream."""
        return (*self.handlers, *self.commands)

    def content(self, transfer: Transfer) -> Moving:
        """Decode what a transfer brings. Raises msgspec.MsgspecError: this kind does not accept it."""
        content: Moving = _content_decoder(self.accepts).decode(transfer.content)
        told = transfer.number, transfer.count, transfer.amount_fen
        assert told == (content.number, content.transfers, content.amount_fen), "a transfer moves what its content says"
        return content

    def fresh(self, received: Received, delivery: Receive) -> list[Moving] | Refused:
        """Return the contents of a delivery that are not here yet; of an ordered kind only the next ones are taken."""
        if delivery.before_number == received.number:
            assert delivery.before_fen == received.total_fen, f"{delivery.source} sent another sum than was received"
        fresh = [transfer for transfer in delivery.transfers if not received.has(transfer.number)]
        following = received.number + 1
        for transfer in fresh if self.ordered else ():
            if transfer.number != following:
                return OUT_OF_ORDER
            following += transfer.count
        return [self.content(transfer) for transfer in fresh]

    def command_decoder(self) -> msgspec.msgpack.Decoder[list[tuple[str, list[Command]]]]:
        """Return the decoder of what a host of this kind is called with: `[(stream, [command, ...]), ...]`."""
        commands = GenericAlias(list, (union_of((*COMMANDS, *self.asked)),))
        return msgspec.msgpack.Decoder(GenericAlias(list, (GenericAlias(tuple, (str, commands)),)))

    def chart(self) -> dict[str, AccountKind]:
        """Return every kind of account in its books, by name."""
        return {account.name: account for account in (*self.accounts, *TRANSIT)}

    def postings_of(self, event: Event) -> Postings:
        """Return the postings of one event of such a stream; they sum to 0.

        Raises TypeError for an event that is not one of this kind: our own bug.
        """
        event_type = type(event)
        if event_type in EVENTS:
            return []
        if event_type not in self.postings:
            raise TypeError(f"{event_type.__name__} is not an event of kind {self.name!r}")
        declared = self.postings[event_type]
        return [] if declared is None else declared(event)


def registry(*kinds: Kind) -> Mapping[str, Kind]:
    """Return the kinds by name. Raises DuplicateKind or IncompleteKind, which names what is wrong."""
    by_name: dict[str, Kind] = {}
    owners = {f"{what} {tag_of(one)!r}": "kernel" for what, types in _KERNEL.items() for one in types}
    owners |= {f"account {account.name!r}": LEDGER for account in TRANSIT}
    for kind in kinds:
        _check_postings(kind)
        for what, owner in _declared(kind):
            if owners.get(what, owner) != owner or (what in owners and owner != LEDGER):
                raise DuplicateKind(f"{what} is declared twice: by kind {owners[what]!r} and by kind {kind.name!r}")
            owners[what] = owner
        by_name[kind.name] = kind
    return by_name


def kind_name_of(stream: str) -> str:
    """Read the name of its kind out of a stream's. Raises UnknownKind: it is not the name of a stream."""
    name, dash, number = stream.rpartition("-")
    if not dash or not number.isascii() or not number.isdecimal():
        raise UnknownKind(f"{stream!r} does not name a stream: <kind>-<number>")
    return name


def tag_of(message: type[msgspec.Struct]) -> str:
    """Return the tag of a type of command, reply or event."""
    return str(message.__struct_config__.tag)


def union_of(types: Iterable[type[msgspec.Struct]]) -> object:
    """Return the union of some types of messages, for a decoder."""
    return Union[tuple(types)]  # noqa: UP007 - made at run time


@cache
def _content_decoder(accepts: tuple[type[msgspec.Struct], ...]) -> msgspec.msgpack.Decoder[Moving]:
    return msgspec.msgpack.Decoder(union_of(accepts))


LEDGER = "ledger"
"""Owner of what any kind may use, e.g. of the commands and events of holds."""
_KERNEL = {"command": COMMANDS, "reply": REPLIES, "event": EVENTS}


def _check_postings(kind: Kind) -> None:
    """Refuse a kind that does not say of each of its events what it posts."""
    for events, others, wrong in (
        (kind.events, kind.postings, "has no postings: name their function, or None if it moves no money"),
        (kind.postings, kind.events, "has postings and is not one of its events"),
    ):
        for event in events:
            if event not in others:
                raise IncompleteKind(f"event {event.__name__} of kind {kind.name!r} {wrong}")


def _declared(kind: Kind) -> Iterable[tuple[str, str]]:
    """Yield the names that only one owner may have, and their owner; what is the ledger's any kind may use."""
    yield f"kind {kind.name!r}", kind.name
    for what, types in (("command", kind.asked), ("reply", kind.replies), ("event", kind.events)):
        for one in types:
            yield f"{what} {tag_of(one)!r}", LEDGER if one.__module__.startswith("actors.ledger.") else kind.name
    for account in kind.accounts:
        yield f"account {account.name!r}", kind.name
    for column in (*kind.totals, *(account.audit_column for account in kind.accounts)):
        yield f"audit column {column!r}", kind.name
