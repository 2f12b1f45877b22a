"""Passivation: an ended packet leaves memory, and nobody can tell from any answer."""

import asyncio
from typing import Any

import pytest

from actors.kernel.errors import JournalCorrupt
from actors.kernel.messages import Refused
from actors.ledger.transfer import Acknowledge, Receive, Settled, transfer_of
from actors.packet.commands import Grab, Open, View
from actors.packet.events import Passivated
from actors.packet.replies import OpenNow, Won
from actors.refusals import Refusal
from actors.transfers.funding import PacketFunded
from actors.wallet.commands import CreditSandbox, FindFunding, ReadWallet, Send
from actors.wallet.replies import Funded
from tests.simulation.grabbing import grab_each
from tests.simulation.loop import simulated
from tests.simulation.memory_journal import Fault
from tests.simulation.system import TENANT, System, joined, ruled
from tests.unit.samples import DAY_MS, NOW_MS, WALLET, funding, grab, packets

STREAM, PURSE = "packet-000", "wallet-000"
ONE = {"packet": {"streams": 1, "rules": {"passivate_after_ms": 0}}, "wallet": {"streams": 1}}
HOUR_MS = 3_600_000
END_MS = NOW_MS + DAY_MS


async def ended(rules: dict[str, int] | None = None, state: str = "drained") -> tuple[System, PacketFunded]:
    """Start a system with one packet of two shares that has ended and is settled."""
    system = await System.start(**joined(ONE, ruled("packet", **rules or {})))
    await system.service.wallets.ask(CreditSandbox(TENANT, "alice", 10_000))
    funded = await system.service.wallets.send(Send(TENANT, "alice", "k", "lucky", 100, 2, ""))
    for user in ("u1", "u2") if state == "drained" else ("u1",):
        await grab_each(system.service, [(funded.funding.packet_id, user)], TENANT)
    if state == "expired":
        system.clock.ms += 25 * HOUR_MS
        await system.tick()
    await system.settle()
    return system, funded.funding


async def passivated(state: str = "drained") -> tuple[System, PacketFunded]:
    """The same, and it has left memory."""
    system, packet = await ended(state=state)
    await system.tick()
    assert await live(system) == 0
    return system, packet


async def drained(system: System, key: str) -> PacketFunded:
    """Send another packet of two shares, and let it end and be settled."""
    funded = await system.service.wallets.send(Send(TENANT, "alice", key, "lucky", 100, 2, ""))
    for user in ("u1", "u2"):
        await grab_each(system.service, [(funded.funding.packet_id, user)], TENANT)
    await system.settle()
    return funded.funding


async def live(system: System) -> int:
    [figures] = await system.members["packet-shard-0"].report(audit=True)
    return figures.members


async def ask(system: System, command: Any) -> Any:
    [reply] = await system.members["packet-shard-0"].serve(STREAM, [command])
    return reply


def events(system: System) -> list[Any]:
    codec = system.journals.codec
    elements = system.journals.stored[STREAM].elements
    return [
        event
        for position, payload in elements
        if position.seq
        for event in codec.decode_entry(STREAM, position, payload).events
    ]


@simulated
async def test_every_answer_is_the_same_after_a_packet_left_memory_and_after_a_restart() -> None:
    for state in ("drained", "expired"):
        system, packet = await ended({"passivate_after_ms": HOUR_MS * 48}, state)
        questions = [
            Grab(packet.packet_id, TENANT, "u1"),
            Grab(packet.packet_id, TENANT, "late"),
            Grab(packet.packet_id, "another", "u1"),
            View(packet.packet_id, TENANT),
            View(packet.packet_id, "another"),
            Open(PURSE, packet),
        ]
        before = [await ask(system, question) for question in questions]
        assert await live(system) == 1
        system.clock.ms += 73 * HOUR_MS
        await system.tick()
        assert await live(system) == 0
        assert [await ask(system, question) for question in questions] == before
        system.replace("packet-shard-0")
        assert [await ask(system, question) for question in questions] == before
        assert await live(system) == 0
        assert (await system.audit()).clean


