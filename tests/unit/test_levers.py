"""Levers: what is paused and what goes on, one decision at a time, and how a stream is told."""

from typing import Any

import pytest

from actors.kernel.messages import Done, Refused
from actors.kernel.switches import ReadSwitches, SetSwitch, Switch, Switches, SwitchSet
from actors.ledger.transfer import Settled
from actors.packet.events import Opened
from actors.packet.machine import PacketMachine
from actors.packet.replies import Won
from actors.packet.switches import GRABS, packet_switch
from actors.refusals import Refusal
from actors.transfers.funding import PacketFunded
from actors.transfers.ids import packet_stream, wallet_stream
from actors.wallet.machine import WalletMachine
from actors.wallet.replies import Funded, WalletView
from actors.wallet.switches import SENDS
from cluster.gateway.operator.contract import PausedBody
from cluster.gateway.operator.switches import SwitchFlow
from cluster.gateway.problems import Problem
from tests.simulation.loop import simulated
from tests.simulation.memory_journal import Fault
from tests.simulation.system import TENANT, System, ruled
from tests.unit.samples import (
    DAY_MS,
    NOW_MS,
    PACKET,
    PACKET_RULES,
    SERVICES,
    WALLET,
    WALLET_RULES,
    funding,
    grab,
    packets,
    send,
    wallets,
)

P1 = packet_switch("p1")
END_MS = NOW_MS + DAY_MS
LATER_MS = NOW_MS + 1


def pull(machine: Any, lever: str, paused: bool = True, by: str = "chen", now_ms: int = LATER_MS) -> Any:
    """Decide a lever and apply what follows from it; return the decision."""
    decided = machine.decide_switch(lever, paused, by, now_ms)
    if isinstance(decided, SwitchSet):
        machine.apply(decided)
    return decided


def code(answer: Any) -> str:
    return str(answer.code) if isinstance(answer, Refused) else type(answer).__name__


# Machines.


@pytest.mark.parametrize("lever", [GRABS, P1])
def test_while_grabs_are_paused_nobody_takes_a_fresh_share_and_a_winner_still_hears_his(lever: str) -> None:
    machine = packets(funding())
    first = grab(machine, "u0")
    assert pull(machine, lever) == SwitchSet(lever, True, LATER_MS, "chen")
    assert code(grab(machine, "u1", now_ms=LATER_MS)) == "paused"
    assert grab(machine, "u0", now_ms=LATER_MS) == Won(1, first.amount_fen, NOW_MS, True)
    pull(machine, lever, paused=False)
    assert grab(machine, "u1", now_ms=LATER_MS).rank == 2


def test_a_paused_packet_pauses_no_other() -> None:
    machine = packets(funding(), funding("p2", 2))
    pull(machine, P1)
    assert code(grab(machine, "u", now_ms=LATER_MS)) == "paused"
    assert isinstance(grab(machine, "u", "p2", now_ms=LATER_MS), Won)


def test_resuming_all_grabs_leaves_a_packet_paused_that_was_paused_by_itself() -> None:
    machine = packets(funding())
    pull(machine, P1)
    pull(machine, GRABS)
    pull(machine, GRABS, paused=False)
    assert code(grab(machine, "u", now_ms=LATER_MS)) == "paused"


def test_what_has_ended_says_how_it_ended_also_while_grabs_are_paused() -> None:
    machine = packets(funding("p1", count=1), funding("p2", 2))
    grab(machine, "u0")
    pull(machine, GRABS)
    assert code(grab(machine, "u1", now_ms=LATER_MS)) == "drained"
    assert code(grab(machine, "u1", "p2", now_ms=END_MS)) == "expired"
    assert code(grab(machine, "u2", "p2", now_ms=END_MS)) == "expired"


def test_a_stranger_and_an_unknown_packet_hear_nothing_of_a_pause() -> None:
    machine = packets(funding())
    pull(machine, GRABS)
    assert code(grab(machine, "u", "p9", now_ms=LATER_MS)) == "packet_not_found"
    assert code(grab(machine, "u", now_ms=LATER_MS, tenant="qq")) == "packet_not_found"


