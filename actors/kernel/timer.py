"""Timer: whose time may be over, by the second. Pure; derived from a state, never journaled.

Names whose time ends within one second share a slot, so that a name costs eight bytes here. A slot is due at its end:
the timer is up to a second late, and never early.
"""

from collections.abc import Iterable
from heapq import heapify, heappop, heappush

SLOT_MS = 1_000


class Timer:
    """Names by the second in which their time ends."""

    def __init__(self, entries: Iterable[tuple[int, str]] = ()) -> None:
        """Take (expires_at_ms, name) of everything that is open."""
        self._slots: dict[int, list[str]] = {}
        for expires_at_ms, name in entries:
            self._slots.setdefault(_slot(expires_at_ms), []).append(name)
        self._order = list(self._slots)
        heapify(self._order)
        self.entries = sum(map(len, self._slots.values()))
        """Names that were put in and not taken out, also of what has ended meanwhile."""

    def put(self, expires_at_ms: int, name: str) -> None:
        """Remember one more."""
        slot = _slot(expires_at_ms)
        names = self._slots.get(slot)
        if names is None:
            names = self._slots[slot] = []
            heappush(self._order, slot)
        names.append(name)
        self.entries += 1

    def due(self, now_ms: int, limit: int) -> list[str]:
        """Take at most `limit` names out whose time is over."""
        taken: list[str] = []
        while self._order and self._order[0] * SLOT_MS <= now_ms and len(taken) < limit:
            names = self._slots[self._order[0]]
            part = names[: limit - len(taken)]
            del names[: len(part)]
            taken += part
            if not names:
                del self._slots[heappop(self._order)]
        self.entries -= len(taken)
        return taken


def _slot(expires_at_ms: int) -> int:
    return -(-expires_at_ms // SLOT_MS)
