"""Finale: once nothing is broken any more, everything unknown is asked until answered, all acknowledged is asked again,
every packet ends, and all there is gets read: over HTTP by those it belongs to, and from the journals alone.

Bounded: whoever is not answered within `PATIENCE_S` is a violation, not a reason to wait.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeVar

import msgspec

from actors.kernel.errors import OperatingFailure
from cluster.client import ApiProblem, AuditAnswer, PacketAnswer, StatementRow, WalletAnswer
from loadtest.chaos.checker import Final
from loadtest.chaos.clients import TENANT, Clients, Order, packet_is_gone
from loadtest.chaos.history import Grab, Send
from loadtest.chaos.probes import PROBER, PROBER_FEN

AT_ONCE = 32
BATCH = 500
PATIENCE_S = 60.0
PAUSE_S = 0.1
LINES = 100
LATECOMER = "latecomer"


X = TypeVar("X")
Y = TypeVar("Y")


async def begin(clients: Clients, credited_fen: dict[str, int]) -> dict[str, int]:
    """Give everybody who sends his money; return who was given what. Raises TimeoutError."""
    credited_fen = {**credited_fen, PROBER: PROBER_FEN}

    async def credit(user: str) -> None:
        created = await _until_told(lambda: clients.operator.create_user(user, TENANT, credited_fen[user]))
        if isinstance(created, ApiProblem):
            raise TimeoutError(f"{user} could not be created: {created.code}")

    await _each(credit, credited_fen)
    return credited_fen


class Finale:
    """The end of one run."""

    def __init__(
        self, clients: Clients, credited_fen: dict[str, int], replay: "Replay", say: Callable[[str], None]
    ) -> None:
        """`replay` reads the journals; `say` hears what is being done."""
        self._clients = clients
        self._replay = replay
        self._credited_fen = credited_fen
        self._say = say
        self._unanswered: list[str] = []
        self.replayed = Replayed()

    async def run(self, lifetime_ms: int) -> Final:
        """Ask, end and read everything."""
        clients = self._clients
        self._say(
            f"asking {len(clients.unknown_sends)} sends and {len(clients.unknown_grabs)} grabs of unknown outcome"
        )
        await _each(self._send_again, list(clients.unknown_sends.values()))
        await _each(self._grab_again, sorted(clients.unknown_grabs))
        self._say("asking again for everything that was acknowledged")
        await _each(self._send_again, self._acknowledged_sends())
        await self._settled("the settlement", lambda audit: audit.in_flight_fen == 0)
        await self._pass_time(lifetime_ms + 1_000)
        await self._settled("the refunds", lambda audit: audit.in_flight_fen == 0 and audit.remaining_fen == 0)
        await self._grabs_again()
        self._say("reading every packet, wallet and statement, and the audit")
        final = await self._read()
        self._say("replaying every journal, sealed and live")
        try:
            self.replayed = await self._replay()
            final.replayed_fen = self.replayed.fen
        except (OperatingFailure, AssertionError) as failure:
            final.unanswered.append(f"the journals cannot be replayed: {failure}")
        return final

    # Asking again.

    async def _send_again(self, order: Order) -> None:
        sent = await self._clients.send(order, PATIENCE_S)
        if sent.outcome not in ("ok", "refused"):
            self._unanswered.append(f"the send {order.key} of {order.user} is not answered: {sent.code}")

    async def _grab_again(self, wanted: tuple[str, str]) -> None:
        packet_id, user = wanted
        grabbed = await self._clients.grab(packet_id, user, PATIENCE_S)
        if grabbed.outcome not in ("ok", "refused"):
            self._unanswered.append(f"the grab of {user} in {packet_id} is not answered: {grabbed.code}")

    def _acknowledged_sends(self) -> list[Order]:
        orders: dict[tuple[str, str], Order] = {}
        for attempt in self._clients.history.attempts:
            if isinstance(attempt, Send) and attempt.outcome == "ok":
                order = Order(attempt.user, attempt.key, attempt.kind, attempt.total_fen, attempt.count)
                orders[order.user, order.key] = order
        return list(orders.values())

    async def _grabs_again(self) -> None:
        """Ask again, through the gateway, for all that was told, now that every packet has ended; and ask for more."""
        known = {
            (attempt.packet_id, attempt.user)
            for attempt in self._clients.history.attempts
            if isinstance(attempt, Grab) and attempt.outcome in ("ok", "refused")
        }

        # Somebody who never asked comes to every packet after its end: there is nothing left for him.
        known |= {(packet_id, LATECOMER) for packet_id, _ in known}

        async def ask(left: list[tuple[str, str]]) -> None:
            end_s = _now_s() + PATIENCE_S
            while left and _now_s() < end_s:
                grabs = await self._clients.try_batch(left)
                left = [(g.packet_id, g.user) for g in grabs if g.outcome not in ("ok", "refused")]
                await asyncio.sleep(PAUSE_S if left else 0)
            self._unanswered += [f"the share of {user} in {packet_id} is not told again" for packet_id, user in left]

        everybody = sorted(known)
        await _each(ask, [everybody[first : first + BATCH] for first in range(0, len(everybody), BATCH)])

    # Ending.

    async def _pass_time(self, ms: int) -> None:
        """Move the clock until it is known to have moved. Twice, after a lost answer, only makes it later."""
        end_s = _now_s() + PATIENCE_S
        while (problem := await self._clients.operator.advance_clock(ms)) is not None:
            if _now_s() >= end_s:
                self._unanswered.append(f"the clock is not moved: {problem.code}")
                return
            await asyncio.sleep(PAUSE_S)

    async def _settled(self, what: str, holds: Callable[[AuditAnswer], bool]) -> None:
        end_s = _now_s() + PATIENCE_S
        while True:
            audit = await self._clients.operator.audit()
            if not isinstance(audit, ApiProblem) and holds(audit):
                return
            if _now_s() >= end_s:
                self._unanswered.append(f"{what} does not end: {audit}")
                return
            await asyncio.sleep(PAUSE_S)

    # Reading.

    async def _read(self) -> Final:
        sender_of = {
            attempt.packet_id: attempt.user
            for attempt in self._clients.history.attempts
            if isinstance(attempt, Send) and attempt.outcome == "ok"
        }
        packets: dict[str, PacketAnswer | None] = {}
        wallets: dict[str, WalletAnswer] = {}
        statements: dict[str, list[StatementRow]] = {}

        async def read_packet(packet_id: str) -> None:
            answer = await _until_told(self._clients.person(sender_of[packet_id]).packet, packet_id)
            if isinstance(answer, PacketAnswer) or packet_is_gone(answer):
                packets[packet_id] = answer if isinstance(answer, PacketAnswer) else None
            else:
                self._unanswered.append(f"packet {packet_id} cannot be read: {answer.code}")

        async def read_wallet(user: str) -> None:
            wallet = await _until_told(self._clients.person(user).wallet)
            statement = await _until_told(lambda: self._clients.person(user).statement(limit=LINES))
            if isinstance(wallet, ApiProblem) or isinstance(statement, ApiProblem):
                self._unanswered.append(f"the wallet of {user} cannot be read")
                return
            wallets[user], statements[user] = wallet, statement.entries

        await _each(read_packet, sender_of)
        users = {attempt.user for attempt in self._clients.history.attempts} | self._credited_fen.keys()
        await _each(read_wallet, sorted(users))
        audit = await _until_told(self._clients.operator.audit)
        if isinstance(audit, ApiProblem):
            raise TimeoutError(f"the audit is not answered: {audit.code}")
        return Final(
            packets=packets,
            wallets=wallets,
            statements=statements,
            credited_fen=self._credited_fen,
            audit=audit,
            unanswered=self._unanswered,
        )


class Replayed(msgspec.Struct):
    """What the journals alone say: every user's balance, and what their streams lived through."""

    fen: dict[str, int] = {}
    entries: int = 0
    activations: int = 0
    snapshots: int = 0
    sealed_parts: int = 0
    passivated: int = 0


