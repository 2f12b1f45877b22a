"""Crowds: star packets, their lanes, and rains, over HTTP. Nobody twice, nobody forgotten, every fen accounted for."""

from collections.abc import Iterator
from itertools import count, islice
from typing import Any

import pytest

from actors.kernel.names import User, user_hash
from actors.transfers.ids import Layout, crowd_id_of, lanes_of
from tests.simulation.http import BALANCE_FEN, Http
from tests.simulation.loop import simulated
from tests.simulation.system import TENANT, ruled

LANED = {"packet": {"hot": {"streams": 4}}, **ruled("wallet", sends={"crowd_count_min": 10, "lane_count_max": 10})}
STAR: dict[str, Any] = {"kind": "star", "total_fen": 4_000, "count": 40}
DAY_MS = 86_400_000
HOUR_MS = 3_600_000


async def grabs(http: Http, packet_id: str, users: list[str]) -> list[dict[str, Any]]:
    """Grab through a chat gateway; return the results."""
    items = [{"packet_id": packet_id, "user": user} for user in users]
    response = await http.ask("POST", "/v1/grabs/batch", scope="gateway", json={"grabs": items})
    assert response.status_code == 200, response.text
    return list(response.json()["results"])


def of_lane(*lanes: int, of: int = 4) -> Iterator[str]:
    """Yield users whose own lane is one of these."""
    return (user for user in map("fan{}".format, count()) if user_hash(TENANT, user) % of in lanes)


async def look(http: Http, path: str, user: str = "alice") -> dict[str, Any]:
    """Look at something that is there."""
    response = await http.ask("GET", path, user=user)
    assert response.status_code == 200, response.text
    return dict(response.json())


async def code(http: Http, packet_id: str, user: str) -> str:
    """Grab as that user and return the code of the refusal, or "won"."""
    response = await http.grab(packet_id, user)
    return "won" if response.status_code == 200 else str(response.json()["code"])


async def assert_sound(http: Http) -> None:
    """Check that all money has arrived, and that the books agree."""
    await http.system.settle()
    report = await http.system.audit()
    assert (report.difference_fen, report.in_flight_fen) == (0, 0)


# Star.


@simulated
async def test_a_star_packet_in_lanes_gives_every_share_once_and_its_total_exactly() -> None:
    http = await Http.start(**LANED)
    packet = await http.send(**STAR)
    assert (packet["lanes"], len(packet["lane_commitments"]), packet["total_fen"]) == (4, 4, 4_000)
    packet_id = packet["packet_id"]
    users = [f"fan{number}" for number in range(55)]
    told = [result for start in range(0, 55, 11) for result in await grabs(http, packet_id, users[start : start + 11])]
    won = [result for result in told if "rank" in result]
    assert len(won) == 40, "the last shares are found, in whatever lane they are"
    assert sorted(result["rank"] for result in won) == list(range(1, 41))
    assert sum(result["amount_fen"] for result in won) == 4_000
    assert {result["code"] for result in told if "code" in result} == {"drained"}
    again = await grabs(http, packet_id, users)
    assert [result.get("amount_fen") for result in again] == [result.get("amount_fen") for result in told]
    assert all(result["replayed"] for result in again if "rank" in result)
    seen = await look(http, f"/v1/packets/{packet_id}")
    assert (seen["state"], seen["grabbed_count"], seen["grabbed_fen"]) == ("drained", 40, 4_000)
    assert [line["rank"] for line in seen["grabs"]] == list(range(1, 41))
    assert seen["luckiest"]["amount_fen"] == max(line["amount_fen"] for line in seen["grabs"])
    await assert_sound(http)


@simulated
async def test_a_user_meets_his_share_in_whatever_lane_it_is_also_alone_and_after_a_restart() -> None:
    http = await Http.start(**LANED)
    packet_id = (await http.send(**STAR))["packet_id"]
    users = list(islice(of_lane(0, 1), 38))
    first = {user: (await http.grab(packet_id, user)).json() for user in users}
    assert all("rank" in share for share in first.values()), "there are shares left in some lane"
    for host in list(http.system.members):
        http.system.replace(host)
    for user in users:
        assert (await http.grab(packet_id, user)).json() == first[user] | {"replayed": True}
    in_a_crowd = await grabs(http, packet_id, users)
    assert [result["rank"] for result in in_a_crowd] == [first[user]["rank"] for user in users]
    assert {await code(http, packet_id, f"late{number}") for number in range(2)} == {"won"}
    assert await code(http, packet_id, "nobody") == "drained"


