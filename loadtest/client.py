"""Client: asks the platform over HTTP as a real client does, and never loses track of what it was told.

- One identity per request: a repeat after a lost answer, a 429 or a retryable 5xx carries the same idempotency key
  (grabs are identified by packet and user), up to a deadline.
- An answer is a value: what the contract promises, or a `Problem`. Nothing is raised for what a server can do.
- `Problem.unknown` says that an attempt may have taken effect unseen; whoever counts money reconciles it later.
- Bounded: at most `connections_max` requests are under way, the rest wait their turn.

The contract is api.md; amounts are integer fen, instants and durations milliseconds, deadlines seconds.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Self, TypeVar

import aiohttp
import msgspec
from yarl import URL

BATCH_SIZE_MAX = 1_000
BACKOFF_MS_MIN = 50
BACKOFF_MS_MAX = 1_000
RETRYABLE_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
RETRYABLE_ITEM_CODES = frozenset(
    {
        "overloaded",
        "rate_limited",
        "shard_unavailable",
        "journal_unavailable",
        "already_in_progress",
        "paused",
        "seed_unknown",
    }
)
NO_ANSWER = "no_answer"
BROKEN_CONTRACT = "broken_contract"


class Problem(NamedTuple):
    """A request that did not succeed. Status 0: no answer came at all."""

    status: int
    code: str
    retryable: bool
    retry_after_ms: int = 0
    unknown: bool = False
    """The request, in this or an earlier attempt, may have taken effect without our learning of it."""

    @property
    def told(self) -> str:
        """What a sentence about the address says: that it does not answer, or what it answers."""
        return f"answers {self.code} (status {self.status})" if self.status else "does not answer"


class Taken(msgspec.Struct, frozen=True):
    """A successful grab as its user is told it."""

    packet_id: str
    user: str
    rank: int
    amount_fen: int
    at_ms: int
    replayed: bool


class BatchItem(msgspec.Struct, frozen=True):
    """One result of a batch: a success, or a `code`; `unknown` is the client's own remark as in `Problem`."""

    amount_fen: int = 0
    rank: int = 0
    replayed: bool = False
    code: str = ""
    unknown: bool = False


class Share(msgspec.Struct, frozen=True):
    """A grab as the packet lists it."""

    rank: int
    user: str
    amount_fen: int
    at_ms: int


class Luckiest(msgspec.Struct, frozen=True):
    """Who holds the greatest share of a drained packet."""

    user: str
    rank: int
    amount_fen: int


class Packet(msgspec.Struct, frozen=True):
    """A packet as sent or read. `grabs` only for its sender and its takers."""

    packet_id: str
    kind: str
    state: str
    total_fen: int
    count: int
    sender: str
    created_at_ms: int
    expires_at_ms: int
    commitment: str
    grabbed_count: int = 0
    grabbed_fen: int = 0
    refunded_fen: int = 0
    grabs: list[Share] | None = None
    luckiest: Luckiest | None = None


class Wallet(msgspec.Struct, frozen=True):
    """A user's money."""

    available_fen: int
    held_fen: int


class StatementLine(msgspec.Struct, frozen=True):
    """One movement in a wallet."""

    at_ms: int
    kind: str
    amount_fen: int
    balance_fen: int
    reference: str


class Statement(msgspec.Struct, frozen=True):
    """A page of movements, newest first."""

    entries: list[StatementLine]
    next_cursor: str | None = None


class Created(msgspec.Struct, frozen=True):
    """A sandbox user."""

    user: str
    tenant: str
    token: str


class ShardAudit(msgspec.Struct, frozen=True):
    """One book in the conservation report."""

    stream: str
    kind: str
    book_sum_fen: int
    funded_fen: int = 0
    paid_fen: int = 0
    refunded_fen: int = 0
    remaining_fen: int = 0
    version: int = 0


