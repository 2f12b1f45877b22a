"""Answers: read what the platform said to one request, and decide whether and when its client asks again. Pure.

A 429 is an answer; a definite refusal is never repeated; what may have taken effect unseen is `unknown`. The jitter of
a repeat follows from the seed, the arrival and the attempt. Durations in milliseconds, money in fen.
"""

import random
from typing import NamedTuple

import msgspec

from cluster.client import (
    BACKOFF_MS_MAX,
    BACKOFF_MS_MIN,
    BROKEN_CONTRACT,
    NO_ANSWER,
    RETRYABLE_ITEM_CODES,
    BatchAnswer,
    GrabAnswer,
    ItemAnswer,
    PacketAnswer,
    WalletAnswer,
    problem_of,
)
from loadtest.scenarios.load_profile import Clients
from loadtest.scenarios.orders import Item
from loadtest.scenarios.schedule import BATCH, GRAB, SEND, SLOW, STREAM, VIEW, Arrival

GRABS = frozenset({GRAB, BATCH, STREAM, SLOW})
SHED = frozenset({"overloaded", "rate_limited"})
"""Codes of a platform that has no time now."""

GAVE_UP = "gave_up"
"""No answer came within the time that the client gives it."""

HALF_SENT, LEFT = "half_sent", "left"
"""What clients note who sent half a request, or did not wait for the answer: no answer came, by design."""

SENDERS_PATIENCE = 5
_TAKEN = msgspec.json.Decoder(GrabAnswer)
_PACKET = msgspec.json.Decoder(PacketAnswer)
_WALLET = msgspec.json.Decoder(WalletAnswer)
_RESULTS = msgspec.json.Decoder(BatchAnswer)


class Answer(NamedTuple):
    """What became of a request. `code` is empty for a success."""

    code: str = ""
    unknown: bool = False
    retry_after_ms: int = 0
    items: tuple[Item, ...] = ()
    seen: PacketAnswer | None = None
    again: tuple[int, ...] = ()
    """The people whose request may be repeated."""


def read_answer(arrival: Arrival, user: str, status: int, content: bytes, retry_after: str) -> Answer:
    """Read an answer to an arrival; status 0: none came. `user` is the name of who acts."""
    if status == 0:
        return failed(arrival, NO_ANSWER, unknown=True, again=True)
    if not 200 <= status < 300:
        problem = problem_of(status, content, retry_after)
        answer = failed(arrival, problem.code, unknown=problem.unknown, again=problem.retryable)
        return answer._replace(retry_after_ms=problem.retry_after_ms)
    try:
        return _success(arrival, user, status, content)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return failed(arrival, BROKEN_CONTRACT, unknown=True, again=False)


def failed(arrival: Arrival, code: str, *, unknown: bool, again: bool) -> Answer:
    """Return the answer of a request that did not succeed for anybody."""
    grabbing = arrival.people if arrival.route in GRABS else ()
    items = tuple(Item(person, code=code, unknown=unknown) for person in grabbing)
    return Answer(code, unknown, items=items, again=arrival.people if again else ())


def _success(arrival: Arrival, user: str, status: int, content: bytes) -> Answer:
    if arrival.route in (SEND, VIEW):
        packet = _PACKET.decode(content)
        terms = packet.kind, packet.total_fen, packet.count
        if status != (201 if arrival.route == SEND else 200) or arrival.parcel not in (None, terms):
            return failed(arrival, BROKEN_CONTRACT, unknown=True, again=False)
        return Answer(seen=msgspec.structs.replace(packet, grabs=None))
    if arrival.route == BATCH:
        results = _RESULTS.decode(content).results
        if len(results) != len(arrival.people):
            return failed(arrival, BROKEN_CONTRACT, unknown=True, again=False)
        return of_results(arrival.people, results)
    if arrival.route in GRABS:
        taken = _TAKEN.decode(content)
        if taken.user != user:
            return failed(arrival, BROKEN_CONTRACT, unknown=True, again=False)
        return Answer(items=(Item(arrival.people[0], taken.rank, taken.amount_fen),))
    return _wallet(arrival, content)


def _wallet(arrival: Arrival, content: bytes) -> Answer:
    wallet = _WALLET.decode(content)
    if wallet.available_fen < 0:
        return failed(arrival, BROKEN_CONTRACT, unknown=False, again=False)
    return Answer()


def of_results(people: tuple[int, ...], results: list[ItemAnswer]) -> Answer:
    """Return the answer to a batch, or to a line of a stream."""
    pairs = list(zip(people, results, strict=True))
    items = tuple(Item(person, item.rank, item.amount_fen, item.code) for person, item in pairs)
    return Answer(items=items, again=tuple(person for person, item in pairs if item.code in RETRYABLE_ITEM_CODES))


def repeat_after_ms(clients: Clients, seed: int, arrival: Arrival, answer: Answer) -> int | None:
    """Return after how long the client asks again; None: it does not."""
    # A sender keeps at it: without their packet nobody comes, and there is no load.
    attempts_max = clients.attempts_max * (SENDERS_PATIENCE if arrival.route == SEND else 1)
    if not answer.again or arrival.attempt + 1 >= attempts_max:
        return None
    if not clients.polite:
        return 0
    backoff_ms = min(BACKOFF_MS_MIN << min(arrival.attempt, 10), BACKOFF_MS_MAX)
    jitter = random.Random(f"{seed} {arrival.number} {arrival.attempt}").uniform(1.0, 1.25)
    return int(max(answer.retry_after_ms, backoff_ms) * jitter)
