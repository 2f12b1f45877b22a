"""Sections: the tables of configs/ that are not a kind's, and a kind's own: its streams, its hosts and its rules.

Every number has an owner (`actors.kernel.bounds`); every shared one has its parts in [fair].
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from actors.kernel.bounds import (
    WHOLE,
    Internal,
    Network,
    OfOperator,
    OfRequest,
    OfTakers,
    Outer,
    Own,
    Owner,
    PartOfCpu,
    Percent,
    Period,
    PeriodOr0,
    Section,
    Shared,
)
from actors.kernel.kind import Kind
from actors.kernel.rules import Rules

STREAMS_MAX = 4_096
"""Of one kind: an id tells the number of a stream in 12 bits."""

DAYS_MAX = 100 * 366
PartPercent = Annotated[int, Meta(ge=1, le=25, extra={"owner": Owner.PERIOD})]


class Pool(Section, frozen=True):
    """A group of a kind's streams, which have hosts of their own."""

    streams: Annotated[int, Meta(ge=0, le=STREAMS_MAX)]
    """Fixed when a system is created, but for the last pool of several, which may grow."""
    hosts: Annotated[int, Meta(ge=1)]
    """May change at every start: streams move, keys do not."""


class KindSection(msgspec.Struct, frozen=True):
    """A kind's section: `streams` and `hosts` of its first pool, a table for each other pool, and its `rules`."""

    pools: tuple[tuple[str, Pool], ...]
    rules: Rules

    @property
    def counts(self) -> dict[str, int]:
        """How many streams there are, by pool."""
        return {name: pool.streams for name, pool in self.pools}

    def table(self) -> dict[str, Any]:
        """Return the section as it is written."""
        (_, first), *others = self.pools
        named = {name: msgspec.structs.asdict(pool) for name, pool in others}
        return msgspec.structs.asdict(first) | named | {"rules": msgspec.to_builtins(self.rules)}


def read_kind(kind: Kind, table: Any) -> KindSection:
    """Read a kind's section. Raises ValueError: what is wrong, and where."""
    if isinstance(table, KindSection):
        return table
    first, *others = kind.pools
    assert first == "", "a kind's first pool has no name"
    own = {"streams", "hosts", "rules"}
    if wrong := sorted(table.keys() - own - set(others)):
        raise ValueError(f"[{kind.name}] has no {wrong[0]!r}; it has {', '.join(sorted(own | set(others)))}")
    parts = {"": {name: table[name] for name in ("streams", "hosts") if name in table}}
    parts |= {name: table.get(name, {}) for name in others}
    pools = tuple((name, read(Pool, part)) for name, part in parts.items())
    section = KindSection(pools, read(kind.rules, table.get("rules", {})))
    if not pools[0][1].streams or sum(section.counts.values()) > STREAMS_MAX:
        raise ValueError(f"[{kind.name}] has 1 to {STREAMS_MAX} streams, of which the first pool has at least one")
    return section


def read(section: type[msgspec.Struct], table: Any) -> Any:
    """Read a section. Numbers may be text, as in the environment. Raises ValueError: what is wrong, and where."""
    if isinstance(table, section):
        return table
    try:
        return msgspec.convert(table, section, strict=False)
    except msgspec.ValidationError as failure:
        raise ValueError(str(failure)) from None


class Placement(Section, frozen=True):
    """How many processes; may change at every start."""

    gateway_replicas: Period
    settlement_tasks: Period
    shard_cpus: PartOfCpu
    gateway_cpus: PartOfCpu


