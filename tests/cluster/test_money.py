"""Money on the real cluster: Ray, Serve behind HAProxy, Valkey with fsync always. Everybody is a client over HTTP."""

import asyncio
import itertools
import os
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from actors.transfers.ids import Layout, wallet_index_of, wallet_stream
from cluster.config import Keys, load
from cluster.local.record import SystemRecord, system_environment
from tests.cluster.platform import TENANT, Platform, asked, journaled_since, kill, last_positions, replayed, until
from tests.processes import as_child

_serial = itertools.count()
DAY_MS = 86_400_000


def fresh(name: str) -> str:
    """Return a name nobody had before, so that tests share one system."""
    return f"{name}-{os.getpid()}-{time.time_ns()}-{next(_serial)}"


@pytest_asyncio.fixture
async def platform(system: SystemRecord, keys: Keys) -> AsyncIterator[Platform]:
    """The shared system, ready to be asked by many at once."""
    async with asked(system, keys, 500) as platform:
        await platform.insist("GET", "/readyz", platform.operator)
        yield platform


async def test_400_users_at_once_on_a_packet_of_100_shares_make_exactly_100_winners(platform: Platform) -> None:
    packet = await platform.send(await platform.user(fresh("sender"), 100_000), fresh("key"), 66_666, 100)
    path = f"/v1/packets/{packet['packet_id']}/grabs"
    users = [fresh("taker") for _ in range(400)]
    # A busy machine may ask some of them to wait; each asks again until the answer is final.
    answers = await asyncio.gather(*(platform.insist("POST", path, platform.token(user)) for user in users))
    wins = [body for status, body in answers if status == 200]
    assert len(wins) == 100
    assert {body["code"] for status, body in answers if status != 200} == {"drained"}
    assert sum(body["amount_fen"] for body in wins) == 66_666
    assert sorted(body["rank"] for body in wins) == list(range(1, 101))
    assert len({body["user"] for body in wins}) == 100


async def test_64_parallel_grabs_by_one_user_take_one_share_and_hear_the_same_64_times(platform: Platform) -> None:
    packet = await platform.send(await platform.user(fresh("sender"), 10_000), fresh("key"), 1_000, 10)
    path, token = f"/v1/packets/{packet['packet_id']}/grabs", platform.token(fresh("taker"))
    answers = await asyncio.gather(*(platform.insist("POST", path, token) for _ in range(64)))
    assert {status for status, _ in answers} == {200}
    assert len({(body["rank"], body["amount_fen"], body["at_ms"]) for _, body in answers}) == 1
    assert sum(not body["replayed"] for _, body in answers) == 1
    _, seen, _ = await platform.ask("GET", f"/v1/packets/{packet['packet_id']}", token)
    assert seen["grabbed_count"] == 1


async def test_a_batch_answers_in_order_and_a_bad_item_fails_alone(platform: Platform) -> None:
    packet = await platform.send(await platform.user(fresh("sender"), 10_000), fresh("key"), 300, 3, "equal")
    packet_id = packet["packet_id"]
    grabs: list[Any] = [
        {"packet_id": packet_id, "user": "a"},
        {"packet_id": "nonsense", "user": "a"},
        {"packet_id": packet_id},
        {"packet_id": packet_id, "user": "b"},
        {"packet_id": packet_id, "user": "a"},
    ]
    status, body, _ = await platform.ask("POST", "/v1/grabs/batch", platform.gateway, {"grabs": grabs})
    assert status == 200
    assert body["results"] == [
        {"amount_fen": 100, "rank": 1, "replayed": False},
        {"code": "packet_not_found"},
        {"code": "invalid"},
        {"amount_fen": 100, "rank": 2, "replayed": False},
        {"amount_fen": 100, "rank": 1, "replayed": True},
    ]


