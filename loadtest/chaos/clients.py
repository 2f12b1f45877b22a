"""Clients: ask once, write down what came of it, and repeat with the same identity until it is known.

`Clients` knows everybody's token and enters every attempt in the history, also one that is broken off. A client is
patient for a while; what is then still unknown is left for the end of the run, when it is asked again until answered.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from cluster.client import ApiProblem, Client, GrabOrder, ItemAnswer, PacketAnswer, PacketOrder
from loadtest.chaos.history import Attempt, Balance, Grab, History, Outcome, Send, View

TENANT = "wechat"
ATTEMPT_S = 6.0
CONNECTIONS_MAX = 96
BACKOFF_S_MIN, BACKOFF_S_MAX = 0.05, 1.0
GREETING = "恭喜发财"
ANOTHERS = "answer_to_another_request"
"""Our own code for an answer that names another packet, user or terms than were asked for: nobody may be told that."""

A = TypeVar("A", bound=Attempt)


class Order(NamedTuple):
    """A packet that somebody wants to send: the identity and the terms."""

    user: str
    key: str
    kind: str
    total_fen: int
    shares: int


class Clients:
    """Every client of the run, over one pool of connections."""

    def __init__(self, url: str, history: History, token_of: Callable[[str, str], str], seed: int) -> None:
        """`token_of(user, scope)` makes a token; use it as an async context."""
        self.history = history
        self._token_of = token_of
        self._jitter = random.Random(seed)
        # A deadline of zero: one attempt a call. The repeats are ours, because each is a line of the history.
        self._api = Client(url, connections_max=CONNECTIONS_MAX, attempt_s=ATTEMPT_S, deadline_s=0.0)
        self._people: dict[str, Client] = {}
        self.unknown_sends: dict[tuple[str, str], Order] = {}
        self.unknown_grabs: set[tuple[str, str]] = set()
        """(packet id, user)"""

    async def __aenter__(self) -> "Clients":
        """Open the connection pool."""
        await self._api.__aenter__()
        self.gateway = self._api.acting(self._token_of("gateway", "gateway"))
        self.operator = self._api.acting(self._token_of("operator", "operator"))
        return self

    async def __aexit__(self, *exc_details: object) -> None:
        """Close every connection."""
        await self._api.__aexit__(*exc_details)

    def person(self, user: str) -> Client:
        """Return a user's own view of the platform."""
        if user not in self._people:
            self._people[user] = self._api.acting(self._token_of(user, "user"))
        return self._people[user]

    # One attempt.

    async def try_send(self, order: Order) -> Send:
        """Send a packet, once."""
        history = self.history
        attempt = Send(
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
                told = Order(answer.sender, order.key, answer.kind, answer.total_fen, answer.count)
                if told != order:
                    attempt.outcome, attempt.code = "refused", ANOTHERS
        finally:
            history.add(attempt)
        return attempt

    async def try_grab(self, packet_id: str, user: str) -> Grab:
        """Ask for a share, once."""
        attempt = Grab(user=user, packet_id=packet_id, asked_us=self.history.now_us())
        try:
            taken = _told(attempt, await self.person(user).grab(packet_id))
            if taken is not None:
                attempt.rank, attempt.amount_fen = taken.rank, taken.amount_fen
                if (taken.packet_id, taken.user) != (packet_id, user):
                    attempt.outcome, attempt.code = "refused", ANOTHERS
        finally:
            self.history.add(attempt)
        return attempt

    async def try_batch(self, wanted: Sequence[tuple[str, str]]) -> list[Grab]:
        """Let the chat gateway ask for many (packet id, user), once."""
        asked_us = self.history.now_us()
        attempts = [Grab(user=user, packet_id=packet_id, asked_us=asked_us) for packet_id, user in wanted]
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

    async def try_view(self, packet_id: str, sender: str) -> View:
        """Let the sender look at his packet, once."""
        attempt = View(user=sender, packet_id=packet_id, asked_us=self.history.now_us())
        try:
            packet = _told(attempt, await self.person(sender).packet(packet_id))
            if packet is not None:
                attempt.state, attempt.grabbed_fen = packet.state, packet.grabbed_fen
                attempt.shares = [(share.user, share.rank, share.amount_fen) for share in packet.grabs or []]
        finally:
            self.history.add(attempt)
        return attempt

    async def try_balance(self, user: str) -> Balance:
        """Let a user look at his wallet, once."""
        attempt = Balance(user=user, asked_us=self.history.now_us())
        try:
            wallet = _told(attempt, await self.person(user).wallet())
            if wallet is not None:
                attempt.available_fen, attempt.held_fen = wallet.available_fen, wallet.held_fen
        finally:
            self.history.add(attempt)
        return attempt

    # Until it is known.

    async def send(self, order: Order, patience_s: float) -> Send:
        """Send, and repeat while it is not known; after that it is remembered as unknown."""
        attempt = await self._insist(lambda: self.try_send(order), patience_s)
        if attempt.outcome in ("ok", "refused"):
            self.unknown_sends.pop((order.user, order.key), None)
        else:
            self.unknown_sends[order.user, order.key] = order
        return attempt

    async def grab(self, packet_id: str, user: str, patience_s: float) -> Grab:
        """Ask for a share, and repeat while it is not known; after that it is remembered as unknown."""
        attempt = await self._insist(lambda: self.try_grab(packet_id, user), patience_s)
        self.note([attempt])
        return attempt

    def note(self, grabs: Iterable[Grab]) -> None:
        """Remember what is unknown, forget what is known."""
        for grab in grabs:
            if grab.outcome in ("ok", "refused"):
                self.unknown_grabs.discard((grab.packet_id, grab.user))
            else:
                self.unknown_grabs.add((grab.packet_id, grab.user))

    async def _insist(self, attempt_once: Callable[[], Awaitable[A]], patience_s: float) -> A:
        loop = asyncio.get_running_loop()
        end_s = loop.time() + patience_s
        backoff_s = BACKOFF_S_MIN
        while True:
            attempt = await attempt_once()
            if attempt.outcome in ("ok", "refused") or loop.time() + backoff_s >= end_s:
                return attempt
            await asyncio.sleep(backoff_s * self._jitter.uniform(0.75, 1.25))
            backoff_s = min(2 * backoff_s, BACKOFF_S_MAX)


T = TypeVar("T")


def _told(attempt: Attempt, answer: T | ApiProblem) -> T | None:
    """Enter what an attempt was told; return the answer if it is a success."""
    if not isinstance(answer, ApiProblem):
        attempt.outcome, attempt.status = "ok", 200
        return answer
    attempt.status, attempt.code = answer.status, answer.code
    attempt.outcome = _outcome(answer.retryable, answer.unknown)
    return None


def _told_item(attempt: Grab, item: ItemAnswer) -> None:
    attempt.status, attempt.code = 200, item.code
    if item.code:
        attempt.outcome = _outcome(item.unknown, item.unknown)
    else:
        attempt.outcome, attempt.rank, attempt.amount_fen = "ok", item.rank, item.amount_fen


def _outcome(retryable: bool, unknown: bool) -> Outcome:
    if unknown:
        return "unknown"
    return "later" if retryable else "refused"


def packet_is_gone(answer: PacketAnswer | ApiProblem) -> bool:
    """Tell whether the platform says, definitely, that there is no such packet."""
    return isinstance(answer, ApiProblem) and not answer.retryable and not answer.unknown
