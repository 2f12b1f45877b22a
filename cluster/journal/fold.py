"""Snapshots: folded from the journal, never taken from live memory, which runs ahead of it."""

from actors.kernel.ports import KeyRing
from actors.packet.machine import PacketMachine
from actors.wallet.machine import WalletMachine
from cluster.config import Settings
from cluster.journal.codec import Codec
from cluster.journal.snapshot import Elements, Record, Verified, read_verified
from cluster.runtime.shards import packet_rules, wallet_rules


def empty_machine(stream: str, settings: Settings, keys: KeyRing) -> PacketMachine | WalletMachine:
    """Return the machine that folds a stream."""
    if stream.startswith("packet-"):
        return PacketMachine(stream, packet_rules(settings), keys)
    return WalletMachine(stream, wallet_rules(settings))


async def fold(elements: Elements, codec: Codec, stream: str, machine: PacketMachine | WalletMachine) -> Record | None:
    """Fold the newest snapshot and everything durable behind it; None if there is nothing new.

    Raises JournalUnavailable, JournalCorrupt.
    """
    return await fold_behind(elements, codec, stream, machine, await elements.load_snapshot(stream))


async def fold_behind(
    elements: Elements, codec: Codec, stream: str, machine: PacketMachine | WalletMachine, older: Record | None
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
