"""Snapshots: folded from the journal, never taken from live memory, which runs ahead of it."""

from actors.kernel.machine import Machine
from cluster.journal.codec import Codec
from cluster.journal.snapshot import Elements, Record, Verified, read_verified


async def fold(elements: Elements, codec: Codec, stream: str, machine: Machine) -> Record | None:
    """Fold the newest snapshot and everything durable behind it; None if there is nothing new.

    Raises JournalUnavailable, JournalCorrupt.
    """
    return await fold_behind(elements, codec, stream, machine, await elements.load_snapshot(stream))


async def fold_behind(
    elements: Elements, codec: Codec, stream: str, machine: Machine, older: Record | None
) -> Record | None:
    """Fold a snapshot and everything durable behind it; None if there is nothing new.

    Raises JournalUnavailable, JournalCorrupt.
    """
    if older is not None:
        machine.restore(older.state)
    last: Verified | None = None
    async for element in read_verified(elements, codec, stream, older):
        for event in element.events:
            machine.apply(event)
        last = element
    return None if last is None else last.record(stream, machine.snapshot())
