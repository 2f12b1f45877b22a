"""Fair queue: what waits for one host, a lane for every packet, so that a crowd before one packet holds up nobody else.

Laws: lanes take turns of about `turn_size` items, so that a lone item leaves with the next call however many wait in
another lane; within a lane first in, first out; a lane is bounded, and all of them together; what does not fit into a
call begins the next one.

Pure: no clock, no I/O. Costs about a microsecond a parcel, whatever it carries.
"""

from collections import deque
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar

UNFIT_MAX = 8
"""Lanes whose next parcel is too large for what is left of a call, before the call leaves as it is."""


class Waiting(Protocol):
    """What can wait in a lane."""

    @property
    def lane(self) -> Hashable: ...

    @property
    def size(self) -> int: ...


P = TypeVar("P", bound=Waiting)


class _Lane(Generic[P]):
    __slots__ = ("parcels", "size", "visit")

    def __init__(self) -> None:
        self.parcels: deque[P] = deque()
        self.size = 0
        self.visit = 0


class FairQueue(Generic[P]):
    """The queue. `size` counts all items in it."""

    def __init__(self, *, size_max: int, lane_size_max: int, turn_size: int) -> None:
        self.size = 0
        self._size_max = size_max
        self._lane_size_max = lane_size_max
        self._turn_size = turn_size
        self._lanes: dict[Hashable, _Lane[P]] = {}
        self._turns: deque[_Lane[P]] = deque()
        self._visit = 0

    def has_room(self, size: int) -> bool:
        """Tell whether so many items more may wait at all."""
        return self.size + size <= self._size_max

    def lane_has_room(self, lane: Hashable, size: int) -> bool:
        """Tell whether so many items more may wait in that lane; the first parcel may always, so that it ever can."""
        found = self._lanes.get(lane)
        return found is None or found.size + size <= self._lane_size_max

    def put(self, parcel: P) -> None:
        """Queue a parcel behind those of its lane. Its bounds are the caller's to ask for: a repeat was let in."""
        lane = self._lanes.get(parcel.lane)
        if lane is None:
            lane = self._lanes[parcel.lane] = _Lane()
            self._turns.append(lane)
        lane.parcels.append(parcel)
        lane.size += parcel.size
        self.size += parcel.size

    def take(self, size_max: int) -> tuple[list[P], list[P]]:
        """Take what leaves with one call: at most `size_max` items, but at least a parcel.

        Second: of each lane, the parcel that was first.
        """
        taken: list[P] = []
        firsts: list[P] = []
        unfit: list[_Lane[P]] = []
        turns = self._turns
        self._visit += 1
        room = size_max
        while turns and room > 0 and len(unfit) < UNFIT_MAX:
            lane = turns.popleft()
            parcels = lane.parcels
            turn = self._turn_size
            while parcels and turn > 0 and (parcels[0].size <= room or not taken):
                parcel = parcels.popleft()
                lane.size -= parcel.size
                room -= parcel.size
                turn -= parcel.size
                taken.append(parcel)
                if lane.visit != self._visit:
                    lane.visit = self._visit
                    firsts.append(parcel)
            if not parcels:
                del self._lanes[taken[-1].lane]
            elif turn > 0:  # it stopped for want of room, not because its turn was over
                unfit.append(lane)
            else:
                turns.append(lane)
        turns.extendleft(reversed(unfit))
        self.size -= size_max - room
        return taken, firsts
