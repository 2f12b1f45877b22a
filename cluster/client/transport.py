"""Transport: one request over HTTP, attempt after attempt, until there is a definite answer or the deadline.

Every attempt sends the same bytes and headers, so the platform sees one request. Bounded: at most `connections_max`
requests are under way, the rest wait their turn.
"""

import asyncio
import random
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import aiohttp
from yarl import URL

from cluster.client.problems import NO_ANSWER, ApiProblem, problem_of

BATCH_SIZE_MAX = 1_000
BACKOFF_MS_MIN = 50
BACKOFF_MS_MAX = 1_000

Chance = Callable[[], float]
"""Draws from 0 to 1; a test or a simulation gives its own."""


class Backoff:
    """The pauses before retries: they double up to a bound, and jitter keeps a crowd from marching in step."""

    def __init__(self, chance: Chance = random.random) -> None:
        self._chance = chance
        self._next_ms = BACKOFF_MS_MIN

    def pause_s(self, retry_after_ms: int = 0) -> float:
        """Return the next pause: never shorter than the server asked for."""
        pause_ms = max(retry_after_ms, self._next_ms) * (1 + self._chance() / 4)
        self._next_ms = min(2 * self._next_ms, BACKOFF_MS_MAX)
        return pause_ms / 1_000


class RawAnswer(NamedTuple):
    """A response as it came. `problem` is None for a 2xx."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    problem: ApiProblem | None


class Transport:
    """A pool of connections to one platform. Use it as an async context."""

    def __init__(
        self, url: str, *, connections_max: int, attempt_s: float, deadline_s: float, chance: Chance = random.random
    ) -> None:
        """`attempt_s` bounds one attempt, `deadline_s` the sum of all attempts of a request."""
        self._base = url.rstrip("/")
        self._connections_max = connections_max
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=attempt_s, sock_read=attempt_s)
        self._session: aiohttp.ClientSession | None = None
        self.deadline_s = deadline_s
        self.chance = chance
        self.requests = 0
        """Attempts made."""
        self.retries = 0
        self.lost = 0
        """Attempts without an answer."""

    async def open(self) -> None:
        """Open the pool."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections_max, ttl_dns_cache=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._timeout,
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close every connection."""
        assert self._session is not None, "opened before it is closed"
        await self._session.close()

    def ends_s(self) -> float:
        """Return the deadline of a request that begins now, on `time.monotonic`."""
        return time.monotonic() + self.deadline_s

    async def pause(self, pause_s: float, ends_s: float) -> bool:
        """Wait before a retry; False, at once, if the deadline comes first."""
        if time.monotonic() + pause_s >= ends_s:
            return False
        self.retries += 1
        await asyncio.sleep(pause_s)
        return True

    async def exchange(
        self,
        method: str,
        path: str,
        content: bytes | None,
        headers: Mapping[str, str],
        *,
        ends_s: float | None = None,
        settled: Callable[[ApiProblem], bool] = lambda problem: not problem.retryable,
    ) -> RawAnswer:
        """Ask until an answer is settled, or the deadline. Status 0: no answer came.

        A settled answer holds for the earlier attempts too, because their identity is the same; one that is not is
        `unknown` if any attempt was.
        """
        ends_s = self.ends_s() if ends_s is None else ends_s
        backoff, unknown = Backoff(self.chance), False
        while True:
            answer = await self.attempt(method, path, content, headers)
            problem = answer.problem
            if problem is None or settled(problem):
                return answer
            unknown = unknown or problem.unknown
            if not await self.pause(backoff.pause_s(problem.retry_after_ms), ends_s):
                return answer._replace(problem=problem._replace(unknown=unknown))

    async def attempt(self, method: str, path: str, content: bytes | None, headers: Mapping[str, str]) -> RawAnswer:
        """Make one attempt. A test gives a transport of its own here."""
        assert self._session is not None, "use the client as an async context"
        self.requests += 1
        url = URL(self._base + path, encoded=True)
        try:
            async with self._session.request(
                method, url, data=content, headers=headers, allow_redirects=False
            ) as response:
                body, status, told = await response.read(), response.status, response.headers
        except (aiohttp.ClientError, TimeoutError, OSError):
            self.lost += 1
            return RawAnswer(0, {}, b"", ApiProblem(0, NO_ANSWER, retryable=True, unknown=True))
        return raw_answer(status, told, body)


def raw_answer(status: int, headers: Mapping[str, str], content: bytes) -> RawAnswer:
    """Read a response; the header names a refusal's request where the body does not."""
    if 200 <= status < 300:
        return RawAnswer(status, headers, content, None)
    problem = problem_of(status, content, headers.get("Retry-After", ""))
    request_id = problem.request_id or headers.get("X-Request-Id", "")
    return RawAnswer(status, headers, content, problem._replace(request_id=request_id))
