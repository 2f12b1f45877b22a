"""Snapshots as Ray tasks: folded from the journal, never taken from live memory, which runs ahead of it.

Order: fold and write the record, let the stream adopt it by a durable event, then move the pointer. Dying between any
two leaves an unused record behind, nothing else.
"""

import asyncio
from typing import Any

import ray

from actors.ledger.transfer import AdoptSnapshot, Done
from actors.packet.machine import PacketMachine
from actors.ports import KeyRing
from actors.wallet.machine import WalletMachine
from cluster.config import Keys, Settings
from cluster.directory import Directory
from cluster.journal.codec import Codec
from cluster.journal.snapshot import Elements, Record, Verified, read_verified
from cluster.shards import open_journals, packet_rules, wallet_rules


def empty_machine(stream: str, settings: Settings, keys: KeyRing) -> PacketMachine | WalletMachine:
    """Return the machine that folds a stream."""
    if stream.startswith("packet-"):
        return PacketMachine(stream, packet_rules(settings), keys)
    return WalletMachine(stream, wallet_rules(settings))


async def fold(elements: Elements, codec: Codec, stream: str, machine: PacketMachine | WalletMachine) -> Record | None:
    """Fold the newest snapshot and everything durable behind it; None if there is nothing new.

    Raises JournalUnavailable, JournalCorrupt.
    """
    older = await elements.load_snapshot(stream)
    if older is not None:
        machine.restore(older.state)
    last: Verified | None = None
    async for element in read_verified(elements, codec, stream, older):
        for event in element.events:
            machine.apply(event)
        last = element
    return None if last is None else last.record(stream, machine.snapshot())


@ray.remote(num_cpus=0, max_retries=0)
def snapshot_stream(stream: str, settings: Settings, keys: Keys) -> int:
    """Take one snapshot and return its version, 0 if none was adopted."""

    async def take() -> int:
        journals = open_journals(settings)
        try:
            record = await fold(journals, journals.codec, stream, empty_machine(stream, settings, keys))
            if record is None:
                return 0
            await journals.write_snapshot(record)
            adopt = AdoptSnapshot(record.position.epoch, record.position.seq, record.version)
            [[reply]] = await Directory(settings).ask([(stream, [adopt])])
            if not isinstance(reply, Done):
                return 0
            older = await journals.load_snapshot(stream)
            await journals.adopt_snapshot(stream, record.position)
            if older is not None:  # kept, for whoever is reading it now; those before it are nobody's
                await journals.drop_snapshots(stream, older.position)
            return record.version
        finally:
            await journals.close()

    return asyncio.run(take())


def start_snapshot(stream: str, settings: Settings, keys: Keys) -> Any:
    """Start the task and return its reference."""
    return snapshot_stream.remote(stream, settings, keys)
