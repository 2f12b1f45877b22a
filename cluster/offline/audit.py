"""Offline audit: every balance again, from sealed files and journals alone, by other code than the shards'.

A Ray task for each stream adds up its lines with Arrow. Of a running system everything is read up to one atomic cut, of
which an entry and what caused it are both part or the entry is not. Between two books, what was sent and did not arrive
must be exactly the transfers that the sender numbered beyond the receiver's watermark (and those it took ahead of it).
Records that have ended are held against what was promised, where their kind declares how (`Kind.prove`).

`balances` is one row for each account that is not zero, in order:

| column | type | unit, meaning | null |
|---|---|---|---|
| stream | string | whose book | never |
| account | string | first word of the account (`actors.ledger.accounts`) | never |
| tenant | string | whose, if it is a user's | no user's account |
| name | string | whose, the last word of it: a user, a stream, … | an account that is nobody's |
| amount_fen | int64 | fen, signed | never |
"""

import asyncio
import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray
from ray.exceptions import RayError, RayTaskError

from actors.kernel.proof import UNPROVEN_SHOWN, Proved, Unproven
from actors.kinds import KINDS
from actors.ledger.accounts import RECEIVED, SENT, TRANSIT, Side
from cluster.config import Settings
from cluster.journal.side_store import StreamCut
from cluster.offline.proof import prove_stream
from cluster.offline.sources import LedgerUnavailable, sources_of
from cluster.offline.stream_reader import Sources, read_lines

KEYS = ["account", "tenant", "name"]
ORDER = [(name, "ascending") for name in ("stream", *KEYS)]
PARTIAL_ROWS_MAX = 1_000_000
"""Sums of parts that wait to be added up."""
DIGEST_ROWS = 100_000
SENT_KEPT_MIN = 2_000_000
"""Newest transfers of a book that are kept: more than it may ever have unsettled (`bounds.unsettled_max`)."""
WRONG_SIDES_SHOWN = 20
_TRANSFERS = pa.schema([("name", pa.string()), ("number", pa.int64()), ("amount_fen", pa.int64())])
CHART = {name: account for kind in KINDS.values() for name, account in kind.chart().items()}
"""Every kind of account that any book has, by name."""


class BookSum(msgspec.Struct, frozen=True):
    """One book. `sum_fen` is 0 unless money was made or lost."""

    stream: str
    through: str
    """The last id that was read; empty for a stream that was never activated."""
    sealed_parts: int
    lines: int
    accounts: int
    sum_fen: int


class Transit(msgspec.Struct, frozen=True):
    """What is between two books. `mismatch_fen`: what is in flight beyond (or short of) what was sent and not taken."""

    source: str
    destination: str
    sent_fen: int
    received_fen: int
    in_flight_fen: int
    watermark: int
    """Every transfer up to this number has arrived."""
    mismatch_fen: int


class WrongSide(msgspec.Struct, frozen=True):
    """A balance with a sign that its kind of account can never have, or of an account that no kind has."""

    stream: str
    account: str
    tenant: str | None
    name: str | None
    amount_fen: int


class OfflineAudit(msgspec.Struct, frozen=True):
    """The report. `difference_fen` adds up the books that do not sum to 0 and the mismatches between books."""

    books: list[BookSum]
    totals_fen: dict[str, int]
    """By kind of account, over all books."""
    in_flight_fen: int
    transits: list[Transit]
    wrong_sides: list[WrongSide]
    """The first WRONG_SIDES_SHOWN of them."""
    wrong_sides_count: int
    accounts: int
    difference_fen: int
    balances_sha256: str
    """Of the sorted balances that are not zero: two audits of the same money give the same."""
    clean: bool
    proved: dict[str, int] = {}
    """What kinds checked of their records that have ended, and how much of it, in their words."""
    unproven: list[Unproven] = []
    """The first of the records that are not what was promised."""
    unproven_count: int = 0


class Arrived:
    """Which transfers of one source a book has taken: all up to `number`, and those in `ahead`."""

    def __init__(self) -> None:
        self.number = 0
        self.ahead: set[int] = set()

    def take(self, number: int) -> None:
        """Note one more."""
        if number == self.number + 1:
            self.number = number
            while self.number + 1 in self.ahead:
                self.number += 1
                self.ahead.remove(self.number)
        elif number > self.number:
            self.ahead.add(number)


