"""Clients: people and chat gateways over unreliable wires, who repeat what they got no answer to, and remember.

Every request goes through some gateway replica. An outcome that nobody knows (no answer, `journal_unavailable`,
`shard_unavailable`, `overloaded`), or a pause, is asked again with the same identity, a few times, then later, then
once more when all faults are over. Every answer is explained by the auditor when it arrives, and compared with what was
told before.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from random import Random
from typing import Any

import msgspec
from ray.exceptions import RayError

from actors.kernel.messages import Refused
from actors.kernel.names import User
from actors.packet.replies import Won
from actors.packet.switches import GRABS, packet_of
from actors.transfers.ids import Layout, packet_id_of
from actors.wallet.commands import CreditSandbox, ReadStatement, ReadWallet, Send
from actors.wallet.replies import Funded, Statement, WalletView
from actors.wallet.switches import SENDS
from cluster.gateway.packet.grab_items import Asked
from cluster.gateway.problems import Problem
from cluster.gateway.service import Service
from tests.simulation.auditor import UNDECIDED
from tests.simulation.grabbing import grab_each, grab_one
from tests.simulation.marks import Mark
from tests.simulation.recount import hash_of
from tests.simulation.wishes import USERS, Wishes, asks_for_words, words_for
from tests.simulation.world import KEYS, TENANT, World

BALANCE_FEN = 8_000
POOR_FEN = 700
"""What every third user has: soon too little."""
STRANGERS = "qq"
"""A tenant to whom no packet belongs."""

TRIES_MAX = 4
PATIENCE_S = 4.0
NO_ANSWER = "no answer"
LATER = UNDECIDED | {"paused", "seed_unknown"}
"""Codes after which the same is asked again."""

ACTIONS = {
    "send": 30,
    "send_twice": 2,
    "send_half": 4,
    "send_again": 4,
    "send_other": 2,
    "grab_early": 2,
    "rush": 10,
    "catch": 8,
    "grab_hot": 12,
    "grab_cold": 20,
    "crowd": 8,
    "chat_gateway": 10,
    "grab_again": 6,
    "grab_nothing": 2,
    "grab_as_stranger": 1,
    "look": 10,
    "read_wallet": 8,
    "read_statement": 4,
}
"""What clients do, and how often."""


async def credited(service: Service, command: CreditSandbox) -> Any:
    """Give a user money."""
    return await service.wallets.ask(command)


class Clients:
    """Everybody outside, in one process that never fails."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.auditor = world.auditor
        self.random = world.random("clients")
        self.process = world.loop.process("clients")
        self.actions = {name: (often, getattr(self, name)) for name, often in ACTIONS.items()}
        """What they do, and how often."""
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.wishes = Wishes(self.random, world.now_ms)
        self.sends: list[Send] = []
        self.packets: list[str] = []
        """Packets that somebody was told of, or that the journals know, oldest first."""
        self.told_shares: dict[tuple[str, str], tuple[int, int, int]] = {}
        self.told_new: set[tuple[str, str]] = set()
        self.told_sends: dict[tuple[str, str], tuple[Send, Funded]] = {}
        """(user, key) -> the send, and what it paid for"""
        self.refused: dict[tuple[str, str], str] = {}
        """(packet id, user) -> the code that he heard last"""
        self.right_words = 0.7
        """Probability that somebody knows the phrase, or is of the group."""
        self.levers: dict[str, None] = {}
        """Levers that the operator ever wanted to set, in order."""
        self._under_way: dict[asyncio.Task[None], None] = {}

    async def begin(self) -> None:
        """Give everybody money."""
        for number, user in enumerate(USERS):
            amount_fen = POOR_FEN if number % 3 == 2 else BALANCE_FEN
            reply = await self.ask("credit", partial(credited, command=CreditSandbox(TENANT, user, amount_fen)))
            assert isinstance(reply, WalletView), reply

    async def act(self, steps: int) -> None:
        """Do so many things, some at once and some after a while."""
        random = self.random
        names, weights = list(self.actions), [often for often, _ in self.actions.values()]
        for _ in range(steps):
            if random.random() < 0.8:
                pause_s = random.random() * 0.15
            else:
                pause_s = 0.0 if random.random() < 0.8 else random.random() * 3
            await asyncio.sleep(pause_s)
            name = random.choices(names, weights)[0]
            self.start(self.actions[name][1]())

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Let a client go about something."""
        task = self.world.loop.spawn(self.process, self._checked(work))
        self._under_way[task] = None
        task.add_done_callback(self._under_way.pop)

    async def _checked(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception as contradiction:
            self.world.found_bug(contradiction)

    async def all_answered(self) -> None:
        """Return once nobody waits for anything."""
        while self._under_way:
            await asyncio.gather(*self._under_way, return_exceptions=True)

    # Asking.

    async def ask(self, name: str, work: Callable[[Service], Coroutine[Any, Any, Any]]) -> Any:
        """Ask some gateway once; the code of a refusal, or NO_ANSWER, are answers too."""
        gateway = self.random.choice(self.world.gateways)
        self.asked[name] += 1

        async def there() -> Any:
            try:
                return await work(gateway.service)
            except Problem as problem:
                return problem.code

        try:
            answer = await asyncio.wait_for(self.world.network.call(self.process, gateway.process, there), PATIENCE_S)
        except (RayError, TimeoutError):
            answer = NO_ANSWER
        code = answer.code if isinstance(answer, Refused) else answer
        self.answered[code if isinstance(code, str) else "ok"] += 1
        return answer

    async def move_clock(self, advance_ms: int) -> None:
        """The operator moves the sandbox clock; perhaps he gets no answer."""
        world, gateway = self.world, self.random.choice(self.world.gateways)
        moving = world.network.call(self.process, gateway.process, lambda: world.advance_clock(gateway, advance_ms))
        with suppress(RayError, TimeoutError):
            await asyncio.wait_for(moving, PATIENCE_S)

    def newest_packet(self) -> str:
        """Return the packet that was told last, or one that never was."""
        return self.packets[-1] if self.packets else "a" * 32

    async def set_lever(self, lever: str, random: Random, *, paused: bool) -> str:
        """The operator pauses something or lets it go on; return "done", the code of a problem, or NO_ANSWER."""
        self.levers[lever] = None
        gateway, packet_id = random.choice(self.world.gateways), packet_of(lever)
        since = self.auditor.mark()

        async def there() -> str:
            flow = gateway.levers
            try:
                if packet_id is not None:
                    await flow.set_packet(packet_id, paused=paused, by="operator")
                elif lever == SENDS:
                    await flow.set_sends(paused=paused, by="operator")
                else:
                    assert lever == GRABS
                    await flow.set_grabs(paused=paused, by="operator")
            except Problem as problem:
                return problem.code
            return "done"

        try:
            answer = await asyncio.wait_for(self.world.network.call(self.process, gateway.process, there), PATIENCE_S)
        except (RayError, TimeoutError):
            answer = NO_ANSWER
        self.world.note("told", "operator", lever, paused, answer)
        if answer != NO_ANSWER:
            try:
                self.auditor.explain_lever(lever, paused, answer, since)
            except Exception as contradiction:
                self.world.found_bug(contradiction)
        return str(answer)

    async def persist(self, once: Callable[[], Coroutine[Any, Any, bool]]) -> bool:
        """Repeat until the outcome is known, or patience ends."""
        for _ in range(TRIES_MAX):
            if await once():
                return True
            await asyncio.sleep(0.02 + self.random.random() * self.random.choice((0.1, 1.0)))
        return False

    # Sending.

    async def send_once(self, send: Send) -> bool:
        """Send, and check the answer; tell whether there was one."""
        since = self.auditor.mark((TENANT, send.user))
        answer = await self.ask("send", lambda service: service.wallets.send(send))
        if answer == NO_ANSWER:
            return False
        if isinstance(answer, Funded):
            self.paid(answer)
            _, first = self.told_sends.setdefault((send.user, send.key), (send, answer))
            assert (first.funding, first.others) == (answer.funding, answer.others), (
                "the same key gives the same packet"
            )
        self.world.note("told", send.user, "send", send.key, answer)
        self.auditor.explain_send(send, answer, since)
        return isinstance(answer, Funded) or answer not in LATER

    def paid(self, funded: Funded) -> None:
        """Tell everybody of what was paid for."""
        for funding in (funded.funding, *funded.others):
            self.learn(funding.packet_id.partition(".")[0])

    def learn(self, packet_id: str) -> None:
        """Tell everybody of a packet."""
        if packet_id not in self.packets:
            self.packets.append(packet_id)

    def new_send(self, think: Callable[[str, str], Send] | None = None) -> Send:
        """Think of a send that nobody made before."""
        send = (think or self.wishes.any)(self.random.choice(USERS), f"k{len(self.sends)}")
        self.sends.append(send)
        return send

    async def send(self) -> None:
        """Somebody sends a packet."""
        await self.repeat_send(self.new_send())

    async def send_twice(self) -> None:
        """Somebody presses the button twice."""
        send = self.new_send()
        self.start(self.repeat_send(send))
        await self.repeat_send(send)

    async def repeat_send(self, send: Send) -> None:
        """Send until there is an answer."""
        await self.persist(lambda: self.send_once(send))

    async def send_half(self) -> None:
        """Somebody's gateway dies between the payment and the opening: nobody is told anything."""
        send = self.new_send()
        stream = self.auditor.wallet_of((TENANT, send.user))
        await self.ask("half a send", lambda service: service.wallets.ask_stream(stream, send))
        packet_ids = list(self.auditor.packet_ids)[-3:]
        if packet_ids:
            await asyncio.sleep(self.random.random())
            await self.grab(self.random.choice(packet_ids), self.random.choice(USERS))

    async def send_again(self) -> None:
        """Somebody repeats an old send."""
        if self.sends:
            await self.repeat_send(self.random.choice(self.sends))

    async def send_other(self) -> None:
        """Somebody uses an old key for another packet."""
        if self.sends:
            send = self.random.choice(self.sends)
            more_fen = 0 if send.bursts else send.count
            await self.repeat_send(msgspec.structs.replace(send, total_fen=send.total_fen + more_fen, greeting="other"))

    # Grabbing.

    def asks(self, packet_id: str, user: str) -> tuple[Asked, bool]:
        """Return what somebody says who wants a packet, and whether it is what the packet asks for."""
        fundings = self.auditor.fundings.get(self.auditor.lanes_of(packet_id)[0])
        if not fundings or not asks_for_words(fundings[0]):
            return packet_id, bool(fundings)
        right = self.random.random() < self.right_words
        if right:
            self.auditor.admitted.add((packet_id, user))
        return words_for(fundings[0], right=right), right

    def told(self, packet_id: str, user: str, reply: Any, since: Mark, *, said: bool) -> bool:
        """Check the answer to a grab; tell whether there was one."""
        if reply == NO_ANSWER:
            return False
        if isinstance(reply, str):
            reply = Refused(reply)
        self.world.note("told", user, "grab", packet_id, reply)
        self.auditor.explain_grab(packet_id, user, reply, since, said=said)
        if isinstance(reply, Won):
            share = reply.rank, reply.amount_fen, reply.at_ms
            first = self.told_shares.setdefault((packet_id, user), share)
            assert first == share, "the same request gives the same answer"
            assert reply.replayed or (packet_id, user) not in self.told_new, "a share is new once"
            if not reply.replayed:
                self.told_new.add((packet_id, user))
            return True
        self.refused[packet_id, user] = reply.code
        return reply.code not in LATER

    async def grab_once(self, packet_id: str, user: str) -> bool:
        """Grab, and check the answer."""
        since = self.auditor.mark(packet_id=packet_id)
        asked, said = self.asks(packet_id, user)
        reply = await self.ask("grab", lambda service: service.grabs.take(asked, TENANT, user))
        return self.told(packet_id, user, reply, since, said=said)

    async def grab(self, packet_id: str, user: str) -> None:
        """Grab until there is an answer."""
        await self.persist(lambda: self.grab_once(packet_id, user))

    async def grabs_once(self, wanted: list[tuple[str, str]]) -> bool:
        """Grab for many, and check every answer."""
        since = {packet_id: self.auditor.mark(packet_id=packet_id) for packet_id, _ in wanted}
        asks = [self.asks(packet_id, user) for packet_id, user in wanted]
        asked = [(what, user) for (what, _), (_, user) in zip(asks, wanted, strict=True)]
        replies = await self.ask("batch", lambda service: grab_each(service, asked, TENANT))
        if replies == NO_ANSWER:
            return False
        told = [
            self.told(packet_id, user, reply, since[packet_id], said=said)
            for (packet_id, user), (_, said), reply in zip(wanted, asks, replies, strict=True)
        ]
        return all(told)

    def some_packet(self) -> str:
        """Choose a packet, a new one more often; sometimes one whose sender does not know yet that it is paid."""
        known = self.packets
        if self.random.random() < 0.3:
            known = list(self.auditor.packet_ids)
        if not known:
            return "a" * 32
        return known[-1 - min(int(self.random.expovariate(0.3)), len(known) - 1)]

    async def grab_hot(self) -> None:
        """Several people grab the newest packet at once, one request each."""
        if self.packets:
            packet_id = self.packets[-1]
            for user in self.random.sample(USERS, self.random.randrange(2, 6)):
                self.start(self.grab(packet_id, user))

    async def grab_cold(self) -> None:
        """Somebody grabs a packet."""
        await self.grab(self.some_packet(), self.random.choice(USERS))

    async def crowd(self) -> None:
        """A chat gateway grabs one packet for everybody, for some twice."""
        packet_id = self.some_packet()
        wanted = [(packet_id, user) for user in self.random.sample(USERS, len(USERS))]
        await self.persist(lambda: self.grabs_once(wanted + wanted[:3]))

    async def rush(self) -> None:
        """People grab a packet in lanes at once; most of them have the same lane of their own."""
        divided = [packet_id for packet_id in self.auditor.divided if self.auditor.has_shares(packet_id)]
        if divided:
            packet_id = self.random.choice(divided[-2:])
            own = self.random.randrange(2)
            neighbours = [user for user in USERS if hash_of(TENANT, user) % 2 == own]
            for user in self.random.sample(neighbours, 4) + self.random.sample(USERS, 2):
                await asyncio.sleep(self.random.choice((0.0, 0.0, 0.02)))
                self.start(self.grab(packet_id, user))

    async def catch(self) -> None:
        """People wait for the bursts of a rain, and grab as they open."""
        rains = list(self.auditor.rains)[-2:]
        for packet_id in self.auditor.rains[self.random.choice(rains)] if rains else []:
            [funding, *_] = self.auditor.fundings[packet_id]
            assert funding.special is not None
            while self.world.now_ms() < funding.special.opens_at_ms:  # the operator may move the clock meanwhile
                left_s = (funding.special.opens_at_ms - self.world.now_ms()) / 1_000
                await asyncio.sleep(min(left_s, 0.2))
            for user in self.random.sample(USERS, self.random.randrange(3)):
                self.start(self.grab(packet_id, user))

    async def chat_gateway(self) -> None:
        """A chat gateway grabs packets for its users."""
        wanted = [(self.some_packet(), self.random.choice(USERS)) for _ in range(self.random.randrange(2, 8))]
        await self.persist(lambda: self.grabs_once(wanted))

    async def grab_early(self) -> None:
        """Somebody grabs a packet before it is sent, and again afterwards, through every gateway."""
        send = self.new_send(self.wishes.plain)
        layout = Layout.of(self.world.settings.layout)
        places = layout.packet, layout.wallet
        packet_id = packet_id_of(KEYS.key(KEYS.first), TENANT, send.user, send.key, *places)
        for _ in range(3):
            await self.grab_once(packet_id, self.random.choice(USERS))
        await self.repeat_send(send)
        for _ in range(3):
            await self.grab_once(packet_id, self.random.choice(USERS))

    async def grab_again(self) -> None:
        """Somebody who has a share asks again, perhaps long after the end."""
        if self.told_shares:
            shares = list(self.told_shares)
            await self.grab(*shares[int(self.random.random() * len(shares))])

    async def grab_nothing(self) -> None:
        """Somebody grabs what was never sent."""
        await self.grab("a" * 24 + "bcdefgh2", self.random.choice(USERS))

    async def grab_as_stranger(self) -> None:
        """Somebody of another tenant grabs; for him there is no such packet."""
        packet_id = self.some_packet()
        reply = await self.ask("grab", lambda service: grab_one(service, packet_id, User(STRANGERS, "u0")))
        assert reply in UNDECIDED | {NO_ANSWER, "packet_not_found"}, reply

    # Reading.

    async def look(self) -> None:
        """Somebody looks at a packet."""
        await self.look_once(self.some_packet())

    async def look_once(self, packet_id: str) -> Any:
        """Look at a packet, all its lanes, and check what is seen."""
        since = self.auditor.mark(packet_id=packet_id)
        reader = User(TENANT, self.random.choice(USERS))
        reply = await self.ask("look", lambda service: service.packets.view(packet_id, reader))
        if reply != NO_ANSWER:
            if isinstance(reply, str):
                reply = Refused(reply)
            self.world.note("told", "", "look", packet_id, reply)
            self.auditor.explain_view(packet_id, reply, since)
        return reply

    async def read_wallet(self) -> None:
        """Somebody looks at his balance."""
        await self.wallet_once(self.random.choice(USERS))

    async def wallet_once(self, user: str) -> Any:
        """Look at a balance, and check it."""
        since = self.auditor.mark((TENANT, user))
        reply = await self.ask("wallet", lambda service: service.wallets.ask(ReadWallet(TENANT, user)))
        if isinstance(reply, WalletView):
            self.world.note("told", user, "wallet", reply)
            self.auditor.explain_wallet((TENANT, user), reply, since)
        else:
            assert reply in UNDECIDED | {NO_ANSWER}, reply
        return reply

    async def read_statement(self) -> None:
        """Somebody looks at his lines."""
        user = self.random.choice(USERS)
        since = self.auditor.mark((TENANT, user))
        reply = await self.ask("statement", lambda service: service.wallets.ask(ReadStatement(TENANT, user, 5, None)))
        if isinstance(reply, Statement):
            self.world.note("told", user, "statement", reply)
            self.auditor.explain_statement((TENANT, user), reply, since)
        else:
            assert reply in UNDECIDED | {NO_ANSWER}, reply
