"""Stores of the contract tests, one for each adapter, and the events they hold."""

import itertools
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.contract.stores import CODEC, LAYOUT, MemoryStore, Store, Valkey, ValkeyStore

_systems = itertools.count()


@pytest_asyncio.fixture(scope="session")
async def valkey() -> AsyncIterator[Valkey]:
    with tempfile.TemporaryDirectory(prefix="hb") as folder:
        server = Valkey(Path(folder))
        try:
            await server.start()
            yield server
        finally:
            server.kill()


@pytest_asyncio.fixture(params=["memory", "valkey"])
async def store(request: pytest.FixtureRequest, valkey: Valkey) -> AsyncIterator[Store]:
    if request.param == "memory":
        memory = MemoryStore(CODEC)
        await memory.journals.create_system(LAYOUT)
        yield memory
        return
    real = ValkeyStore(CODEC, valkey, f"test-{next(_systems)}")
    await real.journals.create_system(LAYOUT)
    try:
        yield real
    finally:
        await real.close()


@pytest_asyncio.fixture(params=["memory", "valkey"])
async def mortal_store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """A store that the test may stop: the server is its own."""
    if request.param == "memory":
        memory = MemoryStore(CODEC)
        await memory.journals.create_system(LAYOUT)
        yield memory
        return
    with tempfile.TemporaryDirectory(prefix="hb") as folder:
        server = Valkey(Path(folder))
        await server.start()
        real = ValkeyStore(CODEC, server, "mortal", timeout_ms=500)
        try:
            await real.journals.create_system(LAYOUT)
            yield real
        finally:
            await real.close()
            server.kill()
