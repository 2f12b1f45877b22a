"""The stream client over real HTTP on the loopback: the real ASGI layer under uvicorn over a fake service."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st

from cluster.client import GrabOrder, GrabStream, LineAnswer
from cluster.client.chunked import Dechunker
from tests.simulation.http import token
from tests.unit.fake_replica import Replica

LONG_S = 30.0
GATEWAY = token("gateway", "gateway", ttl_s=86_400)


class Served:
    """A replica behind an HTTP server of its own."""

    def __init__(self, replica: Replica, server: uvicorn.Server, url: str) -> None:
        self.replica = replica
        self.service = replica.service
        self.url = url
        self._server = server

    def cut(self) -> None:
        """Cut every connection."""
        for protocol in list(self._server.server_state.connections):
            protocol.transport.abort()


@asynccontextmanager
async def served(**bounds: int) -> AsyncIterator[Served]:
    replica = Replica(**bounds)
    listener = socket.create_server(("127.0.0.1", 0))
    edge = replica.served(stamps=True)
    server = uvicorn.Server(uvicorn.Config(edge, lifespan="off", log_config=None))
    server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
    running = asyncio.create_task(server._serve(sockets=[listener]))
    try:
        yield Served(replica, server, f"http://127.0.0.1:{listener.getsockname()[1]}")
    finally:
        server.force_exit = server.should_exit = True
        await asyncio.wait_for(running, LONG_S)


async def until(good: Callable[[], Any]) -> None:
    async with asyncio.timeout(LONG_S):
        while not good():  # noqa: ASYNC110 - whatever it is, it happens behind a socket
            await asyncio.sleep(0.005)


async def test_many_grabs_are_answered_in_order_within_the_bound() -> None:
    async with (
        served(stream_inflight_max=50) as platform,
        GrabStream(platform.url, GATEWAY, inflight_max=50) as client,
    ):
        users = ["late" if i % 7 == 0 else "u" * (1 + i % 60) for i in range(3_000)]
        answers = await client.grabs([GrabOrder("p", user) for user in users])
    assert [answer.code or answer.rank for answer in answers] == [
        "drained" if user == "late" else len(user) for user in users
    ]
    assert client.streams == 1


async def test_lines_asked_in_one_turn_leave_in_one_piece() -> None:
    async with served(stream_inflight_max=100) as platform, GrabStream(platform.url, GATEWAY) as client:
        await client.grabs([GrabOrder("p", "mei")])
        told: list[LineAnswer] = []
        for _ in range(20):
            client.ask(GrabOrder("p", "mei"), told.append)
        await until(lambda: len(told) == 20)
        # The first leaves at once, because nothing was under way; the others together behind it.
        assert [len(group) for group in platform.service.asked] in ([1, 1, 19], [1, 20])


@pytest.mark.parametrize("way", ["cut", "drained"])
async def test_whatever_ends_a_stream_the_rest_is_asked_again_and_told_once(way: str) -> None:
    async with served(stream_age_ms_max=400 if way == "drained" else 60_000) as platform:
        platform.service.held = []
        told: list[LineAnswer] = []
        async with GrabStream(platform.url, GATEWAY) as client:
            for user in ("mei", "li", "bob"):
                client.ask(GrabOrder("p", user), told.append)
            await until(lambda: sum(map(len, platform.service.asked)) == 3)
            if way == "cut":
                platform.cut()
            else:
                # The old stream reads nothing more; what is asked now can only be answered by the next.
                await asyncio.sleep(0.7)
                client.ask(GrabOrder("p", "zoe"), told.append)
                for gate in platform.service.held:
                    gate.set_result(None)
            await until(lambda: client.streams == 2)
            held, platform.service.held = platform.service.held, None
            for gate in held:
                if not gate.done():
                    gate.set_result(None)
            await until(lambda: not client.unanswered)
            assert (await client.grab("p", "eve")).rank == 3
        assert sorted(answer.rank for answer in told) == ([2, 3, 3] if way == "cut" else [2, 3, 3, 3])
        assert client.repeats >= (3 if way == "cut" else 1)


async def test_a_stream_that_falls_silent_is_given_up_for_another() -> None:
    async with served() as platform:
        platform.service.held = []
        async with GrabStream(platform.url, GATEWAY, silence_s=0.3) as client:
            asked = asyncio.ensure_future(client.grab("p", "mei"))
            await until(lambda: platform.service.held)
            platform.service.held = None
            assert (await asyncio.wait_for(asked, LONG_S)).rank == 3
            assert client.streams == 2


async def test_what_is_refused_for_now_is_asked_again_and_what_is_refused_is_told() -> None:
    async with served(stream_inflight_max=1) as platform, GrabStream(platform.url, GATEWAY) as client:
        answers = await client.grabs([GrabOrder("p", user) for user in ("mei", "late", "a b", "li")])
        assert [answer.code or answer.rank for answer in answers] == [3, "drained", "invalid", 2]


async def test_a_token_that_opens_no_stream_is_told_to_every_line() -> None:
    async with served() as platform, GrabStream(platform.url, token("mei", "user")) as client:
        assert (await asyncio.wait_for(client.grab("p", "mei"), LONG_S)).code == "forbidden"
        assert client.refused == "forbidden"
        assert (await asyncio.wait_for(client.grab("p", "li"), LONG_S)).code == "forbidden"


async def test_a_replica_that_drains_is_asked_again_later() -> None:
    async with served() as platform:
        platform.replica.streams._drain_file = __file__
        async with GrabStream(platform.url, GATEWAY) as client:
            asked = asyncio.ensure_future(client.grab("p", "mei"))
            await until(lambda: client.streams >= 2)
            assert not asked.done()
            platform.replica.streams._drain_file = ""
            assert (await asyncio.wait_for(asked, LONG_S)).rank == 3


async def test_where_nobody_answers_a_line_is_told_so_at_its_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    async with GrabStream(f"http://127.0.0.1:{port}", GATEWAY, deadline_s=0.4) as client:
        assert (await asyncio.wait_for(client.grab("p", "mei"), LONG_S)).code == "no_answer"


@given(parts=st.lists(st.binary(min_size=1, max_size=30), max_size=8), cuts=st.lists(st.integers(0, 300), max_size=12))
def test_chunks_come_apart_wherever_the_network_cut_them(parts: list[bytes], cuts: list[int]) -> None:
    body = b"".join(b"%x;ext=1\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    places = sorted({min(cut, len(body)) for cut in cuts})
    dechunker = Dechunker()
    found = b""
    for start, stop in zip([0, *places], [*places, len(body)], strict=True):
        found += dechunker.feed(body[start:stop])
    assert (found, dechunker.ended) == (b"".join(parts), True)
