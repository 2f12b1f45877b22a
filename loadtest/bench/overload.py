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

from loadtest.bench.bed import SHARE_FEN, Bed
from loadtest.bench.open_loop import OpenRun, offer
from loadtest.bench.result import BenchRow, bounded, compare
from loadtest.bench.wire import drive_http
from loadtest.fairness.statistic import percentile
from loadtest.target import Target

SHARES = 20_000
PACKETS = 16
"""Packets that the crowd is before at any time."""

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
REFUSAL_MS_MAX = 20.0
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

    def __init__(self, bed: Bed, say: Callable[[str], None]) -> None:
        self._bed = bed
        self._say = say
        self._open: list[Iterator[tuple[str, int]]] = []

    async def stock(self, shares: int) -> None:
        """Have packets for so many shares."""
        packets = await self._bed.open(self._bed.sends(PACKETS + -(-shares // SHARES), SHARES, kind="equal"))
        self._open = [iter([(packet_id, user) for user in range(SHARES)]) for packet_id in packets]

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
                yield self._bed.single_grab(packet_id, f"taker-{user}")
            else:
                yield from self._bed.batches(
                    [{"packet_id": packet_id, "user": f"taker-{user}"} for packet_id, user in wanted], items
                )

    async def paid(self) -> int:
        """Wait for settlement; return the shares paid so far. Raises AssertionError if a fen is missing."""
        return int((await self._bed.check())["paid_fen"]) // SHARE_FEN

    async def sustainable(self, door: BenchRoute) -> float:
        """Return the greatest rate of requests that is carried."""
        await self.stock(int(PROBE_S * 120_000 if door.items > 1 else PROBE_S * 10_000))
        probe = await drive_http(
            self._bed.url, self.requests(door.items), connections=door.probe_connections, seconds=PROBE_S
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
        run = await offer(self._bed.url, iter(requests), rate=rate, seconds=seconds, connections=door.connections)
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
        kept = [turn.shares for turn in twice], [turn.shares for turn in once]
        rows = [compare(f"{door.name}: shares/s kept at twice the load", *kept, "/s", at_least=door.kept_min)]
        if door.items > 1:
            ours_ms = [percentile(turn.run.accepted_ms, 0.99) for turn in twice]
            peer_ms = [percentile(turn.run.accepted_ms, 0.99) for turn in once]
            rows.append(compare(f"{door.name}: p99 of accepted at twice the load", ours_ms, peer_ms, "ms", at_most=3.0))
            refused_ms = statistics.median(percentile(turn.run.refused_ms, 0.99) for turn in twice)
            rows.append(bounded(f"{door.name}: p99 of refusals", refused_ms, REFUSAL_MS_MAX, "ms"))
        return rows


async def overload_rows(
    bed: Bed, say: Callable[[str], None], turns: int = TURNS, doors: tuple[BenchRoute, ...] = DOORS
) -> list[BenchRow]:
    """Measure every door of a running system whose packets may have 20,000 shares (`limits.count_max`)."""
    offered = OfferedPackets(bed, say)
    rows: list[BenchRow] = []
    for door in doors:
        rows += await offered.rows(door, turns)
    return rows


async def _measured(target: Target, say: Callable[[str], None], doors: tuple[BenchRoute, ...]) -> list[BenchRow]:
    bed = Bed(target.url, target.operator_token, target.gateway_token, f"overload-{time.time_ns()}")
    await bed.make_senders()
    return await overload_rows(bed, say, doors=doors)


def main() -> None:
    """Run it on a system of its own; words of the command line choose doors."""
    os.environ |= CONFIGURATION
    from loadtest.target import own_target

    def say(words: str) -> None:
        sys.stderr.write(words + "\n")

    doors = tuple(door for door in DOORS if not sys.argv[1:] or any(word in door.name for word in sys.argv[1:]))
    with own_target("overload", say) as target:
        rows = asyncio.run(_measured(target, say, doors))
    for row in rows:
        sys.stdout.write(_ENCODE(row._asdict()).decode() + "\n")
    sys.exit(0 if all(row.met for row in rows) else 1)


if __name__ == "__main__":
    main()
