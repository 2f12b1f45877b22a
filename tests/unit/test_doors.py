"""Doors: every route stands in one table, and nobody's body is read before it is known who they are."""

import asyncio
import json
from pathlib import Path
from typing import Any, cast

import pytest

from actors.kernel.quota import Bound
from cluster.config import load
from cluster.gateway.auth import Callers
from cluster.gateway.middleware.admission import Caller
from cluster.gateway.middleware.limits import RequestLimits
from cluster.gateway.middleware.overload_control import EXEMPT, GRAB, LAST, MANY, READ, SEND
from cluster.gateway.packet.grab_items import read_items
from cluster.gateway.problems import Problem
from cluster.gateway.route import BodySize, Route
from cluster.gateway.routing import ROUTES, Operation, RouteTable
from tests.simulation.http import Http, token
from tests.simulation.loop import simulated
from tests.unit.fake_replica import OpenGate

TABLE = RouteTable(ROUTES, load(sandbox=True, photos_url="/nowhere"))
NOWHERE = TABLE.find("", "")[0].route


def door_of(method: str, path: str) -> Route:
    return TABLE.find(method, path)[0].route


def path_of(door: Route) -> str:
    """Fill in names."""
    return "/".join("abc" if part.startswith("{") else part for part in door.path.split("/"))


