"""Recorder: asks for users over HTTP, once or until it is known, and enters every attempt in the history.

An attempt that is broken off is entered too. A request is repeated with the same identity for a while; what is then
still unknown is remembered, and asked again at the end of the run.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from cluster.client import (
    RETRYABLE_ITEM_CODES,
    ApiProblem,
    Backoff,
    Client,
    GrabOrder,
    ItemAnswer,
    PacketOrder,
)
from cluster.commands.terminal import Failure
from loadtest.gather import gather
from loadtest.history import Attempt, BalanceAttempt, GrabAttempt, History, Outcome, SendAttempt, ViewAttempt
from loadtest.target import TENANT

ATTEMPT_S = 6.0
CONNECTIONS_MAX = 96
PATIENCE_S = 12.0
CREATION_S = 30.0
PAUSE_S = 0.1
DEFINITE = frozenset({"ok", "refused"})
GREETING = "恭喜发财"
ANOTHERS = "answer_to_another_request"
"""Our own code for an answer that names another packet, user or terms than were asked for: nobody may be told that."""

A = TypeVar("A", bound=Attempt)
T = TypeVar("T")


class PlannedSend(NamedTuple):
    """A packet that somebody wants to send: the identity and the terms."""

    user: str
    key: str
    kind: str
    total_fen: int
    shares: int


class Recorder:
    """Every user of the run, over one pool of connections."""

    def __init__(
        self,
        url: str,
        history: History,
        token_of: Callable[[str, str], str],
        seed: int = 0,
        *,
        connections_max: int = CONNECTIONS_MAX,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """`token_of(user, scope)` returns a token; `patience_s`: so long a request is repeated. An async context."""
        self.history = history
        self.patience_s = patience_s
        self._token_of = token_of
        self._chance = random.Random(seed).random
        # A deadline of zero is one attempt per call. The repeats are ours, because each is a line of the history.
        self.client = Client(url, connections_max=connections_max, attempt_s=ATTEMPT_S, deadline_s=0.0)
        self._people: dict[str, Client] = {}
        self.unknown_sends: dict[tuple[str, str], PlannedSend] = {}
        self.unknown_grabs: set[tuple[str, str]] = set()
        """(packet id, user)"""
        self.undecided: Counter[str] = Counter()
        """Requests that were given up before their outcome was known, by the last code."""

    async def __aenter__(self) -> "Recorder":
        """Open the connection pool."""
        await self.client.__aenter__()
        self.gateway = self.client.acting(self._token_of("gateway", "gateway"))
        self.operator = self.client.acting(self._token_of("operator", "operator"))
        return self

    async def __aexit__(self, *exc_details: object) -> None:
        """Close every connection."""
        await self.client.__aexit__(*exc_details)

    def person(self, user: str) -> Client:
        """Return a user's own view of the platform."""
        if user not in self._people:
            self._people[user] = self.client.acting(self._token_of(user, "user"))
        return self._people[user]

    # One attempt.

    async def try_send(self, order: PlannedSend) -> SendAttempt:
        """Send a packet, once."""
        history = self.history
        attempt = SendAttempt(
            user=order.user,
            key=order.key,
            kind=order.kind,
            total_fen=order.total_fen,
            count=order.shares,
            asked_us=history.now_us(),
        )
        try:
            terms = PacketOrder(order.kind, order.total_fen, order.shares, greeting=GREETING)
            asked = self.person(order.user).send(terms, key=order.key)
            answer = _told(attempt, await asked)
            if answer is not None:
                attempt.packet_id, attempt.open = answer.packet_id, True
                told = PlannedSend(answer.sender, order.key, answer.kind, answer.total_fen, answer.count)
                if told != order:
                    attempt.outcome, attempt.code = "refused", ANOTHERS
        finally:
            history.add(attempt)
        return attempt

    async def try_grab(self, packet_id: str, user: str) -> GrabAttempt:
        """Ask for a share, once."""
        attempt = GrabAttempt(user=user, packet_id=packet_id, asked_us=self.history.now_us())
        try:
            taken = _told(attempt, await self.person(user).grab(packet_id))
            if taken is not None:
                attempt.rank, attempt.amount_fen = taken.rank, taken.amount_fen
                if (taken.packet_id, taken.user) != (packet_id, user):
                    attempt.outcome, attempt.code = "refused", ANOTHERS
        finally:
            self.history.add(attempt)
        return attempt

    async def try_batch(self, wanted: Sequence[tuple[str, str]]) -> list[GrabAttempt]:
        """Let the chat gateway ask for many (packet id, user), once."""
        asked_us = self.history.now_us()
        attempts = [GrabAttempt(user=user, packet_id=packet_id, asked_us=asked_us) for packet_id, user in wanted]
        try:
            answer = await self.gateway.grab_batch([GrabOrder(*each) for each in wanted])
            if isinstance(answer, ApiProblem):
                for attempt in attempts:
                    _told(attempt, answer)
            else:
                for attempt, item in zip(attempts, answer, strict=True):
                    _told_item(attempt, item)
        finally:
            for attempt in attempts:
                self.history.add(attempt)
        return attempts

    async def try_view(self, packet_id: str, sender: str) -> ViewAttempt:
        """Let a sender look at their packet, once."""
        attempt = ViewAttempt(user=sender, packet_id=packet_id, asked_us=self.history.now_us())
        try:
            packet = _told(attempt, await self.person(sender).packet(packet_id))
            if packet is not None:
                for name in ("state", "total_fen", "count", "grabbed_count", "grabbed_fen", "refunded_fen"):
                    setattr(attempt, name, getattr(packet, name))
                attempt.shares = None
                if packet.grabs is not None:
                    attempt.shares = [(share.user, share.rank, share.amount_fen) for share in packet.grabs]
        finally:
            self.history.add(attempt)
        return attempt

    async def try_balance(self, user: str) -> BalanceAttempt:
        """Let a user look at their wallet, once."""
        attempt = BalanceAttempt(user=user, asked_us=self.history.now_us())
        try:
            wallet = _told(attempt, await self.person(user).wallet())
            if wallet is not None:
                attempt.available_fen, attempt.held_fen = wallet.available_fen, wallet.held_fen
        finally:
            self.history.add(attempt)
        return attempt

    # Until it is known.

    async def send(self, order: PlannedSend, patience_s: float | None = None) -> SendAttempt:
        """Send, and repeat while the outcome is not known; after that it is remembered as unknown."""
        attempt = await self._insist(lambda: self.try_send(order), patience_s)
        if attempt.outcome in DEFINITE:
            self.unknown_sends.pop((order.user, order.key), None)
        else:
            self.unknown_sends[order.user, order.key] = order
            self.undecided[attempt.code] += 1
        return attempt

    async def grab(self, packet_id: str, user: str, patience_s: float | None = None) -> GrabAttempt:
        """Ask for a share, and repeat while the outcome is not known; after that it is remembered as unknown."""
        attempt = await self._insist(lambda: self.try_grab(packet_id, user), patience_s)
        self.note([attempt])
        return attempt

    async def batch(self, wanted: Sequence[tuple[str, str]], patience_s: float | None = None) -> None:
        """Let the chat gateway ask for many (packet id, user), and for those again whose outcome is not known."""
        ends_s, backoff = self._ends_s(patience_s), Backoff(self._chance)
        left = list(wanted)
        while left:
            grabs = await self.try_batch(left)
            self.note([grab for grab in grabs if grab.outcome in DEFINITE])
            undecided = [grab for grab in grabs if grab.outcome not in DEFINITE]
            left = [(grab.packet_id, grab.user) for grab in undecided]
            if not left or not await _pause(backoff.pause_s(), ends_s):
                self.note(undecided)
                return

    def note(self, grabs: Iterable[GrabAttempt]) -> None:
        """Remember what is unknown, forget what is known."""
        for grab in grabs:
            if grab.outcome in DEFINITE:
                self.unknown_grabs.discard((grab.packet_id, grab.user))
            else:
                self.unknown_grabs.add((grab.packet_id, grab.user))
                self.undecided[grab.code] += 1

    async def _insist(self, attempt_once: Callable[[], Awaitable[A]], patience_s: float | None) -> A:
        ends_s, backoff = self._ends_s(patience_s), Backoff(self._chance)
        while True:
            attempt = await attempt_once()
            if attempt.outcome in DEFINITE or not await _pause(backoff.pause_s(), ends_s):
                return attempt

    def _ends_s(self, patience_s: float | None) -> float:
        return now_s() + (self.patience_s if patience_s is None else patience_s)


