"""Live audit: does every fen have one place? Live, over the shards.

Live, no global instant is needed: books are read at one durable version each, receivers before their senders are asked.
Every pair of books that one of the two names is compared: the sender's cumulative amount at the receiver's watermark
must be the receiver's. `difference_fen` is the sum of the absolute mismatches plus every book that does not sum to 0.
Past the shards, from sealed files and journals alone, `cluster.offline.audit` adds everything up by other code.
"""

import asyncio
from collections import Counter
from types import GenericAlias
from typing import Any

import msgspec

from actors.kernel.host import SentTotals, StreamFigures
from actors.kinds import KINDS, kind_of
from cluster.config import Settings
from cluster.runtime.directory import Directory, ShardUnavailable
from cluster.runtime.placement import hosts
from cluster.runtime.shards import REPORTS, TOTALS

READS_MAX = 5
"""How often a pair is read again because settlement went on between the two books."""

COLUMNS = {kind.name: (*kind.totals, *(one.audit_column for one in kind.accounts)) for kind in KINDS.values()}
"""kind -> what an audit shows of its books, beside what it shows of every book."""


class BookAudit(msgspec.Struct, frozen=True, kw_only=True):
    """What an audit shows of every book. Amounts in fen."""

    stream: str
    kind: str
    epoch: int
    version: int
    book_sum_fen: int
    unsettled: int
    lag_ms: int

    def fen(self, column: str) -> int:
        """Return the amount in one of the columns of its kind."""
        amount_fen: int = getattr(self, column)
        return amount_fen


class Conservation(msgspec.Struct, frozen=True, kw_only=True):
    """What an audit shows of all books together. Amounts in fen."""

    shards: list[BookAudit]
    in_flight_fen: int
    """Sent and not received."""
    settlement_lag_ms: int
    difference_fen: int
    wrong_sides: list[str]
    """`<stream> <account>` of balances with a sign that their kind of account can never have."""
    clean: bool

    def fen(self, column: str) -> int:
        """Return the amount in one of the columns, over all books."""
        amount_fen: int = getattr(self, column)
        return amount_fen


def _with_columns(name: str, base: type[msgspec.Struct], words: str, *fields: tuple[str, Any]) -> Any:
    """Return a shape that has the columns of every kind, too; a book has zeros in those of the other kinds."""
    columns = [(column, int, 0) for kind in COLUMNS.values() for column in kind]
    return msgspec.defstruct(
        name, [*fields, *columns], bases=(base,), namespace={"__doc__": words}, frozen=True, kw_only=True
    )


ShardAudit = _with_columns(
    "ShardAudit", BookAudit, "One book of the report. Amounts in fen; columns of another kind of book are 0."
)
AuditReport = _with_columns(
    "AuditReport",
    Conservation,
    "The conservation report. `in_flight_fen`: funded and not opened, grabbed or refunded and not credited.",
    ("shards", GenericAlias(list, (ShardAudit,))),
)


class Pair(msgspec.Struct, frozen=True):
    """Two books that trade, and what the receiver has taken."""

    source: str
    destination: str
    number: int = 0
    total_fen: int = 0
    ahead: dict[int, int] = {}


async def audit(directory: Directory, settings: Settings) -> Conservation:
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


def pairs_of(reports: list[StreamFigures]) -> list[Pair]:
    """Return every pair of books that one of the two names."""
    pairs = {(one.stream, name): Pair(one.stream, name) for one in reports for name in one.destinations}
    for one in reports:
        for source, taken in one.received.items():
            pairs[source, one.stream] = Pair(source, one.stream, *taken)
    return list(pairs.values())


async def _compare(directory: Directory, reports: list[StreamFigures]) -> tuple[int, int] | None:
    """Return (in flight, mismatch) in fen over all pairs; None if a sender has forgotten what is asked."""
    there = {one.stream for one in reports}
    asked: dict[str, list[Pair]] = {}
    in_flight_fen = mismatch_fen = 0
    for pair in pairs_of(reports):
        if pair.source in there:
            asked.setdefault(directory.host_of(pair.source), []).append(pair)
        else:  # nobody sent what was received
            taken_fen = pair.total_fen + sum(pair.ahead.values())
            in_flight_fen -= taken_fen
            mismatch_fen += taken_fen
    answers = await asyncio.gather(*(_totals(directory, host, pairs) for host, pairs in asked.items()))
    for pairs, answer in zip(asked.values(), answers, strict=True):
        for pair, sent in zip(pairs, answer, strict=True):
            in_flight_fen += sent.total_fen - pair.total_fen - sum(pair.ahead.values())
            mismatch = _mismatch(pair, sent)
            if mismatch is None:
                return None
            mismatch_fen += mismatch
    return in_flight_fen, mismatch_fen


async def _totals(directory: Directory, host: str, pairs: list[Pair]) -> list[SentTotals]:
    wanted = [(pair.source, pair.destination, pair.number, list(pair.ahead)) for pair in pairs]
    return TOTALS.decode(await directory.call(host, "totals_at", msgspec.msgpack.encode(wanted)))


def _mismatch(pair: Pair, sent: SentTotals) -> int | None:
    """Return by how much two books differ, in fen; None if the sender has forgotten what is asked."""
    mismatch_fen = 0
    for number, ours_fen, theirs_fen in [
        (pair.number, pair.total_fen, sent.at_number_fen),
        *zip(pair.ahead.keys(), pair.ahead.values(), sent.ahead_fen, strict=True),
    ]:
        if theirs_fen is None and number <= sent.last_number:
            return None
        mismatch_fen += abs(ours_fen - (theirs_fen or 0))
    return mismatch_fen


def _report(reports: list[StreamFigures], in_flight_fen: int, mismatch_fen: int) -> Conservation:
    shards = [_shard(read) for read in reports]
    wrong_sides = [f"{read.stream} {account}" for read in reports for account in _wrong_sides(read)]
    difference_fen = mismatch_fen + sum(abs(shard.book_sum_fen) for shard in shards)
    columns = {column: sum(shard.fen(column) for shard in shards) for kind in COLUMNS.values() for column in kind}
    report: Conservation = AuditReport(
        shards=shards,
        in_flight_fen=in_flight_fen,
        settlement_lag_ms=max((shard.lag_ms for shard in shards), default=0),
        difference_fen=difference_fen,
        wrong_sides=wrong_sides,
        clean=difference_fen == 0 and not wrong_sides,
        **columns,
    )
    return report


def _shard(read: StreamFigures) -> BookAudit:
    kind = kind_of(read.stream)
    balances = Counter(read.balances_fen)
    columns = {account.audit_column: balances[account.name] for account in kind.accounts}
    shard: BookAudit = ShardAudit(
        stream=read.stream,
        kind=kind.name,
        epoch=read.epoch,
        version=read.version,
        book_sum_fen=sum(balances.values()),
        unsettled=read.unsettled,
        lag_ms=read.oldest_unsettled_ms,
        **columns,
        **read.totals_fen,
    )
    return shard


def _wrong_sides(read: StreamFigures) -> list[str]:
    """Return the kinds of account in a book whose sum has a sign that none of them can have; unknown ones are wrong."""
    chart = kind_of(read.stream).chart()
    return [name for name, fen in read.balances_fen.items() if name not in chart or chart[name].forbids(fen)]
