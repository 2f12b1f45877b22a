"""The stream: an ASGI app driven directly, over a service that answers when the test says so."""

import asyncio
import itertools
import json
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.gateway.middleware.serve_hooks import DRAINING, STREAM_PATH, ServeHooks, middlewares
from cluster.gateway.problems import Problem
from tests.simulation.http import Http, token
from tests.simulation.loop import simulated
from tests.unit.fake_replica import LONG_S, Replica, encode, grab, share, turns


@simulated
async def test_the_answer_begins_before_anything_is_read() -> None:
    caller = Replica().call()
    await turns()
    assert caller.status == 200
    assert (b"content-type", b"application/x-ndjson") in caller.sent[0]["headers"]
    assert caller.taken == 0


@simulated
async def test_a_line_is_answered_under_its_id_while_the_body_goes_on() -> None:
    replica = Replica()
    caller = replica.call()
    caller.write(grab(1, "mei"), grab("红包", "li"), grab(-3, "late"))
    await turns()
    assert caller.lines == [share(1, "mei"), share("红包", "li"), {"id": -3, "code": "drained"}]
    caller.write(grab(1, "bob"))
    await turns()
    assert caller.lines[3:] == [share(1, "bob")]
    assert replica.service.tenants == {"wechat"}


@simulated
async def test_grabs_of_many_packets_in_one_chunk_each_find_their_own_answer() -> None:
    caller = Replica().call(token("gateway", "gateway"))
    packets = ("fresh", "p", "unknown", "fresh", "p")
    users = ("mei", "li", "bob", "eva1", "late")
    caller.write(*(grab(i, user, packet) for i, (packet, user) in enumerate(zip(packets, users, strict=True))))
    await turns()
    assert sorted(caller.lines, key=lambda line: line["id"]) == [
        {"id": 0, "amount_fen": 103, "rank": 5, "replayed": False},
        share(1, "li"),
        {"id": 2, "code": "packet_not_found"},
        {"id": 3, "amount_fen": 104, "rank": 6, "replayed": False},
        {"id": 4, "code": "drained"},
    ]


@simulated
async def test_what_a_chunk_brings_is_asked_together_and_answered_in_one_piece() -> None:
    replica = Replica()
    caller = replica.call()
    caller.write(*(grab(i) for i in range(5)))
    await turns()
    assert [len(group) for group in replica.service.asked] == [5]
    assert len(caller.sent) == 2


@simulated
async def test_a_chunk_is_asked_while_earlier_ones_are_unanswered_and_answers_come_in_any_order() -> None:
    replica = Replica()
    replica.service.held = []
    caller = replica.call()
    for name in (1, 2):
        caller.write(grab(name))
        await turns()
    first, second = replica.service.held
    second.set_result(None)
    await turns()
    assert caller.lines == [share(2)]
    first.set_result(None)
    await turns()
    assert caller.lines == [share(2), share(1)]


# Lines that are none.

BAD = {
    "no json": (b"{oops\n", None),
    "no object": (b"[1]\n", None),
    "no utf-8": (b'{"id":1,"packet_id":"\xff","user":"u"}\n', 1),
    "half a character": (b'{"id":"\\ud800","packet_id":"p","user":"u"}\n', None),
    "a fraction as id": (encode(grab(1.5)), None),
    "an id beyond any integer": (encode(grab(2**70)), None),
    "no id": (b'{"packet_id":"p","user":"u"}\n', None),
    "no user": (b'{"id":1,"packet_id":"p"}\n', 1),
    "an empty user": (encode(grab(1, "")), 1),
    "a user with a blank": (encode(grab(1, "a b")), 1),
    "a user of 65 characters": (encode(grab(1, "u" * 65)), 1),
    "an unknown field": (encode(grab(1) | {"amount_fen": 5}), 1),
    "a phrase without end": (encode(grab(1) | {"passphrase": "开" * 129}), 1),
    "a phrase that is none": (encode(grab(1) | {"passphrase": 5}), 1),
    "two in one line": (b'{"id":1,"packet_id":"p","user":"u"} {"id":2,"packet_id":"p","user":"u"}\n', None),
    "nested without end": (b'{"id":1,"x":' + b"[" * 400 + b"\n", None),
}


