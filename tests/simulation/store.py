"""Store: the memory journals as a server that others reach over a wire, with fsync, crashes and everything that fails.

The server works as Redis does with `appendfsync always`: in one turn it executes all requests that have come, then
syncs once, then answers. So nobody ever hears of an effect that is not on disk, and a crash in a turn takes back what
was executed in it (or not: the disk may have it, and nobody was told).

The code that executes a request is `tests.simulation.memory_journal`, in the server's process: a request that was sent
takes effect whatever becomes of its sender, perhaps after the sender gave up, and half of a dead sender's are lost with
him.
"""

import asyncio
import copy
import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from random import Random
from typing import Any

from actors.kernel.errors import JournalFull, JournalUnavailable
from actors.kernel.ports import Position, Sealed
from cluster.journal.codec import Codec
from cluster.journal.owner import OwnedJournal
from cluster.journal.side_store import SideStore
from cluster.journal.snapshot import READ_CHUNK
from tests.simulation.loop import InstantLoop, Process
from tests.simulation.memory_journal import MemoryJournals, OperationName

REFUSED_US = 1_000
"""After so long a connection to a store that is down is refused."""

WIRE_US = (50, 250)
SYNC_US = (200, 800)


class Weather:
    """What befalls requests to the store at present. Probabilities are for one request."""

    def __init__(self) -> None:
        self.request_lost = 0.0
        self.answer_lost = 0.0
        self.repeated = 0.0
        """Whose answer the client library misses, and asks again by itself."""
        self.slow = 1
        """Factor on every delay."""
        self.full = False


class _Turn:
    """What the server executes together."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[None]] = []
        self.writes = False


class _Served:
    """One operation at the server: its turn comes, it takes effect (the body), the turn is synced."""

    __slots__ = ("_name", "_store", "_turn")

    def __init__(self, store: "Store", name: OperationName) -> None:
        self._store = store
        self._name = name

    async def __aenter__(self) -> None:
        store = self._store
        self._turn = await store.admitted()
        if self._name not in ("read", "confirm"):
            if store.weather.full:
                raise JournalFull("out of memory") if self._name == "append" else JournalUnavailable("out of memory")
            self._turn.writes = True

    async def __aexit__(self, *_: object) -> None:
        synced = asyncio.get_running_loop().create_future()
        self._turn.waiting.append(synced)
        await synced


class Store(MemoryJournals):
    """The one store of a system."""

    def __init__(self, loop: InstantLoop, codec: Codec, random: Random, timeout_us: int) -> None:
        super().__init__(codec)
        self._on_disk = [name for name in vars(self) if name not in ("codec", "history", "_faults", "_gates")]
        self.weather = Weather()
        self.loop = loop
        self.random = random
        self.timeout_us = timeout_us
        self.process = loop.process("store")
        self.running = True
        self.synced: Callable[[], None] = lambda: None
        """Called when what was written has become durable, before anybody hears of it."""
        self.crashed: Callable[[], None] = lambda: None
        self._doomed: bool | None = None
        self._saved: dict[str, Any] = {}
        self._inbox: list[asyncio.Future[_Turn]] = []
        self._busy = False
        self._turn = _Turn()
        self._requests: dict[asyncio.Future[Any], Process] = {}

    def operation(self, name: OperationName, stream: str, position: Position | None = None) -> Any:
        """Serve one operation in a turn of the server."""
        return _Served(self, name)

    # Turns.

    def admitted(self) -> "asyncio.Future[_Turn]":
        """Wait for the next turn."""
        admitted = self.loop.create_future()
        self._inbox.append(admitted)
        if not self._busy:
            self._busy = True
            self.loop.in_process(self.process, 0, self._execute)
        return admitted

    def _execute(self) -> None:
        self._turn = turn = _Turn()
        inbox, self._inbox = self._inbox, []
        if self._doomed is not None:
            self._saved = copy.deepcopy({name: vars(self)[name] for name in self._on_disk})
        for admitted in inbox:
            if not admitted.done():
                admitted.set_result(turn)
        self.loop.call_soon(self._sync, turn, context=self.process.context)  # behind all effects of this turn

    def _sync(self, turn: _Turn) -> None:
        delay_us = self._delay_us(SYNC_US) if turn.writes else 0
        if turn.writes and self._doomed is not None:
            self.loop.in_process(self.process, delay_us // 2, self._crash, turn)
        else:
            self.loop.in_process(self.process, delay_us, self._end_turn, turn)

    def _end_turn(self, turn: _Turn) -> None:
        if turn.writes:
            self.synced()
        for waiting in turn.waiting:
            if not waiting.done():
                waiting.set_result(None)
        if self._inbox:
            self._execute()
        else:
            self._busy = False

    # Crashes.

    def doom(self, *, loses: bool) -> None:
        """Let the next turn that writes end in a crash before its sync is over; `loses`: the disk has none of it."""
        self._doomed = loses

    def _crash(self, turn: _Turn) -> None:
        if self._doomed is None:  # it was healed meanwhile
            self._end_turn(turn)
            return
        if self._doomed:
            vars(self).update(self._saved)
        else:
            self.synced()
        self._saved = {}
        self._doomed = None
        self.running = False
        self._inbox, self._busy = [], False
        for answer, client in self._requests.items():
            self.loop.in_process(client, REFUSED_US, _fail, answer, "the connection was reset")
        self._requests = {}
        self.crashed()
        self.loop.kill(self.process)

    def restart(self) -> None:
        """Run again on what is on disk."""
        if not self.running:
            self.process = self.loop.process("store")
            self.running = True
        self._doomed = None

    # Requests.

    async def ask(self, client: Process, request: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Send a request from a client's process and wait for its answer. Raises what it raises, JournalUnavailable."""
        loop, weather = self.loop, self.weather
        answer = loop.create_future()
        if not self.running:
            loop.in_process(client, REFUSED_US, _fail, answer, "the connection was refused")
            return await answer
        self._requests[answer] = client
        late = loop.in_process(client, self.timeout_us, _fail, answer, "no answer in time")
        if weather.request_lost and self.random.random() < weather.request_lost:
            self._reset(client, answer)
        else:
            loop.in_process(self.process, self._delay_us(WIRE_US), self._arrive, client, request, answer)
        try:
            return await answer
        finally:
            late.cancel()
            self._requests.pop(answer, None)

    def _arrive(self, client: Process, request: Callable[[], Coroutine[Any, Any, Any]], answer: Any) -> None:
        if client.alive or self.random.random() < 0.5:  # a dead sender's last bytes may have left him
            self.loop.spawn(self.process, self._serve(client, request, answer))

    async def _serve(self, client: Process, request: Callable[[], Coroutine[Any, Any, Any]], answer: Any) -> None:
        outcome = await _outcome(request())
        weather = self.weather
        if weather.repeated and self.random.random() < weather.repeated:
            outcome = await _outcome(request())
        if weather.answer_lost and self.random.random() < weather.answer_lost:
            self._reset(client, answer)
        else:
            self.loop.in_process(client, self._delay_us(WIRE_US), _settle, answer, *outcome)

    def _reset(self, client: Process, answer: Any) -> None:
        """A message is lost: half of the time the sender learns it at once, else when his patience ends."""
        if self.random.random() < 0.5:
            self.loop.in_process(client, self._delay_us(WIRE_US), _fail, answer, "the connection was reset")

    def _delay_us(self, bounds: tuple[int, int]) -> int:
        low, high = bounds
        return (low + int(self.random.random() * (high - low))) * self.weather.slow