def test_a_pause_does_not_prolong_a_packets_life_and_its_lever_ends_with_it() -> None:
    machine = packets(funding())
    pull(machine, P1)
    expired = machine.decide_expiry("p1", END_MS)
    assert expired is not None
    assert expired.amount_fen == 1_000
    machine.apply(expired)
    assert machine.switches == {}
    assert sum(machine.balances().values()) == 0
    assert pull(machine, P1, paused=False, now_ms=END_MS) is None, "what has ended is not paused"
    assert code(pull(machine, P1, now_ms=END_MS)) == "expired"


def test_a_drained_packet_and_an_unknown_one_cannot_be_paused() -> None:
    machine = packets(funding(count=1))
    grab(machine, "u0")
    assert code(pull(machine, P1)) == "drained"
    assert code(pull(machine, packet_switch("p9"))) == "packet_not_found"
    assert code(pull(machine, packet_switch("p9"), paused=False)) == "packet_not_found"


def test_a_funding_in_transit_opens_while_grabs_are_paused() -> None:
    machine = packets()
    pull(machine, GRABS)
    assert isinstance(machine.decide_opening(WALLET, funding()), Opened)


def test_while_sends_are_paused_nobody_funds_a_packet_and_a_repeat_is_still_answered() -> None:
    machine = wallets(10_000)
    funded = send(machine)
    assert pull(machine, SENDS) == SwitchSet(SENDS, True, LATER_MS, "chen")
    assert code(send(machine, "p2", now_ms=LATER_MS)) == "paused"
    assert send(machine, now_ms=LATER_MS) == Funded(WALLET, funded, replayed=True)
    assert code(send(machine, count=4, now_ms=LATER_MS)) == "idempotency_key_reused"
    assert machine.view(TENANT, "sender") == WalletView(9_000, 0)
    pull(machine, SENDS, paused=False)
    assert isinstance(send(machine, "p2", now_ms=LATER_MS), PacketFunded)


def test_nobody_learns_from_a_pause_what_a_wallet_holds() -> None:
    machine = wallets(10)
    pull(machine, SENDS)
    assert code(send(machine, now_ms=LATER_MS)) == "paused", "not: insufficient funds"


def test_settlement_goes_on_while_sends_are_paused() -> None:
    machine = wallets(10_000)
    send(machine)
    pull(machine, SENDS)
    assert machine.outgoing(NOW_MS + 1_000)
    assert machine.decide_settled(PACKET, 1) == Settled(PACKET, 1)


@pytest.mark.parametrize("lever", [GRABS, P1, SENDS])
def test_setting_what_is_set_stages_nothing_and_the_first_pause_stays(lever: str) -> None:
    machine: Any = wallets() if lever == SENDS else packets(funding())
    assert pull(machine, lever, paused=False) is None
    pull(machine, lever)
    assert pull(machine, lever, by="li", now_ms=LATER_MS + 1) is None
    assert machine.switches == {lever: Switch(LATER_MS, "chen")}
    assert machine.stamp_ms == LATER_MS


def test_the_levers_of_a_stream_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.kernel.machine.SWITCHES_MAX", 1)
    machine = packets(funding(), funding("p2", 2))
    pull(machine, P1)
    assert code(pull(machine, packet_switch("p2"))) == "overloaded"
    assert pull(machine, P1, paused=False) is not None


def test_a_stream_restored_from_its_snapshot_is_as_paused_as_before() -> None:
    machine = packets(funding())
    pull(machine, P1)
    pull(machine, GRABS)
    restored = PacketMachine(PACKET, PACKET_RULES, SERVICES)
    restored.restore(machine.snapshot())
    assert code(grab(restored, "u", now_ms=LATER_MS)) == "paused"
    assert restored.switches == machine.switches
    assert restored.snapshot() == machine.snapshot()
    purse = wallets()
    pull(purse, SENDS)
    again = WalletMachine(WALLET, WALLET_RULES, SERVICES)
    again.restore(purse.snapshot())
    assert code(send(again, now_ms=LATER_MS)) == "paused"


def test_deciding_a_lever_changes_nothing() -> None:
    machine = packets(funding())
    before = machine.snapshot()
    machine.decide_switch(P1, True, "chen", NOW_MS)
    assert machine.snapshot() == before


# Streams.


