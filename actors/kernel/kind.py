"""Kind: all that the platform must know of one kind of actor.

`actors.kinds` names the kinds; everything else asks it. What a kind does not declare does not exist: nowhere else is
there a branch by the name of a kind, and nowhere a default for a kind that is not known.
"""

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from actors.kernel.errors import OperatingFailure

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
    commands: tuple[type, ...]
    """What its streams are asked, beyond what the kernel asks every stream."""
    replies: tuple[type, ...]
    events: tuple[type, ...]
    """What happens in its streams. An event type that was once written is never taken out."""
    accounts: tuple[AccountKind, ...] = ()
    postings: Mapping[type, Callable[[Any], Postings]] = {}
    """event type -> its postings; an event type that is not named moves no money."""
    statement: Mapping[str, str] = {}
    """What moves an account on a statement -> the word for it there."""
    pools: tuple[str, ...] = ("",)
    """Groups of its streams that have hosts of their own, in the order of their numbers: ("", "hot")."""


def registry(*kinds: Kind) -> Mapping[str, Kind]:
    """Return the kinds by name. Raises DuplicateKind, which names what two of them declare."""
    by_name: dict[str, Kind] = {}
    owners: dict[str, str] = {}
    for kind in kinds:
        for what in _declared(kind):
            if what in owners:
                raise DuplicateKind(f"{what} is declared twice: by kind {owners[what]!r} and by kind {kind.name!r}")
            owners[what] = kind.name
        by_name[kind.name] = kind
    return by_name


def _declared(kind: Kind) -> Iterable[str]:
    """Yield the names that only one kind may have."""
    yield f"kind {kind.name!r}"
    for what, types in (("command", kind.commands), ("event", kind.events)):
        for one in types:
            yield f"{what} {one.__struct_config__.tag!r}"  # type: ignore[attr-defined]
    for account in kind.accounts:
        yield f"account {account.name!r}"
