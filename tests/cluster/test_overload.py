"""Overload on the real cluster: more is asked than can be done, and what matters most still is."""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest_asyncio

from cluster.config import Keys
from cluster.local.record import SystemRecord
from loadtest.bench.wire import drive_http, http_request
from tests.cluster.platform import Platform, asked

READERS = 300
"""Readers at first; they double while hardly anybody is refused, because what is too much depends on the machine."""
READERS_MAX = 2_400
TAKERS = 60
WAIT_S = 60.0
PRESS_S = 1.0
"""The readers press for so long at a time."""


@pytest_asyncio.fixture
async def platform(system: SystemRecord, keys: Keys) -> AsyncIterator[Platform]:
    """The shared system."""
    async with asked(system, keys, READERS + 50) as platform:
        await platform.insist("GET", "/readyz", platform.operator)
        yield platform


async def test_at_saturation_readers_are_asked_to_wait_while_grabs_win_and_no_fen_is_lost(platform: Platform) -> None:
    run = f"overload-{time.time_ns()}"
    packet = await platform.send(await platform.user(f"{run}-sender", 100_000), run, TAKERS * 100, TAKERS, "equal")
    path = f"/v1/packets/{packet['packet_id']}/grabs"
    tokens = [platform.token(f"{run}-reader-{number}") for number in range(READERS)]
    asked = [http_request("GET", "/v1/wallet", token) for token in tokens]
    ending = False
    reads: Counter[int] = Counter()

    async def press() -> None:
        # A client so light that the gateway is what has too much to do.
        readers = READERS
        while not ending:
            seen = await drive_http(platform.record.url, itertools.cycle(asked), connections=readers, seconds=PRESS_S)
            reads.update(seen.statuses)
            if seen.statuses.get(429, 0) * 10 < seen.statuses.get(200, 0):
                readers = min(2 * readers, READERS_MAX)

    async def read_until_refused() -> None:
        deadline = time.monotonic() + WAIT_S
        for number in itertools.count():
            status, body, headers = await platform.ask("GET", "/v1/wallet", tokens[number % READERS])
            if status == 429:
                assert (body["code"], body["retryable"]) == ("overloaded", True)
                assert int(headers["retry-after"]) * 1000 >= body["retry_after_ms"] > 0
                return
            assert time.monotonic() < deadline, f"nobody is refused: {reads}"

    crowd = asyncio.create_task(press())
    try:
        await read_until_refused()
        users = [f"{run}-taker-{number}" for number in range(TAKERS)]
        batch = {"grabs": [{"packet_id": packet["packet_id"], "user": user} for user in users[: TAKERS // 2]]}
        status, answer = await platform.insist("POST", "/v1/grabs/batch", platform.gateway, batch)
        assert status == 200
        amounts = [result["amount_fen"] for result in answer["results"]]
        singles = [platform.ask("POST", path, platform.token(user)) for user in users[TAKERS // 2 :]]
        answers = await asyncio.gather(*singles)
        assert (await platform.ask("GET", "/healthz", platform.operator))[0] == 200
    finally:
        ending = True
        await crowd
    won = [body["amount_fen"] for status, body, _ in answers if status == 200]
    assert len(won) == TAKERS // 2, f"grabs win while reads are refused: {[status for status, _, _ in answers]}"
    assert set(itertools.chain(amounts, won)) == {100}
    assert set(reads) <= {200, 429}
    report = await platform.settled()
    assert report["clean"]
