"""Settlement as Ray tasks: one task at a time per source host, on any node."""

import asyncio
import functools
from typing import Any

import ray

from actors.settlement.task import settle
from cluster.config import Settings
from cluster.directory import Directory, ShardUnavailable

ROUNDS_MAX = 40
"""Rounds of one task; the scheduler starts another while there is anything left."""


@functools.cache
def _directory(settings: Settings) -> Directory:
    """Keep one directory for a worker's life: finding actors costs more than a small delivery."""
    return Directory(settings)


@ray.remote(num_cpus=0, max_retries=0)
def settle_host(host: str, settings: Settings) -> int:
    """Deliver what one host's books have sent; return how many acknowledgements that made."""

    async def deliver() -> int:
        try:
            return await settle(_directory(settings), host, rounds_max=ROUNDS_MAX, pause_ms=settings.timing.settle_ms)
        except ShardUnavailable:
            return 0  # the host is being restarted; what it has sent is in its journal

    return asyncio.run(deliver())


def start_settlement(host: str, settings: Settings) -> Any:
    """Start the task and return its reference."""
    return settle_host.remote(host, settings)