async def _outcome(request: Coroutine[Any, Any, Any]) -> tuple[Any, Exception | None]:
    try:
        return await request, None
    except Exception as failure:
        return None, failure


def _settle(answer: "asyncio.Future[Any]", outcome: Any, failure: Exception | None) -> None:
    if answer.done():
        return
    if failure is None:
        answer.set_result(outcome)
    else:
        answer.set_exception(failure)


def _fail(answer: "asyncio.Future[Any]", why: str) -> None:
    _settle(answer, None, JournalUnavailable(f"the store: {why}"))


def _step(name: str) -> Any:
    """Return the method that asks the store for one step of the shelf."""

    async def step(self: "Connection", *arguments: Any) -> Any:
        return await self.ask(lambda: getattr(self._store, name)(*arguments))

    return step


_Steps: Any = type("_Steps", (SideStore,), {name: _step(name) for name in sorted(SideStore.__abstractmethods__)})


class Connection(_Steps):  # type: ignore[misc]
    """The store as one process reaches it: `actors.kernel.ports.Journals`, and the side store, a request per step."""

    def __init__(self, store: Store, process: Process) -> None:
        self.codec = store.codec
        self._store = store
        self._process = process

    def ask(self, request: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        """Return an awaitable of one request."""
        return self._store.ask(self._process, request)

    def open(self, stream: str) -> "RemoteJournal":
        """Return a fresh journal object for one activation of the stream."""
        return RemoteJournal(self, self._store, stream)

    async def read(
        self, stream: str, after: Position | None, through: Position | None, chunk: int = READ_CHUNK
    ) -> AsyncIterator[tuple[Position, bytes]]:
        """Yield the elements after one position through another, a request for each chunk."""
        while True:
            found = await self.ask(functools.partial(self._chunk, stream, after, through, chunk))
            for element in found:
                yield element
            if len(found) < chunk:
                return
            after = found[-1][0]

    async def _chunk(
        self, stream: str, after: Position | None, through: Position | None, chunk: int
    ) -> list[tuple[Position, bytes]]:
        found: list[tuple[Position, bytes]] = []
        async for element in self._store.read(stream, after, through, chunk):
            found.append(element)
            if len(found) == chunk:
                break
        return found

    async def last_position(self, stream: str) -> Position | None:
        """Return the greatest id the stream ever had."""
        last: Position | None = await self.ask(lambda: self._store.last_position(stream))
        return last

    async def clock_offset_ms(self) -> int:
        """Return the offset of the sandbox clock."""
        return int(await self.ask(self._store.clock_offset_ms))

    async def advance_clock(self, ms: int, *, offset_ms_max: int) -> int | None:
        """Move the sandbox clock forward."""
        offset_ms: int | None = await self.ask(lambda: self._store.advance_clock(ms, offset_ms_max=offset_ms_max))
        return offset_ms


class RemoteJournal(OwnedJournal):
    """Implements `actors.kernel.ports.Journal`: the platform's rules, each step of the store's asked over the wire."""

    def __init__(self, connection: Connection, store: Store, stream: str) -> None:
        super().__init__(stream, connection, connection.codec)
        self._connection = connection
        self._there = store.open(stream)

    async def _fence(self, host: str) -> tuple[Position | None, Position]:
        before, fence = await self._connection.ask(lambda: self._there._fence(host))
        return before, fence

    async def _append(self, sealed: Sealed) -> None:
        await self._connection.ask(lambda: self._there._append(sealed))

    async def _last_id(self) -> Position | None:
        last: Position | None = await self._connection.ask(self._there._last_id)
        return last
