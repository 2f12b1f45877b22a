"""Proof: runs a kind's own check of its ended records over one stream, by files and journals alone."""

from actors.kernel.proof import Proved
from actors.kinds import kind_of
from cluster.journal.side_store import StreamCut
from cluster.offline.stream_reader import Sources, read_events

NOTHING = Proved({}, [], 0)


async def prove_stream(sources: Sources, stream: str, cut: StreamCut) -> Proved:
    """Check every record of a stream that had ended by a cut; nothing, if its kind declares no check.

    Raises JournalUnavailable, JournalCorrupt.
    """
    prove = kind_of(stream).prove
    if prove is None or cut.last is None:
        return NOTHING
    prover = prove(stream)
    async for events in read_events(sources, stream, cut.last):
        for event in events:
            gone = prover.take(event)
            if gone:
                for record_id, record in zip(gone, await sources.journals.find_records(stream, gone), strict=True):
                    prover.show(record_id, record)
    return prover.result()
