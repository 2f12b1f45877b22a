"""Bed: a running system prepared for load over HTTP: senders with money, packets, requests made beforehand.

Every round ends with `settle` and `drain_rest`: what a timed run has left is taken, and then each packet must have paid
its total to the fen, every rank once, a user's repeated grab answered as the first time, and the audit must be clean.
"""

import asyncio
import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from actors.kernel.names import User
from cluster.client import BatchAnswer, ItemAnswer, PacketAnswer, TakenShare
from loadtest.bench.wire import drive_http, http_request
from loadtest.oracle import check_payout
from loadtest.target import TENANT

SENDERS = 200
BALANCE_FEN = 10**11
SHARE_FEN = 100
POPULATION = 100_000
"""Takers are so many different users."""
CONNECTIONS_SETUP = 32
CONNECTIONS_DRAIN = 8
DRAIN_SIZE = 500
TENS = 10
NO_LIMIT_S = 600.0
SETTLE_S_MAX = 60.0
POLL_S = 0.25
REPEATED = frozenset({"overloaded", "shard_unavailable", "journal_unavailable"})
REPEATED_STATUSES = frozenset({429, 503})
_ENCODE = msgspec.json.encode


_ITEMS = msgspec.json.Decoder(BatchAnswer)
_SENT = msgspec.json.Decoder(PacketAnswer)


