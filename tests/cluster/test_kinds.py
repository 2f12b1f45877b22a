"""Kinds on the real cluster: packets that are not for everybody, through a crash of their shard and to their end."""

import time
from typing import Any

from tests.cluster.platform import Platform, kill

DAY_MS = 86_400_000
TRIES = 5
"""Wrong phrases in configs/local.toml."""


async def sent(platform: Platform, token: str, key: str, **body: Any) -> str:
    """Send a packet and return its id."""
    body = {"total_fen": 300, "count": 3} | body
    status, packet = await platform.insist("POST", "/v1/packets", token, body, Idempotency_Key=key)
    assert status == 201, packet
    return str(packet["packet_id"])


async def code(platform: Platform, packet_id: str, user: str, body: Any = None) -> str:
    """Grab as that user; return the code of the refusal, or "won". `rate_limited` is retryable, so nobody insists."""
    path = f"/v1/packets/{packet_id}/grabs"
    status, answer, _ = await platform.ask("POST", path, platform.token(user), body)
    if status >= 500:
        status, answer = await platform.insist("POST", path, platform.token(user), body)
    return "won" if status == 200 else str(answer["code"])


async def test_packets_for_some_are_taken_by_them_alone_also_after_their_shard_was_killed(platform: Platform) -> None:
    run = f"kinds-{time.time_ns()}"
    bob, carol, dave = (f"{run}-{name}" for name in ("bob", "carol", "dave"))
    sender = await platform.user(f"{run}-sender", 10_000)
    direct = await sent(platform, sender, f"{run}-1", kind="direct", count=1, addressee=bob)
    group = await sent(platform, sender, f"{run}-2", kind="group", group="family", shares="equal")
    secret = await sent(platform, sender, f"{run}-3", kind="password", passphrase="恭喜 FAT choy")
    left = await sent(platform, sender, f"{run}-4", kind="direct", count=1, addressee=carol)
    assert await sent(platform, sender, f"{run}-3", kind="password", passphrase="恭喜fatchoy") == secret

    items = [{"packet_id": group, "user": user} for user in (bob, carol, dave)]
    batch = {"grabs": [items[0] | {"group": "family"}, items[1] | {"group": "work"}, items[2]]}
    _, told = await platform.insist("POST", "/v1/grabs/batch", platform.gateway, batch)
    assert [result.get("code", "won") for result in told["results"]] == ["won", "not_member", "not_member"]
    wrong = {"grabs": [{"packet_id": secret, "user": dave, "passphrase": "guess"}] * TRIES}
    _, told = await platform.insist("POST", "/v1/grabs/batch", platform.gateway, wrong)
    assert {result["code"] for result in told["results"]} == {"wrong_passphrase"}

    for pid in platform.pids("ray::ShardActor"):
        kill(pid)
    await platform.insist("GET", "/readyz", platform.operator)
    right = {"passphrase": "恭喜fatchoy"}
    _, told = await platform.insist("GET", f"/v1/packets/{direct}", sender)
    assert (told["state"], told["grabs"]) == ("open", [])
    assert [await code(platform, direct, user) for user in (carol, bob, bob)] == ["not_addressee", "won", "won"]
    assert await code(platform, secret, dave, right) == "rate_limited"
    assert [await code(platform, secret, carol, said) for said in (None, right)] == ["wrong_passphrase", "won"]
    assert (await platform.ask("GET", f"/v1/packets/{left}", platform.token(bob)))[0] == 404

    await platform.ask("POST", "/sandbox/clock", platform.operator, {"advance_ms": DAY_MS + 60_000})
    assert [await code(platform, left, user) for user in (carol, bob)] == ["expired", "expired"]
    assert await code(platform, group, dave) == "expired"
    report = await platform.settled()
    assert report["clean"]
    seen = [(await platform.insist("GET", f"/v1/packets/{each}", sender))[1] for each in (group, secret, left)]
    paid, refunded = sum(packet["grabbed_fen"] for packet in seen), sum(packet["refunded_fen"] for packet in seen)
    assert (paid + refunded, seen[2]["refunded_fen"]) == (900, 300)
    _, wallet = await platform.insist("GET", "/v1/wallet", sender)
    assert wallet["available_fen"] == 10_000 - 300 - paid
