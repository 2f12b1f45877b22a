"""Found: what a review of the kinds showed, each as a plain test."""

import asyncio
import json
from typing import Any

import msgspec
import pytest

from actors.packet import verify_packet as page
from actors.packet.commands import Grab, GrabMany, Open, ReadEnd
from actors.packet.host import PacketShard
from actors.packet.kind import PACKET as KIND
from actors.packet.replies import PacketEnd
from actors.wallet.commands import ReadWallet
from cluster.config import load
from cluster.journal.codec import platform_codec
from cluster.runtime.shards import WallClock, services_of
from tests.simulation.http import BALANCE_FEN, Http
from tests.simulation.loop import simulated
from tests.simulation.memory_journal import MemoryJournals
from tests.simulation.system import KEYS, System, joined, ruled
from tests.unit import samples
from tests.unit.test_crowds import HOUR_MS, LANED, STAR, look, rain

DAY_MS = 86_400_000
FAR_MS = 4_000_000_000_000
UNDIVIDED = {"idempotency_keys_max": {"user": 100, "tenant": 100}}


async def shard_of(**rules: int) -> PacketShard:
    """Return a packet shard over a fresh journal."""
    settings = load()
    journals = MemoryJournals(platform_codec())
    await journals.create_system(settings.layout)
    made = msgspec.structs.replace(samples.PACKET_RULES, **{"unsettled_max": 100_000} | rules)
    services = services_of(settings, samples.KEYS)
    return PacketShard("packet-shard-0", KIND, [samples.PACKET], journals, WallClock(), services, made)


async def reconfigured(http: Http, **override: Any) -> Http:
    """Return the same system as it is after a restart with another configuration."""
    settings = load(**joined({"packet": {"streams": 2}, "wallet": {"streams": 2}}, override))
    journals = http.system.journals
    await journals.create_system(settings.layout)
    again = System(settings, journals)
    again.clock.ms = http.system.clock.ms
    for host in {again.directory.host_of(stream) for stream in settings.streams}:
        again.replace(host)
    return Http(again)


@simulated
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/lishi", {"asked": "bob", "greeting": "\ud800"}),
        ("POST", "/v1/rains", rain(1_451_577_900_000, greeting="\ud800")),
        ("POST", "/v1/rains", rain(1_451_577_900_000, sponsor="\ud800")),
        ("POST", "/v1/packets/{id}/note", {"text": "\ud800"}),
    ],
)
async def test_a_text_that_cannot_be_stored_is_refused_where_it_comes_in(method: str, path: str, body: Any) -> None:
    http = await Http.start()
    packet_id = (await http.send())["packet_id"]
    await http.grab(packet_id, "bob")
    content, headers = json.dumps(body), {"content-type": "application/json"}
    response = await http.ask(
        method, path.replace("{id}", packet_id), user="bob", key="k", content=content, headers=headers
    )
    assert (response.status_code, response.json()["code"]) == (422, "invalid"), response.text


@simulated
async def test_a_command_that_cannot_be_written_down_fails_nobody_elses() -> None:
    http = await Http.start()
    bad, good = ReadWallet("wechat", "\ud800"), ReadWallet("wechat", "alice")
    posted = [http.gateway.service.batching.post("wallet-000", [command]) for command in (good, bad, good)]
    told = [(await future)[0] for future in posted]
    assert told[0] == told[2]
    assert getattr(told[1], "code", None) == "shard_unavailable"
    assert getattr(told[0], "code", None) is None


async def test_a_block_is_dealt_once_however_many_wait_for_a_share_of_their_own() -> None:
    shard = await shard_of(split_apart_min=2_000)
    funding = samples.funding(count=25_000, total_fen=2_500_000, expires_at_ms=FAR_MS)
    machine: Any = (await shard.shell(samples.PACKET)).machine
    deal, dealt = machine.dealer.deal, []

    def counted(*what: Any) -> bytes:
        dealt.append(what[2])
        return bytes(deal(*what))

    machine.dealer.deal = counted
    await shard.serve(samples.PACKET, [Open(samples.WALLET, funding)])
    grabs: list[Any] = [Grab("p1", samples.TENANT, f"u{number}") for number in range(300)]
    await asyncio.gather(*(shard.serve(samples.PACKET, grabs[start : start + 100]) for start in (0, 100, 200)))
    assert dealt == [0]
    await shard.stop()


