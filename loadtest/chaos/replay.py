"""Replay: what the journals of a running system say by themselves, read from their first element to their last."""

from collections import Counter
from pathlib import Path

import msgspec


class Replayed(msgspec.Struct):
    """What the journals alone say: every user's balance, and what their streams lived through."""

    fen: dict[str, int] = {}
    entries: int = 0
    activations: int = 0
    snapshots: int = 0
    sealed_parts: int = 0
    passivated: int = 0


async def replay_journals(folder: Path) -> Replayed:
    """Read every stream from its first element, sealed and live, each element verified against the chain.

    Raises JournalCorrupt, JournalUnavailable, AssertionError: a book does not sum to 0.
    """
    # Imported late: these import Ray, which reads its environment then, and `run` has set it meanwhile.
    from actors.kernel.messages import SnapshotTaken
    from actors.kinds import kind_of
    from actors.ledger.accounts import AccountName
    from actors.packet.events import Passivated
    from cluster.journal.archive import manifest_of
    from cluster.offline.sources import ledger_of, sources_of
    from cluster.offline.stream_reader import read_everything

    found = Replayed()
    with ledger_of(folder, "local", None, None, _unheard) as ledger:
        async with sources_of(ledger.settings) as sources:
            for stream in ledger.settings.streams:
                kind, balance = kind_of(stream), Counter[AccountName]()
                async for element in read_everything(sources, stream):
                    found.activations += element.position.seq == 0
                    found.entries += element.position.seq > 0
                    for event in element.events:
                        found.snapshots += isinstance(event, SnapshotTaken)
                        found.passivated += len(event.packet_ids) if isinstance(event, Passivated) else 0
                        for posting in kind.postings_of(event):
                            balance[posting.account] += posting.amount_fen
                assert sum(balance.values()) == 0, f"the book of {stream} does not sum to 0"
                for account, amount_fen in balance.items():
                    if account[0] == "change" and amount_fen:
                        found.fen[account[2]] = found.fen.get(account[2], 0) + amount_fen
                found.sealed_parts += len(await manifest_of(sources.journals, stream))
    return found


def _unheard(words: str) -> None:
    """Report to nobody: the system runs, so there is nothing to tell."""
