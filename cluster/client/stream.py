"""Stream: grabs over `POST /v1/grabs/stream`, NDJSON both ways, on one connection after the other.

- A line gets one answer. Whenever a stream ends (it drained, was cut, fell silent) another is opened and what is
  unanswered is asked again with the same identity, packet and user: the platform gives the same answer.
- `ask` is the fast way: a callback a line, no task and no timer a line; lines asked in one turn leave in one piece.
  `grab` and `grabs` wait, and ask again what was refused for now, up to the deadline.
- Bounded: at most `inflight_max` lines are unanswered, and nothing is asked while the network does not take more.
- An answer is a value. A line without an answer at its deadline gets `no_answer`: it may have taken effect.
"""

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec

from cluster.client.chunked import LAST_CHUNK, Dechunker, chunk
from cluster.client.orders import GrabOrder
from cluster.client.problems import NO_ANSWER, RETRYABLE_ITEM_CODES, UNKNOWN_CODES, ApiProblem, problem_of
from cluster.client.transport import Backoff, Chance

PATH = "/v1/grabs/stream"
LOOK_S = 0.25
"""How often the client looks for lines past their deadline and for a stream that fell silent."""

HEAD_BYTES_MAX = 65_536


class LineAnswer(msgspec.Struct, frozen=True, gc=False):
    """The answer to a line: a share, or a `code`. A stream's last line has no `id`."""

    id: int | str | msgspec.UnsetType | None = msgspec.UNSET
    amount_fen: int = 0
    rank: int = 0
    replayed: bool = False
    code: str = ""
    detail: str = ""

    @property
    def unknown(self) -> bool:
        """Whether the grab may have taken effect."""
        return self.code in UNKNOWN_CODES


Sink = Callable[[LineAnswer], None]


class _GrabLine(msgspec.Struct, gc=False, omit_defaults=True):
    id: int
    packet_id: str
    user: str
    passphrase: str | None = None
    group: str | None = None


_ENCODE_LINES = msgspec.json.Encoder().encode_lines
_DECODE_LINES = msgspec.json.Decoder(LineAnswer).decode_lines
_NOBODY = ApiProblem(0, NO_ANSWER, retryable=True, unknown=True)


class _Wire(asyncio.Protocol):
    """One stream: its connection, the head of its response, its lines."""

    def __init__(self, head: bytes, opened: Callable[["_Wire"], None], heard: Callable[[bytes], None]) -> None:
        self._request_head = head
        self._opened = opened
        self._heard = heard
        self._head = b""
        self._status = 0
        self._body = Dechunker()
        self._refusal = b""
        self._rest = b""
        self.transport: Any = None
        self.paused = False
        self.heard_s = time.monotonic()
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def problem(self) -> ApiProblem | None:
        """Why the stream was refused; None if it was opened."""
        if self._status == 200:
            return None
        return problem_of(self._status, self._refusal, "") if self._status else _NOBODY

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.transport.write(self._request_head)
        self._opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False

    def write(self, lines: bytes) -> None:
        """Send lines as one chunk."""
        self.transport.write(chunk(lines))

    def end_body(self) -> None:
        """Say that no line will follow."""
        self.transport.write(LAST_CHUNK)

    def data_received(self, data: bytes) -> None:
        self.heard_s = time.monotonic()
        if not self._status:
            self._head += data
            head, found, data = self._head.partition(b"\r\n\r\n")
            if not found:
                if len(self._head) > HEAD_BYTES_MAX:
                    self.transport.abort()
                return
            self._status = int(head[9:12])
        if self._status != 200:  # a refusal: its connection ends with it
            self._refusal += data
            if self._refusal.endswith(b"}"):
                self.transport.abort()
            return
        try:
            content = self._body.feed(data)
        except ValueError:
            self.transport.abort()
            return
        whole, line_end, self._rest = (self._rest + content).rpartition(b"\n")
        if line_end:
            self._heard(whole)
        if self._body.ended:
            self.transport.close()


