"""Remembered: a table of one stream whose entries have owners and are forgotten by stamps. Pure; part of a state.

Entries stand in the order in which they were made. What is past its time is forgotten when an event is applied, by its
stamp, so that a replay forgets the same entries: the oldest first, and an entry that is not past holds up those behind.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

import msgspec

O = TypeVar("O")  # noqa: E741 - owner
K = TypeVar("K")
V = TypeVar("V")


class Remembered(msgspec.Struct, Generic[O, K, V]):
    """Entries by key, and the keys of each owner."""

    all: dict[K, V] = {}
    """key -> entry, in order."""
    keys: dict[O, list[K]] = {}
    """owner -> their keys, in order; nobody without any."""

    def of(self, owner: O) -> list[V]:
        """Return the entries of one owner, in order."""
        return [self.all[key] for key in self.keys.get(owner, ())]

    def has_room(self, total_max: int, is_past: Callable[[V], bool]) -> bool:
        """Tell whether one more fits, once what is past is forgotten."""
        return len(self.all) < total_max or is_past(next(iter(self.all.values())))

    # Apply: writes only.

    def add(self, owner: O, key: K, entry: V) -> None:
        """Take a new entry in."""
        assert key not in self.all, "an entry is made once"
        self.all[key] = entry
        self.keys.setdefault(owner, []).append(key)

    def remove(self, owner: O, key: K) -> None:
        """Forget an entry."""
        del self.all[key]
        keys = self.keys[owner]
        keys.remove(key)
        if not keys:
            del self.keys[owner]

    def forget(self, is_past: Callable[[V], bool], owner_of: Callable[[K, V], O]) -> list[V]:
        """Forget what is past, the oldest first; return it."""
        forgotten = []
        while self.all:
            key, entry = next(iter(self.all.items()))
            if not is_past(entry):
                break
            self.remove(owner_of(key, entry), key)
            forgotten.append(entry)
        return forgotten