async def test_settlement_drains_within_2_seconds_and_wallets_equal_the_replay_of_the_journals(
    platform: Platform,
) -> None:
    packet = await platform.send(await platform.user(fresh("sender"), 100_000), fresh("key"), 5_000, 50)
    users = [fresh("taker") for _ in range(50)]
    grabs = [{"packet_id": packet["packet_id"], "user": user} for user in users]
    status, body, _ = await platform.ask("POST", "/v1/grabs/batch", platform.gateway, {"grabs": grabs})
    assert status == 200
    report = await platform.settled()  # `make bench` prints how long it takes; here it has to happen
    assert report["clean"]
    replay = await replayed(platform.record)
    for user, result in zip(users, body["results"], strict=True):
        _, wallet, _ = await platform.ask("GET", "/v1/wallet", platform.token(user))
        assert wallet == {"available_fen": result["amount_fen"], "held_fen": 0}
        assert replay[("change", TENANT, user)] == result["amount_fen"]
    wallets = Layout.of(load(platform.record.config).layout).wallet
    for shard in report["shards"]:
        if shard["kind"] == "wallet":
            held = [
                fen
                for (_, tenant, user), fen in replay.items()
                if wallet_stream(wallet_index_of(tenant, user, wallets)) == shard["stream"]
            ]
            assert shard["change_fen"] == sum(held)


async def test_a_packet_that_outlives_its_day_refunds_its_sender_exactly(platform: Platform) -> None:
    token = await platform.user(fresh("sender"), 10_000)
    packet = await platform.send(token, fresh("key"), 1_000, 10, "equal")
    path = f"/v1/packets/{packet['packet_id']}"
    taker = platform.token(fresh("taker"))
    assert (await platform.ask("POST", f"{path}/grabs", taker))[0] == 200
    status, _, _ = await platform.ask("POST", "/sandbox/clock", platform.operator, {"advance_ms": DAY_MS + 60_000})
    assert status == 200
    status, late, _ = await platform.ask("POST", f"{path}/grabs", platform.token(fresh("late")))
    assert (status, late["code"]) == (409, "expired")
    status, again, _ = await platform.ask("POST", f"{path}/grabs", taker)
    assert (status, again["amount_fen"], again["replayed"]) == (200, 100, True)
    await platform.settled()
    assert (await platform.ask("GET", "/v1/wallet", token))[1]["available_fen"] == 10_000 - 100
    _, seen, _ = await platform.ask("GET", path, token)
    assert (seen["state"], seen["refunded_fen"], seen["grabbed_fen"]) == ("expired", 900, 100)
    _, page, _ = await platform.ask("GET", "/v1/wallet/statement?limit=1", token)
    assert page["entries"][0]["kind"] == "packet_refund"
    assert page["next_cursor"] is not None


async def test_a_send_whose_gateway_died_between_debit_and_opening_opens_by_itself(platform: Platform) -> None:
    sender = fresh("sender")
    token = await platform.user(sender, 10_000)
    packet_id = await half_send(platform, sender)
    assert (await platform.ask("GET", "/v1/wallet", token))[1]["available_fen"] == 9_000
    await platform.settled()  # settlement delivers what the gateway did not
    grabs = f"/v1/packets/{packet_id}/grabs"
    assert (await platform.ask("POST", grabs, platform.token(fresh("taker"))))[0] == 200


@pytest.mark.parametrize("victim", ["ray::ShardActor", "ray::ServeReplica:hongbao:gateway", "ray::Supervisor"])
async def test_a_killed_process_in_the_middle_of_the_load_loses_nothing(platform: Platform, victim: str) -> None:
    token = await platform.user(fresh("sender"), 10_000_000)
    told: dict[tuple[str, str], tuple[int, int]] = {}

    async def crowd(number: int) -> None:
        packet = await platform.send(token, fresh("key"), 5_000, 20)
        path = f"/v1/packets/{packet['packet_id']}/grabs"
        for _ in range(20):
            user = fresh("taker")
            status, body = await platform.insist("POST", path, platform.token(user))
            assert status == 200, body
            told[packet["packet_id"], user] = body["rank"], body["amount_fen"]

    async def killer() -> None:
        await until(_answered(told, 40), bool)
        for pid in platform.pids(victim)[:2]:
            kill(pid)

    await asyncio.gather(killer(), *(crowd(number) for number in range(12)))
    report = await platform.settled()
    assert report["clean"]
    for (packet_id, user), (rank, amount_fen) in told.items():
        status, again = await platform.insist("POST", f"/v1/packets/{packet_id}/grabs", platform.token(user))
        assert (status, again["rank"], again["amount_fen"], again["replayed"]) == (200, rank, amount_fen, True)
    assert len(told) == 240