class GrabStream:
    """One gateway's grabs: a stream, and the next when it ends. Use it as an async context."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        inflight_max: int = 2_000,
        deadline_s: float = 30.0,
        silence_s: float = 15.0,
        chance: Chance = random.random,
    ) -> None:
        """Prepare for the platform at `url`, e.g. "http://127.0.0.1:8000", with a gateway's token.

        `inflight_max` is at most the platform's `stream_inflight_max`; a stream that says nothing for `silence_s`
        while lines are unanswered is given up (the platform answers each within its own deadline).
        """
        place = urlsplit(url)
        self._place = (place.hostname or "127.0.0.1", place.port or 80)
        self._head = (
            f"POST {PATH} HTTP/1.1\r\nHost: {place.netloc}\r\nAuthorization: Bearer {token}\r\n"
            "Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
        ).encode()
        self._inflight_max = inflight_max
        self._deadline_s = deadline_s
        self._silence_s = silence_s
        self._ids = itertools.count(1)
        self._chance = chance
        self._asked: dict[int, tuple[_GrabLine, Sink, float]] = {}
        self._unsent: list[_GrabLine] = []
        self._wire: _Wire | None = None
        self._flushing = False
        self._hearing = False
        self._backoff: Backoff | None = None
        """The pauses before a stream is opened; an answer ends them."""
        self._answered = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.refused = ""
        """The code with which the platform refused to open a stream for good; every line is told it."""
        self.streams = 0
        self.repeats = 0
        """Lines asked again on another stream."""

    async def __aenter__(self) -> Self:
        """Open the first stream in the background."""
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._renew()), loop.create_task(self._look())]
        return self

    async def __aexit__(self, *exc_details: object) -> None:
        """Wait until every line is told its answer, end the body, and close."""
        while self._asked:
            await self._an_answer()
        wire = self._wire
        if wire is not None and not wire.done.done():
            wire.end_body()
            await asyncio.wait([wire.done], timeout=LOOK_S)
        for task in self._tasks:
            task.cancel()
        if self._wire is not None:
            self._wire.transport.abort()

    @property
    def room(self) -> int:
        """How many lines may be asked now."""
        if self._wire is not None and self._wire.paused:
            return 0
        return self._inflight_max - len(self._asked)

    @property
    def unanswered(self) -> int:
        """How many lines have no answer yet."""
        return len(self._asked)

    def ask(self, grab: GrabOrder, sink: Sink) -> None:
        """Ask a line; `sink` gets the answer. Only where there is `room`."""
        assert len(self._asked) < self._inflight_max, "ask where there is room"
        number = next(self._ids)
        if self.refused:
            sink(LineAnswer(number, code=self.refused))
            return
        was_idle = not self._asked
        line = _GrabLine(number, grab.packet_id, grab.user, grab.passphrase, grab.group)
        self._asked[number] = (line, sink, time.monotonic())
        self._unsent.append(line)
        if self._hearing or self._flushing:
            return  # leaves with the others of this turn
        if was_idle:
            self._flush()
        else:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    async def grab(self, packet_id: str, user: str) -> LineAnswer:
        """Grab a share; a refusal for now is asked again until the deadline."""
        return (await self.grabs([GrabOrder(packet_id, user)]))[0]

    async def grabs(self, grabs: Sequence[GrabOrder]) -> list[LineAnswer]:
        """Grab for many; return the answers in the same order."""
        ends_s, backoff = time.monotonic() + self._deadline_s, Backoff(self._chance)
        answers = [LineAnswer(code=NO_ANSWER)] * len(grabs)
        places = list(range(len(grabs)))
        while True:
            await self._ask_all(grabs, places, answers)
            places = [place for place in places if answers[place].code in RETRYABLE_ITEM_CODES]
            pause_s = backoff.pause_s()
            if not places or time.monotonic() + pause_s >= ends_s:
                return answers
            await asyncio.sleep(pause_s)

    async def _ask_all(self, grabs: Sequence[GrabOrder], places: list[int], answers: list[LineAnswer]) -> None:
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        left = len(places)

        def sink_of(place: int) -> Sink:
            def sink(answer: LineAnswer) -> None:
                nonlocal left
                answers[place] = answer
                left -= 1
                if not left and not done.done():
                    done.set_result(None)

            return sink

        for place in places:
            while self.room <= 0:
                await self._an_answer()
            self.ask(grabs[place], sink_of(place))
        if left:
            await done

    async def _an_answer(self) -> None:
        """Wait until something may have changed."""
        self._answered.clear()
        with_bound = asyncio.get_running_loop().call_later(LOOK_S, self._answered.set)
        await self._answered.wait()
        with_bound.cancel()

    def _flush(self) -> None:
        self._flushing = False
        if self._unsent and self._wire is not None:
            lines, self._unsent = self._unsent, []
            self._wire.write(_ENCODE_LINES(lines))

    def _heard(self, lines: bytes) -> None:
        """Pass answers on; what is asked meanwhile leaves in one piece."""
        self._hearing = True
        asked = self._asked
        try:
            for answer in _DECODE_LINES(lines):
                if type(answer.id) is int:
                    found = asked.pop(answer.id, None)
                    if found is not None:
                        self._backoff = None
                        found[1](answer)
                elif answer.id is msgspec.UNSET:
                    self._leave()
        finally:
            self._hearing = False
            self._answered.set()
            self._flush()

    def _opened(self, wire: _Wire) -> None:
        """Ask what is unanswered on a new stream."""
        self.streams += 1
        self._wire = wire
        lines = [line for line, _, _ in self._asked.values()]
        self.repeats += len(lines) - len(self._unsent)
        self._unsent = lines
        self._flush()

    def _leave(self) -> None:
        """Give up the stream; the next takes over what is unanswered."""
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.transport.abort()

    async def _renew(self) -> None:
        """Open a stream whenever there is none."""
        loop = asyncio.get_running_loop()
        while not self.refused:
            problem: ApiProblem | None = _NOBODY
            try:
                _, wire = await loop.create_connection(
                    lambda: _Wire(self._head, self._opened, self._heard), *self._place
                )
                await asyncio.shield(wire.done)
                problem = wire.problem
            except OSError:
                pass  # nobody listens now
            self._wire = None
            if problem is not None and not problem.retryable:
                self.refused = problem.code
                self._give_up(problem.code, float("inf"))
            if problem is None and self._backoff is None:  # it has served: the next is opened at once
                self._backoff = Backoff(self._chance)
                continue
            self._backoff = self._backoff or Backoff(self._chance)
            await asyncio.sleep(self._backoff.pause_s(problem.retry_after_ms if problem is not None else 0))

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            now_s = time.monotonic()
            self._give_up(NO_ANSWER, now_s - self._deadline_s)
            wire = self._wire
            if wire is not None and self._asked:
                oldest_s = next(iter(self._asked.values()))[2]
                if max(wire.heard_s, oldest_s) < now_s - self._silence_s:
                    self._leave()

    def _give_up(self, code: str, asked_before_s: float) -> None:
        """Tell lines asked before then that there is no answer."""
        late = list(itertools.takewhile(lambda asked: asked[1][2] < asked_before_s, self._asked.items()))
        for number, (_, sink, _) in late:
            del self._asked[number]
            sink(LineAnswer(number, code=code))
        if late:
            unanswered = self._asked
            self._unsent = [line for line in self._unsent if line.id in unanswered]
            self._answered.set()
