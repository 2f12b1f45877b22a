"""Schedule: decides who asks what at which instant, before anything is asked, from a profile and its seed alone.

- Open loop: instants follow from the profile, never from answers. A slow system meets the same crowd as a fast one.
- The same profile gives the same arrivals, in any process. `parts` processes divide them by packet: a packet and all
  who come for it belong to one of them, and together they ask exactly what one process would.
- Packets come as a Poisson stream whose rate follows the shape; people come after a moment and then ever more rarely.

Instants in milliseconds from the beginning of the load, money in fen. Pure: the clock is somebody else's.
"""

import heapq
import random
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from loadtest.population import PacketPlan, plans
from loadtest.scenarios.load_profile import Bursts, Profile

REACH_MS = 300
"""Nobody taps sooner after a packet was sent."""

MEAN_TAP_MS = 1_500
TAP_MS_MAX = 8_000
MEAN_SHARE_FEN = 100
VIEW_MS = (200, 1_500)

SEND, GRAB, BATCH, STREAM, SLOW, VIEW, WALLET = "send", "grab", "batch", "stream", "slow", "view", "wallet"


class PlannedPacket(NamedTuple):
    """What a sender pays for."""

    kind: str
    total_fen: int
    shares: int


class Arrival(NamedTuple):
    """One request that is to be made. Arrivals compare by instant, then by number."""

    due_ms: int
    number: int
    """Of the arrival, unique in a run; a repeat keeps it."""
    route: str
    packet: int
    """Its plan's number."""
    people: tuple[int, ...]
    """Indexes into the population: who acts."""
    parcel: PlannedPacket | None = None
    attempt: int = 0


class _Wave(NamedTuple):
    """A packet and everybody who comes for it, in milliseconds."""

    sent_ms: int
    sender: int
    parcel: PlannedPacket
    coming: list[tuple[int, str, tuple[int, ...]]]


def arrivals(profile: Profile, part: int = 0, parts: int = 1) -> Iterator[Arrival]:
    """Yield what one of `parts` processes has to ask, in order of time."""
    pending: list[Arrival] = []
    made = 0
    for packet, wave in enumerate(_waves(profile)):
        asked = [(wave.sent_ms, SEND, (wave.sender,)), *wave.coming]
        if made + len(asked) > profile.bounds.requests_max:
            break
        while pending and pending[0].due_ms <= wave.sent_ms:
            yield heapq.heappop(pending)
        if packet % parts == part:
            for place, (due_ms, route, people) in enumerate(asked):
                parcel = wave.parcel if route == SEND else None
                heapq.heappush(pending, Arrival(due_ms, made + place, route, packet, people, parcel))
        made += len(asked)
    while pending:
        yield heapq.heappop(pending)


def _waves(profile: Profile) -> Iterator[_Wave]:
    """Yield all packets in order of time."""
    sources = []
    if profile.shape:
        sources.append(_ordinary(profile, random.Random(f"{profile.seed} ordinary")))
    if profile.bursts is not None:
        sources.append(_burst_packets(profile, profile.bursts, random.Random(f"{profile.seed} bursts")))
    yield from heapq.merge(*sources, key=lambda wave: wave.sent_ms)


def _ordinary(profile: Profile, rng: random.Random) -> Iterator[_Wave]:
    dealt = plans(profile.seed, profile.users)
    for sent_ms in _instants(profile, rng):
        plan = next(dealt)
        parcel = PlannedPacket(plan.kind, plan.total_fen, plan.shares)
        yield _Wave(sent_ms, plan.sender, parcel, list(_coming(profile, plan, sent_ms, rng)))


def _instants(profile: Profile, rng: random.Random) -> Iterator[int]:
    """Yield when packets are sent: exponential gaps in what the shape has summed up to."""
    needed = rng.expovariate(1.0)
    begin_s, summed = 0.0, 0.0
    for (minute, level), (next_minute, next_level) in pairwise(profile.shape):
        seconds = (next_minute - minute) * profile.minute_s
        first, last = level * profile.packets_per_second, next_level * profile.packets_per_second
        area = (first + last) / 2 * seconds
        while summed + area >= needed and area > 0:
            yield int(1_000 * (begin_s + _root(first, (last - first) / seconds, needed - summed)))
            needed += rng.expovariate(1.0)
        begin_s += seconds
        summed += area


def _root(first: float, slope: float, area: float) -> float:
    """Return the time after which a rate that begins at `first` and grows by `slope` has summed up to `area`."""
    return float(2 * area / (first + max(first * first + 2 * slope * area, 0.0) ** 0.5))


def _coming(
    profile: Profile, plan: PacketPlan, sent_ms: int, rng: random.Random
) -> Iterator[tuple[int, str, tuple[int, ...]]]:
    delays = sorted(min(rng.expovariate(1 / MEAN_TAP_MS), TAP_MS_MAX) for _ in plan.taps)
    if plan.batched:
        yield sent_ms + REACH_MS + int(delays[0]), BATCH, plan.taps
        return
    for person, delay_ms in zip(plan.taps, delays, strict=True):
        yield from _single(profile, person, sent_ms + REACH_MS + int(delay_ms), rng)


def _single(
    profile: Profile, person: int, due_ms: int, rng: random.Random
) -> Iterator[tuple[int, str, tuple[int, ...]]]:
    """One user taps, and may then look at the packet or at their money."""
    route = STREAM if profile.clients.door == "stream" else GRAB
    if rng.random() < profile.clients.slow_share:
        route = SLOW
    yield due_ms, route, (person,)
    if rng.random() < profile.view_share:
        yield due_ms + rng.randint(*VIEW_MS), VIEW, (person,)
    if rng.random() < profile.wallet_share:
        yield due_ms + rng.randint(*VIEW_MS), WALLET, (person,)


def _burst_packets(profile: Profile, bursts: Bursts, rng: random.Random) -> Iterator[_Wave]:
    people = min(bursts.people, profile.users)
    for burst in range(bursts.times):
        begin_ms = int(1_000 * (bursts.first_s + burst * bursts.every_s))
        leads = sorted((rng.uniform(REACH_MS, 1_000 * bursts.lead_s) for _ in range(bursts.packets)), reverse=True)
        for lead_ms in leads:
            parcel = PlannedPacket("lucky", MEAN_SHARE_FEN * bursts.shares, bursts.shares)
            sent_ms = max(0, begin_ms - int(lead_ms))
            crowd = rng.sample(range(profile.users), people)
            batched = round(people * bursts.batched_share)
            coming = list(_batches(bursts, crowd[:batched], begin_ms, rng))
            for person in crowd[batched:]:
                coming += _single(profile, person, begin_ms + _burst_delay_ms(bursts, rng), rng)
            yield _Wave(sent_ms, rng.randrange(profile.users), parcel, coming)


def _batches(
    bursts: Bursts, people: list[int], begin_ms: int, rng: random.Random
) -> Iterator[tuple[int, str, tuple[int, ...]]]:
    for at in range(0, len(people), bursts.batch_size):
        yield begin_ms + _burst_delay_ms(bursts, rng), BATCH, tuple(people[at : at + bursts.batch_size])


def _burst_delay_ms(bursts: Bursts, rng: random.Random) -> int:
    return int(1_000 * min(rng.expovariate(3 / bursts.spread_s), bursts.spread_s))
