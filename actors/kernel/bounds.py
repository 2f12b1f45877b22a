"""Bounds: sections of configs/ as structs, whose every number says who can fill it.

A number is declared with an alias (`Shared`, `OfRequest`, ...) that names its `Owner`. A shared bound has its parts in
the field `fair` of its section, under its own name or that of its group: what one user may hold, and all of one tenant.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import Meta


class Owner(StrEnum):
    """Who can fill a bound."""

    SHARED = "many users of many tenants: each has a part, in `fair`"
    REQUEST = "one request, or one line of one: it is that one's size or value"
    TAKERS = "the takers of what one user pays for, who are that user's tenant's own"
    OWN = "one user, one pair of users, or one connection: it is theirs alone"
    OPERATOR = "operators, beside whom nobody else is let in"
    INTERNAL = "the platform itself: the size of a batch, a step or a piece, beyond which work waits for its next turn"
    PERIOD = "nobody: a time, a rate, a threshold or a number of processes"
    NETWORK = "anybody who reaches the port: nobody is known before a head is read, and deadlines empty it"
    OUTER = "nobody before another bound is met, above which it is kept"


def _owned(owner: Owner) -> Meta:
    return Meta(ge=1, extra={"owner": owner})


Shared = Annotated[int, _owned(Owner.SHARED)]
OfRequest = Annotated[int, _owned(Owner.REQUEST)]
OfTakers = Annotated[int, _owned(Owner.TAKERS)]
Own = Annotated[int, _owned(Owner.OWN)]
OfOperator = Annotated[int, _owned(Owner.OPERATOR)]
Internal = Annotated[int, _owned(Owner.INTERNAL)]
Period = Annotated[int, _owned(Owner.PERIOD)]
Network = Annotated[int, _owned(Owner.NETWORK)]
Outer = Annotated[int, _owned(Owner.OUTER)]
PeriodOr0 = Annotated[int, Meta(ge=0, extra={"owner": Owner.PERIOD})]
OwnOr0 = Annotated[int, Meta(ge=0, extra={"owner": Owner.OWN})]
PartOfCpu = Annotated[float, Meta(ge=0, extra={"owner": Owner.PERIOD})]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of configs/."""


class Percent(Section, frozen=True):
    """How much of a bound one user may hold, and one tenant."""

    user: Annotated[int, Meta(ge=1, le=100)] = 100
    tenant: Annotated[int, Meta(ge=1, le=100)] = 100


WHOLE = Percent()
"""Of a bound that is one user's anyway."""


class Bounded(msgspec.Struct, frozen=True):
    """One number of a section: its path there, and its owner, None if it is declared without one."""

    path: str
    owner: Owner | None


def bounds_of(section: type[msgspec.Struct], above: str = "") -> Iterator[Bounded]:
    """Yield every number of a section, those of its groups too, but for the parts of shared ones (`fair`)."""
    for field in msgspec.structs.fields(section):
        found: Any = msgspec.inspect.type_info(field.type)
        extra: dict[str, Owner] = {}
        while isinstance(found, msgspec.inspect.Metadata):
            extra, found = extra | (found.extra or {}), found.type
        if not isinstance(found, msgspec.inspect.StructType):
            yield Bounded(above + field.name, extra.get("owner"))
        elif field.name != "fair":
            yield from bounds_of(found.cls, f"{above}{field.name}.")
