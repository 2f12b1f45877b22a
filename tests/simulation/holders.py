"""Holders: clients who reserve money, take it, give it back, or let it expire.

As everywhere, what got no answer is repeated with the same identity, and every answer is explained when it arrives.
"""

from typing import Any

import msgspec

from actors.ledger.holds import Hold, HoldTold, PostHold, VoidHold
from tests.simulation.asking import is_open
from tests.simulation.clients import Clients
from tests.simulation.wishes import USERS
from tests.simulation.world import TENANT

ACTIONS = {"reserve": 6, "end_hold": 6, "end_any_hold": 2, "reserve_again": 2}
"""What clients do here, and how often beside what `Clients` does."""


class Holders:
    """The clients of one run, as far as they hold money."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._random = clients.random
        self._auditor = clients.auditor
        clients.actions |= {name: (often, getattr(self, name)) for name, often in ACTIONS.items()}
        self.holds: list[Hold] = []
        self.told: dict[str, HoldTold] = {}
        """hold id -> how it ended, as somebody was told"""

    async def ask(self, command: Hold | PostHold | VoidHold, of: Hold) -> Any:
        """Ask once, and check the answer, which is returned. `of`: the hold that is spoken of."""
        who = of.tenant, of.user
        stream, since = self._auditor.wallet_of(who), self._auditor.mark(who)
        answer = await self._clients.ask("hold", lambda service: service.wallets.ask_stream(stream, command))
        if is_open(answer):
            return answer
        self._clients.world.note("told", of.user, "hold", command, answer)
        self._auditor.holds.explain(command, answer, self._auditor, stream, since)
        if isinstance(answer, HoldTold) and answer.state != "open":
            self.told[of.hold_id] = answer
        return answer

    async def _persist(self, command: Hold | PostHold | VoidHold, of: Hold) -> None:
        async def once() -> bool:
            return not is_open(await self.ask(command, of))

        await self._clients.persist(once)

    async def reserve(self) -> None:
        """Somebody reserves money, sometimes more than they have; now and then twice at once."""
        amount_fen = self._random.choice((1, 20, 200, 3_000))
        lifetime_ms = self._random.choice((300, 1_500, 3_000, 60_000))
        hold = Hold(f"h{len(self.holds)}", TENANT, self._random.choice(USERS), amount_fen, lifetime_ms)
        self.holds.append(hold)
        if self._random.random() < 0.1:
            self._clients.start(self._persist(hold, hold))
        await self._persist(hold, hold)

    async def reserve_again(self) -> None:
        """Somebody repeats an old hold, perhaps with another amount."""
        if self.holds:
            hold = self._random.choice(self.holds[-8:])
            more_fen = int(self._random.random() < 0.2)
            await self._persist(msgspec.structs.replace(hold, amount_fen=hold.amount_fen + more_fen), hold)

    async def end_hold(self) -> None:
        """Somebody takes or gives back what was held lately."""
        if self.holds:
            await self._end(self._random.choice(self.holds[-4:]))

    async def end_any_hold(self) -> None:
        """Somebody takes or gives back what may be forgotten, or has never been held."""
        if self.holds:
            await self._end(self._random.choice(self.holds))

    async def _end(self, hold: Hold) -> None:
        end = PostHold if self._random.random() < 0.4 else VoidHold
        if self._random.random() < 0.1:
            self._clients.start(self._persist(end(hold.hold_id), hold))
        await self._persist(end(hold.hold_id), hold)

    async def told_again(self) -> None:
        """How a hold ended is told again, as long as it is remembered."""
        for hold in self.holds:
            told, stream = self.told.get(hold.hold_id), self._auditor.wallet_of((hold.tenant, hold.user))
            if told is None:
                continue
            seq = self._auditor.mark().seq
            answer = await self.ask(hold, hold)
            if not self._auditor.holds.is_kept(hold.hold_id, seq, self._auditor.stamp_ms(stream)):
                continue
            assert isinstance(answer, HoldTold) or answer == "idempotency_key_reused", f"{told} turned into {answer}"
