"""Cost: how many cores so many grabs a second take, computed from measured processor time on each hop.

A linear model of one machine: cores = grabs a second x microseconds a grab. It is honest about work and blind to what
was not there; `NOT_MEASURED` says what that is.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from loadtest.bench.hops import CLIENT, SERVERS

RATES = (409_000, 760_000)
"""Grabs a second at the peaks of 2016 and 2017 (facts of the field)."""
REFUSED_A_SUCCESS = 2.7
"""In 2014 about 3.7 attempts were made for each success."""
GRABS_A_SEND = 2.6
"""At the peak minute of 2016-01-01 2.6 shares were opened for each packet sent."""

NOT_MEASURED = (
    "TLS, a network between the hops (here loopback, its kernel time is in each process's own), interrupts",
    "Ray between nodes (calls to an actor on another machine), a store on another machine, its replicas",
    "more than two cores: memory bandwidth and caches shared by many shards, how evenly streams load them",
    "real users' tokens: a gateway's one token is verified once; everybody's own costs one HMAC each and replica",
    "snapshots and sealing in the long run, monitoring",
)

PerGrab = Mapping[str, float]
"""Microseconds of processor time a grab, by hop."""


class CostRow(NamedTuple):
    """One line of the table: what carries the grabs, microseconds on each hop, in all, and cores at each rate."""

    name: str
    hops_us: dict[str, float]
    total_us: float
    cores: dict[int, float]


def per_grab(spent_s: Mapping[str, float], client_s: float, grabs: int) -> dict[str, float]:
    """Divide processor seconds among the grabs they served: microseconds each, by hop."""
    shared = {hop: seconds / grabs * 1e6 for hop, seconds in spent_s.items()}
    return shared | {CLIENT: client_s / grabs * 1e6}


def median_of(rounds: Sequence[PerGrab]) -> dict[str, float]:
    """Take the median of each hop over the rounds."""
    return {hop: statistics.median(found[hop] for found in rounds) for hop in rounds[0]}


def line(name: str, us: PerGrab) -> CostRow:
    """Compute the cores; the client's are not the platform's."""
    hops_us = {hop: us.get(hop, 0.0) for hop in SERVERS}
    total_us = sum(hops_us.values())
    cores = {rate: round(rate * total_us / 1e6, 1) for rate in RATES}
    return CostRow(name, {hop: round(found, 2) for hop, found in hops_us.items()}, round(total_us, 2), cores)


def combined(parts: Sequence[tuple[float, PerGrab]]) -> dict[str, float]:
    """Add up costs, each so many times a grab."""
    return {hop: sum(times * us.get(hop, 0.0) for times, us in parts) for hop in SERVERS}


def table(measured: Mapping[str, Sequence[PerGrab]]) -> list[CostRow]:
    """Compute every line that the measured doors allow."""
    us = {door: median_of(rounds) for door, rounds in measured.items() if rounds}
    lines = [line(door, us[door]) for door in ("single", "batch", "stream") if door in us]
    if {"single", "loser"} <= us.keys():
        attempts = combined([(1.0, us["single"]), (REFUSED_A_SUCCESS, us["loser"])])
        lines.append(line(f"single, with {REFUSED_A_SUCCESS:g} refused attempts each", attempts))
    if "send" in us:
        lines.append(line(f"sends, one for {GRABS_A_SEND:g} grabs", combined([(1 / GRABS_A_SEND, us["send"])])))
    return lines
