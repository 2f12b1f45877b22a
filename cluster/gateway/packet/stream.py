"""Stream: the fast door. One long request of a chat gateway, grabs in and answers out, a line each, in any order.

Laws: every line is answered once, and only when its answer is durable; what a chunk brings is asked together, and
what is answered together leaves in one piece; chunks are read and asked while earlier ones are unanswered. A stream
holds at most `stream_inflight_max` unanswered lines, a line more is answered `overloaded`; while the client does not
read, nothing more is read. A stream that ends answers what is under way first and says why in a last line without
`id`: it was told to drain, it is old, its token has expired, or its body is not NDJSON. A client that went away takes
nothing along: its grabs share their batches with those of others, so they are asked to the end, and a repeat gets the
same answers.
"""

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from actors.kernel.quota import Bound, Counts, Part
from cluster.config import Settings
from cluster.gateway.dispatch.lane_fanout import CrowdReply
from cluster.gateway.middleware.serve_hooks import DRAINING
from cluster.gateway.packet.contract import LineId, StreamCode, StreamEnd, StreamGrab
from cluster.gateway.packet.grab_items import Asked, asked
from cluster.gateway.packet.ndjson import (
    LineCutter,
    is_object,
    read_grabs,
    write_codes,
    write_crowds,
    write_end,
)
from cluster.gateway.problems import NEVER_KEPT, Problem
from cluster.gateway.raw_http import Streamed
from cluster.gateway.request import Request
from cluster.sections import Streaming
from cluster.tokens import Claims

log = logging.getLogger(__name__)

DRAINED = StreamEnd("draining", "The replica ends, or the stream is old; open another and ask what is unanswered.")
EXPIRED = StreamEnd("unauthenticated", "The token has expired; open another stream with a fresh one.")
OVERLONG = StreamEnd("too_large", "A line is too long; send one grab a line.")
NONDJSON = StreamEnd("malformed", "The first line is not a JSON object; send one grab a line.")
NDJSON = "application/x-ndjson"
_FULL: dict[Part, str] = {
    "user": "The holder of this token has its part of this gateway's streams open; use one of those, or close one.",
    "tenant": "This tenant has its part of this gateway's streams open; use one of those, or close one.",
    "whole": "This gateway has too many streams; open it later.",
}
_AGES = 8
"""Streams that began together end at so many different ages."""


class Crowds(Protocol):
    """What streams need of the service of their replica."""

    def lets_in(self, tenant: str, users: list[str]) -> list[bool] | None:
        """Tell whose lines are let in now; None: everybody's."""
        ...

    async def crowds(self, wanted: dict[Asked, list[str]], tenant: str) -> dict[Asked, CrowdReply]:
        """Grab for many users of one tenant, given by packet."""
        ...


class _Group:
    """The grabs of one chunk that are asked together, by packet."""

    __slots__ = ("deadline_s", "ids", "size", "told", "wanted")

    def __init__(self, grabs: list[StreamGrab], deadline_s: float, platform_key: bytes) -> None:
        self.deadline_s = deadline_s
        self.size = len(grabs)
        self.told = False
        self.wanted: dict[Asked, list[str]] = {}
        self.ids: dict[Asked, list[LineId]] = {}
        for grab in grabs:
            what = asked(grab, platform_key)
            users = self.wanted.get(what)
            if users is None:
                self.wanted[what] = [grab.user]
                self.ids[what] = [grab.id]
            else:
                users.append(grab.user)
                self.ids[what].append(grab.id)

    def refusal(self, code: str) -> bytes:
        """Return the lines that refuse all of it."""
        return write_codes([StreamCode(name, code) for names in self.ids.values() for name in names])


