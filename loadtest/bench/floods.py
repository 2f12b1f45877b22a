"""Floods: what strangers and one greedy tenant do to the door, and how a user of another tenant fares meanwhile.

A flood is a process of its own (`python -m loadtest.bench.floods URL KIND SECONDS TOKEN`), so that it costs the user's
client nothing, and ends by itself. It goes to loopback only.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp

IDLE, HALVES, FLOODS, GREEDY = 4_200, 3_900, 24, 96
"""Connections of each kind."""
FLOOD_BYTES = 260_000
SECONDS_MAX = 60.0
ASKS_PER_S = 20
ANSWER_S_MAX = 10.0


class Fared(NamedTuple):
    """How a user fared: the part of their requests that succeeded, and how long an answer took."""

    asked: int
    succeeded: int
    p99_ms: float

    @property
    def part(self) -> float:
        """Return the part that succeeded."""
        return self.succeeded / self.asked


async def fare(url: str, token: str, seconds: float) -> Fared:
    """Ask for a user's wallet at a steady rate, whatever becomes of the answers."""
    taken_ms: list[float] = []

    async def ask(session: aiohttp.ClientSession) -> bool:
        began_s, succeeded = time.perf_counter(), False
        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
            async with session.get(f"{url}/v1/wallet", headers={"Authorization": f"Bearer {token}"}) as response:
                await response.read()
                succeeded = response.status == 200
        taken_ms.append(1_000 * (time.perf_counter() - began_s))
        return succeeded

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S_MAX)) as session:
        asks = []
        for _ in range(int(seconds * ASKS_PER_S)):
            asks.append(asyncio.create_task(ask(session)))
            await asyncio.sleep(1 / ASKS_PER_S)
        succeeded = sum(await asyncio.gather(*asks))
    return Fared(len(asks), succeeded, sorted(taken_ms)[len(taken_ms) * 99 // 100])


async def beside(kind: str, url: str, token: str, seconds: float, measure: Callable[[], Awaitable[Fared]]) -> Fared:
    """Measure while a flood of that kind is on, and see to its end."""
    command = [sys.executable, "-m", "loadtest.bench.floods", url, kind, str(seconds), token]
    flood = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert flood.stdout is not None
    try:
        await flood.stdout.readline()  # every connection has been tried
        return await measure()
    finally:
        with contextlib.suppress(ProcessLookupError):
            flood.kill()
        await flood.wait()


class Flood:
    """One flood."""

    def __init__(self, url: str, token: str) -> None:
        address = urlsplit(url)
        assert address.hostname == "127.0.0.1", "floods go to loopback only"
        self._address = (address.hostname, address.port)
        self._bearer = b"authorization: Bearer " + token.encode() + b"\r\n"
        self._body = b'{"bursts":[' + b"1," * (FLOOD_BYTES // 2) + b"1]}"

    async def idle(self) -> None:
        """Say nothing."""
        await self._hold(b"")

    async def half(self) -> None:
        """Begin a body as a known user, and never end it."""
        await self._hold(_head("/v1/packets", self._bearer, 500) + b'{"kind":')

    async def flood(self) -> None:
        """Send a big body that proves nothing, again and again."""
        await self._repeat(_head("/v1/rains", b"", len(self._body)) + self._body)

    async def greedy(self) -> None:
        """Ask for one's wallet without a pause."""
        await self._repeat(b"GET /v1/wallet HTTP/1.1\r\nhost: x\r\n" + self._bearer + b"\r\n")

    async def _hold(self, said: bytes) -> None:
        while True:  # who is sent away comes again
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(*self._address)
                writer.write(said)
                while await reader.read(4_096):
                    pass
                writer.close()
            await asyncio.sleep(0.5)

    async def _repeat(self, said: bytes) -> None:
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
                reader, writer = await asyncio.open_connection(*self._address)
                try:
                    while True:
                        writer.write(said)
                        head = await reader.readuntil(b"\r\n\r\n")
                        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
                        await reader.readexactly(int(length))
                        await writer.drain()
                finally:
                    writer.close()
            await asyncio.sleep(0.01)


def _head(path: str, headers: bytes, length: int) -> bytes:
    start = b"POST %s HTTP/1.1\r\nhost: x\r\n" % path.encode()
    more = b"content-type: application/json\r\nidempotency-key: k\r\ncontent-length: %d\r\n\r\n" % length
    return start + headers + more


async def run(url: str, kind: str, seconds: float, token: str) -> None:
    """Flood for so long, then end."""
    flood = Flood(url, token)
    acts = {
        "idle": (flood.idle, IDLE),
        "halves": (flood.half, HALVES),
        "floods": (flood.flood, FLOODS),
        "greedy": (flood.greedy, GREEDY),
    }
    act, count = acts[kind]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(min(seconds, SECONDS_MAX)), asyncio.TaskGroup() as group:
            for number in range(count):
                group.create_task(act())
                if number % 100 == 99:
                    await asyncio.sleep(0.02)
            sys.stdout.write("begun\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4]))
