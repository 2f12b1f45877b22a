"""Quota: the one rule of every bound that people share. Pure: no clock, no randomness, no I/O.

A shared bound is a table, queue or number of places that many users of many tenants fill. One user may hold a part of
it and all users of one tenant a larger part, both well below the whole, so that nobody alone takes what others need.
What is full answers: the whole, the user's part, the tenant's.

Counts are derived: the owner of the table rebuilds them from it, and they are not in a snapshot. A decision and a
count cost a few dict operations, whatever is held.
"""

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Literal, NamedTuple

from actors.kernel.bounds import WHOLE, Percent
from actors.kernel.messages import KernelRefusal, Refused

Part = Literal["user", "tenant", "whole"]
"""Whose part of a bound is full."""

USER_FULL = Refused(KernelRefusal.RATE_LIMITED, "user")
TENANT_FULL = Refused(KernelRefusal.OVERLOADED, "tenant")
FULL = Refused(KernelRefusal.OVERLOADED)
_REFUSED: dict[Part, Refused] = {"user": USER_FULL, "tenant": TENANT_FULL, "whole": FULL}


class Bound(NamedTuple):
    """How many there may be in all, of one user, and of one tenant."""

    whole: int
    user: int
    tenant: int

    @classmethod
    def of(cls, whole: int, percent: Percent = WHOLE) -> "Bound":
        """Divide a bound; a part is at least 1."""
        return cls(whole, max(1, whole * percent.user // 100), max(1, whole * percent.tenant // 100))


class _Tenant:
    __slots__ = ("held", "users")

    def __init__(self) -> None:
        self.held = 0
        self.users: dict[str, int] = {}


class Counts:
    """Who holds how much of one bound."""

    __slots__ = ("_bound", "_tenants", "total")

    def __init__(self, bound: Bound) -> None:
        self._bound = bound
        self._tenants: dict[str, _Tenant] = {}
        self.total = 0

    def full(self, tenant: str, user: str, count: int = 1) -> Part | None:
        """Tell whose part has no room for so many more; None: they fit. `user` empty: it is nobody's in particular."""
        bound = self._bound
        if self.total + count > bound.whole:
            return "whole"
        held = self._tenants.get(tenant)
        if user and (0 if held is None else held.users.get(user, 0)) + count > bound.user:
            return "user"
        return "tenant" if (0 if held is None else held.held) + count > bound.tenant else None

    def refusal(self, tenant: str, user: str, count: int = 1) -> Refused | None:
        """Say no to so many more; None: they fit."""
        full = self.full(tenant, user, count)
        return None if full is None else _REFUSED[full]

    def add(self, tenant: str, user: str, count: int = 1) -> None:
        """Count what came."""
        held = self._tenants.get(tenant)
        if held is None:
            held = self._tenants[tenant] = _Tenant()
        held.held += count
        self.total += count
        if user:
            held.users[user] = held.users.get(user, 0) + count

    def remove(self, tenant: str, user: str, count: int = 1) -> None:
        """Count what went. Only what was added is removed."""
        held = self._tenants[tenant]
        held.held -= count
        self.total -= count
        if user:
            left = held.users[user] - count
            if left:
                held.users[user] = left
            else:
                del held.users[user]
        if not held.held:
            del self._tenants[tenant]


class Lapsing:
    """Who holds how much of a bound whose entries are over some time after their stamp, in order of their making.

    What is over does not count, even while the table still has it: it is forgotten with the next event.
    """

    __slots__ = ("_after_ms", "_order", "counts")

    def __init__(self, bound: Bound, after_ms: int) -> None:
        self.counts = Counts(bound)
        self._after_ms = after_ms
        self._order: deque[tuple[int, str, str]] = deque()

    def add(self, at_ms: int, tenant: str, user: str) -> None:
        """Count one that was made then."""
        self.lapse(at_ms)
        self._order.append((at_ms, tenant, user))
        self.counts.add(tenant, user)

    def refusal(self, now_ms: int, tenant: str, user: str, count: int = 1) -> Refused | None:
        """Say no to so many more now; None: they fit."""
        self.lapse(now_ms)
        return self.counts.refusal(tenant, user, count)

    def lapse(self, now_ms: int) -> None:
        """Count no more what is over by now."""
        order, latest_ms = self._order, now_ms - self._after_ms
        while order and order[0][0] <= latest_ms:
            _, tenant, user = order.popleft()
            self.counts.remove(tenant, user)


class Named:
    """The same of entries that have names, because they may be over earlier, or count for several."""

    __slots__ = ("_entries", "counts")

    def __init__(self, bound: Bound) -> None:
        self.counts = Counts(bound)
        self._entries: OrderedDict[Hashable, tuple[int, str, str, int]] = OrderedDict()

    def add(self, name: Hashable, until_ms: int, tenant: str, user: str, count: int = 1) -> None:
        """Count one until then."""
        self.end(name)
        self._entries[name] = (until_ms, tenant, user, count)
        self.counts.add(tenant, user, count)

    def shorten(self, name: Hashable, until_ms: int) -> None:
        """Let one of them be over then; it keeps its place in the order."""
        entry = self._entries.get(name)
        if entry is not None:
            self._entries[name] = (until_ms, *entry[1:])

    def end(self, name: Hashable) -> None:
        """Count it no more, if it is one of these."""
        entry = self._entries.pop(name, None)
        if entry is not None:
            _, tenant, user, count = entry
            self.counts.remove(tenant, user, count)

    def refusal(self, now_ms: int, tenant: str, user: str, count: int = 1) -> Refused | None:
        """Say no to so many more now; None: they fit."""
        self.lapse(now_ms)
        return self.counts.refusal(tenant, user, count)

    def lapse(self, now_ms: int) -> None:
        """Count no more what is over by now, the oldest first: one that is not holds up those behind it."""
        entries = self._entries
        while entries:
            name = next(iter(entries))
            if now_ms < entries[name][0]:
                return
            self.end(name)
