"""Hot routes: what msgspec and raw ASGI must do as well as a framework would."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from actors.kernel.messages import Refused
from actors.packet.replies import Shares, Takings, Won
from cluster.config import load
from cluster.gateway.middleware.limits import RequestLimits
from cluster.gateway.problems import Problem
from cluster.gateway.routing import Operation, RouteTable
from tests.simulation.grabbing import grab_each
from tests.simulation.http import Http
from tests.simulation.loop import simulated
from tests.simulation.system import TENANT
from tests.unit.fake_replica import open_gate

GOOD = {"kind": "lucky", "total_fen": 1_000, "count": 5}
SENT = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"kind", "total_fen", "count"}),
        ({"kind": 5, "total_fen": 1.0, "count": True, "greeting": None}, {"kind", "total_fen", "count", "greeting"}),
        ({"kind": "rain", "total_fen": 0, "count": 2**31}, {"kind", "total_fen", "count"}),
        (GOOD | {"total_fen": 10**30}, {"total_fen"}),
        (GOOD | {"one": 1, "two": 2}, {"one", "two"}),
        (GOOD | {"count": 101, "total_fen": 2_000_001, "greeting": "x" * 129}, {"count", "total_fen", "greeting"}),
        (GOOD | {"greeting": "x" * 10_001}, {"greeting"}),
        (GOOD | {"greeting": "\ud800", "count": 0}, {"greeting", "count"}),
        (GOOD | {"\ud800": 1}, {"?"}),
        ([GOOD], {"body"}),
    ],
    ids=lambda told: ",".join(sorted(told)) if isinstance(told, set) else str(told),  # a set has no order of its own
)
@simulated
async def test_every_bad_field_of_a_send_is_named_at_once(body: Any, fields: set[str]) -> None:
    http = await Http.start()
    response = await http.ask("POST", "/v1/packets", key="k", content=json.dumps(body), headers=SENT)
    assert (response.status_code, response.json()["code"]) == (422, "invalid")
    assert set(response.json()["fields"]) == fields


@simulated
async def test_a_body_of_a_thousand_unknown_fields_names_some() -> None:
    http = await Http.start()
    body = GOOD | {f"field{number}": 1 for number in range(1_000)}
    response = await http.ask("POST", "/v1/packets", key="k", json=body)
    assert len(response.json()["fields"]) == 20


@simulated
async def test_a_key_is_any_text_that_a_header_can_hold() -> None:
    http = await Http.start()
    first, again, other = [
        await http.ask("POST", "/v1/packets", json=GOOD, headers={"idempotency-key": key.encode()})  # type: ignore[dict-item]
        for key in ("clé-1", "clé-1", "cle-1")
    ]
    assert first.json()["packet_id"] == again.json()["packet_id"] != other.json()["packet_id"]
    assert again.headers["idempotent-replayed"] == "true"


def in_columns(reply: Any) -> Any:
    """Answer a group as a shard may: fresh shares in columns, a group refused as a whole with one refusal."""
    if isinstance(reply, Takings):
        each = reply.replies
        if all(isinstance(one, Won) and not one.replayed for one in each):
            return Shares(each[0].rank, [one.amount_fen for one in each], each[0].at_ms)
        if all(isinstance(one, Refused) and one == each[0] for one in each):
            return each[0]
    return reply


@pytest.mark.parametrize("columns", [False, True], ids=["one by one", "in columns"])
@simulated
async def test_a_batch_over_packets_taken_turn_by_turn_answers_everybody_in_his_place(columns: bool) -> None:
    http = await Http.start()
    plain = http.system.directory.ask_host

    async def ask_host(host: str, groups: Sequence[Any]) -> Any:
        return [[in_columns(reply) for reply in replies] for replies in await plain(host, groups)]

    if columns:
        http.system.directory.ask_host = ask_host
    fresh, mixed = await http.send("k1", count=6), await http.send("k2")
    await http.grab(fresh["packet_id"], "first")
    empty = await http.send("k3", count=1)
    await http.grab(empty["packet_id"], "first")
    had = (await http.grab(mixed["packet_id"], "u2")).json()
    items = [
        {"packet_id": packet["packet_id"], "user": f"u{user}"} for user in range(4) for packet in (fresh, mixed, empty)
    ]
    items.insert(5, {"packet_id": "nonsense", "user": "bob"})
    response = await http.ask("POST", "/v1/grabs/batch", scope="gateway", json={"grabs": items})
    results = response.json()["results"]
    assert results.pop(5) == {"code": "packet_not_found"}
    assert [result["rank"] for result in results[0::3]] == [2, 3, 4, 5]
    assert [result["rank"] for result in results[1::3]] == [2, 3, 1, 4]
    assert results[7] == {"amount_fen": had["amount_fen"], "rank": 1, "replayed": True}
    assert results[2::3] == [{"code": "drained"}] * 4
    view = (await http.ask("GET", f"/v1/packets/{fresh['packet_id']}")).json()
    told = [(result["rank"], result["amount_fen"]) for result in results[0::3]]
    assert told == [(line["rank"], line["amount_fen"]) for line in view["grabs"][1:]]
    again = [(fresh["packet_id"], f"u{user}") for user in range(5)]
    replies = await grab_each(http.system.service, again, TENANT)
    won = [(one.rank, one.amount_fen, one.replayed) for one in replies if isinstance(one, Won)]
    assert won[:4] == [(rank, fen, True) for rank, fen in told]
    assert won[4][0::2] == (6, False)


@simulated
async def test_of_a_header_that_may_be_sent_twice_the_first_counts() -> None:
    http = await Http.start()
    twice = [("x-request-id", "first"), ("x-request-id", "second")]
    assert (await http.client.get("/healthz", headers=twice)).headers.get_list("x-request-id") == ["first"]


@simulated
async def test_a_length_beside_chunks_proves_nothing() -> None:
    read: list[int] = []

    async def app(operation: Operation, request: Any, send: Any) -> None:
        read.append(len(await request.read()))

    async def receive() -> Any:
        return {"type": "http.request", "body": b" " * 100, "more_body": False}

    async def send(message: Any) -> None:
        raise AssertionError("nothing is sent")

    settings = load(bounds={"body_bytes_max": 10})
    edge = RequestLimits(app, RouteTable([], settings), open_gate(), settings, stamps=False)
    headers = [(b"content-length", b"5"), (b"transfer-encoding", b"chunked")]
    with pytest.raises(Problem, match="too_large"):
        await edge({"type": "http", "method": "POST", "path": "/", "headers": headers}, receive, send)
    assert read == []


@simulated
async def test_the_contract_shows_what_a_send_needs() -> None:
    http = await Http.start()
    document = (await http.client.get("/openapi.json")).json()
    send = document["paths"]["/v1/packets"]["post"]
    assert send["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/SendBody")
    schema = document["components"]["schemas"]["SendBody"]
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == {"kind", "total_fen", "count"}
    optional = {"greeting", "shares", "addressee", "group", "passphrase", "opens_at_ms", "sponsor", "day_count_max"}
    optional |= {"share_fen_min", "share_fen_max", "algorithm", "commitment_id", "sender_nonce"}
    assert set(schema["properties"]) == {"kind", "total_fen", "count"} | optional
    assert [one["$ref"].rpartition("/")[2] for one in send["parameters"]] == ["IdempotencyKey", "ActingUser"]
    assert "201" in send["responses"]
