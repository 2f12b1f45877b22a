"""Fake replica: what a stream needs of its replica, over a service that answers when the test says so, and a client."""

import asyncio
import json
from typing import Any, cast

from actors.kernel.messages import Refused
from actors.kernel.quota import Bound
from actors.packet.replies import Shares, Takings, Won
from actors.refusals import Refusal
from cluster.config import load
from cluster.gateway.auth import Auth
from cluster.gateway.dispatcher import Dispatcher
from cluster.gateway.middleware import admission as gate
from cluster.gateway.middleware.limits import RequestLimits
from cluster.gateway.middleware.overload_control import OverloadControl
from cluster.gateway.middleware.queue_delay import overload_rules
from cluster.gateway.middleware.serve_hooks import STREAM_PATH
from cluster.gateway.packet.stream import Streams
from cluster.gateway.routing import ROUTES, RouteTable
from tests.simulation.http import KEYS, token

LONG_S = 30.0


class OpenGate:
    """A gate that lets everybody in."""

    def authenticate(self, door: Any, headers: Any) -> gate.Caller:
        return gate.Caller("", "")

    def lets_in(self, kind: int, caller: gate.Caller) -> bool:
        return True

    def enter(self, caller: gate.Caller) -> None: ...

    def leave(self, caller: gate.Caller) -> None: ...


def open_gate() -> Any:
    """Return one, in the place of a `Gate`."""
    return OpenGate()


SMALL = {"stream_inflight_max": 5, "streams_max": 2, "line_bytes_max": 512, "stream_age_ms_max": 60_000}


class Service:
    """Answers each group of grabs at once, or when the test says so."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        """The users of each group."""
        self.tenants: set[str] = set()
        self.held: list[asyncio.Future[None]] | None = None
        self.fails: Exception | None = None
        self.shed: set[str] = set()
        """Users who are not let in for now."""

    def lets_in(self, tenant: str, users: list[str]) -> list[bool] | None:
        return [user not in self.shed for user in users] if self.shed else None

    async def crowds(self, wanted: dict[str, list[str]], tenant: str) -> dict[str, Any]:
        self.asked.append([user for users in wanted.values() for user in users])
        self.tenants.add(tenant)
        if self.held is not None:
            gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.held.append(gate)
            await gate
        if self.fails is not None:
            raise self.fails
        return {packet_id: self._crowd(packet_id, users) for packet_id, users in wanted.items()}

    def _crowd(self, packet_id: str, users: list[str]) -> Any:
        if packet_id == "unknown":
            return Refused(Refusal.PACKET_NOT_FOUND)
        if packet_id == "fresh":
            return Shares(5, [100 + len(user) for user in users], 7)
        return Takings(
            [Refused(Refusal.DRAINED) if user == "late" else Won(len(user), 100, 7, False) for user in users]
        )


class Replica:
    """What a stream needs of its replica, and the ASGI app in question."""

    def __init__(self, **bounds: int) -> None:
        self.settings = load(stream=SMALL | bounds, fair={"streams_max": {"user": 100, "tenant": 100}})
        self.auth = Auth(KEYS, 10)
        self.keys = KEYS
        self.service = Service()
        self.platform_key = KEYS.key(KEYS.first)
        self.streams = Streams(self.settings, cast(Any, self.service), self.platform_key)
        self.app = self.served()

    def served(self, *, stamps: bool = False) -> RequestLimits:
        """Return the ASGI app that serves its streams, and nothing else."""
        replica, nothing = cast(Any, self), cast(Any, None)
        admission = gate.Admission(
            self.auth, OverloadControl(overload_rules(self.settings.overload)), nothing, Bound.of(10)
        )
        table = RouteTable([route for route in ROUTES if route.path == STREAM_PATH], self.settings)
        return RequestLimits(Dispatcher(replica), table, admission, self.settings, stamps=stamps)

    def call(self, bearer: str | None = None) -> "Caller":
        """Open a stream."""
        return Caller(self.app, token("gateway", "gateway") if bearer is None else bearer)


class Caller:
    """One client of the app: what it has written, and what it was sent. It reads unless `reads` is cleared."""

    def __init__(self, app: Any, bearer: str) -> None:
        self._incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[dict[str, Any]] = []
        self.reads = asyncio.Event()
        self.reads.set()
        self.taken = 0
        scope = {
            "type": "http",
            "method": "POST",
            "path": STREAM_PATH,
            "hongbao.request_id": "r",
            "headers": [
                (b"authorization", f"Bearer {bearer}".encode()),
                (b"content-type", b"application/x-ndjson"),
            ],
        }
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    async def _receive(self) -> Any:
        message = await self._incoming.get()
        self.taken += 1
        return message

    async def _send(self, message: Any) -> None:
        await self.reads.wait()
        self.sent.append(message)

    def write(self, *lines: Any, more: bool = True) -> None:
        """Send a chunk of lines: bytes as they are, or JSON."""
        self.write_bytes(b"".join(one if isinstance(one, bytes) else encode(one) for one in lines), more=more)

    def write_bytes(self, body: bytes, *, more: bool = True) -> None:
        """Send a chunk as it is."""
        self._incoming.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def hang_up(self) -> None:
        """Cut the connection."""
        self._incoming.put_nowait({"type": "http.disconnect"})

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Every line so far."""
        text = b"".join(message.get("body", b"") for message in self.sent[1:])
        assert text == b"" or text.endswith(b"\n"), "a line is whole"
        return [json.loads(line) for line in text.splitlines()]

    @property
    def codes(self) -> dict[Any, Any]:
        """The codes of refused lines by id."""
        return {line["id"]: line["code"] for line in self.lines if "code" in line and "id" in line}

    async def ended(self) -> list[dict[str, Any]]:
        """Wait for the end of the stream; return every line."""
        await asyncio.wait_for(self.task, LONG_S)
        assert not self.sent[-1].get("more_body", False), "the response is whole"
        return self.lines


def encode(line: Any) -> bytes:
    return json.dumps(line, ensure_ascii=False).encode() + b"\n"


def grab(name: Any, user: str = "mei", packet_id: str = "p") -> dict[str, Any]:
    return {"id": name, "packet_id": packet_id, "user": user}


def share(name: Any, user: str = "mei") -> dict[str, Any]:
    return {"id": name, "amount_fen": 100, "rank": len(user), "replayed": False}


async def turns(count: int = 20) -> None:
    """Let everybody go on as far as they can."""
    for _ in range(count):
        await asyncio.sleep(0)
