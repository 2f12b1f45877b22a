"""Strict: every route, by one table, meets every fault of form; what can be read in two ways is refused."""

import codecs
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
import pytest_asyncio
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.transfers.ids import packet_id_of
from cluster.gateway.packet.contract import GrabItem, StreamGrab
from cluster.gateway.packet.grab_items import read_items
from cluster.gateway.packet.ndjson import read_grabs
from cluster.gateway.problems import Problem
from cluster.gateway.validation import check_json_type, read_json, texts_in
from tests.simulation.http import KEYS, Http
from tests.simulation.loop import simulated
from tests.simulation.system import TENANT, ruled
from tests.unit.photo_site import UPLOAD, Site

SEND = {"kind": "lucky", "total_fen": 1_000, "count": 5}
BURST = {"opens_at_ms": 1_900_000_000_000, "ends_at_ms": 1_900_000_600_000, "total_fen": 1_000, "count": 5}
UNKNOWN = packet_id_of(KEYS.key(KEYS.first), TENANT, "alice", "never sent", 2, 2)


class Route(NamedTuple):
    """A route as somebody asks for it rightly. `path` is the contract's."""

    method: str
    path: str
    scope: str = "user"
    body: Any = None

    def at(self, name: str = UNKNOWN) -> str:
        """Return its path for something of that id."""
        return self.path.replace("{packet_id}", name).replace("{lishi_id}", name).replace("{rain_id}", name).replace(
            "{photo_id}", name
        )  # fmt: skip


ROUTES = [
    Route("GET", "/healthz"),
    Route("GET", "/readyz"),
    Route("POST", "/sandbox/clock", "operator", {"advance_ms": 5}),
    Route("POST", "/sandbox/users", "operator", {"user": "dave", "tenant": TENANT, "balance_fen": 5}),
    Route("GET", "/v1/audit", "operator"),
    Route("POST", "/v1/commitments", body={"algorithm": "even/1"}),
    Route("GET", "/v1/figures", "operator"),
    Route("POST", "/v1/grabs/batch", "gateway", {"grabs": [{"packet_id": UNKNOWN, "user": "bob"}]}),
    Route("POST", "/v1/grabs/stream", "gateway", {"id": 1, "packet_id": UNKNOWN, "user": "bob"}),
    Route("GET", "/v1/levers", "operator"),
    Route("PUT", "/v1/levers/grabs", "operator", {"paused": False}),
    Route("PUT", "/v1/levers/packets/{packet_id}", "operator", {"paused": False}),
    Route("PUT", "/v1/levers/sends", "operator", {"paused": False}),
    Route("GET", "/v1/lishi"),
    Route("POST", "/v1/lishi", body={"asked": "bob"}),
    Route("GET", "/v1/lishi/{lishi_id}"),
    Route("POST", "/v1/lishi/{lishi_id}/accept", body={"amount_fen": 5}),
    Route("POST", "/v1/lishi/{lishi_id}/decline"),
    Route("POST", "/v1/packets", body=SEND),
    Route("GET", "/v1/packets/{packet_id}"),
    Route("POST", "/v1/packets/{packet_id}/grabs", body={"passphrase": "恭喜"}),
    Route("POST", "/v1/packets/{packet_id}/note", body={"text": "thanks"}),
    Route("GET", "/v1/packets/{packet_id}/proof"),
    Route("POST", "/v1/photos", body=UPLOAD),
    Route("GET", "/v1/photos/{photo_id}"),
    Route("GET", "/v1/photos/{photo_id}/blurred"),
    Route("GET", "/v1/photos/{photo_id}/clear"),
    Route("POST", "/v1/photos/{photo_id}/payments", body={"price_fen": 5}),
    Route("POST", "/v1/rains", body={"bursts": [BURST]}),
    Route("GET", "/v1/rains/{rain_id}"),
    Route("GET", "/v1/wallet"),
    Route("GET", "/v1/wallet/statement"),
]
STREAM, PHOTOS = "/v1/grabs/stream", "/v1/photos"
JSON_ROUTES = [route for route in ROUTES if isinstance(route.body, dict) and route.path != STREAM]