@simulated
async def test_more_hot_streams_move_no_lane() -> None:
    http = await Http.start(**LANED)
    packet_id = (await http.send(**STAR))["packet_id"]
    first = {user: (await http.grab(packet_id, user)).json() for user in (f"fan{number}" for number in range(30))}
    grown = await reconfigured(http, **LANED | {"packet": {"hot": {"streams": 8}}})
    for user, share in first.items():
        assert (await grown.grab(packet_id, user)).json() == share | {"replayed": True}


@simulated
async def test_the_same_send_is_answered_again_when_the_limits_of_lanes_have_changed() -> None:
    http = await Http.start(**LANED)
    first = (await http.ask("POST", "/v1/packets", key="k", json=STAR)).json()
    for sends in ({"crowd_count_min": 10, "lane_count_max": 20}, {"crowd_count_min": 1_000}):
        again = await reconfigured(http, **LANED | ruled("wallet", sends=sends))
        response = await again.ask("POST", "/v1/packets", key="k", json=STAR)
        assert (response.status_code, response.json()) == (201, first)
    assert (await look(again, "/v1/wallet"))["available_fen"] == BALANCE_FEN - 4_000


@simulated
async def test_what_was_committed_to_is_kept_when_the_platforms_key_changes() -> None:
    http = await Http.start(**LANED)
    told = (await http.ask("POST", "/v1/commitments", json={})).json()
    of_lanes = (await http.ask("POST", "/v1/commitments", json={"star_count": STAR["count"]})).json()
    rotated = KEYS.model_copy(update={"current": "k2", "platform": KEYS.platform | {"k2": "cd" * 32}})
    members: list[Any] = list(http.system.members.values())
    for member in members:
        member._keys = rotated
        if hasattr(member, "_fairness"):
            member._fairness._keys = rotated
    wish = {"commitment_id": told["commitment_id"], "sender_nonce": "n", "kind": "lucky", "total_fen": 500, "count": 5}
    packet = (await http.ask("POST", "/v1/packets", key="k", json=wish)).json()
    assert packet["commitment"] == told["commitment"]
    wish = STAR | {"commitment_id": of_lanes["commitment_id"], "sender_nonce": "n"}
    star = (await http.ask("POST", "/v1/packets", key="star", json=wish)).json()
    assert star["lane_commitments"] == of_lanes["commitments"]
    fans = [{"packet_id": star["packet_id"], "user": f"u{number}"} for number in range(STAR["count"])]
    await http.ask("POST", "/v1/grabs/batch", scope="gateway", json={"grabs": fans})
    lanes = range(len(of_lanes["commitments"]))
    proofs = [(await http.ask("GET", f"/v1/packets/{star['packet_id']}/proof?lane={lane}")).json() for lane in lanes]
    assert page.judge(proofs, of_lanes["commitments"])[0] == page.MATCHES


@simulated
@pytest.mark.parametrize("passivate_after_ms", [0, 86_400_000])
async def test_a_forgotten_key_never_funds_a_second_rain_not_even_in_part(passivate_after_ms: int) -> None:
    http = await Http.start(
        **ruled("wallet", idempotency_ms=3_600_000), **ruled("packet", passivate_after_ms=passivate_after_ms)
    )
    first = (await http.ask("POST", "/v1/rains", key="r", json=rain(http.system.clock.ms))).json()
    http.system.clock.ms += 3 * HOUR_MS
    for _ in range(2):
        await http.system.tick()
        await http.system.settle()
    await http.send("later")  # keys are forgotten by what happens
    again = await http.ask("POST", "/v1/rains", key="r", json=rain(http.system.clock.ms, bursts=4))
    assert (again.status_code, again.json()["code"]) == (422, "idempotency_key_reused")
    await http.system.settle()
    assert (await look(http, "/v1/wallet"))["available_fen"] == BALANCE_FEN - 1_000, "all four bursts came back"
    assert len((await look(http, f"/v1/rains/{first['rain_id']}"))["bursts"]) == 3
    assert (await http.system.audit()).difference_fen == 0


