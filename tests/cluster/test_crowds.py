"""Crowds on the real cluster: a star's packet in lanes, a rain and a nonce, through crashes and to their proofs."""

import asyncio
import json
import subprocess
import sys
import time
from typing import Any

from actors.packet import verify_packet as page
from tests.cluster.platform import Platform, kill, until

SHARES = 300_000
"""Two lanes, by configs/local.toml."""
FANS = 306_000
BATCH = 1_000
DAY_MS = 86_400_000
SECOND_MS = 1_000


async def grab_all(platform: Platform, packet_id: str, users: list[str]) -> list[dict[str, Any]]:
    """Grab for everybody through the chat gateway; whoever's outcome is unknown is asked for again."""
    told: dict[str, dict[str, Any]] = {}
    left = users
    while left:
        items = [{"packet_id": packet_id, "user": user} for user in left]
        _, answer = await platform.insist("POST", "/v1/grabs/batch", platform.gateway, {"grabs": items})
        told |= dict(zip(left, answer["results"], strict=True))
        retried = ("overloaded", "shard_unavailable", "journal_unavailable")
        left = [user for user in left if told[user].get("code") in retried]
        await asyncio.sleep(0.1 if left else 0)
    return [told[user] for user in users]


async def test_a_star_packet_in_lanes_is_given_away_exactly_while_its_shards_are_killed(platform: Platform) -> None:
    run = f"star-{time.time_ns()}"
    star = await platform.user(f"{run}-star", SHARES * 10)
    _, committed = await platform.insist("POST", "/v1/commitments", star, {"star_count": SHARES})
    wish = {"commitment_id": committed["commitment_id"], "sender_nonce": run}
    body = {"kind": "star", "total_fen": SHARES * 10, "count": SHARES, "sponsor": "Big Shop"} | wish
    status, packet = await platform.insist("POST", "/v1/packets", star, body, Idempotency_Key=run)
    assert (status, packet["lanes"], packet["lane_commitments"]) == (201, 2, committed["commitments"])
    packet_id = packet["packet_id"]
    fans = [f"{run}-{number}" for number in range(FANS)]
    parts = [fans[start : start + BATCH] for start in range(0, FANS, BATCH)]
    results: list[dict[str, Any]] = []

    async def some(mine: list[list[str]]) -> None:
        for part in mine:
            results.extend(await grab_all(platform, packet_id, part))

    async def progress() -> int:
        return len(results)

    async def break_it() -> None:
        for part in (FANS // 5, FANS * 3 // 5):
            await until(progress, part.__le__)
            for pid in platform.pids("ray::ShardActor"):
                kill(pid)

    await asyncio.gather(break_it(), *(some(parts[start::4]) for start in range(4)))
    won = [result for result in results if "rank" in result]
    assert (len(results), len(won)) == (FANS, SHARES)
    assert sorted(result["rank"] for result in won) == list(range(1, SHARES + 1))
    assert sum(result["amount_fen"] for result in won) == SHARES * 10
    assert {result["code"] for result in results if "code" in result} == {"drained"}
    _, seen = await platform.insist("GET", f"/v1/packets/{packet_id}", star)
    assert (seen["state"], seen["grabbed_count"]) == ("drained", SHARES)
    again = (await grab_all(platform, packet_id, fans[:BATCH]))[:BATCH]
    assert {result["replayed"] for result in again if "rank" in result} == {True}
    report = await platform.settled()
    assert report["clean"]
    command = [sys.executable, "-m", "cluster.cli", "verify-packet", packet_id, "--data", str(platform.record.data)]
    command += [word for commitment in committed["commitments"] for word in ("--commitment", commitment)]
    proved = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=200)
    assert proved.returncode == 0, proved.stdout + proved.stderr
    assert "everything matches" in proved.stdout
    assert run in proved.stdout, "the nonce is told"


