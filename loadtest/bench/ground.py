"""Ground: one run of the bench: the platform, its peers beside it, and what was found so far.

Peers start when the first row asks for them. Rates and costs that one group of rows finds are kept for the next.
"""

import asyncio
import os
import subprocess
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import ray

from actors.kernel.host import StreamFigures
from cluster.config import Keys, Settings
from cluster.local.record import SystemRecord
from cluster.runtime.directory import Directory
from cluster.runtime.placement import NAMESPACE, hosts
from cluster.runtime.shards import REPORTS
from cluster.tokens import mint
from loadtest.bench import load, stream_load
from loadtest.bench.bed import POLL_S, SETTLE_S_MAX, Bed, taker_of
from loadtest.bench.cost import per_grab
from loadtest.bench.hops import Hops
from loadtest.bench.load import Load
from loadtest.bench.peers.lua_http import LuaHttp
from loadtest.bench.peers.no_op import ROUTE, deploy_no_op
from loadtest.bench.peers.postgres import Postgres, find_binaries
from loadtest.bench.peers.store import PeerStore
from loadtest.bench.peers.workers import Workers
from loadtest.bench.wire import drive_http, http_request
from loadtest.target import TENANT

SHARES = 100
BATCH_SIZE = 200
WINDOW_S = 3.0
CONNECTIONS = 256
BATCH_CONNECTIONS = 16
WARM_UP_TRIES = 60
QUIET_RUNS = 3
REST_S = 2.0
MARGIN = 1.6
"""Requests are made for so many times the rate that was seen last."""
TOKEN_S = 7_200
CALIBRATION_PACKETS = 1_200
RATES = {"single": 4_000.0, "send": 1_500.0, "batch": 60_000.0, "stream": 60_000.0, "peer": 4_000.0}
"""Items a second by door on a small machine: a first guess."""


Say = Callable[[str], None]
Peer = TypeVar("Peer")


class Point(NamedTuple):
    """One point of the plot."""

    system: str
    connections: int
    per_second: float
    p99_ms: float


