"""Rains: what one burst leaves, in orders of events that the simulator meets too seldom."""

from actors.kernel.names import User
from actors.transfers.funding import Special
from actors.wallet.commands import Burst, CreditSandbox, ReadWallet, Send
from actors.wallet.replies import WalletView
from tests.simulation.grabbing import grab_one
from tests.simulation.loop import simulated
from tests.simulation.system import TENANT, System

BURST_MS = 300
"""Two bursts end within one second, which is how late the timer may be."""
BOB = User(TENANT, "bob")


async def rain(counts: list[int]) -> tuple[System, Send]:
    """Return a system and a rain of alice's: bursts of 100 fen a share, from now on."""
    system = await System.start()
    await system.service.wallets.ask(CreditSandbox(TENANT, "alice", 10_000))
    starts = [system.clock.ms + number * BURST_MS for number in range(len(counts))]
    bursts = [Burst(at, at + BURST_MS, 100 * count, count) for at, count in zip(starts, counts, strict=True)]
    special = Special(excluded="alice", rolls=True)
    whole = 100 * sum(counts), sum(counts), ""
    return system, Send(TENANT, "alice", "k", "rain", *whole, "even/1", special, bursts=bursts)


@simulated
async def test_before_the_first_share_of_a_burst_all_earlier_ones_have_ended_in_order() -> None:
    system, send = await rain([1, 1, 1])
    funded = await system.service.wallets.send(send)
    system.clock.ms += 2 * BURST_MS
    won = await grab_one(system.service, funded.others[1].packet_id, BOB)
    assert won.amount_fen == 300, "what the first left is in the second, and all that in the third"


@simulated
async def test_what_a_burst_that_opens_too_late_holds_goes_back_once_shares_of_the_next_are_taken() -> None:
    system, send = await rain([1, 2])
    stream = system.service.wallets.stream_of(User(TENANT, "alice"))
    funded = await system.service.wallets.ask_stream(stream, send)  # the gateway dies before it opens them
    system.clock.ms += BURST_MS
    won = await grab_one(system.service, funded.others[0].packet_id, BOB)
    await system.settle()
    [[late], [next_one]] = [
        await system.service.packets.view(one.packet_id, BOB) for one in (funded.funding, funded.others[0])
    ]
    assert (late.state, late.rolled_out_fen, late.refunded_fen) == ("expired", 0, 100)
    assert (next_one.state, next_one.rolled_in_fen, next_one.grabbed_fen) == ("open", 0, won.amount_fen)
    await system.settle()
    wallet = await system.service.wallets.ask(ReadWallet(TENANT, "alice"))
    assert isinstance(wallet, WalletView)
    assert wallet.available_fen == 10_000 - 200
