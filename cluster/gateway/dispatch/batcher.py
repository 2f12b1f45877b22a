"""Batching: everything that waits for one host leaves in one call; while that call is under way the next one fills.

Laws:
- one call per host and replica at a time, so that a saturated gateway leaves a shard free for settlement;
- queues are bounded, in all, for each packet and for each user and tenant (`actors.kernel.quota`), and packets take
  turns (`cluster.gateway.dispatch.fair_queue`): beyond a bound a caller is refused at once, and a crowd before one
  packet delays another packet by one call at most;
- a caller that went away breaks nobody else's batch; one whose deadline passes before its call leaves is refused
  without being sent;
- an unknown outcome is repeated with the same identity until the parcel's deadline, then told as `shard_unavailable`.

What a parcel waits until the call under way is back is the rhythm of the store and no sign of overload; what it waits
longer than that, because it did not fit, is its *queueing time* (see `cluster.gateway.middleware.overload_control`).
"""

import asyncio
import logging
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol

from actors.kernel.bounds import WHOLE, Percent
from actors.kernel.messages import Refused
from actors.kernel.quota import Bound, Counts
from actors.refusals import Refusal
from actors.transfers.funding import PacketFunded
from cluster.gateway.dispatch.fair_queue import FairQueue
from cluster.gateway.middleware.overload_control import BUCKETS_MS, Histogram
from cluster.runtime.directory import Directory, Group, Reply, ShardUnavailable

log = logging.getLogger(__name__)

REPEAT_PAUSE_S = 0.05
"""Pause before a parcel whose outcome is unknown is sent again."""

TURNS_A_CALL = 64
"""A turn of a lane is that part of a call: so many packets leave with one call even if all have crowds before them."""

CALLS_KEPT = 256
"""Calls whose time of leaving is remembered. Who has waited for more of them is judged by a later one."""

UNAVAILABLE = Refused(Refusal.SHARD_UNAVAILABLE)
OVERLOADED = Refused(Refusal.OVERLOADED)


class Hosts(Protocol):
    """What a batcher needs of the directory."""

    async def ask_host(self, host: str, groups: Sequence[Group]) -> list[list[Reply]]: ...


class BatchingTally:
    """What metrics want to know of all batchers of a replica. Numbers only grow.

    `batch_sizes`: items a call; `queueing_ms`: queueing time of each packet's first parcel in a call (above);
    `refused_full`: items refused because too much waited for the host, in all or of one user or tenant;
    `refused_packet_full`, `refused_late`: because too much waited for the packet, or too long; `gone`: items dropped
    because nobody waited any more; `repeated`: items sent again.
    """

    __slots__ = (
        "batch_sizes",
        "gone",
        "queueing_ms",
        "refused_full",
        "refused_late",
        "refused_packet_full",
        "repeated",
    )

    def __init__(self) -> None:
        self.batch_sizes = Histogram((1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000))
        self.queueing_ms = Histogram(BUCKETS_MS)
        self.refused_full = 0
        self.refused_packet_full = 0
        self.refused_late = 0
        self.gone = 0
        self.repeated = 0


class Parcel:
    """What one caller asks of one lane of one stream: it is answered as a whole."""

    __slots__ = ("calls_before", "commands", "deadline_s", "future", "lane", "owner", "sent", "size", "stream")

    def __init__(
        self,
        stream: str,
        commands: list[Any],
        deadline_s: float,
        size: int | None = None,
        lane: Hashable = None,
        future: "asyncio.Future[list[Reply]] | None" = None,
    ) -> None:
        """`size`: what the parcel counts for in queue and batch; None: its grabs. `lane` None: the stream's."""
        self.size = sum(map(size_of, commands)) if size is None else size
        self.stream = stream
        self.lane = stream if lane is None else lane
        self.owner = owner_of(commands[0])
        self.commands = commands
        self.deadline_s = deadline_s
        self.calls_before = 0
        self.sent = False
        self.future: asyncio.Future[list[Reply]] = future or asyncio.get_running_loop().create_future()

    def answer(self, replies: list[Reply]) -> None:
        """Answer the caller, if it still waits."""
        if not self.future.done():
            self.future.set_result(replies)

    def refuse(self, refused: Refused) -> None:
        """Answer every command with the same refusal."""
        self.answer([refused] * len(self.commands))


class _Whole:
    """A post whose commands wait in several lanes: answered when the last of its parts is."""

    __slots__ = ("future", "left", "replies")

    def __init__(self, count: int) -> None:
        self.future: asyncio.Future[list[Reply]] = asyncio.get_running_loop().create_future()
        self.replies: list[Any] = [None] * count
        self.left = count


