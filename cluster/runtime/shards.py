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
from actors.kernel.metrics import Tally, TallyFigures
from actors.kernel.ports import KeyRing
from actors.kernel.rules import Rules, Services
from actors.kinds import build_host, kind_of
from actors.ledger.holds import HoldRules
from actors.ledger.transfer import Outgoing
from actors.packet.quotas import PacketFair
from actors.packet.rules import PacketRules
from actors.wallet.asks import AskRules
from actors.wallet.commitments import CommitmentRules
from actors.wallet.lishi import LishiRules
from actors.wallet.machine import WalletRules
from actors.wallet.notes import NoteRules
from actors.wallet.quotas import WalletFair
from actors.wallet.sends import SendRules
from cluster.config import Keys, Settings
from cluster.journal.codec import platform_codec
from cluster.journal.redis import RedisJournals
from cluster.keys import KeyedJournals
from cluster.observability.logs import log_json
from cluster.owners import Fair
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
    numbers = settings.layout.numbers
    return Services(keys, {"packet": {"": numbers.packet, "hot": numbers.hot}, "wallet": {"": numbers.wallet}})


def rules_of(settings: Settings) -> dict[str, Rules]:
    """Read the bounds of every kind's streams."""
    return {"packet": packet_rules(settings), "wallet": wallet_rules(settings)}


def packet_rules(settings: Settings) -> PacketRules:
    """Read the bounds of a packet stream."""
    bounds = settings.bounds
    return PacketRules(
        commit_events_max=bounds.commit_events_max,
        commit_events_fair=settings.fair.commit_events_max.percent,
        expire_batch_max=bounds.expire_batch_max,
        tick_ms=settings.timing.tick_ms,
        unsettled_max=bounds.unsettled_max,
        opened_ahead_max=bounds.opened_ahead_max,
        settle_batch_max=bounds.settle_batch_max,
        passivate_after_ms=settings.timing.passivate_after_ms,
        passivate_batch_max=bounds.passivate_batch_max,
        split_apart_min=bounds.split_apart_min,
        dealt_ahead_max=bounds.dealt_ahead_max,
        winners_max=bounds.winners_max,
        phrase_missers_max=bounds.phrase_missers_max,
        phrase_tries_max=settings.limits.phrase_tries_max,
        phrase_tries_ms=settings.limits.phrase_tries_ms,
        fair=PacketFair(settings.fair.unsettled_max.percent, settings.fair.opened_ahead_max.percent),
    )


def wallet_rules(settings: Settings) -> WalletRules:
    """Read the bounds of a wallet stream."""
    bounds, limits = settings.bounds, settings.limits
    return WalletRules(
        commit_events_max=bounds.commit_events_max,
        commit_events_fair=settings.fair.commit_events_max.percent,
        expire_batch_max=bounds.expire_batch_max,
        tick_ms=settings.timing.tick_ms,
        accounts_max=bounds.accounts_max,
        unsettled_max=bounds.unsettled_max,
        idempotency_keys_max=bounds.idempotency_keys_max,
        idempotency_ms=bounds.idempotency_ms,
        statement_lines_max=bounds.statement_lines_max,
        relay_after_ms=settings.timing.relay_after_ms,
        settle_batch_max=bounds.settle_batch_max,
        commitments=CommitmentRules(
            settings.limits.commitments_unused_max, bounds.commitments_max, settings.limits.commitment_ms
        ),
        lishi=LishiRules(
            lifetime_ms=limits.lishi_lifetime_ms,
            cooldown_ms=limits.lishi_cooldown_ms,
            open_max=limits.lishi_open_max,
            total_max=bounds.lishi_max,
            keep_ms=max(limits.lishi_cooldown_ms, bounds.idempotency_ms),
        ),
        asks=AskRules(limits.lishi_asks_max, bounds.idempotency_ms, bounds.lishi_counted_max),
        notes=NoteRules(
            changes_max=limits.note_changes_max,
            per_packet_max=limits.notes_per_packet_max,
            total_max=bounds.notes_max,
            keep_ms=bounds.notes_ms,
        ),
        holds=HoldRules(
            total_max=bounds.holds_max,
            lifetime_ms_max=limits.hold_lifetime_ms_max,
            keep_ms=bounds.holds_ms,
            fair=settings.fair.holds_max.percent,
        ),
        photos_bytes_max=bounds.photos_bytes_max,
        sends=send_rules(settings),
        fair=wallet_fair(settings.fair),
    )


def wallet_fair(fair: Fair) -> WalletFair:
    """Read the parts of the bounds of a wallet stream."""
    return WalletFair(
        accounts=fair.accounts_max.percent,
        unsettled=fair.unsettled_max.percent,
        keys=fair.idempotency_keys_max.percent,
        commitments=fair.commitments_max.percent,
        lishi=fair.lishi_max.percent,
        asks=fair.lishi_counted_max.percent,
        notes=fair.notes_max.percent,
        photos=fair.photos_bytes_max.percent,
    )


def send_rules(settings: Settings) -> SendRules:
    """Read what every send gets."""
    limits, bounds = settings.limits, settings.bounds
    return SendRules(
        share_fen_min=limits.share_fen_min,
        share_fen_max=limits.share_fen_max,
        packet_lifetime_ms=limits.packet_lifetime_ms,
        opens_ms_max=limits.crowd_opens_ms_max,
        crowd_count_min=bounds.crowd_count_min,
        lane_count_max=bounds.lane_count_max,
    )


class ShardActor:
    """What Ray runs: a host, its messages in bytes."""

    def __init__(self, name: str, streams: list[str], settings: Settings, keys: Keys) -> None:
        calm_collector()
        log_json("shard", host=name)
        clock, kind = WallClock(), kind_of(streams[0])
        tally = Tally(clock.now_ms())
        journals = KeyedJournals(open_journals(settings), tally, keys)
        rules = rules_of(settings)[kind.name]
        services = services_of(settings, keys)
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


def create_shard(name: str, streams: list[str], settings: Settings, keys: Keys) -> Any:
    """Create (or find) the detached, named, ever restarting actor of a host and return its handle."""
    return (
        ray.remote(ShardActor)
        .options(
            name=name,
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=-1,
            max_task_retries=0,
            max_concurrency=CALLS_MAX,
            num_cpus=settings.placement.shard_cpus,
        )
        .remote(name, streams, settings, keys)
    )
