"""Run: one simulation from one seed, and what came of it.

A step is one thing that a client does. While clients act, faults strike. Then faults stop, everything is healed, and
everything that was promised is asked for. The same seed and steps give the same trace.
"""

import gc
import hashlib
import traceback
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

from tests.simulation.asking import Asking
from tests.simulation.clients import Clients
from tests.simulation.faults import Faults
from tests.simulation.finale import everything_ends_well
from tests.simulation.holders import Holders
from tests.simulation.world import World

STEPS = 120

CALM_US_MAX = 300_000_000
"""So long after the last fault everything has been answered, opened, ended and settled."""


class Outcome(NamedTuple):
    """What one run gave."""

    seed: int
    steps: int
    without: tuple[str, ...]
    violation: str
    """Empty, or what was found."""
    where: str
    """Where it was found: the traceback's last lines."""
    lives: int
    """Packets from their send to their end."""
    faults: Counter[str]
    asked: Counter[str]
    answered: Counter[str]
    virtual_ms: int
    digest: str
    """SHA-256 of the whole trace."""
    trace: list[tuple[Any, ...]]


def simulate(seed: int, steps: int = STEPS, without: Iterable[str] = ()) -> Outcome:
    """Run one simulation; `without` names kinds of fault that are off."""
    world = World(str(seed))
    clients = Clients(world)
    asking, holders = Asking(clients), Holders(clients)
    faults = Faults(world, clients, without)
    collecting = gc.isenabled()
    gc.disable()  # a collection would run the `finally` of tasks at moments that no seed decides
    try:
        world.loop.run_until_complete(_play(world, clients, asking, holders, faults, steps))
    except Exception as violation:  # whatever stops a run is told with its seed
        world.found_bug(violation)
    finally:
        quietly_end(world)
        if collecting:
            gc.enable()
    bug = world.violations[0] if world.violations else None
    return Outcome(
        seed=seed,
        steps=steps,
        without=tuple(without),
        violation="" if bug is None else f"{type(bug).__name__}: {bug}",
        where="" if bug is None else "".join(traceback.format_exception(bug)[-6:]),
        lives=sum(life.state != "open" for life in world.auditor.packets.values()),
        faults=faults.struck,
        asked=clients.asked,
        answered=clients.answered,
        virtual_ms=world.loop.now_us // 1_000,
        digest=hashlib.sha256(msgspec.msgpack.encode(world.trace)).hexdigest(),
        trace=world.trace,
    )


async def _play(world: World, clients: Clients, asking: Asking, holders: Holders, faults: Faults, steps: int) -> None:
    await world.start()
    await clients.begin()
    faults.start()
    await clients.act(steps)
    world.note("calm")
    world.loop.ends_at_us = world.loop.now_us + CALM_US_MAX
    faults.stop()
    await clients.all_answered()
    await everything_ends_well(world, clients, asking, holders)


def quietly_end(world: World) -> None:
    """End a world; what its ending brings about is no part of the run."""
    world.trace, trace = [], world.trace
    violations = list(world.violations)
    world.end()
    world.trace, world.violations = trace, violations