class Audit(msgspec.Struct, frozen=True):
    """The conservation report."""

    shards: list[ShardAudit]
    funded_fen: int
    paid_fen: int
    refunded_fen: int
    remaining_fen: int
    in_flight_fen: int
    settlement_lag_ms: int
    difference_fen: int
    clean: bool


class PausedLever(msgspec.Struct, frozen=True):
    """Something that is paused: `sends`, `grabs`, or one `packet`; `missing` names streams that do not have it."""

    lever: str
    packet_id: str | None
    since_ms: int
    by: str
    missing: list[str]


class _Levers(msgspec.Struct):
    paused: list[PausedLever]


class Results(msgspec.Struct):
    """The answer to a batch."""

    results: list[BatchItem]


class _ProblemBody(msgspec.Struct):
    code: str
    retryable: bool = False
    retry_after_ms: int = 0


_Answer = TypeVar("_Answer")
_PROBLEM = msgspec.json.Decoder(_ProblemBody)
_TAKEN = msgspec.json.Decoder(Taken)
_RESULTS = msgspec.json.Decoder(Results)
_PACKET = msgspec.json.Decoder(Packet)
_WALLET = msgspec.json.Decoder(Wallet)
_STATEMENT = msgspec.json.Decoder(Statement)
_CREATED = msgspec.json.Decoder(Created)
_AUDIT = msgspec.json.Decoder(Audit)
_LEVERS = msgspec.json.Decoder(_Levers)
_ANYTHING = msgspec.json.Decoder()


class Traffic:
    """What the requests of one client met, for the progress line."""

    def __init__(self) -> None:
        """Start counting at zero."""
        self.requests = 0
        self.retries = 0
        self.lost = 0


