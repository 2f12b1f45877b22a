"""Desk: hands out arrivals at their instant, and keeps those back whose packet is not open yet. No clock, no I/O.

- An arrival falls due when the schedule says so, whatever became of earlier ones (open loop).
- A user who comes for a packet that is not open waits for it; their instant stays what it was, so that the wait counts.
  If it never opens they never come, and the pacing check counts them as missing.
- A repeat falls due when its client decides; it keeps the arrival's number and people, so it is the same request.

Bounded by the schedule's `requests_max`.
"""

import heapq
from collections.abc import Iterator

from loadtest.scenarios.schedule import SEND, Arrival


class Desk:
    """The arrivals of one process."""

    def __init__(self, arrivals: Iterator[Arrival]) -> None:
        """`arrivals` come in order of time."""
        self._arrivals = arrivals
        self._next = next(arrivals, None)
        self._ready: list[Arrival] = []
        self._waiting: dict[int, list[Arrival]] = {}
        self._given_up: set[int] = set()
        self.packet_ids: dict[int, str] = {}
        """Of the packets that are open, by plan number."""

    def next_due_ms(self) -> int | None:
        """Return when the next arrival falls due; None: none is left but those that wait for a packet."""
        instants = [self._ready[0].due_ms] if self._ready else []
        if self._next is not None:
            instants.append(self._next.due_ms)
        return min(instants, default=None)

    def due(self, now_ms: float) -> Iterator[Arrival]:
        """Yield what is to be asked now."""
        while self._next is not None and self._next.due_ms <= now_ms:
            heapq.heappush(self._ready, self._next)
            self._next = next(self._arrivals, None)
        while self._ready and self._ready[0].due_ms <= now_ms:
            arrival = heapq.heappop(self._ready)
            if arrival.route == SEND or arrival.packet in self.packet_ids:
                yield arrival
            elif arrival.packet not in self._given_up:
                self._waiting.setdefault(arrival.packet, []).append(arrival)

    def opened(self, packet: int, packet_id: str) -> None:
        """A packet is open: those who wait for it come at once."""
        self.packet_ids[packet] = packet_id
        for arrival in self._waiting.pop(packet, ()):
            heapq.heappush(self._ready, arrival)

    def given_up(self, packet: int) -> None:
        """A packet will not open: nobody comes for it."""
        self._given_up.add(packet)
        self._waiting.pop(packet, None)

    def again(self, arrival: Arrival, due_ms: int) -> None:
        """Let a client repeat what it asked."""
        heapq.heappush(self._ready, arrival._replace(due_ms=due_ms, attempt=arrival.attempt + 1))
