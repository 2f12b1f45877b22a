"""Finale: once nothing fails any more, everything that was promised is asked for. Refusing everybody is not enough.

Every deadline here is of virtual time, and generous: it is met, or something hangs.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from actors.kernel.timer import SLOT_MS
from actors.kinds import kind_of
from actors.packet.replies import Won
from actors.wallet.commands import Send
from actors.wallet.replies import Funded, LishiList, WalletView
from actors.wallet.rules import WalletRules
from cluster.gateway.operator.switches import SwitchFlow
from cluster.gateway.service import Service
from cluster.offline.stream_reader import Sources
from cluster.offline.verify import verify
from cluster.runtime.directory import ShardUnavailable
from cluster.runtime.live_audit import audit
from tests.books import balances, book_sum
from tests.simulation.asking import Asking
from tests.simulation.clients import Clients
from tests.simulation.grabbing import grab_each
from tests.simulation.holders import Holders
from tests.simulation.store import Connection
from tests.simulation.wishes import USERS
from tests.simulation.world import RESTART_US, TENANT, World

SOON_S = 30.0

FAR_MS = 60_000
"""Farther than anybody waits: whoever did not learn that so much time passed is found out."""

BATCH = 20

QUIET_CHANCE = 0.4
"""Of a run at whose end nobody asks for anything before all packets have ended by themselves."""


async def everything_ends_well(world: World, clients: Clients, asking: Asking, holders: Holders) -> None:
    """Ask for everything. Raises AssertionError."""
    await asyncio.sleep(RESTART_US[1] / 1e6)  # what died last is there again
    # A doubled request may still be on its way, and what was refused once may be possible by now.
    await asyncio.sleep(max(0, world.network.last_due_us - world.loop.now_us) / 1e6)
    await all_resumed(world, clients)
    if world.random("finale").random() < QUIET_CHANCE:
        await all_over(world, clients, asking, blackout=True)  # nobody asks: packets end and money moves by themselves
        await all_served(world, clients)
        await told_again(clients, asking)
        await holders.told_again()
        await open_or_ended(world, clients)
        await all_over(world, clients, asking)
    else:
        await all_served(world, clients)
        await told_again(clients, asking)
        await holders.told_again()
        await all_opened(world)
        await open_or_ended(world, clients)
        await send_the_last(clients, asking)
        await all_over(world, clients, asking)
    await books_agree(world, clients)


async def all_resumed(world: World, clients: Clients) -> None:
    """What was paused goes on once the operator says so, and no earlier request of his undoes it."""
    if not clients.levers:
        return
    timing, random = world.settings.timing, world.random("resuming")
    # An attempt that he gave up may still be made until its own deadline.
    await asyncio.sleep((timing.request_deadline_ms + 2 * timing.shard_call_ms) / 1_000)
    for lever in clients.levers:
        for _ in range(20):
            if await clients.set_lever(lever, random, paused=False) in ("done", "packet_not_found"):
                break
            await asyncio.sleep(0.5)
        else:
            raise AssertionError(f"{lever} cannot be resumed although nothing fails")
    assert world.auditor.pauses.nothing_is_on(), "what was paused goes on"
    assert await SwitchFlow(world.settings, world.directory).read() == [], "nothing is said to be paused"


async def until(condition: Callable[[], bool], promise: str) -> None:
    """Wait until it is so. Raises AssertionError."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + SOON_S
    while not condition():
        assert loop.time() < deadline_s, f"not within {SOON_S} s: {promise}"
        await asyncio.sleep(0.2)


async def all_served(world: World, clients: Clients) -> None:
    """Every wallet can be read again."""
    for user in USERS:
        for _ in range(20):
            if isinstance(await clients.wallet_once(user), WalletView):
                break
            await asyncio.sleep(0.5)
        else:
            raise AssertionError(f"the wallet of {user} is not served although nothing fails")


async def sent_again(service: Service, send: Send) -> Funded:
    """Send what was sent before."""
    return await service.wallets.send(send)


async def told_again(clients: Clients, asking: Asking) -> None:
    """A success, once told, is told again."""
    world = clients.world
    told = list(clients.told_shares.items())
    for begin in range(0, len(told), BATCH):
        wanted = [grab for grab, _ in told[begin : begin + BATCH]]
        replies = await clients.ask("batch", partial(grab_each, asked=wanted, tenant=TENANT))
        for (_, share), reply in zip(told[begin : begin + BATCH], replies, strict=True):
            assert isinstance(reply, Won), f"a success turned into {reply}"
            assert (reply.rank, reply.amount_fen, reply.at_ms, reply.replayed) == (*share, True), "told otherwise"
    for send, sent in clients.told_sends.values():
        if not world.auditor.forgotten(sent.funding):
            again = await clients.ask("send", partial(sent_again, send=send))
            assert isinstance(again, Funded), f"a sent packet turned into {again}"
            assert (again.funding, again.others) == (sent.funding, sent.others), "a packet was sent otherwise before"
            assert again.replayed
    for accept, given in asking.told_accepts.items():
        answer = await asking.accept_once(accept)
        told_so = isinstance(answer, Funded) or world.auditor.forgotten(given.funding)
        assert told_so, f"an accepted lishi turned into {answer}"


async def all_opened(world: World) -> None:
    """What was paid for opens."""
    auditor = world.auditor
    await until(lambda: len(auditor.packets) == len(auditor.fundings), "every packet that was paid for is opened")


