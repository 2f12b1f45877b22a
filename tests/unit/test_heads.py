"""Heads: the same bytes name the same person at every door, and what is said twice is refused."""

import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.kernel.names import USER_RULE, is_user
from actors.kernel.quota import Bound
from cluster.gateway.headers import read_acting_user, read_key, read_token
from cluster.gateway.middleware.admission import Admission, Caller
from cluster.gateway.problems import Problem
from cluster.gateway.routing import ROUTES
from tests.simulation.http import Http, token
from tests.simulation.loop import simulated
from tests.simulation.system import TENANT

NAMES = ["bob", "zoé", "小明", "😀", "ÿ", "a+b@c", "100%"]

Door = Callable[[Http, str, str], Awaitable[str]]
"""Takes a share of a packet as somebody, and tells as whom."""


async def by_token(http: Http, packet_id: str, user: str) -> str:
    return str((await http.grab(packet_id, user)).json()["user"])


async def by_header(http: Http, packet_id: str, user: str, value: bytes | None = None) -> str:
    named: Any = {"x-acting-user": quote(user, safe="").encode() if value is None else value}
    response = await http.ask("POST", f"/v1/packets/{packet_id}/grabs", scope="gateway", headers=named)
    return str(response.json()["user"])


async def by_bytes(http: Http, packet_id: str, user: str) -> str:
    return await by_header(http, packet_id, user, user.replace("%", "%25").encode())


async def by_batch(http: Http, packet_id: str, user: str) -> str:
    grabs = {"grabs": [{"packet_id": packet_id, "user": user}]}
    response = await http.ask("POST", "/v1/grabs/batch", scope="gateway", json=grabs)
    assert "rank" in response.json()["results"][0], response.text
    return user


async def by_stream(http: Http, packet_id: str, user: str) -> str:
    line = json.dumps({"id": 1, "packet_id": packet_id, "user": user}, ensure_ascii=False).encode()
    headers = {"content-type": "application/x-ndjson"}
    response = await http.ask("POST", "/v1/grabs/stream", scope="gateway", content=line, headers=headers)
    assert "rank" in response.json(), response.text
    return user


DOORS: dict[str, Door] = {
    "token": by_token,
    "header in UTF-8": by_bytes,
    "header, escaped": by_header,
    "batch": by_batch,
    "stream": by_stream,
}


@pytest.mark.parametrize("user", NAMES)
@simulated
async def test_one_person_gets_one_share_through_whichever_doors(user: str) -> None:
    http = await Http.start()
    packet_id = (await http.send(count=5))["packet_id"]
    for door in DOORS.values():
        assert await door(http, packet_id, user) == user
    seen = (await http.ask("GET", f"/v1/packets/{packet_id}")).json()
    assert [line["user"] for line in seen["grabs"]] == [user]


@simulated
async def test_every_user_route_reads_the_acting_user_alike() -> None:
    http = await Http.start()
    balance: Any = {"user": "zoé", "tenant": TENANT, "balance_fen": 5_000}
    assert (await http.ask("POST", "/sandbox/users", scope="operator", json=balance)).status_code == 201
    named: Any = {"x-acting-user": "zoé".encode()}
    wallet = await http.ask("GET", "/v1/wallet", scope="gateway", headers=named)
    assert wallet.json()["available_fen"] == 5_000
    wish = {"kind": "lucky", "total_fen": 1_000, "count": 5}
    sent = await http.ask("POST", "/v1/packets", scope="gateway", key="k", json=wish, headers=named)
    assert sent.json()["sender"] == "zoé"
    asked = await http.ask("POST", "/v1/lishi", scope="gateway", key="k", json={"asked": "bob"}, headers=named)
    assert asked.json()["asker"] == "zoé"


BAD_NAMES = {
    "latin-1": "zoé".encode("latin-1"),
    "half a character": "小".encode()[:2],
    "overlong": b"\xc0\xaf",
    "a surrogate": b"\xed\xa0\x80",
    "decomposed": "zoe\u0301".encode(),
    "zero width": "bob\u200b".encode(),
    "zero width, escaped": b"bob%E2%80%8B",
    "a control, escaped": b"bob%00",
    "a blank, escaped": b"b%20b",
    "latin-1, escaped": b"zo%E9",
    "half an escape": b"50%",
    "no escape": b"%zz",
    "a signed escape": b"%+1",
    "nothing": b"",
}


