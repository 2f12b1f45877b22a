"""Platform: what the bench needs of a running system: users, packets, a no-op beside it, and a shard of its own.

Everything goes over HTTP, except the shard benchmark, which calls one actor as a gateway would.
"""

import asyncio
import itertools
from collections.abc import Iterator
from typing import Any

import msgspec
import ray
from ray import serve

from actors.ids import packet_id_of
from actors.ledger.transfer import PacketFunded
from actors.packet.fairness import SeedCommitments
from actors.packet.messages import Grab, GrabMany, Open, OpenNow, Shares, Won
from cluster.config import Keys, Settings
from cluster.directory import REPLIES
from cluster.placement import kinds
from cluster.shards import create_shard, open_journals
from loadtest.bench.wire import HttpRun, drive_http, http_request

SENDERS = 50
BALANCE_FEN = 10**11
CONNECTIONS_SETUP = 32
NO_LIMIT_S = 600.0
UNSETTLED_MAX = 10_000_000
"""Nobody settles for the bench's own shard."""
_ENCODE = msgspec.json.encode


class Bed:
    """A running system prepared for load."""

    def __init__(self, url: str, operator_token: str, gateway_token: str, run: str) -> None:
        """`run` makes users and keys of this bench unlike those of an earlier one."""
        self.url = url
        self._operator_token = operator_token
        self._gateway_token = gateway_token
        self._run = run
        self._serial = itertools.count()

    async def make_senders(self) -> None:
        """Give the senders money."""
        bodies = [
            {"user": f"sender-{self._run}-{i}", "tenant": "wechat", "balance_fen": BALANCE_FEN} for i in range(SENDERS)
        ]
        requests = [http_request("POST", "/sandbox/users", self._operator_token, _ENCODE(body)) for body in bodies]
        await self._all(requests, 201)

    async def send_packets(self, count: int, shares: int) -> tuple[list[str], HttpRun]:
        """Send packets of that many shares; return their ids and the run."""
        body = _ENCODE({"kind": "lucky", "total_fen": shares * 100, "count": shares})
        requests = [
            http_request(
                "POST",
                "/v1/packets",
                self._gateway_token,
                body,
                X_Acting_User=f"sender-{self._run}-{i % SENDERS}",
                Idempotency_Key=f"{self._run}-{next(self._serial)}",
            )
            for i in range(count)
        ]
        run = await self._all(requests, 201)
        return [msgspec.json.decode(answer)["packet_id"] for answer in run.bodies], run

    def single_grabs(self, packet_ids: list[str], shares: int) -> Iterator[bytes]:
        """Make a request for every share: each by another user, the packets interleaved ten at a time."""
        for start in range(0, len(packet_ids), 10):
            for user in range(shares):
                for packet_id in packet_ids[start : start + 10]:
                    path = f"/v1/packets/{packet_id}/grabs"
                    yield http_request("POST", path, self._gateway_token, X_Acting_User=f"taker-{user}")

    def batch_grabs(self, packet_ids: list[str], shares: int, size: int) -> Iterator[bytes]:
        """Make batches of `size` grabs that take every share."""
        every = ((packet_id, f"taker-{user}") for packet_id in packet_ids for user in range(shares))
        while chunk := list(itertools.islice(every, size)):
            body = _ENCODE({"grabs": [{"packet_id": packet_id, "user": user} for packet_id, user in chunk]})
            yield http_request("POST", "/v1/grabs/batch", self._gateway_token, body)

    async def check(self) -> None:
        """Wait for settlement and ask the audit. Raises AssertionError if a fen is missing."""
        for _ in range(100):
            [report] = (await self._all([http_request("GET", "/v1/audit", self._operator_token)], 200)).bodies
            audit = msgspec.json.decode(report)
            if audit["in_flight_fen"] == 0:
                break
            await asyncio.sleep(0.1)
        assert audit["clean"], f"the audit is not clean: {audit}"
        assert audit["in_flight_fen"] == 0, f"settlement does not end: {audit}"

    async def _all(self, requests: list[bytes], status: int) -> HttpRun:
        run = await drive_http(
            self.url, iter(requests), connections=min(CONNECTIONS_SETUP, len(requests)), seconds=NO_LIMIT_S, keep=True
        )
        assert set(run.statuses) == {status}, f"set-up was answered {run.statuses}: {run.bodies[:1]!r}"
        return run


class RawNoOp:
    """A raw ASGI app that reads the body and answers nothing: the floor of Serve itself."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request."""
        if scope["type"] == "lifespan":
            for what in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{what}.complete"})
            return
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})


class NoOp:
    """A deployment as Serve's documentation writes it, that does nothing."""

    async def __call__(self, request: Any) -> str:
        """Serve one request."""
        return "ok"


