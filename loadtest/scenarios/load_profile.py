"""Load profile: what a scenario asks of a system, and its bounds. One file a scenario, in loadtest/profiles/.

A profile is a shape (packets a second over the minutes of a night, lasting `minute_s` seconds each here), or bursts
(many people on packets that were sent just before), or both; and how its clients behave. Rates are of packets: who
comes to grab follows from the field's ratios (`loadtest.population`), about ten grabs a packet.

Durations in seconds or milliseconds as named; shares are between 0 and 1. Nothing here is read from the environment.
"""

import tomllib
from pathlib import Path
from typing import Literal

import msgspec

FOLDER = Path(__file__).resolve().parent.parent / "profiles"


class Bursts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Many people at set times. Every burst has packets of its own, sent within `lead_s` before it."""

    first_s: float
    every_s: float
    times: int
    packets: int
    """In one burst."""
    lead_s: float
    shares: int
    people: int
    """For each packet."""
    spread_s: float
    """Most people come in the first third of it."""
    batched_share: float = 0.0
    """Of the people, in batches of a chat gateway."""
    batch_size: int = 100


class Clients(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How clients behave when the answer is late or a refusal for now."""

    timeout_ms: int = 10_000
    """So long a client waits for one answer."""
    attempts_max: int = 6
    polite: bool = True
    """Waits for what Retry-After says, or longer each time; otherwise repeats at once, also what was refused."""
    door: Literal["http", "stream"] = "http"
    """Through which grabs go that are not batched."""
    streams: int = 4
    """Connections of the stream door."""
    stream_inflight_max: int = 500
    slow_share: float = 0.0
    """Of the grabs, by clients that read slowly, stop in the middle of the body, or leave."""
    slow_connections: int = 0
    slow_hold_s: float = 4.0


class RunBounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What no run of the scenario exceeds, whatever it is asked."""

    users_max: int = 20_000
    connections_max: int = 1_000
    requests_max: int = 400_000
    seconds_max: float = 600.0


class Profile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One scenario."""

    title: str
    seed: int = 2_016
    users: int = 1_000
    connections: int = 150
    """Requests under way at most: one locust user each."""
    packets_per_second: float = 0.0
    """Where the shape is 1."""
    minute_s: float = 60.0
    shape: list[tuple[float, float]] = []
    """(minute, level) with straight lines between; the minutes count from the first."""
    bursts: Bursts | None = None
    view_share: float = 0.10
    """Of the people who grab by themselves, look at the packet afterwards."""
    wallet_share: float = 0.05
    late_ms_max: int = 100
    """A request that starts later than this after its instant was not started on time."""
    on_time_share_min: float = 0.95
    clients: Clients = Clients()
    bounds: RunBounds = RunBounds()

    @property
    def load_s(self) -> float:
        """How long packets are sent or bursts begin."""
        ends = [(self.shape[-1][0] - self.shape[0][0]) * self.minute_s] if self.shape else []
        if self.bursts is not None:
            ends.append(self.bursts.first_s + self.bursts.every_s * self.bursts.times)
        return max(ends, default=0.0)


class ProfileUnusable(Exception):
    """A profile, or what it was changed to, cannot be run. The message is one line that says why."""


def names() -> list[str]:
    """Return the scenarios there are."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_profile(name: str, **changes: float | None) -> Profile:
    """Read a scenario's profile, change what is asked (None: as it stands) and check it against its bounds.

    `seconds` stretches or compresses the shape, or makes more or fewer bursts; the other changes are fields by name.
    Raises ProfileUnusable.
    """
    if name not in names():
        raise ProfileUnusable(f"there is no scenario {name!r}; there are: {', '.join(names())}")
    content = tomllib.loads((FOLDER / f"{name}.toml").read_text())
    seconds = changes.pop("seconds", None)
    try:
        profile = msgspec.convert(content, Profile)
        profile = msgspec.structs.replace(profile, **{key: to for key, to in changes.items() if to is not None})
    except msgspec.ValidationError as wrong:
        raise ProfileUnusable(f"profiles/{name}.toml: {wrong}") from wrong
    if seconds is not None:
        profile = _lasting(profile, seconds)
    check(profile)
    return profile


def check(profile: Profile) -> None:
    """Make sure that a profile can be run within its bounds. Raises ProfileUnusable."""
    bounds = profile.bounds
    minutes = [minute for minute, _ in profile.shape]
    wrong = [
        (not 2 <= profile.users <= bounds.users_max, f"users must be 2 to {bounds.users_max:,}"),
        (not 1 <= profile.connections <= bounds.connections_max, f"connections: 1 to {bounds.connections_max:,}"),
        (not 0 < profile.load_s <= bounds.seconds_max, f"a run lasts at most {bounds.seconds_max:,.0f} s"),
        (minutes != sorted(minutes) or len(minutes) == 1, "the shape's minutes must grow, and there must be two"),
        (any(level < 0 for _, level in profile.shape), "a level is at least 0"),
        (bool(profile.shape) and not 0 < profile.packets_per_second <= 10_000, "packets a second: up to 10,000"),
        (profile.bursts is not None and profile.bursts.lead_s > profile.bursts.every_s, "bursts must not overlap"),
        (profile.bursts is not None and not 1 <= profile.bursts.batch_size <= 1_000, "a batch has 1 to 1,000 grabs"),
        (profile.bursts is not None and not 1 <= profile.bursts.shares <= 100, "a packet has 1 to 100 shares"),
    ]
    for is_wrong, words in wrong:
        if is_wrong:
            raise ProfileUnusable(words)


def _lasting(profile: Profile, seconds: float) -> Profile:
    """Return the profile with so many seconds of load."""
    if profile.shape:
        minutes = profile.shape[-1][0] - profile.shape[0][0]
        profile = msgspec.structs.replace(profile, minute_s=seconds / minutes)
    if profile.bursts is not None:
        times = max(1, int((seconds - profile.bursts.first_s) // profile.bursts.every_s))
        profile = msgspec.structs.replace(profile, bursts=msgspec.structs.replace(profile.bursts, times=times))
    return profile
