"""Platform: what the money tests ask of a running system: over HTTP as its users do, and beneath it as nobody may."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import psutil
import pyarrow.compute as pc

from actors.kernel.messages import SnapshotTaken
from actors.ledger.accounts import AccountName
from actors.ledger.transfer import Settled
from actors.packet.events import Passivated
from cluster.client import ApiProblem, Client, RawAnswer
from cluster.config import Keys, load
from cluster.local.record import SystemRecord, processes_titled
from cluster.offline.audit import audit_of, sum_stream
from cluster.offline.sources import sources_of
from cluster.runtime.shards import open_journals
from cluster.tokens import mint

TENANT = "wechat"
WAIT_S = 60.0
ATTEMPT_S = 40.0


class Platform:
    """The HTTP side of one system."""

    def __init__(self, record: SystemRecord, keys: Keys, client: Client) -> None:
        self.record = record
        self._keys = keys
        self._client = client
        self.operator = self.token("operator", "platform", "operator")
        self.gateway = self.token("gateway", TENANT, "gateway")

    def token(self, user: str, tenant: str = TENANT, scope: str = "user") -> str:
        """Mint a token."""
        return mint(self._keys, user=user, tenant=tenant, scope=scope, now_s=int(time.time()), ttl_s=3_600)

    async def fetch(
        self, method: str, path: str, token: str, content: bytes | None = None, **headers: str
    ) -> tuple[int, bytes, dict[str, str]]:
        """Ask once, the path sent as it is spelled; return status, body and headers (lower case)."""
        answer = await self._exchange(method, path, token, content, headers, ends_s=0.0)
        if not answer.status:
            raise ConnectionError(f"{method} {path} is not answered")
        return _heard(answer)

    async def ask(
        self, method: str, path: str, token: str, body: Any = None, **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """Ask once in JSON; return status, body and headers (lower case)."""
        status, answer, told = await self.fetch(method, path, token, _json(body, headers), **headers)
        return status, msgspec.json.decode(answer), told

    async def hear(
        self, method: str, path: str, token: str, content: bytes | None = None, *, final: str = "", **headers: str
    ) -> tuple[int, bytes, dict[str, str]]:
        """Ask until an answer comes that is not retryable, or has that code, always with the same identity."""

        def settled(problem: ApiProblem) -> bool:
            told = 400 <= problem.status < 500 and not problem.code.startswith("http_")  # not a proxy's own words
            return 0 < problem.status < 400 or (told and (not problem.retryable or problem.code == final))

        answer = await self._exchange(method, path, token, content, headers, settled=settled)
        assert answer.problem is None or settled(answer.problem), f"{method} {path} is not answered: {answer}"
        return _heard(answer)

    async def insist(
        self, method: str, path: str, token: str, body: Any = None, *, final: str = "", **headers: str
    ) -> tuple[int, Any]:
        """Ask in JSON until an answer comes that is not retryable, or has that code."""
        content = _json(body, headers)
        status, answer, _ = await self.hear(method, path, token, content, final=final, **headers)
        return status, msgspec.json.decode(answer)

    async def _exchange(
        self, method: str, path: str, token: str, content: bytes | None, headers: dict[str, str], **bounds: Any
    ) -> RawAnswer:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self._client.acting(token).exchange(method, path, content, sent, **bounds)

    async def user(self, name: str, balance_fen: int = 0) -> str:
        """Make a user with money and return his token."""
        body = {"user": name, "tenant": TENANT, "balance_fen": balance_fen}
        status, answer = await self.insist("POST", "/sandbox/users", self.operator, body)
        assert status == 201, answer
        return str(answer["token"])

    async def send(self, token: str, key: str, total_fen: int, count: int, kind: str = "lucky") -> dict[str, Any]:
        """Send a packet."""
        body = {"kind": kind, "total_fen": total_fen, "count": count}
        status, packet = await self.insist("POST", "/v1/packets", token, body, Idempotency_Key=key)
        assert status == 201, packet
        return dict(packet)

    async def audit(self) -> dict[str, Any]:
        """Read the conservation report."""
        return dict((await self.insist("GET", "/v1/audit", self.operator))[1])

    async def settled(self) -> dict[str, Any]:
        """Wait until no money is between two books, and return the report."""
        return dict(await until(self.audit, lambda report: report["in_flight_fen"] == 0))

    def pids(self, title: str) -> list[int]:
        """Return the processes of this system whose title starts so, e.g. "ray::ShardActor"."""
        return [process.pid for process in processes_titled(self.record.run_folder, title)]


def _json(body: Any, headers: dict[str, str]) -> bytes | None:
    """Return a body's bytes, and name their type in the headers; None: there is no body."""
    if body is None:
        return None
    headers["content-type"] = "application/json"
    return msgspec.json.encode(body)


def _heard(answer: RawAnswer) -> tuple[int, bytes, dict[str, str]]:
    return answer.status, answer.content, {name.lower(): value for name, value in answer.headers.items()}


@asynccontextmanager
async def asked(record: SystemRecord, keys: Keys, connections_max: int = 100) -> AsyncIterator[Platform]:
    """Yield a system with connections to it."""
    client = Client(record.url, connections_max=connections_max, attempt_s=ATTEMPT_S, deadline_s=WAIT_S)
    async with client:
        yield Platform(record, keys, client)


async def until(ask: Callable[[], Any], good: Callable[[Any], bool]) -> Any:
    """Ask again and again until the answer is good."""
    deadline = time.monotonic() + WAIT_S
    while not good(answer := await ask()):
        assert time.monotonic() < deadline, f"it does not come about: {answer}"
        await asyncio.sleep(0.05)
    return answer


async def replayed(record: SystemRecord) -> dict[AccountName, int]:
    """Add up every line of every journal, sealed or live, by the auditor's own code; return the change of every user.

    Checks that every book sums to 0.
    """
    settings = load(record.config, store_url=record.store_url, archive_url=str(record.data / "archive"))
    async with sources_of(settings) as sources:
        cut = await sources.journals.cut(0)
        found = [await sum_stream(sources, stream, stood) for stream, stood in sorted(cut.streams.items())]
    report, table = audit_of(found)
    assert all(book.sum_fen == 0 for book in report.books), "a book does not sum to 0"
    users = table.filter(pc.equal(table["account"], "change")).to_pylist()
    return {("change", row["tenant"], row["name"]): row["amount_fen"] for row in users}


async def last_positions(record: SystemRecord) -> dict[str, Any]:
    """Return where every journal ends."""
    settings = load(record.config, store_url=record.store_url)
    journals = open_journals(settings)
    try:
        return {stream: await journals.last_position(stream) for stream in settings.streams}
    finally:
        await journals.close()


async def journaled_since(record: SystemRecord, before: dict[str, Any]) -> list[Any]:
    """Return what came about behind those positions, but for what nobody asks for: it may come at any time."""
    settings = load(record.config, store_url=record.store_url)
    journals = open_journals(settings)
    found: list[Any] = []
    try:
        for stream, position in before.items():
            async for at, payload in journals.read(stream, position, None):
                found += journals.codec.decode_entry(stream, at, payload).events if at.seq else []
    finally:
        await journals.close()
    return [event for event in found if not isinstance(event, Settled | SnapshotTaken | Passivated)]


def kill(pid: int) -> None:
    """End a process as a power cut would, and wait until it is gone."""
    process = psutil.Process(pid)
    process.kill()
    psutil.wait_procs([process], timeout=10)
