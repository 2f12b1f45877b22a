"""Batching: everything that waits for one host leaves in one call; while that call is under way the next one fills.

Laws: one call per host and replica at a time; queues are bounded, beyond them a caller is refused at once; a caller
that went away breaks nobody else's batch; an unknown outcome is repeated with the same identity until the parcel's
deadline, then told as `shard_unavailable`.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from actors.ledger.transfer import Refusal, Refused
from cluster.directory import Directory, Group, Reply, ShardUnavailable

log = logging.getLogger(__name__)

REPEAT_PAUSE_S = 0.05
"""Pause before a parcel whose outcome is unknown is sent again."""

UNAVAILABLE = Refused(Refusal.SHARD_UNAVAILABLE)
OVERLOADED = Refused(Refusal.OVERLOADED)


class Hosts(Protocol):
    """What a batcher needs of the directory."""

    async def ask_host(self, host: str, groups: Sequence[Group]) -> list[list[Reply]]: ...


class Parcel:
    """What one caller asks of one stream: it is answered as a whole."""

    __slots__ = ("commands", "deadline_s", "future", "size", "stream")

    def __init__(self, stream: str, commands: list[Any], deadline_s: float, size: int | None = None) -> None:
        """`size`: what the parcel counts for in queue and batch; None: its commands."""
        self.size = len(commands) if size is None else size
        self.stream = stream
        self.commands = commands
        self.deadline_s = deadline_s
        self.future: asyncio.Future[list[Reply]] = asyncio.get_running_loop().create_future()

    def answer(self, replies: list[Reply]) -> None:
        """Answer the caller, if it still waits."""
        if not self.future.done():
            self.future.set_result(replies)

    def refuse(self, refused: Refused) -> None:
        """Answer every command with the same refusal."""
        self.answer([refused] * len(self.commands))


Count = Callable[[Sequence[Parcel]], None]


def _uncounted(parcels: Sequence[Parcel]) -> None:
    """Count nothing."""


class Batcher:
    """The queue of one replica for one host."""

    def __init__(self, host: str, hosts: Hosts, *, queue_max: int, batch_max: int, count: Count = _uncounted) -> None:
        """`count` hears of every call's parcels as they leave the queue."""
        self._count = count
        self._host = host
        self._hosts = hosts
        self._queue_max = queue_max
        self._batch_max = batch_max
        self._parcels: deque[Parcel] = deque()
        self._queued = 0
        self._filled = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None

    def put(self, parcel: Parcel) -> None:
        """Queue a parcel, or refuse it at once if the queue is full."""
        if self._queued + parcel.size > self._queue_max:
            parcel.refuse(OVERLOADED)
            return
        self._queued += parcel.size
        self._parcels.append(parcel)
        self._filled.set()
        if self._sender is None or self._sender.done():
            self._sender = asyncio.get_running_loop().create_task(self._send(), name=f"batches to {self._host}")

    async def _send(self) -> None:
        while True:
            await self._filled.wait()
            parcels = self._take()
            if not parcels:
                self._filled.clear()
                continue
            self._count(parcels)
            try:
                await self._deliver(parcels)
            except Exception:  # our own bug must not leave callers waiting; nothing was decided here
                log.exception("a batch to %s failed", self._host)
                for parcel in parcels:
                    parcel.refuse(UNAVAILABLE)

    def _take(self) -> list[Parcel]:
        """Take parcels for one call, at least one and at most `batch_max` commands; drop those nobody waits for."""
        taken: list[Parcel] = []
        size = 0
        while self._parcels and (not taken or size + self._parcels[0].size <= self._batch_max):
            parcel = self._parcels.popleft()
            self._queued -= parcel.size
            if not parcel.future.done():
                taken.append(parcel)
                size += parcel.size
        return taken

    async def _deliver(self, parcels: list[Parcel]) -> None:
        groups: dict[str, list[Any]] = {}
        for parcel in parcels:
            groups.setdefault(parcel.stream, []).extend(parcel.commands)
        try:
            answers = dict(zip(groups, await self._hosts.ask_host(self._host, list(groups.items())), strict=True))
        except ShardUnavailable:
            answers = {stream: [UNAVAILABLE] * len(commands) for stream, commands in groups.items()}
        taken = dict.fromkeys(groups, 0)
        for parcel in parcels:
            start = taken[parcel.stream]
            taken[parcel.stream] = end = start + len(parcel.commands)
            replies = answers[parcel.stream][start:end]
            if replies[0] == UNAVAILABLE:
                self._repeat(parcel)
            else:
                parcel.answer(replies)

    def _repeat(self, parcel: Parcel) -> None:
        """Send the parcel again after a pause, or give up at its deadline."""
        loop = asyncio.get_running_loop()
        if loop.time() + REPEAT_PAUSE_S >= parcel.deadline_s:
            parcel.refuse(UNAVAILABLE)
        else:
            loop.call_later(REPEAT_PAUSE_S, self.put, parcel)


class Batching:
    """All batchers of one gateway replica."""

    def __init__(
        self, directory: Directory, *, queue_max: int, batch_max: int, deadline_ms: int, count: Count = _uncounted
    ) -> None:
        self._directory = directory
        self._make: Callable[[str], Batcher] = lambda host: Batcher(
            host, directory, queue_max=queue_max, batch_max=batch_max, count=count
        )
        self._batchers: dict[str, Batcher] = {}
        self._deadline_s = deadline_ms / 1000

    def post(self, stream: str, commands: list[Any], size: int | None = None) -> asyncio.Future[list[Reply]]:
        """Ask one stream; the future gives the replies in order. It never raises: trouble is a refusal.

        `size` counts the grabs where one command carries many.
        """
        host = self._directory.host_of(stream)
        batcher = self._batchers.get(host)
        if batcher is None:
            batcher = self._batchers[host] = self._make(host)
        parcel = Parcel(stream, commands, asyncio.get_running_loop().time() + self._deadline_s, size)
        batcher.put(parcel)
        return parcel.future

    async def ask(self, stream: str, command: Any) -> Reply:
        """Ask one stream one thing."""
        return (await self.post(stream, [command]))[0]