class Limits(Section, frozen=True):
    """What may be asked for. Amounts in fen. What a send gets besides is in [wallet.rules.sends]."""

    total_fen_max: OfRequest
    count_max: OfRequest
    greeting_chars_max: OfRequest
    sandbox_balance_fen_max: OfRequest
    sandbox_clock_ms_max: Annotated[OfOperator, Meta(le=DAYS_MAX * 86_400_000)]
    crowd_count_max: OfRequest
    crowd_total_fen_max: OfRequest
    sponsor_chars_max: OfRequest
    bursts_max: OfRequest
    burst_ms_min: OfRequest
    burst_ms_max: OfRequest
    nonce_chars_max: OfRequest
    note_chars_max: OfRequest
    photo_price_fen_min: OfRequest
    photo_price_fen_max: OfRequest


class Bounds(Section, frozen=True):
    """What is refused beyond, outside the streams: every queue, batch, cache and table."""

    batch_size_max: OfRequest
    body_bytes_max: OfRequest
    body_parts_max: OfRequest
    batch_bytes_max: OfRequest
    list_lines_max: OfRequest
    proof_lines_max: OfRequest
    seal_elements_max: Internal
    seal_bytes_max: Internal
    token_cache_max: Shared
    gateway_queue_max: Shared
    gateway_batch_max: Internal
    requests_max: Shared
    ongoing_requests_max: Outer
    queued_requests_max: Outer
    photo_bytes_max: OfRequest
    photo_pixels_max: OfRequest
    photo_memory_bytes_max: OfRequest
    photos_uploading_max: Shared
    photos_making_max: Internal
    """Turns among at most `photos_uploading_max`."""


class Timing(Section, frozen=True):
    """Periods and deadlines in milliseconds."""

    request_deadline_ms: Period
    ready_ms: Period
    health_check_ms: Period
    drain_ms: PeriodOr0
    shard_call_ms: Period
    settle_ms: Period
    settle_linger_ms: Period
    settle_task_ms: Period
    supervise_ms: Period
    ping_deadline_ms: Period
    store_timeout_ms: Period
    snapshot_events: Period
    backup_hold_ms: Period
    body_ms: Period
    photo_upload_ms: Period
    photo_cpu_ms: Period


class Streaming(Section, frozen=True):
    """Bounds of `POST /v1/grabs/stream`."""

    stream_inflight_max: Own
    streams_max: Shared
    line_bytes_max: Annotated[int, Meta(ge=512, extra={"owner": Owner.REQUEST})]
    stream_age_ms_max: Period
    stream_tick_ms: Period


class DoorRules(Section, frozen=True):
    """How HAProxy stands to the network; see `cluster.local.haproxy`."""

    connections_max: Network
    other_connections_max: Network
    head_ms: Period
    keep_alive_ms: Period


class GatewayCache(Section, frozen=True):
    """What a gateway replica remembers of packets that ended, so that losers need no shard."""

    ended_packets_max: Shared
    ended_bytes_max: Shared


class Sight(Section, frozen=True):
    """How often the system looks at itself, in milliseconds."""

    report_ms: Period
    store_ms: Period
    audit_ms: Period


class Overload(Section, frozen=True):
    """When a gateway replica refuses, and whom first; see `cluster.gateway.middleware.overload_control`."""

    queueing_ms_target: Period
    window_ms: Period
    window_requests_max: Internal
    beat_ms: Period
    down_percent: PartPercent
    up_percent: PartPercent
    refusing_percent_max: Annotated[Period, Meta(le=99)]
    retry_after_ms_min: Period
    retry_after_ms_max: Period
    tenants_max: OfOperator
    """A tenant is one of the keys file, or of a gateway that stands in it."""
    packet_queue_max: OfTakers
    """A part of `gateway_queue_max`."""


class GatewayFair(Section, frozen=True):
    """Of each shared bound outside the streams: what one user may hold, and all users of one tenant."""

    ended_bytes_max: Percent = WHOLE
    ended_packets_max: Percent = WHOLE
    gateway_queue_max: Percent = WHOLE
    photos_uploading_max: Percent = WHOLE
    requests_max: Percent = WHOLE
    streams_max: Percent = WHOLE
    token_cache_max: Percent = WHOLE
