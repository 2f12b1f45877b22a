"""Operations: what an operator asks of the whole system: the audit, its metrics, and in a sandbox the clock."""

import asyncio

from cluster.config import Settings
from cluster.gateway.problems import Problem
from cluster.runtime.directory import Directory, ShardUnavailable
from cluster.runtime.live_audit import Conservation, audit
from cluster.runtime.placement import SUPERVISOR, hosts

PAUSE_S = 0.1
"""Pause before hosts that did not answer are told again."""


class Operations:
    """The operations of one system, for one gateway replica."""

    def __init__(self, settings: Settings, directory: Directory) -> None:
        self._settings = settings
        self._directory = directory

    async def audit(self) -> Conservation:
        """Read all books. Raises Problem."""
        try:
            return await audit(self._directory, self._settings)
        except ShardUnavailable as failure:
            raise Problem("shard_unavailable", f"{failure}; ask again.") from failure

    async def figures(self) -> bytes:
        """Return the metrics of the whole system, as JSON. Raises Problem."""
        try:
            return bytes(await self._directory.call(SUPERVISOR, "figures"))
        except ShardUnavailable as failure:
            raise Problem("shard_unavailable", f"{failure}; ask again.") from failure

    async def advance_clock(self, offset_ms: int) -> None:
        """Tell every host the durable offset, until all have it. Raises Problem at the deadline."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + self._settings.timing.request_deadline_ms / 1000
        left = list(hosts(self._settings))
        while True:
            told = await asyncio.gather(
                *(self._directory.call(host, "advance_clock", offset_ms) for host in left), return_exceptions=True
            )
            left = [host for host, outcome in zip(left, told, strict=True) if isinstance(outcome, BaseException)]
            if not left:
                return
            if loop.time() >= deadline_s:
                raise Problem("shard_unavailable", f"The clock moved, but {', '.join(left)} has not heard of it yet.")
            await asyncio.sleep(PAUSE_S)
