"""Asking: clients who commit before they send, ask for lishi, answer them, and thank.

As everywhere, what got no answer is repeated with the same identity, and every answer is explained when it arrives.
"""

from typing import Any

import msgspec

from actors.kernel.names import User
from actors.wallet.commands import (
    AcceptLishi,
    AskLishi,
    CommitSeed,
    DeclineLishi,
    ListLishi,
    ReadLishi,
    Send,
    WriteNote,
)
from actors.wallet.events import Committed
from actors.wallet.replies import Funded, Lishi, LishiList, LishiTold, NoteTold
from cluster.gateway.service import Service
from tests.simulation.clients import LATER, NO_ANSWER, Clients
from tests.simulation.wishes import USERS
from tests.simulation.world import TENANT

ACTIONS = {
    "commit_and_send": 4,
    "send_on_any_commitment": 2,
    "ask_for_lishi": 7,
    "accept": 6,
    "accept_again": 2,
    "decline": 2,
    "look_at_lishi": 3,
    "list_waiting": 3,
    "thank": 6,
    "read_notes": 3,
}
"""What clients do here, and how often beside what `Clients` does."""


def is_open(answer: Any) -> bool:
    """Tell whether the same is to be asked again."""
    return isinstance(answer, str) and answer in LATER | {NO_ANSWER}


