"""Rules and services: what every machine and host of a kind gets, beside its stream's name. Pure."""

from collections.abc import Mapping

import msgspec

from actors.kernel.bounds import WHOLE, Internal, Percent, Period, Section, Shared
from actors.kernel.ports import KeyRing

StreamCounts = Mapping[str, Mapping[str, int]]
"""kind -> pool -> number of streams, e.g. `{"bank": {"": 4}}`. Later pools are numbered behind the first."""


class Fair(Section, frozen=True, kw_only=True):
    """The parts of what is shared in one kind's streams. A kind's own parts extend this."""

    commit_events_max: Percent = WHOLE


class Rules(Section, frozen=True, kw_only=True):
    """The bounds of one kind's streams: its section of configs/. A kind's own rules extend this."""

    commit_events_max: Shared
    """Events on one open commit; beyond, what brings new money is refused."""
    expire_batch_max: Internal
    """Steps that the clock alone brings about, at one look at it."""
    settle_batch_max: Internal
    """Transfers in one delivery to one destination."""
    tick_ms: Period
    """Time between two looks at the clock."""
    fair: Fair = Fair()


class Services(msgspec.Struct, frozen=True):
    """What a machine or a handler gets beside its rules: the same for every kind of one system."""

    keys: KeyRing
    layout: StreamCounts

    @property
    def first_key(self) -> bytes:
        """The key that ids are derived from, for ever."""
        return self.keys.key(self.keys.first)

    def streams(self, kind: str) -> int:
        """Return how many streams a kind has, in all pools."""
        return sum(self.layout[kind].values())