@pytest.mark.parametrize("value", BAD_NAMES.values(), ids=BAD_NAMES)
@simulated
async def test_who_is_nobody_is_refused_and_told_the_rule(value: bytes) -> None:
    http = await Http.start()
    packet_id = (await http.send())["packet_id"]
    headers: Any = {"x-acting-user": value}
    for method, path in (("GET", "/v1/wallet"), ("POST", f"/v1/packets/{packet_id}/grabs")):
        response = await http.ask(method, path, scope="gateway", headers=headers)
        assert (response.status_code, response.json()["code"]) == (422, "invalid")
        assert USER_RULE in response.json()["fields"]["X-Acting-User"]


@given(st.binary(max_size=80))
def test_whatever_bytes_name_a_user_name_one_who_can_be_named_back(value: bytes) -> None:
    try:
        user = read_acting_user(value)
    except Problem as problem:
        told = problem.code
    else:
        told = "invalid"
        assert is_user(user)
        assert read_acting_user(quote(user, safe="").encode()) == user
        assert value == user.encode() or b"%" in value
    assert told == "invalid"


@given(st.text(max_size=64).filter(is_user))
def test_everybody_can_be_named_in_utf_8_and_escaped(user: str) -> None:
    assert read_acting_user(user.replace("%", "%25").encode()) == read_acting_user(quote(user).encode()) == user


@given(st.binary(min_size=1, max_size=255))
def test_a_key_is_utf_8_and_other_bytes_are_another_key(value: bytes) -> None:
    try:
        value.decode()
    except UnicodeDecodeError:
        with pytest.raises(Problem, match="invalid"):
            read_key(value)
    else:
        assert read_key(value).encode("latin-1") == value


@given(st.binary(max_size=40))
def test_a_token_is_ascii_or_none(value: bytes) -> None:
    told = read_token(b"Bearer " + value)
    assert told is None or (told.isascii() and told.encode() == value.strip())
    assert read_token(value) is None or value[:7].lower() == b"bearer "


@simulated
async def test_the_gate_queues_a_person_by_whom_the_doors_name() -> None:
    http = await Http.start()
    service, door = http.gateway.service, next(route for route in ROUTES if route.path == "/v1/wallet")
    gate = Admission(http.gateway.auth, service.overload, service.queue_delay, Bound.of(10))
    bearer = b"Bearer " + token("chat", "gateway").encode()
    for value in ("zoé".encode(), b"zo%C3%A9"):
        caller = gate.authenticate(door, {b"authorization": bearer, b"x-acting-user": value})
        assert caller[:3] == Caller(TENANT, "zoé")[:3]
    deep = b"Bearer a." + b"W1tb" * 1_000 + b".c"
    for authorization in (deep, b"Bearer " + b"W1tb" * 900 + b".b.c", b"Bearer \xff.\xff", b"\xff", b"Bearer"):
        with pytest.raises(Problem, match="unauthenticated"):
            gate.authenticate(door, {b"authorization": authorization})


TWICE = {
    "authorization": [f"Bearer {token('bob')}", f"Bearer {token('carol')}"],
    "x-acting-user": ["bob", "bob"],
    "idempotency-key": ["k", "k2"],
    "content-type": ["application/json", "text/plain"],
}


@pytest.mark.parametrize("name", TWICE)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/packets"),
        ("POST", "/v1/packets/x/grabs"),
        ("POST", "/v1/grabs/batch"),
        ("POST", "/v1/grabs/stream"),
        ("POST", "/v1/rains"),
        ("GET", "/v1/wallet"),
        ("GET", "/healthz"),
        ("GET", "/nowhere"),
    ],
)
@simulated
async def test_what_says_who_acts_or_what_is_repeated_is_said_once(method: str, path: str, name: str) -> None:
    http = await Http.start()
    sent = {"authorization": f"Bearer {token('alice')}", "idempotency-key": "k", "content-type": "application/json"}
    headers = [(other, value) for other, value in sent.items() if other != name]
    headers += [(name if turn else name.title(), value) for turn, value in enumerate(TWICE[name])]
    before = http.entries()
    response: httpx.Response = await http.client.request(method, path, headers=headers, content=b"{}")
    assert (response.status_code, response.json()["code"]) == (400, "malformed")
    assert name.title() in response.json()["detail"]
    assert response.json()["request_id"] == response.headers["x-request-id"]
    assert http.entries() == before
