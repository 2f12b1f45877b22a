"""Floor: what the visitors of one locust process share: the desk, its counters, and the book of answers.

One greenlet watches the clock and lays due arrivals on the counters: one for ordinary requests, one for slow ones, one
for streams. The taker of an arrival ends it: the answer is written down, and its client may ask again.

Instants in milliseconds from the beginning of the load, durations in microseconds.
"""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import msgspec
from gevent.event import Event
from gevent.queue import Empty, SimpleQueue

from loadtest.scenarios.answers import SHED, Answer, repeat_after_ms
from loadtest.scenarios.desk import Desk
from loadtest.scenarios.orders import Orders, TimedAnswer, answers_path, user_name
from loadtest.scenarios.schedule import BATCH, GRAB, SEND, SLOW, STREAM, VIEW, WALLET, Arrival, arrivals

LEAD_S = 1.0
"""From the start of the test to the first instant: all visitors are there by then."""

TAKE_S = 1.0
FLUSH_S = 0.5
LOST_MS = 1_000
NAMES = {
    SEND: "POST /v1/packets",
    GRAB: "POST /v1/packets/{id}/grabs",
    BATCH: "POST /v1/grabs/batch",
    STREAM: "POST /v1/grabs/stream, a line",
    SLOW: "POST /v1/packets/{id}/grabs, slow",
    VIEW: "GET /v1/packets/{id}",
    WALLET: "GET /v1/wallet",
}


class Floor:
    """What the visitors of one process share: the desk, the counters, and the book of answers."""

    def __init__(self, orders: Orders, part: int) -> None:
        """Read the schedule's part that is this process's."""
        self.orders = orders
        self.desk = Desk(arrivals(orders.profile, part, orders.parts))
        self._laid_us: dict[int, int] = {}
        self._counters: dict[str, Any] = {counter: SimpleQueue() for counter in ("", SLOW, STREAM)}
        self._roles = _roles(orders)
        self._changed = Event()
        self._book = answers_path(Path(orders.folder), part).open("wb")
        self._begin_us = 0

    def role(self) -> str:
        """Return at which counter the next visitor stands: as many as this process needs first, the rest at ""."""
        return next(self._roles)

    def start(self) -> None:
        """Begin the load a moment from now."""
        self._begin_us = time.perf_counter_ns() // 1_000 + int(LEAD_S * 1_000_000)
        gevent.spawn(self._serve)
        gevent.spawn(self._flush)

    def now_us(self) -> int:
        """Return the time since the beginning of the load."""
        return time.perf_counter_ns() // 1_000 - self._begin_us

    def take(self, counter: str = "", seconds: float = TAKE_S) -> Arrival | None:
        """Wait for a due arrival; None: there is none for now."""
        try:
            arrival: Arrival = self._counters[counter].get(timeout=seconds) if seconds else self._now(counter)
            return arrival
        except Empty:
            return None

    def _now(self, counter: str) -> Arrival:
        arrival: Arrival = self._counters[counter].get_nowait()
        return arrival

    def end(self, arrival: Arrival, began_us: int, status: int, answer: Answer, *, repeats: bool = True) -> float:
        """Write an answer down and let its client act on it; return the latency in ms since the arrival's instant."""
        now_us = self.now_us()
        profile = self.orders.profile
        packet_id = self.desk.packet_ids.get(arrival.packet, "")
        if arrival.route == SEND and answer.seen is not None:
            packet_id = answer.seen.packet_id
        told = TimedAnswer(
            number=arrival.number,
            route=arrival.route,
            packet=arrival.packet,
            attempt=arrival.attempt,
            due_ms=arrival.due_ms,
            late_us=began_us - 1_000 * arrival.due_ms,
            waited_us=began_us - self._laid_us.pop(arrival.number, began_us),
            took_us=now_us - began_us,
            status=status,
            code=answer.code,
            unknown=answer.unknown,
            items=list(answer.items),
            seen=answer.seen,
            packet_id=packet_id,
        )
        self._book.write(msgspec.json.encode(told) + b"\n")
        after_ms = repeat_after_ms(profile.clients, profile.seed, arrival, answer) if repeats else None
        if after_ms is not None:
            self.desk.again(arrival._replace(people=answer.again), now_us // 1_000 + after_ms)
        elif arrival.route == SEND and answer.seen is None:
            self.desk.given_up(arrival.packet)
        if arrival.route == SEND and answer.seen is not None:
            self.desk.opened(arrival.packet, answer.seen.packet_id)
        self._changed.set()
        return (now_us - 1_000 * arrival.due_ms) / 1_000

    def close(self) -> None:
        """Have every answer on disk."""
        self._book.flush()

    def _serve(self) -> None:
        """Lay every arrival on its counter when it falls due."""
        while True:
            self._changed.clear()
            now_ms = self.now_us() / 1_000
            for arrival in self.desk.due(now_ms):
                self._laid_us[arrival.number] = self.now_us()
                self._counters[arrival.route if arrival.route in (SLOW, STREAM) else ""].put(arrival)
            next_ms = self.desk.next_due_ms()
            pause_ms = LOST_MS if next_ms is None else max(next_ms - now_ms, 0)
            self._changed.wait(pause_ms / 1_000)

    def _flush(self) -> None:
        while True:
            gevent.sleep(FLUSH_S)
            self._book.flush()


def ask_of(floor: Floor, arrival: Arrival) -> tuple[str, str, bytes | None, dict[str, str]]:
    """Return method, path, body and headers of an arrival's request."""
    orders = floor.orders
    packet_id = floor.desk.packet_ids.get(arrival.packet, "")
    token = orders.gateway_token if arrival.route == BATCH else orders.user_tokens[arrival.people[0]]
    headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": "identity", "Content-Type": "application/json"}
    if arrival.route == SEND:
        assert arrival.parcel is not None, "a send has something to send"
        headers["Idempotency-Key"] = orders.key_of(arrival.packet)
        kind, total_fen, shares = arrival.parcel
        body = msgspec.json.encode({"kind": kind, "total_fen": total_fen, "count": shares})
        return "POST", "/v1/packets", body, headers
    if arrival.route == BATCH:
        grabs = [{"packet_id": packet_id, "user": user_name(orders.run, person)} for person in arrival.people]
        return "POST", "/v1/grabs/batch", msgspec.json.encode({"grabs": grabs}), headers
    if arrival.route == VIEW:
        return "GET", f"/v1/packets/{packet_id}", None, headers
    if arrival.route == WALLET:
        return "GET", "/v1/wallet", None, headers
    return "POST", f"/v1/packets/{packet_id}/grabs", b"{}", headers


def line_of(arrival: Arrival, code: str) -> str:
    """Name the line of locust's statistics that a request belongs to."""
    name = NAMES[arrival.route] + (", again" if arrival.attempt else "")
    return f"{name} -> 429" if code in SHED else name


def failure_of(status: int, code: str) -> str | None:
    """Return in words what locust counts as a failure; business refusals and 429 are none."""
    return f"{status} {code}" if code and (status == 0 or status >= 500 or status < 300) else None


def _roles(orders: Orders) -> Iterator[str]:
    """Locust divides visitors among processes as it likes; every process must have some of each kind."""
    clients = orders.profile.clients
    streams = clients.streams if clients.door == STREAM else 0
    yield from itertools.repeat(STREAM, -(-streams // orders.parts))
    yield from itertools.repeat(SLOW, -(-clients.slow_connections // orders.parts))
    yield from itertools.repeat("")