@simulated
async def test_a_second_funding_of_a_passivated_packet_goes_home_instead_of_opening_it_again() -> None:
    system, packet = await passivated()
    system.clock.ms += 25 * HOUR_MS  # the wallet forgets the key
    again = await system.service.wallets.ask(ReadWallet(TENANT, "alice"))
    [reply] = await system.members["wallet-shard-0"].serve(PURSE, [Send(TENANT, "alice", "k2", "lucky", 100, 2, "")])
    assert isinstance(reply, Funded)
    [reply] = await system.members["wallet-shard-0"].serve(PURSE, [FindFunding(packet.packet_id)])
    assert reply == Refused(Refusal.PACKET_NOT_FOUND)
    [second] = await system.members["wallet-shard-0"].serve(PURSE, [Send(TENANT, "alice", "k", "lucky", 100, 2, "")])
    assert isinstance(second, Funded)
    assert second.funding.packet_id == packet.packet_id
    assert await ask(system, Open(PURSE, second.funding)) == Refused(Refusal.IDEMPOTENCY_KEY_REUSED)
    await system.settle()
    assert (await system.service.wallets.ask(ReadWallet(TENANT, "alice"))).available_fen == again.available_fen - 100
    assert (await system.audit()).clean


@simulated
async def test_settlement_delivering_late_what_was_opened_long_ago_opens_nothing() -> None:
    system, packet = await passivated()
    await ask(system, Receive(PURSE, 0, 0, [transfer_of(packet)]))
    assert await live(system) == 0


@simulated
async def test_a_packet_stays_in_memory_until_its_record_is_kept() -> None:
    system, packet = await ended()
    system.journals.fail("shelf", Fault.LOST_BEFORE)
    await system.tick()
    assert await live(system) == 1
    await system.tick()
    assert await live(system) == 0
    assert events(system)[-1] == Passivated([packet.packet_id])


@simulated
async def test_dying_between_record_and_event_leaves_the_packet_where_it_was() -> None:
    system, packet = await ended()
    gate = system.journals.hold("shelf", applied=True)
    ticking = asyncio.ensure_future(system.tick())
    await gate.reached()
    await system.members["packet-shard-0"].stop()
    gate.release()
    await ticking
    assert Passivated([packet.packet_id]) not in events(system)
    assert (await ask(system, Grab(packet.packet_id, TENANT, "u1"))).replayed
    assert await live(system) == 1


@simulated
async def test_two_ticks_at_once_let_a_packet_go_once() -> None:
    system, packet = await ended()
    await asyncio.gather(system.tick(), system.tick())
    assert events(system).count(Passivated([packet.packet_id])) == 1


@simulated
async def test_a_lookup_that_a_passivation_overtook_is_made_again() -> None:
    system, gone = await passivated()
    packet = await drained(system, "k2")
    other = await system.service.wallets.send(Send(TENANT, "alice", "k3", "lucky", 100, 2, ""))
    gate = system.journals.hold("shelf", stream=f"records:{STREAM}", applied=True)
    asking = asyncio.ensure_future(
        system.members["packet-shard-0"].serve(
            STREAM, [Grab(gone.packet_id, TENANT, "u3"), Grab(packet.packet_id, TENANT, "u1")]
        )
    )
    await gate.reached()  # the packet that is gone was looked up, the other was still in memory
    await system.tick()
    assert await live(system) == 1, "only the open one"
    gate.release()
    loser, winner = await asking
    assert loser == Refused(Refusal.DRAINED)
    assert isinstance(winner, Won)
    assert winner.replayed
    assert isinstance(await ask(system, Open(PURSE, other.funding)), OpenNow)


@simulated
async def test_an_id_that_never_left_memory_is_not_looked_up() -> None:
    system, gone = await passivated()
    system.journals.fail("shelf", Fault.LOST_BEFORE, stream=f"records:{STREAM}")
    assert await ask(system, Grab("z" * 32, TENANT, "u1")) == Refused(Refusal.PACKET_NOT_FOUND)
    funded = await system.service.wallets.send(Send(TENANT, "alice", "k2", "lucky", 100, 2, ""))
    assert (await ask(system, Grab(funded.funding.packet_id, TENANT, "u1"))).amount_fen
    assert await ask(system, Grab(gone.packet_id, TENANT, "u1")) == Refused(Refusal.JOURNAL_UNAVAILABLE)


@simulated
async def test_a_lookup_that_the_store_does_not_answer_is_no_404() -> None:
    system, packet = await passivated()
    system.journals.fail("shelf", Fault.LOST_BEFORE)
    assert await ask(system, Grab(packet.packet_id, TENANT, "u1")) == Refused(Refusal.JOURNAL_UNAVAILABLE)
    assert (await ask(system, Grab(packet.packet_id, TENANT, "u1"))).replayed


def test_a_packet_stays_until_its_last_payout_is_settled() -> None:
    machine = packets(funding(count=2))
    grab(machine, "u1")
    grab(machine, "u2")
    machine.apply(Settled(WALLET, 1))
    assert machine.passivable(NOW_MS) == {}
    machine.apply(Settled(WALLET, 2))
    assert list(machine.passivable(NOW_MS)) == ["p1"]
    assert list(machine.passivable(NOW_MS)) == ["p1"], "asking changes nothing"


