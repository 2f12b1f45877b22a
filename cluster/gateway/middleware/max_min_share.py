"""Max-min share: what a replica can do, divided among the tenants that ask it (max-min fair).

While not everybody is let in, each tenant's requests are counted by rank, as all together are. A tenant that asks for
no more than its part is let in whole; what it leaves is divided among those that ask for more, each of which is let in
up to a level of its own. So one tenant that asks for much more than its part is shed first, by its own ranks, and alone
on a replica it is let in like everybody.

Pure. Counting is two list operations; dividing costs a walk over the ranks for each tenant that is shed.
"""

from collections.abc import Sequence

OTHERS = ""
"""Tenants beyond `tenants_max`, and requests of no tenant, share one part."""


class MaxMinShare:
    """The parts of one replica."""

    def __init__(self, weights: Sequence[int], tenants_max: int) -> None:
        """`weights`: what a request of each rank costs."""
        self._weights = weights
        self._tenants_max = tenants_max
        self._asked: dict[str, list[int]] = {}
        self._levels: dict[str, int] = {}

    def count(self, tenant: str, rank: int, amount: int) -> int | None:
        """Count what a tenant asks; return the level up to which it is let in, None: as everybody."""
        asked = self._asked.get(tenant)
        if asked is None:
            if len(self._asked) >= self._tenants_max:
                tenant = OTHERS
            asked = self._asked.setdefault(tenant, [0] * len(self._weights))
        asked[rank] += amount
        return self._levels.get(tenant)

    def divide(self, level: int) -> None:
        """Divide what all together are let in up to that level."""
        demands = {tenant: self._cost(asked, len(asked)) for tenant, asked in self._asked.items()}
        room = sum(self._cost(asked, level + 1) for asked in self._asked.values())
        left, levels = len(demands), {}
        for tenant, demand in sorted(demands.items(), key=lambda one: one[1]):
            part = room // left
            if demand > part:
                levels[tenant] = self._level_of(self._asked[tenant], part)
            elif len(demands) > 1:
                levels[tenant] = len(self._weights) - 1
            room -= min(part, demand)
            left -= 1
        self._levels = levels if len(demands) > 1 else {}

    def fade(self) -> None:
        """Let what was asked fade by a quarter; who asks no more is forgotten."""
        faded = {tenant: [count - (count + 3 >> 2) for count in asked] for tenant, asked in self._asked.items()}
        self._asked = {tenant: asked for tenant, asked in faded.items() if any(asked)}

    def clear(self) -> None:
        """Forget all: everybody is let in."""
        self._asked, self._levels = {}, {}

    def _cost(self, asked: Sequence[int], end: int) -> int:
        return sum([count * weight for count, weight in zip(asked[:end], self._weights, strict=False) if count])

    def _level_of(self, asked: Sequence[int], part: int) -> int:
        for rank, count in enumerate(asked):
            part -= count * self._weights[rank]
            if part < 0:
                return rank - 1
        return len(asked) - 1