@simulated
async def test_a_lane_cannot_be_asked_by_its_name() -> None:
    http = await Http.start(**LANED)
    packet_id = (await http.send(**STAR))["packet_id"]
    assert await code(http, f"{packet_id}.0", "bob") == "packet_not_found"
    assert (await grabs(http, f"{packet_id}.1", ["bob"])) == [{"code": "packet_not_found"}]
    assert (await http.ask("GET", f"/v1/packets/{packet_id}.1")).status_code == 404


@simulated
async def test_a_lane_that_expired_with_shares_left_sends_nobody_on() -> None:
    http = await Http.start(**LANED)
    packet = await http.send(**STAR)
    packet_id = packet["packet_id"]
    taken = {user: (await http.grab(packet_id, user)).json() for user in ("bob", "carol", "dave")}
    http.system.clock.ms = packet["expires_at_ms"]
    assert await code(http, packet_id, "eve") == "expired"
    for user, share in taken.items():
        assert (await http.grab(packet_id, user)).json() == share | {"replayed": True}
    await http.system.tick()
    await assert_sound(http)
    seen = await look(http, f"/v1/packets/{packet_id}")
    assert (seen["state"], seen["grabbed_fen"] + seen["refunded_fen"]) == ("expired", 4_000)
    balance_fen = (await look(http, "/v1/wallet"))["available_fen"]
    assert balance_fen == BALANCE_FEN - seen["grabbed_fen"]


@simulated
async def test_the_same_send_in_lanes_is_answered_again_and_another_under_its_key_is_refused() -> None:
    http = await Http.start(**LANED)
    first = await http.ask("POST", "/v1/packets", key="k", json=STAR)
    again = await http.ask("POST", "/v1/packets", key="k", json=STAR)
    assert (again.json(), again.headers["idempotent-replayed"]) == (first.json(), "true")
    other = await http.ask("POST", "/v1/packets", key="k", json=STAR | {"count": 20})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    ordinary = await http.ask("POST", "/v1/packets", key="k", json={"kind": "lucky", "total_fen": 4_000, "count": 40})
    assert (ordinary.status_code, ordinary.json()["code"]) == (422, "idempotency_key_reused")
    assert (await look(http, "/v1/wallet"))["available_fen"] == BALANCE_FEN - 4_000


@simulated
async def test_a_gateway_that_died_between_paying_and_opening_a_star_packet_has_lost_nothing() -> None:
    http = await Http.start(**LANED)
    opened = http.gateway.service.packets.open

    async def die(funded: Any) -> None:
        raise RuntimeError("dies here")

    http.gateway.service.packets.open = die  # type: ignore[method-assign]
    assert (await http.ask("POST", "/v1/packets", key="k", json=STAR)).status_code == 500
    http.gateway.service.packets.open = opened  # type: ignore[method-assign]
    statement = await look(http, "/v1/wallet/statement")
    packet_id = statement["entries"][0]["reference"]
    assert statement["entries"][0]["amount_fen"] < 0
    told = await grabs(http, packet_id, [f"fan{number}" for number in range(40)])
    assert sum(result["amount_fen"] for result in told) == 4_000, "asking opens it"
    await assert_sound(http)


@simulated
async def test_a_star_packet_opens_at_its_time_and_lives_from_then_on() -> None:
    http = await Http.start(**LANED)
    opens_at_ms = http.system.clock.ms + HOUR_MS
    packet = await http.send(**STAR, opens_at_ms=opens_at_ms, sponsor="Big Shop")
    assert (packet["sponsor"], packet["opens_at_ms"]) == ("Big Shop", opens_at_ms)
    assert packet["expires_at_ms"] == opens_at_ms + DAY_MS
    response = await http.grab(packet["packet_id"], "bob")
    assert (response.status_code, response.json()["code"], response.json()["retryable"]) == (409, "not_open", True)
    http.system.clock.ms = opens_at_ms - 1
    assert await code(http, packet["packet_id"], "bob") == "not_open"
    http.system.clock.ms += 1
    for host in list(http.system.members):
        http.system.replace(host)
    assert await code(http, packet["packet_id"], "bob") == "won"


@simulated
async def test_the_star_himself_gets_no_share() -> None:
    http = await Http.start(**LANED)
    packet_id = (await http.send(**STAR))["packet_id"]
    assert await code(http, packet_id, "alice") == "own_packet"
    told = await grabs(http, packet_id, ["bob", "alice", "carol"])
    assert [result.get("code", "won") for result in told] == ["won", "own_packet", "won"]