@pytest.mark.parametrize(("line", "name"), BAD.values(), ids=BAD)
@simulated
async def test_a_bad_line_is_invalid_and_the_others_are_answered(line: bytes, name: Any) -> None:
    replica = Replica()
    caller = replica.call()
    caller.write(grab("before"), line, grab("after"))
    await turns()
    assert sorted(map(str, caller.lines)) == sorted(
        map(str, [{"id": name, "code": "invalid"}, share("before"), share("after")])
    )
    caller.write(grab("later"))
    await turns()
    assert caller.lines[-1] == share("later")


@simulated
async def test_blank_lines_a_carriage_return_and_a_phrase_do_no_harm() -> None:
    caller = Replica().call()
    caller.write(b"\n", b"\r\n", encode(grab(1) | {"passphrase": "恭喜"}), b"  \n", encode(grab(2))[:-1] + b"\r\n")
    await turns()
    assert caller.lines == [share(1), share(2)]


@pytest.mark.parametrize("body", [b'[{"id":1}]\n', b"packet=5&user=mei\n", b"{\n", b"\x1f\x8b\x08\n"])
@simulated
async def test_a_body_whose_first_line_is_no_object_ends_the_stream_with_the_reason(body: bytes) -> None:
    replica = Replica()
    caller = replica.call()
    caller.write(body, grab(1))
    [last] = await caller.ended()
    assert (last["code"], "id" in last) == ("malformed", False)
    assert replica.service.asked == []


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "without its end"])
@simulated
async def test_an_overlong_line_ends_the_stream_after_what_came_before_it(whole: bool) -> None:
    replica = Replica()
    caller = replica.call()
    caller.write(grab(1), b"x" * 513 + (b"\n" if whole else b""), grab(2))
    assert [line.get("code") for line in await caller.ended()] == [None, "too_large"]
    assert len(replica.service.asked) == 1


LINES = [
    *(encode(grab(i, user)) for i, user in enumerate(("mei", "late", "李", "a b"))),
    b"{bad\n",
    b"\n",
    b"x" * 513 + b"\n",
]


@given(
    lines=st.lists(st.sampled_from(LINES), max_size=12),
    cuts=st.lists(st.integers(0, 900), max_size=20),
    ended=st.booleans(),
)
def test_where_the_network_cuts_a_body_makes_no_difference(lines: list[bytes], cuts: list[int], ended: bool) -> None:
    async def answers_to(chunks: list[bytes]) -> list[str]:
        caller = Replica(stream_inflight_max=100).call()
        for chunk in chunks:
            caller.write_bytes(chunk)
            await turns(5)
        caller.write_bytes(b"", more=False)
        return sorted(map(str, await caller.ended()))

    @simulated
    async def compare() -> None:
        assert await answers_to(chunks) == await answers_to([body])

    body = b"".join(lines)
    if ended:
        body = body.rstrip(b"\n")  # the end of a body ends its last line
    places = sorted({min(cut, len(body)) for cut in cuts})
    chunks = [body[a:b] for a, b in zip([0, *places], [*places, len(body)], strict=True)]
    compare()


# Bounds.


@simulated
async def test_a_line_beyond_the_bound_is_answered_overloaded_and_the_next_after_an_answer_is_not() -> None:
    replica = Replica()
    replica.service.held = []
    caller = replica.call()
    caller.write(*(grab(i) for i in range(4)))
    caller.write(*(grab(i) for i in range(4, 8)))
    await turns()
    assert caller.codes == dict.fromkeys((5, 6, 7), "overloaded")
    replica.service.held[0].set_result(None)
    await turns()
    caller.write(grab(8))
    await turns()
    assert len(replica.service.held) == 3
    assert sum(map(len, replica.service.asked)) == 6


