"""Faults: what goes wrong, of which kind, how often. Each kind has its own source of chance, and can be switched off.

Each run has some of the kinds only (swarm testing: with everything on at once, much never comes about).
"""

import asyncio
from collections import Counter
from collections.abc import Iterable
from random import Random
from typing import Any

from actors.packet.switches import GRABS, packet_switch
from actors.wallet.switches import SENDS
from tests.simulation.clients import Clients
from tests.simulation.loop import Process
from tests.simulation.world import World

GAP_S = {
    "host_dies": 3.0,
    "gateway_dies": 3.0,
    "task_dies": 2.0,
    "store_dies": 5.0,
    "host_sleeps": 4.0,
    "gateway_sleeps": 5.0,
    "task_sleeps": 4.0,
    "zombie": 4.0,
    "rival": 5.0,
    "second_settlement": 3.0,
    "second_maintenance": 3.0,
    "store_loses": 3.0,
    "store_repeats": 4.0,
    "store_is_slow": 5.0,
    "store_is_full": 4.0,
    "archive_fails": 4.0,
    "wire_loses": 3.0,
    "wire_doubles": 3.0,
    "wire_is_slow": 5.0,
    "clock_jumps": 3.0,
    "time_passes": 6.0,
    "lever": 4.0,
    "other_keys": 4.0,
}
"""Kind -> mean gap between two of it, where it is on at all. Each is a method of `Faults`."""

SWARM = 0.45
"""Probability that a kind is on in a run."""

KEYS_CHANCE = 0.25
"""Of a run in which keys are lost: much else does not come about meanwhile."""

STEPS_MAX = 120
"""A process that dies does so within so many of its next callbacks."""