@simulated
async def test_no_more_shares_leave_on_a_day_than_were_meant_for_it() -> None:
    http = await Http.start(**ruled("wallet", sends={"crowd_count_min": 1_000}))
    packet = await http.send(**STAR, day_count_max=16)
    users = [f"fan{number}" for number in range(40)]
    packet_id = packet["packet_id"]
    told = await grabs(http, packet_id, users)
    assert [result.get("code", "won") for result in told] == ["won"] * 16 + ["day_limit"] * 24
    assert await code(http, packet_id, "fan1") == "won", "who has a share hears it again"
    # 00:05 in China: the day has 23 h 55 min left.
    http.system.clock.ms += 24 * HOUR_MS - 6 * 60_000
    assert await code(http, packet_id, "fan20") == "day_limit"
    http.system.clock.ms += 60_000
    assert await code(http, packet_id, "fan20") == "won"
    told = await grabs(http, packet_id, users[21:])
    assert [result.get("code", "won") for result in told] == ["won"] * 15 + ["day_limit"] * 4


@simulated
async def test_who_came_too_late_on_one_day_gets_no_second_share_on_the_next() -> None:
    http = await Http.start(**LANED)
    packet_id = (await http.send(**STAR, day_count_max=16))["packet_id"]
    users = list(islice(of_lane(0), 7))
    won: dict[str, set[int]] = {user: set() for user in users}
    for _ in range(2):
        for user, result in zip(users, await grabs(http, packet_id, users), strict=True):
            won[user] |= {result["rank"]} if "rank" in result else set()
        for user in users:
            share = (await http.grab(packet_id, user)).json()
            won[user] |= {share["rank"]} if "rank" in share else set()
        http.system.clock.ms += DAY_MS - 60_000  # the next day, and not over yet
    assert {len(ranks) for ranks in won.values()} == {1}, "a lane that gives no more today sends nobody on"


@simulated
async def test_a_pause_holds_in_every_lane_and_is_told_once() -> None:
    http = await Http.start(**LANED)
    packet_id = (await http.send(**STAR))["packet_id"]
    path = f"/v1/levers/packets/{packet_id}"
    for paused, wanted in ((True, {"paused"}), (False, {"won"})):
        response = await http.ask("PUT", path, scope="operator", json={"paused": paused})
        assert response.status_code == 200, response.text
        levers = (await http.ask("GET", "/v1/levers", scope="operator")).json()["paused"]
        assert [lever["packet_id"] for lever in levers] == [packet_id] * paused
        assert {await code(http, packet_id, user) for user in islice(of_lane(0, 1, 2, 3), 8)} == wanted


@simulated
async def test_shares_are_in_the_band_that_was_asked_for() -> None:
    http = await Http.start(**LANED)
    packet_id = (await http.send(**STAR, share_fen_min=90, share_fen_max=110))["packet_id"]
    told = await grabs(http, packet_id, [f"fan{number}" for number in range(40)])
    assert all(90 <= result["amount_fen"] <= 110 for result in told)
    assert len({result["amount_fen"] for result in told}) > 1


@simulated
async def test_a_list_that_is_long_comes_in_pages_over_all_lanes() -> None:
    http = await Http.start(**LANED, bounds={"list_lines_max": 7})
    packet_id = (await http.send(**STAR))["packet_id"]
    await grabs(http, packet_id, [f"fan{number}" for number in range(25)])
    ranks: list[int] = []
    after_rank: int | None = 0
    while after_rank is not None:
        page = await look(http, f"/v1/packets/{packet_id}?after_rank={after_rank}")
        assert len(page["grabs"]) <= 7
        ranks += [line["rank"] for line in page["grabs"]]
        after_rank = page.get("next_after_rank")
    assert len(ranks) == len(set(ranks)) == 25
    assert ranks == sorted(ranks)


@simulated
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"count": 10_000_001}, "count"),
        ({"total_fen": 100_000_000_001}, "total_fen"),
        ({"total_fen": 39}, "total_fen"),
        ({"share_fen_min": 5}, "share_fen_max"),
        ({"share_fen_max": 5}, "share_fen_min"),
        ({"share_fen_min": 50, "share_fen_max": 40}, "share_fen_max"),
        ({"share_fen_min": 101, "share_fen_max": 400}, "total_fen"),
        ({"sponsor": "x" * 65}, "sponsor"),
        ({"day_count_max": 15}, "day_count_max"),
        ({"shares": "equal", "total_fen": 4_001}, "total_fen"),
        ({"kind": "lucky", "sponsor": "Big Shop"}, "sponsor"),
        ({"kind": "lucky", "opens_at_ms": 5}, "opens_at_ms"),
        ({"sender_nonce": "n"}, "commitment_id"),
    ],
)
async def test_what_no_star_packet_can_be_is_named_and_moves_no_money(change: dict[str, Any], field: str) -> None:
    http = await Http.start()
    before = http.entries()
    response = await http.ask("POST", "/v1/packets", key="k", json=STAR | change)
    assert (response.status_code, response.json()["code"]) == (422, "invalid")
    assert field in response.json()["fields"]
    assert http.entries() == before


