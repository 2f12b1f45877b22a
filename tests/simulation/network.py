"""Network: calls between processes, as late, lost, doubled and out of order as calls are.

A request is delivered after a seeded delay into the process that it was sent to, whatever became of its sender; the
answer travels back. A dead process answers nobody: its callers are told, mostly, as Ray tells of a dead actor; a frozen
one answers when it wakes. A request may be executed twice, and an answer may be lost: the caller sees an error, and the
effect is there.

`Handles` stands where Ray's named actors stand, so that the real `cluster.runtime.directory.Directory` runs: it keeps a
handle until a call fails, so a zombie goes on being asked by whoever has not met its end.
"""

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, NamedTuple

from ray.exceptions import RayError

from actors.kernel.errors import OperatingFailure
from cluster.config import Settings
from cluster.runtime.directory import Directory
from cluster.runtime.shards import ShardActor
from tests.simulation.loop import InstantLoop, Process

WIRE_US = (100, 900)
TOLD_US = (200, 50_000)
"""So much later callers hear that a process has died."""

Work = Callable[[], Coroutine[Any, Any, Any]]


class Broken(RayError):  # type: ignore[misc]
    """The call failed; whether it was executed is unknown."""


class Network:
    """All wires."""

    def __init__(self, loop: InstantLoop, random: Random) -> None:
        self.loop = loop
        self.random = random
        self.lost = 0.0
        """Probability that a request, or its answer, is lost."""
        self.doubled = 0.0
        """Probability that a request is executed twice."""
        self.slow = 1
        """Factor on every delay."""
        self.found_bug: Callable[[BaseException], None] = lambda bug: None
        self._calls: dict[Process, dict[asyncio.Future[Any], Process]] = {}
        self.last_due_us = 0
        """When the last of the doubled requests arrives, which nobody waits for."""

    def call(self, caller: Process, callee: Process, work: Work) -> "asyncio.Future[Any]":
        """Let a process do some work and return its result; the future raises Broken."""
        answer = self.loop.create_future()
        if not callee.alive:
            self.loop.in_process(caller, self._delay_us(WIRE_US), _fail, answer, f"{callee.name} is dead")
            return answer
        self._calls.setdefault(callee, {})[answer] = caller
        if self.lost and self.random.random() < self.lost:
            self._lose(caller, answer)
            return answer
        self.loop.in_process(callee, self._delay_us(WIRE_US), self._deliver, caller, callee, work, answer)
        if self.doubled and self.random.random() < self.doubled:
            again = self._delay_us(WIRE_US) + self._delay_us(TOLD_US)
            self.last_due_us = max(self.last_due_us, self.loop.now_us + again)
            self.loop.in_process(callee, again, self._deliver, caller, callee, work, answer)
        return answer

    def tell_of_death(self, process: Process) -> None:
        """Tell most callers of a dead process that nobody will answer; the others find out by their own deadline."""
        for answer, caller in self._calls.pop(process, {}).items():
            if not answer.done() and self.random.random() < 0.8:
                self.loop.in_process(caller, self._delay_us(TOLD_US), _fail, answer, f"{process.name} died")

    def _deliver(self, caller: Process, callee: Process, work: Work, answer: "asyncio.Future[Any]") -> None:
        self.loop.spawn(callee, self._perform(caller, callee, work, answer))

    async def _perform(self, caller: Process, callee: Process, work: Work, answer: "asyncio.Future[Any]") -> None:
        result, failure = None, None
        try:
            result = await work()
        except OperatingFailure as failed:
            failure = Broken(f"the call failed there: {failed}")
        except Exception as bug:
            self.found_bug(bug)
            return
        self._calls[callee].pop(answer, None)
        if self.lost and self.random.random() < self.lost:
            self._lose(caller, answer)
        else:
            self.loop.in_process(caller, self._delay_us(WIRE_US), _settle, answer, result, failure)

    def _lose(self, caller: Process, answer: "asyncio.Future[Any]") -> None:
        """Half of the lost messages are noticed at once, the others by the caller's deadline."""
        if self.random.random() < 0.5:
            self.loop.in_process(caller, self._delay_us(TOLD_US), _fail, answer, "the connection was reset")

    def _delay_us(self, bounds: tuple[int, int]) -> int:
        low, high = bounds
        return (low + int(self.random.random() * (high - low))) * self.slow


def _settle(answer: "asyncio.Future[Any]", result: Any, failure: Exception | None) -> None:
    if answer.done():
        return
    if failure is None:
        answer.set_result(result)
    else:
        answer.set_exception(failure)


def _fail(answer: "asyncio.Future[Any]", why: str) -> None:
    _settle(answer, None, Broken(why))


class Member(NamedTuple):
    """One incarnation of a host."""

    process: Process
    actor: ShardActor


class Handles(dict[str, "Handle"]):
    """What a directory keeps: handles by host. One that is not there is looked up under its name."""

    def __init__(self, network: Network, caller: Process, members: dict[str, Member]) -> None:
        self._network = network
        self._caller = caller
        self._members = members

    def get(self, host: str, default: Any = None) -> Any:
        """Return the handle that was used last, else one to whoever has the name now. Raises ValueError."""
        handle = super().get(host)
        if handle is None:
            if host not in self._members:
                raise ValueError(f"no actor {host}")
            handle = self[host] = Handle(self._network, self._caller, self._members[host])
        return handle


class Handle:
    """A Ray actor's handle: `handle.method.remote(...)` is an awaitable."""

    def __init__(self, network: Network, caller: Process, member: Member) -> None:
        self._network = network
        self._caller = caller
        self._member = member

    def __getattr__(self, method: str) -> "Method":
        return Method(self._network, self._caller, self._member, method)


class Method(NamedTuple):
    """One method of one actor."""

    network: Network
    caller: Process
    member: Member
    name: str

    def remote(self, *arguments: Any) -> "asyncio.Future[Any]":
        """Call it."""
        return self.network.call(
            self.caller, self.member.process, lambda: getattr(self.member.actor, self.name)(*arguments)
        )


def directory(settings: Settings, network: Network, caller: Process, members: dict[str, Member]) -> Directory:
    """Return the platform's own directory, for one process, over this network."""
    found = Directory(settings)
    found._handles = Handles(network, caller, members)
    return found
