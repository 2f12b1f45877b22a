"""Visitors: the locust file. They ask what the desk hands out, at its instant, over HTTP; locust keeps the statistics.

- Open loop: a visitor (a locust user, one connection) takes what is due next. With too few of them, or too slow a
  process, arrivals start late: that is part of the latency that locust reports, and `loadtest.load` judges whether the
  asked rate was achieved.
- Every answer is written down before it is counted, also that none came.
- A 429 has a line of its own in the statistics, a business refusal is an answer like any other; failures are answers
  that never came, 5xx and broken contracts.
- The HTTP client itself sends a request once more if the server closes a kept connection without an answer. Every
  request here may be repeated, so that is one request in the record.

Started by `loadtest.load` as `locust -f` this file with `--orders` and `--part`; alone or as a worker of many.
"""

from pathlib import Path
from typing import Any

import gevent
from locust import FastHttpUser, events, task

from cluster.client import BROKEN_CONTRACT, NO_ANSWER
from loadtest.scenarios.answers import GAVE_UP, HALF_SENT, LEFT, Answer, failed, read_answer
from loadtest.scenarios.floor import NAMES, TAKE_S, Floor, ask_of, failure_of, line_of
from loadtest.scenarios.orders import read_orders, user_name
from loadtest.scenarios.schedule import SLOW, STREAM, Arrival
from loadtest.scenarios.slow import SlowRequest, request_bytes
from loadtest.scenarios.streaming import StreamClient


class _Process:
    """The one floor of this process; a master has none."""

    floor: Floor


class Ordinary:
    """A client with one connection, of `FastHttpUser`."""

    def __init__(self, client: Any) -> None:
        """`client` is locust's."""
        self._client = client

    def ask(self) -> None:
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
            with self._client.request(
                method, path, name=NAMES[arrival.route], data=body, headers=headers, catch_response=True
            ) as response:
                status = response.status_code or 0
                patience_us = 1_000 * floor.orders.profile.clients.timeout_ms
                retry_after = str((response.headers or {}).get("retry-after", ""))
                answer = read_answer(arrival, user, status, response.content or b"", retry_after)
                if not status and floor.now_us() - began_us >= patience_us:
                    answer = failed(arrival, GAVE_UP, unknown=True, again=True)
                told = True
                response.request_meta["response_time"] = floor.end(arrival, began_us, status, answer)
                response.request_meta["name"] = line_of(arrival, answer.code)
                failure = failure_of(status, answer.code)
                if failure is None:
                    response.success()
                else:
                    response.failure(failure)
        finally:
            # Also a visitor who is stopped in the middle has asked.
            if not told:
                floor.end(arrival, began_us, 0, failed(arrival, NO_ANSWER, unknown=True, again=False))

    def end(self) -> None:
        """Nothing is left to be done."""


class Slow:
    """A client that holds its connection: see `SlowRequest`."""

    def __init__(self, request_event: Any) -> None:
        """`request_event` is locust's."""
        self._event = request_event

    def ask(self) -> None:
        """Ask slowly what is due next."""
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
        failure = failure_of(status, answer.code) if request.answered or answer.code == BROKEN_CONTRACT else None
        self._event.fire(
            request_type="POST",
            name=f"{NAMES[SLOW]}: {request.manner}",
            response_time=latency_ms,
            response_length=len(content),
            exception=None if failure is None else ConnectionError(failure),
            context={},
        )

    def end(self) -> None:
        """Nothing is left to be done."""


class ChatGateway:
    """A chat gateway with one long request."""

    def __init__(self, request_event: Any) -> None:
        """`request_event` is locust's. The stream is opened with its first line."""
        self._event = request_event
        orders = _Process.floor.orders
        clients = orders.profile.clients
        self._stream = StreamClient(
            orders.url, orders.gateway_token, clients.stream_inflight_max, clients.timeout_ms / 1_000, self._told
        )

    def ask(self) -> None:
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

    def end(self) -> None:
        """Say that nothing more comes, and wait for the last answers."""
        self._stream.finish()

    def _told(self, arrival: Arrival, began_us: int, status: int, answer: Answer) -> None:
        latency_ms = _Process.floor.end(arrival, began_us, status, answer)
        code = answer.code or answer.items[0].code
        failure = failure_of(status, answer.code)
        self._event.fire(
            request_type="LINE",
            name=line_of(arrival, code),
            response_time=latency_ms,
            response_length=0,
            exception=None if failure is None else ConnectionError(failure),
            context={},
        )


class Visitor(FastHttpUser):  # type: ignore[misc]
    """A locust user in one of the three roles."""

    concurrency = 1

    def on_start(self) -> None:
        """Take a role."""
        role = _Process.floor.role()
        event = self.environment.events.request
        self._role = ChatGateway(event) if role == STREAM else Slow(event) if role == SLOW else Ordinary(self.client)

    @task  # type: ignore[untyped-decorator]
    def next_arrival(self) -> None:
        """Ask what is due next."""
        self._role.ask()

    def on_stop(self) -> None:
        """End what the role has begun."""
        self._role.end()


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator]
def _options(parser: Any) -> None:
    parser.add_argument("--orders", help="what loadtest.load has written for its locust processes")
    parser.add_argument("--part", type=int, default=-1, help="which part of the schedule is ours; -1: a master's, none")


@events.init.add_listener  # type: ignore[untyped-decorator]
def _prepare(environment: Any, **_rest: Any) -> None:
    gevent.get_hub().loop.update_now()  # locust's time limit counts from here, not from before its imports
    orders = read_orders(Path(environment.parsed_options.orders))
    Visitor.network_timeout = Visitor.connection_timeout = orders.profile.clients.timeout_ms / 1_000
    part = environment.parsed_options.part
    if part < 0:
        return
    floor = _Process.floor = Floor(orders, part)
    environment.events.test_start.add_listener(lambda **_rest: floor.start())
    environment.events.test_stop.add_listener(lambda **_rest: floor.close())
    environment.events.quitting.add_listener(lambda **_rest: floor.close())
