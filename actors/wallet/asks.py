"""Asks: how many users somebody asks for a lishi (要利是), counted in their own stream before anybody is asked. Pure.

Within `period_ms` one asker asks at most `asks_max` times; a repeat under the same key counts once, an attempt that the
other's stream refuses counts too. A key belongs to the person who was asked first with it.
Instants and periods are Unix milliseconds.
"""

from typing import NamedTuple

import msgspec

from actors.kernel.bounds import Own, Period, Section, Shared
from actors.kernel.messages import Refused
from actors.wallet.commands import CountLishi
from actors.wallet.events import LishiCounted
from actors.wallet.lishi import KEY_REUSED, OVERLOADED, RATE_LIMITED


class AskRules(Section, frozen=True):
    """How many of one asker in one period, and how many asks one stream counts (configs/)."""

    asks_max: Own
    period_ms: Period
    total_max: Shared


class Ask(NamedTuple):
    """Whom somebody asked, and when."""

    asked: str
    at_ms: int


class AskBook(msgspec.Struct):
    """The asks of one stream's people: a part of its state."""

    all: dict[tuple[str, str, str], Ask] = {}
    """(tenant, asker, key) -> ask, in order."""
    of_asker: dict[tuple[str, str], list[str]] = {}
    """(tenant, asker) -> their keys, in order."""

    def decide(self, count: CountLishi, rules: AskRules, now_ms: int) -> LishiCounted | Ask | Refused:
        """Count an ask, find it counted, or refuse. Reads only."""
        prior = self.all.get((count.tenant, count.user, count.key))
        if prior is not None and now_ms < prior.at_ms + rules.period_ms:
            return prior if prior.asked == count.asked else KEY_REUSED
        keys = self.of_asker.get((count.tenant, count.user), ())
        mine = (self.all[count.tenant, count.user, key] for key in keys)
        if sum(now_ms < ask.at_ms + rules.period_ms for ask in mine) >= rules.asks_max:
            return RATE_LIMITED
        if len(self.all) >= rules.total_max and now_ms < self._oldest.at_ms + rules.period_ms:
            return OVERLOADED
        # From here it must succeed.
        return LishiCounted(count.tenant, count.user, count.asked, count.key, now_ms)

    def apply(self, event: LishiCounted, rules: AskRules) -> None:
        """Take an event in, and forget what is past its time by its stamp, so that a replay forgets the same."""
        while self.all and event.at_ms >= self._oldest.at_ms + rules.period_ms:
            self._forget(next(iter(self.all)))
        name = event.tenant, event.asker, event.key
        if name in self.all:  # another configuration may have remembered for a shorter time
            self._forget(name)
        self.all[name] = Ask(event.asked, event.at_ms)
        self.of_asker.setdefault((event.tenant, event.asker), []).append(event.key)

    @property
    def _oldest(self) -> Ask:
        return next(iter(self.all.values()))

    def _forget(self, name: tuple[str, str, str]) -> None:
        del self.all[name]
        asker = name[:2]
        self.of_asker[asker].remove(name[2])
        if not self.of_asker[asker]:
            del self.of_asker[asker]