async def test_a_key_pays_once_and_its_answer_is_repeated(platform: Platform) -> None:
    token, key = await platform.user(fresh("sender"), 10_000), fresh("key")
    body = {"kind": "lucky", "total_fen": 1_000, "count": 5}
    answers = await asyncio.gather(
        *(platform.ask("POST", "/v1/packets", token, body, Idempotency_Key=key) for _ in range(8))
    )
    assert {status for status, _, _ in answers} == {201}
    assert len({str(packet) for _, packet, _ in answers}) == 1
    assert sum(headers.get("idempotent-replayed") == "true" for _, _, headers in answers) == 7
    assert (await platform.ask("GET", "/v1/wallet", token))[1]["available_fen"] == 9_000
    status, refused, _ = await platform.ask("POST", "/v1/packets", token, body | {"count": 6}, Idempotency_Key=key)
    assert (status, refused["code"]) == (422, "idempotency_key_reused")


async def test_bad_input_is_refused_through_the_real_port_and_nothing_is_journaled(platform: Platform) -> None:
    """Each kind of bad input has its own test in tests/unit; this shows that HAProxy and Serve change none of it."""
    token = await platform.user(fresh("sender"), 10_000)
    await platform.settled()
    before = await last_positions(platform.record)
    good = {"kind": "lucky", "total_fen": 1_000, "count": 5}
    asked = [
        ("POST", "/v1/packets", token, good | {"colour": "red"}, {"Idempotency_Key": "k"}, 422, "invalid"),
        ("POST", "/v1/packets", token, good | {"total_fen": -1}, {"Idempotency_Key": "k"}, 422, "invalid"),
        ("POST", "/v1/packets", token, good | {"total_fen": 10.5}, {"Idempotency_Key": "k"}, 422, "invalid"),
        ("POST", "/v1/packets", token, good | {"total_fen": 4}, {"Idempotency_Key": "k"}, 422, "invalid"),
        ("POST", "/v1/packets", token, good, {}, 400, "idempotency_key_missing"),
        (
            "POST",
            "/v1/packets",
            token,
            good | {"greeting": "x" * 1_000_000},
            {"Idempotency_Key": "k"},
            413,
            "too_large",
        ),
        ("POST", "/v1/packets", "nonsense", good, {"Idempotency_Key": "k"}, 401, "unauthenticated"),
        ("POST", "/v1/packets", token, good, {"Idempotency_Key": "k", "X_Acting_User": "boss"}, 403, "forbidden"),
        ("GET", "/v1/packets/nonsense", token, None, {}, 404, "packet_not_found"),
        ("GET", "/v1/nowhere", token, None, {}, 404, "route_not_found"),
        ("DELETE", "/v1/packets", token, None, {}, 405, "method_not_allowed"),
        ("GET", "/v1/audit", token, None, {}, 403, "forbidden"),
    ]
    for method, path, bearer, body, more, status, code in asked:
        found, problem, headers = await platform.ask(method, path, bearer, body, **more)
        assert (found, problem["code"]) == (status, code)
        assert headers["content-type"] == "application/problem+json"
        assert headers["x-request-id"] == problem["request_id"]
    assert await journaled_since(platform.record, before) == []


async def half_send(platform: Platform, sender: str) -> str:
    """Do the first half of a gateway's send, in a process of its own; return the packet's id."""
    record = platform.record
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.cluster.half_send"),
        *(record.config, record.store_url, record.ray_address, sender, fresh("key")),
        env=os.environ | system_environment(record),
        stdout=asyncio.subprocess.PIPE,
        preexec_fn=as_child,
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    return printed.decode().split()[-1]


def _answered(told: dict[Any, Any], count: int) -> Any:
    async def enough() -> bool:
        return len(told) >= count

    return enough


async def test_the_contract_and_its_pages_come_from_the_running_system(platform: Platform) -> None:
    status, document, _ = await platform.ask("GET", "/openapi.json", platform.operator)
    assert (status, document["paths"]["/v1/packets"]["post"]["operationId"]) == (200, "send_packet")
    for part in ("/docs", "/docs/start.js", "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js"):
        status, content, _ = await platform.fetch("GET", part, platform.operator)
        assert (status, len(content) > 100) == (200, True)
