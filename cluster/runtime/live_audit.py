"""Audit: does every fen have one place? Live, over the shards.

Live, no global instant is needed: receivers are read first, each at one durable version, then their senders. Per pair
of books the sender's cumulative amount at the receiver's watermark must be the receiver's.
`difference_fen` is the sum of the absolute mismatches plus every book that does not sum to 0.
Past the shards, from sealed files and journals alone, `cluster.offline.audit` adds everything up by other code.
"""

import asyncio
from collections import Counter

import msgspec

from actors.kernel.host import StreamFigures
from cluster.config import Settings
from cluster.runtime.directory import Directory, ShardUnavailable
from cluster.runtime.placement import hosts
from cluster.runtime.shards import REPORTS, TOTALS

READS_MAX = 5
"""How often a pair is read again because settlement went on between the two books."""


class ShardAudit(msgspec.Struct, frozen=True):
    """One book of the report. Amounts in fen; a wallet's book has no packets, a packet's no change."""

    stream: str
    kind: str
    epoch: int
    version: int
    book_sum_fen: int
    funded_fen: int
    paid_fen: int
    refunded_fen: int
    remaining_fen: int
    change_fen: int
    held_fen: int
    unsettled: int
    lag_ms: int


class AuditReport(msgspec.Struct, frozen=True):
    """The conservation report. `in_flight_fen`: funded and not opened, grabbed or refunded and not credited."""

    shards: list[ShardAudit]
    funded_fen: int
    paid_fen: int
    refunded_fen: int
    remaining_fen: int
    in_flight_fen: int
    settlement_lag_ms: int
    difference_fen: int
    clean: bool


async def audit(directory: Directory, settings: Settings) -> AuditReport:
    """Read all books and compare every pair. Raises ShardUnavailable if one cannot be read; ask again."""
    for _ in range(READS_MAX):
        reports = await _read(directory, settings)
        compared = await _compare(directory, reports)
        if compared is not None:
            return _report(reports, *compared)
    raise ShardUnavailable("the books were settled faster than they could be read")


async def _read(directory: Directory, settings: Settings) -> list[StreamFigures]:
    found = await asyncio.gather(*(directory.call(host, "report", True) for host in hosts(settings)))
    return sorted((figures for payload in found for figures in REPORTS.decode(payload)), key=lambda f: f.stream)


async def _compare(directory: Directory, reports: list[StreamFigures]) -> tuple[int, int] | None:
    """Return (in flight, mismatch) in fen over all pairs; None if a sender has forgotten what is asked."""
    asked: dict[str, list[tuple[str, str, int, list[int]]]] = {}
    for sender in reports:
        for receiver in reports:
            if sender.stream.partition("-")[0] != receiver.stream.partition("-")[0]:
                number, _, ahead = receiver.received.get(sender.stream, (0, 0, {}))
                host = directory.host_of(sender.stream)
                asked.setdefault(host, []).append((sender.stream, receiver.stream, number, list(ahead)))
    answers = await asyncio.gather(
        *(directory.call(host, "totals_at", msgspec.msgpack.encode(pairs)) for host, pairs in asked.items())
    )
    received_by = {figures.stream: figures.received for figures in reports}
    in_flight_fen = mismatch_fen = 0
    for pairs, payload in zip(asked.values(), answers, strict=True):
        for (source, destination, number, _), sent in zip(pairs, TOTALS.decode(payload), strict=True):
            _, total_fen, ahead_fen = received_by[destination].get(source, (0, 0, {}))
            in_flight_fen += sent.total_fen - total_fen - sum(ahead_fen.values())
            for at, ours_fen, theirs_fen in [
                (number, total_fen, sent.at_number_fen),
                *zip(ahead_fen.keys(), ahead_fen.values(), sent.ahead_fen, strict=True),
            ]:
                if theirs_fen is None and at <= sent.last_number:
                    return None
                mismatch_fen += abs(ours_fen - (theirs_fen or 0))
    return in_flight_fen, mismatch_fen


def _report(reports: list[StreamFigures], in_flight_fen: int, mismatch_fen: int) -> AuditReport:
    shards = []
    for read in reports:
        sums = Counter(read.figures)
        shards.append(
            ShardAudit(
                stream=read.stream,
                kind=read.stream.partition("-")[0],
                epoch=read.epoch,
                version=read.version,
                book_sum_fen=sums["book_sum_fen"],
                funded_fen=sums["funded_fen"],
                paid_fen=sums["paid_fen"],
                refunded_fen=sums["refunded_fen"],
                remaining_fen=sums["remaining_fen"],
                change_fen=sums["change_fen"],
                held_fen=sums["held_fen"],
                unsettled=read.unsettled,
                lag_ms=read.oldest_unsettled_ms,
            )
        )
    difference_fen = mismatch_fen + sum(abs(shard.book_sum_fen) for shard in shards)
    return AuditReport(
        shards=shards,
        funded_fen=sum(shard.funded_fen for shard in shards),
        paid_fen=sum(shard.paid_fen for shard in shards),
        refunded_fen=sum(shard.refunded_fen for shard in shards),
        remaining_fen=sum(shard.remaining_fen for shard in shards),
        in_flight_fen=in_flight_fen,
        settlement_lag_ms=max((shard.lag_ms for shard in shards), default=0),
        difference_fen=difference_fen,
        clean=difference_fen == 0,
    )
