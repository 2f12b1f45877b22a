"""Levers over HTTP: who may pull them, what they answer, and what everybody else is told meanwhile."""

import asyncio
from typing import Any

import pytest

from actors.kernel.names import User
from actors.transfers.ids import Layout, packet_id_of
from actors.wallet.commands import Send
from tests.simulation.http import BALANCE_FEN, Http
from tests.simulation.loop import simulated
from tests.simulation.memory_journal import Fault
from tests.simulation.system import KEYS, TENANT

WISH = {"kind": "lucky", "total_fen": 1_000, "count": 5}
ROUTES = [
    ("GET", "/v1/levers"),
    ("PUT", "/v1/levers/sends"),
    ("PUT", "/v1/levers/grabs"),
    ("PUT", f"/v1/levers/packets/{'a' * 32}"),
]


async def pull(http: Http, lever: str, *, paused: bool = True, user: str = "chen") -> Any:
    """Set a lever as an operator; return the response."""
    return await http.ask("PUT", f"/v1/levers/{lever}", user=user, scope="operator", json={"paused": paused})


async def told(http: Http) -> list[dict[str, Any]]:
    """Return what is said to be paused."""
    response = await http.ask("GET", "/v1/levers", scope="operator")
    assert response.status_code == 200
    return list(response.json()["paused"])


def assert_paused(response: Any) -> None:
    """Check that this is the contract's `paused`: 503, to be repeated with the same key."""
    body = response.json()
    assert (response.status_code, body["code"], body["retryable"]) == (503, "paused", True)
    assert response.headers["content-type"] == "application/problem+json"
    assert int(response.headers["retry-after"]) >= 1
    assert body["retry_after_ms"] >= 1


@simulated
async def test_paused_grabs_are_refused_one_by_one_and_in_a_batch_and_a_winner_is_answered() -> None:
    http = await Http.start()
    packet_id = (await http.send())["packet_id"]
    share = (await http.grab(packet_id, "bob")).json()
    assert (await pull(http, "grabs")).json() == {"lever": "grabs", "packet_id": None, "paused": True}
    assert_paused(await http.grab(packet_id, "carol"))
    assert (await http.grab(packet_id, "bob")).json() == share | {"replayed": True}
    grabs = {"grabs": [{"packet_id": packet_id, "user": user} for user in ("carol", "bob")]}
    response = await http.ask("POST", "/v1/grabs/batch", scope="gateway", json=grabs)
    assert response.json()["results"] == [
        {"code": "paused"},
        {"amount_fen": share["amount_fen"], "rank": 1, "replayed": True},
    ]
    assert (await http.ask("GET", f"/v1/packets/{packet_id}")).json()["grabbed_count"] == 1
    assert (await http.ask("GET", f"/v1/packets/{packet_id}/proof")).status_code == 200
    assert (await http.send("k2"))["state"] == "open", "sends go on"
    await pull(http, "grabs", paused=False)
    assert (await http.grab(packet_id, "carol")).json()["rank"] == 2


@simulated
async def test_paused_sends_are_refused_and_a_send_that_succeeded_is_answered_again() -> None:
    http = await Http.start()
    sent = await http.send()
    await pull(http, "sends")
    assert_paused(await http.ask("POST", "/v1/packets", key="k2", json=WISH))
    again = await http.ask("POST", "/v1/packets", key="k", json=WISH)
    assert (again.status_code, again.json(), again.headers["idempotent-replayed"]) == (201, sent, "true")
    assert (await http.grab(sent["packet_id"], "bob")).status_code == 200, "grabs go on"
    assert (await http.ask("GET", "/v1/wallet")).json()["available_fen"] == BALANCE_FEN - 1_000
    await pull(http, "sends", paused=False)
    assert (await http.ask("POST", "/v1/packets", key="k2", json=WISH)).status_code == 201


@simulated
async def test_one_packet_is_paused_and_refunds_at_its_time_all_the_same() -> None:
    http = await Http.start()
    paused, other = (await http.send("k1"))["packet_id"], (await http.send("k2"))["packet_id"]
    assert (await pull(http, f"packets/{paused}")).json() == {"lever": "packet", "packet_id": paused, "paused": True}
    assert_paused(await http.grab(paused, "bob"))
    assert (await http.grab(other, "bob")).status_code == 200
    http.system.clock.ms += 86_400_000
    await http.system.tick()
    assert (await http.grab(paused, "bob")).json()["code"] == "expired"
    assert await told(http) == [], "the lever ended with its packet"
    response = await pull(http, f"packets/{paused}")
    assert (response.status_code, response.json()["code"]) == (409, "expired")
    await http.system.settle()
    report = (await http.ask("GET", "/v1/audit", scope="operator")).json()
    assert (report["clean"], report["remaining_fen"], report["in_flight_fen"]) == (True, 0, 0)