@simulated
async def test_under_overload_a_stream_hears_who_is_to_wait_and_the_others_are_served() -> None:
    replica = Replica()
    replica.service.shed = {"mei"}
    caller = replica.call()
    caller.write(grab(0), grab(1, "lei"), grab(2))
    await turns()
    assert caller.codes == {0: "overloaded", 2: "overloaded"}
    assert replica.service.asked == [["lei"]]
    replica.service.shed = set()
    caller.write(grab(3))
    await turns()
    assert replica.service.asked == [["lei"], ["mei"]], "who was shed holds no place"


@simulated
async def test_while_the_client_does_not_read_nothing_more_is_read_and_nothing_is_lost() -> None:
    replica = Replica()
    caller = replica.call()
    await turns()
    caller.reads.clear()
    for name in range(50):
        caller.write(grab(name))
    await turns(200)
    assert caller.taken < 5
    caller.reads.set()
    caller.write_bytes(b"", more=False)
    assert sorted(line["id"] for line in await caller.ended()) == list(range(50))


@simulated
async def test_answers_that_come_while_the_client_is_slow_leave_in_one_piece() -> None:
    replica = Replica()
    replica.service.held = []
    caller = replica.call()
    for name in range(4):
        caller.write(grab(name))
        await turns()
    caller.reads.clear()
    for gate in replica.service.held:
        gate.set_result(None)
        await turns()
    caller.reads.set()
    await turns()
    assert [message["body"].count(b"\n") for message in caller.sent[1:]] == [1, 3]


@simulated
async def test_a_chunk_of_many_lines_is_asked_in_groups_that_leave_others_their_turn() -> None:
    replica = Replica(stream_inflight_max=10_000)
    caller = replica.call()
    caller.write(*(grab(i) for i in range(2_500)))
    await turns()
    assert [len(group) for group in replica.service.asked] == [1_000, 1_000, 500]
    assert len(caller.lines) == 2_500


@simulated
async def test_a_replica_holds_so_many_streams_and_refuses_the_next_at_once() -> None:
    replica = Replica()
    callers = [replica.call() for _ in range(3)]
    await turns()
    assert [caller.status for caller in callers] == [200, 200, 429]
    assert json.loads(callers[2].sent[1]["body"])["code"] == "overloaded"
    callers[0].write_bytes(b"", more=False)
    await callers[0].ended()
    another = replica.call()
    await turns()
    assert another.status == 200


# Who may.


@pytest.mark.parametrize(
    ("bearer", "status", "code"),
    [
        ("nonsense", 401, "unauthenticated"),
        (token("gateway", "gateway", ttl_s=-5), 401, "unauthenticated"),
        (token("mei", "user", ttl_s=86_400), 403, "forbidden"),
        (token("op", "operator", ttl_s=86_400), 403, "forbidden"),
    ],
    ids=["nobody", "expired", "user", "operator"],
)
@simulated
async def test_only_a_chat_gateway_opens_a_stream(bearer: str, status: int, code: str) -> None:
    caller = Replica().call(bearer)
    await asyncio.wait_for(caller.task, LONG_S)
    assert (caller.status, caller.taken) == (status, 0)
    assert (b"content-type", b"application/problem+json") in caller.sent[0]["headers"]
    assert json.loads(caller.sent[1]["body"])["code"] == code


@simulated
async def test_a_stream_acts_for_its_tokens_tenant() -> None:
    replica = Replica()
    caller = replica.call(token("gateway", "gateway", tenant="qq"))
    caller.write(grab(1))
    await turns()
    assert replica.service.tenants == {"qq"}