def deploy_no_ops(settings: Settings) -> None:
    """Deploy both no-ops beside the gateway, with the gateway's settings, at /no-op and /raw-no-op."""
    quiet = {"enable_access_log": False, "log_level": "WARNING"}
    for name, target in (("no-op", NoOp), ("raw-no-op", serve.ingress(RawNoOp())())):
        deployment = serve.deployment(
            target,
            name=name,
            num_replicas=settings.placement.gateway_replicas,
            max_ongoing_requests=settings.bounds.ongoing_requests_max,
            max_queued_requests=settings.bounds.queued_requests_max,
            ray_actor_options={"num_cpus": settings.placement.gateway_cpus},
        )
        serve.run(deployment.bind(), name=name, route_prefix=f"/{name}", logging_config=quiet)


class HotShard:
    """One packet shard of its own, on streams of its own in the same store."""

    STREAM = "packet-000"

    def __init__(self, settings: Settings, keys: Keys, run: str) -> None:
        bounds = settings.bounds.model_copy(update={"unsettled_max": UNSETTLED_MAX})
        self._settings = settings.model_copy(update={"store_prefix": f"bench-{run}", "bounds": bounds})
        self._keys = keys
        self._run = run
        self._number = 0
        self._actor: Any = None

    async def start(self) -> None:
        """Create the streams and the actor."""
        journals = open_journals(self._settings)
        layout = self._settings.layout
        await journals.create_system(layout.packet_streams, layout.wallet_streams, kinds(self._settings))
        await journals.close()
        self._actor = create_shard(f"packet-bench-{self._run}", [self.STREAM], self._settings, self._keys)

    def stop(self) -> None:
        """End the actor."""
        ray.kill(self._actor, no_restart=True)

    async def open(self, shares: int) -> str:
        """Open a packet of that many shares and take the first, so that the split is made."""
        self._number += 1
        packet_id = packet_id_of(b"bench", "wechat", "sender", f"{self._run}-{self._number}", 1, 1)
        algorithm, key_id, commitment = SeedCommitments(self._keys).commit("lucky", packet_id)
        funding = PacketFunded(
            number=self._number,
            packet_stream=self.STREAM,
            packet_id=packet_id,
            tenant="wechat",
            sender="sender",
            key=f"{self._run}-{self._number}",
            kind="lucky",
            total_fen=shares * 100,
            count=shares,
            share_fen_min=1,
            share_fen_max=20_000,
            greeting="",
            at_ms=2_000_000_000_000,
            expires_at_ms=4_000_000_000_000,
            algorithm=algorithm,
            key_id=key_id,
            commitment=commitment,
        )
        [opened, won] = await self._ask([Open("wallet-000", funding), Grab(packet_id, "wechat", "first")])
        assert isinstance(opened, OpenNow), f"a new packet opens: {opened}"
        assert isinstance(won, Won), f"a new packet can be grabbed: {won}"
        self._first_fen = won.amount_fen
        return packet_id

    async def drain(self, packet_id: str, shares: int, size: int, calls: int) -> float:
        """Take every other share, `size` a call, `calls` calls under way; return the seconds. Checks the sum."""
        users = [f"user{i}" for i in range(shares - 1)]
        groups = [GrabMany(packet_id, "wechat", users[i : i + size]) for i in range(0, len(users), size)]
        payloads = iter([msgspec.msgpack.encode([(self.STREAM, [group])]) for group in groups])
        answers: list[bytes] = []

        async def one() -> None:
            for payload in payloads:
                answers.append(await self._actor.handle.remote(payload))

        loop = asyncio.get_running_loop()
        started_s = loop.time()
        await asyncio.gather(*(one() for _ in range(calls)))
        seconds = loop.time() - started_s
        replies = [REPLIES.decode(answer)[0][0] for answer in answers]
        taken = [reply for reply in replies if isinstance(reply, Shares)]
        assert len(taken) == len(groups), "everybody takes a share"
        ranks = sorted(reply.first_rank for reply in taken)
        assert ranks == list(range(2, shares + 1, size)), "each share is taken once"
        assert sum(len(reply.amounts_fen) for reply in taken) == shares - 1, "everybody is answered"
        paid_fen = self._first_fen + sum(sum(reply.amounts_fen) for reply in taken)
        assert paid_fen == shares * 100, f"a packet pays exactly its total, not {paid_fen}"
        return seconds

    async def _ask(self, commands: list[Any]) -> list[Any]:
        answer = await self._actor.handle.remote(msgspec.msgpack.encode([(self.STREAM, commands)]))
        return list(REPLIES.decode(answer)[0])