async def open_or_ended(world: World, clients: Clients) -> None:
    """What is open can be taken, what is over says so, and everything can be looked at."""
    auditor = world.auditor
    taker_of = {packet_id: taker(world, packet_id) for packet_id in auditor.packet_ids}
    clients.right_words = 1.0
    wanted = list(taker_of.items())
    for begin in range(0, len(wanted), BATCH):
        assert await clients.grabs_once(wanted[begin : begin + BATCH]), "a packet that is there gives no answer"
    for packet_id, user in wanted:
        states = {auditor.packets[lane].state for lane in auditor.lanes_of(packet_id)}
        ended = "expired" in states or states == {"drained"}
        waits = clients.refused.get((packet_id, user)) in ("not_open", "day_limit", "rate_limited")
        assert ended or waits or (packet_id, user) in clients.told_shares, "what is open can be taken"
        seen = await clients.look_once(packet_id)
        assert isinstance(seen, list), f"a packet that is there cannot be looked at: {seen}"


def taker(world: World, packet_id: str) -> str:
    """Return who may take a packet."""
    special = world.auditor.fundings[world.auditor.lanes_of(packet_id)[0]][0].special
    return "latecomer" if special is None or not special.addressee else special.addressee


async def send_the_last(clients: Clients, asking: Asking) -> None:
    """Whoever has money can send."""
    user = USERS[0]
    if clients.auditor.balance_fen((TENANT, user)) >= 2:
        last = Send(TENANT, user, "the last", "lucky", 2, 2, "")
        sent = await clients.persist(lambda: clients.send_once(last))
        assert sent, "somebody with money cannot send"
        wish = Send(TENANT, user, "", "lucky", 2, 2, "", "even/1")
        made = await asking.commit(wish)
        who, auditor = (TENANT, user), clients.auditor
        if made is not None and auditor.balance_fen(who) >= 2:
            had_room = auditor.sent_lately.has_room(who, auditor.mark().stamps.get(auditor.wallet_of(who), 0))
            nonced = await asking.send_on(made, wish)
            assert (user, nonced.key) in clients.told_sends or not had_room, "a fresh commitment can be used"


async def pass_time(world: World, clients: Clients, until_ms: int) -> None:
    """Move the sandbox clock beyond a moment."""
    while world.now_ms() <= until_ms:
        await clients.move_clock(until_ms - world.now_ms() + 1)
        await asyncio.sleep(0.1)


async def all_over(world: World, clients: Clients, asking: Asking, *, blackout: bool = False) -> None:
    """After its time every packet has ended, and all money has arrived."""
    auditor = world.auditor
    if blackout:
        await pass_time(world, clients, world.now_ms() + FAR_MS)
        await send_the_last(clients, asking)
        for member in list(world.members.values()):
            world.loop.kill(member.process)  # who comes back must learn by himself what there is to do, and the time
    await all_opened(world)
    if not blackout:
        over_ms = max((life.funding.expires_at_ms for life in auditor.packets.values()), default=0)
        await pass_time(world, clients, max(over_ms, auditor.holds.last_expiry_ms() + SLOT_MS))
    await until(lambda: all(life.state != "open" for life in auditor.packets.values()), "every packet ends at its time")
    await until(lambda: auditor.in_flight_fen() == 0, "all money arrives")
    await until(lambda: auditor.holds.open_fen() == 0, "what nobody takes is given back in time")
    await nothing_waits(world, clients, asking)
    left_fen = sum(history[-1] for history in auditor.balances.values())
    assert left_fen + auditor.holds.taken_fen == auditor.credited_fen


async def nothing_waits(world: World, clients: Clients, asking: Asking) -> None:
    """Whoever was asked for a packet has answered, or it has lapsed."""
    lapses_ms = max((one.now.lapses_at_ms for one in world.auditor.favours.lishi.values()), default=0)
    # A stream whose host's clock was ahead counts from its own stamps.
    await pass_time(
        world, clients, max(world.now_ms() + world.settings.rules(WalletRules).lishi.lifetime_ms, lapses_ms)
    )
    for user in USERS:
        for _ in range(20):
            answer = await asking.list_once(user)
            if isinstance(answer, LishiList):
                assert answer.lishi == [], "a lishi lapses in time"
                break
            await asyncio.sleep(0.5)
        else:
            raise AssertionError(f"{user} cannot see what waits for him although nothing fails")


async def books_agree(world: World, clients: Clients) -> None:
    """Machines, journals replayed by the platform's own auditor, and ours tell the same."""
    auditor = world.auditor
    journals: Any = Connection(world.store, clients.process)
    await until(lambda: not auditor.unsettled(), "every source hears that its money has arrived")
    for _ in range(20):
        try:
            report = await audit(world.directory, world.settings)
            break
        except ShardUnavailable:
            await asyncio.sleep(0.5)
    assert (report.difference_fen, report.in_flight_fen, report.fen("remaining_fen"), report.clean) == (0, 0, 0, True)
    for user in [*USERS, "latecomer"]:
        view = await clients.wallet_once(user)
        assert isinstance(view, WalletView), view
        assert view.available_fen == auditor.balance_fen((TENANT, user))
    streams = list(world.settings.streams)
    if world.archive is not None:
        verified = await verify(Sources(journals, journals.codec, world.archive), streams)
        assert verified.whole, f"the chain is broken: {[one.bad for one in verified.streams if one.bad]}"
        return
    for stream in streams:
        book = await balances(journals, journals.codec, stream)
        assert book_sum(book) == 0, f"the book of {stream} does not sum to 0"
        chart = kind_of(stream).chart()
        wrong = [account for account, amount_fen in book.items() if chart[account[0]].forbids(amount_fen)]
        assert not wrong, f"in {stream} the balances of {wrong} have the wrong sign"
