"""World: the whole platform in one process: real gateways' service, hosts, shells, machines, settlement and snapshots.

Everything that would be a process of its own is one of the loop's: hosts, gateway replicas, settlement and snapshot
tasks, the store. Only the store (its in-memory twin), the clocks, the wires and the supervisor are other adapters of
the same ports. One seed makes everything: the same seed gives the same trace, whatever PYTHONHASHSEED says.
"""

import asyncio
import functools
import logging
from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec

from actors.kernel.errors import OperatingFailure
from actors.kernel.ports import Position
from actors.kinds import build_host, kind_of
from actors.settlement.task import settle
from cluster.config import Keys, Settings, load
from cluster.gateway.operator.switches import SwitchFlow
from cluster.gateway.problems import Problem
from cluster.gateway.service import Service
from cluster.journal.codec import platform_codec
from cluster.runtime.maintenance import maintain
from cluster.runtime.placement import hosts
from cluster.runtime.shards import ShardActor, services_of
from tests.simulation.archive import MemoryArchive
from tests.simulation.auditor import Auditor
from tests.simulation.loop import InstantLoop, Process
from tests.simulation.network import Member, Network, directory
from tests.simulation.store import Connection, Store, Weather

KEYS = Keys(first="k1", current="k1", platform={"k1": "ab" * 32}, tokens={})
OTHER_KEYS = Keys(first="k1", current="k1", platform={"k1": "cd" * 32}, tokens={})
TENANT = "wechat"
START_MS = 1_451_577_592_000
"""2016-01-01 in China, less 8 seconds: the day ends while people are at it."""

RESTART_US = (50_000, 1_500_000)
"""So long Ray takes to start an actor or a replica anew."""

SNAPSHOT_CHANCE = 0.2
"""Of a snapshot of some stream, at every look of the supervisor."""

SEALING_CHANCE = 0.15
"""Of a run in which journals are sealed and trimmed; that costs as much as all the rest."""

WHOLE = {"user": 100, "tenant": 100}
"""The part of a bound so small that it has none."""

OF_ANY_KIND: dict[str, Any] = {
    "commit_events_max": 40,
    "unsettled_max": 80,
    "settle_batch_max": 6,
    "expire_batch_max": 4,
    "tick_ms": 500,
}
FAIR: dict[str, Any] = {
    "commit_events_max": {"user": 60, "tenant": 90},
    "unsettled_max": {"user": 100, "tenant": 90},
}
SMALL: dict[str, Any] = {
    "packet": {
        "streams": 2,
        "hosts": 2,
        "hot": {"streams": 2, "hosts": 1},
        "rules": OF_ANY_KIND
        | {
            "opened_ahead_max": 3,
            "passivate_batch_max": 3,
            "passivate_after_ms": 700,
            "phrase_missers_max": 3,
            "phrase_tries_max": 2,
            "phrase_tries_ms": 2_500,
            "fair": FAIR | {"opened_ahead_max": {"user": 67, "tenant": 100}},
        },
    },
    "wallet": {
        "streams": 2,
        "hosts": 1,
        "rules": OF_ANY_KIND
        | {
            "idempotency_keys_max": 40,
            "idempotency_ms": 12_000,
            "statement_lines_max": 12,
            "relay_after_ms": 300,
            "sends": {
                "packet_lifetime_ms": 6_000,
                "opens_ms_max": 12_000,
                "crowd_count_min": 4,
                "lane_count_max": 3,
            },
            "commitments": {"unused_max": 2, "stream_max": 5, "lifetime_ms": 4_000},
            "lishi": {"lifetime_ms": 3_000, "cooldown_ms": 2_000, "open_max": 2, "total_max": 8, "keep_ms": 12_000},
            "asks": {"asks_max": 4, "period_ms": 12_000, "total_max": 16},
            "holds": {
                "total_max": 10,
                "lifetime_ms_max": 4_000,
                "keep_ms": 5_000,
                "fair": {"user": 30, "tenant": 100},
            },
            "notes": {"changes_max": 1, "per_packet_max": 2, "total_max": 8, "keep_ms": 6_000},
            "fair": FAIR
            | {"idempotency_keys_max": {"user": 25, "tenant": 100}}
            | dict.fromkeys(("accounts_max", "commitments", "lishi", "asks", "notes"), WHOLE),
        },
    },
    "placement": {"gateway_replicas": 2, "settlement_tasks": 1},
    "bounds": {"seal_elements_max": 20, "gateway_queue_max": 100, "gateway_batch_max": 30},
    "timing": {
        "request_deadline_ms": 3_000,
        "shard_call_ms": 1_000,
        "settle_ms": 400,
        "settle_linger_ms": 1_000,
        "settle_task_ms": 4_000,
        "supervise_ms": 500,
        "store_timeout_ms": 800,
    },
    "overload": {"packet_queue_max": 40},
    "fair": {"gateway_queue_max": {"user": 50, "tenant": 90}},
}
"""Bounds that are met, and periods that pass, within a short run."""


