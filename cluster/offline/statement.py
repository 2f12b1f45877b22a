"""Statement: every line of one user since the account began, from sealed files and the journal, with running balance.

A gateway serves the newest lines only, those that a shard keeps in memory; here all lines are.
Amounts in fen, stamps in Unix ms.
"""

import itertools

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from actors.transfers.ids import wallet_index_of, wallet_stream
from cluster.offline.stream_reader import Sources, read_lines

COLUMNS = ["at_ms", "kind", "account", "tenant", "name", "amount_fen", "reference"]


class StatementEntry(msgspec.Struct, frozen=True):
    """One line, as the HTTP contract has it: what moved, and the available balance after it."""

    at_ms: int
    kind: str
    amount_fen: int
    balance_fen: int
    reference: str


class WholeStatement(msgspec.Struct, frozen=True):
    """A user's lines, newest first, and what they add up to: the available balance, and what is held."""

    tenant: str
    user: str
    stream: str
    available_fen: int
    held_fen: int
    entries: list[StatementEntry]


async def statement(sources: Sources, tenant: str, user: str, wallet_streams: int) -> WholeStatement:
    """Read a user's lines from their wallet stream; none for a user who never had an account.

    Raises JournalUnavailable, JournalCorrupt.
    """
    stream = wallet_stream(wallet_index_of(tenant, user, wallet_streams))
    lines: list[StatementEntry] = []
    available_fen = held_fen = 0
    async for table in read_lines(sources, stream, COLUMNS, name=user):
        own = table.filter(pc.and_kleene(pc.equal(table["name"], user), pc.equal(table["tenant"], tenant)))
        held_fen += _sum(own, "held")
        own = own.filter(pc.equal(own["account"], "change"))
        columns = [own[name].to_pylist() for name in ("at_ms", "kind", "amount_fen", "reference")]
        for at_ms, kind, amount_fen, reference in zip(*columns, strict=True):
            available_fen += amount_fen
            lines.append(StatementEntry(at_ms, kind, amount_fen, available_fen, reference or ""))
    return WholeStatement(tenant, user, stream, available_fen, held_fen, lines[::-1])


def _sum(own: pa.Table, account: str) -> int:
    amounts = own.filter(pc.equal(own["account"], account))["amount_fen"]
    return pc.sum(amounts).as_py() or 0


def newest(whole: WholeStatement, limit: int) -> WholeStatement:
    """Return the statement with its newest lines only."""
    return msgspec.structs.replace(whole, entries=list(itertools.islice(whole.entries, limit)))