async def test_the_bursts_of_a_rain_open_and_end_once_whatever_dies_and_however_the_clock_jumps(
    platform: Platform,
) -> None:
    run = f"rain-{time.time_ns()}"
    sender = await platform.user(f"{run}-sender", 100_000)
    _, first = await platform.insist(
        "POST", "/v1/packets", sender, {"kind": "lucky", "total_fen": 1, "count": 1}, Idempotency_Key=f"{run}-now"
    )
    start_ms = first["created_at_ms"] + DAY_MS
    bursts = [
        {
            "opens_at_ms": start_ms + number * 3_600 * SECOND_MS,
            "ends_at_ms": start_ms + (number * 3_600 + 1_800) * SECOND_MS,
            "total_fen": 10_000,
            "count": 10,
        }
        for number in range(3)
    ]
    body = {"bursts": bursts, "sponsor": "Big Shop"}
    status, rain = await platform.insist("POST", "/v1/rains", sender, body, Idempotency_Key=run)
    assert status == 201, rain
    ids = [burst["packet_id"] for burst in rain["bursts"]]
    users = [f"{run}-{number}" for number in range(12)]
    assert {result["code"] for result in await grab_all(platform, ids[0], users)} == {"not_open"}

    async def jump(seconds: int) -> None:
        await platform.insist("POST", "/sandbox/clock", platform.operator, {"advance_ms": seconds * SECOND_MS})

    await jump(DAY_MS // SECOND_MS + 60)
    given = [result.get("amount_fen", 0) for result in await grab_all(platform, ids[0], users[:4])]
    for pid in platform.pids("ray::ShardActor"):
        kill(pid)
    await platform.insist("GET", "/readyz", platform.operator)
    await jump(3_600)
    told = await grab_all(platform, ids[1], users)
    assert [result.get("code", "won") for result in told] == ["won"] * 10 + ["drained"] * 2
    assert sum(result.get("amount_fen", 0) for result in told) == 20_000 - sum(given)
    assert {result["code"] for result in await grab_all(platform, ids[0], users[4:])} == {"expired"}
    await jump(2 * 3_600)

    async def look() -> dict[str, Any]:
        return dict((await platform.insist("GET", f"/v1/rains/{rain['rain_id']}", sender))[1])

    seen = await until(look, lambda told: told["bursts"][2]["state"] == "expired")
    assert [burst["state"] for burst in seen["bursts"]] == ["expired", "drained", "expired"]
    assert seen["bursts"][0]["rolled_out_fen"] == seen["bursts"][1]["rolled_in_fen"] == 10_000 - sum(given)
    report = await platform.settled()
    assert report["clean"]
    _, wallet = await platform.insist("GET", "/v1/wallet", sender)
    assert wallet["available_fen"] == 100_000 - 20_000, "the first packet, of 1 fen, has come back too"


async def test_a_nonce_chosen_after_the_commitment_is_in_the_shares_and_the_page_says_so(platform: Platform) -> None:
    run = f"nonce-{time.time_ns()}"
    sender = await platform.user(f"{run}-sender", 10_000)
    status, committed = await platform.insist("POST", "/v1/commitments", sender, {"algorithm": "even/1"})
    assert status == 201, committed
    for pid in platform.pids("ray::ShardActor"):
        kill(pid)
    wish = {"commitment_id": committed["commitment_id"], "sender_nonce": run}
    body = {"kind": "lucky", "total_fen": 1_000, "count": 5} | wish
    status, packet = await platform.insist("POST", "/v1/packets", sender, body, Idempotency_Key=run)
    assert (status, packet["commitment"]) == (201, committed["commitment"])
    status, answer = await platform.insist("POST", "/v1/packets", sender, body, Idempotency_Key=f"{run}-2")
    assert (status, answer["code"]) == (404, "commitment_not_found")
    path = f"/v1/packets/{packet['packet_id']}/proof"
    heads = []
    for user in range(5):
        _, open_proof = await platform.insist("GET", path, sender)
        heads.append(open_proof["chain_head"])
        await grab_all(platform, packet["packet_id"], [f"{run}-{user}"])
    _, proof = await platform.insist("GET", path, sender)
    checker = [sys.executable, "-I", page.__file__, "-", "--commitment", committed["commitment"]]
    for head in heads:
        checker += ["--head", head]
    proved = await asyncio.to_thread(
        subprocess.run, checker, input=json.dumps(proof), capture_output=True, text=True, timeout=60
    )
    assert proved.returncode == page.MATCHES, proved.stdout + proved.stderr
    assert run in proved.stdout