@pytest_asyncio.fixture
async def http(tmp_path: Path) -> AsyncIterator[Http]:
    """A system that has every route."""
    site = await Site.start(tmp_path)
    yield site.http
    await site.system.stop()


async def ask(http: Http, route: Route, content: bytes | None = None, **options: Any) -> httpx.Response:
    """Ask for a route, by default with its own body."""
    if content is None and route.body is not None:
        content = route.body if isinstance(route.body, bytes) else json.dumps(route.body).encode()
    types = {STREAM: "application/x-ndjson", PHOTOS: "image/png"}
    headers = {"content-type": types.get(route.path, "application/json")} if content else {}
    headers |= options.pop("headers", {})
    params = {"price_fen_min": "100", "price_fen_max": "900"} if route.path == PHOTOS else None
    sent: dict[str, Any] = {"content": content} if content else {}
    method, path = options.pop("method", route.method), options.pop("path", route.at())
    return await http.ask(method, path, scope=route.scope, key="k", headers=headers, params=params, **sent, **options)


def problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json"), response
    told: dict[str, Any] = response.json()
    assert (told["code"], told["request_id"]) == (code, response.headers["x-request-id"])
    assert response.headers["cache-control"] == "no-store"
    return told


async def test_every_route_of_the_contract_is_in_the_table_and_answers(http: Http) -> None:
    paths = (await http.client.get("/openapi.json")).json()["paths"]
    told = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert told == {(route.method, route.path) for route in ROUTES}
    for route in ROUTES:
        if route.path == "/v1/figures":  # a supervisor's to tell, and here is none
            continue
        response = await ask(http, route)
        assert response.status_code < 500, (route, response.text)
        assert response.status_code < 400 or response.json()["code"] not in ("malformed", "invalid"), response.text
        assert response.headers["cache-control"] in ("no-store", "private, no-store"), route


async def test_a_trailing_slash_leads_nowhere(http: Http) -> None:
    for route in ROUTES:
        for host in ("platform", "elsewhere.example", "[", "a b"):
            response = await ask(http, route, path=route.at() + "/", headers={"host": host})
            problem(response, 404, "route_not_found")
            assert "location" not in response.headers, route


