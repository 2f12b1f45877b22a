"""Switches: what an operator may pause, journaled in every stream that it concerns. A pause moves no money.

A kind gives its switches names and says what they pause. Whatever was promised goes on: repeats get their answer, what
is in transit settles, time passes. A switch is set by compare-and-set: a request names the order that `Switches` told,
so that a request that was on its way for long cannot undo a later one.
"""

import msgspec

SWITCHES_MAX = 1_000
"""Switches that are on in one stream."""


class SwitchSet(msgspec.Struct, frozen=True, array_like=True, tag="switch_set"):
    """An operator paused something in this stream, or let it go on. No money moves."""

    switch: str
    paused: bool
    at_ms: int
    by: str


class Switch(msgspec.Struct, frozen=True, array_like=True):
    """A switch that is on: since when (Unix ms), and who set it."""

    at_ms: int
    by: str


class SetSwitch(msgspec.Struct, frozen=True, array_like=True, tag="set_switch"):
    """Command to any stream: pause, or go on. `epoch` and `asked` are those that its `Switches` told."""

    switch: str
    paused: bool
    by: str
    epoch: int
    asked: int


class ReadSwitches(msgspec.Struct, frozen=True, array_like=True, tag="read_switches"):
    """Command to any stream: what is paused in you, and in which order would the next switch be set?"""


class Switches(msgspec.Struct, frozen=True, array_like=True, tag="switches"):
    """Reply to `ReadSwitches`: the activation, how often it was asked to set a switch, and the switches that are on."""

    epoch: int
    asked: int
    switches: dict[str, Switch]
