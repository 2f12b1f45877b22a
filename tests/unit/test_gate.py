"""The gate over HTTP: refusals that say what to do, cost nothing, and never meet who must not meet them."""

import asyncio
import base64
import json
from typing import Any

import httpx
import pytest

from actors.kernel.names import user_hash
from cluster.config import load
from cluster.gateway.dispatch.batcher import Batching
from cluster.gateway.middleware.overload_control import (
    GRAB,
    KINDS,
    LEVEL_MAX,
    MANY,
    PRIORITIES,
    READ,
    OverloadControl,
    priority_of,
)
from cluster.gateway.middleware.queue_delay import HOUR_S, QueueDelay, overload_rules
from tests.simulation.http import Http, token
from tests.simulation.loop import simulated

HOUR = 478_000
QUIET_US, BUSY_US = 0, 1_000_000


async def at_level(http: Http, level: int) -> OverloadControl:
    """Bring a system's gate to a level or just below: press it with requests that no window can carry."""
    admission: OverloadControl = http.gateway.service.overload
    admission.close_window(BUSY_US, HOUR)
    for _ in range(500):
        if admission.tally.level <= level:
            break
        for number in range(512):
            admission.admit(number % len(KINDS), number * 7_919_777, "wechat")
        admission.close_window(BUSY_US, HOUR)
    assert level - PRIORITIES // 2 < admission.tally.level <= level
    for name in ("accepted", "shed"):
        setattr(admission.tally, name, [0] * len(KINDS))
    http.gateway.service.queue_delay.measuring = True  # no window is closed while the test looks
    return admission


def rank_of(kind: int, user: str, tenant: str = "wechat") -> int:
    return kind * PRIORITIES + priority_of(user_hash(tenant, user), HOUR)


def assert_refused(response: httpx.Response) -> None:
    assert (response.status_code, response.headers["content-type"]) == (429, "application/problem+json")
    body: dict[str, Any] = response.json()
    assert set(body) == {"type", "title", "status", "detail", "code", "retryable", "request_id", "retry_after_ms"}
    assert (body["status"], body["code"], body["retryable"]) == (429, "overloaded", True)
    assert body["request_id"] == response.headers["x-request-id"]
    assert int(response.headers["retry-after"]) == -(-body["retry_after_ms"] // 1000) >= 1


@simulated
async def test_while_reads_are_refused_grabs_sends_batches_and_health_are_answered() -> None:
    http = await Http.start()
    packet = await http.send()
    await at_level(http, READ * PRIORITIES - 1)
    for path in ("/v1/wallet", "/v1/wallet/statement", f"/v1/packets/{packet['packet_id']}", "/docs"):
        assert_refused(await http.ask("GET", path))
    assert_refused(await http.ask("GET", "/v1/audit", scope="operator"))
    assert (await http.grab(packet["packet_id"], "bob")).status_code == 200
    assert (await http.send("k2"))["state"] == "open"
    grabs = {"grabs": [{"packet_id": packet["packet_id"], "user": "carol"}]}
    assert (await http.ask("POST", "/v1/grabs/batch", scope="gateway", json=grabs)).status_code == 200
    assert (await http.client.get("/healthz")).status_code == 200
    assert (await http.client.get("/readyz")).status_code == 200


@simulated
async def test_a_grab_is_refused_by_its_users_priority_whoever_asks_for_him_and_however() -> None:
    http = await Http.start()
    packet = await http.send()
    admission = await at_level(http, GRAB * PRIORITIES + 80)
    level = admission.tally.level
    users = [f"u{number}" for number in range(24)]
    path = f"/v1/packets/{packet['packet_id']}/grabs"
    seen = set()
    for user in users:
        kept = rank_of(GRAB, user) <= level
        fresh = await http.ask("POST", path, user=user)  # a token nobody has seen
        known = await http.ask("POST", path, user=user)
        named = await http.ask("POST", path, user="chat", scope="gateway", headers={"x-acting-user": user})
        assert {response.status_code == 429 for response in (fresh, known, named)} == {not kept}
        seen.add(kept)
    assert seen == {True, False}
    assert admission.tally.shed[GRAB] == 3 * sum(rank_of(GRAB, user) > level for user in users)


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer x", "Bearer a.b.c", "Bearer a.%.c", "Bearer ..", "x"])
@simulated
async def test_what_is_no_token_is_told_so_under_any_load_and_takes_nobodys_place(authorization: str) -> None:
    http = await Http.start()
    admission = await at_level(http, GRAB * PRIORITIES + 80)
    seen = admission.seen
    head, _, signature = token().split(".")
    claims = base64.urlsafe_b64encode(json.dumps({"sub": "bob", "tenant": "wechat"}).encode()).decode().rstrip("=")
    for lie in (authorization, f"Bearer {head}.{claims}.{signature}"):
        response = await http.client.post("/v1/packets/x/grabs", headers={"authorization": lie})
        assert response.status_code == 401
    assert admission.seen == seen


@simulated
async def test_a_refusal_reads_no_body_and_echoes_any_request_id_as_json() -> None:
    http = await Http.start()
    await at_level(http, READ * PRIORITIES - 1)
    request_id = 'quo"te\\' + "x" * 20
    response = await http.ask("GET", "/v1/wallet", headers={"x-request-id": request_id})
    assert_refused(response)
    assert response.json()["request_id"] == request_id

    async def body() -> Any:
        raise AssertionError("nobody reads it")
        yield b""

    await at_level(http, MANY * PRIORITIES - 1)
    assert_refused(await http.ask("POST", "/v1/grabs/batch", scope="gateway", content=body()))


def pulse(late_s: list[float]) -> tuple[OverloadControl, QueueDelay]:
    """Return a pulse whose event loop is late by these, beat after beat."""
    overload = load().overload
    admission = OverloadControl(overload_rules(overload))

    class NoBatching(Batching):
        def __init__(self) -> None:
            pass

        def queueing_us(self) -> int:
            return 0

    class Late(QueueDelay):
        def _beat(self) -> None:
            self._due_s -= late_s.pop(0) if late_s else 0.0
            super()._beat()

    return admission, Late(admission, NoBatching(), overload, wall_s=lambda: HOUR * HOUR_S + 1.0)


@simulated
async def test_a_late_event_loop_is_queueing() -> None:
    admission, beats = pulse([0.025] * 20 + [0.001] * 1_000)
    beats.start()
    for _ in range(25):
        admission.accept(READ)
        await asyncio.sleep(0.01)
    assert not admission.calm
    assert admission.hour == HOUR
    assert admission.tally.windows_overloaded == 2
    assert admission.tally.loop_delay_ms.counts[5] == 20, "between 20 and 50 ms"


@simulated
async def test_many_requests_end_a_window_early() -> None:
    admission, beats = pulse([])
    beats.start()
    for _ in range(2_000):
        admission.accept(READ)
    await asyncio.sleep(0.02)
    assert admission.tally.windows == 1


@simulated
async def test_an_idle_replica_has_no_pulse_and_the_next_request_starts_it() -> None:
    http = await Http.start()
    assert not http.gateway.service.queue_delay.measuring
    await http.ask("GET", "/v1/wallet")
    assert http.gateway.service.queue_delay.measuring
    await asyncio.sleep(1.0)
    assert not http.gateway.service.queue_delay.measuring
    assert http.gateway.service.overload.tally.level == LEVEL_MAX