class Ground:
    """One run over a system of its own."""

    def __init__(self, record: SystemRecord, settings: Settings, keys: Keys, rounds: int, say: Say) -> None:
        self.settings = settings
        self.keys = keys
        self.rounds = rounds
        self.say = say
        self.run = f"{time.time_ns() // 1_000_000:x}"
        now_s = int(time.time())
        operator = mint(keys, user="bench", tenant="platform", scope="operator", now_s=now_s, ttl_s=TOKEN_S)
        gateway = mint(keys, user="bench", tenant=TENANT, scope="gateway", now_s=now_s, ttl_s=TOKEN_S)
        self.operator_token = operator
        self.bed = Bed(record.url, operator, gateway, self.run)
        self.directory = Directory(settings)
        self.record = record
        self.rates = dict(RATES)
        """The greatest seen so far."""
        self.costs: dict[str, list[dict[str, float]]] = {}
        self.points: list[Point] = []
        self._peers: dict[str, Any] = {}
        self._hops: Hops

    # Start and end.

    async def begin(self) -> None:
        """Deploy the no-op, wait until HAProxy has stopped reloading for it, make senders, learn what idling costs."""
        await asyncio.to_thread(deploy_no_op, self.settings)
        await self._warm_up()
        await self.bed.make_senders()
        await self._calibrate()
        pids = {}
        for host in hosts(self.settings):
            handle: Any = await asyncio.to_thread(ray.get_actor, host, namespace=NAMESPACE)
            pids[int(await handle.__ray_call__.remote(_own_pid))] = f"{host.partition('-')[0]} shard"
        self._hops = Hops(self.record, pids)
        await self.bed.check()
        before = self._hops.read()
        await asyncio.sleep(REST_S)
        self._hops.rest(before)

    async def end(self) -> None:
        """End the peers."""
        for name in ("lua", "postgres"):
            if self._peers.get(name) is not None:
                await self._peers[name].stop()
        for name in ("uvicorn", "store"):
            if name in self._peers:
                self._peers[name].stop()

    async def _warm_up(self) -> None:
        quiet = 0
        for _ in range(WARM_UP_TRIES):
            requests = [http_request("POST", ROUTE, body=b"{}")] * 200
            try:
                run = await drive_http(self.bed.url, iter(requests), connections=8, seconds=WINDOW_S)
                quiet = quiet + 1 if set(run.statuses) == {200} else 0
            except OSError:
                quiet = 0
            if quiet == QUIET_RUNS:
                return
            await asyncio.sleep(0.5)
        raise RuntimeError("the no-op does not answer")

    async def _calibrate(self) -> None:
        """Ask every door for a second: it warms them, and the next runs know how many requests to make."""
        bed = self.bed
        packets = await bed.open(bed.sends(CALIBRATION_PACKETS, SHARES))
        singles, batches = packets[: CALIBRATION_PACKETS // 10], packets[CALIBRATION_PACKETS // 10 :]
        await self.drive("single", bed.single_grabs(singles, SHARES), seconds=1.0)
        await self.drive("batch", bed.batch_grabs(batches, SHARES, BATCH_SIZE), seconds=1.0)
        self.rates["stream"] = max(self.rates["stream"], self.rates["batch"])
        await bed.drain_rest(singles, SHARES)
        await bed.drain_rest(batches, SHARES)

    # Peers.

    def peer_store(self) -> PeerStore:
        """Return the peers' Valkey."""
        return self._peer("store", PeerStore)

    def lua(self) -> LuaHttp:
        """Return peer (a), with as many workers as we have gateway replicas."""
        return self._peer("lua", lambda: LuaHttp(self.peer_store(), self.settings.placement.gateway_replicas))

    def uvicorn(self) -> Workers:
        """Return the plain uvicorn no-op."""
        module = "loadtest.bench.peers.uvicorn_no_op"
        return self._peer("uvicorn", lambda: Workers(module, self.settings.placement.gateway_replicas))

    def postgres(self) -> Postgres | None:
        """Return the PostgreSQL peer; None, said once, where no server is installed or it does not start."""

        def start() -> Postgres | None:
            binaries = find_binaries()
            if binaries is None:
                self.say("PostgreSQL is not installed (apt-get install postgresql): its row is left out")
                return None
            try:
                return Postgres(binaries, self.settings.placement.gateway_replicas)
            except (OSError, LookupError, subprocess.SubprocessError) as failure:
                self.say(f"PostgreSQL does not start ({failure}): its row is left out")
                return None

        return self._peer("postgres", start)

    def _peer(self, name: str, start: Callable[[], Peer]) -> Peer:
        if name not in self._peers:
            self._peers[name] = start()
        found: Peer = self._peers[name]
        return found

    # Load.

    def count_for(self, door: str, seconds: float = WINDOW_S) -> int:
        """Tell how many requests or grabs to make for a run of a door."""
        return int(self.rates[door] * seconds * MARGIN)

    def packets_for(self, door: str, seconds: float = WINDOW_S) -> int:
        """Tell how many packets have shares enough for a run of a door."""
        return -(-self.count_for(door, seconds) // SHARES)

    async def drive(
        self,
        door: str,
        requests: Sequence[bytes],
        *,
        url: str = "",
        connections: int = 0,
        seconds: float = WINDOW_S,
        again: bool = False,
        refused: bool = False,
    ) -> Load:
        """Send load to a door; `refused`: the right answers are refusals. Raises AssertionError at a wrong answer.

        Where a refusal is wrong, it is the platform's own protection (429): the load that comes back has only what was
        accepted, and it is said how much was not.
        """
        each = BATCH_SIZE if door == "batch" else 1
        connections = connections or (BATCH_CONNECTIONS if door == "batch" else CONNECTIONS)
        seen = await load.drive(url or self.bed.url, requests, connections=connections, seconds=seconds, again=again)
        if not again and seen.answers >= len(requests) - connections:
            self.say(f"  {door}: out of requests after {seen.answers:,}; its figure is a lower bound")
        if refused:
            assert seen.accepted == 0, f"{door}: {seen.accepted} of {seen.answers} were not refused"
        elif seen.refused:
            assert seen.accepted, f"{door}: all of {seen.answers} were refused"
            self.say(f"  {door}: {seen.refused:,} of {seen.answers:,} refused; counted are the others")
            seen = seen._replace(answers=seen.accepted, refused=0)
        if connections >= BATCH_CONNECTIONS and door in self.rates:
            self.rates[door] = max(self.rates[door], seen.per_second * each)
        return seen

    async def stream(
        self, packet_ids: Sequence[str], shares: int, *, connections: int, window: int, seconds: float = WINDOW_S
    ) -> stream_load.StreamReport:
        """Send grabs over streams from a process of their own. Raises AssertionError at a wrong answer."""
        grabs: list[list[tuple[str, str]]] = [[] for _ in range(connections)]
        for at, packet_id in enumerate(packet_ids):
            grabs[at % connections] += [(packet_id, taker_of(at, user, shares)) for user in range(shares)]
        order = stream_load.StreamJob(self.bed.url, self.bed.gateway_token, window, seconds, grabs)
        report = await stream_load.run_apart(order)
        assert not report.codes, f"stream: refused {report.codes}"
        assert report.answers_in_all == report.sent, "every grab of a stream is answered"
        return report

    async def costed(self, door: str, each: int, run: Awaitable[Load]) -> Load:
        """Await a run until everything of it is settled, and note the processor time a grab on each hop."""
        await self.settled()
        before = self._hops.read()
        seen = await run
        await self.settled()
        spent_s = self._hops.since(before)
        self.costs.setdefault(door, []).append(per_grab(spent_s, seen.client_cpu_s, seen.answers * each))
        return seen

    # What the platform is doing.

    def pids_of(self, hop: str) -> list[int]:
        """Return the processes of a hop."""
        return [pid for pid, _ in self._hops.read().cpu_s[hop]]

    async def figures(self) -> list[StreamFigures]:
        """Read every stream's figures, without an audit."""
        found = await asyncio.gather(*(self.directory.call(host, "report", False) for host in hosts(self.settings)))
        return [figures for payload in found for figures in REPORTS.decode(payload)]

    async def unsettled(self) -> tuple[int, int]:
        """Return (transfers on their way, age of the oldest in ms)."""
        figures = await self.figures()
        return sum(f.unsettled for f in figures), max(f.oldest_unsettled_ms for f in figures)

    async def settled(self, pause_s: float = POLL_S) -> None:
        """Wait until nothing is between two books. Raises TimeoutError."""
        async with asyncio.timeout(SETTLE_S_MAX):
            left, _ = await self.unsettled()
            while left:
                await asyncio.sleep(pause_s)
                left, _ = await self.unsettled()


def _own_pid(actor: Any) -> int:
    return os.getpid()