class Bench:
    """A small system and its levers."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.flow = SwitchFlow(system.settings, system.directory)
        self.stream = packet_stream(0)

    @classmethod
    async def start(cls, **override: Any) -> "Bench":
        bench = cls(await System.start(**override))
        await bench.system.tick()
        return bench

    async def ask(self, *commands: Any) -> list[Any]:
        [replies] = await self.system.directory.ask([(self.stream, list(commands))])
        return list(replies)

    async def order(self) -> Switches:
        [reply] = await self.ask(ReadSwitches())
        assert isinstance(reply, Switches)
        return reply

    def set(self, paused: bool, order: Switches, lever: str = GRABS) -> SetSwitch:
        return SetSwitch(lever, paused, "chen", order.epoch, order.asked)


@simulated
async def test_a_pause_that_was_on_its_way_for_long_does_not_undo_a_later_resume() -> None:
    bench = await Bench.start()
    late = bench.set(True, await bench.order())
    assert await bench.ask(bench.set(False, await bench.order())) == [Done()], "it was so already, nothing is staged"
    assert await bench.ask(late) == [Refused(Refusal.OUT_OF_ORDER)]
    assert (await bench.order()).switches == {}


@simulated
async def test_a_lever_meant_for_an_earlier_activation_is_refused() -> None:
    bench = await Bench.start()
    late = bench.set(True, await bench.order())
    bench.system.replace("packet-shard-0")
    assert await bench.ask(late) == [Refused(Refusal.OUT_OF_ORDER)]
    assert await bench.ask(bench.set(True, await bench.order())) == [Done()]


@simulated
async def test_a_pause_is_told_only_once_it_is_durable_and_outlives_its_host() -> None:
    bench = await Bench.start()
    order = await bench.order()
    bench.system.journals.fail("append", Fault.LOST_BEFORE, stream=bench.stream)
    assert await bench.ask(bench.set(True, order)) == [Refused(Refusal.JOURNAL_UNAVAILABLE)]
    assert (await bench.order()).switches == {}
    assert await bench.ask(bench.set(True, await bench.order())) == [Done()]
    bench.system.replace("packet-shard-0")
    assert list((await bench.order()).switches) == [GRABS]


@simulated
async def test_a_lever_is_pulled_also_while_a_stream_refuses_everything_else() -> None:
    bench = await Bench.start(**ruled("packet", commit_events_max=1), **ruled("wallet", commit_events_max=1))
    order = await bench.order()
    first, second = await bench.ask(bench.set(True, order), bench.set(False, Switches(order.epoch, 1, {})))
    assert (first, second) == (Done(), Done())
    shell = await bench.system.members["packet-shard-0"].shell(bench.stream)
    assert shell.machine.switches == {}


@simulated
async def test_the_flow_sets_every_stream_and_goes_on_where_one_did_not_answer() -> None:
    bench = await Bench.start()
    bench.system.journals.fail("append", Fault.LOST_AFTER, stream=packet_stream(1))
    await bench.flow.set_grabs(paused=True, by="chen")
    at_ms = bench.system.clock.ms
    assert await bench.flow.read() == [PausedBody("grabs", None, at_ms, "chen", [])]
    await bench.flow.set_grabs(paused=False, by="chen")
    assert await bench.flow.read() == []


@simulated
async def test_what_is_paused_in_part_is_told_with_what_is_missing_and_may_be_repeated() -> None:
    bench = await Bench.start()
    wallets_left = wallet_stream(1)
    bench.system.journals.fail("append", Fault.LOST_BEFORE, stream=wallets_left, times=1_000)
    with pytest.raises(Problem) as refused:
        await bench.flow.set_sends(paused=True, by="chen")
    assert refused.value.code == "shard_unavailable"
    assert wallets_left in refused.value.detail
    assert wallet_stream(0) not in refused.value.detail
    [told] = await bench.flow.read()
    assert (told.lever, told.missing) == ("sends", [wallets_left])
    bench.system.journals._faults.clear()
    before = {stream: len(stored.elements) for stream, stored in bench.system.journals.stored.items()}
    await bench.flow.set_sends(paused=True, by="li")
    after = {stream: len(stored.elements) for stream, stored in bench.system.journals.stored.items()}
    assert {stream for stream in after if after[stream] > before[stream]} == {wallets_left}
    [told] = await bench.flow.read()
    assert (told.by, told.missing) == ("chen", []), "the first who paused is told"
