"""The entrance: Serve meets no head that breaks it or that it would obey, and says nothing in words of its own."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from hypothesis import example, given
from hypothesis import strategies as st
from ray.serve._private import constants as serve
from ray.serve._private.http_util import (
    RequestIdMiddleware,
    parse_disconnect_disabled_header,
    parse_request_timeout_header,
    parse_session_id_header,
)
from uvicorn.server import ServerState

from cluster.gateway.middleware.serve_hooks import READ_BY_SERVE, ServeHooks, middlewares
from cluster.gateway.problems import Problem, answer
from cluster.gateway.raw_http import write

NAMES = [*sorted(READ_BY_SERVE), b"authorization", b"x-acting-user", b"cookie", b"accept", b"traceparent"]


def run(entrance: ServeHooks, headers: list[tuple[bytes, bytes]], **scope: Any) -> list[Any]:
    """Ask once and return the messages of the answer."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    told = {"type": "http", "method": "GET", "path": "/v1/wallet", "headers": headers} | scope
    asyncio.run(entrance(told, None, send))
    return sent


class Served:
    """What Serve's replica does with a request's head before our app has it, by Serve's own functions."""

    def __init__(self) -> None:
        self.timeout_s: float | None = None
        self.request_id = ""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope["headers"])
        self.request_id = headers[serve.SERVE_HTTP_REQUEST_ID_HEADER.encode()].decode()
        assert not parse_disconnect_disabled_header(headers)
        self.timeout_s = parse_request_timeout_header(headers, 7.0)
        assert parse_session_id_header(headers) == ""
        for name in headers:
            assert name.decode().lower().replace("-", "_") != serve.SERVE_MULTIPLEXED_MODEL_ID
        for name, value in scope["headers"]:
            if name.decode() in ("traceparent", "tracestate"):
                value.decode()
        await write(send, (200, [], b"served"))


@example([(b"x-request-id", b"\xff")])
@example([(b"x-request-timeout-seconds", b"0.001")])
@example([(b"x-request-id", b"one"), (b"x-request-id", b"two")])
@given(st.lists(st.tuples(st.sampled_from(NAMES), st.binary(max_size=12)), max_size=6))
def test_no_head_of_a_client_breaks_serve_or_is_obeyed_by_it(headers: list[tuple[bytes, bytes]]) -> None:
    served = Served()
    start, body = run(ServeHooks(RequestIdMiddleware(served)), headers)
    assert (start["status"], body["body"]) == (200, b"served")
    assert served.timeout_s == 7.0
    ids = [value for name, value in start["headers"] if name.lower() == b"x-request-id"]
    assert ids == [served.request_id.encode()]
    first = next((value for name, value in headers if name == b"x-request-id"), b"")
    assert (ids[0] == first) == (
        first.isascii() and 0 < len(first) <= 128 and all(0x20 < byte < 0x7F for byte in first)
    )


def test_all_that_serve_reads_is_known() -> None:
    """Of the installed Serve: a name that changes there must change here."""
    read = {
        serve.SERVE_HTTP_REQUEST_ID_HEADER,
        serve.SERVE_HTTP_REQUEST_TIMEOUT_S_HEADER,
        serve.SERVE_HTTP_REQUEST_DISCONNECT_DISABLED_HEADER,
        serve.SERVE_MULTIPLEXED_MODEL_ID,
        serve.SERVE_MULTIPLEXED_MODEL_ID.replace("_", "-"),
        serve.SERVE_SESSION_ID,
        serve.SERVE_SESSION_ID.replace("-", "_"),
    }
    assert {name.encode() for name in read} <= READ_BY_SERVE


def failing(failure: BaseException, *, begun: bool = False) -> Callable[..., Any]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if begun:
            await send({"type": "http.response.start", "status": 200, "headers": []})
        raise failure

    return app


