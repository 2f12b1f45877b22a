"""A real store without room: it says so to everybody who asks, refuses what writes, and goes on when there is room.

Real only: what counts is what a server does with our scripts and settings.
"""

import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from actors.kernel.errors import JournalUnavailable
from actors.kernel.ports import Journal, Position
from cluster.local.processes import command_line
from cluster.store import store_refusal
from tests.contract.stores import CODEC, LAYOUT, STREAM, Valkey, ValkeyStore, append, owner

ROOM_BYTES = 2_000
APPENDS_MAX = 200


class Own:
    """A store of the test's own, its server and its address."""

    def __init__(self, server: Valkey, store: ValkeyStore, folder: Path) -> None:
        self.server = server
        self.store = store
        self.url = server.url
        self.folder = folder

    def process(self) -> psutil.Process:
        """The server, which is our child."""
        return next(child for child in psutil.Process().children() if str(self.folder) in command_line(child))

    def log_bytes(self) -> int:
        """How long the store's log of writes is on disk."""
        return sum(path.stat().st_size for path in self.folder.rglob("*.incr.aof"))


@pytest_asyncio.fixture
async def own() -> AsyncIterator[Own]:
    with tempfile.TemporaryDirectory(prefix="hb") as folder:
        server = Valkey(Path(folder))
        await server.start()
        store = ValkeyStore(CODEC, server, "full", timeout_ms=1_000)
        try:
            await store.journals.create_system(LAYOUT)
            yield Own(server, store, Path(folder))
        finally:
            await store.close()
            server.kill()


async def test_a_store_out_of_memory_is_not_ready_takes_no_fence_and_says_so_in_one_line(own: Own) -> None:
    journals = own.store.journals
    await journals.ping()
    assert store_refusal(own.url) == ""
    await own.store.refuse_next_append()
    with pytest.raises(JournalUnavailable):
        await journals.ping()
    with pytest.raises(JournalUnavailable):
        await owner(own.store)
    words = store_refusal(own.url)
    assert words is not None
    assert "out of memory" in words
    assert "\n" not in words
    await own.store.accept_again()
    await journals.ping()
    assert store_refusal(own.url) == ""
    await owner(own.store)


async def test_a_store_that_is_gone_has_no_words(own: Own) -> None:
    own.server.kill()
    assert store_refusal(own.url) is None


async def test_a_write_that_found_no_room_on_the_disk_was_not_acknowledged_and_leaves_a_journal_that_chains(
    own: Own,
) -> None:
    """The limit on a file's size stands for the disk: the write that passes it ends the server, torn in its middle."""
    journal = await owner(own.store)
    room = own.log_bytes() + ROOM_BYTES
    own.process().rlimit(psutil.RLIMIT_FSIZE, (room, psutil.RLIM_INFINITY))
    told = await append_until_refused(journal)
    assert told > 0
    assert own.log_bytes() == room, "the last write is torn"
    own.server.kill()  # it has ended; this reaps it
    await own.server.start()
    found = await own.store.journals.open(STREAM).activate("next")
    events: list[Any] = list(found.events)
    numbers = [event.number for event in events]
    assert numbers == list(range(1, told + 1)), "all that was acknowledged, and not the torn one"
    assert await own.store.journals.last_position(STREAM) == Position(found.epoch, 0)


async def append_until_refused(journal: Journal) -> int:
    """Append 1, 2, 3, …; return the last number that was acknowledged."""
    for number in range(1, APPENDS_MAX):
        try:
            await append(journal, number)
        except JournalUnavailable:
            return number - 1
    raise AssertionError("there is room for everything")
