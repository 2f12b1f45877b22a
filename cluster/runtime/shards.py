"""Shards as Ray actors: one thin class around the pure hosts, and how it is built from the configuration.

`ray.remote` wraps it once, with `max_restarts=-1, max_task_retries=0`: a repeat is the caller's, with the same
identity. Messages are msgpack bytes, small enough to travel inline.
"""

import asyncio
import gc
import time
from typing import Any

import msgspec
import ray

from actors.kernel.host import SentTotals, StreamFigures
from actors.kernel.machine import Machine
from actors.kernel.metrics import Tally, TallyFigures
from actors.kernel.ports import KeyRing
from actors.kernel.rules import Services
from actors.kinds import build_host, kind_of
from actors.ledger.transfer import Outgoing
from cluster.config import Keys, Settings
from cluster.journal.codec import platform_codec
from cluster.journal.redis import RedisJournals
from cluster.keys import KeyedJournals
from cluster.observability.logs import log_json
from cluster.runtime.placement import NAMESPACE

CALLS_MAX = 1_000
"""Calls to one shard under way at once; each carries a batch, and its callers bound themselves far below."""

GC_ALLOCATIONS = 100_000
"""Containers made and not freed before the collector looks at the young ones; Python's own 700 is for scripts."""


class WallClock:
    """The port `Clock` on this machine's clock."""

    def now_ms(self) -> int:
        """Return Unix milliseconds."""
        return time.time_ns() // 1_000_000


def calm_collector() -> None:
    """Let Python's cycle collector look seldom: our objects die by reference count, and it walks every big table.

    At its own thresholds it took a fifth of a packet shard's time. Cycles (failures with their tracebacks) still go.
    """
    gc.freeze()  # what was imported never dies
    gc.set_threshold(GC_ALLOCATIONS, 50, 100)


def open_journals(settings: Settings) -> RedisJournals:
    """Return the journals of the configured store."""
    return RedisJournals(
        settings.store_url,
        platform_codec(),
        timeout_ms=settings.timing.store_timeout_ms,
        system=settings.store_prefix,
    )


def services_of(settings: Settings, keys: KeyRing) -> Services:
    """Return what every machine of a system gets."""
    return Services(keys, settings.layout)


def machine_of(stream: str, settings: Settings, keys: KeyRing) -> Machine:
    """Return the machine of a stream without events. Raises UnknownKind."""
    kind = kind_of(stream)
    return kind.machine(stream, settings.kinds[kind.name].rules, services_of(settings, keys))


class ShardActor:
    """What Ray runs: a host, its messages in bytes."""

    def __init__(self, name: str, streams: list[str], settings: Settings, keys: Keys) -> None:
        calm_collector()
        log_json("shard", host=name)
        clock, kind = WallClock(), kind_of(streams[0])
        tally = Tally(clock.now_ms())
        journals = KeyedJournals(open_journals(settings), tally, keys)
        services, rules = services_of(settings, keys), settings.kinds[kind.name].rules
        self._host = build_host(name, kind, streams, journals, clock, services, rules, tally)
        self._starting = asyncio.get_running_loop().create_task(self._host.start())
        self._encoder = msgspec.msgpack.Encoder()

    async def handle(self, payload: bytes) -> bytes:
        """Answer groups of commands; see `Host.handle`."""
        return await self._host.handle(payload)

    async def outgoing(self) -> bytes:
        """Return what settlement may deliver: `[Outgoing, ...]`."""
        return self._encoder.encode(await self._host.outgoing())

    async def report(self, audit: bool) -> bytes:
        """Report every stream: `[StreamFigures, ...]`."""
        return self._encoder.encode(await self._host.report(audit=audit))

    async def tally(self) -> bytes:
        """Report what this process has done: `TallyFigures`."""
        return self._encoder.encode(self._host.tally.figures())

    async def totals_at(self, payload: bytes) -> bytes:
        """Answer what this source had sent at given numbers; see `Host.totals_at`."""
        asked = msgspec.msgpack.decode(payload, type=list[tuple[str, str, int, list[int]]])
        return self._encoder.encode(await self._host.totals_at(asked))

    async def advance_clock(self, offset_ms: int) -> None:
        """Adopt the durable sandbox offset."""
        await self._host.advance_clock(offset_ms)


REPORTS: msgspec.msgpack.Decoder[list[StreamFigures]] = msgspec.msgpack.Decoder(list[StreamFigures])
TALLY: msgspec.msgpack.Decoder[TallyFigures] = msgspec.msgpack.Decoder(TallyFigures)
OUTGOING: msgspec.msgpack.Decoder[list[Outgoing]] = msgspec.msgpack.Decoder(list[Outgoing])
TOTALS: msgspec.msgpack.Decoder[list[SentTotals]] = msgspec.msgpack.Decoder(list[SentTotals])


def detached(actor: type, name: str, settings: Settings, **options: Any) -> Any:
    """Return what creates (or finds) a detached, named, ever restarting actor; its `remote` returns the handle."""
    return ray.remote(actor).options(
        name=name,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        max_restarts=-1,
        max_task_retries=0,
        num_cpus=settings.placement.shard_cpus,
        **options,
    )


def create_shard(name: str, streams: list[str], settings: Settings, keys: Keys) -> Any:
    """Create (or find) the actor of a host and return its handle."""
    return detached(ShardActor, name, settings, max_concurrency=CALLS_MAX).remote(name, streams, settings, keys)