class Api:
    """One caller's view of the platform. `acting` gives another caller's view over the same connections."""

    def __init__(
        self,
        url: str,
        token: str = "",
        *,
        connections_max: int = 64,
        attempt_s: float = 12.0,
        deadline_s: float = 30.0,
        seed: int = 0,
    ) -> None:
        """Prepare a client for the platform at `url`, e.g. "http://127.0.0.1:8000"; use it as an async context.

        `attempt_s` bounds one attempt, `deadline_s` the sum of all attempts of a request.
        """
        self._base = url.rstrip("/")
        self._headers = _headers_of(token)
        self._connections_max = connections_max
        self._attempt = aiohttp.ClientTimeout(total=None, sock_connect=attempt_s, sock_read=attempt_s)
        self._deadline_s = deadline_s
        self._jitter = random.Random(seed)
        self._session: aiohttp.ClientSession | None = None
        self.traffic = Traffic()

    async def __aenter__(self) -> Self:
        """Open the connection pool."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self._connections_max, ttl_dns_cache=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._attempt,
            auto_decompress=False,
        )
        return self

    async def __aexit__(self, *exc_details: object) -> None:
        """Close every connection."""
        assert self._session is not None, "opened before it is closed"
        await self._session.close()

    def acting(self, token: str) -> "Api":
        """Return the same client with another caller's token. The connections stay with the first."""
        other = object.__new__(Api)
        other.__dict__.update(self.__dict__)
        other._headers = _headers_of(token)
        return other

    async def send(
        self, kind: str, total_fen: int, count: int, *, key: str, greeting: str | None = None
    ) -> Packet | Problem:
        """Send a red packet of the acting user; the same `key` never funds twice."""
        body: dict[str, Any] = {"kind": kind, "total_fen": total_fen, "count": count}
        if greeting is not None:
            body["greeting"] = greeting
        return await self._ask("POST", "/v1/packets", _PACKET.decode, body, {"Idempotency-Key": key})

    async def grab(self, packet_id: str) -> Taken | Problem:
        """Grab a share for the acting user."""
        return await self._ask("POST", f"/v1/packets/{packet_id}/grabs", _TAKEN.decode, {})

    async def grab_batch(self, grabs: Sequence[tuple[str, str]]) -> list[BatchItem] | Problem:
        """Grab for many: (packet id, user) each, by a gateway's token. Items refused for now are asked again."""
        assert len(grabs) <= BATCH_SIZE_MAX, "a batch is bounded"
        deadline = time.monotonic() + self._deadline_s
        results = [BatchItem()] * len(grabs)
        open_places = list(range(len(grabs)))
        backoff_ms = BACKOFF_MS_MIN
        while True:
            body = {"grabs": [{"packet_id": grabs[i][0], "user": grabs[i][1]} for i in open_places]}
            answer = await self._ask("POST", "/v1/grabs/batch", _RESULTS.decode, body, deadline=deadline)
            if isinstance(answer, Problem):
                if len(open_places) == len(grabs):
                    return answer
                unanswered = BatchItem(code=answer.code, unknown=True)
                for place in open_places:
                    results[place] = unanswered
                return results
            if len(answer.results) != len(open_places):
                return Problem(200, BROKEN_CONTRACT, retryable=False, unknown=True)
            for place, item in zip(open_places, answer.results, strict=True):
                results[place] = item
            open_places = [place for place in open_places if results[place].code in RETRYABLE_ITEM_CODES]
            pause_s = self._pause_ms(0, backoff_ms) / 1_000
            if not open_places or time.monotonic() + pause_s >= deadline:
                for place in open_places:
                    results[place] = BatchItem(code=results[place].code, unknown=True)
                return results
            self.traffic.retries += 1
            await asyncio.sleep(pause_s)
            backoff_ms = min(2 * backoff_ms, BACKOFF_MS_MAX)

    async def packet(self, packet_id: str) -> Packet | Problem:
        """Read a packet as the acting user may see it."""
        return await self._ask("GET", f"/v1/packets/{packet_id}", _PACKET.decode)

    async def proof(
        self, packet_id: str, *, lane: int | None = None, after_rank: int | None = None
    ) -> dict[str, Any] | Problem:
        """Read the fairness proof of a packet; of one of its lanes; the page behind that rank."""
        query = {name: asked for name, asked in (("lane", lane), ("after_rank", after_rank)) if asked is not None}
        return await self._ask("GET", str(URL(f"/v1/packets/{packet_id}/proof").with_query(query)), _ANYTHING.decode)

    async def wallet(self) -> Wallet | Problem:
        """Read the acting user's money."""
        return await self._ask("GET", "/v1/wallet", _WALLET.decode)

    async def statement(self, *, limit: int = 20, cursor: str | None = None) -> Statement | Problem:
        """Read the acting user's movements, newest first."""
        query: dict[str, str] = {"limit": str(limit)}
        if cursor is not None:
            query["cursor"] = cursor
        path = str(URL("/v1/wallet/statement").with_query(query))
        return await self._ask("GET", path, _STATEMENT.decode)

    async def audit(self) -> Audit | Problem:
        """Read the conservation report; needs an operator's token."""
        return await self._ask("GET", "/v1/audit", _AUDIT.decode)

    async def levers(self) -> list[PausedLever] | Problem:
        """Read what is paused; needs an operator's token."""
        answer = await self._ask("GET", "/v1/levers", _LEVERS.decode)
        return answer if isinstance(answer, Problem) else answer.paused

    async def set_lever(self, lever: str, *, paused: bool) -> Problem | None:
        """Pause or let go on: `sends`, `grabs`, or `packets/<id>`; needs an operator's token."""
        answer = await self._ask("PUT", f"/v1/levers/{lever}", _ANYTHING.decode, {"paused": paused})
        return answer if isinstance(answer, Problem) else None

    async def create_user(self, user: str, tenant: str, balance_fen: int) -> Created | Problem:
        """Create a sandbox user; needs an operator's token. An existing one keeps its balance."""
        body = {"user": user, "tenant": tenant, "balance_fen": balance_fen}
        return await self._ask("POST", "/sandbox/users", _CREATED.decode, body)

    async def advance_clock(self, advance_ms: int) -> Problem | None:
        """Move the sandbox clock forward; needs an operator's token.

        Asked once and not repeated: an advance is relative, so a repeat would move it twice.
        """
        body = {"advance_ms": advance_ms}
        answer = await self._ask("POST", "/sandbox/clock", _ANYTHING.decode, body, deadline=0.0)
        return answer if isinstance(answer, Problem) else None

    async def ready(self) -> dict[str, Any] | Problem:
        """Ask once whether the platform serves money; the answer carries the system's id."""
        return await self._ask("GET", "/readyz", _ANYTHING.decode, deadline=0.0)

    async def _ask(
        self,
        method: str,
        path: str,
        decode: Callable[[bytes], _Answer],
        body: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        *,
        deadline: float | None = None,
    ) -> _Answer | Problem:
        """Ask until there is a definite answer or the deadline (of `time.monotonic`) has passed."""
        deadline = time.monotonic() + self._deadline_s if deadline is None else deadline
        url = URL(self._base + path, encoded=True)
        content = None if body is None else msgspec.json.encode(body)
        all_headers = self._headers if headers is None else {**self._headers, **headers}
        backoff_ms = BACKOFF_MS_MIN
        unknown = False
        while True:
            problem = await self._attempt_once(method, url, content, all_headers, decode)
            if not isinstance(problem, Problem):
                return problem
            unknown = unknown or problem.unknown
            # The whole identity of a request is repeated with it, so a definite answer settles earlier attempts too.
            if not problem.retryable:
                return problem
            pause_s = self._pause_ms(problem.retry_after_ms, backoff_ms) / 1_000
            if time.monotonic() + pause_s >= deadline:
                return problem._replace(unknown=unknown)
            self.traffic.retries += 1
            await asyncio.sleep(pause_s)
            backoff_ms = min(2 * backoff_ms, BACKOFF_MS_MAX)

    def _pause_ms(self, retry_after_ms: int, backoff_ms: int) -> float:
        """Return a pause: what the server asked for or our own backoff, jittered so that a crowd does not march."""
        return min(max(retry_after_ms, backoff_ms), 10 * BACKOFF_MS_MAX) * self._jitter.uniform(0.75, 1.25)

    async def _attempt_once(
        self,
        method: str,
        url: URL,
        content: bytes | None,
        headers: dict[str, str],
        decode: Callable[[bytes], _Answer],
    ) -> _Answer | Problem:
        assert self._session is not None, "use the client as an async context"
        self.traffic.requests += 1
        try:
            async with self._session.request(method, url, data=content, headers=headers) as response:
                answer = await response.read()
                status, answer_headers = response.status, response.headers
        except (aiohttp.ClientError, TimeoutError, OSError):
            self.traffic.lost += 1
            return Problem(0, NO_ANSWER, retryable=True, unknown=True)
        if 200 <= status < 300:
            try:
                return decode(answer)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                return Problem(status, BROKEN_CONTRACT, retryable=False, unknown=True)
        return problem_of(status, answer, answer_headers.get("Retry-After", ""))


def _headers_of(token: str) -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return headers


def problem_of(status: int, answer: bytes, retry_after: str) -> Problem:
    """Read a refusal. One without problem+json comes from the proxy in front: the same request again may pass."""
    try:
        body = _PROBLEM.decode(answer)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        body = _ProblemBody(code=f"http_{status}", retryable=status in RETRYABLE_STATUSES or status == 404)
    retry_after_ms = body.retry_after_ms
    if not retry_after_ms and retry_after.isdecimal():
        retry_after_ms = min(int(retry_after[:9]), 3_600) * 1_000
    # A 4xx is decided before anything happens; behind a 5xx an effect may hide.
    return Problem(status, body.code, body.retryable, retry_after_ms, unknown=status >= 500)
