"""Pipeline: one connection to the store, shared by many callers. Commands of one event-loop tick leave in one write.

Full duplex: the next write does not wait for the answers to the last. Answers come in the order of the commands, so
each is matched to its caller's future; one failing command fails its caller only, a broken connection fails everybody
who was sent, and the next call connects anew. Nothing is ever sent twice. A caller that is cancelled leaves its answer
to be dropped; the connection stays in step, because only the line's own tasks touch it.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as StoreConnectionError
from redis.exceptions import RedisError, ResponseError
from redis.exceptions import TimeoutError as StoreTimeoutError

UNANSWERED_MAX = 1_024
"""Commands sent or waiting to be sent. A journal has one append and one confirmation at a time."""


class _Call(NamedTuple):
    command: tuple[str | bytes | int, ...]
    answer: asyncio.Future[Any]
    deadline_s: float


class Pipeline:
    """Belongs to the event loop that first calls it. Connects when called."""

    def __init__(self, make_connection: Callable[[], AbstractConnection], timeout_ms: int) -> None:
        """Take a factory of connections without timeouts of their own: the line keeps time itself."""
        self._make_connection = make_connection
        self._timeout_s = timeout_ms / 1_000
        self._outbox: list[_Call] = []
        self._sent: deque[_Call] = deque()
        self._wake = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._broken: Exception | None = None

    def call(self, *command: str | bytes | int) -> asyncio.Future[Any]:
        """Send a command; the future gets the store's answer, or a redis.RedisError.

        Raises redis.ConnectionError at once if too many are unanswered.
        """
        if len(self._outbox) + len(self._sent) >= UNANSWERED_MAX:
            raise StoreConnectionError(f"{UNANSWERED_MAX} commands are unanswered")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        deadline_s = loop.time() + self._timeout_s
        self._outbox.append(_Call(command, answer, deadline_s))
        self._wake.set()
        if self._serving is None:
            self._serving = loop.create_task(self._serve(), name="journal line")
        if self._timer is None:
            self._timer = loop.call_at(deadline_s, self._overdue)
        return answer

    async def close(self) -> None:
        """Disconnect; callers that still wait get a redis.ConnectionError."""
        self._outbox, unsent = [], self._outbox
        _fail(unsent, StoreConnectionError("the line was closed"))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._serving is not None:
            self._break(StoreConnectionError("the line was closed"))
            await asyncio.wait([self._serving])

    async def _serve(self) -> None:
        """Serve one connection until it breaks, then leave; a call not yet sent begins the next one."""
        self._broken = None
        connection = self._make_connection()
        reader: asyncio.Task[None] | None = None
        try:
            try:
                async with asyncio.timeout(self._timeout_s):
                    await connection.connect()
            except (RedisError, OSError, asyncio.CancelledError) as error:
                self._outbox, unsent = [], self._outbox
                _fail(unsent, self._broken or error)
                return
            reader = asyncio.create_task(self._read(connection), name="journal line reader")
            reader.add_done_callback(self._reader_ended)
            await self._write(connection)
        except (RedisError, OSError) as error:
            self._broken = self._broken or error
        except asyncio.CancelledError:
            if self._broken is None:  # the event loop is ending
                self._broken = StoreConnectionError("the line was cancelled")
        finally:
            if reader is not None:
                reader.remove_done_callback(self._reader_ended)
                reader.cancel()
            failed = list(self._sent)
            self._sent.clear()
            _fail(failed, self._broken or StoreConnectionError("the connection was lost"))
            self._serving = asyncio.create_task(self._serve(), name="journal line") if self._outbox else None
            await connection.disconnect(nowait=True)

    async def _write(self, connection: AbstractConnection) -> None:
        while True:
            while self._outbox:
                batch, self._outbox = self._outbox, []
                self._sent.extend(batch)
                packed = connection.pack_commands([call.command for call in batch])
                await connection.send_packed_command(packed, check_health=False)
            self._wake.clear()
            await self._wake.wait()

    async def _read(self, connection: AbstractConnection) -> None:
        while True:
            try:
                answer = await connection.read_response(timeout=math.inf, disconnect_on_error=False)
            except ResponseError as refusal:
                answer = refusal
            if not self._sent:
                raise StoreConnectionError("the store sent an answer that nobody had asked for")
            waiter = self._sent.popleft().answer
            if waiter.done():
                continue
            if isinstance(answer, ResponseError):
                waiter.set_exception(answer)
            else:
                waiter.set_result(answer)

    def _reader_ended(self, reader: asyncio.Task[None]) -> None:
        error = None if reader.cancelled() else reader.exception()
        self._break(error if isinstance(error, Exception) else StoreConnectionError("the reader was cancelled"))

    def _break(self, error: Exception) -> None:
        if self._serving is not None and self._broken is None:
            self._broken = error
            self._serving.cancel()

    def _overdue(self) -> None:
        """Break the connection if its oldest call is over its deadline: what comes after is behind it."""
        self._timer = None
        waiting = self._sent or self._outbox
        if not waiting:
            return
        loop = asyncio.get_running_loop()
        if waiting[0].deadline_s <= loop.time():
            self._break(StoreTimeoutError(f"no answer within {self._timeout_s:g} s"))
            return
        self._timer = loop.call_at(waiting[0].deadline_s, self._overdue)


def _fail(calls: list[_Call], error: BaseException) -> None:
    for call in calls:
        if not call.answer.done():
            call.answer.set_exception(
                error if isinstance(error, Exception) else StoreConnectionError("the connection was not made")
            )
