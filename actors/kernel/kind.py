"""Kind: all that the platform must know of one kind of actor.

`actors.kinds` names the kinds; everything else asks it. What a kind does not declare does not exist: nowhere else is
there a branch by the name of a kind, and nowhere a default for a kind that is not known.
"""

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from types import GenericAlias
from typing import Any, Union

import msgspec

from actors.kernel.errors import OperatingFailure
from actors.kernel.host import Host
from actors.kernel.rules import Rules
from actors.kernel.shell import Machine
from actors.kernel.switches import Levers, LeverSet, ReadLevers, SetLever
from actors.ledger.transfer import (
    Acknowledge,
    AdoptSnapshot,
    Done,
    Receive,
    Refused,
    Settled,
    SnapshotTaken,
    Watermark,
)

COMMANDS: tuple[type[msgspec.Struct], ...] = (Receive, Acknowledge, AdoptSnapshot, SetLever, ReadLevers)
"""What every stream is asked."""
REPLIES: tuple[type[msgspec.Struct], ...] = (Refused, Done, Watermark, Levers)
"""What any stream answers."""
EVENTS: tuple[type[msgspec.Struct], ...] = (Settled, SnapshotTaken, LeverSet)
"""What happens in any stream. An event type that was once written is never taken out."""

AccountName = tuple[str, ...]
"""One account: the name of its kind of account, then whose it is, e.g. `("change", tenant, user)`."""

Postings = list[tuple[AccountName, int]]
"""The signed lines of one event in fen; they sum to 0. Positive is what the platform owes."""


class UnknownKind(OperatingFailure):
    """A catalogue, a configuration or the name of a stream names a kind that the platform does not have."""


class DuplicateKind(OperatingFailure):
    """Two kinds declare the same name, event, command or account."""


class Side(StrEnum):
    """Which sign the balance of an account may have."""

    LIABILITY = "liability"
    """The platform owes it: never negative."""
    ASSET = "asset"
    """Owed to the platform, or where money comes from: never positive."""
    TRANSIT = "transit"
    """One end of the way between two books: any sign."""


class AccountKind(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a kind's chart of accounts."""

    name: str
    side: Side
    owner: tuple[str, ...] = ()
    """What the rest of an account's name is, e.g. `("tenant", "user")`; empty: there is one such account."""
    on_statement: bool = False
    """Whether its owner reads its postings on a statement."""


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """The declaration of a kind of actor. Every member is used by the kernel or by `cluster`, none by another kind."""

    name: str
    """Prefix of its streams ("bank-003") and hosts ("bank-shard-0"), its section of configs/, its metric label."""
    rules: type[Rules]
    """Its section of configs/."""
    machine: Callable[..., Machine]
    """(stream, rules, services) -> the empty machine of a stream."""
    host: type[Host[Any]]
    commands: tuple[type[msgspec.Struct], ...]
    """What its streams are asked, beyond what the kernel asks every stream."""
    replies: tuple[type[msgspec.Struct], ...]
    events: tuple[type[msgspec.Struct], ...]
    """What happens in its streams. An event type that was once written is never taken out."""
    accounts: tuple[AccountKind, ...] = ()
    postings: Mapping[type, Callable[[Any], Postings]] = {}
    """event type -> its postings; an event type that is not named moves no money."""
    statement: Mapping[str, str] = {}
    """What moves an account on a statement -> the word for it there."""
    pools: tuple[str, ...] = ("",)
    """Groups of its streams that have hosts of their own, in the order of their numbers: ("", "hot")."""

    def command_decoder(self) -> msgspec.msgpack.Decoder[list[tuple[str, list[Any]]]]:
        """Return the decoder of what a host of this kind is called with: `[(stream, [command, ...]), ...]`."""
        commands = GenericAlias(list, (union_of((*COMMANDS, *self.commands)),))
        return msgspec.msgpack.Decoder(GenericAlias(list, (GenericAlias(tuple, (str, commands)),)))


def registry(*kinds: Kind) -> Mapping[str, Kind]:
    """Return the kinds by name. Raises DuplicateKind, which names what two of them declare."""
    by_name: dict[str, Kind] = {}
    owners = {f"{what} {tag_of(one)!r}": "kernel" for what, types in _KERNEL.items() for one in types}
    for kind in kinds:
        for what in _declared(kind):
            if what in owners:
                raise DuplicateKind(f"{what} is declared twice: by kind {owners[what]!r} and by kind {kind.name!r}")
            owners[what] = kind.name
        by_name[kind.name] = kind
    return by_name


def tag_of(message: type[msgspec.Struct]) -> str:
    """Return the tag of a type of command, reply or event."""
    return str(message.__struct_config__.tag)


def union_of(types: Iterable[type[msgspec.Struct]]) -> object:
    """Return the union of some types of messages, for a decoder."""
    return Union[tuple(types)]  # noqa: UP007 - made at run time


_KERNEL = {"command": COMMANDS, "reply": REPLIES, "event": EVENTS}


def _declared(kind: Kind) -> Iterable[str]:
    """Yield the names that only one kind may have."""
    yield f"kind {kind.name!r}"
    for what, types in (("command", kind.commands), ("reply", kind.replies), ("event", kind.events)):
        for one in types:
            yield f"{what} {tag_of(one)!r}"
    for account in kind.accounts:
        yield f"account {account.name!r}"