@pytest.mark.parametrize("writes", [True, False])
@simulated
async def test_a_stream_whose_token_has_expired_answers_what_is_under_way_and_ends_saying_so(
    writes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica = Replica()
    replica.service.held = []
    caller = replica.call()
    caller.write(grab(1))
    await turns()
    now_s = time.time()
    monkeypatch.setattr(time, "time", lambda: now_s + 600)
    if writes:
        caller.write(grab(2))
        await turns()
    else:
        await asyncio.sleep(0.3)
    assert len(replica.service.asked) == 1, "nobody acts with an expired token"
    replica.service.held[0].set_result(None)
    first, last = await caller.ended()
    assert (first, last["code"]) == (share(1), "unauthenticated")


# Ends.


@simulated
async def test_when_the_body_ends_what_is_left_is_answered_and_then_the_response_ends() -> None:
    replica = Replica()
    replica.service.held = []
    caller = replica.call()
    caller.write(grab(1))
    caller.write_bytes(encode(grab(2))[:-1], more=False)
    await turns()
    assert not caller.task.done()
    for gate in replica.service.held:
        gate.set_result(None)
    assert await caller.ended() == [share(1), share(2)]


@simulated
async def test_a_client_that_goes_away_takes_nothing_along() -> None:
    replica = Replica()
    replica.service.held = []
    caller = replica.call()
    caller.write(grab(1), grab(2))
    await turns()
    caller.hang_up()
    await asyncio.wait_for(caller.task, LONG_S)
    [gate] = replica.service.held
    assert not gate.cancelled()
    gate.set_result(None)
    await turns()
    assert len(caller.sent) == 1


@simulated
async def test_a_request_that_serve_cancels_takes_nothing_along_either() -> None:
    replica = Replica()
    replica.service.held = []
    caller = replica.call()
    caller.write(grab(1))
    await turns()
    caller.task.cancel()
    await asyncio.wait([caller.task])
    assert caller.task.cancelled()
    [gate] = replica.service.held
    assert not gate.cancelled()
    gate.set_result(None)
    await turns()
    assert len(caller.sent) == 1


@simulated
async def test_a_grab_whose_outcome_is_unknown_at_the_deadline_is_told_so_once() -> None:
    replica = Replica()
    replica.service.held = []
    caller = replica.call()
    caller.write(grab(1), grab(2))
    await asyncio.sleep(9.0)
    caller.write(grab(3))
    await asyncio.sleep(1.5)
    assert caller.codes == dict.fromkeys((1, 2), "shard_unavailable")
    for gate in replica.service.held:
        gate.set_result(None)
    caller.write_bytes(b"", more=False)
    assert len(await caller.ended()) == 3


@pytest.mark.parametrize(
    ("failure", "code"), [(Problem("overloaded"), "overloaded"), (ZeroDivisionError(), "internal")]
)
@simulated
async def test_a_group_that_fails_as_a_whole_is_answered_line_by_line(failure: Exception, code: str) -> None:
    replica = Replica()
    replica.service.fails = failure
    caller = replica.call()
    caller.write(grab(1), grab(2))
    await turns()
    assert caller.codes == dict.fromkeys((1, 2), code)


@pytest.mark.parametrize("told_by", ["serve", "file", "age"])
@simulated
async def test_a_stream_that_is_to_end_answers_what_is_under_way_and_says_so(told_by: str, tmp_path: Any) -> None:
    draining = False

    async def ask() -> bool:
        return draining

    DRAINING.set(ask)
    replica = Replica()
    replica.streams._drain_file = str(tmp_path / "draining")
    replica.service.held = []
    caller = replica.call()
    caller.write(grab(1))
    await turns()
    if told_by == "serve":
        draining = True
    elif told_by == "file":
        (tmp_path / "draining").touch()
    await asyncio.sleep(60.1 if told_by == "age" else 0.3)
    if told_by != "age":
        caller.write(grab(2))
        await turns()
        assert len(replica.service.asked) == 1, "nothing more is read"
        replica.service.held[0].set_result(None)
    lines = await caller.ended()
    assert (lines[-1]["code"], "id" in lines[-1]) == ("draining", False)
    assert len(lines) == 2
    if told_by != "age":
        refused = replica.call()
        await turns()
        assert refused.status == 503
        assert json.loads(refused.sent[1]["body"])["code"] == "draining"
        assert json.loads(refused.sent[1]["body"])["retryable"]


@simulated
async def test_streams_that_began_together_do_not_end_together() -> None:
    replica = Replica(streams_max=8)
    callers = [replica.call() for _ in range(8)]
    ends = []
    for _ in range(61):
        await asyncio.sleep(1)
        ends.append(sum(caller.task.done() for caller in callers))
    assert ends[-1] == 8
    assert max(b - a for a, b in itertools.pairwise(ends)) <= 2


@simulated
async def test_a_client_that_does_not_read_does_not_hold_a_replica_that_ends() -> None:
    replica = Replica(stream_age_ms_max=1_000)
    caller = replica.call()
    await turns()
    caller.reads.clear()
    caller.write(grab(1))
    await asyncio.sleep(1 + 10 + 1)
    assert caller.task.done()


# The whole gateway.


@simulated
async def test_a_stream_of_more_than_a_body_may_be_passes_the_edge_and_pays_exactly() -> None:
    http = await Http.start()
    packet = await http.send(total_fen=12_345, count=100)
    pad = b" " * 1_500
    body = [pad + encode(grab(i, f"u{i}", packet["packet_id"])) for i in range(300)]

    async def chunks() -> Any:
        for line in body:
            yield line

    headers = {"content-type": "application/x-ndjson"}
    response = await http.ask("POST", STREAM_PATH, scope="gateway", content=chunks(), headers=headers)
    lines = [msgspec.json.decode(line) for line in response.content.splitlines()]
    assert sum(map(len, body)) > http.system.settings.bounds.body_bytes_max
    assert sorted(line["id"] for line in lines) == list(range(300))
    assert sum(line.get("amount_fen", 0) for line in lines) == 12_345
    again = await http.ask("POST", STREAM_PATH, scope="gateway", content=b"".join(body), headers=headers)
    first = {line["id"]: line for line in lines}
    for line in map(msgspec.json.decode, again.content.splitlines()):
        assert line == first[line["id"]] | ({"replayed": True} if "rank" in line else {})


@simulated
async def test_a_get_of_the_stream_is_a_405_and_the_contract_documents_it() -> None:
    http = await Http.start()
    assert (await http.ask("GET", STREAM_PATH)).status_code == 405
    route = (await http.ask("GET", "/openapi.json")).json()["paths"][STREAM_PATH]["post"]
    assert set(route["requestBody"]["content"]) == set(route["responses"]["200"]["content"]) == {"application/x-ndjson"}


# What Serve is told.


def serve_app(heard: list[Any], health: str) -> Callable[..., Any]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        heard.append(SimpleNamespace(path=scope["path"], headers=dict(scope["headers"]), ask=DRAINING.get()))
        if scope["path"] == "/-/healthz":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": health.encode()})

    return app


@pytest.mark.parametrize(("health", "draining"), [("success", False), ("DRAINING", True), ("UNHEALTHY", False)])
async def test_serve_reads_nothing_ahead_where_money_moves_and_is_asked_by_streams_whether_it_drains(
    health: str, draining: bool
) -> None:
    heard: list[Any] = []
    [middleware] = middlewares()
    assert middleware.cls is ServeHooks
    entrance = ServeHooks(serve_app(heard, health))
    asked = [("GET", "/v1/wallet"), ("POST", "/sandbox/clock"), ("POST", "/v1/grabs/batch"), ("POST", STREAM_PATH)]
    for method, path in asked:
        scope = {"type": "http", "method": method, "path": path, "headers": [(b"a", b"b")]}
        await asyncio.create_task(entrance(scope, None, None))
    *others, batch, stream = heard
    for one in heard:
        assert len(one.headers.pop(b"x-request-id")) == 32
    assert all(other.headers == {b"a": b"b"} for other in others)
    assert batch.headers == stream.headers == {b"a": b"b", b"x-request-disconnect-disabled": b"?1"}
    assert [one.ask for one in (*others, batch)] == [None] * 3
    assert await stream.ask() is draining
