"""Bench: the platform beside its peers, in one run on one machine, with the same durability, A B A B.

`make bench`. Figures are ratios of medians over the rounds; every round checks that each side paid out exactly.
Rows: (a) one shard actor against Redis Lua; (b) the batch route against the single route; (c) single grabs against a
Serve no-op; memory of a live packet and of an account.
"""

import argparse
import asyncio
import contextlib
import itertools
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
from rich.console import Console
from rich.table import Table

from cluster import bootstrap
from cluster.config import Keys, Settings, keys_at, load
from cluster.system import SystemRecord
from cluster.tokens import mint

ROUNDS = 3
SHARD_ROUNDS = 5
SHARD_SHARES = 100_000
SHARD_BATCH = 1_000
SHARD_CALLS = 8
REDIS_CONNECTIONS = 50
REDIS_DEPTH = 16
HTTP_SECONDS = 4.0
HTTP_CONNECTIONS = 128
BATCH_CONNECTIONS = 24
BATCH_SIZE = 200
SHARES = 100
MEMORY_COUNT = 100_000
WARM_UP_TRIES = 30

if TYPE_CHECKING:
    from loadtest.bench.wire import HttpRun

LUA = "local s = redis.call('LPOP', KEYS[1]) if s then redis.call('HSET', KEYS[2], ARGV[1], s) end return s"


class Row(NamedTuple):
    """One line of the result. `unit` is of `ours` and `peer`; `at_most`: smaller is better."""

    name: str
    ours: float
    peer: float
    ratio: float
    target: float
    met: bool
    unit: str
    note: str = ""


def at_least(name: str, ours: list[float], peer: list[float], target: float, unit: str, note: str = "") -> Row:
    """Compare the medians of two sides; more is better."""
    a, b = statistics.median(ours), statistics.median(peer)
    rounds = " ".join(f"{x / y:.2f}" for x, y in zip(ours, peer, strict=True))
    return Row(name, round(a), round(b), round(a / b, 2), target, a / b >= target, unit, f"{note} (by round {rounds})")


def at_most(name: str, ours: float, bound: float, note: str) -> Row:
    """Compare a size with its bound."""
    return Row(name, ours, bound, round(ours / bound, 2), 1.0, ours <= bound, "bytes", note)


class Bench:
    """One run over a system of its own."""

    def __init__(self, record: SystemRecord, settings: Settings, keys: Keys, say: Any) -> None:
        from loadtest.bench.platform import Bed, HotShard, deploy_no_ops

        self._settings = settings
        self._say = say
        run = f"{time.time_ns() // 1_000_000:x}"
        now_s = int(time.time())
        operator = mint(keys, user="bench", tenant="platform", scope="operator", now_s=now_s, ttl_s=7_200)
        gateway = mint(keys, user="bench", tenant="wechat", scope="gateway", now_s=now_s, ttl_s=7_200)
        self._bed = Bed(record.url, operator, gateway, run)
        self._shard = HotShard(settings, keys, run)
        self._url = record.url
        deploy_no_ops(settings)
        self._store = record.store_url

    async def rows(self) -> list[Row]:
        """Measure everything."""
        await self._warm_up()
        await self._bed.make_senders()
        over_http = await self._http()
        await self._bed.check()
        # The shard's row comes last: the store rewrites what it leaves, in the background, beside whatever follows.
        rows = [await self._shard_against_lua(), *over_http]
        rows.append(at_most("a live 10-share packet", memory("packets"), 2_048, "5 of 10 taken"))
        rows.append(at_most("an account", memory("accounts"), 400, "one statement line"))
        return rows

    async def _warm_up(self) -> None:
        """Ask everything once, until HAProxy has stopped reloading for what was just deployed."""
        from loadtest.bench.wire import drive_http, http_request

        quiet = 0
        for _ in range(WARM_UP_TRIES):
            requests = [http_request("POST", path, body=b"{}") for path in ("/no-op", "/raw-no-op")] * 200
            try:
                run = await drive_http(self._url, iter(requests), connections=8, seconds=HTTP_SECONDS)
                quiet = quiet + 1 if set(run.statuses) == {200} else 0
            except OSError:
                quiet = 0
            if quiet == 3:
                return
            await asyncio.sleep(0.5)
        raise RuntimeError("the no-ops do not answer")

    async def _shard_against_lua(self) -> Row:
        import redis.asyncio as redis

        await self._shard.start()
        async with redis.Redis.from_url(self._store) as store:
            # Rewriting its log in the background takes a core from whichever side is running.
            await store.config_set("auto-aof-rewrite-percentage", 0)
        ours, peer = [], []
        for turn in range(SHARD_ROUNDS):
            self._say(f"(a) one shard against Redis Lua, round {turn + 1} of {SHARD_ROUNDS}")
            packet_id = await self._shard.open(SHARD_SHARES)
            seconds = await self._shard.drain(packet_id, SHARD_SHARES, SHARD_BATCH, SHARD_CALLS)
            ours.append((SHARD_SHARES - 1) / seconds)
            peer.append(await self._lua(turn))
        self._shard.stop()
        note = f"{SHARD_BATCH} grabs a call; Lua LPOP+HSET {REDIS_DEPTH} deep x {REDIS_CONNECTIONS} connections"
        return at_least("(a) one shard actor / Redis Lua", ours, peer, 2.0, "grabs/s", note)

    async def _lua(self, turn: int) -> float:
        """Drain a list of shares with the Lua script; return grabs a second."""
        import redis.asyncio as redis

        from loadtest.bench.wire import drive_resp, resp

        client = redis.Redis.from_url(self._store)
        shares, takers = f"bench:shares:{turn}", f"bench:takers:{turn}"
        count = SHARD_SHARES // 2  # half as many: it is the slower one, and the rate is the same
        for _ in range(0, count, 10_000):
            await client.rpush(shares, *([100] * 10_000))
        sha = await client.script_load(LUA)
        commands = [resp("EVALSHA", sha, 2, shares, takers, f"user{i}") for i in range(count)]
        path = urlsplit(self._store).path
        seconds, values = await drive_resp(path, commands, connections=REDIS_CONNECTIONS, depth=REDIS_DEPTH)
        paid = sum(int(text) for text in await client.hvals(takers))
        assert (values, paid) == (count, count * 100), "the peer pays out exactly as well"
        await client.delete(shares, takers)
        await client.aclose()
        return count / seconds

    async def _http(self) -> list[Row]:
        from loadtest.bench.wire import http_request

        figures: dict[str, list[float]] = {}
        p50: dict[str, list[float]] = {}
        no_op = {path: http_request("POST", path, body=b"{}") for path in ("/no-op", "/raw-no-op")}
        for turn in range(ROUNDS):
            self._say(f"(b) (c) HTTP, round {turn + 1} of {ROUNDS}")
            await self._bed.check()  # what the round before has left to settle is not this round's load
            packets, sent = await self._bed.send_packets(400, SHARES)
            figures.setdefault("sends", []).append(sent.per_second)
            # Made beforehand, all of them: what the client does meanwhile would be counted as the server's.
            singles = iter(list(self._bed.single_grabs(packets, SHARES)))
            packets, _ = await self._bed.send_packets(2_000, SHARES)
            batches = iter(list(self._bed.batch_grabs(packets, SHARES, BATCH_SIZE)))
            for name, requests, connections, each in (
                ("single", singles, HTTP_CONNECTIONS, 1),
                ("no-op", itertools.repeat(no_op["/no-op"]), HTTP_CONNECTIONS, 1),
                ("raw no-op", itertools.repeat(no_op["/raw-no-op"]), HTTP_CONNECTIONS, 1),
                ("batch", batches, BATCH_CONNECTIONS, BATCH_SIZE),
            ):
                run = await self._drive(requests, connections)
                figures.setdefault(name, []).append(run.per_second * each)
                p50.setdefault(name, []).append(run.percentile_ms(0.5))
        median_ms = {name: statistics.median(found) for name, found in p50.items()}
        note = f"{HTTP_CONNECTIONS} connections, p50 {median_ms['single']:.1f} / {median_ms['no-op']:.1f} ms"
        single = figures["single"]
        return [
            at_least("(b) HTTP batch of 200 / single route", figures["batch"], single, 15.0, "grabs/s"),
            at_least("(c) HTTP single grabs / Serve no-op", single, figures["no-op"], 0.5, "requests/s", note),
            at_least("    the same / raw ASGI no-op on Serve", single, figures["raw no-op"], 0.0, "requests/s"),
            at_least("    HTTP sends / single grabs", figures["sends"], single, 0.0, "requests/s"),
        ]

    async def _drive(self, requests: Iterator[bytes], connections: int) -> "HttpRun":
        from loadtest.bench.wire import drive_http

        run = await drive_http(self._url, requests, connections=connections, seconds=HTTP_SECONDS)
        assert set(run.statuses) == {200}, f"the load was answered {run.statuses}"
        return run