class Bed:
    """A running system prepared for load."""

    def __init__(self, url: str, operator_token: str, gateway_token: str, run: str) -> None:
        """`run` makes users and keys of this bench unlike those of an earlier one."""
        self.url = url
        self.gateway_token = gateway_token
        self._operator_token = operator_token
        self._run = run
        self._serial = itertools.count()

    async def make_senders(self) -> None:
        """Give the senders money."""
        users = [User(TENANT, f"sender-{self._run}-{number}") for number in range(SENDERS)]
        bodies = [{"user": user, "tenant": tenant, "balance_fen": BALANCE_FEN} for tenant, user in users]
        requests = [http_request("POST", "/sandbox/users", self._operator_token, _ENCODE(body)) for body in bodies]
        await self.carry(requests, 201)

    def sends(self, count: int, shares: int, kind: str = "lucky") -> list[bytes]:
        """Make requests that send packets, each with a key of its own: repeated, they answer the same packet."""
        body = _ENCODE({"kind": kind, "total_fen": shares * SHARE_FEN, "count": shares})
        return [
            http_request(
                "POST",
                "/v1/packets",
                self.gateway_token,
                body,
                X_Acting_User=f"sender-{self._run}-{number % SENDERS}",
                Idempotency_Key=f"{self._run}-{next(self._serial)}",
            )
            for number in range(count)
        ]

    async def send(self, kind: str, shares: int, sender: str, key: str) -> PacketAnswer:
        """Send one packet."""
        body = _ENCODE({"kind": kind, "total_fen": shares * SHARE_FEN, "count": shares})
        headers = {"X_Acting_User": sender, "Idempotency_Key": key}
        [answer] = await self.carry([http_request("POST", "/v1/packets", self.gateway_token, body, **headers)], 201)
        return _SENT.decode(answer)

    async def open(self, sends: list[bytes]) -> list[str]:
        """Send packets and return their ids."""
        return [_SENT.decode(answer).packet_id for answer in await self.carry(sends, 201)]

    def single_grabs(self, packet_ids: Sequence[str], shares: int, path: str = "") -> list[bytes]:
        """Make a request for every share: each by another user, the packets interleaved ten at a time.

        `path`: the same requests to a no-op.
        """
        return [
            self.single_grab(packet_ids[at], taker_of(at, user, shares), path)
            for start in range(0, len(packet_ids), TENS)
            for user in range(shares)
            for at in range(start, min(start + TENS, len(packet_ids)))
        ]

    def single_grab(self, packet_id: str, user: str, path: str = "") -> bytes:
        """Make one request."""
        where = path or f"/v1/packets/{packet_id}/grabs"
        return http_request("POST", where, self.gateway_token, b"{}", X_Acting_User=user)

    def batch_grabs(self, packet_ids: Sequence[str], shares: int, size: int) -> list[bytes]:
        """Make batches of `size` grabs that take every share, packet after packet."""
        return self.batches(every_grab(packet_ids, shares), size)

    def batches(self, grabs: Sequence[dict[str, str]], size: int) -> list[bytes]:
        """Make batches of `size` grabs."""
        return [
            http_request("POST", "/v1/grabs/batch", self.gateway_token, _ENCODE({"grabs": grabs[at : at + size]}))
            for at in range(0, len(grabs), size)
        ]

    async def drain_rest(self, packet_ids: Sequence[str], shares: int) -> int:
        """Repeat every grab and take what is left; return how many had been taken before.

        Raises AssertionError unless each packet has paid its total, in shares of as many ranks, to as many users.
        """
        grabs = every_grab(packet_ids, shares)
        wins = [ItemAnswer()] * len(grabs)
        left = list(range(len(grabs)))
        while left:
            bodies = await self.carry(self.batches([grabs[at] for at in left], DRAIN_SIZE), 200, CONNECTIONS_DRAIN)
            results = [win for body in bodies for win in _ITEMS.decode(body).results]
            for at, win in zip(left, results, strict=True):
                wins[at] = win
            left = [at for at in left if wins[at].code in REPEATED]
        for place, packet_id in enumerate(packet_ids):
            at = place * shares
            users = [grab["user"] for grab in grabs[at : at + shares]]
            assert_paid_out(packet_id, shares, dict(zip(users, wins[at : at + shares], strict=True)))
        return sum(win.replayed for win in wins)

    async def take(
        self, packet_id: str, users: Iterable[str], *, size: int, connections: int, first_alone: bool = False
    ) -> tuple[float, dict[str, ItemAnswer]]:
        """Grab for everybody in batches; return the seconds and what each was answered.

        `first_alone`: nothing else is under way beside the first batch, which makes the split of the whole packet.
        """
        names = list(users)
        requests = self.batches([{"packet_id": packet_id, "user": user} for user in names], size)
        began_s = time.perf_counter()
        bodies = await self.carry(requests[:1], 200, 1) if first_alone else []
        bodies += await self.carry(requests[len(bodies) :], 200, connections)
        seconds = time.perf_counter() - began_s
        return seconds, dict(zip(names, (item for body in bodies for item in _ITEMS.decode(body).results), strict=True))

    async def check(self) -> dict[str, Any]:
        """Wait for settlement and return the audit. Raises AssertionError if a fen is missing."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + SETTLE_S_MAX
        while True:
            [report] = await self.carry([http_request("GET", "/v1/audit", self._operator_token)], 200)
            audit: dict[str, Any] = msgspec.json.decode(report)
            assert audit["clean"], f"the audit is not clean: {audit}"
            if audit["in_flight_fen"] == 0:
                return audit
            assert loop.time() < deadline_s, f"settlement does not end: {audit}"
            await asyncio.sleep(POLL_S)

    async def carry(self, requests: Sequence[bytes], status: int, connections: int = CONNECTIONS_SETUP) -> list[bytes]:
        """Send what is not load: each must be answered so, and is repeated if it was too much just now."""
        bodies = [b""] * len(requests)
        left = list(range(len(requests)))
        while left:
            pending = iter([requests[at] for at in left])
            run = await drive_http(
                self.url, pending, connections=min(connections, len(left)), seconds=NO_LIMIT_S, keep=True
            )
            assert set(run.statuses) <= {status, *REPEATED_STATUSES}, f"answered {run.statuses}: {run.bodies[:1]!r}"
            for at, (_, body) in zip(left, run.kept, strict=True):
                bodies[at] = body
            left = [at for at, (found, _) in zip(left, run.kept, strict=True) if found != status]
            if left:
                await asyncio.sleep(POLL_S)
        return bodies


def assert_paid_out(packet_id: str, count: int, items: Mapping[str, ItemAnswer]) -> None:
    """Raise AssertionError unless a packet's takers were told exactly its shares; who was refused has none."""
    won = [(user, item) for user, item in items.items() if item.rank]
    shares = [TakenShare(item.rank, user, item.amount_fen, 0) for user, item in won]
    violations = check_payout(packet_id, count * SHARE_FEN, count, shares)
    assert not violations, violations[:3]


def every_grab(packet_ids: Sequence[str], shares: int) -> list[dict[str, str]]:
    """List a grab for every share, packet after packet, each of another user."""
    return [
        {"packet_id": packet_id, "user": taker_of(at, user, shares)}
        for at, packet_id in enumerate(packet_ids)
        for user in range(shares)
    ]


def taker_of(packet: int, share: int, shares: int) -> str:
    """Name the user who takes the so manieth share of the so manieth packet."""
    return f"taker-{(packet * shares + share) % POPULATION}"