class _Stream:
    """One stream. The task of its request reads; the groups' tasks ask and write, and outlive it if need be."""

    def __init__(
        self, settings: Settings, crowds: Crowds, platform_key: bytes, claims: Claims, until_s: float, send: Any
    ) -> None:
        """`until_s`: when the stream is old, on the loop's clock."""
        self._crowds = crowds
        self._claims = claims
        self._platform_key = platform_key
        self._until_s = until_s
        self._send = send
        self._inflight_max = settings.stream.stream_inflight_max
        self._group_max = settings.bounds.batch_size_max
        self._deadline_s = settings.timing.request_deadline_ms / 1000
        self._cutter = LineCutter(settings.stream.line_bytes_max)
        self._begun = False
        self._unanswered = 0
        """Lines asked whose answers were not yet sent."""
        self._owed = 0
        """Pieces of the response not yet sent: one a group, one for what is refused at once."""
        self._groups: deque[_Group] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._outgoing: list[bytes] = []
        self._outgoing_lines = 0
        self._writing = False
        self._written = asyncio.Event()
        self._reader: asyncio.Task[Any] | None = None
        self._gone = False
        self._end: StreamEnd | None = None

    async def serve(self, receive: Any) -> None:
        """Read until the body, the client or the stream ends; then answer what is under way."""
        try:
            await self._read_until_end(receive)
            if not self._gone:
                with suppress(TimeoutError):  # a client that does not read does not hold us
                    async with asyncio.timeout(self._deadline_s):
                        await self._finish()
        finally:
            self._gone = True

    def end(self, end: StreamEnd) -> None:
        """Read nothing more, whatever the reader waits for."""
        if self._end is None:
            self._end = end
            if self._reader is not None:
                self._reader.cancel()

    def look(self, now_s: float) -> None:
        """Answer the grabs whose outcome is still unknown at their deadline; end what is old or expired."""
        if now_s >= self._until_s:
            self.end(DRAINED)
        elif self._is_expired():
            self.end(EXPIRED)
        for group in self._groups:
            if group.deadline_s > now_s:
                break
            if not group.told:
                self._start(self._tell(group, group.refusal("shard_unavailable")))

    def _is_expired(self) -> bool:
        return time.time() >= self._claims.exp_s

    async def _read_until_end(self, receive: Any) -> None:
        self._reader = asyncio.current_task()
        assert self._reader is not None, "ASGI apps run in tasks"
        try:
            await self._read(receive)
        except asyncio.CancelledError:
            if self._end is None or self._reader.uncancel() > 0:
                raise  # not by `end`
        finally:
            self._reader = None

    async def _read(self, receive: Any) -> None:
        more = True
        while more and self._end is None:
            message = await receive()
            if message["type"] == "http.disconnect":
                self._gone = True
                return
            more = message.get("more_body", False)
            lines = self._cutter.cut(message.get("body", b""), last=not more)
            for start in range(0, len(lines), self._group_max):
                self._take(lines[start : start + self._group_max])
                await asyncio.sleep(0)  # it is asked, and others have their turn, before more is read
            if self._cutter.overlong:
                self._end = self._end or OVERLONG
            if self._writing:
                self._written.clear()
                await self._written.wait()

    def _take(self, lines: list[bytes]) -> None:
        """Ask for the grabs of these lines; answer at once what is none, or too much."""
        if not self._begun and not is_object(lines[0]):
            self._end = NONDJSON
        elif self._is_expired():
            self._end = EXPIRED
        if self._end is not None:
            return
        self._begun = True
        grabs, codes = read_grabs(lines)
        room = max(0, self._inflight_max - self._unanswered)
        if len(grabs) > room:
            codes += [StreamCode(grab.id, "overloaded") for grab in grabs[room:]]
            del grabs[room:]
        lets_in = self._crowds.lets_in(self._claims.tenant, [grab.user for grab in grabs])
        if lets_in is not None:
            codes += [StreamCode(grab.id, "overloaded") for grab, let in zip(grabs, lets_in, strict=True) if not let]
            grabs = [grab for grab, let in zip(grabs, lets_in, strict=True) if let]
        if grabs:
            group = _Group(grabs, asyncio.get_running_loop().time() + self._deadline_s, self._platform_key)
            self._groups.append(group)
            self._owed += 1
            self._unanswered += group.size
            self._start(self._ask(group))
        if codes:
            self._owed += 1
            self._start(self._write(write_codes(codes), 0))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ask(self, group: _Group) -> None:
        try:
            told = write_crowds(group.ids, await self._crowds.crowds(group.wanted, self._claims.tenant))
        except Problem as problem:
            told = group.refusal(problem.code)
        except Exception:  # our own bug must not leave lines unanswered; nothing was decided here
            log.exception("a group of %d grabs failed", group.size)
            told = group.refusal("internal")
        await self._tell(group, told)

    async def _tell(self, group: _Group, told: bytes) -> None:
        if group.told:
            return
        group.told = True
        while self._groups and self._groups[0].told:
            self._groups.popleft()
        await self._write(told, group.size)

    async def _write(self, told: bytes, lines: int) -> None:
        """Send an answer; one that comes while the client is slow to read leaves with the next piece."""
        self._outgoing.append(told)
        self._outgoing_lines += lines
        if self._writing:
            return
        self._writing = True
        try:
            while self._outgoing and not self._gone:
                pieces, lines = self._outgoing, self._outgoing_lines
                self._outgoing, self._outgoing_lines = [], 0
                await self._send({"type": "http.response.body", "body": b"".join(pieces), "more_body": True})
                self._unanswered -= lines
                self._owed -= len(pieces)
        except OSError:
            self._gone = True  # the reader hears of it by itself
        finally:
            self._writing = False
            self._written.set()

    async def _finish(self) -> None:
        while self._owed and not self._gone:
            self._written.clear()
            await self._written.wait()
        last = b"" if self._end is None else write_end(self._end)
        await self._send({"type": "http.response.body", "body": last, "more_body": False})


