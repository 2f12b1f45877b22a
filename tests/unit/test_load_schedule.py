"""Load: its schedule keeps the field's ratios, is the same for one process and for many, and waits for no answer."""

from collections import Counter
from itertools import pairwise

import msgspec
import pytest

from loadtest.population import ATTEMPTS_PER_OPEN, OPENS_PER_SEND
from loadtest.scenarios.desk import Desk
from loadtest.scenarios.load_profile import Profile, ProfileUnusable, load_profile, names
from loadtest.scenarios.schedule import BATCH, GRAB, SEND, SLOW, STREAM, VIEW, WALLET, Arrival, PlannedPacket, arrivals

GRABS = (GRAB, BATCH, STREAM, SLOW)


def steady(**changes: object) -> Profile:
    """Return 200 packets a second for 20 s."""
    profile = Profile(title="steady", packets_per_second=200.0, minute_s=20.0, shape=[(0, 1.0), (1, 1.0)])
    return msgspec.structs.replace(profile, **changes)


# The schedule


@pytest.mark.parametrize("name", names())
def test_every_scenario_can_be_run_within_its_bounds(name: str) -> None:
    profile = load_profile(name)
    asked = list(arrivals(profile))
    assert 0 < len(asked) <= profile.bounds.requests_max
    assert asked[-1].due_ms <= 1_000 * (profile.load_s + 12)
    assert all(first.due_ms <= second.due_ms for first, second in pairwise(asked))
    assert len({one.number for one in asked}) == len(asked)
    assert {person for one in asked for person in one.people} <= set(range(profile.users))


def test_the_schedule_keeps_the_ratios_of_the_field() -> None:
    sends, opens, tries = 0, 0, Counter[int]()
    shares: dict[int, int] = {}
    people: dict[int, set[int]] = {}
    for one in arrivals(steady()):
        if one.parcel is not None:
            sends += 1
            shares[one.packet] = one.parcel.shares
        elif one.route in GRABS:
            tries[one.packet] += len(one.people)
            people.setdefault(one.packet, set()).update(one.people)
    opens = sum(min(shares[packet], len(came)) for packet, came in people.items())
    assert opens / sends == pytest.approx(OPENS_PER_SEND, rel=0.08)
    assert tries.total() / opens == pytest.approx(ATTEMPTS_PER_OPEN, rel=0.08)


def test_people_look_at_packets_and_wallets_and_some_come_through_a_gateway() -> None:
    routes = Counter(one.route for one in arrivals(steady()))
    assert routes[VIEW] / routes[GRAB] == pytest.approx(0.10, rel=0.1)
    assert routes[WALLET] / routes[GRAB] == pytest.approx(0.05, rel=0.2)
    batched = sum(len(one.people) for one in arrivals(steady()) if one.route == BATCH)
    assert 0.02 < batched / (batched + routes[GRAB]) < 0.25