@simulated
async def test_a_packet_that_would_open_in_too_long_a_time_is_refused() -> None:
    http = await Http.start()
    late = {"opens_at_ms": http.system.clock.ms + 31 * DAY_MS}
    response = await http.ask("POST", "/v1/packets", key="k", json=STAR | late)
    assert (response.status_code, response.json()["code"]) == (422, "bad_times")
    assert (await look(http, "/v1/wallet"))["available_fen"] == BALANCE_FEN


def test_lanes_are_in_hot_streams_of_their_own_and_the_id_tells_which() -> None:
    layout = Layout(packet=8, hot=4, wallet=8)
    alice = User("wechat", "alice")
    packet_id = crowd_id_of(b"key", alice, "k", layout, 4)
    lanes = lanes_of(packet_id, layout)
    assert [lane.packet_id for lane in lanes] == [f"{packet_id}.{number}" for number in range(4)]
    assert [lane.packet_index for lane in lanes] == [8, 9, 10, 11]
    for grown in (Layout(packet=8, hot=5, wallet=8), Layout(packet=8, hot=64, wallet=8)):
        assert lanes_of(packet_id, grown) == lanes, "more hot streams move no lane"
    assert crowd_id_of(b"key", alice, "other", layout, 4)[8:] != packet_id[8:]
    assert lanes_of(packet_id, Layout(packet=8, hot=3, wallet=8)) == []
    two = Layout(packet=2, hot=0, wallet=2)
    assert {lane.packet_index for lane in lanes_of(crowd_id_of(b"key", alice, "k", two, 2), two)} == {0, 1}


# Rain.


def rain(now_ms: int, *, bursts: int = 3, **changes: Any) -> dict[str, Any]:
    """Return a rain to send: a burst an hour, open for a minute, 1,000 fen in 10 shares each."""
    times = [now_ms + number * HOUR_MS for number in range(bursts)]
    shape = [{"opens_at_ms": ms, "ends_at_ms": ms + 60_000, "total_fen": 1_000, "count": 10} for ms in times]
    return {"bursts": shape, "sponsor": "Big Shop"} | changes


async def sent_rain(http: Http, **changes: Any) -> dict[str, Any]:
    """Send a rain and return it."""
    response = await http.ask("POST", "/v1/rains", key="r", json=rain(http.system.clock.ms, **changes))
    assert response.status_code == 201, response.text
    return dict(response.json())


@simulated
async def test_what_a_burst_leaves_rolls_into_the_next_and_the_last_rest_goes_back() -> None:
    http = await Http.start()
    sent = await sent_rain(http)
    first, second, third = (burst["packet_id"] for burst in sent["bursts"])
    assert sent["rain_id"] == first
    told = await grabs(http, first, [f"u{number}" for number in range(4)])
    given = sum(result["amount_fen"] for result in told)
    assert await code(http, second, "bob") == "not_open"
    http.system.clock.ms += HOUR_MS
    told = await grabs(http, second, [f"u{number}" for number in range(10)])
    assert sum(result["amount_fen"] for result in told) == 2_000 - given, "the first burst's rest is in the second"
    assert await code(http, first, "bob") == "expired"
    http.system.clock.ms += HOUR_MS + 60_000
    await http.system.tick()
    seen = await look(http, f"/v1/rains/{sent['rain_id']}", user="carol")
    assert [burst["state"] for burst in seen["bursts"]] == ["expired", "drained", "expired"]
    assert seen["bursts"][0]["rolled_out_fen"] == seen["bursts"][1]["rolled_in_fen"] == 1_000 - given
    assert seen["bursts"][2]["refunded_fen"] == 1_000
    await assert_sound(http)
    assert (await look(http, "/v1/wallet"))["available_fen"] == BALANCE_FEN - 2_000
    assert await code(http, third, "bob") == "expired"


@simulated
async def test_what_a_burst_leaves_goes_back_if_it_is_to_return() -> None:
    http = await Http.start()
    sent = await sent_rain(http, rest="return")
    http.system.clock.ms += HOUR_MS
    await http.system.tick()
    await http.system.settle()
    assert (await look(http, "/v1/wallet"))["available_fen"] == BALANCE_FEN - 2_000
    seen = await look(http, f"/v1/rains/{sent['rain_id']}")
    assert (seen["rest"], seen["bursts"][0]["refunded_fen"], seen["bursts"][1]["rolled_in_fen"]) == ("return", 1_000, 0)


