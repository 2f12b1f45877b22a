"""Levers: what an operator may pause, journaled in every stream that it concerns. A pause moves no money.

| lever | held by | while it is on |
|---|---|---|
| `sends` | every wallet stream | nobody sends a new packet |
| `grabs` | every packet stream | nobody takes a fresh share |
| `packet:<id>` | the stream of that packet, until the packet ends | nobody takes a fresh share of it |

Whatever was promised goes on: repeats get their answer, what is in transit opens, settles and goes back, a packet's
time passes. A lever is set by comparison: whoever sets it names the order in which he found it (`Levers`), so that a
request that was on its way for long cannot undo a later one.
"""

import msgspec

SENDS = "sends"
GRABS = "grabs"
_PACKET = "packet:"

LEVERS_MAX = 1_000
"""Levers that are on in one stream; whoever wants to pause more packets of it pauses `grabs`."""


def packet_lever(packet_id: str) -> str:
    """Name the lever of one packet."""
    return _PACKET + packet_id


def packet_of(lever: str) -> str | None:
    """Return the packet whose lever it is; None if it is a whole stream's."""
    return lever.removeprefix(_PACKET) if lever.startswith(_PACKET) else None


class LeverSet(msgspec.Struct, frozen=True, array_like=True, tag="lever_set"):
    """An operator paused something in this stream, or let it go on. No money moves."""

    lever: str
    paused: bool
    at_ms: int
    by: str


class Lever(msgspec.Struct, frozen=True, array_like=True):
    """A lever that is on: since when (Unix ms), and who set it."""

    at_ms: int
    by: str


class SetLever(msgspec.Struct, frozen=True, array_like=True, tag="set_lever"):
    """Command to any stream: pause, or go on. `epoch` and `asked` are those that its `Levers` told."""

    lever: str
    paused: bool
    by: str
    epoch: int
    asked: int


class ReadLevers(msgspec.Struct, frozen=True, array_like=True, tag="read_levers"):
    """Command to any stream: what is paused in you, and in which order would the next lever be set?"""


class Levers(msgspec.Struct, frozen=True, array_like=True, tag="levers"):
    """Reply to `ReadLevers`: the activation, how often it was asked to set a lever, and the levers that are on."""

    epoch: int
    asked: int
    levers: dict[str, Lever]
