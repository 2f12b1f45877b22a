"""Visitors: the locust file. They ask what the desk hands out, at its instant, over HTTP; locust keeps the statistics.

- Open loop: one greenlet watches the clock and lays due arrivals on a counter; a visitor (a locust user, one
  connection) takes the next. With too few of them, or too slow a process, arrivals start late: that is part of the
  latency that locust reports, and `loadtest.load` judges whether the asked rate was achieved.
- Every answer is written down before it is counted, also that none came.
- A 429 has a line of its own in the statistics, a business refusal is an answer like any other; failures are answers
  that never came, 5xx and broken contracts.
- The HTTP client itself sends a request once more if the server closes a kept connection without an answer. All requests
  here may be repeated, so that is one request in the record.

Started by `loadtest.load` as `locust -f` this file with `--orders` and `--part`; alone or as a worker of many.
"""

import time
from pathlib import Path
from typing import Any

import gevent
import msgspec
from gevent.event import Event
from gevent.queue import Empty, SimpleQueue
from locust import FastHttpUser, User, events, task

from loadtest.client import BROKEN_CONTRACT, NO_ANSWER
from loadtest.scenarios.answers import GAVE_UP, HALF_SENT, LEFT, SHED, Answer, failed, read_answer, repeat_after_ms
from loadtest.scenarios.desk import Desk
from loadtest.scenarios.orders import Orders, Told, answers_path, read_orders, user_name
from loadtest.scenarios.schedule import BATCH, SEND, SLOW, STREAM, VIEW, WALLET, Arrival, arrivals
from loadtest.scenarios.slow import SlowRequest, request_bytes
from loadtest.scenarios.streaming import StreamClient

LEAD_S = 1.0
"""From the start of the test to the first instant: all visitors are there by then."""

TAKE_S = 1.0
FLUSH_S = 0.5
LOST_MS = 1_000
NAMES = {
    SEND: "POST /v1/packets",
    BATCH: "POST /v1/grabs/batch",
    STREAM: "POST /v1/grabs/stream, a line",
    SLOW: "POST /v1/packets/{id}/grabs, slow",
    VIEW: "GET /v1/packets/{id}",
    WALLET: "GET /v1/wallet",
}
GRAB_NAME = "POST /v1/packets/{id}/grabs"