def saying(status: int, code: bytes = b"text/plain") -> Callable[..., Any]:
    """Return an app that answers as Serve does by itself."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await write(send, (status, [(b"content-type", code)], b"Request dropped due to backpressure"))

    return app


@pytest.mark.parametrize(
    ("status", "told", "code"),
    [
        (404, 404, "route_not_found"),
        (408, 429, "overloaded"),
        (429, 429, "overloaded"),
        (499, 400, "malformed"),
        (500, 500, "internal"),
        (503, 429, "overloaded"),
        (418, 500, "internal"),
    ],
)
def test_what_serve_says_by_itself_is_told_as_a_problem(status: int, told: int, code: str) -> None:
    start, body = run(ServeHooks(saying(status)), [(b"x-request-id", b"order-66")])
    assert start["status"] == told
    headers = dict(start["headers"])
    assert (headers[b"content-type"], headers[b"x-request-id"]) == (b"application/problem+json", b"order-66")
    problem = json.loads(body["body"])
    assert (problem["code"], problem["request_id"]) == (code, "order-66")
    assert int(headers[b"content-length"]) == len(body["body"])


def test_serve_speaks_to_its_load_balancer_in_its_own_words() -> None:
    start, body = run(ServeHooks(saying(503)), [], path="/-/healthz")
    assert (start["status"], body["body"]) == (503, b"Request dropped due to backpressure")


def test_our_own_problems_pass_as_they_are() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await write(send, answer(Problem("drained"), "order-66"))

    start, body = run(ServeHooks(app), [])
    assert (start["status"], json.loads(body["body"])["code"]) == (409, "drained")


@pytest.mark.parametrize("failure", [ValueError("our bug"), asyncio.CancelledError()], ids=["a bug", "a cancellation"])
def test_a_failure_before_the_answer_is_a_problem_with_the_requests_id(failure: BaseException) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def ask() -> None:
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"x-request-id", b"order-66")]}
        with pytest.raises(type(failure)):
            await ServeHooks(failing(failure))(scope, None, send)

    asyncio.run(ask())
    assert (sent[0]["status"], dict(sent[0]["headers"])[b"x-request-id"]) == (500, b"order-66")
    assert json.loads(sent[1]["body"])["request_id"] == "order-66"


def test_a_failure_in_the_middle_of_an_answer_adds_nothing_to_it() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def ask() -> None:
        with pytest.raises(ValueError, match="our bug"):
            await ServeHooks(failing(ValueError("our bug"), begun=True))(
                {"type": "http", "method": "GET", "path": "/", "headers": []}, None, send
            )

    asyncio.run(ask())
    assert [message["type"] for message in sent] == ["http.response.start"]


# HTTP itself, over a socket, by the server that Serve starts.


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the method and the path; a path that ends in "slow" begins its answer and waits for the body."""
    told = f"{scope['method']} {scope['path']}".encode()
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-length", b"%d" % len(told)), (b"content-type", b"text/plain")],
        }
    )
    if scope["path"].endswith("slow"):
        await receive()
        await receive()
    await send({"type": "http.response.body", "body": told})


@asynccontextmanager
async def served() -> AsyncIterator[int]:
    """Serve `echo` by the protocol that Serve's servers use once `middlewares` was asked. Yields the port."""
    [middleware] = middlewares()
    outermost: Any = middleware.cls
    app = outermost(echo)
    config = uvicorn.Config(lambda: app, factory=True, lifespan="off", log_config=None, access_log=False)
    config.load()
    protocol: Any = config.http_protocol_class
    state = ServerState()
    state.default_headers = [(b"date", b"now"), *config.encoded_headers]
    server = await asyncio.get_running_loop().create_server(
        lambda: protocol(config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    async with server:
        yield server.sockets[0].getsockname()[1]
    assert (b"server", b"uvicorn") not in config.encoded_headers, "of these uvicorn makes its headers anew"


async def say(port: int, content: bytes, rest: bytes = b"") -> bytes:
    """Send raw bytes, once an answer has begun the rest; return all that is answered until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(content)
        begun = b""
        if rest:
            begun = await reader.readuntil(b"\r\n\r\n")
            writer.write(rest)
        return begun + await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


NO_HTTP = {
    "nonsense": b"hello\r\n\r\n",
    "an unknown method": b"BREW /pot HTTP/1.1\r\nhost: x\r\n\r\n",
    "a name with a blank": b"GET / HTTP/1.1\r\nx y: 1\r\n\r\n",
    "a name in latin-1": b"GET / HTTP/1.1\r\nx\xff: 1\r\n\r\n",
    "a path in latin-1": b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\na",
    "a length that is no number": b"POST / HTTP/1.1\r\ncontent-length: five\r\n\r\n",
    "a length and chunks": b"POST / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a control in a value": b"GET / HTTP/1.1\r\nx: \x01\r\n\r\n",
}


def parsed(told: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = told.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in lines), body


async def test_what_is_no_http_is_a_problem_with_a_request_id() -> None:
    async with served() as port:
        for name, content in NO_HTTP.items():
            status, headers, body = parsed(await say(port, content))
            assert (status, headers["content-type"]) == (400, "application/problem+json"), name
            problem = json.loads(body)
            assert (problem["code"], problem["request_id"]) == ("malformed", headers["x-request-id"]), name
            assert int(headers["content-length"]) == len(body), name
            assert headers["connection"] == "close", name
            assert "server" not in headers, name


async def test_no_answer_names_the_server_and_an_upgrade_is_an_ordinary_request() -> None:
    upgrade = b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: YQ==\r\n"
    async with served() as port:
        for more in (b"connection: close\r\n", upgrade + b"connection: close\r\n"):
            status, headers, body = parsed(await say(port, b"GET /here HTTP/1.1\r\nhost: x\r\n" + more + b"\r\n"))
            assert (status, body) == (200, b"GET /here")
            assert "server" not in headers
            assert "date" in headers


async def test_a_body_that_breaks_off_in_nonsense_adds_nothing_to_an_answer_that_has_begun() -> None:
    head = b"POST /slow HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    async with served() as port:
        told = await say(port, head + b"1\r\na\r\n", rest=b"zz\r\n")
    assert told.startswith(b"HTTP/1.1 200")
    assert told.count(b"HTTP/1.1") == 1
