"""Client: one of many equal ones: a user with a connection of its own, a request made beforehand, and a clock.

What it is asked to lose is lost as on a bad line: `CUT` closes the connection once the request is written, `UNREAD`
throws away an answer that did come (and remembers it, to hold the repeat against). Instants in seconds of
`time.perf_counter`.
"""

import asyncio
import time
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from cluster.client import BROKEN_CONTRACT, NO_ANSWER, GrabAnswer, problem_of
from loadtest.bench.wire import http_request

CUT, UNREAD = "cut", "unread"
TRIES_MAX = 40
PAUSE_S_MIN, PAUSE_S_MAX = 0.05, 1.0
ATTEMPT_S = 15.0
_TAKEN = msgspec.json.Decoder(GrabAnswer)


class DefiniteAnswer(NamedTuple):
    """A definite answer. `rank` 0: no share, for the reason in `code`. `served_by`: the replica that answered."""

    rank: int
    amount_fen: int
    replayed: bool
    code: str
    served_by: str

    @property
    def place(self) -> tuple[int, int]:
        """Return rank and share, which no repeat may change."""
        return self.rank, self.amount_fen


class Fired(NamedTuple):
    """What became of a client's request. `told` is None if it was cut; `tries`: 1, and one more for every retry."""

    user: str
    loss: str
    sent_s: float
    answered_s: float
    told: DefiniteAnswer | None
    tries: int


class EqualClient:
    """One user."""

    def __init__(self, url: str, user: str, token: str) -> None:
        place = urlsplit(url)
        self._host, self._port = place.hostname or "127.0.0.1", place.port or 80
        self.user = user
        self._token = token
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def connect(self) -> None:
        """Have an open connection: the one that there is, or a new one. Raises OSError."""
        if self._writer is None or self._reader is None or self._reader.at_eof() or self._writer.is_closing():
            self.close()
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)

    def close(self) -> None:
        """Close the connection."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def fire(self, packet_id: str, start: asyncio.Event, loss: str = "", after_s: float = 0.0) -> Fired:
        """Wait for the start, and then a while, and grab. Raises OSError if no answer can be had.

        `loss`: lose the answer in that way.
        """
        request = self._request(packet_id)
        assert self._writer is not None, "connected before the start"
        await start.wait()
        await asyncio.sleep(after_s)
        sent_s = time.perf_counter()
        if loss == CUT:
            self._writer.write(request)
            self.close()
            return Fired(self.user, loss, sent_s, 0.0, None, 1)
        told, tries = await self._ask(request)
        answered_s = time.perf_counter()
        if loss == UNREAD:
            self.close()
        return Fired(self.user, loss, sent_s, answered_s, told, tries)

    async def repeat(self, packet_id: str) -> DefiniteAnswer:
        """Ask again, over a new connection, as after a lost answer. Raises OSError if no answer can be had."""
        self.close()
        return (await self._ask(self._request(packet_id)))[0]

    def _request(self, packet_id: str) -> bytes:
        return http_request("POST", f"/v1/packets/{packet_id}/grabs", self._token, b"{}")

    async def _ask(self, request: bytes) -> tuple[DefiniteAnswer, int]:
        """Ask until the answer is definite; return it and the number of tries. The same request again: same place."""
        code = NO_ANSWER
        for tried in range(1, TRIES_MAX + 1):
            try:
                async with asyncio.timeout(ATTEMPT_S):
                    await self.connect()
                    status, headers, body = await self._exchange(request)
            except (OSError, EOFError, TimeoutError):
                self.close()
                await asyncio.sleep(PAUSE_S_MIN)
                continue
            served_by = headers.get("x-served-by", "")
            if status == 200:
                taken = _TAKEN.decode(body)
                return DefiniteAnswer(taken.rank, taken.amount_fen, taken.replayed, "", served_by), tried
            problem = problem_of(status, body, headers.get("retry-after", ""))
            if not problem.retryable:
                return DefiniteAnswer(0, 0, False, problem.code, served_by), tried
            code = problem.code
            await asyncio.sleep(min(max(problem.retry_after_ms / 1_000, PAUSE_S_MIN), PAUSE_S_MAX))
        raise ConnectionError(f"{self.user} got no definite answer in {TRIES_MAX} tries: {code}")

    async def _exchange(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        assert self._reader is not None
        assert self._writer is not None
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        if "content-length" not in headers:
            raise ConnectionError(f"{BROKEN_CONTRACT}: an answer without a length")
        return int(head[0].split()[1]), headers, await self._reader.readexactly(int(headers["content-length"]))
