"""Proof: what a kind checks of its records that have ended, offline, from the events of a stream alone. Pure."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import msgspec

from actors.kernel.ports import Event

UNPROVEN_SHOWN = 20


class Unproven(msgspec.Struct, frozen=True):
    """A record that is not what was promised, and what was found first."""

    stream: str
    record: str
    found: str


class Proved(NamedTuple):
    """What was found in one stream."""

    counts: dict[str, int]
    """What was checked, and how much of it: the kind's own words."""
    unproven: list[Unproven]
    """The first UNPROVEN_SHOWN of them."""
    unproven_count: int


class Prover(Protocol):
    """Takes the events of one stream in, oldest first."""

    def take(self, event: Event) -> Sequence[str]:
        """Take the next event in; return the records that left memory by it, which are to be shown."""
        ...

    def show(self, record_id: str, record: bytes | None) -> None:
        """Hold a record that left memory against its journal; None: nobody has it any more."""
        ...

    def result(self) -> Proved:
        """Return what was found."""
        ...
