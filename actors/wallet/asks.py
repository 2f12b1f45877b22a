"""Asks: how many users somebody asks for a lishi (要利是), counted in their own stream before anybody is asked. Pure.

Within `period_ms` one asker asks at most `asks_max` times; a repeat under the same key counts once, an attempt that the
other's stream refuses counts too. A key belongs to the person who was asked first with it.
Instants and periods are Unix milliseconds.
"""

from collections.abc import Callable
from typing import NamedTuple

from actors.kernel.bounds import Own, Period, Section, Shared
from actors.kernel.messages import Refused
from actors.kernel.remembered import Remembered
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


class AskBook(Remembered[tuple[str, str], tuple[str, str, str], Ask]):
    """The asks of one stream's people, by (tenant, asker, key): a part of its state."""

    def decide(self, count: CountLishi, rules: AskRules, now_ms: int) -> LishiCounted | Ask | Refused:
        """Count an ask, find it counted, or refuse. Reads only."""
        prior, is_past = self.all.get((count.tenant, count.user, count.key)), _is_past(rules, now_ms)
        if prior is not None and not is_past(prior):
            return prior if prior.asked == count.asked else KEY_REUSED
        if sum(not is_past(ask) for ask in self.of((count.tenant, count.user))) >= rules.asks_max:
            return RATE_LIMITED
        if not self.has_room(rules.total_max, is_past):
            return OVERLOADED
        # From here it must succeed.
        return LishiCounted(count.tenant, count.user, count.asked, count.key, now_ms)

    def apply(self, event: LishiCounted, rules: AskRules) -> None:
        """Take an event in, and forget what is past its time."""
        self.forget(_is_past(rules, event.at_ms), _asker_of)
        name, asker = (event.tenant, event.asker, event.key), (event.tenant, event.asker)
        if name in self.all:  # another configuration may have remembered for a shorter time
            self.remove(asker, name)
        self.add(asker, name, Ask(event.asked, event.at_ms))


def _is_past(rules: AskRules, now_ms: int) -> Callable[[Ask], bool]:
    return lambda ask: now_ms >= ask.at_ms + rules.period_ms


def _asker_of(name: tuple[str, str, str], ask: Ask) -> tuple[str, str]:
    return name[:2]