def memory(what: str) -> int:
    """Measure the bytes a packet or an account takes, in a process of its own."""
    command = [sys.executable, "-m", "loadtest.bench.memory", what, str(MEMORY_COUNT)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout)


@contextlib.contextmanager
def own_system(say: Any) -> Iterator[SystemRecord]:
    """Run a system in a temporary folder and end it."""
    folder = Path(tempfile.mkdtemp(prefix="hongbao-bench-"))
    try:
        yield bootstrap.up(folder, report=say)
    finally:
        bootstrap.down(folder, say)
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Run the bench, print the table, exit 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the rows as JSON, one a line")
    parser.add_argument("--recovery", action="store_true", help="then also loadtest.bench.recovery (about 8 minutes)")
    arguments = parser.parse_args()
    console = Console(stderr=True)

    def say(words: str) -> None:
        console.print(words, highlight=False)

    with own_system(say) as record:
        os.environ.update(bootstrap.system_environment(record))
        import ray

        ray.init(address=record.ray_address, namespace="hongbao", log_to_driver=False, logging_level="error")
        try:
            settings = load(record.config, store_url=record.store_url)
            rows = asyncio.run(Bench(record, settings, keys_at(record.data / "keys.json"), say).rows())
        finally:
            ray.shutdown()  # before the system ends: a driver whose Ray is gone waits a minute
    table = Table(title="hongbao bench: medians, one run, one machine, fsync always")
    for column in ("what", "ours", "peer", "unit", "ratio", "target", "met", "note"):
        table.add_column(column, justify="right" if column in ("ours", "peer", "ratio", "target") else "left")
    for row in rows:
        target = f"{'<=' if row.unit == 'bytes' else '>='} {row.target:g}" if row.target else ""
        met = ("yes" if row.met else "NO") if row.target else ""
        table.add_row(
            row.name, f"{row.ours:,.0f}", f"{row.peer:,.0f}", row.unit, f"{row.ratio:g}", target, met, row.note
        )
        if arguments.json:
            sys.stdout.write(msgspec.json.encode(row._asdict()).decode() + "\n")
    Console(width=None if sys.stdout.isatty() else 150, stderr=arguments.json).print(table)
    all_met = all(row.met for row in rows)
    if arguments.recovery:
        sys.stdout.flush()
        command = [sys.executable, "-m", "loadtest.bench.recovery", *(["--json"] if arguments.json else [])]
        all_met = subprocess.run(command, check=False).returncode == 0 and all_met
    sys.exit(0 if all_met else 1)


if __name__ == "__main__":
    main()
