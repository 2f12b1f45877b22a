"""Fake gateway: the HTTP contract in memory, honest enough to run the demo against, and dishonest on request.

Money moves as on the platform: a send debits at once, a grab credits the wallet only by a later settlement, a packet
expires when the clock passes its end, and the audit sums it all. A fault in `faults` makes it lie in one way.
Amounts in fen.
"""

import asyncio
import itertools
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import jwt
from aiohttp import web

START_MS = 1_451_577_900_000
LIFETIME_MS = 24 * 3_600 * 1_000
TENANT = "wechat"
OPERATOR_TOKEN = "operator-token"
GATEWAY_TOKEN = "gateway-token"

FAULTS = frozenset(
    {
        "answer_lost",  # every fifth POST takes effect and its connection is closed without an answer
        "overloaded",  # every fifth request is refused with 429 first
        "proxy_error",  # every fifth request is answered by the proxy, without problem+json
        "grants_twice",  # a repeated grab gets a second share
        "gives_beyond",  # a drained packet goes on giving
        "same_rank",  # every share has rank 1
        "refund_lost",  # an expired packet's rest vanishes
        "credit_lost",  # one credit in ten never reaches its wallet
        "win_forgotten",  # the packet's list lacks its first grab
        "drained_early",  # "drained" with a share left
        "late_win",  # an expired packet goes on giving
        "never_settles",  # nothing reaches the wallets
        "books_differ",  # the audit itself reports a difference
    }
)

FAIRNESS_FAULTS = frozenset({"favours_replica"})  # one replica's grabs win, those of the other do not

LOAD_FAULTS = frozenset(
    {
        "half_taken",  # a grab whose body never comes to its end takes a share
        "stream_cut",  # every fortieth line of a stream takes effect and the stream is cut without an answer
        "stream_drains",  # a stream ends after thirty lines, says so, and leaves the rest unanswered
    }
)


class _Packet:
    def __init__(self, packet_id: str, sender: str, body: dict[str, Any], now_ms: int) -> None:
        self.packet_id, self.sender, self.now_ms = packet_id, sender, now_ms
        self.kind, self.total_fen, self.count = body["kind"], body["total_fen"], body["count"]
        self.left_fen, self.refunded_fen = self.total_fen, 0
        self.grabs: list[dict[str, Any]] = []
        self.grab_of: dict[str, dict[str, Any]] = {}
        self.expired = False

    def view(self) -> dict[str, Any]:
        drained = len(self.grabs) >= self.count
        return {
            "packet_id": self.packet_id,
            "kind": self.kind,
            "state": "drained" if drained else "expired" if self.expired else "open",
            "total_fen": self.total_fen,
            "count": self.count,
            "sender": self.sender,
            "created_at_ms": self.now_ms,
            "expires_at_ms": self.now_ms + LIFETIME_MS,
            "commitment": "00" * 32,
            "grabbed_count": len(self.grabs),
            "grabbed_fen": sum(grab["amount_fen"] for grab in self.grabs),
            "refunded_fen": self.refunded_fen,
        }


