"""Lifeline: the pipe between the process that starts a system and its watchdog.

| on the pipe | means |
|---|---|
| the plan, one line | start this |
| its end, before one of the words | the starter was interrupted or has died: end the system |
| `keep` | money is served; the system stays for good, whatever becomes of the starter |
| `own` | money is served; the system still ends with the pipe, that is with its owner, also if that is killed |
"""

import os
import select
import time
from pathlib import Path
from typing import IO

from pydantic import BaseModel, ConfigDict

KEEP, OWN = b"keep\n", b"own\n"
PLAN_BYTES_MAX = 16_384


class Plan(BaseModel):
    """What `up` asks for. An empty `store_url` means our own store; port 0 means any."""

    model_config = ConfigDict(frozen=True)

    port: int
    config: str
    store_url: str
    sandbox: bool = False


class Lifeline:
    """The watchdog's end."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.kept = False
        """Nobody's end ends the system any more."""
        self.started = False
        """`up` has heard that money is served, and waits no longer."""

    def plan(self) -> Plan:
        """Read the plan. Raises pydantic.ValidationError if `up` has gone before it had written it."""
        line = b""
        while not line.endswith(b"\n") and len(line) < PLAN_BYTES_MAX:
            byte = os.read(self.descriptor, 1)
            if not byte:
                break
            line += byte
        return Plan.model_validate_json(line)

    def torn(self, wait_s: float) -> bool:
        """Wait a moment; tell whether the pipe has ended and nobody has said `keep`."""
        if self.kept:
            time.sleep(wait_s)
            return False
        readable, _, _ = select.select([self.descriptor], [], [], wait_s)
        if not readable:
            return False
        heard = os.read(self.descriptor, PLAN_BYTES_MAX)
        self.kept = KEEP in heard
        self.started = self.started or self.kept or OWN in heard
        return not heard


_owned: dict[Path, IO[bytes]] = {}
"""Ends of the pipes of systems that this process owns, by data folder."""


def own(data: Path, pipe: IO[bytes]) -> None:
    """Keep a system's pipe open until `disown`, or the end of this process."""
    disown(data)
    _owned[data] = pipe


def disown(data: Path) -> None:
    """Close the pipe of a system, if this process owns it."""
    pipe = _owned.pop(data, None)
    if pipe is not None:
        pipe.close()


def _close_in_fork() -> None:
    for data in list(_owned):
        disown(data)


os.register_at_fork(after_in_child=_close_in_fork)  # a fork that outlives the owner must not hold the pipe open
