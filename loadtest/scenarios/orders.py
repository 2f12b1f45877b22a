"""Orders: the one file through which `loadtest.load` tells its locust processes what to do, and how they answer.

Locust runs in processes of its own, because gevent changes the whole process it is in. The orders hold tokens: the file
is readable by its owner alone and goes with the run. What users were told comes back as lines of JSON, a `TimedAnswer`
per request, appended to a file for each process.

Instants in milliseconds from the beginning of the load, durations in microseconds, money in fen.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from cluster.client import PacketAnswer
from loadtest.scenarios.load_profile import Profile


class Orders(msgspec.Struct, frozen=True):
    """Everything a locust process needs."""

    profile: Profile
    url: str
    run: str
    """Makes users and keys of this run unlike those of another."""
    parts: int
    folder: str
    """Where the answers are written."""
    gateway_token: str
    user_tokens: list[str]

    def key_of(self, packet: int) -> str:
        """Return the idempotency key of a packet, by its plan number."""
        return key_of(self.run, packet)


class Item(msgspec.Struct, frozen=True, array_like=True):
    """What one person was told of a grab: a share, or a code."""

    person: int
    rank: int = 0
    amount_fen: int = 0
    code: str = ""
    unknown: bool = False
    """The grab may have taken effect unknown to the user."""


class TimedAnswer(msgspec.Struct, frozen=True, array_like=True):
    """One request and its answer, as the client saw it."""

    number: int
    route: str
    packet: int
    attempt: int
    due_ms: int
    late_us: int
    """From the instant at which it was to be asked to that at which it was."""
    waited_us: int
    """The part of that in which it waited for a free connection."""
    took_us: int
    """From then to the answer."""
    status: int
    """0: no answer."""
    code: str
    unknown: bool
    items: list[Item] = []
    seen: PacketAnswer | None = None
    """The packet as sent or viewed, without its list."""
    packet_id: str = ""


def key_of(run: str, packet: int) -> str:
    """Name the send of a packet, by its plan number."""
    return f"load-{run}-{packet}"


def user_name(run: str, person: int) -> str:
    """Name a person of a run, e.g. ("5e1f", 7) -> "load-5e1f-00007"."""
    return f"load-{run}-{person:05d}"


def write_orders(path: Path, orders: Orders) -> None:
    """Write the orders for their owner alone."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(msgspec.json.encode(orders))


def read_orders(path: Path) -> Orders:
    """Read the orders."""
    return msgspec.json.decode(path.read_bytes(), type=Orders)


def answers_path(folder: Path, part: int) -> Path:
    """Name the file of a process's answers."""
    return folder / f"answers-{part}.ndjson"


def read_answers(folder: Path, parts: int) -> Iterator[TimedAnswer]:
    """Yield what all processes have written, in the order in which it was answered in each."""
    decoder = msgspec.json.Decoder(TimedAnswer)
    for part in range(parts):
        path = answers_path(folder, part)
        if path.exists():
            with path.open("rb") as file:
                yield from map(decoder.decode, file)
