"""Lua over HTTP: peer (a), FastAPI with a Redis Lua script (LPOP + HSET), under as many uvicorn workers as we have.

It does less than the platform: no tokens, no repeat answered alike, no books, no expiry, no refund.
`python -m loadtest.bench.peers.lua_http FD STORE_URL` is one worker.
"""

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Any

import redis.asyncio as redis
from fastapi import FastAPI, Header, HTTPException

from loadtest.bench.peers.store import PeerStore
from loadtest.bench.peers.workers import Workers, serve
from loadtest.bench.wire import http_request

LUA = "local s = redis.call('LPOP', KEYS[1]) if s then redis.call('HSET', KEYS[2], ARGV[1], s) end return s"
CONNECTIONS_MAX = 256
SHARE_FEN = 100
TENS = 10


def build_app(store_url: str) -> FastAPI:
    """Return the app of one worker."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        store = redis.Redis.from_url(store_url, max_connections=CONNECTIONS_MAX)
        app.state.take = store.register_script(LUA)
        yield
        await store.aclose()

    app = FastAPI(lifespan=lifespan)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {}

    @app.post("/packets/{packet_id}/grabs")
    async def grab(packet_id: str, x_user: Annotated[str, Header()], body: dict[str, Any]) -> dict[str, Any]:
        found = await app.state.take(keys=[f"shares:{packet_id}", f"takers:{packet_id}"], args=[x_user])
        if found is None:
            raise HTTPException(409, "drained")
        return {"packet_id": packet_id, "user": x_user, "amount_fen": int(found)}

    return app


class LuaHttp:
    """Peer (a) with packets in its store."""

    name = "FastAPI + Redis Lua"

    def __init__(self, store: PeerStore, workers: int) -> None:
        self._client = redis.Redis.from_url(store.url)
        self._workers = Workers("loadtest.bench.peers.lua_http", workers, store.url)
        self.url = self._workers.url
        self._packets: list[str] = []
        self._shares = 0
        self._serial = 0

    async def fill(self, packets: int, shares: int) -> list[bytes]:
        """Make packets and return a request for every share, interleaved as ours are."""
        self._serial += 1
        self._packets = [f"{self._serial}-{number}" for number in range(packets)]
        self._shares = shares
        async with self._client.pipeline(transaction=False) as pipeline:
            for packet_id in self._packets:
                pipeline.rpush(f"shares:{packet_id}", *([SHARE_FEN] * shares))
            await pipeline.execute()
        return peer_requests(self._packets, shares)

    async def check(self, answers: int, connections: int) -> None:
        """Make sure that every answer took one share and no fen is missing, then forget the packets."""
        takers = left = paid = 0
        # One transaction: what was under way at the end of the load may still come.
        async with self._client.pipeline(transaction=True) as pipeline:
            for packet_id in self._packets:
                pipeline.llen(f"shares:{packet_id}")
                pipeline.hvals(f"takers:{packet_id}")
            found = await pipeline.execute()
        for length, amounts in zip(found[::2], found[1::2], strict=True):
            left += length
            takers += len(amounts)
            paid += sum(map(int, amounts))
        assert takers + left == len(self._packets) * self._shares, "every share is taken or left"
        assert paid == takers * SHARE_FEN, "every taker has a share"
        assert answers <= takers <= answers + connections, f"{takers} takers for {answers} answers"
        await self._client.flushdb()
        await self._client.script_load(LUA)

    def cpu_s(self) -> float:
        """Return the processor seconds of its workers."""
        return self._workers.cpu_s()

    async def stop(self) -> None:
        """End it."""
        self._workers.stop()
        await self._client.aclose()


def peer_requests(packet_ids: Sequence[str], shares: int) -> list[bytes]:
    """Make a peer's request for every share: each by another user, the packets interleaved ten at a time."""
    return [
        http_request("POST", f"/packets/{packet_id}/grabs", body=b"{}", X_User=f"taker-{user}")
        for start in range(0, len(packet_ids), TENS)
        for user in range(shares)
        for packet_id in packet_ids[start : start + TENS]
    ]


if __name__ == "__main__":
    serve(build_app(sys.argv[2]), int(sys.argv[1]))
