"""Handlers: what answers each type of command. A kind declares its own; those here answer in every stream.

A handler runs within one step of a group: it may decide, apply and stage, and it never waits.
"""

from collections.abc import Callable, Mapping
from typing import Generic, NamedTuple, Protocol, TypeVar

import msgspec

from actors.kernel.machine import OUT_OF_ORDER, Machine
from actors.kernel.messages import AdoptSnapshot, Done, Refused, SnapshotTaken
from actors.kernel.ports import Event
from actors.kernel.rules import Rules, Services
from actors.kernel.shell import Shell
from actors.kernel.switches import ReadSwitches, SetSwitch, Switches
from actors.ledger.transfer import Acknowledge

Command = msgspec.Struct
Reply = msgspec.Struct

M = TypeVar("M", bound=Machine)


class Step(Generic[M]):
    """One step of one stream: everything in it is decided at one instant and becomes durable together."""

    __slots__ = ("machine", "now_ms", "rules", "services", "shell")

    def __init__(self, shell: Shell, machine: M, rules: Rules, services: Services) -> None:
        self.shell = shell
        self.machine = machine
        self.now_ms = shell.now_ms()
        self.rules = rules
        self.services = services

    def stage(self, *events: Event) -> None:
        """Apply events that were just decided, and put them on the open commit."""
        for event in events:
            self.shell.stage(event)


class Handler(NamedTuple):
    """How one type of command is answered: `run(step, command) -> reply`."""

    run: Callable[..., Reply]
    always: bool = False
    """Whether it is answered also while there is too much to do: reads that bring no work, and switches."""
    owner: Callable[..., tuple[str, str]] | None = None
    """(tenant, user) on whose part of the open commit its events count; None: on nobody's."""
    records: Callable[..., tuple[str, ...]] | None = None
    """The ids whose records it needs, if they have left memory."""


class Owned(Protocol):
    """A command of one user."""

    @property
    def tenant(self) -> str:
        """Their tenant."""
        ...

    @property
    def user(self) -> str:
        """Their name there."""
        ...


def user_of(command: Owned) -> tuple[str, str]:
    """Return whose command it is, where it says so itself."""
    return command.tenant, command.user


def acknowledge(step: Step[Machine], command: Acknowledge) -> Reply:
    """Forget what has arrived."""
    event = step.machine.decide_settled(command.destination, command.number)
    if isinstance(event, Refused):
        return event
    if event is not None:
        step.stage(event)
    return Done()


def adopt_snapshot(step: Step[Machine], command: AdoptSnapshot) -> Reply:
    """Let activations start from a snapshot, unless its task slept while a newer one was adopted."""
    shell = step.shell
    if command.version < shell.snapshot_version:
        return OUT_OF_ORDER
    step.stage(SnapshotTaken(command.epoch, command.seq))
    shell.snapshot_version, shell.snapshot_work = command.version, command.work
    return Done()


def read_switches(step: Step[Machine], command: ReadSwitches) -> Reply:
    """Tell which switches are on, and the order in which the next one would be set."""
    return Switches(step.shell.epoch, step.shell.switches_asked, dict(step.machine.switches))


def set_switch(step: Step[Machine], command: SetSwitch) -> Reply:
    """Set a switch, unless this activation has heard of another since the caller asked for the order."""
    shell = step.shell
    if (command.epoch, command.asked) != (shell.epoch, shell.switches_asked):
        return OUT_OF_ORDER
    shell.switches_asked += 1
    event = step.machine.decide_switch(command.switch, command.paused, command.by, step.now_ms)
    if isinstance(event, Refused):
        return event
    if event is not None:
        step.stage(event)
    return Done()


HANDLERS: Mapping[type[Command], Handler] = {
    Acknowledge: Handler(acknowledge),
    AdoptSnapshot: Handler(adopt_snapshot),
    ReadSwitches: Handler(read_switches, always=True),
    SetSwitch: Handler(set_switch, always=True),
}
"""Beside `Receive`, which a host answers with what its kind accepts."""
