"""Settlement as Ray tasks, on any node: each delivers for its share of the hosts, and lingers while there is work."""

import asyncio
import functools
from typing import Any

import ray

from actors.settlement.task import settle
from cluster.config import Settings
from cluster.observability.logs import log_json
from cluster.runtime.directory import Directory


@functools.cache
def _directory(settings: Settings) -> Directory:
    """Keep one directory for a worker's life: finding actors costs more than a small delivery."""
    return Directory(settings)


@ray.remote(num_cpus=0, max_retries=0)
def settle_hosts(hosts: list[str], settings: Settings) -> int:
    """Deliver what these hosts' books have sent; return how many acknowledgements that made."""
    log_json("settlement")
    timing = settings.timing
    return asyncio.run(
        settle(
            _directory(settings),
            hosts,
            rounds_max=timing.settle_task_ms // timing.settle_ms,
            idle_rounds_max=timing.settle_linger_ms // timing.settle_ms,
            pause_ms=timing.settle_ms,
        )
    )


def start_settlement(hosts: list[str], settings: Settings) -> Any:
    """Start the task and return its reference."""
    return settle_hosts.remote(hosts, settings)