class Faults:
    """Strikes a world until it is told to stop."""

    def __init__(self, world: World, clients: Clients, without: Iterable[str] = ()) -> None:
        self.world = world
        self.clients = clients
        self.struck: Counter[str] = Counter()
        self._process = world.loop.process("fate")
        swarm = world.random("swarm")
        self._kinds = [kind for kind in GAP_S if swarm.random() < SWARM and kind not in without]
        if "other_keys" in self._kinds and world.random("keys").random() < 1 - KEYS_CHANCE:
            self._kinds.remove("other_keys")
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin."""
        self._tasks = [self.world.loop.spawn(self._process, self._strike(kind)) for kind in self._kinds]

    def stop(self) -> None:
        """Strike no more, and heal what was struck."""
        for task in self._tasks:
            task.cancel()
        self.world.heal()

    async def _strike(self, kind: str) -> None:
        random = self.world.random(f"fault {kind}")
        while True:
            await asyncio.sleep(random.expovariate(1 / GAP_S[kind]))
            self.struck[kind] += 1
            self.world.note("fault", kind)
            await getattr(self, kind)(random)

    def _doom(self, process: Process, random: Random) -> None:
        process.dies_at = process.steps + random.randrange(1, STEPS_MAX)

    async def _sleep(self, process: Process, duration_s: float) -> None:
        """Freeze a process for a while; it does not know."""
        if process.alive and not process.frozen:
            self.world.loop.freeze(process)
            await asyncio.sleep(duration_s)
            self.world.loop.wake(process)

    def _host(self, random: Random) -> tuple[str, Process]:
        name = random.choice(list(self.world.members))
        return name, self.world.members[name].process

    def _task(self, random: Random) -> Process | None:
        running = self.world.running_tasks()
        return random.choice(running) if running else None

    # Processes.

    async def host_dies(self, random: Random) -> None:
        """A host is killed at some await."""
        self._doom(self._host(random)[1], random)

    async def gateway_dies(self, random: Random) -> None:
        """A gateway replica is killed at some await."""
        self._doom(random.choice(self.world.gateways).process, random)

    async def task_dies(self, random: Random) -> None:
        """A settlement or snapshot task is killed at some await."""
        process = self._task(random)
        if process is not None:
            self._doom(process, random)

    async def host_sleeps(self, random: Random) -> None:
        """A host stops, and goes on as if nothing had been."""
        await self._sleep(self._host(random)[1], random.choice((0.05, 0.5, 2.0)))

    async def gateway_sleeps(self, random: Random) -> None:
        """A gateway replica stops, and goes on: what it heard before may be old."""
        await self._sleep(random.choice(self.world.gateways).process, random.choice((0.05, 0.5, 3.0)))

    async def task_sleeps(self, random: Random) -> None:
        """A settlement or snapshot task stops between two of its steps, and goes on with what it knew."""
        process = self._task(random)
        if process is not None:
            await self._sleep(process, random.choice((0.5, 2.0, 5.0)))

    async def zombie(self, random: Random) -> None:
        """A host stops; another gets its name; the first wakes, with all it had in hand, and is then killed."""
        name, process = self._host(random)
        if not process.alive or process.frozen:
            return
        self.world.loop.freeze(process)
        await asyncio.sleep(random.random() * 0.5)
        if self.world.members[name].process is process:
            self.world.start_host(name)
        await asyncio.sleep(random.random() * random.choice((0.3, 1.0, 3.0)))
        self.world.loop.wake(process)
        await self._bury(process, random)

    async def rival(self, random: Random) -> None:
        """Another host gets the name of one that is well; both go on until the first is killed."""
        name, process = self._host(random)
        if process.alive:
            self.world.start_host(name)
            await self._bury(process, random)

    async def other_keys(self, random: Random) -> None:
        """A packet host is started with other keys, as if nobody had compared them, and later with the right ones."""
        world = self.world
        name = random.choice([name for name in world.members if name.startswith("packet-")])
        if name in world.keys_lost:
            return
        world.keys_lost.add(name)
        world.auditor.lost_keys.ever = True
        self._kill(name)
        await asyncio.sleep(random.random() * random.choice((1.0, 4.0, 8.0)))
        world.keys_lost.discard(name)
        self._kill(name)

    def _kill(self, name: str) -> None:
        process = self.world.members[name].process
        if process.alive:
            self.world.loop.kill(process)

    async def _bury(self, process: Process, random: Random) -> None:
        await asyncio.sleep(random.random() * 2)
        if process.alive:
            self.world.loop.kill(process)

    async def second_settlement(self, random: Random) -> None:
        """Settlement of all hosts runs twice."""
        world = self.world
        world.start_task("settlement", lambda process: world.settle(process, list(world.members)))

    async def second_maintenance(self, random: Random) -> None:
        """A stream is maintained by several at once."""
        stream = random.choice(list(self.world.settings.streams))
        for _ in range(3):
            self.world.start_task("maintenance", lambda process: self.world.maintain(process, stream))
            await asyncio.sleep(random.random() * 0.02)

    # The store.

    async def store_dies(self, random: Random) -> None:
        """The store is killed in a turn that writes, with or without it on disk, and comes back."""
        store = self.world.store
        died = asyncio.Event()
        store.crashed = died.set
        store.doom(loses=random.random() < 0.6)
        await died.wait()
        self.world.note("dead", "store")
        await asyncio.sleep(random.choice((0.02, 0.3, 1.5)))
        store.restart()

    async def _weather(self, random: Random, duration_s: float, **change: Any) -> None:
        weather = self.world.store.weather
        sound = {name: getattr(weather, name) for name in change}
        for name, value in change.items():
            setattr(weather, name, value)
        await asyncio.sleep(random.random() * duration_s)
        for name, value in sound.items():
            setattr(weather, name, value)

    async def store_loses(self, random: Random) -> None:
        """Requests to the store and its answers are lost for a while."""
        await self._weather(random, 1.5, request_lost=random.random() * 0.2, answer_lost=random.random() * 0.4)

    async def store_repeats(self, random: Random) -> None:
        """The client library misses answers and asks again by itself."""
        await self._weather(random, 2.0, repeated=random.random() * 0.3)

    async def store_is_slow(self, random: Random) -> None:
        """The disk is slow: some answers come after their asker gave up."""
        await self._weather(random, 2.0, slow=random.choice((20, 200, 1_500)))

    async def store_is_full(self, random: Random) -> None:
        """The store refuses to write: out of memory."""
        await self._weather(random, 1.5, full=True)

    async def archive_fails(self, random: Random) -> None:
        """The place of sealed files does not answer, if there is one."""
        archive = self.world.archive
        if archive is not None:
            archive.failing = random.random() * 0.5
            await asyncio.sleep(random.random() * 2)
            archive.failing = 0.0

    # The wires.

    async def _wire(self, random: Random, duration_s: float, name: str, value: Any) -> None:
        network = self.world.network
        sound = getattr(network, name)
        setattr(network, name, value)
        await asyncio.sleep(random.random() * duration_s)
        setattr(network, name, sound)

    async def wire_loses(self, random: Random) -> None:
        """Calls and answers are lost for a while."""
        await self._wire(random, 1.5, "lost", random.random() * 0.4)

    async def wire_doubles(self, random: Random) -> None:
        """Calls are executed twice for a while, the second time late."""
        await self._wire(random, 2.0, "doubled", random.random() * 0.6)

    async def wire_is_slow(self, random: Random) -> None:
        """Calls take long, and overtake each other."""
        await self._wire(random, 2.0, "slow", random.choice((10, 100, 800)))

    # Time.

    async def clock_jumps(self, random: Random) -> None:
        """The clock of a host jumps, forward or back."""
        clock = self.world.clocks[self._host(random)[1]]
        clock.skew_ms += random.choice((-10_000, -1_000, -30, 30, 1_000, 10_000))

    async def time_passes(self, random: Random) -> None:
        """The operator moves the sandbox clock."""
        await self.clients.move_clock(random.choice((10, 1_000, 2_000, 7_000, 13_000)))

    # The operator.

    async def lever(self, random: Random) -> None:
        """The operator pauses something, and lets it go on after a while, at once, or never."""
        lever = random.choice((SENDS, GRABS, packet_switch(self.clients.newest_packet())))
        await self.clients.set_lever(lever, random, paused=True)
        await asyncio.sleep(random.random() * random.choice((0.0, 1.0, 4.0)))
        if random.random() < 0.8:
            await self.clients.set_lever(lever, random, paused=False)
