"""Fair cache: a cache that many tenants share; none of them can push out what others have in it.

Bounded in all and for each tenant. Beyond its part a tenant loses its own least recently used entry; beyond the whole
the least recently used of all goes. Costs two moves in ordered tables a use.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from actors.kernel.quota import Bound

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class FairCache(Generic[K, V]):
    """Entries of tenants, by key. What an entry takes is given with it; one that is larger than a part is not kept."""

    def __init__(self, *bounds: Bound) -> None:
        """Bounds of as many sizes as `put` is given: their `user` parts are not looked at."""
        self._bounds = bounds
        self._used: OrderedDict[K, str] = OrderedDict()
        """Of all tenants, the least recently used first."""
        self._of: dict[str, OrderedDict[K, tuple[V, tuple[int, ...]]]] = {}
        self._sizes = [0] * len(bounds)
        self._sizes_of: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self._used)

    def __contains__(self, key: K) -> bool:
        return key in self._used

    @property
    def sizes(self) -> tuple[int, ...]:
        """What all entries take."""
        return tuple(self._sizes)

    def get(self, key: K) -> V | None:
        """Return what is kept, which is used by it."""
        tenant = self._used.get(key)
        if tenant is None:
            return None
        self._used.move_to_end(key)
        entries = self._of[tenant]
        entries.move_to_end(key)
        return entries[key][0]

    def put(self, key: K, value: V, tenant: str, *sizes: int) -> None:
        """Keep it as that tenant's, in the place of what it replaces."""
        self.drop(key)
        if any(size > bound.tenant for size, bound in zip(sizes, self._bounds, strict=True)):
            return
        own = self._sizes_of.setdefault(tenant, [0] * len(sizes))
        entries = self._of.setdefault(tenant, OrderedDict())
        self._used[key] = tenant
        entries[key] = (value, sizes)
        for place, size in enumerate(sizes):
            own[place] += size
            self._sizes[place] += size
        while any(held > bound.tenant for held, bound in zip(own, self._bounds, strict=True)):
            self.drop(next(iter(entries)))
        while any(held > bound.whole for held, bound in zip(self._sizes, self._bounds, strict=True)):
            self.drop(next(iter(self._used)))

    def drop(self, key: K) -> None:
        """Keep it no more, if it is kept."""
        tenant = self._used.pop(key, None)
        if tenant is None:
            return
        entries, own = self._of[tenant], self._sizes_of[tenant]
        _, sizes = entries.pop(key)
        for place, size in enumerate(sizes):
            own[place] -= size
            self._sizes[place] -= size
        if not entries:
            del self._of[tenant], self._sizes_of[tenant]