def test_an_open_packet_stays_however_settled() -> None:
    machine = packets(funding(count=2))
    grab(machine, "u1")
    machine.apply(Settled(WALLET, 1))
    assert machine.passivable(END_MS) == {}


def test_a_packet_that_has_just_ended_stays_for_those_who_look_at_it() -> None:
    machine = packets(funding(count=1), passivate_after_ms=1_000)
    grab(machine, "u1", now_ms=NOW_MS + 5)
    machine.apply(Settled(WALLET, 1))
    assert machine.passivable(NOW_MS + 1_004) == {}
    assert list(machine.passivable(NOW_MS + 1_005)) == ["p1"]


def test_a_restored_machine_lets_the_same_packets_go() -> None:
    machine = packets(funding(count=1), funding("p2", 2, count=1))
    grab(machine, "u1")
    grab(machine, "u1", "p2")
    machine.apply(Settled(WALLET, 1))
    again = packets()
    again.restore(machine.snapshot())
    assert list(again.passivable(NOW_MS)) == list(machine.passivable(NOW_MS)) == ["p1"]
    for each in (machine, again):
        each.apply(Passivated(["p1"]))
        each.apply(Settled(WALLET, 2))
    assert again.snapshot() == machine.snapshot()
    assert list(again.passivable(NOW_MS)) == ["p2"]


def test_the_timer_does_not_keep_what_has_left() -> None:
    count = 3_000
    machine = packets(*(funding(f"p{n}", n, count=1) for n in range(1, count + 1)), passivate_batch_max=count)
    for n in range(1, count + 1):
        grab(machine, "u1", f"p{n}")
    machine.apply(Settled(WALLET, count))
    machine.apply(Passivated(list(machine.passivable(NOW_MS))))
    assert list(machine.due(END_MS, count)) == []
    assert machine.totals()["paid_fen"] == count * 1_000
    assert machine.members == 0


@simulated
async def test_a_corrupt_journal_is_looked_at_seldom_and_not_written_at_every_tick() -> None:
    system, packet = await ended()
    stored = system.journals.stored[STREAM]
    del stored.elements[2]
    await system.members["packet-shard-0"].stop()
    for _ in range(50):
        await system.tick()
        await ask(system, View(packet.packet_id, TENANT))
    fences = [position for position, _ in stored.elements if position.seq == 0]
    assert len(fences) == 2, "the first, and the one of the single attempt"
    for _ in range(10):
        await asyncio.sleep(60)
        await system.tick()
    assert len([position for position, _ in stored.elements if position.seq == 0]) <= 12
    with pytest.raises(JournalCorrupt, match="does not chain"):
        await system.members["packet-shard-0"].shell(STREAM)


@simulated
async def test_an_acknowledgement_repeated_after_passivation_changes_nothing() -> None:
    system, _ = await passivated()
    [reply] = await system.members["packet-shard-0"].serve(STREAM, [Acknowledge(PURSE, 2)])
    assert not isinstance(reply, Refused)


@simulated
async def test_an_end_that_never_became_durable_is_never_kept_as_a_record() -> None:
    """A zombie that wakes up: it believes in a last share that its successor gave to somebody else."""
    system = await System.start(**ONE)
    await system.service.wallets.ask(CreditSandbox(TENANT, "alice", 10_000))
    funded = await system.service.wallets.send(Send(TENANT, "alice", "k", "lucky", 100, 1, ""))
    packet_id = funded.funding.packet_id
    gate = system.journals.hold("append", stream=STREAM)
    zombie = system.members["packet-shard-0"]
    losing = asyncio.ensure_future(zombie.serve(STREAM, [Grab(packet_id, TENANT, "loser")]))
    await gate.reached()
    system.replace("packet-shard-0")
    assert (await ask(system, Grab(packet_id, TENANT, "winner"))).rank == 1
    acknowledging = asyncio.ensure_future(zombie.serve(STREAM, [Acknowledge(PURSE, 1)]))
    ticking = asyncio.ensure_future(zombie.tick())
    await asyncio.sleep(1)
    assert await system.journals.find_records(STREAM, [packet_id]) == [None]
    gate.release()
    await asyncio.gather(losing, acknowledging, ticking)
    assert await system.journals.find_records(STREAM, [packet_id]) == [None]
    assert (await losing)[0] == Refused(Refusal.SHARD_UNAVAILABLE)