class _Part(Parcel):
    """The commands of such a post that wait in one lane, and their places in it."""

    __slots__ = ("places", "whole")

    def __init__(
        self, whole: _Whole, places: list[int], stream: str, commands: list[Any], deadline_s: float, lane: Hashable
    ) -> None:
        super().__init__(stream, commands, deadline_s, None, lane, whole.future)
        self.whole = whole
        self.places = places

    def answer(self, replies: list[Reply]) -> None:
        """Put these answers in their places; the last part answers the caller, if it still waits."""
        whole = self.whole
        for place, reply in zip(self.places, replies, strict=True):
            whole.replies[place] = reply
        whole.left -= len(replies)
        if whole.left == 0 and not self.future.done():
            self.future.set_result(whole.replies)


class Batcher:
    """The queue of one replica for one host."""

    def __init__(
        self,
        host: str,
        hosts: Hosts,
        *,
        queue_max: int,
        batch_max: int,
        packet_queue_max: int | None = None,
        tally: BatchingTally | None = None,
        fair: Percent = WHOLE,
    ) -> None:
        """`packet_queue_max` None: a packet may take the whole queue. `fair`: what of it a user and a tenant may."""
        self._host = host
        self._hosts = hosts
        self._batch_max = batch_max
        self._tally = tally or BatchingTally()
        self._lanes: FairQueue[Parcel] = FairQueue(
            size_max=queue_max,
            lane_size_max=queue_max if packet_queue_max is None else packet_queue_max,
            turn_size=max(1, batch_max // TURNS_A_CALL),
        )
        self._held = Counts(Bound.of(queue_max, fair))
        self._filled = asyncio.Event()
        self._sender: asyncio.Task[None] | None = None
        self._pausing = 0
        self._calls = 0
        self._left_s = [0.0] * CALLS_KEPT
        self._queueing_us = 0
        self._queued = 0
        self._queueing_us_last = 0

    def put(self, parcel: Parcel) -> None:
        """Queue a parcel, or refuse it at once if there is no room for it."""
        if not self._lanes.has_room(self._pausing + parcel.size):
            self._tally.refused_full += parcel.size
            parcel.refuse(OVERLOADED)
        elif not self._lanes.lane_has_room(parcel.lane, parcel.size):
            self._tally.refused_packet_full += parcel.size
            parcel.refuse(OVERLOADED)
        elif (part := self._held.full(*parcel.owner, parcel.size)) is not None:
            self._tally.refused_full += parcel.size
            parcel.refuse(Refused(Refusal.OVERLOADED, part))
        else:
            self._queue(parcel)

    def queueing_us(self) -> int:
        """Return the average of each packet's first parcel's queueing time since this was asked last."""
        if self._queued:
            self._queueing_us_last = self._queueing_us // self._queued
            self._queueing_us = self._queued = 0
        elif not self._lanes.size:
            self._queueing_us_last = 0
        return self._queueing_us_last  # with parcels waiting and none gone, it is not better than it was

    def _queue(self, parcel: Parcel) -> None:
        parcel.calls_before = self._calls
        self._lanes.put(parcel)
        self._held.add(*parcel.owner, parcel.size)
        self._filled.set()
        if self._sender is None or self._sender.done():
            self._sender = asyncio.get_running_loop().create_task(self._send(), name=f"batches to {self._host}")

    async def _send(self) -> None:
        while True:
            await self._filled.wait()
            parcels = self._take()
            if not parcels:
                if not self._lanes.size:
                    self._filled.clear()
                continue
            try:
                await self._deliver(parcels)
            except Exception:  # our own bug must not leave callers waiting; nothing was decided here
                log.exception("a batch to %s failed", self._host)
                for parcel in parcels:
                    parcel.refuse(UNAVAILABLE)

    def _take(self) -> list[Parcel]:
        """Take parcels for one call; drop those nobody waits for, refuse those whose time is over."""
        taken, firsts = self._lanes.take(self._batch_max)
        now_s = asyncio.get_running_loop().time()
        parcels = []
        size = 0
        for parcel in taken:
            self._held.remove(*parcel.owner, parcel.size)
            if parcel.future.done():
                self._tally.gone += parcel.size
            elif now_s >= parcel.deadline_s:
                self._tally.refused_late += parcel.size
                parcel.refuse(UNAVAILABLE if parcel.sent else OVERLOADED)
            else:
                parcel.sent = True
                parcels.append(parcel)
                size += parcel.size
        if parcels:
            self._measure(firsts, now_s)
            self._tally.batch_sizes.add(size)
        return parcels

    def _measure(self, firsts: list[Parcel], now_s: float) -> None:
        """Write down how long each packet's first parcel queued: since the first call that left without it."""
        calls, queueing = self._calls, self._tally.queueing_ms
        for parcel in firsts:
            queued_us = 0
            if parcel.calls_before < calls:
                queued_us = round((now_s - self._left_s[parcel.calls_before % CALLS_KEPT]) * 1_000_000)
            self._queueing_us += queued_us
            queueing.add(queued_us // 1_000)
        self._queued += len(firsts)
        self._left_s[calls % CALLS_KEPT] = now_s
        self._calls = calls + 1

    async def _deliver(self, parcels: list[Parcel]) -> None:
        groups: dict[str, list[Any]] = {}
        for parcel in parcels:
            groups.setdefault(parcel.stream, []).extend(parcel.commands)
        try:
            answers = dict(zip(groups, await self._hosts.ask_host(self._host, list(groups.items())), strict=True))
        except ShardUnavailable:
            answers = {stream: [UNAVAILABLE] * len(commands) for stream, commands in groups.items()}
        except UnicodeEncodeError:
            if len(parcels) == 1:
                raise
            for parcel in parcels:  # one of them cannot be written down; nothing was sent, and the others go alone
                await self._deliver_alone(parcel)
            return
        taken = dict.fromkeys(groups, 0)
        for parcel in parcels:
            start = taken[parcel.stream]
            taken[parcel.stream] = end = start + len(parcel.commands)
            replies = answers[parcel.stream][start:end]
            if replies[0] == UNAVAILABLE:
                self._repeat(parcel)
            else:
                parcel.answer(replies)

    async def _deliver_alone(self, parcel: Parcel) -> None:
        try:
            await self._deliver([parcel])
        except UnicodeEncodeError:
            log.exception("a request to %s cannot be written down", self._host)
            parcel.refuse(UNAVAILABLE)

    def _repeat(self, parcel: Parcel) -> None:
        """Send the parcel again after a pause, or give up at its deadline.

        It is not refused for want of room: "overloaded" says that nothing was done, which nobody knows.
        """
        loop = asyncio.get_running_loop()
        if loop.time() + REPEAT_PAUSE_S >= parcel.deadline_s:
            parcel.refuse(UNAVAILABLE)
        else:
            self._tally.repeated += parcel.size
            self._pausing += parcel.size
            loop.call_later(REPEAT_PAUSE_S, self._resume, parcel)

    def _resume(self, parcel: Parcel) -> None:
        self._pausing -= parcel.size
        self._queue(parcel)


class Batching:
    """All batchers of one gateway replica. `tally` counts for them all."""

    def __init__(
        self,
        directory: Directory,
        *,
        queue_max: int,
        batch_max: int,
        deadline_ms: int,
        packet_queue_max: int | None = None,
        fair: Percent = WHOLE,
    ) -> None:
        self.tally = BatchingTally()
        self._directory = directory
        self._make: Callable[[str], Batcher] = lambda host: Batcher(
            host,
            directory,
            queue_max=queue_max,
            batch_max=batch_max,
            packet_queue_max=packet_queue_max,
            tally=self.tally,
            fair=fair,
        )
        self._batchers: dict[str, Batcher] = {}
        self._deadline_s = deadline_ms / 1000

    def post(self, stream: str, commands: list[Any], size: int | None = None) -> asyncio.Future[list[Reply]]:
        """Ask one stream; the future gives the replies in order. It never raises: trouble is a refusal.

        `size` counts the grabs where one command carries many. Commands of several packets are answered together,
        and refused one packet without the other.
        """
        assert commands, "a caller asks something"
        host = self._directory.host_of(stream)
        batcher = self._batchers.get(host)
        if batcher is None:
            batcher = self._batchers[host] = self._make(host)
        deadline_s = asyncio.get_running_loop().time() + self._deadline_s
        if len(commands) == 1:
            parcel = Parcel(stream, commands, deadline_s, size, lane_of(stream, commands[0]))
            batcher.put(parcel)
            return parcel.future
        places: dict[Hashable, list[int]] = {}
        for place, command in enumerate(commands):
            places.setdefault(lane_of(stream, command), []).append(place)
        if len(places) == 1:
            parcel = Parcel(stream, commands, deadline_s, size, next(iter(places)))
            batcher.put(parcel)
            return parcel.future
        whole = _Whole(len(commands))
        for lane, at in places.items():
            batcher.put(_Part(whole, at, stream, [commands[place] for place in at], deadline_s, lane))
        return whole.future

    async def ask(self, stream: str, command: Any) -> Reply:
        """Ask one stream one thing."""
        return (await self.post(stream, [command]))[0]

    def queueing_us(self) -> int:
        """Return the same for the host where it was longest."""
        return max((batcher.queueing_us() for batcher in self._batchers.values()), default=0)


def lane_of(stream: str, command: Any) -> Hashable:
    """Name the lane of a command: its packet's, else its user's, else the stream's."""
    packet_id: Hashable = getattr(command, "packet_id", None)
    if packet_id is not None:
        return packet_id
    funding: PacketFunded | None = getattr(command, "funding", None)
    if funding is not None:
        return funding.packet_id
    user = getattr(command, "user", None)
    return stream if user is None else (command.tenant, user)


def owner_of(command: Any) -> tuple[str, str]:
    """Return whose place a command takes: (tenant, user); empty where it is nobody's in particular."""
    funding: PacketFunded | None = getattr(command, "funding", None)
    if funding is not None:
        return funding.tenant, funding.sender
    return getattr(command, "tenant", ""), getattr(command, "user", "")


def size_of(command: Any) -> int:
    """Count the grabs in a command; any other counts for one."""
    users = getattr(command, "users", None)
    return 1 if users is None else len(users)
