"""Host: many streams in one actor, each answering for itself. One packet and one wallet host on the memory journal."""

import asyncio
from typing import Any

import msgspec
import pytest

from actors.kernel.errors import FencedOut, JournalUnavailable
from actors.kernel.messages import Done, Refused
from actors.ledger.transfer import Acknowledge, Receive, Watermark, transfer_of
from actors.packet.commands import Grab, GrabMany, Open, View
from actors.packet.host import one_by_one
from actors.packet.replies import OpenNow, PacketView, Won
from actors.refusals import Refusal
from actors.transfers.funding import PacketFunded
from actors.transfers.ids import packet_stream, wallet_index_of, wallet_stream
from actors.wallet.commands import CreditSandbox, ReadWallet, Send
from actors.wallet.replies import Funded, WalletView
from tests.simulation.loop import simulated
from tests.simulation.memory_journal import Fault
from tests.simulation.system import TENANT, System, ruled

UNAVAILABLE = Refused(Refusal.SHARD_UNAVAILABLE)
UNKNOWN = Refused(Refusal.JOURNAL_UNAVAILABLE)
P0, P1 = packet_stream(0), packet_stream(1)


class Bench:
    """A system whose two hosts are asked directly."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.journals = system.journals

    @classmethod
    async def start(cls, **override: Any) -> "Bench":
        bench = cls(await System.start(**override))
        for user in ("alice", "bob"):
            await bench.wallet(user, CreditSandbox(TENANT, user, 10_000))
        return bench

    @property
    def packets(self) -> Any:
        return self.system.members["packet-shard-0"]

    @property
    def wallets(self) -> Any:
        return self.system.members["wallet-shard-0"]

    async def wallet(self, user: str, command: Any) -> Any:
        stream = wallet_stream(wallet_index_of(TENANT, user, 2))
        return (await self.wallets.serve(stream, [command]))[0]

    async def fund(self, key: str = "k", count: int = 2, total_fen: int = 100) -> Funded:
        """Debit without opening, as a gateway that dies then would."""
        funded = await self.wallet("alice", Send(TENANT, "alice", key, "lucky", total_fen, count, ""))
        assert isinstance(funded, Funded)
        return funded

    async def open(self, key: str = "k", count: int = 2, stream: str | None = None) -> PacketFunded:
        """Send a packet; with `stream`, one that lives there."""
        for attempt in range(20):
            funded = await self.fund(f"{key}-{attempt}", count)
            if stream is None or funded.funding.packet_stream == stream:
                break
        else:
            raise AssertionError(f"no key leads to {stream}")
        [reply] = await self.packets.serve(funded.funding.packet_stream, [Open(funded.source, funded.funding)])
        assert isinstance(reply, OpenNow)
        return funded.funding

    async def grab(self, packet: PacketFunded, user: str, host: Any = None) -> Any:
        host = host or self.packets
        return (await host.serve(packet.packet_stream, [Grab(packet.packet_id, TENANT, user)]))[0]

    def appends(self, stream: str) -> int:
        return sum(o.name == "append" and o.stream == stream for o in self.journals.history)


@simulated
async def test_a_stream_is_activated_once_however_many_ask() -> None:
    bench = await Bench.start()
    gate = bench.journals.hold("activate", stream=P0)
    asked = [asyncio.ensure_future(bench.packets.serve(P0, [View("x" * 32, TENANT)])) for _ in range(10)]
    await gate.reached()
    gate.release()
    answers = await asyncio.gather(*asked)
    assert answers == [[Refused(Refusal.PACKET_NOT_FOUND)]] * 10
    assert [o.stream for o in bench.journals.history if o.name == "activate"].count(P0) == 1


@simulated
async def test_a_caller_that_goes_away_does_not_break_the_activation_it_began() -> None:
    bench = await Bench.start()
    gate = bench.journals.hold("activate", stream=P0)
    first = asyncio.ensure_future(bench.packets.shell(P0))
    second = asyncio.ensure_future(bench.packets.shell(P0))
    await gate.reached()
    first.cancel()
    gate.release()
    assert (await second).epoch == 1


@simulated
async def test_an_activation_that_ends_before_its_caller_goes_on_is_an_unknown_outcome_and_no_bug() -> None:
    bench = await Bench.start()
    packet = await bench.open()
    bench.system.replace("packet-shard-0")
    gate = bench.journals.hold("activate", stream=packet.packet_stream)
    grabbing = asyncio.ensure_future(bench.grab(packet, "u1"))
    await gate.reached()
    activating = bench.packets._activating[packet.packet_stream]
    activating.add_done_callback(lambda task: task.result().discard())
    gate.release()
    assert await grabbing == UNKNOWN
    assert (await bench.grab(packet, "u1")).rank == 1


@simulated
async def test_a_stream_that_lives_elsewhere_is_never_answered_for() -> None:
    bench = await Bench.start()
    assert await bench.packets.serve("packet-009", [View("x" * 32, TENANT)]) == [UNAVAILABLE]


@simulated
async def test_one_streams_failure_is_its_own_answer_and_not_the_others() -> None:
    bench = await Bench.start()
    packet = await bench.open(stream=P0)
    await bench.packets.tick()
    bench.journals.fail("append", Fault.LOST_BEFORE, stream=P0)
    groups = [
        (P0, [Grab(packet.packet_id, TENANT, "u1")]),
        ("packet-009", [View("x" * 32, TENANT)]),
        (P1, [View("x" * 32, TENANT)]),
    ]
    payload = await bench.packets.handle(msgspec.msgpack.encode(groups))
    replies = msgspec.msgpack.decode(payload, type=list[list[Refused]])
    assert replies == [[UNKNOWN], [UNAVAILABLE], [Refused(Refusal.PACKET_NOT_FOUND)]]


@pytest.mark.parametrize("fault", [Fault.LOST_BEFORE, Fault.LOST_AFTER])
@simulated
async def test_after_an_unknown_outcome_the_same_grab_again_gets_one_share(fault: Fault) -> None:
    bench = await Bench.start()
    packet = await bench.open()
    bench.journals.fail("append", fault, stream=packet.packet_stream)
    assert await bench.grab(packet, "u1") == UNKNOWN
    won = await bench.grab(packet, "u1")
    assert (won.rank, won.replayed) == (1, fault is Fault.LOST_AFTER)
    assert (await bench.packets.shell(packet.packet_stream)).epoch == 2


@simulated
async def test_a_whole_group_is_decided_in_one_step_and_becomes_one_entry() -> None:
    bench = await Bench.start()
    packet = await bench.open(count=3)
    before = bench.appends(packet.packet_stream)
    grabs = [Grab(packet.packet_id, TENANT, user) for user in ("u1", "u2", "u1", "u3", "u4")]
    replies = await bench.packets.serve(packet.packet_stream, grabs)
    assert [getattr(r, "rank", r) for r in replies] == [1, 2, 1, 3, Refused(Refusal.DRAINED)]
    assert [r.replayed for r in replies[:4]] == [False, False, True, False]
    assert bench.appends(packet.packet_stream) == before + 1


@simulated
async def test_two_sends_of_one_group_cannot_spend_the_same_money() -> None:
    bench = await Bench.start()
    stream = wallet_stream(wallet_index_of(TENANT, "alice", 2))
    sends = [Send(TENANT, "alice", key, "lucky", 8_000, 2, "") for key in ("k1", "k2", "k1")]
    first, second, again = await bench.wallets.serve(stream, sends)
    assert isinstance(first, Funded)
    assert second == Refused(Refusal.INSUFFICIENT_FUNDS)
    assert (again.funding, again.replayed) == (first.funding, True)


@simulated
async def test_a_packet_stream_far_ahead_of_settlement_refuses_new_shares_but_answers_winners() -> None:
    bench = await Bench.start(**ruled("packet", unsettled_max=1), **ruled("wallet", unsettled_max=1))
    packet = await bench.open(count=3)
    assert (await bench.grab(packet, "u1")).rank == 1
    assert await bench.grab(packet, "u2") == Refused(Refusal.OVERLOADED)
    assert (await bench.grab(packet, "u1")).replayed
    await bench.system.settle()
    assert (await bench.grab(packet, "u2")).rank == 2


@simulated
async def test_drained_is_not_told_before_the_last_share_is_durable() -> None:
    bench = await Bench.start()
    packet = await bench.open(count=1)
    gate = bench.journals.hold("append", stream=packet.packet_stream)
    winner = asyncio.ensure_future(bench.grab(packet, "u1"))
    await gate.reached()
    bench.journals.fail("confirm", Fault.LOST_AFTER, stream=packet.packet_stream)
    late, again = (asyncio.ensure_future(bench.grab(packet, user)) for user in ("u2", "u1"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert [asked.done() for asked in (winner, late, again)] == [False] * 3
    gate.release()
    assert (await winner).rank == 1
    assert [await late, await again] == [UNKNOWN, UNKNOWN], "their own contact with the store was lost"


@simulated
async def test_a_drained_that_proves_untrue_was_never_told() -> None:
    bench = await Bench.start()
    packet = await bench.open(count=1)
    gate = bench.journals.hold("append", stream=packet.packet_stream)
    bench.journals.fail("append", Fault.LOST_BEFORE, stream=packet.packet_stream)
    winner = asyncio.ensure_future(bench.grab(packet, "u1"))
    await gate.reached()
    late = asyncio.ensure_future(bench.grab(packet, "u2"))
    view = asyncio.ensure_future(bench.packets.serve(packet.packet_stream, [View(packet.packet_id, TENANT)]))
    await asyncio.sleep(0)
    gate.release()
    assert await asyncio.gather(winner, late, view) == [UNKNOWN, UNKNOWN, [UNKNOWN]]
    assert (await bench.grab(packet, "u2")).rank == 1


@simulated
async def test_a_wallet_never_shows_money_that_is_not_durable() -> None:
    bench = await Bench.start()
    stream = wallet_stream(wallet_index_of(TENANT, "alice", 2))
    gate = bench.journals.hold("append", stream=stream)
    bench.journals.fail("append", Fault.LOST_BEFORE, stream=stream)
    sending = asyncio.ensure_future(bench.wallet("alice", Send(TENANT, "alice", "k", "lucky", 100, 2, "")))
    await gate.reached()
    reading = asyncio.ensure_future(bench.wallet("alice", ReadWallet(TENANT, "alice")))
    again = asyncio.ensure_future(bench.wallet("alice", Send(TENANT, "alice", "k", "lucky", 100, 2, "")))
    await asyncio.sleep(0)
    gate.release()
    assert await asyncio.gather(sending, reading, again) == [UNKNOWN] * 3
    assert await bench.wallet("alice", ReadWallet(TENANT, "alice")) == WalletView(10_000, 0)


@simulated
async def test_of_a_durably_ended_packet_everybody_is_told_without_the_store() -> None:
    bench = await Bench.start()
    packet = await bench.open(count=1)
    won = await bench.grab(packet, "u1")
    bench.journals.stop()
    assert await bench.grab(packet, "u1") == Won(1, won.amount_fen, won.at_ms, True)
    assert await bench.grab(packet, "u2") == Refused(Refusal.DRAINED)
    bench.journals.start()


@simulated
async def test_of_an_open_packet_nobody_is_told_anything_without_the_store() -> None:
    bench = await Bench.start()
    packet = await bench.open()
    await bench.grab(packet, "u1")
    bench.journals.stop()
    assert await bench.grab(packet, "u1") == UNKNOWN
    bench.journals.start()
    assert (await bench.grab(packet, "u1")).replayed


@simulated
async def test_a_zombie_answers_nothing_about_an_open_packet() -> None:
    bench = await Bench.start()
    packet = await bench.open()
    zombie = bench.system.replace("packet-shard-0")
    won = await bench.grab(packet, "u1")
    assert (won.rank, won.replayed) == (1, False)
    assert await bench.grab(packet, "u2", zombie) == UNAVAILABLE
    assert (await bench.grab(packet, "u2")).rank in (1, 2)


@simulated
async def test_a_full_store_is_told_at_once_and_what_was_held_happens_once_when_there_is_room() -> None:
    bench = await Bench.start()
    packet = await bench.open()
    bench.journals.fail("append", Fault.FULL, stream=packet.packet_stream, times=2)
    assert await bench.grab(packet, "u1") == UNKNOWN
    assert (await bench.packets.shell(packet.packet_stream)).full
    assert await bench.grab(packet, "u2") == UNKNOWN
    await asyncio.sleep(1)
    again = await bench.grab(packet, "u1")
    assert (again.rank, again.replayed) == (1, True)
    assert (await bench.grab(packet, "u2")).rank == 2


@simulated
async def test_a_quiet_packet_expires_by_itself_and_its_money_goes_home() -> None:
    bench = await Bench.start()
    packet = await bench.open()
    bench.system.clock.ms = packet.expires_at_ms
    await bench.system.tick()
    [view] = await bench.packets.serve(packet.packet_stream, [View(packet.packet_id, TENANT)])
    assert isinstance(view, PacketView)
    assert (view.state, view.refunded_fen) == ("expired", 100)
    await bench.system.settle()
    assert await bench.wallet("alice", ReadWallet(TENANT, "alice")) == WalletView(10_000, 0)


@simulated
async def test_an_opening_that_comes_after_its_own_expiry_opens_and_refunds() -> None:
    bench = await Bench.start()
    funded = await bench.fund()
    bench.system.clock.ms = funded.funding.expires_at_ms
    [reply] = await bench.packets.serve(funded.funding.packet_stream, [Open(funded.source, funded.funding)])
    assert reply == OpenNow("expired")
    await bench.system.settle()
    assert await bench.wallet("alice", ReadWallet(TENANT, "alice")) == WalletView(10_000, 0)


@simulated
async def test_settlement_is_given_only_what_is_durable() -> None:
    bench = await Bench.start()
    packet = await bench.open()
    gate = bench.journals.hold("append", stream=packet.packet_stream)
    bench.journals.fail("append", Fault.LOST_BEFORE, stream=packet.packet_stream)
    grabbing = asyncio.ensure_future(bench.grab(packet, "u1"))
    await gate.reached()
    outgoing = asyncio.ensure_future(bench.packets.outgoing())
    await asyncio.sleep(0)
    gate.release()
    assert await outgoing == []
    assert await grabbing == UNKNOWN


@simulated
async def test_the_clock_of_the_sandbox_reaches_hosts_that_start_later() -> None:
    bench = await Bench.start()
    packet = await bench.open()
    advance_ms = packet.expires_at_ms - packet.at_ms
    offset_ms = await bench.journals.advance_clock(advance_ms, offset_ms_max=advance_ms)
    assert offset_ms == packet.expires_at_ms - packet.at_ms
    bench.system.replace("packet-shard-0")
    assert await bench.grab(packet, "u1") == Refused(Refusal.EXPIRED)


@simulated
async def test_a_moved_clock_never_goes_back() -> None:
    bench = await Bench.start()
    await bench.packets.advance_clock(5_000)
    await bench.packets.advance_clock(3_000)
    assert bench.packets.now_ms() == bench.system.clock.ms + 5_000


@simulated
async def test_a_stopped_store_is_met_again_at_the_next_tick() -> None:
    bench = await Bench.start()
    packet = await bench.open()
    bench.journals.stop()
    await bench.packets.tick()
    assert await bench.grab(packet, "u1") == UNKNOWN
    bench.journals.start()
    assert (await bench.grab(packet, "u1")).rank == 1


@simulated
async def test_a_delivery_repeated_or_late_is_answered_with_the_watermark() -> None:
    bench = await Bench.start()
    funded = await bench.fund()
    stream = funded.funding.packet_stream
    receive = Receive(funded.source, 0, 0, [transfer_of(funded.funding)])
    for _ in range(2):
        assert await bench.packets.serve(stream, [receive]) == [Watermark(1, 100)]
    for _ in range(2):
        assert await bench.wallets.serve(funded.source, [Acknowledge(stream, 1)]) == [Done()]
    assert await bench.wallets.outgoing() == []


@simulated
async def test_an_audit_of_a_lost_stream_is_no_clean_audit() -> None:
    bench = await Bench.start()
    await bench.open()
    bench.system.replace("packet-shard-0")
    await bench.packets.tick()
    zombie = bench.system.replace("packet-shard-0")
    await bench.packets.tick()
    with pytest.raises((FencedOut, JournalUnavailable)):
        await zombie.report(audit=True)


@simulated
async def test_a_stopped_host_fails_its_waiters_and_appends_nothing() -> None:
    bench = await Bench.start()
    packet = await bench.open()
    gate = bench.journals.hold("append", stream=packet.packet_stream)
    grabbing = asyncio.ensure_future(bench.grab(packet, "u1"))
    await gate.reached()
    await bench.packets.stop()
    gate.release()
    assert await grabbing == UNKNOWN
    won = await bench.grab(packet, "u2")
    assert (won.rank, won.replayed) == (1, False)


@simulated
async def test_a_host_that_was_started_keeps_time_by_itself() -> None:
    bench = await Bench.start()
    packet = await bench.open()
    await bench.packets.start()
    gate = bench.journals.hold("append", stream=packet.packet_stream, applied=True)
    bench.system.clock.ms = packet.expires_at_ms
    await gate.reached()
    gate.release()
    assert await bench.grab(packet, "u1") == Refused(Refusal.EXPIRED)
    await bench.packets.stop()


@simulated
async def test_groups_of_one_call_are_decided_one_after_the_other() -> None:
    bench = await Bench.start()
    packet = await bench.open(count=3)
    groups = [GrabMany(packet.packet_id, TENANT, users) for users in (["u1", "u2"], ["u2", "u3"])]
    first, second = await bench.packets.serve(packet.packet_stream, groups)
    assert [won.rank for won in one_by_one(first, 2)] == [1, 2]
    assert [(won.rank, won.replayed) for won in one_by_one(second, 2)] == [(2, True), (3, False)]
    await bench.packets.stop()


# Our own bugs and zombies that lag behind.


@simulated
async def test_a_zombie_told_of_transfers_it_never_made_is_unavailable_and_harms_nobody() -> None:
    bench = await Bench.start()
    first = await bench.fund("k0")
    stream = first.funding.packet_stream
    zombie = bench.system.replace("wallet-shard-0")
    assert await bench.wallet("alice", ReadWallet(TENANT, "alice")) == WalletView(9_900, 0)
    assert await zombie.serve(first.source, [Acknowledge(stream, 5)]) == [UNAVAILABLE]


@simulated
async def test_a_bug_in_a_machine_ends_the_activation_instead_of_going_on_with_half_a_step() -> None:
    bench = await Bench.start()
    packet = await bench.open()
    shell = await bench.packets.shell(packet.packet_stream)
    shell.machine.decide_grabs = lambda *_, **__: 1 / 0
    with pytest.raises(ZeroDivisionError):
        await bench.packets.serve(packet.packet_stream, [Grab(packet.packet_id, TENANT, "u1")])
    assert shell.dead
    assert (await bench.grab(packet, "u1")).rank == 1


@simulated
async def test_a_bug_in_one_streams_timer_does_not_stop_the_time_of_the_others() -> None:
    bench = await Bench.start()
    first, second = await bench.open("a", stream=P0), await bench.open("b", stream=P1)
    shell = await bench.packets.shell(P0)
    shell.machine.due = lambda *_: 1 / 0
    bench.system.clock.ms = second.expires_at_ms
    await bench.packets.tick()
    assert shell.dead
    await bench.packets.tick()
    bench.system.clock.ms = 0
    assert await bench.grab(first, "u1") == Refused(Refusal.EXPIRED)
    assert await bench.grab(second, "u1") == Refused(Refusal.EXPIRED)