class Summed(NamedTuple):
    """What one task found in one stream."""

    stream: str
    cut: StreamCut
    lines: int
    balances: Any
    """A table of KEYS and amount_fen, without zeros."""
    arrived: dict[str, Arrived]
    """By source, what this book has taken."""
    sent: Any
    """The newest transfers that this book has sent: a table of name (the destination), number, amount_fen."""


async def sum_stream(sources: Sources, stream: str, cut: StreamCut) -> Summed:
    """Add up every line of a stream up to a cut, account by account.

    Raises JournalUnavailable, JournalCorrupt.
    """
    partial = [_no_balances()]
    waiting = lines = 0
    arrived: dict[str, Arrived] = {}
    sent = [_TRANSFERS.empty_table()]
    if cut.last is not None:
        async for table in read_lines(sources, stream, [*KEYS, "amount_fen", "number"], cut.last):
            lines += table.num_rows
            partial.append(_sum(table))
            waiting += partial[-1].num_rows
            if waiting > PARTIAL_ROWS_MAX:
                partial = [_sum(pa.concat_tables(partial))]
                waiting = 0
            taken = table.filter(pc.equal(table["account"], RECEIVED.name))
            for source, number in zip(taken["name"].to_pylist(), taken["number"].to_pylist(), strict=True):
                arrived.setdefault(source, Arrived()).take(number)
            sent.append(table.filter(pc.equal(table["account"], SENT.name)).select(_TRANSFERS.names))
            while sum(map(len, sent[1:])) >= SENT_KEPT_MIN:
                del sent[0]
    balances = _sum(pa.concat_tables(partial))
    balances = balances.filter(pc.not_equal(balances["amount_fen"], 0))
    return Summed(stream, cut, lines, balances, arrived, pa.concat_tables(sent))


def _no_balances() -> pa.Table:
    columns = [pa.array([], pa.string())] * len(KEYS) + [pa.array([], pa.int64())]
    return pa.Table.from_arrays(columns, names=[*KEYS, "amount_fen"])


def _sum(table: pa.Table) -> pa.Table:
    summed = table.group_by(KEYS, use_threads=False).aggregate([("amount_fen", "sum")])
    return summed.rename_columns([*KEYS, "amount_fen"])


def audit_of(found: list[Summed], proved: Sequence[Proved] = ()) -> tuple[OfflineAudit, pa.Table]:
    """Put the streams together: the report, and the table of balances. `proved`: what was found of ended records."""
    balances = pa.concat_tables([_with_stream(one) for one in found]).sort_by(ORDER)
    books = [
        BookSum(
            stream=one.stream,
            through=str(one.cut.last or ""),
            sealed_parts=one.cut.sealed,
            lines=one.lines,
            accounts=one.balances.num_rows,
            sum_fen=pc.sum(one.balances["amount_fen"]).as_py() or 0,
        )
        for one in found
    ]
    totals = balances.group_by("account").aggregate([("amount_fen", "sum")]).sort_by("account")
    transits = _transits(found)
    wrong = balances.filter(_is_wrong(balances))
    difference_fen = sum(abs(book.sum_fen) for book in books) + sum(one.mismatch_fen for one in transits)
    report = OfflineAudit(
        books=books,
        totals_fen=dict(zip(totals["account"].to_pylist(), totals["amount_fen_sum"].to_pylist(), strict=True)),
        in_flight_fen=sum(one.in_flight_fen for one in transits),
        transits=transits,
        wrong_sides=[WrongSide(**row) for row in wrong.slice(0, WRONG_SIDES_SHOWN).to_pylist()],
        wrong_sides_count=wrong.num_rows,
        accounts=balances.num_rows,
        difference_fen=difference_fen,
        balances_sha256=digest_of(balances),
        clean=difference_fen == 0 and wrong.num_rows == 0 and not any(one.unproven_count for one in proved),
        proved=dict(sum((Counter(one.counts) for one in proved), Counter())),
        unproven=[wrong for one in proved for wrong in one.unproven][:UNPROVEN_SHOWN],
        unproven_count=sum(one.unproven_count for one in proved),
    )
    return report, balances


def _is_wrong(balances: pa.Table) -> Any:
    """Tell of each balance whether its sign is one that such an account can never have."""

    def on(side: Side) -> Any:
        names = [name for name, account in CHART.items() if account.side is side]
        return pc.is_in(balances["account"], value_set=pa.array(names, pa.string()))

    owed, owing, amounts = on(Side.LIABILITY), on(Side.ASSET), balances["amount_fen"]
    wrong = pc.or_(pc.and_(owed, pc.less(amounts, 0)), pc.and_(owing, pc.greater(amounts, 0)))
    return pc.or_(wrong, pc.invert(pc.or_(owed, owing)))


