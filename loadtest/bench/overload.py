"""Overload: what the platform keeps at twice the load that it can carry, by batches of 200 and by single grabs.

A ramp finds the sustainable rate: the greatest that is carried without refusals, at a bounded p99. Then that rate and
its double are offered by turns, A B A B, open loop. The audit counts the shares that were really paid in each turn:
more promised than paid would show. Rows compare the medians of the turns: shares a second at the double with those at
the single rate, the p99 of what was let in, and the p99 of refusals in milliseconds.

`python -m loadtest.bench.overload` runs it alone, on a system of its own.
"""

import asyncio
import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from loadtest.bench.open_loop import OpenRun, offer, percentile
from loadtest.bench.result import BenchRow
from loadtest.bench.wire import drive_http, http_request

TENANT = "wechat"
SHARE_FEN = 10
SHARES = 20_000
PACKETS = 16
"""Packets that the crowd is before at any time."""

PACKET_CONNECTIONS = 8
BATCH_SIZE = 200
PROBE_S = 3.0
STEP_S = 3.0
TURN_S = 8.0

RAMP = (0.6, 0.7, 0.8, 0.9, 1.0, 1.15, 1.3, 1.5, 1.75, 2.0)
"""Steps of the ramp, in what a closed loop of impatient clients gets: few clients may get less than there is."""

CARRIED = 0.98
"""A rate is carried if that part of it is let in,"""
P99_MS_MAX = 250.0
"""and the p99 stays below."""

TURNS = 2
SETTLE_S_MAX = 90.0
CONFIGURATION = {"HONGBAO_LIMITS__COUNT_MAX": str(SHARES), "HONGBAO_TIMING__SNAPSHOT_EVENTS": "1000000000"}
"""Of a system of its own: packets for a crowd; no snapshots, which on two cores take turns with what is measured."""

_ENCODE = msgspec.json.encode


class BenchRoute(NamedTuple):
    """A way in: `items` shares a request, over so many connections; what is kept of its rate at the double."""

    name: str
    items: int
    connections: int
    probe_connections: int
    kept_min: float


DOORS = (BenchRoute("batch of 200", BATCH_SIZE, 256, 24, 0.9), BenchRoute("single", 1, 1_024, 128, 0.45))


class Turn(NamedTuple):
    """One turn: requests offered a second, shares told a second, and the rest."""

    offered: float
    shares: float
    run: OpenRun


