"""HTTP, bad input: each a problem+json with its code, and nothing journaled."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from actors.transfers.ids import packet_id_of
from tests.simulation.http import Http, token
from tests.simulation.loop import simulated

SEED = bytes.fromhex("ab" * 32)
GOOD = {"kind": "lucky", "total_fen": 1_000, "count": 5}
UNKNOWN_ID = packet_id_of(SEED, "wechat", "alice", "never sent", 2, 2)
FOREIGN_LAYOUT_ID = packet_id_of(SEED, "wechat", "alice", "another system", 4_096, 4_096)
BATCH = "/v1/grabs/batch"


def assert_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json"), (
        response.text
    )
    body: dict[str, Any] = response.json()
    assert (body["status"], body["code"]) == (status, code)
    assert set(body) >= {"type", "title", "status", "detail", "code", "retryable", "request_id"}
    assert body["request_id"] == response.headers["x-request-id"]
    return body


class Unchanged:
    """Asserts that what happens inside leaves no entry in any journal."""

    def __init__(self, http: Http) -> None:
        self._http = http

    def __enter__(self) -> None:
        self._before = self._http.entries()

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            assert self._http.entries() == self._before, "a refused request was journaled"


BAD_SENDS = {
    "an unknown field": GOOD | {"amount": 5},
    "a missing field": {"kind": "lucky", "count": 5},
    "an unknown kind": GOOD | {"kind": "rain"},
    "negative money": GOOD | {"total_fen": -1_000},
    "no money": GOOD | {"total_fen": 0},
    "fractional money": GOOD | {"total_fen": 10.5},
    "a float": GOOD | {"total_fen": 1000.0},
    "a string": GOOD | {"total_fen": "1000"},
    "a boolean": GOOD | {"count": True},
    "null": GOOD | {"total_fen": None},
    "no shares": GOOD | {"count": 0},
    "a negative count": GOOD | {"count": -5},
    "a fractional count": GOOD | {"count": 2.5},
    "less than a fen each": GOOD | {"total_fen": 4},
    "more than a share may be": GOOD | {"total_fen": 20_001, "count": 1},
    "an equal packet that does not divide": {"kind": "equal", "total_fen": 1_001, "count": 5},
    "a count over the limit": GOOD | {"count": 101},
    "a total over the limit": GOOD | {"total_fen": 2_000_001, "count": 100},
    "a total beyond any integer": GOOD | {"total_fen": 2**63},
    "a greeting over the limit": GOOD | {"greeting": "恭" * 129},
    "a greeting that is no text": GOOD | {"greeting": 5},
    "a greeting of half a character": '{"kind": "lucky", "total_fen": 1000, "count": 5, "greeting": "\\ud800"}',
    "a list": [GOOD],
    "a number": 5,
    "not a number": '{"kind": "lucky", "total_fen": NaN, "count": 5}',
    "no body": "",
}


@pytest.mark.parametrize("body", BAD_SENDS.values(), ids=BAD_SENDS)
@simulated
async def test_a_packet_that_cannot_be_is_invalid(body: Any) -> None:
    http = await Http.start()
    content = body if isinstance(body, str) else json.dumps(body)
    with Unchanged(http):
        response = await http.ask(
            "POST", "/v1/packets", key="k", content=content, headers={"content-type": "application/json"}
        )
        assert_problem(response, 422, "invalid")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (GOOD | {"total_fen": -1}, "total_fen"),
        (GOOD | {"count": 101}, "count"),
        (GOOD | {"total_fen": 4}, "total_fen"),
        (GOOD | {"extra": 1}, "extra"),
    ],
)
@simulated
async def test_an_invalid_request_is_told_which_field(body: Any, field: str) -> None:
    http = await Http.start()
    response = await http.ask("POST", "/v1/packets", key="k", json=body)
    assert field in assert_problem(response, 422, "invalid")["fields"]


MALFORMED = {
    "a brace that never closes": b'{"kind": "lucky"',
    "text": b"hello",
    "no utf-8": b'{"kind": "\xff"}',
    "too deep": b"[" * 100_000,
    "too deep within a batch": b'{"grabs": ' + b"[" * 100_000,
    "too deep within an item": b'{"grabs": [{"packet_id": "x", "user": ' + b'{"a":' * 50_000,
    "an item that is no utf-8": b'{"grabs": [{"packet_id": "x", "user": "\xff"}]}',
    "a number of 5,000 digits": b'{"kind": "lucky", "total_fen": ' + b"9" * 5_000 + b', "count": 5}',
}


@pytest.mark.parametrize("route", ["/v1/packets", BATCH])
@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED)
@simulated
async def test_what_is_no_json_is_malformed(content: bytes, route: str) -> None:
    http = await Http.start()
    with Unchanged(http):
        response = await http.ask(
            "POST",
            route,
            scope="user" if route == "/v1/packets" else "gateway",
            key="k",
            content=content,
            headers={"content-type": "application/json"},
        )
        assert response.status_code in (400, 413, 422)
        code = {400: "malformed", 413: "too_large", 422: "invalid"}[response.status_code]
        assert_problem(response, response.status_code, code)


@pytest.mark.parametrize("route", ["/v1/packets", BATCH, f"/v1/packets/{UNKNOWN_ID}/grabs"])
@pytest.mark.parametrize("chunked", [False, True], ids=["of a told length", "of an untold length"])
@simulated
async def test_a_body_of_a_megabyte_is_too_large(route: str, chunked: bool) -> None:
    http = await Http.start()

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(16):
            yield b" " * 65_536

    with Unchanged(http):
        response = await http.ask(
            "POST",
            route,
            scope="gateway",
            key="k",
            content=chunks() if chunked else b" " * 2**20,
            headers={"content-type": "application/json"},
        )
        assert_problem(response, 413, "too_large")


@simulated
async def test_a_chunked_body_within_the_bound_is_served() -> None:
    http = await Http.start()

    async def chunks() -> AsyncIterator[bytes]:
        for part in json.dumps(GOOD).partition(","):
            yield part.encode()

    response = await http.ask(
        "POST", "/v1/packets", key="k", content=chunks(), headers={"content-type": "application/json"}
    )
    assert response.status_code == 201


# Who calls.

USER_ROUTES = [
    ("POST", "/v1/packets"),
    ("GET", f"/v1/packets/{UNKNOWN_ID}"),
    ("GET", f"/v1/packets/{UNKNOWN_ID}/proof"),
    ("POST", f"/v1/packets/{UNKNOWN_ID}/grabs"),
    ("POST", f"/v1/packets/{UNKNOWN_ID}/note"),
    ("POST", "/v1/lishi"),
    ("GET", "/v1/lishi"),
    ("GET", f"/v1/lishi/{UNKNOWN_ID}"),
    ("POST", f"/v1/lishi/{UNKNOWN_ID}/accept"),
    ("POST", f"/v1/lishi/{UNKNOWN_ID}/decline"),
    ("GET", "/v1/wallet"),
    ("GET", "/v1/wallet/statement"),
]
OPERATOR_ROUTES = [("GET", "/v1/audit"), ("POST", "/sandbox/users"), ("POST", "/sandbox/clock")]
ROUTES = [*USER_ROUTES, ("POST", BATCH), *OPERATOR_ROUTES]
BODIES = {
    "/v1/packets": GOOD,
    BATCH: {"grabs": []},
    f"/v1/packets/{UNKNOWN_ID}/note": {"text": "thanks"},
    "/v1/lishi": {"asked": "bob"},
    f"/v1/lishi/{UNKNOWN_ID}/accept": {"amount_fen": 5},
    "/sandbox/users": {"user": "dave", "tenant": "wechat", "balance_fen": 5},
    "/sandbox/clock": {"advance_ms": 5},
}
TOKENS = {
    "none": {},
    "expired": {"authorization": f"Bearer {token(scope='operator', ttl_s=-60)}"},
    "forged": {"authorization": f"Bearer {token()[:-4]}AAAA"},
    "no token": {"authorization": "Bearer nonsense"},
    "another scheme": {"authorization": "Basic YWxpY2U6"},
}


@pytest.mark.parametrize("headers", TOKENS.values(), ids=TOKENS)
@pytest.mark.parametrize(("method", "path"), ROUTES)
@simulated
async def test_no_route_of_money_serves_a_caller_without_a_good_token(
    method: str, path: str, headers: dict[str, str]
) -> None:
    http = await Http.start()
    with Unchanged(http):
        response = await http.client.request(
            method, path, headers={"idempotency-key": "k"} | headers, json=BODIES.get(path)
        )
        assert_problem(response, 401, "unauthenticated")
        assert response.headers["www-authenticate"] == "Bearer"


FORBIDDEN = [
    *[(method, path, scope) for method, path in OPERATOR_ROUTES for scope in ("user", "gateway")],
    *[("POST", BATCH, scope) for scope in ("user", "operator")],
    *[(method, path, "operator") for method, path in USER_ROUTES],
]


@pytest.mark.parametrize(("method", "path", "scope"), FORBIDDEN)
@simulated
async def test_a_token_opens_only_the_routes_of_its_scope(method: str, path: str, scope: str) -> None:
    http = await Http.start()
    with Unchanged(http):
        response = await http.ask(method, path, scope=scope, key="k", json=BODIES.get(path))
        assert_problem(response, 403, "forbidden")


@pytest.mark.parametrize(("method", "path"), USER_ROUTES)
@simulated
async def test_a_user_naming_another_user_is_forbidden(method: str, path: str) -> None:
    http = await Http.start()
    with Unchanged(http):
        response = await http.ask(
            method, path, user="bob", key="k", json=BODIES.get(path), headers={"x-acting-user": "alice"}
        )
        assert_problem(response, 403, "forbidden")


@simulated
async def test_a_gateway_acts_for_users_of_its_own_tenant_only() -> None:
    http = await Http.start()
    ours = await http.ask("GET", "/v1/wallet", scope="gateway", headers={"x-acting-user": "alice"})
    theirs = await http.ask("GET", "/v1/wallet", scope="gateway", tenant="qq", headers={"x-acting-user": "alice"})
    assert ours.json()["available_fen"] == 10_000_000
    assert theirs.json()["available_fen"] == 0


# Packets that are not there.


@pytest.mark.parametrize(
    "packet_id", [UNKNOWN_ID, FOREIGN_LAYOUT_ID, "x", "a" * 31, "A" * 32, "%00", "红包", "a" * 9_000]
)
@pytest.mark.parametrize(("method", "rest"), [("GET", ""), ("GET", "/proof"), ("POST", "/grabs")])
@simulated
async def test_a_packet_nobody_knows_is_not_found(method: str, rest: str, packet_id: str) -> None:
    http = await Http.start()
    with Unchanged(http):
        assert_problem(await http.ask(method, f"/v1/packets/{packet_id}{rest}"), 404, "packet_not_found")


@pytest.mark.parametrize(("method", "rest"), [("GET", ""), ("GET", "/proof"), ("POST", "/grabs")])
@simulated
async def test_a_packet_of_another_tenant_is_not_found(method: str, rest: str) -> None:
    http = await Http.start()
    packet = await http.send()
    with Unchanged(http):
        response = await http.ask(method, f"/v1/packets/{packet['packet_id']}{rest}", tenant="qq")
        assert_problem(response, 404, "packet_not_found")


# Keys and money.


@pytest.mark.parametrize("change", [{"total_fen": 1_001}, {"count": 4}, {"kind": "equal"}, {"greeting": "!"}])
@simulated
async def test_a_key_with_another_body_is_refused(change: dict[str, Any]) -> None:
    http = await Http.start()
    await http.send("k")
    with Unchanged(http):
        response = await http.ask("POST", "/v1/packets", key="k", json=GOOD | change)
        assert_problem(response, 422, "idempotency_key_reused")


@pytest.mark.parametrize(
    ("key", "status", "code"),
    [(None, 400, "idempotency_key_missing"), ("", 400, "idempotency_key_missing"), ("k" * 256, 422, "invalid")],
)
@simulated
async def test_a_send_needs_a_key(key: str | None, status: int, code: str) -> None:
    http = await Http.start()
    with Unchanged(http):
        assert_problem(await http.ask("POST", "/v1/packets", key=key, json=GOOD), status, code)


@simulated
async def test_a_wallet_without_the_money_pays_nothing() -> None:
    http = await Http.start()
    with Unchanged(http):
        response = await http.ask("POST", "/v1/packets", user="pauper", key="k", json=GOOD)
        assert_problem(response, 402, "insufficient_funds")


@simulated
async def test_an_empty_or_ended_packet_says_which() -> None:
    http = await Http.start()
    empty = await http.send("k1", count=1)
    await http.grab(empty["packet_id"], "bob")
    ended = await http.send("k2")
    with Unchanged(http):
        assert_problem(await http.grab(empty["packet_id"], "carol"), 409, "drained")
    http.system.clock.ms = ended["expires_at_ms"]
    await http.system.tick()
    await http.system.settle()
    with Unchanged(http):
        assert_problem(await http.grab(ended["packet_id"], "carol"), 409, "expired")


# Routes.


@pytest.mark.parametrize("path", ["/", "/v1", "/v2/packets", "/v1/packet", "/v1/packets/a/b/grabs", "/sandbox"])
@simulated
async def test_an_unknown_route_is_a_problem_too(path: str) -> None:
    http = await Http.start()
    assert_problem(await http.ask("GET", path), 404, "route_not_found")


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/packets"), ("DELETE", "/v1/wallet"), ("PUT", BATCH)])
@simulated
async def test_a_method_the_route_does_not_know_is_a_problem_too(method: str, path: str) -> None:
    http = await Http.start()
    response = await http.ask(method, path)
    assert_problem(response, 405, "method_not_allowed")
    assert response.headers["allow"]


@simulated
async def test_the_sandbox_exists_only_in_a_sandbox() -> None:
    http = await Http.start(sandbox=False)
    with Unchanged(http):
        for path in ("/sandbox/users", "/sandbox/clock"):
            response = await http.ask("POST", path, scope="operator", json=BODIES[path])
            assert_problem(response, 404, "route_not_found")


@pytest.mark.parametrize("limit", ["0", "-1", "101", "ten", "1.5"])
@simulated
async def test_a_page_of_an_impossible_size_is_invalid(limit: str) -> None:
    http = await Http.start()
    assert_problem(await http.ask("GET", f"/v1/wallet/statement?limit={limit}"), 422, "invalid")


@pytest.mark.parametrize("cursor", ["", "-1", "x", "٣", "9" * 16])
@simulated
async def test_a_cursor_we_never_gave_is_invalid(cursor: str) -> None:
    http = await Http.start()
    assert_problem(await http.ask("GET", "/v1/wallet/statement", params={"cursor": cursor}), 422, "invalid")


BAD_USERS = [
    {"user": "dave", "tenant": "wechat", "balance_fen": -1},
    {"user": "dave", "tenant": "wechat", "balance_fen": 1.0},
    {"user": "dave", "tenant": "wechat", "balance_fen": 2_000_000_000_000},
    {"user": "dave", "tenant": "wechat"},
    {"user": "dave", "tenant": "WeChat", "balance_fen": 5},
    {"user": "d ve", "tenant": "wechat", "balance_fen": 5},
    {"user": "", "tenant": "wechat", "balance_fen": 5},
    {"user": "d" * 65, "tenant": "wechat", "balance_fen": 5},
    {"user": "dave", "tenant": "wechat", "balance_fen": 5, "admin": True},
]


@pytest.mark.parametrize("body", BAD_USERS, ids=str)
@simulated
async def test_a_sandbox_user_that_cannot_be_is_invalid(body: Any) -> None:
    http = await Http.start()
    with Unchanged(http):
        assert_problem(await http.ask("POST", "/sandbox/users", scope="operator", json=body), 422, "invalid")


@pytest.mark.parametrize("advance_ms", [-1, 1.5, "1", None, 2**60])
@simulated
async def test_the_clock_moves_forward_by_whole_milliseconds_only(advance_ms: Any) -> None:
    http = await Http.start()
    response = await http.ask("POST", "/sandbox/clock", scope="operator", json={"advance_ms": advance_ms})
    assert_problem(response, 422, "invalid")


# Batches.

BAD_ITEMS: dict[str, str] = {
    "no object": "5",
    "null": "null",
    "nothing": "{}",
    "no user": '{"packet_id": "ID"}',
    "no packet": '{"user": "bob"}',
    "an unknown field": '{"packet_id": "ID", "user": "bob", "amount_fen": 5}',
    "a user that is a number": '{"packet_id": "ID", "user": 5}',
    "a user with blanks": '{"packet_id": "ID", "user": "b b"}',
    "a user too long": '{"packet_id": "ID", "user": "' + "b" * 65 + '"}',
    "a passphrase that is none": '{"packet_id": "ID", "user": "bob", "passphrase": 5}',
}


@pytest.mark.parametrize("item", BAD_ITEMS.values(), ids=BAD_ITEMS)
@simulated
async def test_a_bad_item_of_a_batch_fails_alone(item: str) -> None:
    http = await Http.start()
    packet = await http.send()
    bad = item.replace("ID", packet["packet_id"])
    good = [json.dumps({"packet_id": packet["packet_id"], "user": user}) for user in ("bob", "carol")]
    content = f'{{"grabs": [{good[0]}, {bad}, {good[1]}]}}'
    response = await http.ask("POST", BATCH, scope="gateway", content=content)
    assert response.status_code == 200, response.text
    first, refused, second = response.json()["results"]
    assert (first["rank"], refused, second["rank"]) == (1, {"code": "invalid"}, 2)


@simulated
async def test_a_batch_tells_each_refusal_in_its_place() -> None:
    http = await Http.start()
    packet = await http.send(count=1)
    items = [
        {"packet_id": UNKNOWN_ID, "user": "bob"},
        {"packet_id": packet["packet_id"], "user": "bob"},
        {"packet_id": "nonsense", "user": "bob"},
        {"packet_id": packet["packet_id"], "user": "carol"},
        {"packet_id": packet["packet_id"], "user": "bob"},
    ]
    response = await http.ask("POST", BATCH, scope="gateway", json={"grabs": items})
    results = response.json()["results"]
    assert results == [
        {"code": "packet_not_found"},
        {"amount_fen": 1_000, "rank": 1, "replayed": False},
        {"code": "packet_not_found"},
        {"code": "drained"},
        {"amount_fen": 1_000, "rank": 1, "replayed": True},
    ]


@simulated
async def test_a_batch_of_a_gateway_cannot_reach_another_tenants_packet() -> None:
    http = await Http.start()
    packet = await http.send()
    items = [{"packet_id": packet["packet_id"], "user": "bob"}]
    with Unchanged(http):
        response = await http.ask("POST", BATCH, scope="gateway", tenant="qq", json={"grabs": items})
    assert response.json() == {"results": [{"code": "packet_not_found"}]}


@pytest.mark.parametrize(
    "body", [{}, {"grabs": {}}, {"grabs": "x"}, {"grabs": [], "more": 1}, [], 5, None], ids=json.dumps
)
@simulated
async def test_a_batch_that_is_none_is_invalid(body: Any) -> None:
    http = await Http.start()
    response = await http.ask("POST", BATCH, scope="gateway", content=json.dumps(body))
    assert_problem(response, 422, "invalid")


@simulated
async def test_a_batch_that_is_no_unicode_is_malformed_as_a_whole() -> None:
    http = await Http.start()
    packet = await http.send()
    items = [{"packet_id": packet["packet_id"], "user": "bob"}, {"packet_id": "x", "user": "\ud800"}]
    with Unchanged(http):
        response = await http.ask("POST", BATCH, scope="gateway", content=json.dumps({"grabs": items}))
        assert_problem(response, 400, "malformed")


@simulated
async def test_a_batch_over_the_bound_is_too_large_as_a_whole() -> None:
    http = await Http.start(bounds={"batch_size_max": 3})
    packet = await http.send()
    items = [{"packet_id": packet["packet_id"], "user": f"u{i}"} for i in range(4)]
    with Unchanged(http):
        response = await http.ask("POST", BATCH, scope="gateway", json={"grabs": items})
        assert_problem(response, 413, "too_large")
    response = await http.ask("POST", BATCH, scope="gateway", json={"grabs": items[:3]})
    assert [result["rank"] for result in response.json()["results"]] == [1, 2, 3]


@simulated
async def test_more_requests_than_the_bound_are_refused_early() -> None:
    http = await Http.start(bounds={"requests_max": 1})
    gate = http.system.journals.hold("confirm")
    first = asyncio.ensure_future(http.ask("GET", "/v1/wallet"))
    await gate.reached()
    refused = await http.ask("GET", "/v1/wallet")
    assert_problem(refused, 429, "overloaded")
    assert refused.headers["retry-after"] == "1"
    gate.release()
    assert (await first).status_code == 200
    assert (await http.ask("GET", "/v1/wallet")).status_code == 200
