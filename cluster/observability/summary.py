"""Summary: what two readings of the figures say about the time between them: rates, latencies, and how things stand.

Pure. A quantity that cannot be known (nothing happened, the store does not say) is None. Rates are a second's.
"""

import math

import msgspec

from actors.kernel.metrics import ACCEPTED, REPLAYED
from cluster.observability.metrics_snapshot import AuditFigures, Figures, ShardFigures, StoreFigures


class Spread(msgspec.Struct, frozen=True):
    """The middle and the slow end of what was observed; ms for a latency."""

    count: int
    p50: float | None
    p99: float | None


class Summary(msgspec.Struct, frozen=True):
    """How the system does. Rates over `over_ms`, levels at `at_ms`."""

    at_ms: int
    over_ms: int
    rates: dict[str, float]
    totals: dict[str, int]
    refused: dict[str, float]
    """A second's grabs refused, by code."""
    spreads: dict[str, Spread]
    """"request", "queueing", "commit packet-shard", ...: ms; "batch_size", "commit_size packet-shard": things."""
    fsync_ms_mean: float | None
    """Write and sync of the store's log, a journal entry's share."""
    fsync_share: float | None
    """Of the store's time."""
    lag_ms: int
    unsettled: int
    in_flight_fen: int
    gateways: int
    store: StoreFigures | None
    audit: AuditFigures | None
    shards: list[ShardFigures]


_RATES = {"sends": "sends", "grabs": "grabs", "requests": "http_requests", "activations": "activations"}
_SIZES = ("batch_size", "commit_size")
_WHOLE = ("request", "queueing", "batch_size")
"""Histograms of one kind of process only."""


def summarize(now: Figures, before: Figures) -> Summary:
    """Compare two readings. `before` of another supervisor's life says nothing: then everything is new."""
    if before.born_ms != now.born_ms or before.at_ms >= now.at_ms:
        before = Figures(now.born_ms, now.born_ms, {}, {}, [], [], 0, None, None)
    over_ms = max(1, now.at_ms - before.at_ms)
    grown = _grown(now, before)
    grabs = grown.get("grabs", {})
    taken = grabs.get(ACCEPTED, 0) + grabs.get(REPLAYED, 0)
    local = sum(grown.get("local_grabs", {}).values())
    counts = {name: sum(grown.get(family, {}).values()) for name, family in _RATES.items()}
    counts |= {
        "grabs": counts["grabs"] + local,
        "accepted": grabs.get(ACCEPTED, 0),
        "replayed": grabs.get(REPLAYED, 0),
        "refused": counts["grabs"] + local - taken,
        "shed": sum(grown.get("shed", {}).values()),
        "failed": sum(n for status, n in grown.get("http_requests", {}).items() if status.startswith("5")),
        "sent": grown.get("sends", {}).get(ACCEPTED, 0),
    }
    refused = {code: count for code, count in grabs.items() if code not in (ACCEPTED, REPLAYED) and count}
    for code, count in grown.get("local_grabs", {}).items():
        if count:
            refused[code] = refused.get(code, 0) + count
    spreads = _spreads(now, before)
    commits = sum(spread.count for name, spread in spreads.items() if name.startswith("commit "))
    fsync_us = _fsync_us(now.store, before.store)
    store_ms = now.store.at_ms - before.store.at_ms if now.store and before.store else 0
    return Summary(
        at_ms=now.at_ms,
        over_ms=over_ms,
        rates={name: 1_000 * count / over_ms for name, count in counts.items()},
        totals={
            "accepted": now.counts.get("grabs", {}).get(ACCEPTED, 0),
            "sent": now.counts.get("sends", {}).get(ACCEPTED, 0),
            "restarts": sum(now.counts.get("restarts", {}).values()),
            "activations": sum(now.counts.get("activations", {}).values()),
        },
        refused={code: 1_000 * count / over_ms for code, count in sorted(refused.items(), key=lambda item: -item[1])},
        spreads=spreads,
        fsync_ms_mean=None if fsync_us is None or not commits else fsync_us / 1_000 / commits,
        fsync_share=None if fsync_us is None or not store_ms else fsync_us / 1_000 / store_ms,
        lag_ms=max((shard.lag_ms for shard in now.shards), default=0),
        unsettled=sum(shard.unsettled for shard in now.shards),
        in_flight_fen=sum(shard.in_flight_fen for shard in now.shards),
        gateways=now.gateways,
        store=now.store,
        audit=now.audit,
        shards=now.shards,
    )


def _grown(now: Figures, before: Figures) -> dict[str, dict[str, int]]:
    return {
        family: {label: count - before.counts.get(family, {}).get(label, 0) for label, count in counts.items()}
        for family, counts in now.counts.items()
    }


def _spreads(now: Figures, before: Figures) -> dict[str, Spread]:
    spreads = {}
    for family, parts in now.histograms.items():
        for part, histogram in parts.items():
            grown = histogram.grown_since(before.histograms.get(family, {}).get(part))
            spread = Spread(grown.count, grown.quantile(0.5), grown.quantile(0.99))
            if family in _SIZES:  # a bucket's middle is not a count
                whole = [None if value is None else math.ceil(value) for value in (spread.p50, spread.p99)]
                spread = Spread(grown.count, *whole)
            spreads[family if family in _WHOLE else f"{family} {part}"] = spread
    return spreads


def _fsync_us(now: StoreFigures | None, before: StoreFigures | None) -> int | None:
    """Return the store's microseconds on its log between two readings; None if it does not say, or began anew."""
    if now is None or before is None or now.fsync_us is None or before.fsync_us is None:
        return None
    return now.fsync_us - before.fsync_us if now.fsync_us >= before.fsync_us else None
