"""The stream on the real cluster, through HAProxy: duplex, half closed, cut, refused, drained, and never paid twice."""

import asyncio
import itertools
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from cluster.client import GrabOrder, GrabStream, LineAnswer
from cluster.client.chunked import Dechunker
from cluster.client.stream import PATH
from cluster.config import load
from cluster.local.record import child_environment, processes_titled
from tests.cluster.platform import Platform, kill, until
from tests.processes import as_child

LONG_S = 60.0
SHARES = 100
_serial = itertools.count()


def fresh(name: str) -> str:
    """Return a name nobody had before, so that tests share one system."""
    return f"{name}-{os.getpid()}-{time.time_ns()}-{next(_serial)}"


async def packets(platform: Platform, count: int) -> list[str]:
    """Send packets of 100 shares and return their ids."""
    sender = await platform.user(fresh("sender"), count * 10_000)
    sent = [platform.send(sender, fresh("key"), 10_000, SHARES) for _ in range(count)]
    return [packet["packet_id"] for packet in await asyncio.gather(*sent)]


class Line:
    """One raw stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._body = Dechunker()
        self._rest = b""
        self.status = 0
        self.lines: list[dict[str, Any]] = []

    def write(self, *grabs: tuple[Any, str, str]) -> None:
        """Write a chunk of grabs: id, packet, user."""
        self.write_bytes(
            b"".join(
                json.dumps({"id": name, "packet_id": packet_id, "user": user}).encode() + b"\n"
                for name, packet_id, user in grabs
            )
        )

    def write_bytes(self, body: bytes) -> None:
        """Write a chunk."""
        self._writer.write(b"%x\r\n%b\r\n" % (len(body), body))

    def end_body(self) -> None:
        """Write the end of the body."""
        self._writer.write(b"0\r\n\r\n")

    async def head(self) -> bytes:
        """Read the head of the response."""
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), LONG_S)
        self.status = int(head[9:12])
        return head

    async def read(self, count: int) -> list[dict[str, Any]]:
        """Read until there are so many lines more, and return these."""
        while len(self.lines) < count:
            assert await self._more(), f"the stream ends early: {self.lines}"
        lines, self.lines = self.lines, []
        return lines

    async def rest(self) -> list[dict[str, Any]]:
        """Read to the end of the response."""
        while not self._body.ended:
            assert await self._more(), "the response is whole"
        return self.lines

    async def problem(self) -> dict[str, Any]:
        """Read the body of a refusal."""
        head = await self.head()
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        return dict(json.loads(await asyncio.wait_for(self._reader.readexactly(length), LONG_S)))

    async def _more(self) -> bool:
        received = await asyncio.wait_for(self._reader.read(65_536), LONG_S)
        *whole, self._rest = (self._rest + self._body.feed(received)).split(b"\n")
        self.lines += map(json.loads, whole)
        return bool(received)


@asynccontextmanager
async def stream(platform: Platform, token: str) -> AsyncIterator[Line]:
    """Open a raw stream; nothing of it is read yet."""
    reader, writer = await asyncio.open_connection(platform.record.host, platform.record.http_port)
    writer.write(
        f"POST {PATH} HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\nContent-Type: application/x-ndjson\r\n"
        "Transfer-Encoding: chunked\r\n\r\n".encode()
    )
    try:
        yield Line(reader, writer)
    finally:
        writer.transport.abort()


async def test_both_ways_at_once_through_the_proxy_and_half_closed(platform: Platform) -> None:
    [packet_id] = await packets(platform, 1)
    async with stream(platform, platform.gateway) as line:
        assert b"200" in await line.head(), "the answer begins before the first line"
        first = []
        for name in range(20):
            line.write((name, packet_id, f"u{name}"))
            first += await line.read(1)
        assert [answer["id"] for answer in first] == list(range(20))
        line.write(*((name, packet_id, f"u{name % 100}") for name in range(100, 250)))
        line.end_body()
        rest = await line.rest()
    assert sorted(answer["id"] for answer in rest) == list(range(100, 250))
    fresh_fen = [answer["amount_fen"] for answer in [*first, *rest] if not answer["replayed"]]
    assert (len(fresh_fen), sum(fresh_fen)) == (SHARES, 10_000)


async def test_a_refusal_reaches_a_client_in_the_middle_of_its_body(platform: Platform) -> None:
    async with stream(platform, platform.token("mei")) as line:
        line.write((1, "p", "u"))
        problem = await line.problem()
        assert (line.status, problem["code"]) == (403, "forbidden")


async def test_the_last_line_reaches_a_client_in_the_middle_of_its_body(platform: Platform) -> None:
    [packet_id] = await packets(platform, 1)
    async with stream(platform, platform.gateway) as line:
        await line.head()
        line.write((1, packet_id, "mei"))
        line.write_bytes(b"x" * 3_000)
        # At one blow: written one by one, they may meet a connection that has ended, and its last line is lost here.
        line.write(*((name, packet_id, "mei") for name in range(2, 100)))
        share, last = await line.rest()
    assert (share["id"], share["rank"], last["code"]) == (1, 1, "too_large")


async def test_beyond_the_bound_a_line_is_overloaded_at_once_and_the_others_wait_for_the_store(
    platform: Platform,
) -> None:
    [packet_id] = await packets(platform, 1)
    bound = load().stream.stream_inflight_max
    [store] = processes_titled(platform.record.run_folder, "valkey-server")
    async with stream(platform, platform.gateway) as line:
        await line.head()
        store.suspend()
        try:
            line.write(*((name, packet_id, f"u{name}") for name in range(bound + 50)))
            refused = await line.read(50)
            assert {answer["code"] for answer in refused} == {"overloaded"}
        finally:
            store.resume()
        answers = await line.read(bound)
        won = [answer for answer in answers if "rank" in answer]
        assert {answer["id"] for answer in [*answers, *refused]} == set(range(bound + 50))
        if len(won) == SHARES:  # unless the store was silent for too long for some
            assert sum(answer["amount_fen"] for answer in won) == 10_000
    await platform.insist("GET", "/readyz", platform.operator)


async def test_a_replica_and_a_shard_that_die_in_mid_stream_cost_time_and_no_fen(platform: Platform) -> None:
    ids = await packets(platform, 40)
    grabs = [GrabOrder(packet_id, f"u{user}") for user in range(150) for packet_id in ids]
    told: list[list[LineAnswer]] = [[], []]
    clients = [GrabStream(platform.record.url, platform.gateway, inflight_max=500) for _ in told]

    async def crowd(client: GrabStream, answers: list[LineAnswer]) -> None:
        async with client:
            for start in range(0, len(grabs), 500):
                answers += await client.grabs(grabs[start : start + 500])

    crowds = [asyncio.create_task(crowd(*each)) for each in zip(clients, told, strict=True)]
    await until(lambda: _now(len(told[0])), lambda count: count >= 1_000)
    kill(platform.pids("ray::ServeReplica")[0])
    await until(lambda: _now(len(told[0])), lambda count: count >= 3_000)
    kill(platform.pids("ray::ShardActor")[0])
    await asyncio.gather(*crowds)
    assert sum(client.streams for client in clients) >= 3
    for answers in told:
        assert {answer.code for answer in answers} <= {"", "drained"}
    for place, packet_id in enumerate(ids):
        mine = [(grabs[i].user, told[0][i], told[1][i]) for i in range(place, len(grabs), len(ids))]
        won = {user: (one.rank, one.amount_fen) for user, one, _ in mine if not one.code}
        assert len(won) == SHARES, packet_id
        assert sum(amount_fen for _, amount_fen in won.values()) == 10_000
        assert sorted(rank for rank, _ in won.values()) == list(range(1, SHARES + 1))
        assert won == {user: (two.rank, two.amount_fen) for user, _, two in mine if not two.code}, "told the same twice"
    assert (await platform.settled())["clean"]


async def _now(count: int) -> int:
    return count


async def test_a_redeploy_ends_streams_with_a_word_and_loses_no_line(platform: Platform) -> None:
    ids = await packets(platform, 10)
    before = set(platform.pids("ray::ServeReplica"))
    answers: list[LineAnswer] = []
    async with (
        stream(platform, platform.gateway) as line,
        GrabStream(platform.record.url, platform.gateway, deadline_s=LONG_S) as client,
    ):
        await line.head()
        deploying = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "cluster.deploy", "--data", str(platform.record.data)),
            env=child_environment(platform.record),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            preexec_fn=as_child,
        )
        users = itertools.count()
        while deploying.returncode is None or before & set(platform.pids("ray::ServeReplica")):
            user = f"u{next(users)}"
            answers += await client.grabs([GrabOrder(packet_id, user) for packet_id in ids])
        [last] = await line.rest()
        assert last["code"] == "draining"
        assert client.streams >= 2
    assert {answer.code for answer in answers} <= {"", "drained"}
    if next(users) > SHARES:
        assert sum(answer.amount_fen for answer in answers) == 10_000 * len(ids)


async def test_before_the_system_ends_its_streams_do(platform: Platform) -> None:
    """What `hongbao down` does first, done and undone."""
    sign = platform.record.run_folder / "draining"
    async with stream(platform, platform.gateway) as line:
        await line.head()
        sign.touch()
        try:
            [last] = await line.rest()
            assert last["code"] == "draining"
            async with stream(platform, platform.gateway) as another:
                assert (await another.problem())["code"] == "draining"
        finally:
            sign.unlink()
    await platform.insist("GET", "/readyz", platform.operator)