@simulated
async def test_no_more_rolls_than_the_shares_of_the_next_burst_can_hold() -> None:
    http = await Http.start()
    sent = await sent_rain(http, share_fen_min=1, share_fen_max=150)
    http.system.clock.ms += HOUR_MS
    told = await grabs(http, sent["bursts"][1]["packet_id"], [f"u{number}" for number in range(10)])
    assert sum(result["amount_fen"] for result in told) == 1_500
    await http.system.settle()
    assert (await look(http, "/v1/wallet"))["available_fen"] == BALANCE_FEN - 2_500


@simulated
async def test_a_jump_of_the_clock_over_bursts_ends_each_once_and_rolls_on_to_the_one_that_is_open() -> None:
    http = await Http.start()
    sent = await sent_rain(http, bursts=4)
    http.system.clock.ms += 2 * HOUR_MS
    for host in list(http.system.members):
        http.system.replace(host)
    told = await grabs(http, sent["bursts"][2]["packet_id"], [f"u{number}" for number in range(10)])
    assert sum(result["amount_fen"] for result in told) == 3_000
    await assert_sound(http)


@simulated
async def test_equal_bursts_stay_equal_whatever_rolls_in() -> None:
    http = await Http.start()
    body = rain(http.system.clock.ms, shares="equal")
    body["bursts"][1]["count"] = 8
    sent = (await http.ask("POST", "/v1/rains", key="r", json=body)).json()
    await grabs(http, sent["bursts"][0]["packet_id"], [f"u{number}" for number in range(7)])
    http.system.clock.ms += HOUR_MS
    told = await grabs(http, sent["bursts"][1]["packet_id"], [f"u{number}" for number in range(8)])
    assert [result["amount_fen"] for result in told] == [162] * 8
    await http.system.settle()
    assert (await look(http, "/v1/wallet"))["available_fen"] == BALANCE_FEN - 3_000 + 4


@simulated
async def test_a_rain_that_is_sent_twice_is_sent_once() -> None:
    http = await Http.start()
    body = rain(http.system.clock.ms)
    first = await http.ask("POST", "/v1/rains", key="r", json=body)
    again = await http.ask("POST", "/v1/rains", key="r", json=body)
    assert (first.status_code, again.json(), again.headers["idempotent-replayed"]) == (201, first.json(), "true")
    later = [burst | {"ends_at_ms": burst["ends_at_ms"] + 1} for burst in body["bursts"]]
    other = await http.ask("POST", "/v1/rains", key="r", json=body | {"bursts": later})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert (await look(http, "/v1/wallet"))["available_fen"] == BALANCE_FEN - 3_000
    assert (await http.ask("POST", "/v1/rains", json=body)).json()["code"] == "idempotency_key_missing"
    poor = await http.ask("POST", "/v1/rains", user="dave", key="r", json=body)
    assert (poor.status_code, poor.json()["code"]) == (402, "insufficient_funds")


@simulated
@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"opens_at_ms": 2**53}, "bursts.0.opens_at_ms"),
        ({"ends_at_ms": 0}, "bursts.0.ends_at_ms"),
        ({"count": 10_000_001}, "bursts.0.count"),
        ({"total_fen": 9}, "bursts.0.total_fen"),
        ({"ends_at_ms": 2**52}, "bursts.1.opens_at_ms"),
    ],
)
async def test_a_burst_that_cannot_be_is_named(changes: dict[str, Any], field: str) -> None:
    http = await Http.start()
    body = rain(http.system.clock.ms)
    body["bursts"][0] |= changes
    response = await http.ask("POST", "/v1/rains", key="r", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid")
    assert any(name.endswith(field) for name in response.json()["fields"]), response.json()


@simulated
async def test_a_rain_of_the_past_and_one_that_is_none_are_refused() -> None:
    http = await Http.start()
    response = await http.ask("POST", "/v1/rains", key="r", json=rain(http.system.clock.ms - 2 * 60_000))
    assert (response.status_code, response.json()["code"]) == (422, "bad_times")
    many = await http.ask("POST", "/v1/rains", key="r", json=rain(http.system.clock.ms, bursts=49))
    assert "bursts" in many.json()["fields"]
    packet_id = (await http.send())["packet_id"]
    for unknown in (packet_id, "nonsense"):
        assert (await http.ask("GET", f"/v1/rains/{unknown}")).status_code == 404