def test_packets_come_at_the_rate_of_the_shape() -> None:
    profile = steady(shape=[(0, 0.2), (1, 0.2), (1.5, 1.0), (2, 1.0)])
    sent = Counter(one.due_ms // 10_000 for one in arrivals(profile) if one.route == SEND)
    expected = [0.2 * 2_000, 0.2 * 2_000, 0.6 * 2_000, 1.0 * 2_000]
    assert [sent[tens] for tens in range(4)] == pytest.approx(expected, rel=0.12)


def test_midnight_is_quiet_then_rises_to_its_peak_and_decays() -> None:
    profile = load_profile("midnight", packets_per_second=200.0)
    sent = Counter(int(one.due_ms / 1_000 / profile.minute_s) for one in arrivals(profile) if one.route == SEND)
    assert sum(sent[minute] for minute in range(10)) / 10 < sent[15] / 5
    assert max(sent.values()) <= 1.15 * sent[15]
    assert sent[38] < sent[15] / 4


def test_the_same_seed_asks_the_same_and_another_asks_something_else() -> None:
    assert list(arrivals(load_profile("rain"))) == list(arrivals(load_profile("rain")))
    assert list(arrivals(load_profile("rain"))) != list(arrivals(load_profile("rain", seed=7)))


@pytest.mark.parametrize("name", ["midnight", "rain", "slow"])
def test_the_parts_of_many_processes_are_the_schedule_of_one(name: str) -> None:
    profile = load_profile(name)
    parts = [list(arrivals(profile, part, 3)) for part in range(3)]
    assert sorted(one for part in parts for one in part) == sorted(arrivals(profile))
    packets = [{one.packet for one in part} for part in parts]
    assert not packets[0] & packets[1] | packets[1] & packets[2] | packets[0] & packets[2]


def test_in_a_rain_everybody_reaches_for_packets_that_were_sent_just_before() -> None:
    profile = msgspec.structs.replace(load_profile("rain"), shape=[])
    assert profile.bursts is not None
    begins = [1_000 * (profile.bursts.first_s + n * profile.bursts.every_s) for n in range(profile.bursts.times)]
    sent = {one.packet: one.due_ms for one in arrivals(profile) if one.route == SEND}
    assert len(sent) == profile.bursts.times * profile.bursts.packets
    for one in arrivals(profile):
        if one.route in GRABS:
            begin = max(begin for begin in begins if begin <= one.due_ms)
            assert begin - 3_000 <= sent[one.packet] < begin <= one.due_ms <= begin + 4_000


def test_a_schedule_stops_at_its_bound() -> None:
    profile = steady()
    bounded = msgspec.structs.replace(profile, bounds=msgspec.structs.replace(profile.bounds, requests_max=1_000))
    assert 900 <= len(list(arrivals(bounded))) <= 1_000


@pytest.mark.parametrize(
    "changes",
    [{"users": 1}, {"users": 10**6}, {"connections": 10**5}, {"seconds": 10**5}, {"packets_per_second": -1.0}],
)
def test_a_profile_beyond_its_bounds_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ProfileUnusable):
        load_profile("midnight", **changes)


def test_a_scenario_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(ProfileUnusable, match="midnight"):
        load_profile("noon")


def test_a_run_lasts_as_long_as_it_is_asked_to() -> None:
    assert load_profile("midnight", seconds=30.0).load_s == pytest.approx(30.0)
    assert load_profile("hot", seconds=12.0).load_s <= 12.0


# The desk

SENT = Arrival(0, 0, SEND, 0, (1,), PlannedPacket("lucky", 100, 2))
TAPS = [Arrival(300 + n, 1 + n, GRAB, 0, (2 + n,)) for n in range(3)]


def test_what_is_due_comes_whatever_became_of_what_came_before() -> None:
    others = [Arrival(10 * n, 10 + n, SEND, n, (1,), PlannedPacket("lucky", 100, 2)) for n in range(1, 5)]
    desk = Desk(iter([SENT, *others]))
    assert [one.number for one in desk.due(25)] == [0, 11, 12]
    assert desk.next_due_ms() == 30
    assert [one.number for one in desk.due(1_000)] == [13, 14]
    assert desk.next_due_ms() is None


def test_who_comes_for_a_packet_waits_until_it_is_open_and_keeps_his_instant() -> None:
    desk = Desk(iter([SENT, *TAPS]))
    assert list(desk.due(400)) == [SENT]
    desk.opened(0, "id")
    assert list(desk.due(500)) == TAPS


def test_nobody_comes_for_a_packet_that_will_not_open() -> None:
    desk = Desk(iter([SENT, *TAPS]))
    assert list(desk.due(300)) == [SENT]
    desk.given_up(0)
    assert list(desk.due(1_000)) == []


def test_a_repeat_is_the_same_request_at_its_own_instant() -> None:
    desk = Desk(iter([SENT]))
    assert list(desk.due(0)) == [SENT]
    desk.again(SENT, 50)
    assert list(desk.due(49)) == []
    assert list(desk.due(50)) == [SENT._replace(due_ms=50, attempt=1)]