def _with_stream(one: Summed) -> pa.Table:
    return one.balances.add_column(0, "stream", pa.array([one.stream] * one.balances.num_rows, pa.string()))


def _transits(found: list[Summed]) -> list[Transit]:
    """Compare what each book sent with what the other took of it."""
    books = {one.stream: one for one in found}
    ends = {one.stream: _ends(one.balances) for one in found}
    pairs = {(one.stream, other) for one in found for account, other in ends[one.stream] if account == SENT.name}
    pairs |= {(other, one.stream) for one in found for account, other in ends[one.stream] if account == RECEIVED.name}
    transits = []
    for source, destination in sorted(pairs):
        sent_fen = ends.get(source, {}).get((SENT.name, destination), 0)
        received_fen = -ends.get(destination, {}).get((RECEIVED.name, source), 0)
        arrived = books[destination].arrived.get(source, Arrived()) if destination in books else Arrived()
        on_its_way_fen = _beyond(books[source].sent, destination, arrived) if source in books else 0
        in_flight_fen = sent_fen - received_fen
        mismatch_fen = abs(in_flight_fen - on_its_way_fen)
        figures = sent_fen, received_fen, in_flight_fen, arrived.number, mismatch_fen
        transits.append(Transit(source, destination, *figures))
    return transits


def _ends(balances: pa.Table) -> dict[tuple[str, str], int]:
    """Return the transit accounts of a book: (account, other book) -> fen."""
    transit = balances.filter(pc.is_in(balances["account"], value_set=pa.array([account.name for account in TRANSIT])))
    return {(row["account"], row["name"]): row["amount_fen"] for row in transit.to_pylist()}


def _beyond(sent: pa.Table, destination: str, arrived: Arrived) -> int:
    """Add up the transfers to a book that it has not taken."""
    own = sent.filter(pc.and_(pc.equal(sent["name"], destination), pc.greater(sent["number"], arrived.number)))
    own = own.filter(pc.invert(pc.is_in(own["number"], value_set=pa.array(sorted(arrived.ahead), pa.int64()))))
    return pc.sum(own["amount_fen"]).as_py() or 0


def digest_of(balances: pa.Table) -> str:
    """Return the SHA-256 of a sorted table of balances, a JSON array a line."""
    digest = hashlib.sha256()
    for batch in balances.to_batches(DIGEST_ROWS):
        columns = (batch.column(name).to_pylist() for name in ("stream", *KEYS, "amount_fen"))
        for row in zip(*columns, strict=True):
            digest.update(json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
    return digest.hexdigest()


def write_balances(balances: pa.Table, path: Path) -> None:
    """Write the balances as a Parquet file."""
    pq.write_table(balances, path)


def _sum_task(stream: str, cut: StreamCut, settings: Settings) -> tuple[Summed, Proved]:
    """Run on any node: read one stream from the archive and the store."""

    async def run() -> tuple[Summed, Proved]:
        async with sources_of(settings) as sources:
            summed = await sum_stream(sources, stream, cut)
            return summed, await prove_stream(sources, stream, cut)

    return asyncio.run(run())


async def audit(settings: Settings) -> tuple[OfflineAudit, pa.Table]:
    """Audit a whole system up to one cut, a Ray task for each stream; Ray is already joined.

    Raises JournalUnavailable, JournalCorrupt.
    """
    async with sources_of(settings) as sources:
        cut = await sources.journals.cut(0)
    task = ray.remote(num_cpus=1, max_retries=0)(_sum_task)
    # A task more than there are cores only costs another process.
    room = asyncio.Semaphore((os.cpu_count() or 1) * len(ray.nodes()))

    async def summed(stream: str, stood: StreamCut) -> tuple[Summed, Proved]:
        async with room:
            return cast(tuple[Summed, Proved], await task.remote(stream, stood, settings))

    try:
        found = await asyncio.gather(*(summed(stream, stood) for stream, stood in sorted(cut.streams.items())))
    except RayTaskError as failure:
        raise failure.cause from None
    except RayError as failure:
        raise LedgerUnavailable(f"a task of the audit died ({type(failure).__name__}); try again") from failure
    return audit_of([each for each, _ in found], [each for _, each in found])
