"""Finale: after the load everything unknown is asked again, packets end if time may pass, and all that there is gets
read: over HTTP by the users it belongs to, and from the journals if the run has them.

Bounded: what is not answered within `PATIENCE_S` is a violation, not a reason to wait.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import NamedTuple

from actors.kernel.errors import OperatingFailure
from cluster.client import ApiProblem, AuditAnswer, PacketAnswer, StatementRow, WalletAnswer
from loadtest.gather import gather
from loadtest.history import Attempt, GrabAttempt, SendAttempt
from loadtest.oracle import FinalState
from loadtest.recorder import DEFINITE, PAUSE_S, PlannedSend, Recorder, now_s, until_told

AT_ONCE = 32
BATCH = 500
PATIENCE_S = 60.0
LINES = 100
LATECOMER = "latecomer"


class Ending(NamedTuple):
    """How a run ends. `passes_ms`: so far the clock is moved, and every packet ends; 0: it is other people's too."""

    passes_ms: int = 0
    asks_all_again: bool = False
    """Also what was acknowledged must be answered the same again."""
    alone: bool = True
    """Nobody else has used the system."""
    late: Callable[[], Awaitable[None]] | None = None
    """What is asked once time has passed."""
    replay: Callable[[], Awaitable[Mapping[str, int]]] | None = None
    """Reads every balance from the journals. Raises OperatingFailure, AssertionError."""


