"""Faults: what is done to a running system, one after another, and how its recovery is measured.

| kind | what is done | served again means |
|---|---|---|
| `packet_shard`, `wallet_shard` | kill -9 of that actor's process | a grab, a send |
| `gateway`, `gateways` | kill -9 of one replica, of all | as many replicas again, and a grab (the first: in the note) |
| `settlement`, `supervisor` | kill -9 | (a new supervisor, and) a grab's money is in its taker's wallet |
| `controller`, `haproxy` | kill -9 of Serve's controller, of HAProxy | a new one, and a grab |
| `store`, `store_disk_full` | kill -9 of Valkey; its disk ends in the middle of a write | a grab |
| `store_and_shards` | SIGSTOP of Valkey, kill -9 of both shards, SIGCONT after a second | a send, from SIGCONT |
| `store_slow`, `store_full` | SIGSTOP for seconds; `maxmemory` below use | a grab, counted from the end of it |
| `gcs`, `watchdog` | kill -9: Ray starts again; `up` mends it | Ray is new, and a grab |
| `packet_zombie`, `wallet_zombie` | SIGSTOP, a rival takes over and answers, SIGCONT | a grab, a send, from SIGCONT |

Times without a name are seconds.
"""

import asyncio
import random
import resource
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Collection
from typing import Any, NamedTuple

import psutil
from redis.asyncio import Redis

from cluster.local.processes import runs
from loadtest.chaos.crowd import ChaosLoad
from loadtest.chaos.probes import NotServed, Prober, until
from loadtest.chaos.rival import DriverFailed, DriverProcess, Rival
from loadtest.chaos.site import CONTROLLER, GATEWAY, GCS, HAPROXY, SETTLEMENT, SUPERVISOR, Site, kill
from loadtest.history import FaultLine
from loadtest.recorder import Recorder

DECK = {
    "packet_shard": 10,
    "wallet_shard": 9,
    "gateway": 6,
    "gateways": 2,
    "settlement": 7,
    "supervisor": 6,
    "controller": 4,
    "haproxy": 4,
    "store": 5,
    "store_disk_full": 2,
    "store_slow": 3,
    "store_and_shards": 2,
    "store_full": 3,
    "packet_zombie": 4,
    "wallet_zombie": 2,
    "gcs": 2,
    "watchdog": 1,
}
RECOVERY_S = 60.0
RESTART_S = 120.0
"""For Ray as a whole."""
FULL_S = 3.0
SLOW_S = (1.0, 4.0)
TORN_BYTES = 300
RIVAL_GRABS = 12
ON_THE_WAY_S = 0.2
"""Until a request has arrived where it will hang."""


class Broken(NamedTuple):
    """A fault that was done: from when its recovery counts (µs), how it is awaited, and a remark."""

    since_us: int
    served: Callable[[], Awaitable[int]]
    note: str = ""


def deal(seed: int, count: int, only: Collection[str] = ()) -> list[str]:
    """Deal the kinds of a run (`only` these, if any): first one of each, then the rest of the deck, again and again."""
    rng = random.Random(seed)
    deck = {kind: times for kind, times in DECK.items() if not only or kind in only}
    dealt: list[str] = []
    while len(dealt) < count:
        first = list(deck)
        rest = [kind for kind, times in deck.items() for _ in range(times - 1)]
        rng.shuffle(first)
        rng.shuffle(rest)
        dealt += first + rest
    return dealt[:count]