class Streams:
    """The streams of one replica."""

    def __init__(self, settings: Settings, crowds: Crowds, platform_key: bytes) -> None:
        self._settings = settings
        self._crowds = crowds
        self._platform_key = platform_key
        self._bounds: Streaming = settings.stream
        self._drain_file = settings.drain_file
        self._open: set[_Stream] = set()
        self._counts = Counts(Bound.of(self._bounds.streams_max, settings.fair.streams_max))
        self._serial = itertools.count()
        self._watch: asyncio.Task[None] | None = None

    async def open(self, request: Request) -> Streamed:
        """Return what serves one stream, at once after this. Raises Problem if this replica cannot hold it."""
        if request.scope.get("http_version") == "1.0":
            raise Problem("malformed", "A stream needs HTTP/1.1: nothing else sends lines as they come.")
        await self._admit(request.claims)
        return partial(self._serve, request)

    async def _serve(self, request: Request, send: Any) -> None:
        claims = request.claims
        stream = _Stream(self._settings, self._crowds, self._platform_key, claims, self._until_s(), send)
        self._open.add(stream)
        self._counts.add(claims.tenant, claims.user)
        if self._watch is None or self._watch.done():
            self._watch = asyncio.get_running_loop().create_task(self._look(DRAINING.get()), name="streams")
        try:
            # Before anything is read: a client need not write to learn that it may. The connection ends with the
            # stream, because its client may be in the middle of its body.
            begun = [(b"content-type", NDJSON.encode()), NEVER_KEPT, (b"connection", b"close")]
            await send({"type": "http.response.start", "status": 200, "headers": begun})
            await stream.serve(request.receive)
        finally:
            self._open.discard(stream)
            self._counts.remove(claims.tenant, claims.user)

    async def _admit(self, claims: Claims) -> None:
        """Refuse a stream that this replica cannot hold. Raises Problem."""
        if await self._is_draining(DRAINING.get()):
            raise Problem("draining", "This replica ends; open the stream again.")
        full = self._counts.full(claims.tenant, claims.user)
        if full is not None:
            raise Problem("overloaded", _FULL[full])

    def _until_s(self) -> float:
        """Return when a stream that opens now is old.

        Its age is bounded, because a proxy that was replaced cuts what outlives its own bound, and because a new
        replica gets its part of the streams only as they are opened again.
        """
        age_s = self._bounds.stream_age_ms_max / 1000 * (1 - next(self._serial) % _AGES / (4 * _AGES))
        return asyncio.get_running_loop().time() + age_s

    async def _look(self, ask_serve: Callable[[], Awaitable[bool]] | None) -> None:
        """While there are streams, look after their deadlines and for the end of this replica."""
        while self._open:
            await asyncio.sleep(self._bounds.stream_tick_ms / 1000)
            now_s = asyncio.get_running_loop().time()
            for stream in self._open:
                stream.look(now_s)
            if await self._is_draining(ask_serve):
                for stream in self._open:
                    stream.end(DRAINED)

    async def _is_draining(self, ask_serve: Callable[[], Awaitable[bool]] | None) -> bool:
        if self._drain_file and Path(self._drain_file).exists():  # noqa: ASYNC240 - of the local system, a stat
            return True
        return ask_serve is not None and await ask_serve()