async def replay_journals(folder: Path) -> Replayed:
    """Read every stream from its first element, sealed and live, each element verified against the chain.

    Raises JournalCorrupt, JournalUnavailable, AssertionError: a book does not sum to 0.
    """
    # Imported late: these import Ray, which reads its environment then, and `run` has set it meanwhile.
    from actors.kernel.messages import SnapshotTaken
    from actors.kinds import kind_of
    from actors.ledger.accounts import AccountName
    from actors.packet.events import Passivated
    from cluster.journal.archive import manifest_of
    from cluster.offline.sources import ledger_of, sources_of
    from cluster.offline.stream_reader import read_everything

    found = Replayed()
    with ledger_of(folder, "local", None, None, _unheard) as ledger:
        async with sources_of(ledger.settings) as sources:
            for stream in ledger.settings.layout.streams():
                kind, balance = kind_of(stream), Counter[AccountName]()
                async for element in read_everything(sources, stream):
                    found.activations += element.position.seq == 0
                    found.entries += element.position.seq > 0
                    for event in element.events:
                        found.snapshots += isinstance(event, SnapshotTaken)
                        found.passivated += len(event.packet_ids) if isinstance(event, Passivated) else 0
                        for posting in kind.postings_of(event):
                            balance[posting.account] += posting.amount_fen
                assert sum(balance.values()) == 0, f"the book of {stream} does not sum to 0"
                for account, amount_fen in balance.items():
                    if account[0] == "change" and amount_fen:
                        found.fen[account[2]] = found.fen.get(account[2], 0) + amount_fen
                found.sealed_parts += len(await manifest_of(sources.journals, stream))
    return found


Replay = Callable[[], Awaitable[Replayed]]


def _unheard(words: str) -> None:
    """Report to nobody: the system runs, so there is nothing to tell."""


def _now_s() -> float:
    return asyncio.get_running_loop().time()


async def _until_told(ask: Callable[..., Awaitable[X | ApiProblem]], *arguments: object) -> X | ApiProblem:
    """Ask until the answer is definite or patience has ended."""
    end_s = _now_s() + PATIENCE_S
    while True:
        answer = await ask(*arguments)
        if not isinstance(answer, ApiProblem) or not (answer.retryable or answer.unknown) or _now_s() >= end_s:
            return answer
        await asyncio.sleep(PAUSE_S)


async def _each(work: Callable[[Y], Awaitable[None]], items: Iterable[Y]) -> None:
    """Do the same for every item, `AT_ONCE` at once."""
    waiting = iter(list(items))

    async def one() -> None:
        for item in waiting:
            await work(item)

    async with asyncio.TaskGroup() as workers:
        for _ in range(AT_ONCE):
            workers.create_task(one())