@simulated
async def test_what_is_paused_is_told_with_since_when_and_by_whom() -> None:
    http = await Http.start()
    packet_id = (await http.send())["packet_id"]
    at_ms = http.system.clock.ms
    for lever in ("sends", "grabs", f"packets/{packet_id}"):
        assert (await pull(http, lever)).status_code == 200
    http.system.clock.ms += 5_000
    assert (await pull(http, "grabs", user="li")).status_code == 200, "idempotent by nature, without a key"
    since = {"since_ms": at_ms, "by": "chen", "missing": []}
    assert await told(http) == [
        {"lever": "grabs", "packet_id": None} | since,
        {"lever": "packet", "packet_id": packet_id} | since,
        {"lever": "sends", "packet_id": None} | since,
    ]
    for lever in ("sends", "grabs", f"packets/{packet_id}"):
        assert (await pull(http, lever, paused=False)).json()["paused"] is False
    assert await told(http) == []


@simulated
async def test_what_was_paused_is_paused_after_every_host_was_replaced() -> None:
    http = await Http.start()
    packet_id = (await http.send())["packet_id"]
    await pull(http, "grabs")
    await pull(http, "sends")
    for host in list(http.system.members):
        await http.system.replace(host).stop()
    assert_paused(await http.grab(packet_id, "bob"))
    assert_paused(await http.ask("POST", "/v1/packets", key="k2", json=WISH))
    assert [lever["lever"] for lever in await told(http)] == ["grabs", "sends"]


@simulated
async def test_setting_again_what_is_set_leaves_no_entry() -> None:
    http = await Http.start()
    await pull(http, "grabs")
    before = http.entries()
    assert (await pull(http, "grabs")).status_code == 200
    assert (await pull(http, "sends", paused=False)).status_code == 200
    assert http.entries() == before


@simulated
async def test_a_packet_that_was_paid_and_not_opened_yet_can_be_paused() -> None:
    http = await Http.start()
    send = Send(TENANT, "alice", "k", "lucky", 1_000, 5, "")
    purse = http.system.service.wallets.stream_of(User(TENANT, "alice"))
    await http.system.directory.ask([(purse, [send])])
    layout = Layout.of(http.system.settings.layout)
    places = layout.packet, layout.wallet
    packet_id = packet_id_of(KEYS.key(KEYS.first), TENANT, "alice", "k", *places)
    assert (await pull(http, f"packets/{packet_id}")).status_code == 200
    assert_paused(await http.grab(packet_id, "bob"))


@pytest.mark.parametrize("packet_id", ["nonsense", "a" * 32, "7" * 32])
@simulated
async def test_an_unknown_packet_cannot_be_paused_nor_resumed(packet_id: str) -> None:
    http = await Http.start()
    for paused in (True, False):
        response = await pull(http, f"packets/{packet_id}", paused=paused)
        assert (response.status_code, response.json()["code"]) == (404, "packet_not_found")


@simulated
async def test_a_lever_that_is_not_durable_everywhere_is_503_and_says_where_not() -> None:
    http = await Http.start()
    http.system.journals.fail("append", Fault.LOST_BEFORE, stream="packet-001", times=10_000)
    response = await pull(http, "grabs")
    assert (response.status_code, response.json()["code"]) == (503, "shard_unavailable")
    assert "packet-001" in response.json()["detail"]
    [lever] = await told(http)
    assert lever["missing"] == ["packet-001"]


@simulated
async def test_nobody_is_told_paused_before_the_pause_is_durable() -> None:
    http = await Http.start()
    packet = await http.send()
    gate = http.system.journals.hold("append")
    pausing = asyncio.ensure_future(pull(http, f"packets/{packet['packet_id']}"))
    await gate.reached()
    grabbing = asyncio.ensure_future(http.grab(packet["packet_id"], "bob"))
    for _ in range(50):
        await asyncio.sleep(0)
    assert not pausing.done()
    assert not grabbing.done()
    gate.release()
    assert (await pausing).status_code == 200
    assert_paused(await grabbing)


@pytest.mark.parametrize(("method", "path"), ROUTES)
@simulated
async def test_only_operators_see_and_pull_levers(method: str, path: str) -> None:
    http = await Http.start()
    for scope in ("user", "gateway"):
        response = await http.ask(method, path, scope=scope, json={"paused": True} if method == "PUT" else None)
        assert (response.status_code, response.json()["code"]) == (403, "forbidden")
    assert await told(http) == []


@pytest.mark.parametrize("body", [{}, {"paused": 1}, {"paused": "true"}, {"paused": True, "until": 5}])
@simulated
async def test_a_body_that_is_not_a_lever_is_invalid(body: dict[str, Any]) -> None:
    http = await Http.start()
    response = await http.ask("PUT", "/v1/levers/grabs", scope="operator", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid")
    assert await told(http) == []


@simulated
async def test_the_levers_are_part_of_the_published_contract() -> None:
    http = await Http.start()
    paths = (await http.client.get("/openapi.json")).json()["paths"]
    assert set(paths["/v1/levers"]) == {"get"}
    for path in ("/v1/levers/sends", "/v1/levers/grabs", "/v1/levers/packets/{packet_id}"):
        assert set(paths[path]) == {"put"}