async def _pause(pause_s: float, ends_s: float) -> bool:
    """Wait; False, at once, where patience ends before."""
    if now_s() + pause_s >= ends_s:
        return False
    await asyncio.sleep(pause_s)
    return True


def now_s() -> float:
    """Return the time of the running loop."""
    return asyncio.get_running_loop().time()


async def until_told(ask: Callable[[], Awaitable[T | ApiProblem]], patience_s: float) -> T | ApiProblem:
    """Ask until the answer is definite or patience has ended."""
    ends_s = now_s() + patience_s
    while True:
        answer = await ask()
        definite = not isinstance(answer, ApiProblem) or not (answer.retryable or answer.unknown)
        if definite or not await _pause(PAUSE_S, ends_s):
            return answer


async def create_users(operator: Client, balances_fen: Mapping[str, int], at_once: int) -> dict[str, str]:
    """Create sandbox users; return their tokens. Raises Failure."""

    async def create(user: str) -> str:
        created = await until_told(lambda: operator.create_user(user, TENANT, balances_fen[user]), CREATION_S)
        if isinstance(created, ApiProblem):
            raise Failure(f"user {user} could not be created: the platform {created.told}; is it a sandbox?")
        return created.token

    tokens = await gather(create, balances_fen, at_once)
    return dict(zip(balances_fen, tokens, strict=True))


def _told(attempt: Attempt, answer: T | ApiProblem) -> T | None:
    """Enter what an attempt was told; return the answer if it is a success."""
    if not isinstance(answer, ApiProblem):
        attempt.outcome, attempt.status = "ok", 200
        return answer
    attempt.status, attempt.code = answer.status, answer.code
    attempt.outcome = _outcome(answer.retryable, answer.unknown)
    return None


def _told_item(attempt: GrabAttempt, item: ItemAnswer) -> None:
    attempt.status, attempt.code = 200, item.code
    if item.code:
        attempt.outcome = _outcome(item.code in RETRYABLE_ITEM_CODES, item.unknown)
    else:
        attempt.outcome, attempt.rank, attempt.amount_fen = "ok", item.rank, item.amount_fen


def _outcome(retryable: bool, unknown: bool) -> Outcome:
    return "unknown" if unknown else "later" if retryable else "refused"