class FakeGateway:
    """One platform of one tenant."""

    def __init__(self, *faults: str) -> None:
        assert (FAULTS | LOAD_FAULTS | FAIRNESS_FAULTS).issuperset(faults), "a known lie"
        self.faults = frozenset(faults)
        self.now_ms = START_MS
        self.wallets: dict[str, int] = {}
        self.packets: dict[str, _Packet] = {}
        self.sent_by_key: dict[tuple[str, str], str] = {}
        self.unsettled: list[tuple[str, int]] = []
        self.paid_fen = 0
        self.settled = 0
        self.requests = 0
        self.lines = 0
        self.first_packet = asyncio.Event()
        self.replicas = "ab"
        self._balancer = random.Random(1)
        self.levers: dict[tuple[str, str | None], dict[str, Any]] = {}
        self.proofs: dict[str, list[dict[str, Any]]] = {}
        """Of a packet's lanes, as they are to be told."""
        self.proof_ranks_max = 10_000

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._faulty])
        app.router.add_get("/readyz", self._ready)
        app.router.add_post("/sandbox/users", self._create_user)
        app.router.add_post("/sandbox/clock", self._advance)
        app.router.add_post("/v1/packets", self._send)
        app.router.add_post("/v1/packets/{id}/grabs", self._grab)
        app.router.add_post("/v1/grabs/batch", self._batch)
        app.router.add_post("/v1/grabs/stream", self._stream)
        app.router.add_get("/v1/packets/{id}", self._read)
        app.router.add_get("/v1/packets/{id}/proof", self._prove)
        app.router.add_get("/v1/wallet", self._wallet)
        app.router.add_get("/v1/wallet/statement", self._statement)
        app.router.add_get("/v1/audit", self._audit)
        app.router.add_get("/v1/levers", self._levers)
        app.router.add_put("/v1/levers/{lever}", self._set_lever)
        app.router.add_put("/v1/levers/packets/{id}", self._set_lever)
        return app

    @web.middleware
    async def _faulty(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        self.requests += 1
        fifth = self.requests % 5 == 0
        if "overloaded" in self.faults and fifth:
            return problem(429, "overloaded", retryable=True)
        if "proxy_error" in self.faults and fifth:
            return web.Response(status=503, text="<html>no server is available</html>", content_type="text/html")
        replica = self._balancer.choice(self.replicas)
        response = await handler(request)
        if "favours_replica" in self.faults:
            replica = "a" if response.status == 200 else "b"
        if not response.prepared:
            response.headers["X-Served-By"] = replica
        if "answer_lost" in self.faults and fifth and request.method == "POST":
            assert request.transport is not None
            request.transport.abort()
        return response

    def _caller(self, request: web.Request) -> str:
        """Return who asks: a user's token is the name itself; a real one is believed for its scope."""
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token.count(".") == 2:
            scope = jwt.decode(token, options={"verify_signature": False})["scope"]
            return {"operator": OPERATOR_TOKEN, "gateway": GATEWAY_TOKEN}[scope]
        return token

    async def _ready(self, request: web.Request) -> web.Response:
        return web.json_response({"system": "fake"})

    async def _create_user(self, request: web.Request) -> web.Response:
        if self._caller(request) != OPERATOR_TOKEN:
            return problem(403, "forbidden")
        body = await request.json()
        self.wallets.setdefault(body["user"], body["balance_fen"])
        return web.json_response({"user": body["user"], "tenant": body["tenant"], "token": body["user"]}, status=201)

    async def _advance(self, request: web.Request) -> web.Response:
        self.now_ms += (await request.json())["advance_ms"]
        for packet in self.packets.values():
            over = self.now_ms >= packet.now_ms + LIFETIME_MS and len(packet.grabs) < packet.count
            if over and not packet.expired:  # a drained packet stays drained
                packet.expired = True
                packet.refunded_fen, packet.left_fen = packet.left_fen, 0
                if "refund_lost" not in self.faults:
                    self.unsettled.append((packet.sender, packet.refunded_fen))
        return web.json_response({})

    async def _send(self, request: web.Request) -> web.Response:
        sender, key = self._caller(request), request.headers["Idempotency-Key"]
        packet_id = self.sent_by_key.get((sender, key))
        if packet_id is None:
            body = await request.json()
            if self.wallets[sender] < body["total_fen"]:
                return problem(402, "insufficient_funds")
            packet_id = f"{len(self.packets):032d}"
            self.wallets[sender] -= body["total_fen"]
            self.packets[packet_id] = _Packet(packet_id, sender, body, self.now_ms)
            self.sent_by_key[sender, key] = packet_id
            self.first_packet.set()
        return web.json_response(self.packets[packet_id].view(), status=201)

    def _decide(self, packet_id: str, user: str) -> dict[str, Any]:
        packet = self.packets.get(packet_id)
        if packet is None:
            return {"code": "packet_not_found"}
        prior = packet.grab_of.get(user)
        if prior is not None and "grants_twice" not in self.faults:
            return {**prior, "replayed": True}
        if packet.expired and "late_win" not in self.faults:
            return {"code": "expired"}
        count = packet.count - 1 if "drained_early" in self.faults and packet.count > 1 else packet.count
        if len(packet.grabs) >= count and "gives_beyond" not in self.faults:
            return {"code": "drained"}
        rank = 1 if "same_rank" in self.faults else len(packet.grabs) + 1
        amount_fen = packet.total_fen // packet.count if packet.kind == "equal" else 1
        if packet.kind == "lucky" and len(packet.grabs) == packet.count - 1:
            amount_fen = packet.left_fen
        packet.left_fen -= amount_fen
        self.paid_fen += amount_fen
        packet.grab_of[user] = {"rank": rank, "user": user, "amount_fen": amount_fen, "at_ms": self.now_ms}
        packet.grabs.append(packet.grab_of[user])
        self.unsettled.append((user, amount_fen))
        return {**packet.grab_of[user], "replayed": False}

    async def _grab(self, request: web.Request) -> web.Response:
        if "half_taken" not in self.faults:
            try:
                await request.read()
            except ConnectionError:
                return problem(400, "malformed")  # the client is gone: nobody reads it
        answer = self._decide(request.match_info["id"], self._caller(request))
        if "code" in answer:
            return problem(404 if answer["code"] == "packet_not_found" else 409, answer["code"])
        return web.json_response({"packet_id": request.match_info["id"], **answer})

    async def _batch(self, request: web.Request) -> web.Response:
        if self._caller(request) != GATEWAY_TOKEN:
            return problem(403, "forbidden")
        grabs = (await request.json())["grabs"]
        return web.json_response({"results": [self._decide(grab["packet_id"], grab["user"]) for grab in grabs]})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        if self._caller(request) != GATEWAY_TOKEN:
            return problem(403, "forbidden")
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        async for line in request.content:
            asked = json.loads(line)
            answer = self._decide(asked["packet_id"], asked["user"])
            self.lines += 1
            if "stream_cut" in self.faults and self.lines % 40 == 0:
                assert request.transport is not None
                request.transport.abort()
                break
            if "stream_drains" in self.faults and self.lines % 30 == 0:
                await response.write(b'{"code": "draining"}\n')
                break
            told = {key: answer[key] for key in ("amount_fen", "rank", "replayed", "code") if key in answer}
            await response.write(json.dumps({"id": asked["id"], **told}).encode() + b"\n")
        return response

    async def _read(self, request: web.Request) -> web.Response:
        packet = self.packets.get(request.match_info["id"])
        if packet is None:
            return problem(404, "packet_not_found")
        grabs = packet.grabs[1:] if "win_forgotten" in self.faults else packet.grabs
        return web.json_response({**packet.view(), "grabs": grabs})

    async def _prove(self, request: web.Request) -> web.Response:
        lanes = self.proofs.get(request.match_info["id"])
        if lanes is None:
            return problem(404, "packet_not_found")
        proof = lanes[int(request.query.get("lane", 0))]
        if proof["state"] == "open":
            return web.json_response(proof)
        begin = int(request.query.get("after_rank", proof["rank_base"])) - proof["rank_base"]
        end = begin + self.proof_ranks_max
        page = {name: proof[name][begin:end] for name in ("shares_fen", "grabs")}
        page["chain_links"] = [] if begin else proof["chain_links"]
        page["next_after_rank"] = proof["rank_base"] + end if end < proof["count"] else proof["next_after_rank"]
        return web.json_response(proof | page)

    async def _wallet(self, request: web.Request) -> web.Response:
        return web.json_response({"available_fen": self.wallets[self._caller(request)], "held_fen": 0})

    async def _statement(self, request: web.Request) -> web.Response:
        return web.json_response({"entries": [], "next_cursor": None})

    async def _audit(self, request: web.Request) -> web.Response:
        if self._caller(request) != OPERATOR_TOKEN:
            return problem(403, "forbidden")
        packets = self.packets.values()
        body = {
            "funded_fen": sum(packet.total_fen for packet in packets),
            "paid_fen": self.paid_fen,
            "refunded_fen": sum(packet.refunded_fen for packet in packets),
            "remaining_fen": sum(packet.left_fen for packet in packets),
            "in_flight_fen": sum(amount_fen for _, amount_fen in self.unsettled),
            "settlement_lag_ms": 7,
            "difference_fen": int("books_differ" in self.faults),
            "clean": "books_differ" not in self.faults,
        }
        shard = {"stream": "packet-000", "kind": "packet", "book_sum_fen": 0, "version": self.requests, "unread": None}
        return web.json_response({"shards": [shard], **body})

    async def _levers(self, request: web.Request) -> web.Response:
        if self._caller(request) != OPERATOR_TOKEN:
            return problem(403, "forbidden")
        return web.json_response({"paused": list(self.levers.values())})

    async def _set_lever(self, request: web.Request) -> web.Response:
        if self._caller(request) != OPERATOR_TOKEN:
            return problem(403, "forbidden")
        packet_id = request.match_info.get("id")
        if packet_id is not None and packet_id not in self.packets:
            return problem(404, "packet_not_found")
        name = request.match_info.get("lever", "packet")
        if (await request.json())["paused"]:
            on: dict[str, Any] = {
                "lever": name,
                "packet_id": packet_id,
                "since_ms": self.now_ms,
                "by": "operator",
                "missing": [],
            }
            self.levers.setdefault((name, packet_id), on)
        else:
            self.levers.pop((name, packet_id), None)
        return web.json_response({})

    def settle(self) -> None:
        """Credit what was grabbed and refunded so far."""
        if "never_settles" in self.faults:
            return
        due, self.unsettled = self.unsettled, []
        for user, amount_fen in due:
            self.settled += 1
            if "credit_lost" not in self.faults or self.settled % 10:
                self.wallets[user] += amount_fen


def problem(status: int, code: str, *, retryable: bool = False) -> web.Response:
    """Refuse as the contract says."""
    body = {"type": f"/problems/{code}", "title": code, "status": status, "code": code, "retryable": retryable}
    return web.json_response(body, status=status, content_type="application/problem+json")


@asynccontextmanager
async def serving(gateway: FakeGateway) -> AsyncIterator[str]:
    """Serve on a free loopback port, with a settlement that runs a little later; yield the address."""

    async def settle() -> None:
        for _ in itertools.count():
            await asyncio.sleep(0.02)
            gateway.settle()

    runner = web.AppRunner(gateway.app(), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    settlement = asyncio.create_task(settle())
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        settlement.cancel()
        await runner.cleanup()
