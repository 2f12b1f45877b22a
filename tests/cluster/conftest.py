"""Cluster tests: one started system (real Ray, Serve behind HAProxy, Valkey) shared by all of them."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from cluster.config import Keys, keys_at
from cluster.local.bootstrap import down, up
from cluster.local.record import SystemRecord
from tests.cluster.platform import Platform, asked

TEST_SECONDS_MAX = 240
"""A test may wait for a start of Ray, which takes about 20 s on two idle cores and several times that on busy ones."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Bound every test here, and none elsewhere."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TEST_SECONDS_MAX))


@pytest.fixture(scope="session")
def system() -> Iterator[SystemRecord]:
    """The shared system. Tests may load it, and must leave it running and ready."""
    data = Path(tempfile.mkdtemp(prefix="hongbao-test-"))
    try:
        yield up(data, owned=True, report=print)
    finally:
        down(data, print)
        shutil.rmtree(data, ignore_errors=True)


@pytest.fixture(scope="session")
def keys(system: SystemRecord) -> Keys:
    """The shared system's secrets, with which tests mint tokens."""
    return keys_at(system.data / "keys.json")


@pytest_asyncio.fixture
async def platform(system: SystemRecord, keys: Keys) -> AsyncIterator[Platform]:
    """The shared system, asked over HTTP. Who asks by the hundred at once has a fixture of his own."""
    async with asked(system, keys) as platform:
        await platform.insist("GET", "/readyz", platform.operator)
        yield platform