class Faults:
    """Does faults to a site. One at a time."""

    def __init__(self, site: Site, recorder: Recorder, crowd: ChaosLoad, prober: Prober, seed: int) -> None:
        """Break nothing yet."""
        self._site = site
        self._recorder = recorder
        self._crowd = crowd
        self._prober = prober
        self._rng = random.Random(seed)
        self._driver = DriverProcess(site)
        self._rivals = 0
        self._kinds: dict[str, Callable[[], Awaitable[Broken]]] = {
            "packet_shard": lambda: self._shard("packet"),
            "wallet_shard": lambda: self._shard("wallet"),
            "gateway": lambda: self._gateways(1),
            "gateways": lambda: self._gateways(99),
            "settlement": self._settlement,
            "supervisor": self._supervisor,
            "controller": lambda: self._renewed(CONTROLLER),
            "haproxy": lambda: self._renewed(HAPROXY),
            "store": self._store,
            "store_disk_full": self._store_disk_full,
            "store_slow": self._store_slow,
            "store_and_shards": self._store_and_shards,
            "store_full": self._store_full,
            "packet_zombie": lambda: self._zombie("packet"),
            "wallet_zombie": lambda: self._zombie("wallet"),
            "gcs": self._gcs,
            "watchdog": self._watchdog,
        }
        assert self._kinds.keys() == DECK.keys(), "every kind can be done"
        self.unclear: list[str] = []
        """Where a full store was not refused as the contract says."""

    async def inject(self, kind: str) -> FaultLine:
        """Do one fault and wait until clients are served again. Raises NotServed, DriverFailed: it was not done."""
        await self._prober.prepare()
        at_us = self._recorder.history.now_us()
        broken = await self._kinds[kind]()
        note = broken.note
        try:
            recovery_ms = (await broken.served() - broken.since_us) // 1_000
        except NotServed as failure:
            recovery_ms, note = None, f"{note} {failure}".strip()
        line = FaultLine(kind=kind, at_us=at_us, recovery_ms=recovery_ms, note=note)
        self._recorder.history.mark(line)
        return line

    async def close(self) -> None:
        """End the driver."""
        await self._driver.close()

    # Processes.

    async def _shard(self, kind: str) -> Broken:
        process = await self._shard_process(kind)
        since_us = self._recorder.history.now_us()
        await asyncio.to_thread(kill, process)
        return Broken(since_us, self._probe_of(kind))

    async def _gateways(self, count: int) -> Broken:
        replicas = await self._running(GATEWAY)
        before = {process.pid for process in replicas}
        since_us = await self._kill(self._rng.sample(replicas, min(count, len(replicas))))
        first_us = await self._prober.grab(RECOVERY_S)

        async def served() -> int:
            await self._prober.born(GATEWAY, before, len(before), RECOVERY_S)
            return await self._prober.grab(RECOVERY_S)

        return Broken(since_us, served, f"a grab after {(first_us - since_us) / 1e6:.1f} s")

    async def _settlement(self) -> Broken:
        since_us = await self._kill(await self._running(SETTLEMENT))
        return Broken(since_us, lambda: self._prober.arrival(RECOVERY_S))

    async def _supervisor(self) -> Broken:
        running = await self._running(SUPERVISOR)
        since_us = await self._kill(running)

        async def served() -> int:
            await self._prober.born(SUPERVISOR, {process.pid for process in running}, 1, RECOVERY_S)
            return await self._prober.arrival(RECOVERY_S)

        return Broken(since_us, served)

    async def _renewed(self, title: str) -> Broken:
        running = await self._running(title)
        since_us = await self._kill(running)

        async def served() -> int:
            await self._prober.born(title, {process.pid for process in running}, 1, RECOVERY_S)
            return await self._prober.grab(RECOVERY_S)

        return Broken(since_us, served)

    async def _gcs(self) -> Broken:
        restarts = self._site.record.restarts.get("ray", 0)
        since_us = await self._kill(await self._running(GCS))

        async def is_back() -> bool:
            record = self._site.record
            return record.restarts.get("ray", 0) > restarts and record.state == "ready"

        async def served() -> int:
            await until(is_back, RESTART_S)
            return await self._prober.grab(RECOVERY_S)

        return Broken(since_us, served)

    async def _watchdog(self) -> Broken:
        since_us = await self._kill([self._site.part("watchdog")])

        async def served() -> int:
            await asyncio.to_thread(self._site.up, self._site.record.http_port)
            return await self._prober.grab(RECOVERY_S)

        return Broken(since_us, served)

    # The store.

    async def _store(self) -> Broken:
        since_us = await self._kill([self._site.part("store")])
        return Broken(since_us, lambda: self._prober.grab(RECOVERY_S))

    async def _store_disk_full(self) -> Broken:
        """Let no file of the store grow further than a little: a write is cut off in the middle."""
        store = self._site.part("store")
        written = (self._site.folder / "store" / "appendonlydir").glob("*.aof")
        limit = max(path.stat().st_size for path in written) + TORN_BYTES
        since_us = self._recorder.history.now_us()
        store.rlimit(resource.RLIMIT_FSIZE, (limit, limit))
        await until(_gone(store), RECOVERY_S)
        return Broken(since_us, lambda: self._prober.grab(RECOVERY_S))

    async def _store_slow(self) -> Broken:
        store = self._site.part("store")
        seconds = self._rng.uniform(*SLOW_S)
        store.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            store.send_signal(signal.SIGCONT)
        return Broken(self._recorder.history.now_us(), lambda: self._prober.grab(RECOVERY_S), f"{seconds:.1f} s")

    async def _store_and_shards(self) -> Broken:
        """Let both shards die while what they sent to the store is neither refused nor answered."""
        store = self._site.part("store")
        shards = [await self._shard_process(kind) for kind in ("packet", "wallet")]
        store.send_signal(signal.SIGSTOP)
        try:
            await asyncio.sleep(ON_THE_WAY_S)
            await self._kill(shards)
            await asyncio.sleep(1.0)
        finally:
            store.send_signal(signal.SIGCONT)
        return Broken(self._recorder.history.now_us(), self._probe_of("wallet"))

    async def _store_full(self) -> Broken:
        """Take the store's room away; meanwhile new money must be refused, and said to be worth a repeat."""
        told: Counter[str] = Counter()
        async with Redis.from_url(self._site.record.store_url) as store:
            before = (await store.config_get("maxmemory"))["maxmemory"]
            await store.config_set("maxmemory", 1)
            try:
                end_us = self._recorder.history.now_us() + int(FULL_S * 1e6)
                while self._recorder.history.now_us() < end_us:
                    sent = await self._recorder.send(self._prober.order(), 0.0)
                    clear = sent.status in (429, 503) and not sent.code.startswith("http_")
                    told["accepted" if sent.outcome == "ok" else "refused" if clear else "unclear"] += 1
                    await asyncio.sleep(0.1)
            finally:
                await store.config_set("maxmemory", before)
        note = ", ".join(f"{times} sends {what}" for what, times in sorted(told.items()))
        if told["accepted"] or not told["refused"]:
            self.unclear.append(f"a full store: {note}")
        return Broken(self._recorder.history.now_us(), lambda: self._prober.grab(RECOVERY_S), note)

    # The zombie.

    async def _zombie(self, kind: str) -> Broken:
        """Stop a shard, let a rival own its streams and answer, wake it, and let both answer once more."""
        zombie = await self._shard_process(kind)
        streams = [stream for stream in self._site.settings().streams if stream.startswith(kind)]
        self._rivals += 1
        rival = Rival(self._driver, self._recorder, f"{kind}-rival-{self._rivals}", streams)
        ask = self._packet_round if kind == "packet" else self._wallet_round
        asked = len(self._recorder.history.attempts)
        try:
            zombie.send_signal(signal.SIGSTOP)
            try:
                await rival.activate()
                answered = await ask(rival, over_http=False)
                waiting = await self._ask_sleeper()
            finally:
                if zombie.is_running():
                    zombie.send_signal(signal.SIGCONT)
            since_us = self._recorder.history.now_us()
            served_us = await self._probe_of(kind)()
            await waiting
            for _ in range(2):  # by turns: each fences the other out whenever it is asked
                answered += await ask(rival, over_http=True)
        finally:
            await self._remove(rival)
        late = sum(
            attempt.via == "http" and attempt.asked_us < since_us < attempt.answered_us and bool(attempt.status)
            for attempt in self._recorder.history.attempts[asked:]
        )
        awake = "" if zombie.is_running() else "; it was replaced before it woke"

        async def served() -> int:
            await self._probe_of(kind)()
            return served_us

        return Broken(
            since_us, served, f"{answered} answers of the rival, {late} to who had asked before it woke{awake}"
        )

    async def _ask_sleeper(self) -> "asyncio.Future[Any]":
        """Ask for lists that the rival has changed meanwhile: the zombie answers them first when it wakes."""
        newest = [*list(self._crowd.live)[-RIVAL_GRABS:], self._prober.packet_id]
        senders = self._crowd.sender_of | self._prober.sender_of
        views = [self._recorder.try_view(packet_id, senders[packet_id]) for packet_id in newest]
        waiting = asyncio.gather(*views, return_exceptions=True)
        await asyncio.sleep(ON_THE_WAY_S)
        return waiting

    async def _remove(self, rival: Rival) -> None:
        """Remove a rival, by another driver if the first has gone: two owners would fence each other out for ever."""
        try:
            await rival.remove()
        except DriverFailed:
            await rival.remove()

    async def _packet_round(self, rival: Rival, *, over_http: bool) -> int:
        """Ask the rival for shares of living packets, and the same ones over HTTP; return what the rival answered."""
        packets = list(self._crowd.live)[-RIVAL_GRABS:] + [self._prober.packet_id] * 2
        wanted = [(packet_id, self._rng.choice(self._crowd.takers)) for packet_id in packets]
        # Clients with an answer outstanding at the zombie ask the rival too.
        wanted += self._rng.sample(sorted(self._recorder.unknown_grabs), min(4, len(self._recorder.unknown_grabs)))
        grabs: list[Any] = await rival.grab(wanted)
        if over_http:
            await asyncio.gather(*(self._recorder.grab(packet_id, user, RECOVERY_S) for packet_id, user in wanted))
            sender = self._prober.sender_of[self._prober.packet_id]
            await self._recorder.try_view(self._prober.packet_id, sender)
        return sum(grab.outcome in ("ok", "refused") for grab in grabs)

    async def _wallet_round(self, rival: Rival, *, over_http: bool) -> int:
        orders = [self._crowd.order(self._rng, user) for user in sorted(self._crowd.credited_fen)]
        orders += [self._prober.order() for _ in range(4)]
        sends: list[Any] = await rival.send(orders)
        if over_http:
            await asyncio.gather(*(self._recorder.send(order, RECOVERY_S) for order in orders))
        return sum(send.outcome in ("ok", "refused") for send in sends)

    # What all share.

    def _probe_of(self, kind: str) -> Callable[[], Awaitable[int]]:
        return lambda: self._prober.grab(RECOVERY_S) if kind == "packet" else self._prober.send(RECOVERY_S)

    async def _shard_process(self, kind: str) -> psutil.Process:
        """Return the process of the first shard of a kind. Raises NotServed if none lives."""
        name = f"{kind}-shard-0"
        found: dict[str, int] = {}

        async def lives() -> bool:
            try:
                found.update(await self._driver.census())
            except DriverFailed:  # Ray has just been started again: the next driver joins the new one
                return False
            return name in found and psutil.pid_exists(found[name])

        await until(lives, RECOVERY_S)
        return psutil.Process(found[name])

    async def _running(self, title: str) -> list[psutil.Process]:
        """Return the processes of a title, once there are any. Raises NotServed."""
        found: list[psutil.Process] = []

        async def some() -> bool:
            found.extend(await asyncio.to_thread(self._site.find, title))
            return bool(found)

        await until(some, RECOVERY_S)
        return found

    async def _kill(self, processes: list[psutil.Process]) -> int:
        """Kill them; return when (µs)."""
        since_us = self._recorder.history.now_us()
        for process in processes:
            await asyncio.to_thread(kill, process)
        return since_us


def _gone(process: psutil.Process) -> Callable[[], Awaitable[bool]]:
    async def gone() -> bool:
        return not runs(process)

    return gone
