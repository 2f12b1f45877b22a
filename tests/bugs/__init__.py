"""Bugs: deliberate ones, each with the tests that must catch it. `tests.mutants` tries them."""

from typing import NamedTuple

PACKET_MACHINE, PACKET_SHARD = "actors/packet/machine.py", "actors/packet/host.py"
REPLIES = "actors/packet/grab_replies.py"
WALLET_MACHINE = "actors/wallet/machine.py"
BOOK = "actors/ledger/book.py"
CORE_SHELL, CORE_HOST = "actors/kernel/shell.py", "actors/kernel/host.py"
MEMORY = "tests/simulation/memory_journal.py"
SERVICE, BATCHING = "cluster/gateway/service.py", "cluster/gateway/dispatch/batcher.py"
OWNER = "cluster/journal/owner.py"

HUNT = ("simulation",)
"""In the place of tests: the simulator must find it by itself."""


class Mutant(NamedTuple):
    """One bug: in `file`, `old` becomes `new`; `tests` must fail. `promise` is what it breaks."""

    promise: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