def scope_of(method: str, path: str, headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {"type": "http", "method": method, "path": path, "query_string": b"", "headers": headers}


class Listener:
    """Takes an answer, and gives a body that nobody may ask for before it is known who sends it."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = list(chunks)
        self.read = 0
        self.status = 0
        self.told: dict[str, Any] = {}

    async def receive(self) -> Any:
        self.read += 1
        if not self.chunks:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": self.chunks.pop(0), "more_body": True}

    async def send(self, message: Any) -> None:
        self.status = message.get("status", self.status)
        if message.get("body"):
            self.told = json.loads(message["body"])


def test_two_routes_of_one_method_and_path_are_no_table() -> None:
    again = ROUTES[0]._replace(path=ROUTES[0].path.replace("{packet_id}", "{name}"))
    with pytest.raises(ValueError, match=f"two routes {again.method} {again.path}"):
        RouteTable([*ROUTES, again], load())


def test_a_route_that_its_configuration_does_not_serve_is_nowhere() -> None:
    table = RouteTable(ROUTES, load(sandbox=False, photos_url=""))
    for method, path in (("POST", "/sandbox/users"), ("GET", "/v1/photos/abc")):
        assert table.find(method, path)[0].route.path == ""
        assert table.allowed(path) == []


@pytest.mark.parametrize("door", ROUTES, ids=lambda door: f"{door.method} {door.path}")
def test_a_request_comes_to_its_own_door_and_to_no_other(door: Route) -> None:
    path = path_of(door)
    assert door_of(door.method, path) == door
    if door.method == "GET":
        assert door_of("HEAD", path) == door
    for other in ("DELETE", "PATCH", "get", ""):
        assert door_of(other, path) == NOWHERE
    for near in (path + "/", path + "//", path + "/x/y/z", "/" + path, path.upper() + "X", path[1:]):
        assert door_of(door.method, near).path != door.path or near == path
    if "{" in door.path:
        assert door_of(door.method, path.replace("abc", "")) != door


@pytest.mark.parametrize("door", [door for door in ROUTES if door.callers is not Callers.PUBLIC], ids=lambda d: d.path)
@simulated
async def test_who_proves_nothing_is_told_so_before_a_byte_of_the_body_is_read(door: Route, tmp_path: Path) -> None:
    http = await Http.start(photos_url=str(tmp_path))
    app = http.client._transport.app  # type: ignore[attr-defined]  # an ASGITransport
    wrong = {Callers.USERS: "operator", Callers.GATEWAYS: "user", Callers.OPERATORS: "gateway"}[door.callers]
    for bearer, status in ((None, 401), ("a.b.c", 401), (token(ttl_s=-1), 401), (token(scope=wrong), 403)):
        listener = Listener(b'{"bursts": [')
        headers = [(b"transfer-encoding", b"chunked"), (b"content-type", b"application/json")]
        if bearer is not None:
            headers.append((b"authorization", f"Bearer {bearer}".encode()))
        await app(scope_of(door.method, path_of(door), headers), listener.receive, listener.send)
        assert (listener.status, listener.read) == (status, 0), listener.told


@simulated
async def test_bodies_are_bounded_by_route() -> None:
    http = await Http.start()
    bounds = http.gateway.settings.bounds
    assert bounds.body_bytes_max == 65_536
    for door in ROUTES:
        if door.method == "GET" or door.size in (BodySize.PHOTO, BodySize.STREAM) or "/photos/" in door.path:
            continue
        bytes_max = bounds.batch_bytes_max if door.size is BodySize.BATCH else bounds.body_bytes_max
        scope = {Callers.USERS: "user", Callers.GATEWAYS: "gateway", Callers.OPERATORS: "operator"}[door.callers]
        headers = {"idempotency-key": "k", "content-type": "application/json"}
        for content in (b" " * (bytes_max + 1), _drip(b" " * bytes_max, b" ")):
            response = await http.ask(door.method, path_of(door), scope=scope, content=content, headers=headers)
            if not (door.path.endswith("/decline") and not isinstance(content, bytes)):  # which reads none
                assert (response.status_code, response.json()["code"]) == (413, "too_large"), door


async def _drip(*chunks: bytes) -> Any:
    for chunk in chunks:
        yield chunk


@simulated
async def test_what_has_too_many_parts_is_refused_before_it_is_decoded() -> None:
    http = await Http.start()
    fields = ",".join(f'"f{number}":1' for number in range(5_000))
    bursts = ",".join("1" for _ in range(20_000))
    headers = {"idempotency-key": "k", "content-type": "application/json"}
    asked = (
        ("POST", "/v1/rains", "user", f'{{"bursts":[{bursts}]}}'),
        ("POST", "/v1/commitments", "user", f"{{{fields}}}"),
        ("POST", "/v1/packets", "user", f"{{{fields}}}"),
        ("PUT", "/v1/levers/sends", "operator", f"{{{fields}}}"),
        ("POST", "/v1/lishi", "user", f"{{{fields}}}"),
    )
    for method, path, scope, content in asked:
        response = await http.ask(method, path, scope=scope, content=content.encode(), headers=headers)
        assert (response.status_code, response.json()["code"]) == (413, "too_large"), path


def test_a_batch_is_counted_before_its_items_are_looked_at() -> None:
    bad = b'{"grabs":[' + b",".join([b"1"] * 1_001) + b"]}"
    with pytest.raises(Problem, match="too_large"):
        read_items(bad, 1_000)
    assert read_items(b'{"grabs":[1,2]}', 2) == [None, None]


@pytest.mark.parametrize("path", ["/v1/packets", "/v1/rains", "/v1/grabs/batch"])
@simulated
async def test_half_a_body_is_refused_at_its_deadline_and_gives_its_place_back(path: str) -> None:
    http = await Http.start()
    app = http.client._transport.app  # type: ignore[attr-defined]  # an ASGITransport
    scope = "gateway" if path.endswith("batch") else "user"
    headers = [
        (b"authorization", f"Bearer {token(scope=scope)}".encode()),
        (b"content-length", b"500"),
        (b"content-type", b"application/json"),
        (b"idempotency-key", b"k"),
    ]
    listener = Listener(b'{"kind":')
    began_s = asyncio.get_running_loop().time()
    await app(scope_of("POST", path, headers), listener.receive, listener.send)
    assert (listener.status, listener.told["code"], listener.told["retryable"]) == (408, "too_slow", True)
    waited_s = asyncio.get_running_loop().time() - began_s
    assert waited_s == pytest.approx(http.gateway.settings.timing.body_ms / 1000, abs=0.1)
    assert (await http.ask("GET", "/v1/wallet")).status_code == 200


@simulated
async def test_a_place_is_given_back_whatever_becomes_of_a_request() -> None:
    inside: list[str] = []
    seen: list[int] = []

    class Counting(OpenGate):
        def enter(self, caller: Caller) -> None:
            inside.append(caller.user)

        def leave(self, caller: Caller) -> None:
            inside.remove(caller.user)

    async def fails(operation: Operation, request: Any, send: Any) -> None:
        seen.append(len(inside))
        raise RuntimeError("a bug")

    edge = RequestLimits(fails, TABLE, cast(Any, Counting()), load(), stamps=False)
    with pytest.raises(RuntimeError):
        await edge(scope_of("GET", "/v1/wallet", []), None, None)
    assert (seen, inside) == ([1], [])


@simulated
async def test_one_user_and_one_tenant_hold_a_part_of_the_places_and_health_and_levers_are_operators() -> None:
    http = await Http.start(bounds={"requests_max": 2}, fair={"requests_max": {"user": 50, "tenant": 50}})
    stuck = asyncio.create_task(http.ask("POST", "/v1/packets", key="k", content=_stuck()))
    await asyncio.sleep(0.01)
    assert (await http.ask("GET", "/v1/wallet", user="bob")).status_code == 429, "its tenant's part is taken"
    bearer = {"authorization": f"Bearer {token('zoe', tenant='other')}"}
    assert (await http.client.get("/v1/wallet", headers=bearer)).status_code == 200
    assert (await http.ask("GET", "/v1/levers", scope="operator")).status_code == 200
    also = asyncio.create_task(http.client.post("/v1/packets", content=_stuck(), headers=bearer))
    await asyncio.sleep(0.01)
    assert (await http.client.get("/healthz")).status_code == 429, "every place is taken"
    assert (await http.ask("GET", "/healthz", scope="operator")).status_code == 200
    assert [(await each).status_code for each in (stuck, also)] == [408, 408]
    assert (await http.client.get("/healthz")).status_code == 200


async def _stuck() -> Any:
    yield b"{"
    await asyncio.sleep(100)


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("POST", "/v1/packets", SEND),
        ("POST", "/v1/grabs/batch", MANY),
        ("POST", "/v1/grabs/stream", MANY),
        ("POST", "/v1/packets/abc/grabs", GRAB),
        ("POST", "/v1/packets/abc/note", READ),
        ("POST", "/v1/lishi/abc/accept", SEND),
        ("POST", "/v1/lishi/abc/decline", READ),
        ("GET", "/v1/wallet/statement", READ),
        ("POST", "/v1/photos", LAST),
        ("GET", "/v1/audit", LAST),
        ("POST", "/nowhere", LAST),
        ("GET", "/healthz", EXEMPT),
        ("PUT", "/v1/levers/sends", EXEMPT),
    ],
)
def test_every_route_has_its_kind(method: str, path: str, kind: int) -> None:
    assert door_of(method, path).priority == kind


def test_parts_of_the_places_are_at_least_one() -> None:
    assert Bound.of(1, load().fair.requests_max) == Bound(1, 1, 1)
