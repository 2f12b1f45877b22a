"""Counter: a kind without accounts. Each stream counts what users say, up to a bound, unless it is paused."""

from collections.abc import Callable, Mapping

import msgspec

from actors.kernel.handler import Command, Handler, Reply, Step, user_of
from actors.kernel.kind import Kind
from actors.kernel.machine import OVERLOADED, PlainMachine
from actors.kernel.messages import KernelRefusal, Refused
from actors.kernel.ports import Event
from actors.kernel.rules import Rules, Services
from actors.kernel.switches import Switch

COUNTS = "counts"
"""Its switch: while it is on, nothing more is counted."""


class CounterRules(Rules, frozen=True, kw_only=True):
    """The bounds of one stream."""

    count_max: int


class Count(msgspec.Struct, frozen=True, array_like=True, tag="toy_count"):
    """Command: count one more of a user."""

    tenant: str
    user: str


class ReadCount(msgspec.Struct, frozen=True, array_like=True, tag="toy_read_count"):
    """Command: how many are there?"""


class Counted(msgspec.Struct, frozen=True, array_like=True, tag="toy_counted"):
    """Event: one more."""

    user: str
    at_ms: int


class CountTold(msgspec.Struct, frozen=True, array_like=True, tag="toy_count_told"):
    """Reply to both: how many there are."""

    count: int


class State(msgspec.Struct):
    """Everything durable about one stream."""

    counts: dict[str, int] = {}
    stamp_ms: int = 0
    version: int = 0
    switches: dict[str, Switch] = {}


class CounterMachine(PlainMachine[State]):
    """The counts of one stream."""

    def __init__(self, stream: str, rules: CounterRules, services: Services) -> None:
        super().__init__(stream, State())
        self._rules = rules

    @property
    def count(self) -> int:
        """How many were counted."""
        return sum(self._state.counts.values())

    @property
    def members(self) -> int:
        """Users in memory."""
        return len(self._state.counts)

    def decide_count(self, command: Count, now_ms: int) -> Counted | Refused:
        """Count one more, or refuse."""
        if COUNTS in self.switches:
            return Refused(KernelRefusal.PAUSED)
        return OVERLOADED if self.count >= self._rules.count_max else Counted(command.user, now_ms)

    def appliers(self) -> Mapping[type[Event], Callable[..., None]]:
        """Return what takes each event type into the state."""
        return {Counted: self._apply_counted}

    def _apply_counted(self, event: Counted) -> None:
        self._state.counts[event.user] = self._state.counts.get(event.user, 0) + 1

    def restore(self, state: bytes) -> None:
        """Replace the whole state by a snapshot's."""
        self._state = msgspec.msgpack.decode(state, type=State)


def count(step: Step[CounterMachine], command: Count) -> Reply:
    """Count one more."""
    decided = step.machine.decide_count(command, step.now_ms)
    if isinstance(decided, Refused):
        return decided
    step.stage(decided)
    return CountTold(step.machine.count)


def read_count(step: Step[CounterMachine], command: ReadCount) -> Reply:
    """Tell how many there are."""
    return CountTold(step.machine.count)


HANDLERS: Mapping[type[Command], Handler] = {
    Count: Handler(count, owner=user_of),
    ReadCount: Handler(read_count, always=True),
}

COUNTER = Kind(
    name="counter",
    rules=CounterRules,
    machine=CounterMachine,
    handlers=HANDLERS,
    replies=(CountTold,),
    events=(Counted,),
    postings={Counted: None},
)
