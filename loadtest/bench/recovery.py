"""Recovery: how long a killed shard is away, and how long a snapshot of a big one holds it up.

`python -m loadtest.bench.recovery`, on a system of its own. Kill -9 of the packet shard's process until the first grab
on it is answered, beside a bare Ray actor killed the same way, A B A B; with more and more events behind it, and more
and more of them behind its snapshots. Then stalls: a probe asks a shard that holds a million accounts, or a hundred
thousand live packets, every few milliseconds, with and without a snapshot of its stream under way, and during an audit.
Rows are differences of medians in milliseconds; everything is real traffic, and the audit is clean at the end.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import statistics
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from rich.console import Console
from rich.table import Table

from cluster.screen import Screen

if TYPE_CHECKING:
    from loadtest.bench.traffic import Traffic

PARTS = ("recovery", "stalls")
STEPS = ((10_000, 10_000), (100_000, 10_000), (1_000_000, 10_000), (1_200_000, 200_000), (1_400_000, 400_000))
"""(events behind the packet shard, of which behind its snapshots). The last two: what the default period leaves on the
average and at worst, 8 streams of up to 50,000."""
STEPS_QUICK = ((10_000, 10_000), (50_000, 10_000))
TARGET_STEP = (1_200_000, 200_000)
RECOVERY_ROUNDS = 5
RECOVERY_MS_MAX = 1_500.0
ACCOUNTS = 1_000_000
LIVE_PACKETS = 100_000
LIVE_SHARES = 10
LIVE_TAKEN = 5
STALL_ROUNDS = 3
STALL_MS_MAX = 50.0
QUIET_S = 5.0
PROBE_PAUSE_S = 0.003
RETRY_PAUSE_S = 0.01
CALM_S = 2.0
ANSWER_S_MAX = 60.0
NEVER_EVENTS = 1_000_000_000
"""The supervisor takes no snapshots here, the bench does."""

Ask = Callable[[], Awaitable[bool]]
Pid = Callable[[], Awaitable[int]]


class Gap(NamedTuple):
    """One line of the result, in milliseconds. `target` 0: none."""

    name: str
    ours: float
    peer: float
    difference: float
    target: float
    met: bool
    note: str = ""


def gap(name: str, ours: list[float], peer: list[float], target: float, note: str) -> Gap:
    """Compare the medians of the rounds."""
    left, right = statistics.median(ours), statistics.median(peer)
    difference = left - right
    return Gap(
        name, round(left, 1), round(right, 1), round(difference, 1), target, not target or difference <= target, note
    )


class Bench:
    """Both measurements on one running system, whose driver this process is."""

    def __init__(self, traffic: "Traffic", say: Callable[[str], None], parts: Sequence[str], *, quick: bool) -> None:
        self._traffic = traffic
        self._parts = parts
        self._say = say
        self._steps = STEPS_QUICK if quick else STEPS
        self._scale = 20 if quick else 1

    async def rows(self) -> list[Gap]:
        """Measure everything."""
        await self._traffic.begin()
        rows = []
        for events, tail in self._steps if "recovery" in self._parts else ():
            rows.append(await self._recovery(events, tail))
            self._say(f"  {rows[-1].ours:,.0f} ms, a bare actor {rows[-1].peer:,.0f} ms")
        await self._traffic.check()
        if "stalls" in self._parts:
            rows += await self._stalls()
        return rows

    async def _recovery(self, events: int, tail: int) -> Gap:
        traffic = self._traffic
        self._say(f"recovery with {events:,} events behind it, {tail:,} behind the snapshots")
        await traffic.journal(events - tail)
        if events > tail:
            await traffic.snapshot()
        await traffic.journal(events)
        target = RECOVERY_MS_MAX if (events, tail) == TARGET_STEP else 0.0
        name = f"first answer, {events:,} events behind / bare actor"
        return await self._away(name, traffic.pid, traffic.grab, target, f"{tail:,} not in snapshots")

    async def _away(self, name: str, pid: Pid, ask: Ask, target: float, note: str) -> Gap:
        """Kill a shard and a bare actor by turns, and compare how long they are away."""
        bare = self._traffic.bare_actor()
        shard: tuple[list[float], Pid, Ask] = ([], pid, ask)
        peer: tuple[list[float], Pid, Ask] = ([], bare.pid, bare.ask)
        for turn in range(RECOVERY_ROUNDS):
            for found, present, question in (shard, peer) if turn % 2 else (peer, shard):
                await asyncio.sleep(CALM_S)  # Ray holds a few processes ready; each side finds as many
                found.append(await first_answer_ms(await present(), question))
        bare.end()
        return gap(name, shard[0], peer[0], target, f"{note}; {min(shard[0]):,.0f} to {max(shard[0]):,.0f} ms")

    async def _stalls(self) -> list[Gap]:
        traffic, accounts, packets = self._traffic, ACCOUNTS // self._scale, LIVE_PACKETS // self._scale
        self._say(f"{accounts:,} accounts in one stream")
        await traffic.accounts(accounts)
        name = f"longest answer of a shard, {accounts:,} accounts, "
        rows = [
            await self._stall(name + "snapshot / none", traffic.read, traffic.snapshot_of_accounts, STALL_MS_MAX),
            await self._stall(name + "audit / none", traffic.read, traffic.audit_once, 0.0),
        ]
        name = f"first answer, {accounts:,} accounts in the snapshot / bare actor"
        rows.append(await self._away(name, traffic.pid_of_accounts, traffic.read, RECOVERY_MS_MAX, "nothing behind it"))
        self._say(f"{packets:,} live packets")
        await traffic.live_packets(packets, LIVE_SHARES, LIVE_TAKEN)
        name = f"longest answer of a shard, {packets:,} live packets, "
        rows += [
            await self._stall(name + "snapshot / none", traffic.look, traffic.snapshot, STALL_MS_MAX),
            await self._stall(name + "audit / none", traffic.look, traffic.audit_once, 0.0),
        ]
        return rows

    async def _stall(self, name: str, ask: Ask, act: Callable[[], Awaitable[None]], target: float) -> Gap:
        """Compare the longest answer while `act` runs with the longest in quiet windows before and after."""
        self._say(name)
        busy, quiet, seconds, late = [], [], [], []
        loop = asyncio.get_running_loop()
        for _ in range(STALL_ROUNDS):
            quiet.append((await longest_ms(ask, asyncio.sleep(QUIET_S)))[0])
            began_s = loop.time()
            longest, own = await longest_ms(ask, act())
            busy.append(longest)
            late.append(own)
            seconds.append(loop.time() - began_s)
            self._say(f"  {longest:,.0f} ms in {seconds[-1]:.1f} s, before it {quiet[-1]:,.0f} ms; late {own:,.0f} ms")
        note = f"{statistics.median(seconds):.1f} s each; at most {max(busy):.0f} ms; prober late {max(late):.0f} ms"
        return gap(name, busy, quiet, target, note)


async def first_answer_ms(pid: int, ask: Ask) -> float:
    """Kill a process and return the milliseconds until its successor has answered."""
    loop = asyncio.get_running_loop()
    os.kill(pid, signal.SIGKILL)
    began_s = loop.time()
    while not await ask():
        assert loop.time() - began_s < ANSWER_S_MAX, "nobody takes its place"
        await asyncio.sleep(RETRY_PAUSE_S)
    return (loop.time() - began_s) * 1000


async def longest_ms(ask: Ask, until: Any) -> tuple[float, float]:
    """Ask again and again while something else runs; return the longest answer, and how late this very process was.

    Both in milliseconds. A process that is itself late (a busy machine) cannot tell how late others are.
    """
    loop = asyncio.get_running_loop()
    ending = asyncio.ensure_future(until)
    longest_s = late_s = 0.0

    async def metronome() -> None:
        nonlocal late_s
        while not ending.done():
            due_s = loop.time() + PROBE_PAUSE_S
            await asyncio.sleep(PROBE_PAUSE_S)
            late_s = max(late_s, loop.time() - due_s)

    beating = asyncio.ensure_future(metronome())
    while not ending.done():
        began_s = loop.time()
        assert await ask(), "the shard does not answer"
        longest_s = max(longest_s, loop.time() - began_s)
        await asyncio.sleep(PROBE_PAUSE_S)
    await asyncio.gather(ending, beating)
    return longest_s * 1000, late_s * 1000


def measure(say: Callable[[str], None], parts: Sequence[str] = PARTS, *, quick: bool = False) -> list[Gap]:
    """Run the bench on a system of its own and return its rows."""
    os.environ["HONGBAO_TIMING__SNAPSHOT_EVENTS"] = str(NEVER_EVENTS)
    os.environ["HONGBAO_PACKET__RULES__PASSIVATE_AFTER_MS"] = "1000"
    from cluster.config import keys_at, load
    from cluster.local import bootstrap
    from loadtest.target import own_system

    with own_system("bench", say) as record:
        os.environ.update(bootstrap.system_environment(record))
        import ray

        from loadtest.bench.traffic import Traffic

        ray.init(address=record.ray_address, namespace="hongbao", log_to_driver=False, logging_level="error")
        try:
            settings = load(record.config, store_url=record.store_url, archive_url=str(record.data / "archive"))
            traffic = Traffic(settings, keys_at(record.data / "keys.json"))
            return asyncio.run(Bench(traffic, say, parts, quick=quick).rows())
        finally:
            ray.shutdown()  # before the system ends: a driver whose Ray is gone waits a minute


def show(rows: list[Gap], console: Console) -> None:
    """Print the rows as a table."""
    table = Table(title="hongbao recovery: medians in ms, one run, one machine, fsync always")
    for column in ("what", "ours", "peer", "difference", "target", "met", "note"):
        table.add_column(column, justify="right" if column in ("ours", "peer", "difference", "target") else "left")
    for row in rows:
        target, met = (f"<= {row.target:g}", "yes" if row.met else "NO") if row.target else ("", "")
        table.add_row(row.name, f"{row.ours:,.0f}", f"{row.peer:,.0f}", f"{row.difference:,.0f}", target, met, row.note)
    console.print(table)


def main() -> None:
    """Run the bench, print the table, exit 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the rows as JSON, one a line")
    parser.add_argument("--quick", action="store_true", help="a twentieth of everything: shows that it works")
    parser.add_argument("--only", choices=PARTS, help="one of the two measurements")
    arguments = parser.parse_args()
    parts = (arguments.only,) if arguments.only else PARTS
    console = Screen(stderr=True)
    # Ray writes a paragraph about every process that we kill to the standard output.
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        rows = measure(lambda words: console.print(words, highlight=False), parts, quick=arguments.quick)
    if arguments.json:
        for row in rows:
            sys.stdout.write(msgspec.json.encode(row._asdict()).decode() + "\n")
    show(rows, Screen(stderr=arguments.json, plain_width=160))
    sys.exit(0 if all(row.met for row in rows) else 1)


if __name__ == "__main__":
    main()