@functools.cache
def small() -> Settings:
    """Return the settings of every run."""
    return load(**SMALL)


class Clock:
    """A host's clock: it may be wrong, jump, and go back."""

    def __init__(self, loop: InstantLoop) -> None:
        self._loop = loop
        self.skew_ms = 0

    def now_ms(self) -> int:
        """Return Unix milliseconds."""
        return START_MS + self._loop.now_us // 1_000 + self.skew_ms


class Shard(ShardActor):
    """The platform's own actor around a host that was made elsewhere."""

    def __init__(self, loop: InstantLoop, host: Any) -> None:
        self._host = host
        self._starting = loop.create_task(host.start())
        self._encoder = msgspec.msgpack.Encoder()


class Gateway:
    """One gateway replica."""

    def __init__(self, process: Process, service: Service, levers: SwitchFlow) -> None:
        self.process = process
        self.service = service
        self.levers = levers


class Ears(logging.Handler):
    """Hears what the platform calls an error: in a simulation without damaged bytes, that is a bug."""

    def __init__(self, found_bug: Any) -> None:
        super().__init__(logging.ERROR)
        self._found_bug = found_bug

    def emit(self, record: logging.LogRecord) -> None:
        failure = record.exc_info[1] if record.exc_info else None
        self._found_bug(failure or AssertionError(f"logged: {record.getMessage()}"))


