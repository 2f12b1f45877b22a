"""Population: decides who sends which packet and who comes to grab, from a recorded seed.

The minute 00:05 of 2016-01-01: 2.4 M packets sent and 6.2 M opened (1 : 2.6), and about 3.7 attempts for every open.
A packet has 1 to 100 shares, so these means say that most packets go to one person or to a small crowd that is larger
than the packet (many come too late), that large packets seldom find enough people, and that a few are hot.
Successes follow from a plan alone, whatever the order of arrival: min(shares, people who come).

Packets are dealt from shuffled decks, so that every few hundred packets come near the ratios. Amounts in fen.
"""

import random
from collections.abc import Iterator
from typing import NamedTuple

OPENS_PER_SEND = 2.6
ATTEMPTS_PER_OPEN = 3.7
SHARE_FEN_MAX = 20_000
SEED = 2_016
"""The recorded seed of `hongbao demo`: near the ratios after a few hundred packets already."""

BALANCE_FEN = 10_000_000
GROUP_PEOPLE = 500
"""A chat group of the time has at most 500 members; a packet's crowd comes from one."""

_TAP_TWICE = 0.03
_BATCHED = 0.10
_EQUAL = 0.25
_LATE = 0.06
_MEAN_SHARES_FEN = (1, 10, 66, 88, 100, 168, 188, 520, 666, 888, 1_888, 2_016, SHARE_FEN_MAX)
_MEAN_SHARES_WEIGHTS = (2, 4, 8, 12, 12, 12, 10, 10, 8, 8, 4, 4, 1)


class Occasion(NamedTuple):
    """A kind of packet: how many in a deck, how many shares, how many people come."""

    name: str
    packets: int
    shares: tuple[int, int]
    people: tuple[int, int]


DECK = (
    Occasion("to one person", 84, (1, 1), (1, 1)),
    Occasion("never opened", 10, (1, 8), (0, 0)),
    Occasion("small, in a group", 72, (1, 4), (10, 28)),
    Occasion("larger than its crowd", 24, (5, 20), (2, 8)),
    Occasion("a hundred shares, few people", 9, (40, 100), (3, 14)),
    Occasion("hot", 1, (20, 100), (150, 250)),
)


class PacketPlan(NamedTuple):
    """One packet and everybody who will try it. People are indexes into the population."""

    number: int
    occasion: str
    sender: int
    kind: str
    total_fen: int
    shares: int
    taps: tuple[int, ...]
    """In order; who is impatient stands in it twice."""
    batched: bool
    """Through a chat gateway's batch route instead of one request for each tap."""
    late: tuple[int, ...]
    """Who comes only after a day, when the packet has expired."""

    @property
    def opens(self) -> int:
        """How many of the taps must succeed."""
        return min(self.shares, len(set(self.taps)))

    @property
    def attempts(self) -> int:
        """How many grabs will be asked for."""
        return len(self.taps) + len(self.late)


def user_name(run: str, index: int) -> str:
    """Name a person of a run, e.g. ("5e1f", 7) -> "demo-5e1f-0007"."""
    return f"demo-{run}-{index:04d}"


def plans(seed: int, users: int) -> Iterator[PacketPlan]:
    """Deal packets without end. The same seed and number of users give the same packets."""
    assert users >= 2, "a packet needs a sender and somebody else"
    rng = random.Random(seed)
    deck = [occasion for occasion in DECK for _ in range(occasion.packets)]
    number = 0
    while True:
        rng.shuffle(deck)
        for occasion in deck:
            yield _plan(rng, occasion, number, users)
            number += 1


def _plan(rng: random.Random, occasion: Occasion, number: int, users: int) -> PacketPlan:
    shares = rng.randint(*occasion.shares)
    kind, total_fen = _money(rng, shares)
    people = min(rng.randint(*occasion.people), users)
    taps = _crowd(rng, people, users)
    late: tuple[int, ...] = ()
    if rng.random() < _LATE:
        # One user who was there already and hears the old answer again, and one who never was.
        late = (*taps[:1], rng.randrange(users))
    return PacketPlan(
        number=number,
        occasion=occasion.name,
        sender=rng.randrange(users),
        kind=kind,
        total_fen=total_fen,
        shares=shares,
        taps=taps,
        batched=people > 1 and rng.random() < _BATCHED,
        late=late,
    )


def _money(rng: random.Random, shares: int) -> tuple[str, int]:
    """Choose kind and total: never less than one fen a share, never more than the greatest share."""
    mean_fen = rng.choices(_MEAN_SHARES_FEN, _MEAN_SHARES_WEIGHTS)[0]
    total_fen = mean_fen * shares
    if rng.random() < _EQUAL:
        return "equal", total_fen
    return "lucky", min(total_fen + rng.randrange(shares), SHARE_FEN_MAX * shares)


def _crowd(rng: random.Random, people: int, users: int) -> tuple[int, ...]:
    """Draw distinct people of one chat group, some of whom tap twice."""
    first = rng.randrange(users)
    group = min(max(GROUP_PEOPLE, people), users)
    crowd = [(first + place) % users for place in rng.sample(range(group), people)]
    for person in tuple(crowd):
        if rng.random() < _TAP_TWICE:
            crowd.insert(rng.randint(0, len(crowd)), person)
    return tuple(crowd)