class Floor:
    """What the visitors of one process share: the desk, the counters, and the book of answers."""

    def __init__(self, environment: Any, orders: Orders, part: int) -> None:
        """Read the schedule's part that is this process's."""
        self.orders = orders
        self.environment = environment
        self.desk = Desk(arrivals(orders.profile, part, orders.parts))
        self._laid_us: dict[int, int] = {}
        self._counters: dict[str, Any] = {route: SimpleQueue() for route in ("", SLOW, STREAM)}
        self._changed = Event()
        self._book = answers_path(Path(orders.folder), part).open("wb")
        self._begin_us = 0

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
        told = Told(
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


class _Process:
    """The one floor of this process; a master has none."""

    floor: Floor


def _line_of(arrival: Arrival, code: str) -> str:
    """Name the line of locust's statistics that a request belongs to."""
    name = NAMES.get(arrival.route, GRAB_NAME) + (", again" if arrival.attempt else "")
    return f"{name} -> 429" if code in SHED else name


def _failure(status: int, code: str) -> str | None:
    """Return in words what locust counts as a failure; business refusals and 429 are none."""
    return f"{status} {code}" if code and (status == 0 or status >= 500 or status < 300) else None


class Visitor(FastHttpUser):  # type: ignore[misc]
    """An ordinary client with one connection."""

    concurrency = 1

    @task  # type: ignore[untyped-decorator]
    def next_arrival(self) -> None:
        """Ask what is due next."""
        floor = _Process.floor
        arrival = floor.take()
        if arrival is None:
            return
        began_us = floor.now_us()
        user = user_name(floor.orders.run, arrival.people[0])
        method, path, body, headers = ask_of(floor, arrival)
        told = False
        try:
            with self.client.request(
                method, path, name=NAMES.get(arrival.route, GRAB_NAME), data=body, headers=headers, catch_response=True
            ) as response:
                status = response.status_code or 0
                patience_us = 1_000 * floor.orders.profile.clients.timeout_ms
                retry_after = str((response.headers or {}).get("retry-after", ""))
                answer = read_answer(arrival, user, status, response.content or b"", retry_after)
                if not status and floor.now_us() - began_us >= patience_us:
                    answer = failed(arrival, GAVE_UP, unknown=True, again=True)
                told = True
                response.request_meta["response_time"] = floor.end(arrival, began_us, status, answer)
                response.request_meta["name"] = _line_of(arrival, answer.code)
                failure = _failure(status, answer.code)
                if failure is None:
                    response.success()
                else:
                    response.failure(failure)
        finally:
            # Also a visitor who is stopped in the middle has asked.
            if not told:
                floor.end(arrival, began_us, 0, failed(arrival, NO_ANSWER, unknown=True, again=False))


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


class SlowVisitor(User):  # type: ignore[misc]
    """A client that holds its connection: see `SlowRequest`."""

    @task  # type: ignore[untyped-decorator]
    def next_arrival(self) -> None:
        """Ask slowly."""
        floor = _Process.floor
        arrival = floor.take(SLOW)
        if arrival is None:
            return
        began_us = floor.now_us()
        clients = floor.orders.profile.clients
        method, path, body, headers = ask_of(floor, arrival)
        request = SlowRequest(floor.orders.url, request_bytes(method, path, body or b"", headers), arrival.number)
        status, content = 0, b""
        try:
            status, content = request.run(clients.slow_hold_s, clients.timeout_ms / 1_000)
        finally:
            answer = read_answer(arrival, user_name(floor.orders.run, arrival.people[0]), status, content, "")
            if request.left:
                answer = answer._replace(code=LEFT)
            elif request.harmless and not status:
                answer = Answer(HALF_SENT)
            elif request.harmless and not answer.code:
                answer = answer._replace(code=BROKEN_CONTRACT)
            latency_ms = floor.end(arrival, began_us, status, answer, repeats=False)
        failure = _failure(status, answer.code) if request.answered or answer.code == BROKEN_CONTRACT else None
        self.environment.events.request.fire(
            request_type="POST",
            name=f"{NAMES[SLOW]}: {request.manner}",
            response_time=latency_ms,
            response_length=len(content),
            exception=None if failure is None else ConnectionError(failure),
            context={},
        )


class StreamVisitor(User):  # type: ignore[misc]
    """A chat gateway with one long request."""

    def on_start(self) -> None:
        """Prepare the stream; it is opened with its first line."""
        orders = _Process.floor.orders
        clients = orders.profile.clients
        self._stream = StreamClient(
            orders.url, orders.gateway_token, clients.stream_inflight_max, clients.timeout_ms / 1_000, self._told
        )

    @task  # type: ignore[untyped-decorator]
    def next_arrivals(self) -> None:
        """Pass on what is due."""
        floor = _Process.floor
        room = self._stream.room(TAKE_S)
        first = floor.take(STREAM) if room else None
        if first is None:
            return
        chosen = [first]
        while len(chosen) < room and (arrival := floor.take(STREAM, 0)) is not None:
            chosen.append(arrival)
        began_us = floor.now_us()
        ids = floor.desk.packet_ids
        lines = [(one, ids[one.packet], user_name(floor.orders.run, one.people[0])) for one in chosen]
        self._stream.write(lines, began_us)

    def on_stop(self) -> None:
        """Say that nothing more comes, and wait for the last answers."""
        self._stream.finish()

    def _told(self, arrival: Arrival, began_us: int, status: int, answer: Answer) -> None:
        latency_ms = _Process.floor.end(arrival, began_us, status, answer)
        code = answer.code or answer.items[0].code
        failure = _failure(status, answer.code)
        self.environment.events.request.fire(
            request_type="LINE",
            name=_line_of(arrival, code),
            response_time=latency_ms,
            response_length=0,
            exception=None if failure is None else ConnectionError(failure),
            context={},
        )


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _options(parser: Any) -> None:
    parser.add_argument("--orders", help="what loadtest.load has written for its locust processes")
    parser.add_argument("--part", type=int, default=-1, help="which part of the schedule is ours; -1: a master's, none")


@events.init.add_listener  # type: ignore[untyped-decorator]
def _prepare(environment: Any, **_rest: Any) -> None:
    orders = read_orders(Path(environment.parsed_options.orders))
    clients = orders.profile.clients
    Visitor.fixed_count = orders.profile.connections
    Visitor.network_timeout = Visitor.connection_timeout = clients.timeout_ms / 1_000
    SlowVisitor.fixed_count = clients.slow_connections
    StreamVisitor.fixed_count = clients.streams if clients.door == "stream" else 0
    part = environment.parsed_options.part
    if part < 0:
        return
    floor = _Process.floor = Floor(environment, orders, part)
    environment.events.test_start.add_listener(lambda **_rest: floor.start())
    environment.events.test_stop.add_listener(lambda **_rest: floor.close())
    environment.events.quitting.add_listener(lambda **_rest: floor.close())