class World:
    """One system and all that happens to it."""

    def __init__(self, seed: str) -> None:
        self.seed = seed
        self.settings = small()
        self.trace: list[tuple[Any, ...]] = []
        self.violations: list[BaseException] = []
        self.loop = InstantLoop(self.random("scheduler"))
        self.loop.on_death = self._died
        timeout_us = self.settings.timing.store_timeout_ms * 1_000
        self.store = Store(self.loop, platform_codec(), self.random("store"), timeout_us)
        self.network = Network(self.loop, self.random("network"))
        self.network.found_bug = self.found_bug
        self.auditor = Auditor(self.store, self.settings, reads=False)
        self.auditor.noted = self._note_entry
        self.store.synced = self._audit
        sealing = self.random("sealing")
        self.archive = MemoryArchive(sealing) if sealing.random() < SEALING_CHANCE else None
        self.members: dict[str, Member] = {}
        self.clocks: dict[Process, Clock] = {}
        self.gateways: list[Gateway] = []
        self.supervisor = self.loop.process("supervisor")
        self.directory = directory(self.settings, self.network, self.supervisor, self.members)
        self.tasks: dict[Process, Any] = {}
        """Settlement and snapshot tasks under way, each in a process of its own."""
        self.zombies: list[Process] = []
        """Hosts that live on although another has their name."""
        self.keys_lost: set[str] = set()
        """Packet hosts that are started with other keys for now."""
        self.offset_ms = 0
        self.calm = False
        self._restarts = self.random("restarts")
        self._ears = Ears(self.found_bug)

    def random(self, name: str) -> Random:
        """Return the source of chance of one part: what another part draws changes nothing here."""
        return Random(f"{self.seed}/{name}")

    # What is told about the run.

    def note(self, *facts: Any) -> None:
        """Put a line into the trace."""
        self.trace.append((self.loop.now_us, *facts))

    def found_bug(self, bug: BaseException) -> None:
        """Note a violation; the run ends at once."""
        self.violations.append(bug)
        self.loop.halted = True
        self.note("VIOLATION", f"{type(bug).__name__}: {bug}")

    def _note_entry(self, stream: str, position: Position, events: Sequence[Any]) -> None:
        self.note("durable", stream, position, events)

    def _audit(self) -> None:
        try:
            self.auditor.advance()
        except Exception as violation:
            self.found_bug(violation)

    def _died(self, process: Process) -> None:
        self.note("dead", process.name)
        self.network.tell_of_death(process)
        delay_us = self._restarts.randrange(*RESTART_US)
        for name, member in self.members.items():
            if member.process is process:
                self.loop.in_process(self.supervisor, delay_us, self.start_host, name)
        for index, gateway in enumerate(self.gateways):
            if gateway.process is process:
                self.loop.in_process(self.supervisor, delay_us, self.start_gateway, index)

    # Processes.

    async def start(self) -> None:
        """Create the system and start everything."""
        logging.getLogger("actors").addHandler(self._ears)
        logging.getLogger("cluster").addHandler(self._ears)
        await self.store.create_system(self.settings.layout)
        for name in hosts(self.settings):
            self.start_host(name)
        for index in range(self.settings.placement.gateway_replicas):
            self.start_gateway(index)
        self.loop.spawn(self.supervisor, self._quietly(self._supervise()))

    def end(self) -> None:
        """End everything."""
        logging.getLogger("actors").removeHandler(self._ears)
        logging.getLogger("cluster").removeHandler(self._ears)
        self.loop.end()

    def start_host(self, name: str) -> Member:
        """Start a host under its name; who had the name before, if he lives, does not know."""
        process = self.loop.process(name)
        clock = self.clocks[process] = Clock(self.loop)
        earlier = self.members.get(name)
        if earlier is not None:
            clock.skew_ms = self.clocks[earlier.process].skew_ms
            if earlier.process.alive:
                self.zombies.append(earlier.process)
        host = self._host(name, Connection(self.store, process), clock)
        member = Member(process, process.context.run(Shard, self.loop, host))
        self.members[name] = member
        self.note("start", name)
        return member

    def _host(self, name: str, journals: Any, clock: Clock) -> Any:
        """Make a host as `cluster.runtime.shards.ShardActor` does."""
        streams = hosts(self.settings)[name]
        kind, services = kind_of(streams[0]), services_of(self.settings, OTHER_KEYS if name in self.keys_lost else KEYS)
        return build_host(name, kind, streams, journals, clock, services, self.settings.kinds[kind.name].rules)

    def start_gateway(self, index: int) -> Gateway:
        """Start a gateway replica."""
        process = self.loop.process(f"gateway-{index}")
        way = directory(self.settings, self.network, process, self.members)
        gateway = Gateway(process, Service(self.settings, way), SwitchFlow(self.settings, way))
        self.gateways[index : index + 1] = [gateway]
        self.note("start", process.name)
        return gateway

    def start_task(self, name: str, work: Any) -> Process:
        """Start a Ray task; `work` takes its process and gives a coroutine."""
        process = self.loop.process(name)
        self.tasks = {task: running for task, running in self.tasks.items() if task.alive and not running.done()}
        self.tasks[process] = self.loop.spawn(process, self._quietly(work(process)))
        return process

    def running_tasks(self) -> list[Process]:
        """Return the processes of the tasks under way."""
        return [process for process, work in self.tasks.items() if process.alive and not work.done()]

    async def _quietly(self, work: Any) -> None:
        try:
            await work
        except OperatingFailure:
            pass  # a task may fail, and be started again
        except Exception as bug:
            self.found_bug(bug)

    async def _supervise(self) -> None:
        """Keep a settlement task at work, and take a snapshot now and then."""
        random, names, streams = self.random("supervisor"), list(self.members), list(self.settings.streams)
        while True:
            await asyncio.sleep(self.settings.timing.supervise_ms / 1_000)
            if not any(task.name == "settlement" for task in self.running_tasks()):
                self.start_task("settlement", lambda process: self.settle(process, names))
            if not self.calm and random.random() < SNAPSHOT_CHANCE:  # in the calm nobody touches a quiet stream
                stream = random.choice(streams)
                self.start_task("maintenance", lambda process, stream=stream: self.maintain(process, stream))

    def heal(self) -> None:
        """End every fault that is still on."""
        self.calm = True
        self.store.weather = Weather()
        if self.archive is not None:
            self.archive.failing = 0.0
        self.store.restart()
        self.network.lost = self.network.doubled = 0.0
        self.network.slow = 1
        for name in sorted(self.keys_lost):
            if self.members[name].process.alive:
                self.loop.kill(self.members[name].process)
        self.keys_lost.clear()
        for zombie in self.zombies:
            if zombie.alive:
                self.loop.kill(zombie)
        self.zombies.clear()
        for process in self.loop.processes:
            process.dies_at = 0
            if process.frozen:
                self.loop.wake(process)
        for clock in self.clocks.values():
            clock.skew_ms = 0

    def now_ms(self) -> int:
        """Return the platform's time, as a host with a right clock has it."""
        return START_MS + self.loop.now_us // 1_000 + self.offset_ms

    async def advance_clock(self, gateway: Gateway, advance_ms: int) -> None:
        """Move the sandbox clock, as the gateway's route does, in the gateway's process."""
        try:
            store, offset_ms_max = Connection(self.store, gateway.process), self.settings.limits.sandbox_clock_ms_max
            offset_ms = await store.advance_clock(advance_ms, offset_ms_max=offset_ms_max)
            assert offset_ms is not None, "no run takes ten years"
            self.offset_ms = offset_ms
            await gateway.service.operations.advance_clock(self.offset_ms)
        except Problem:
            return  # not every host has heard of it yet; the next activation does

    # What Ray tasks do.

    async def settle(self, process: Process, names: Sequence[str]) -> None:
        """Settle as `cluster.runtime.settlement.settle_hosts` does."""
        timing = self.settings.timing
        await settle(
            directory(self.settings, self.network, process, self.members),
            names,
            rounds_max=timing.settle_task_ms // timing.settle_ms,
            idle_rounds_max=timing.settle_linger_ms // timing.settle_ms,
            pause_ms=timing.settle_ms,
        )

    async def maintain(self, process: Process, stream: str) -> None:
        """Take a snapshot, seal and trim as `cluster.runtime.maintenance.maintain_streams` does."""
        way = directory(self.settings, self.network, process, self.members)
        journals: Any = Connection(self.store, process)
        await maintain(journals, way, self.settings, KEYS, stream, self.archive)