class Finale:
    """The end of one run."""

    def __init__(
        self, recorder: Recorder, credited_fen: Mapping[str, int], ending: Ending, say: Callable[[str], None]
    ) -> None:
        """`credited_fen`: what each user was given; `say` hears what is being done."""
        self._recorder = recorder
        self._credited_fen = dict(credited_fen)
        self._ending = ending
        self._say = say
        self._unanswered: list[str] = []

    async def run(self) -> FinalState:
        """Ask, end and read everything. Raises TimeoutError: there is no audit."""
        recorder, ending = self._recorder, self._ending
        unknown = f"{len(recorder.unknown_sends)} sends and {len(recorder.unknown_grabs)} grabs"
        self._say(f"asking {unknown} of unknown outcome")
        await gather(self._send_again, list(recorder.unknown_sends.values()), AT_ONCE)
        await gather(self._grab_again, sorted(recorder.unknown_grabs), AT_ONCE)
        if ending.asks_all_again:
            self._say("asking again for everything that was acknowledged")
            await gather(self._send_again, self._acknowledged_sends(), AT_ONCE)
        await self._settled("the settlement", lambda audit: audit.in_flight_fen == 0)
        if ending.passes_ms:
            self._say("letting every packet end")
            await self._pass_time(ending.passes_ms)
            if ending.late is not None:
                await ending.late()
            await self._settled("the refunds", lambda audit: audit.in_flight_fen == 0 and audit.remaining_fen == 0)
        if ending.asks_all_again:
            await self._grabs_again()
        self._say("reading every packet, wallet and statement, and the audit")
        final = await self._read()
        if ending.replay is not None:
            self._say("replaying every journal, sealed and live")
            try:
                final.replayed_fen = dict(await ending.replay())
            except (OperatingFailure, AssertionError) as failure:
                final.unanswered.append(f"the journals cannot be replayed: {failure}")
        return final

    # Asking again.

    async def _send_again(self, order: PlannedSend) -> None:
        sent = await self._recorder.send(order, PATIENCE_S)
        if sent.outcome not in DEFINITE:
            self._unanswered.append(f"the send {order.key} of {order.user} is not answered: {sent.code}")

    async def _grab_again(self, wanted: tuple[str, str]) -> None:
        packet_id, user = wanted
        grabbed = await self._recorder.grab(packet_id, user, PATIENCE_S)
        if grabbed.outcome not in DEFINITE:
            self._unanswered.append(f"the grab of {user} in {packet_id} is not answered: {grabbed.code}")

    def _acknowledged_sends(self) -> list[PlannedSend]:
        orders: dict[tuple[str, str], PlannedSend] = {}
        for sent in _sent(self._recorder.history.attempts):
            orders[sent.user, sent.key] = PlannedSend(sent.user, sent.key, sent.kind, sent.total_fen, sent.count)
        return list(orders.values())

    async def _grabs_again(self) -> None:
        """Ask again, through the gateway, for all that was told, now that every packet has ended; and ask for more."""
        known = {
            (attempt.packet_id, attempt.user)
            for attempt in self._recorder.history.attempts
            if isinstance(attempt, GrabAttempt) and attempt.outcome in DEFINITE
        }
        # Somebody who never asked comes to every packet after its end: there is nothing left for them.
        known |= {(packet_id, LATECOMER) for packet_id, _ in known}
        everybody = sorted(known)
        groups = [everybody[first : first + BATCH] for first in range(0, len(everybody), BATCH)]
        await gather(lambda group: self._recorder.batch(group, PATIENCE_S), groups, AT_ONCE)
        for packet_id, user in known & self._recorder.unknown_grabs:
            self._unanswered.append(f"the share of {user} in {packet_id} is not told again")

    # Ending.

    async def _pass_time(self, ms: int) -> None:
        """Move the clock until it is known to have moved. Twice, after a lost answer, only makes it later."""
        end_s = now_s() + PATIENCE_S
        while (problem := await self._recorder.operator.advance_clock(ms)) is not None:
            if now_s() >= end_s:
                self._unanswered.append(f"the clock is not moved: {problem.code}")
                return
            await asyncio.sleep(PAUSE_S)

    async def _settled(self, what: str, holds: Callable[[AuditAnswer], bool]) -> None:
        end_s = now_s() + PATIENCE_S
        while True:
            audit = await self._recorder.operator.audit()
            if not isinstance(audit, ApiProblem) and holds(audit):
                return
            if now_s() >= end_s:
                self._unanswered.append(f"{what} does not end: {audit}")
                return
            await asyncio.sleep(PAUSE_S)

    # Reading.

    async def _read(self) -> FinalState:
        recorder = self._recorder
        sender_of = {sent.packet_id: sent.user for sent in _sent(recorder.history.attempts)}
        packets: dict[str, PacketAnswer | None] = {}
        wallets: dict[str, WalletAnswer] = {}
        statements: dict[str, list[StatementRow]] = {}

        async def read_packet(packet_id: str) -> None:
            answer = await until_told(lambda: recorder.person(sender_of[packet_id]).packet(packet_id), PATIENCE_S)
            if isinstance(answer, PacketAnswer):
                packets[packet_id] = answer
            elif not answer.retryable and not answer.unknown:
                packets[packet_id] = None
            else:
                self._unanswered.append(f"packet {packet_id} cannot be read: {answer.code}")

        async def read_wallet(user: str) -> None:
            person = recorder.person(user)
            wallet = await until_told(person.wallet, PATIENCE_S)
            statement = await until_told(lambda: person.statement(limit=LINES), PATIENCE_S)
            if isinstance(wallet, ApiProblem) or isinstance(statement, ApiProblem):
                self._unanswered.append(f"the wallet of {user} cannot be read")
            else:
                wallets[user], statements[user] = wallet, statement.entries

        await gather(read_packet, sender_of, AT_ONCE)
        users = {attempt.user for attempt in recorder.history.attempts} | self._credited_fen.keys()
        await gather(read_wallet, sorted(users), AT_ONCE)
        audit = await until_told(recorder.operator.audit, PATIENCE_S)
        if isinstance(audit, ApiProblem):
            raise TimeoutError(f"the audit is not answered: {audit.code}")
        return FinalState(
            packets=packets,
            wallets=wallets,
            statements=statements,
            credited_fen=self._credited_fen,
            audit=audit,
            unanswered=self._unanswered,
            ended=bool(self._ending.passes_ms),
            alone=self._ending.alone,
        )


def _sent(attempts: Iterable[Attempt]) -> Iterable[SendAttempt]:
    return (attempt for attempt in attempts if isinstance(attempt, SendAttempt) and attempt.outcome == "ok")