@simulated
async def test_a_key_of_a_rain_is_no_key_of_a_packet() -> None:
    http = await Http.start()
    assert (await http.ask("POST", "/v1/rains", key="k", json=rain(http.system.clock.ms))).status_code == 201
    assert (await http.send("k"))["total_fen"] == 1_000


@simulated
async def test_a_burst_does_not_last_for_ever() -> None:
    http = await Http.start()
    body = rain(http.system.clock.ms, bursts=1)
    body["bursts"][0]["ends_at_ms"] = body["bursts"][0]["opens_at_ms"] + DAY_MS + 1
    response = await http.ask("POST", "/v1/rains", key="r", json=body)
    assert "bursts.0.ends_at_ms" in response.json()["fields"]


@simulated
async def test_a_band_that_is_left_out_makes_another_request() -> None:
    http = await Http.start()
    banded = STAR | {"share_fen_min": 50, "share_fen_max": 150}
    assert (await http.ask("POST", "/v1/packets", key="k", json=banded)).status_code == 201
    response = await http.ask("POST", "/v1/packets", key="k", json=STAR)
    assert (response.status_code, response.json()["code"]) == (422, "idempotency_key_reused")


@simulated
async def test_forgotten_keys_make_room_for_several_packets_at_once() -> None:
    http = await Http.start(**ruled("wallet", idempotency_keys_max=3, idempotency_ms=1_000, fair=UNDIVIDED))
    for number in range(3):
        await http.send(f"k{number}")
    body = rain(http.system.clock.ms + 1_000)
    full = await http.ask("POST", "/v1/rains", key="r", json=body)
    assert (full.status_code, full.json()["code"]) == (429, "overloaded")
    http.system.clock.ms += 1_000
    assert (await http.ask("POST", "/v1/rains", key="r", json=body)).status_code == 201


@simulated
async def test_a_refused_commitment_says_what_there_are_too_many_of() -> None:
    http = await Http.start()
    for _ in range(8):
        await http.ask("POST", "/v1/commitments", json={})
    assert "commitments" in (await http.ask("POST", "/v1/commitments", json={})).json()["detail"]


async def test_the_winners_of_a_crowd_are_hashed_apart_and_of_very_many_none_are_told() -> None:
    for winners_max, many in ((5_000, False), (2_999, True)):
        shard = await shard_of(split_apart_min=2_000, winners_max=winners_max)
        funding = samples.funding(count=3_000, total_fen=300_000, expires_at_ms=FAR_MS)
        await shard.serve(samples.PACKET, [Open(samples.WALLET, funding)])
        users = [f"u{number}" for number in range(3_000)]
        await shard.serve(samples.PACKET, [GrabMany("p1", samples.TENANT, users)])
        [told] = await shard.serve(samples.PACKET, [ReadEnd("p1", samples.TENANT)])
        assert isinstance(told, PacketEnd)
        assert (told.many, len(told.winners)) == (many, 0 if many else 3_000 * 4)
        recalling: Any = (await shard.shell(samples.PACKET)).machine
        assert list(recalling.recalled.winners) == ([] if many else ["p1"])
        await shard.stop()


@simulated
async def test_a_big_packet_that_has_left_memory_is_read_once_and_answers_as_before() -> None:
    http = await Http.start(
        **ruled("packet", unsettled_max=100_000, split_apart_min=100_000, passivate_after_ms=0),
        **ruled("wallet", sends={"crowd_count_min": 10_000}),
    )
    packet_id = (await http.send(kind="star", total_fen=4_000, count=4_000))["packet_id"]
    users = [f"fan{number}" for number in range(4_000)]
    told = []
    for start in range(0, 4_000, 1_000):
        grabs = {"grabs": [{"packet_id": packet_id, "user": user} for user in users[start : start + 1_000]]}
        response = await http.ask("POST", "/v1/grabs/batch", scope="gateway", json=grabs)
        told += response.json()["results"]
    await http.system.settle()
    await http.system.tick()
    asked = 0
    find = http.system.journals.find_records

    async def counted(*what: Any) -> Any:
        nonlocal asked
        asked += 1
        return await find(*what)

    http.system.journals.find_records = counted  # type: ignore[method-assign, assignment]
    for number in (0, 1_999, 3_999):
        share = (await http.grab(packet_id, users[number])).json()
        assert (share["rank"], share["replayed"]) == (told[number]["rank"], True)
    assert asked == 1
