"""Snapshots: folded from the journal, adopted by an event, and never a way for undurable memory to become true."""

import asyncio
from typing import Any

import pytest

from actors.kernel.errors import JournalCorrupt
from actors.kernel.messages import AdoptSnapshot, Done, Refused
from actors.packet.commands import Grab
from actors.refusals import Refusal
from actors.wallet.commands import CreditSandbox, ReadWallet, Send
from cluster.journal.fold import fold
from cluster.journal.snapshot import Record
from cluster.runtime.shards import machine_of
from tests.simulation.grabbing import grab_each
from tests.simulation.loop import simulated
from tests.simulation.memory_journal import Fault
from tests.simulation.system import KEYS, TENANT, System

STREAM = "packet-000"


async def with_a_packet() -> tuple[System, str]:
    """Start a system with one open packet on the stream, two of its five shares taken."""
    system = await System.start(packet={"streams": 1}, wallet={"streams": 1})
    await system.service.wallets.ask(CreditSandbox(TENANT, "alice", 10_000))
    funded = await system.service.wallets.send(Send(TENANT, "alice", "k", "lucky", 1_000, 5, ""))
    packet_id = funded.funding.packet_id
    await grab_each(system.service, [(packet_id, "u1"), (packet_id, "u2")], TENANT)
    return system, packet_id


async def folded(system: System, stream: str = STREAM) -> Record:
    machine = machine_of(stream, system.settings, KEYS)
    record = await fold(system.journals, system.journals.codec, stream, machine)
    assert record is not None
    return record


async def adopt(system: System, record: Record) -> Any:
    command = AdoptSnapshot(record.position.epoch, record.position.seq, record.version, record.version)
    [[reply]] = await system.directory.ask([(record.stream, [command])])
    return reply


async def take(system: System, stream: str = STREAM) -> Record:
    record = await folded(system, stream)
    await system.journals.write_snapshot(record)
    assert await adopt(system, record) == Done()
    assert await system.journals.adopt_snapshot(stream, record.position)
    return record


@simulated
async def test_an_activation_from_a_snapshot_and_its_tail_remembers_everything() -> None:
    system, packet_id = await with_a_packet()
    record = await take(system)
    [third] = await grab_each(system.service, [(packet_id, "u3")], TENANT)
    system.replace("packet-shard-0")
    first, second, again, fourth = await grab_each(system.service, [(packet_id, f"u{i}") for i in (1, 2, 3, 4)], TENANT)
    assert [reply.replayed for reply in (first, second, again, fourth)] == [True, True, True, False]
    assert (again.rank, again.amount_fen, fourth.rank) == (3, third.amount_fen, 4)
    shell = await system.members["packet-shard-0"].shell(STREAM)
    assert shell.snapshot_version == record.version
    await system.settle()
    assert (await system.audit()).clean


@simulated
async def test_a_wallet_activated_from_a_snapshot_still_knows_its_keys_and_balances() -> None:
    system, _ = await with_a_packet()
    await take(system, "wallet-000")
    system.replace("wallet-shard-0")
    again = await system.service.wallets.send(Send(TENANT, "alice", "k", "lucky", 1_000, 5, ""))
    assert again.replayed
    assert (await system.service.wallets.ask(ReadWallet(TENANT, "alice"))).available_fen == 9_000


@simulated
async def test_a_snapshot_of_a_snapshot_is_the_same_as_a_fold_from_the_beginning() -> None:
    system, packet_id = await with_a_packet()
    whole_before = await folded(system)
    assert (await take(system)) == whole_before
    await grab_each(system.service, [(packet_id, "u3")], TENANT)
    upon_snapshot = await folded(system)
    system.journals.books.clear()
    assert await folded(system) == upon_snapshot


@simulated
async def test_a_snapshot_nobody_adopted_is_never_read() -> None:
    system, packet_id = await with_a_packet()
    record = await folded(system)
    await system.journals.write_snapshot(record)
    system.replace("packet-shard-0")
    await grab_each(system.service, [(packet_id, "u3")], TENANT)
    assert (await system.members["packet-shard-0"].shell(STREAM)).snapshot_version == 0


@simulated
async def test_a_pointer_never_goes_back_to_an_older_snapshot() -> None:
    system, packet_id = await with_a_packet()
    older = await folded(system)
    await system.journals.write_snapshot(older)
    await grab_each(system.service, [(packet_id, "u3")], TENANT)
    newer = await take(system)
    assert not await system.journals.adopt_snapshot(STREAM, older.position)
    assert (await system.journals.load_snapshot(STREAM)) == newer


@simulated
async def test_a_snapshot_of_live_memory_does_not_chain_and_is_refused() -> None:
    """Live memory runs ahead: here it holds a share that never became durable."""
    system, packet_id = await with_a_packet()
    honest = await folded(system)
    shell = await system.members["packet-shard-0"].shell(STREAM)
    gate = system.journals.hold("append", stream=STREAM)
    system.journals.fail("append", Fault.LOST_BEFORE, stream=STREAM)
    grabbing = asyncio.ensure_future(system.members["packet-shard-0"].serve(STREAM, [Grab(packet_id, TENANT, "u3")]))
    await gate.reached()
    live = honest._replace(version=shell.machine.version, state=shell.machine.snapshot())
    gate.release()
    assert await grabbing == [Refused(Refusal.JOURNAL_UNAVAILABLE)]
    assert live.version == honest.version + 1
    await system.journals.write_snapshot(live)
    await grab_each(system.service, [(packet_id, "u4")], TENANT)
    await system.journals.adopt_snapshot(STREAM, live.position)
    await system.members["packet-shard-0"].stop()
    with pytest.raises(JournalCorrupt, match="does not chain"):
        await system.members["packet-shard-0"].shell(STREAM)


@simulated
async def test_a_snapshot_whose_chain_is_not_the_journals_is_refused() -> None:
    system, packet_id = await with_a_packet()
    forged = (await folded(system))._replace(chain=bytes(32))
    await system.journals.write_snapshot(forged)
    await grab_each(system.service, [(packet_id, "u3")], TENANT)
    await system.journals.adopt_snapshot(STREAM, forged.position)
    await system.members["packet-shard-0"].stop()
    with pytest.raises(JournalCorrupt, match="does not chain"):
        await system.members["packet-shard-0"].shell(STREAM)


@simulated
async def test_there_is_one_snapshot_for_a_position() -> None:
    system, _ = await with_a_packet()
    record = await folded(system)
    await system.journals.write_snapshot(record)
    await system.journals.write_snapshot(record)
    with pytest.raises(JournalCorrupt, match="another snapshot"):
        await system.journals.write_snapshot(record._replace(version=record.version + 1))


@simulated
async def test_nothing_new_makes_no_snapshot() -> None:
    system, _ = await with_a_packet()
    record = await folded(system)
    await system.journals.write_snapshot(record)
    assert await system.journals.adopt_snapshot(STREAM, record.position)
    machine = machine_of(STREAM, system.settings, KEYS)
    assert await fold(system.journals, system.journals.codec, STREAM, machine) is None
