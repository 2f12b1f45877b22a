"""Levers on the real cluster: a pause holds over the death of its hosts, and what was promised goes on meanwhile."""

import asyncio
import os
import time
from collections.abc import AsyncIterator

import pytest_asyncio

from cluster.commands.switches import paused_now
from cluster.config import Keys
from cluster.local.record import SystemRecord
from tests.cluster.platform import Platform, asked, kill, until

PACKETS, SHARES = 6, 30
SERIAL = f"{os.getpid()}-{time.time_ns()}"


@pytest_asyncio.fixture
async def platform(system: SystemRecord, keys: Keys) -> AsyncIterator[Platform]:
    """The shared system, with everything going on before and after."""
    async with asked(system, keys, 200) as platform:
        await platform.insist("GET", "/readyz", platform.operator)
        try:
            yield platform
        finally:
            await pull(platform, "grabs", paused=False)


async def pull(platform: Platform, lever: str, *, paused: bool) -> None:
    """Set a lever, until it is set."""
    status, answer = await platform.insist("PUT", f"/v1/levers/{lever}", platform.operator, {"paused": paused})
    assert (status, answer["paused"]) == (200, paused), answer


async def test_grabs_paused_under_load_stay_paused_over_a_kill_and_every_share_is_taken_after_the_resume(
    platform: Platform,
) -> None:
    token = await platform.user(f"sender-{SERIAL}", 10_000_000)
    packets = [await platform.send(token, f"{SERIAL}-{number}", 6_000, SHARES) for number in range(PACKETS)]
    told: dict[tuple[str, str], tuple[int, int]] = {}
    paused_seen = asyncio.Event()

    async def grab(path: str, user: str) -> None:
        """Grab until there is a share, as a patient client does who is told to come back."""
        while True:
            status, body, _ = await platform.ask("POST", path, platform.token(user))
            if status == 200:
                told[path, user] = body["rank"], body["amount_fen"]
                return
            assert body["retryable"], body
            if body["code"] == "paused":
                paused_seen.set()
            await asyncio.sleep(0.05)

    async def crowd(packet_id: str) -> None:
        for number in range(SHARES):
            await grab(f"/v1/packets/{packet_id}/grabs", f"taker-{number}")

    async def answered() -> int:
        return len(told)

    async def refusals() -> set[str]:
        asked = (
            platform.ask("POST", f"/v1/packets/{packet['packet_id']}/grabs", platform.token("late"))
            for packet in packets
        )
        return {body["code"] for status, body, _ in await asyncio.gather(*asked) if status != 200}

    async def taken() -> int:
        seen = await asyncio.gather(
            *(platform.insist("GET", f"/v1/packets/{packet['packet_id']}", token) for packet in packets)
        )
        return sum(body["grabbed_count"] for _, body in seen)

    load = asyncio.gather(*(crowd(packet["packet_id"]) for packet in packets))
    await until(answered, lambda count: count >= PACKETS)
    await pull(platform, "grabs", paused=True)
    count = await taken()
    await paused_seen.wait()
    for pid in platform.pids("ray::ShardActor"):
        kill(pid)
    await until(refusals, lambda codes: codes == {"paused"})
    assert count < PACKETS * SHARES
    for (path, user), (rank, amount_fen) in list(told.items()):
        status, again = await platform.insist("POST", path, platform.token(user))
        assert (status, again["rank"], again["amount_fen"], again["replayed"]) == (200, rank, amount_fen, True)
    assert await taken() == count, "nobody took a fresh share meanwhile"
    words = await asyncio.to_thread(paused_now, platform.record.url, platform.operator)
    assert words.startswith("grabs since 20")
    assert words.endswith("by operator")
    await pull(platform, "grabs", paused=False)
    await load
    assert len(told) == PACKETS * SHARES
    report = await platform.settled()
    assert report["clean"]
    for packet in packets:
        _, seen, _ = await platform.ask("GET", f"/v1/packets/{packet['packet_id']}", token)
        assert (seen["state"], seen["grabbed_fen"], seen["refunded_fen"]) == ("drained", 6_000, 0)
    assert await asyncio.to_thread(paused_now, platform.record.url, platform.operator) == "nothing"
