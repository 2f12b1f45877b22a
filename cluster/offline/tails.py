"""Tails: reads what every activation is about to read, before any activation, and writes nothing.

An activation appends its fence before it reads. So a system whose journal is damaged is stopped here, as it was found.
"""

from actors.kernel.errors import JournalCorrupt
from cluster.journal.codec import corrupt, stream_gone
from cluster.journal.snapshot import chain_after
from cluster.journal.store import Store

REREADS_MAX = 3
"""How often a tail is read again because a newer snapshot was adopted meanwhile (by a system that runs)."""


async def check_tails(journals: Store) -> None:
    """Verify every stream of the catalogue from its newest snapshot to its last id.

    Raises JournalUnavailable, JournalCorrupt naming stream and entry: start nothing, an operator must look.
    """
    for stream in sorted(await journals.streams()):
        for rereads in range(REREADS_MAX + 1):
            newest = await journals.newest_snapshot(stream)
            try:
                await _check_tail(journals, stream)
                break
            except JournalCorrupt:
                if newest == await journals.newest_snapshot(stream) or rereads == REREADS_MAX:
                    raise


async def _check_tail(journals: Store, stream: str) -> None:
    last = await journals.last_position(stream)
    record = await journals.load_snapshot(stream)
    if last is None:
        if record is not None:
            raise stream_gone(stream)
        return
    chain = chain_after(journals.codec, stream, record)
    if chain.position is not None and chain.position > last:
        raise corrupt(stream, chain.position, f"is missing: a snapshot stands there, the stream ends at {last}")
    async for position, payload in journals.read(stream, chain.position, last):
        chain.take(position, payload)
    if chain.position != last:
        raise corrupt(stream, last, f"is missing: the stream was read up to {chain.position or 'nothing'}")