async def test_a_method_that_a_path_does_not_know_is_told_all_it_knows(http: Http) -> None:
    for path in {route.path for route in ROUTES}:
        known = {route.method for route in ROUTES if route.path == path}
        known |= {"HEAD"} if "GET" in known else set()
        route = next(route for route in ROUTES if route.path == path)
        for method in {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"} - known:
            response = await ask(http, route, method=method)
            assert response.status_code == 405, (method, path)
            assert response.headers["allow"] == ", ".join(sorted(known)), (method, path)
            if method != "HEAD":
                problem(response, 405, "method_not_allowed")


async def test_head_is_get_without_the_body(http: Http) -> None:
    for route in [*ROUTES, Route("GET", "/docs"), Route("GET", "/openapi.json"), Route("GET", "/nowhere")]:
        if route.method == "GET" and route.path not in ("/v1/audit", "/v1/figures"):  # these are never twice the same
            got, head = await ask(http, route), await ask(http, route, method="HEAD")
            assert (head.status_code, head.content) == (got.status_code, b""), route
            of_each = ("content-type", "cache-control", "content-length")
            if got.status_code < 400:
                assert [head.headers[name] for name in of_each if name in got.headers] == [
                    got.headers[name] for name in of_each if name in got.headers
                ], route


OTHER_TYPES = [
    {"content-type": "text/plain"},
    {"content-type": "application/x-www-form-urlencoded"},
    {"content-type": "multipart/form-data; boundary=x"},
    {"content-type": "application/xml"},
    {"content-type": "text/json"},
    {"content-type": "application/jsonp"},
    {"content-type": "application/merge-patch+json"},
    {"content-type": "application/json; charset=utf-16"},
    {"content-type": "application/json; charset=latin-1; charset=utf-8"},
    {"content-type": "application/json, text/plain"},
    {"content-type": "application/json", "content-encoding": "gzip"},
    {"content-type": ""},
]


@pytest.mark.parametrize("headers", OTHER_TYPES, ids=str)
async def test_a_body_of_another_type_is_refused_by_its_type_alone(headers: dict[str, str], http: Http) -> None:
    before = http.entries()
    for route in ROUTES:
        if route.body is not None:
            detail = problem(await ask(http, route, headers=headers), 415, "unsupported_media_type")["detail"]
            wanted = {STREAM: "application/x-ndjson", PHOTOS: "image/jpeg"}.get(route.path, "application/json")
            assert wanted in detail
    assert http.entries() == before


@pytest.mark.parametrize(
    "value",
    [
        b"application/json",
        b"Application/JSON",
        b"application/json;charset=UTF-8",
        b'application/json; charset="utf-8"',
        b"application/json ; charset=utf-8 ; odata=verbose",
    ],
)
def test_json_is_named_in_many_ways(value: bytes) -> None:
    check_json_type({b"content-type": value})


def mangled(body: dict[str, Any]) -> dict[str, bytes]:
    """Return a good body in forms that are no JSON, or may be read in two ways."""
    text = json.dumps(body)
    key, value = next(iter(body.items()))
    first, rest = json.dumps(key), json.dumps({key: value})[1:]
    return {
        "utf-16": text.encode("utf-16"),
        "utf-16 without a mark": text.encode("utf-16-le"),
        "utf-32": text.encode("utf-32"),
        "a byte order mark": codecs.BOM_UTF8 + text.encode(),
        "latin-1": text.replace(key, "é").encode("latin-1"),
        "half a body": text[: len(text) // 2].encode(),
        "two bodies": (text + text).encode(),
        "deep": b"[" * 20_000,
        "deep within": f"{{{first}: ".encode() + b"[" * 20_000,
        "deep and whole": f"{{{first}: ".encode() + b"[" * 20_000 + b"]" * 20_000 + b"}",
        "a key twice": f"{{{first}: 5, {rest}".encode(),
        "a key twice, the same": f"{text[:-1]}, {rest}".encode(),
        "a key twice, once escaped": f'{text[:-1]}, "\\u{ord(key[0]):04x}{key[1:]}": 5}}'.encode(),
    }


@pytest.mark.parametrize("form", mangled(SEND))
async def test_what_is_no_json_or_is_two_is_malformed_on_every_route(form: str, http: Http) -> None:
    before = http.entries()
    for route in JSON_ROUTES:
        response = await ask(http, route, mangled(route.body)[form])
        if form == "deep" and response.status_code == 422:  # a list, said so before its end was looked for
            problem(response, 422, "invalid")
        else:
            problem(response, 400, "malformed")
    assert http.entries() == before


async def test_a_key_that_is_there_twice_deep_within_is_found(http: Http) -> None:
    burst = json.dumps(BURST)[:-1] + ', "count": 6}'
    response = await http.ask("POST", "/v1/rains", key="k", content=f'{{"bursts": [{burst}]}}')
    assert "count" in problem(response, 400, "malformed")["detail"]


async def test_nothing_that_is_sent_is_our_own_fault(http: Http) -> None:
    """Bodies a few bytes away from good ones, from a seed: refused or served, never a 500."""
    dice = random.Random(11)
    pieces = [b"{", b"[", b"}", b'"', b"\\", b"\\ud800", b"\xff", b"\x00", b"-0", b"1e400", b"NaN", b"null", b",", b":"]
    for route in JSON_ROUTES:
        body = json.dumps(route.body).encode()
        for _ in range(25):
            at, piece = dice.randrange(len(body) + 1), dice.choice(pieces)
            response = await ask(http, route, body[:at] + piece + body[at + dice.randrange(3) :])
            assert response.status_code != 500, (route, at, piece)
            assert response.headers["x-request-id"]


# Batches and streams count keys before they look at each.


ESCAPED = "\\u0075ser"
"""The key "user", written otherwise."""


def item(*keys: str) -> str:
    good = {"packet_id": UNKNOWN, "user": "user", ESCAPED: "bob", "passphrase": "group", "group": "passphrase"}
    return "{" + ", ".join(f'"{key}": {json.dumps(good[key])}' for key in keys) + "}"


BATCH_ITEMS = [
    (item("packet_id", "user"), True),
    (item("packet_id", "user", "passphrase", "group"), True),
    (item("packet_id", ESCAPED), True),
    (item("packet_id", "user", "user"), False),
    (item("packet_id", "user", ESCAPED), False),
    (item("packet_id", "packet_id", "user"), False),
    (item("packet_id", "user", "group", "group"), False),
    (item("packet_id", "user", "passphrase", "passphrase"), False),
    ('{"packet_id": "x", "user": "a", "group": null, "group": "b"}', False),
    ('{"packet_id": "x", "user": "a", "group": "b", "group": null}', False),
    ('{"packet_id": "x", "user": "a", "group": null}', True),
]


@given(st.lists(st.sampled_from(BATCH_ITEMS), max_size=6))
def test_an_item_that_says_a_key_twice_fails_alone(items: list[tuple[str, bool]]) -> None:
    body = '{"grabs": [' + ", ".join(text for text, _ in items) + "]}"
    assert [isinstance(one, GrabItem) for one in read_items(body.encode(), 100)] == [good for _, good in items]


@given(st.lists(st.sampled_from(BATCH_ITEMS), min_size=1, max_size=6))
def test_a_line_that_says_a_key_twice_fails_alone(items: list[tuple[str, bool]]) -> None:
    lines = [f'{{"id": {number}, {text[1:]}'.encode() for number, (text, _) in enumerate(items)]
    grabs, codes = read_grabs(lines)
    assert [grab.id for grab in grabs] == [number for number, (_, good) in enumerate(items) if good]
    assert [code.id for code in codes] == [number for number, (_, good) in enumerate(items) if not good]
    assert all(isinstance(grab, StreamGrab) for grab in grabs)


def test_a_line_with_two_ids_has_none() -> None:
    grabs, [code] = read_grabs([b'{"id": 1, "packet_id": "x", "user": "bob", "id": 2}'])
    assert (grabs, code.id, code.code) == ([], None, "invalid")


@pytest.mark.parametrize("body", ['{"grabs": [], "grabs": []}', '{"grabs": [], "gr\\u0061bs": []}'])
def test_a_batch_that_says_its_grabs_twice_is_none(body: str) -> None:
    with pytest.raises(Problem, match="malformed"):
        read_items(body.encode(), 100)


WORDS = st.sampled_from(["a", "b", 'q"', "\\", '\\"', "é", ""])


@given(st.lists(st.lists(st.tuples(WORDS, WORDS | st.integers()), max_size=3), max_size=4))
def test_counting_never_takes_two_keys_for_one(objects: list[list[tuple[str, Any]]]) -> None:
    written = ["{" + ",".join(f"{json.dumps(key)}:{json.dumps(value)}" for key, value in one) + "}" for one in objects]
    decoded: list[dict[str, Any]] = [json.loads(text) for text in written]
    texts = sum(1 + isinstance(value, str) for one in decoded for value in one.values())
    is_once = all(len(pairs) == len(told) for pairs, told in zip(objects, decoded, strict=True))
    counted = texts_in(f"[{','.join(written)}]".encode())
    assert counted == -1 or (counted == texts) == is_once


VALUES = st.none() | st.integers(-(2**63), 2**63) | st.text(max_size=4)


@settings(max_examples=30)
@given(st.recursive(VALUES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=9))
def test_json_that_says_each_key_once_is_read_as_it_is(told: Any) -> None:
    assert read_json(json.dumps(told).encode()) == told


# Queries.


WHOLE = [("/v1/wallet/statement", "limit", "5"), ("/v1/packets/{packet_id}", "after_rank", "0")]
WHOLE += [("/v1/packets/{packet_id}/proof", name, "0") for name in ("lane", "after_rank")]
WHOLE += [("/v1/photos", name, "500") for name in ("price_fen_min", "price_fen_max")]
CROOKED = ["+5", "05", "005", "1_000", "-0", "-5", " 5", "5 ", "5.0", "5e0", "0x5", "５", "٥", "", "five", "9" * 5_000]


async def test_a_whole_number_of_a_query_is_written_in_one_way(http: Http) -> None:
    packet = await http.send()
    documented = (await http.client.get("/openapi.json")).json()["paths"]
    named = {
        (path, parameter["name"])
        for path, methods in documented.items()
        for method in methods.values()
        for parameter in method.get("parameters", [])
        if parameter.get("in") == "query" and parameter["schema"].get("type") == "integer"
    }
    assert named == {(path, name) for path, name, _ in WHOLE}
    for path, name, good in WHOLE:
        others = {"price_fen_min": "500", "price_fen_max": "500"} if path == PHOTOS else {}
        method, where = "POST" if path == PHOTOS else "GET", path.replace("{packet_id}", packet["packet_id"])
        sent: dict[str, Any] = {"content": UPLOAD, "headers": {"content-type": "image/png"}} if others else {}
        right = await http.ask(method, where, key="k", params=others | {name: good}, **sent)
        assert right.status_code in (200, 201), right.text
        for text in CROOKED:
            response = await http.ask(method, where, key="k", params=others | {name: text}, **sent)
            assert name in problem(response, 422, "invalid")["fields"], (path, name, text)
        twice = [*(others | {name: good}).items(), (name, good)]
        response = await http.ask(method, where, key="k", params=twice, **sent)
        assert problem(response, 422, "invalid")["fields"] == {name: "once"}
    for cursor in ("+5", "05", " 5", "5_0"):
        response = await http.ask("GET", "/v1/wallet/statement", params={"cursor": cursor})
        assert "cursor" in problem(response, 422, "invalid")["fields"]


# What was made, and what is no longer here.


async def test_what_was_made_is_where_the_answer_says_also_for_a_repeat(http: Http) -> None:
    now_ms = http.system.clock.ms
    burst = {"opens_at_ms": now_ms, "ends_at_ms": now_ms + 600_000, "total_fen": 1_000, "count": 5}
    lishi = await http.ask("POST", "/v1/lishi", key="k", user="bob", json={"asked": "alice"})
    lishi_id = lishi.json()["lishi_id"]
    photo_id = (await ask(http, Route("POST", PHOTOS, body=UPLOAD))).json()["photo_id"]
    price_fen = (await http.ask("GET", f"{PHOTOS}/{photo_id}", user="bob")).json()["price_fen"]
    made = [
        ("alice", Route("POST", "/v1/packets", body=SEND)),
        ("alice", Route("POST", "/v1/rains", body={"bursts": [burst]})),
        ("alice", Route("POST", f"/v1/lishi/{lishi_id}/accept", body={"amount_fen": 5})),
        ("bob", Route("POST", "/v1/lishi", body={"asked": "alice"})),
        ("alice", Route("POST", PHOTOS, body=UPLOAD)),
        ("bob", Route("POST", f"{PHOTOS}/{photo_id}/payments", body={"price_fen": price_fen})),
    ]
    for user, route in made:
        places = set()
        for _ in range(2):
            response = await ask(http, route, user=user)
            assert response.status_code == 201, response.text
            places.add(response.headers["location"])
        [place] = places
        assert place.startswith("/v1/")
        assert (await http.ask("GET", place, user=user)).status_code == 200, place
    users = {"user": "dave", "tenant": TENANT, "balance_fen": 5}
    created = await http.ask("POST", "/sandbox/users", scope="operator", json=users)
    wallet = await http.ask("GET", created.headers["location"], user="dave")
    assert wallet.json()["available_fen"] == 5


@simulated
async def test_a_statement_says_how_many_lines_are_elsewhere() -> None:
    http = await Http.start(**ruled("wallet", statement_lines_max=4))
    for number in range(6):
        await http.send(f"k{number}", total_fen=5)
    first = (await http.ask("GET", "/v1/wallet/statement", params={"limit": 3})).json()
    assert (len(first["entries"]), first["older_lines_elsewhere"]) == (3, 3)
    last = (await http.ask("GET", "/v1/wallet/statement", params={"cursor": first["next_cursor"]})).json()
    assert (len(last["entries"]), last["next_cursor"], last["older_lines_elsewhere"]) == (1, None, 3)
    gone = (await http.ask("GET", "/v1/wallet/statement", params={"cursor": "2"})).json()
    assert gone == {"entries": [], "next_cursor": None, "older_lines_elsewhere": 2}
    whole = (await http.ask("GET", "/v1/wallet/statement", user="bob")).json()
    assert (len(whole["entries"]), whole["older_lines_elsewhere"]) == (1, 0)