class Asking:
    """The clients of one run, as far as they do that."""

    def __init__(self, clients: Clients) -> None:
        self.clients = clients
        self._random = clients.random
        self._auditor = clients.auditor
        self._favours = clients.auditor.favours
        clients.actions |= {name: (often, getattr(self, name)) for name, often in ACTIONS.items()}
        self._asked = 0
        self._commitments: list[tuple[Committed, Send]] = []
        self._asks: list[AskLishi] = []
        self._accepts: list[AcceptLishi] = []
        self.told_accepts: dict[AcceptLishi, Funded] = {}

    def _stream_of(self, lishi_id: str) -> str:
        """Name the stream of a lishi that exists."""
        lishi = self._favours.lishi[lishi_id].now
        return self._auditor.wallet_of((lishi.tenant, lishi.asked))

    # Commitments.

    async def commit(self, wish: Send) -> Committed | None:
        """Somebody asks for a commitment to what he wants to send, as often as the gateway must to get an answer."""
        self._asked += 1
        user, shape = wish.user, (wish.algorithm, wish.star_count, len(wish.bursts))
        command = CommitSeed(TENANT, user, f"token {self._asked}", *shape)
        stream = self._auditor.wallet_of((TENANT, user))
        told: list[Committed] = []

        async def once() -> bool:
            since = self._auditor.mark()
            answer = await self.clients.ask("commit", lambda service: service.wallets.commit(command))
            if is_open(answer):
                return False
            self.clients.world.note("told", user, "commit", answer)
            self._favours.explain_commit(command, answer, since.seq, since.stamps.get(stream, 0))
            if isinstance(answer, Committed):
                told.append(answer)
            return True

        await self.clients.persist(once)
        self._commitments += [(made, wish) for made in told]
        return told[0] if told else None

    async def commit_and_send(self) -> None:
        """Somebody asks for a commitment, and sends with a nonce; now and then it is something else by then."""
        wish = self.clients.wishes.to_commit(self._random.choice(USERS))
        made = await self.commit(wish)
        if made is not None and self._random.random() < 0.8:
            if self._random.random() < 0.1:
                wish = self.clients.wishes.to_commit(made.user)
            await self.send_on(made, wish)

    async def send_on_any_commitment(self) -> None:
        """Somebody sends on a commitment that may be used, over, or another's."""
        if self._commitments:
            made, wish = self._random.choice(self._commitments[-6:])
            user = made.user if self._random.random() < 0.7 else self._random.choice(USERS)
            await self.send_on(made, msgspec.structs.replace(wish, user=user))

    async def send_on(self, made: Committed, wish: Send) -> Send:
        """Somebody sends what he wants under a commitment, with a nonce."""
        send = self.clients.new_send(
            lambda _, key: msgspec.structs.replace(
                wish, key=key, commitment_id=made.packet_id, sender_nonce=f"nonce of {key}"
            )
        )
        await self.clients.repeat_send(send)
        return send

    # Lishi.

    async def ask_for_lishi(self) -> None:
        """Somebody asks another for a packet; or again, perhaps with other words."""
        if self._asks and self._random.random() < 0.2:
            command = self._random.choice(self._asks)
            if self._random.random() < 0.2:
                command = msgspec.structs.replace(command, greeting="please")
            elif self._random.random() < 0.2:
                another = self._random.choice([user for user in USERS if user != command.user])
                command = msgspec.structs.replace(command, asked=another)
        else:
            user, asked = self._random.sample(USERS, 2)
            command = AskLishi(TENANT, user, asked, f"l{len(self._asks)}", "")
            self._asks.append(command)
        own, other = (self._auditor.wallet_of((TENANT, user)) for user in (command.user, command.asked))

        async def once() -> bool:
            since = self._auditor.mark()
            answer = await self.clients.ask("ask", lambda service: service.wallets.ask_lishi(command))
            if is_open(answer):
                return False
            self.clients.world.note("told", command.user, "ask", answer)
            stamps_ms = since.stamps.get(own, 0), since.stamps.get(other, 0)
            self._favours.explain_ask(command, answer, since.seq, *stamps_ms, other)
            return True

        await self.clients.persist(once)

    def _some_lishi(self) -> Lishi | None:
        """Choose one of the newest."""
        known = list(self._favours.lishi.values())[-5:]
        return self._random.choice(known).now if known else None

    async def accept(self) -> None:
        """Who was asked gives something; once in a while it is another who tries."""
        lishi = self._some_lishi()
        if lishi is not None:
            user = lishi.asked if self._random.random() < 0.9 else self._random.choice(USERS)
            amount_fen = self._random.randrange(1, 300)
            command = AcceptLishi(lishi.lishi_id, TENANT, user, f"a{len(self._accepts)}", amount_fen, "")
            self._accepts.append(command)
            if self._random.random() < 0.1:
                self.clients.start(self._accept(command))
            await self._accept(command)

    async def accept_again(self) -> None:
        """Somebody repeats an acceptance, perhaps with another amount or key."""
        if self._accepts:
            command = self._random.choice(self._accepts)
            if self._random.random() < 0.2:
                command = msgspec.structs.replace(command, amount_fen=command.amount_fen + 1)
            elif self._random.random() < 0.2:
                command = msgspec.structs.replace(command, key=f"again {command.key}")
            await self._accept(command)

    async def _accept(self, command: AcceptLishi) -> None:
        async def once() -> bool:
            answer = await self.accept_once(command)
            return not is_open(answer)

        await self.clients.persist(once)

    async def accept_once(self, command: AcceptLishi) -> Any:
        """Accept, and check the answer, which is returned."""
        stream = self._stream_of(command.lishi_id)
        since = self._auditor.mark((command.tenant, command.user))
        answer = await self.clients.ask("accept", lambda service: service.wallets.fund(stream, command))
        if answer == NO_ANSWER:
            return answer
        if isinstance(answer, Funded):
            self.clients.paid(answer)
            first = self.told_accepts.setdefault(command, answer)
            assert first.funding == answer.funding, "the same key gives the same packet"
        self.clients.world.note("told", command.user, "accept", command.key, answer)
        self._auditor.explain_accept(command, answer, since)
        return answer

    async def decline(self) -> None:
        """Who was asked gives nothing."""
        lishi = self._some_lishi()
        if lishi is not None:
            user = lishi.asked if self._random.random() < 0.9 else self._random.choice(USERS)
            await self._about(DeclineLishi(lishi.lishi_id, TENANT, user))

    async def look_at_lishi(self) -> None:
        """One of the two looks, or a third."""
        lishi = self._some_lishi()
        if lishi is not None:
            user = self._random.choice((lishi.asked, lishi.asker, self._random.choice(USERS)))
            await self._about(ReadLishi(lishi.lishi_id, TENANT, user))

    async def _about(self, command: DeclineLishi | ReadLishi) -> None:
        """Ask about one lishi, and check the answer."""
        stream = self._stream_of(command.lishi_id)

        async def once() -> bool:
            since = self._auditor.mark()
            answer = await self._ask_wallet("lishi", stream, command)
            if is_open(answer):
                return False
            self.clients.world.note("told", command.user, "lishi", answer)
            self._favours.explain_lishi(command.lishi_id, TENANT, command.user, answer, since.seq)
            if isinstance(command, DeclineLishi) and isinstance(answer, LishiTold):
                assert answer.lishi.state == "declined"
            return True

        await self.clients.persist(once)

    async def list_waiting(self) -> None:
        """Somebody looks at what waits for his answer."""
        await self.list_once(self._random.choice(USERS))

    async def list_once(self, user: str) -> Any:
        """Look at what waits for somebody's answer, and check it."""
        since = self._auditor.mark()
        stream = self._auditor.wallet_of((TENANT, user))
        answer = await self._ask_wallet("list", stream, ListLishi(TENANT, user))
        if isinstance(answer, LishiList):
            self.clients.world.note("told", user, "waiting", answer)
            self._favours.explain_list(TENANT, user, answer, since.seq)
        else:
            assert is_open(answer), answer
        return answer

    async def _ask_wallet(self, name: str, stream: str, command: Any) -> Any:
        return await self.clients.ask(name, lambda service: service.wallets.ask_stream(stream, command))

    # Notes.

    async def thank(self) -> None:
        """Somebody who has a share thanks the sender; who has none may try."""
        told = list(self.clients.told_shares)[-12:]
        if not told:
            return
        packet_id, user = self._random.choice(told)
        if self._random.random() < 0.1:
            user = self._random.choice(USERS)
        text = self._random.choice(("thanks", "thank you"))

        async def there(service: Service) -> Any:
            """Write as the gateway's route does."""
            lanes = await service.packets.view(packet_id, User(TENANT, user), lines_max=1)
            if not any(lane.reader_rank for lane in lanes):
                return "not_a_taker"
            return await service.wallets.ask_stream(
                service.wallets.payer_of(packet_id), WriteNote(packet_id, user, text, TENANT)
            )

        async def once() -> bool:
            since = self._auditor.mark()
            answer = await self.clients.ask("note", there)
            if is_open(answer):
                return False
            self.clients.world.note("told", user, "note", packet_id, answer)
            if answer == "not_a_taker":
                assert (packet_id, user) not in told, "whoever was told of his share may thank"
            else:
                stamp = answer.at_ms if isinstance(answer, NoteTold) else answer
                self._favours.explain_note(WriteNote(packet_id, user, text, TENANT), stamp, since.seq)
            return True

        await self.clients.persist(once)

    async def read_notes(self) -> None:
        """Somebody reads the notes of a packet."""
        if self.clients.told_shares:
            packet_id, _ = self._random.choice(list(self.clients.told_shares)[-12:])
            since = self._auditor.mark()
            answer = await self.clients.ask("notes", lambda service: service.wallets.notes(packet_id))
            if isinstance(answer, list):
                self.clients.world.note("told", "", "notes", packet_id, answer)
                self._favours.explain_notes(packet_id, answer, since.seq)
            else:
                assert is_open(answer), answer
