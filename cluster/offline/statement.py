"""Statement: every line of one user since the account began, from sealed files and the journal, with running balance.

A gateway serves the newest lines only, those that a shard keeps in memory; here all lines are.
Amounts in fen, stamps in Unix ms.
"""

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from actors.kernel.kind import Kind
from actors.kinds import KINDS
from cluster.offline.stream_reader import Sources, read_lines

COLUMNS = ["at_ms", "kind", "account", "tenant", "name", "amount_fen", "reference"]


class AccountLine(msgspec.Struct, frozen=True):
    """One line, as the HTTP contract has it: what moved, and the available balance after it."""

    at_ms: int
    kind: str
    amount_fen: int
    balance_fen: int
    reference: str


class WholeStatement(msgspec.Struct, frozen=True):
    """A user's lines, newest first, and what they add up to: their available balance, and what else is theirs."""

    tenant: str
    user: str
    streams: list[str]
    """Where their accounts are."""
    available_fen: int
    held_fen: int
    entries: list[AccountLine]


class _Line(NamedTuple):
    at_ms: int
    kind: str
    amount_fen: int
    reference: str


async def statement(sources: Sources, tenant: str, user: str, streams: Mapping[str, str]) -> WholeStatement:
    """Read a user's lines; none for a user who never had an account. `streams`: every stream -> its kind.

    Raises JournalUnavailable, JournalCorrupt.
    """
    lines: list[_Line] = []
    homes, held_fen = [], 0
    for kind in KINDS.values():
        if kind.home is None:
            continue
        stream = f"{kind.name}-{kind.home(tenant, user, sum(name == kind.name for name in streams.values())):03d}"
        homes.append(stream)
        own_lines, own_held_fen = await _read(sources, kind, stream, tenant, user)
        lines += own_lines
        held_fen += own_held_fen
    if len(homes) > 1:
        lines.sort(key=lambda line: line.at_ms)
    entries = []
    available_fen = 0
    for line in lines:
        available_fen += line.amount_fen
        entries.append(AccountLine(line.at_ms, line.kind, line.amount_fen, available_fen, line.reference))
    return WholeStatement(tenant, user, homes, available_fen, held_fen, entries[::-1])


async def _read(sources: Sources, kind: Kind, stream: str, tenant: str, user: str) -> tuple[list[_Line], int]:
    """Return a user's statement lines in one stream, oldest first, and the sum of their other accounts there."""
    shown = pa.array([account.name for account in kind.accounts if account.on_statement], pa.string())
    lines: list[_Line] = []
    held_fen = 0
    async for table in read_lines(sources, stream, COLUMNS, name=user):
        own = table.filter(pc.and_kleene(pc.equal(table["name"], user), pc.equal(table["tenant"], tenant)))
        on_statement = pc.is_in(own["account"], value_set=shown)
        held_fen += pc.sum(own.filter(pc.invert(on_statement))["amount_fen"]).as_py() or 0
        own = own.filter(on_statement)
        columns = [own[name].to_pylist() for name in ("at_ms", "kind", "amount_fen", "reference")]
        lines += [
            _Line(at_ms, word, fen, reference or "") for at_ms, word, fen, reference in zip(*columns, strict=True)
        ]
    return lines, held_fen


def newest(whole: WholeStatement, limit: int) -> WholeStatement:
    """Return the statement with its newest lines only."""
    return msgspec.structs.replace(whole, entries=list(itertools.islice(whole.entries, limit)))
