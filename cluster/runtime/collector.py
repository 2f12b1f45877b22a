"""Collector: gathers what shards, gateways and the store say, audits, and exports it all.

Losing it loses no money and no figure for good but the last second's. Nothing here may end the supervisor: what cannot
be read is counted or left out, and read again next time.
"""

import asyncio
import functools
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from actors.kernel.errors import OperatingFailure
from cluster.config import Settings
from cluster.observability.metrics_snapshot import AuditFigures, Figures, Gatherer, StoreFigures
from cluster.observability.prometheus import Exporter
from cluster.runtime.directory import Directory, ShardUnavailable
from cluster.runtime.live_audit import Conservation, audit
from cluster.runtime.placement import hosts
from cluster.runtime.shards import TALLY
from cluster.store import WOULD_WRITE

log = logging.getLogger(__name__)


def now_ms() -> int:
    """Return Unix milliseconds."""
    return time.time_ns() // 1_000_000


class Collector:
    """The loops beside the supervisor's own."""

    def __init__(self, settings: Settings, ready: Callable[[], Awaitable[list[str]]], *, again: bool) -> None:
        """`ready` names what is not active yet: an audit waits for it. `again`: an earlier life has counted already."""
        born_ms = now_ms()
        self.gathered = Gatherer(born_ms, settings.timing.snapshot_events, born_ms if again else 0)
        self._settings = settings
        self._ready = ready
        self._directory = Directory(settings)
        self._exporter = Exporter()
        timeout_s = settings.timing.store_timeout_ms / 1000
        self._store: Any = Redis.from_url(
            settings.store_url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )
        sight = settings.sight
        loop = asyncio.get_running_loop()
        steps: list[tuple[str, int, Callable[[], Awaitable[None]]]] = [
            ("export", sight.report_ms, self._export),
            ("ask the store", sight.store_ms, self._ask_store),
            ("audit", sight.audit_ms, self._audit),
        ]
        for host in hosts(settings):
            steps.append((f"tally {host}", sight.report_ms, functools.partial(self._ask_shard, host)))
        self.loops = [loop.create_task(_every(period_ms, step), name=name) for name, period_ms, step in steps]

    def figures(self) -> Figures:
        """Return everything as of now."""
        return self.gathered.figures(now_ms())

    async def _export(self) -> None:
        self._exporter.export(self.figures())

    async def _ask_shard(self, host: str) -> None:
        try:
            self.gathered.take_shard(host, TALLY.decode(await self._directory.call(host, "tally")))
        except ShardUnavailable:
            return  # `_watch` looks after it

    async def _ask_store(self) -> None:
        self.gathered.store = await read_store(self._store)

    async def _audit(self) -> None:
        while await self._ready():  # noqa: ASYNC110 - nobody tells when the streams are there
            await asyncio.sleep(self._settings.timing.supervise_ms / 1000)
        began_ms = now_ms()
        try:
            report = await audit(self._directory, self._settings)
        except OperatingFailure as failure:
            self.gathered.add("audits", "failed")
            log.warning("the books cannot be compared for now: %s", failure)
            return
        self.gathered.audit = audit_figures(report, began_ms, now_ms())
        self.gathered.add("audits", "clean" if report.clean else "unclean")
        if not report.clean:
            broken = {shard.stream: shard.book_sum_fen for shard in report.shards if shard.book_sum_fen}
            log.error("the books differ by %d fen", report.difference_fen, extra={"book_sums_fen": broken})


def audit_figures(report: Conservation, began_ms: int, ended_ms: int) -> AuditFigures:
    """Return what of an audit is shown."""
    return AuditFigures(
        at_ms=ended_ms,
        took_ms=ended_ms - began_ms,
        difference_fen=report.difference_fen,
        book_sum_fen=sum(abs(shard.book_sum_fen) for shard in report.shards),
        in_flight_fen=report.in_flight_fen,
    )


async def read_store(store: Any) -> StoreFigures:
    """Ask the store how it is. `fsync_us` is Valkey's `eventloop_duration_aof_sum`: write and fsync of its log."""
    try:
        async with store.pipeline(transaction=False) as asked:
            asked.eval(WOULD_WRITE, 0)
            for section in ("memory", "stats", "debug"):
                asked.info(section)
            written, *found = await asked.execute(raise_on_error=False)
    except (RedisError, OSError):
        return StoreFigures(ready=False, at_ms=now_ms())
    says = {name: value for section in found if isinstance(section, dict) for name, value in section.items()}
    return StoreFigures(
        ready=not isinstance(written, Exception),
        at_ms=now_ms(),
        memory_bytes=says.get("used_memory"),
        memory_bytes_max=says.get("maxmemory"),
        fsync_us=says.get("eventloop_duration_aof_sum"),
        cycles=says.get("eventloop_cycles"),
    )


async def _every(period_ms: int, step: Callable[[], Awaitable[None]]) -> None:
    """Do it again and again; our own bug in one step is logged and does not end the others."""
    while True:
        try:
            await step()
        except Exception:
            log.exception("a look at the system failed")
        await asyncio.sleep(period_ms / 1000)