class OfferedPackets:
    """Packets with shares for all, and requests for them."""

    def __init__(self, url: str, operator_token: str, gateway_token: str, say: Callable[[str], None]) -> None:
        self._url = url
        self._operator = operator_token
        self._gateway = gateway_token
        self._say = say
        self._sender = f"overload-{time.time_ns()}"
        self._serial = itertools.count()
        self._open: list[Iterator[tuple[str, int]]] = []

    async def begin(self) -> None:
        """Give the sender money."""
        body = _ENCODE({"user": self._sender, "tenant": TENANT, "balance_fen": 10**12})
        await self._ask([http_request("POST", "/sandbox/users", self._operator, body)], 201)

    async def stock(self, shares: int) -> None:
        """Have packets for so many shares."""
        body = _ENCODE({"kind": "equal", "total_fen": SHARES * SHARE_FEN, "count": SHARES})
        sends = [
            http_request(
                "POST",
                "/v1/packets",
                self._gateway,
                body,
                X_Acting_User=self._sender,
                Idempotency_Key=f"{self._sender}-{next(self._serial)}",
            )
            for _ in range(PACKETS + -(-shares // SHARES))
        ]
        answers = await self._ask(sends, 201)
        ids = [msgspec.json.decode(answer)["packet_id"] for answer in answers]
        self._open = [iter([(packet_id, user) for user in range(SHARES)]) for packet_id in ids]

    def requests(self, items: int) -> Iterator[bytes]:
        """Yield requests, each for one packet, the packets by turns, until the stock is gone."""
        while self._open:
            shelf = self._open.pop(0)
            wanted = list(itertools.islice(shelf, items))
            if len(wanted) < items:
                continue
            self._open.insert(min(PACKETS, len(self._open)), shelf)
            if items == 1:
                [(packet_id, user)] = wanted
                path = f"/v1/packets/{packet_id}/grabs"
                yield http_request("POST", path, self._gateway, b"{}", X_Acting_User=f"taker-{user}")
            else:
                grabs = [{"packet_id": packet_id, "user": f"taker-{user}"} for packet_id, user in wanted]
                yield http_request("POST", "/v1/grabs/batch", self._gateway, _ENCODE({"grabs": grabs}))

    async def paid(self) -> int:
        """Wait for settlement; return the shares paid so far. Raises AssertionError if a fen is missing."""
        deadline_s = time.monotonic() + SETTLE_S_MAX
        while True:
            [answer] = await self._ask([http_request("GET", "/v1/audit", self._operator)], 200)
            audit = msgspec.json.decode(answer)
            assert audit["clean"], f"the audit is not clean: {audit}"
            if audit["in_flight_fen"] == 0:
                return int(audit["paid_fen"]) // SHARE_FEN
            assert time.monotonic() < deadline_s, f"settlement does not end: {audit}"
            await asyncio.sleep(0.3)

    async def sustainable(self, door: BenchRoute) -> float:
        """Return the greatest rate of requests that is carried."""
        await self.stock(int(PROBE_S * 120_000 if door.items > 1 else PROBE_S * 10_000))
        probe = await drive_http(
            self._url, self.requests(door.items), connections=door.probe_connections, seconds=PROBE_S
        )
        peak = probe.statuses.get(200, 0) / probe.seconds
        self._say(f"{door.name}: a closed loop gets {peak * door.items:,.0f}/s ({probe.statuses})")
        found = peak * RAMP[0]
        for step in RAMP:
            turn = await self.turn(door, peak * step, STEP_S)
            run = turn.run
            carried = run.accepted >= CARRIED * run.offered and not run.unsent
            if not carried or percentile(run.accepted_ms, 0.99) > P99_MS_MAX:
                break
            found = peak * step
        return found

    async def turn(self, door: BenchRoute, rate: float, seconds: float) -> Turn:
        """Offer a rate; the shares paid are counted by the audit."""
        await self.stock(int(rate * seconds * 1.1 + 100) * door.items)
        requests = list(itertools.islice(self.requests(door.items), int(rate * seconds) + 1))
        before = await self.paid()
        run = await offer(self._url, iter(requests), rate=rate, seconds=seconds, connections=door.connections)
        paid = await self.paid() - before
        told = len(run.accepted_ms) * door.items
        assert paid >= told or run.partial, f"{told} shares were promised and {paid} paid"
        turn = Turn(run.offered / run.seconds, run.accepted * door.items / run.seconds, run)
        let_in, refused = run.accepted_ms, run.refused_ms
        self._say(
            f"{door.name}: offered {turn.offered:,.0f} requests/s, accepted {run.accepted_per_second:,.0f}, refused "
            f"{run.refused / run.seconds:,.0f}, unsent {run.unsent}, other {run.other}; {turn.shares:,.0f} shares/s; "
            f"ms p50 {percentile(let_in, 0.5):.1f} p99 {percentile(let_in, 0.99):.1f}, of refusals "
            f"p50 {percentile(refused, 0.5):.1f} p99 {percentile(refused, 0.99):.1f}"
        )
        return turn

    async def rows(self, door: BenchRoute, turns: int) -> list[BenchRow]:
        """Offer once and twice the sustainable rate, by turns."""
        rate = await self.sustainable(door)
        once, twice = [], []
        for _ in range(turns):
            once.append(await self.turn(door, rate, TURN_S))
            twice.append(await self.turn(door, 2 * rate, TURN_S))
        rows = [
            _row(
                f"{door.name}: shares/s kept at twice the load",
                [turn.shares for turn in twice],
                [turn.shares for turn in once],
                door.kept_min,
                "/s",
            )
        ]
        if door.items > 1:
            p99_once = [percentile(turn.run.accepted_ms, 0.99) for turn in once]
            p99_twice = [percentile(turn.run.accepted_ms, 0.99) for turn in twice]
            rows.append(
                _row(f"{door.name}: p99 of accepted at twice the load", p99_twice, p99_once, 3.0, "ms", most=True)
            )
            refused = [percentile(turn.run.refused_ms, 0.99) for turn in twice]
            rows.append(_row(f"{door.name}: p99 of refusals", refused, [20.0], 1.0, "ms", most=True))
        return rows

    async def _ask(self, requests: list[bytes], status: int) -> list[bytes]:
        """Set up: everything must be answered so, a refusal of an overloaded gateway is repeated."""
        answers: list[bytes] = []
        for request in requests:
            while True:
                run = await drive_http(self._url, iter([request]), connections=1, seconds=600.0, keep=True)
                if set(run.statuses) == {status}:
                    break
                assert set(run.statuses) <= {429, 503}, f"set-up was answered {run.statuses}: {run.bodies!r}"
                await asyncio.sleep(0.3)
            answers += run.bodies
        return answers


def _row(name: str, ours: list[float], peer: list[float], target: float, unit: str, *, most: bool = False) -> BenchRow:
    a, b = statistics.median(ours), statistics.median(peer)
    ratio = a / b if b else float("inf")
    met = ratio <= target if most else ratio >= target
    note = "by turn " + " ".join(f"{x:,.0f}/{y:,.0f}" for x, y in zip(ours, itertools.cycle(peer), strict=False))
    return BenchRow(name, round(a, 1), round(b, 1), round(ratio, 2), target, met, unit, most, note)


async def overload_rows(
    url: str,
    operator_token: str,
    gateway_token: str,
    say: Callable[[str], None],
    turns: int = TURNS,
    doors: tuple[BenchRoute, ...] = DOORS,
) -> list[BenchRow]:
    """Measure every door of a running system whose packets may have 20,000 shares (`limits.count_max`)."""
    crowd = OfferedPackets(url, operator_token, gateway_token, say)
    await crowd.begin()
    rows: list[BenchRow] = []
    for door in doors:
        rows += await crowd.rows(door, turns)
    return rows


def main() -> None:
    """Run it on a system of its own; words of the command line choose doors."""
    os.environ |= CONFIGURATION
    from loadtest.target import own_target

    def say(words: str) -> None:
        sys.stderr.write(words + "\n")

    doors = tuple(door for door in DOORS if not sys.argv[1:] or any(word in door.name for word in sys.argv[1:]))
    with own_target("overload", say) as target:
        rows = asyncio.run(overload_rows(target.url, target.operator_token, target.gateway_token, say, doors=doors))
    for row in rows:
        sys.stdout.write(_ENCODE(row._asdict()).decode() + "\n")
    sys.exit(0 if all(row.met for row in rows) else 1)


if __name__ == "__main__":
    main()
