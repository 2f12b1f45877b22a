"""History: two streams of a small platform with money moving between them over some days, written entry by entry."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from actors.kernel.ports import Event
from actors.ledger.transfer import Settled
from actors.packet.events import Expired, GrabbedMany, Opened
from actors.transfers.funding import PacketFunded
from actors.transfers.payout import PayoutRun
from actors.wallet.events import RunsReceived, SandboxCredited
from cluster.journal.archive import Archive
from cluster.journal.codec import platform_codec
from cluster.journal.redis import RedisJournals
from cluster.journal.snapshot import Record, read_verified
from cluster.offline.stream_reader import Sources
from tests.contract.stores import LAYOUT, MemoryStore, Store, Valkey, ValkeyStore
from tests.simulation.memory_journal import MemoryJournals
from tests.unit.samples import DAY_MS, NOW_MS, TENANT, funding

PACKET, WALLET = "packet-000", "wallet-000"
BALANCE_FEN, PACKET_FEN, SHARE_FEN = 100_000, 1_000, 300


def of_the_wallet(days: int) -> list[list[Event]]:
    """Return entries of the wallet stream: a user, then a packet a day, a taker's share and what came back."""
    entries: list[list[Event]] = [[SandboxCredited(TENANT, "sender", BALANCE_FEN, NOW_MS)]]
    for day in range(days):
        at_ms = NOW_MS + day * DAY_MS
        entries.append([_funded(day, at_ms)])
        entries.append([Settled(PACKET, day + 1)])
        runs = [
            PayoutRun(2 * day + 1, "share", TENANT, f"p{day}", ["taker"], [SHARE_FEN], at_ms + 1),
            PayoutRun(2 * day + 2, "refund", TENANT, f"p{day}", ["sender"], [PACKET_FEN - SHARE_FEN], at_ms + 1),
        ]
        entries.append([RunsReceived(PACKET, runs, at_ms + 2)])
    return entries


def of_the_packets(days: int) -> list[list[Event]]:
    """Return entries of the packet stream: a packet a day, one share taken, the rest expired."""
    entries: list[list[Event]] = []
    for day in range(days):
        at_ms, packet_id = NOW_MS + day * DAY_MS, f"p{day}"
        entries.append([Opened(WALLET, _funded(day, at_ms))])
        entries.append(
            [
                GrabbedMany(packet_id, TENANT, 1, ["taker"], [SHARE_FEN], at_ms + 1, [0], {0: 2 * day + 1}),
                Expired(packet_id, PACKET_FEN - SHARE_FEN, at_ms + 1, 0, 2 * day + 2, b"s" * 32),
            ]
        )
        entries.append([Settled(WALLET, 2 * day + 2)])
    return entries


def _funded(day: int, at_ms: int) -> PacketFunded:
    return funding(f"p{day}", day + 1, total_fen=PACKET_FEN, at_ms=at_ms, sender="sender")


async def write(store: Store, stream: str, entries: Sequence[Sequence[Event]]) -> None:
    """Append entries in one activation."""
    journal = store.journals.open(stream)
    await journal.activate("host")
    for events in entries:
        await journal.append(journal.seal(events))


async def stands(journals: MemoryJournals | RedisJournals, stream: str) -> list[Record]:
    """Return a snapshot at every element that is live and chains from the start."""
    return [element.record(stream, b"state") async for element in read_verified(journals, journals.codec, stream)]


async def adopt(store: Store, *records: Record) -> None:
    """Store snapshots; the last one is the newest that activations start from."""
    for record in records:
        await store.journals.write_snapshot(record)
        assert await store.journals.adopt_snapshot(record.stream, record.position)


def sources(store: Store, archive: Archive) -> Sources:
    return Sources(store.journals, store.journals.codec, archive)


@asynccontextmanager
async def platform_store(kind: str, valkey: Valkey, name: str) -> AsyncIterator[Store]:
    """Make an empty store of the platform's own events."""
    if kind == "memory":
        memory = MemoryStore(platform_codec())
        await memory.journals.create_system(LAYOUT)
        yield memory
        return
    real = ValkeyStore(platform_codec(), valkey, name)
    await real.journals.create_system(LAYOUT)
    try:
        yield real
    finally:
        await real.close()
