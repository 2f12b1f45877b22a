"""Kinds: packets that are not for everybody, over HTTP. Who may take them, what others hear, what is never told."""

import json
from typing import Any

import pytest

from actors.packet.rules import PacketRules
from actors.transfers.ids import packet_stream, parse_packet_id
from actors.transfers.phrase import kept, normal, spoken
from tests.simulation.http import BALANCE_FEN, Http
from tests.simulation.loop import simulated

SECRET = "恭喜 Fat CHOY"
DIRECT: dict[str, Any] = {"kind": "direct", "total_fen": 520, "count": 1, "addressee": "bob"}
GROUP: dict[str, Any] = {"kind": "group", "total_fen": 1_000, "count": 3, "group": "family"}
PASSWORD: dict[str, Any] = {"kind": "password", "total_fen": 1_000, "count": 3, "passphrase": SECRET}


async def code(http: Http, packet_id: str, user: str, **options: Any) -> str:
    """Grab as that user and return the code of the refusal, or "won"."""
    response = await http.grab(packet_id, user, **options)
    return "won" if response.status_code == 200 else str(response.json()["code"])


async def batch(http: Http, *items: dict[str, Any]) -> list[str]:
    """Grab through a chat gateway; return each code, or "won"."""
    response = await http.ask("POST", "/v1/grabs/batch", scope="gateway", json={"grabs": list(items)})
    assert response.status_code == 200, response.text
    return [result.get("code", "won") for result in response.json()["results"]]


# Direct.


@simulated
async def test_a_direct_packet_is_taken_by_its_addressee_and_by_nobody_else() -> None:
    http = await Http.start()
    packet = await http.send(**DIRECT)
    assert (packet["kind"], packet["addressee"], packet["algorithm"]) == ("direct", "bob", "equal/1")
    packet_id = packet["packet_id"]
    assert await code(http, packet_id, "carol") == "not_addressee"
    assert await code(http, packet_id, "alice") == "not_addressee"
    share = await http.grab(packet_id, "bob")
    assert (share.status_code, share.json()["amount_fen"], share.json()["rank"]) == (200, 520, 1)
    assert (await http.grab(packet_id, "bob")).json()["replayed"] is True
    assert await code(http, packet_id, "carol") == "drained"


@simulated
async def test_the_sender_sees_whether_a_direct_packet_was_taken_and_a_stranger_sees_nothing() -> None:
    http = await Http.start()
    path = f"/v1/packets/{(await http.send(**DIRECT))['packet_id']}"
    assert (await http.ask("GET", path)).json()["grabs"] == []
    assert (await http.ask("GET", path, user="bob")).json()["addressee"] == "bob"
    for hidden in (path, f"{path}/proof"):
        response = await http.ask("GET", hidden, user="carol")
        assert (response.status_code, response.json()["code"]) == (404, "packet_not_found")
    await http.grab(path.rpartition("/")[2], "bob")
    seen = (await http.ask("GET", path)).json()
    assert (seen["state"], [grab["user"] for grab in seen["grabs"]]) == ("drained", ["bob"])
    assert (await http.ask("GET", f"{path}/proof")).json()["shares_fen"] == [520]


@simulated
async def test_a_direct_packet_that_nobody_took_goes_back_to_its_sender() -> None:
    http = await Http.start()
    packet = await http.send(**DIRECT)
    http.system.clock.ms += 86_400_000
    assert await code(http, packet["packet_id"], "bob") == "expired"
    await http.system.settle()
    assert (await http.ask("GET", "/v1/wallet")).json()["available_fen"] == BALANCE_FEN


# Group.


@simulated
async def test_a_group_packet_is_for_those_whom_the_chat_gateway_calls_members() -> None:
    http = await Http.start()
    packet = await http.send(**GROUP)
    assert (packet["group"], packet["algorithm"]) == ("family", "even/1")
    named = {"packet_id": packet["packet_id"]}
    told = await batch(
        http,
        named | {"user": "bob", "group": "family"},
        named | {"user": "carol", "group": "work"},
        named | {"user": "dave"},
        named | {"user": "alice", "group": "family"},
    )
    assert told == ["won", "not_member", "not_member", "won"]
    as_eve = {"scope": "gateway", "headers": {"x-acting-user": "eve"}}
    assert await code(http, packet["packet_id"], "gateway", **as_eve, json={"group": "family"}) == "won"


@simulated
async def test_a_user_cannot_call_himself_a_member() -> None:
    http = await Http.start()
    packet = await http.send(**GROUP)
    response = await http.grab(packet["packet_id"], "bob", json={"group": "family"})
    assert (response.status_code, response.json()["code"]) == (403, "forbidden")
    assert await code(http, packet["packet_id"], "bob") == "not_member"


@simulated
async def test_a_member_who_has_won_hears_it_again_whatever_is_said_of_him_then() -> None:
    http = await Http.start()
    packet = await http.send(**GROUP | {"shares": "equal", "total_fen": 900})
    item = {"packet_id": packet["packet_id"], "user": "bob"}
    assert await batch(http, item | {"group": "family"}) == ["won"]
    assert await batch(http, item, item | {"group": "work"}) == ["won", "won"]


# Password.


@simulated
@pytest.mark.parametrize("said", [SECRET, "恭喜fatchoy", "恭喜　ＦＡＴ\tｃｈｏｙ"])
async def test_a_phrase_is_the_same_in_any_width_case_and_spacing(said: str) -> None:
    http = await Http.start()
    packet = await http.send(**PASSWORD)
    assert await code(http, packet["packet_id"], "bob", json={"passphrase": said}) == "won"


@simulated
async def test_whoever_says_nothing_or_something_else_gets_no_share() -> None:
    http = await Http.start()
    packet_id = (await http.send(**PASSWORD))["packet_id"]
    assert await code(http, packet_id, "bob") == "wrong_passphrase"
    assert await code(http, packet_id, "bob", json={"passphrase": "恭喜"}) == "wrong_passphrase"
    assert await code(http, packet_id, "bob", json={"passphrase": SECRET}) == "won"


@simulated
async def test_wrong_tries_are_limited_by_user_also_over_a_restart_and_forgiven_after_a_time() -> None:
    http = await Http.start()
    packet_id = (await http.send(**PASSWORD))["packet_id"]
    rules = http.system.settings.rules(PacketRules)
    wrong = {"packet_id": packet_id, "user": "bob", "passphrase": "guess"}
    told = await batch(http, *[wrong] * rules.phrase_tries_max)
    assert told == ["wrong_passphrase"] * rules.phrase_tries_max
    place = parse_packet_id(packet_id)
    assert place is not None
    http.system.replace(http.system.directory.host_of(packet_stream(place.packet_index)))
    response = await http.grab(packet_id, "bob", json={"passphrase": SECRET})
    assert (response.status_code, response.json()["code"]) == (429, "rate_limited")
    assert response.json()["retryable"] is True
    assert response.headers["retry-after"]
    assert await code(http, packet_id, "carol", json={"passphrase": SECRET}) == "won"
    http.system.clock.ms += rules.phrase_tries_ms
    assert await code(http, packet_id, "bob", json={"passphrase": SECRET}) == "won"


@simulated
async def test_a_phrase_is_in_no_journal_no_answer_and_no_proof() -> None:
    http = await Http.start()
    packet = await http.send(**PASSWORD)
    path = f"/v1/packets/{packet['packet_id']}"
    await http.grab(packet["packet_id"], "bob", json={"passphrase": SECRET})
    await http.grab(packet["packet_id"], "carol", json={"passphrase": "wrong guess"})
    told = json.dumps([packet, (await http.ask("GET", path)).json(), (await http.ask("GET", f"{path}/proof")).json()])
    kept_bytes = b"".join(payload for stored in http.system.journals.stored.values() for _, payload in stored.elements)
    for phrase in (SECRET, normal(SECRET), "wrong guess", normal("wrong guess")):
        assert phrase not in json.loads(json.dumps(told))
        assert phrase.encode() not in kept_bytes


def test_two_packets_with_one_phrase_keep_different_bytes() -> None:
    said = spoken(b"key", SECRET)
    assert kept(b"key", "p1", said) != kept(b"key", "p2", said)
    assert spoken(b"other key", SECRET) != said


# What cannot be sent.


@simulated
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"kind": "direct", "count": 1}, "addressee"),
        ({"kind": "direct", "count": 1, "addressee": "alice"}, "addressee"),
        ({"kind": "direct", "count": 1, "addressee": "two words"}, "addressee"),
        ({"kind": "direct", "count": 2, "addressee": "bob"}, "count"),
        ({"kind": "direct", "count": 1, "addressee": "bob", "shares": "lucky"}, "shares"),
        ({"kind": "group"}, "group"),
        ({"kind": "group", "group": "g", "shares": "equal", "count": 3}, "total_fen"),
        ({"kind": "password"}, "passphrase"),
        ({"kind": "password", "passphrase": " \t　"}, "passphrase"),
        ({"kind": "password", "passphrase": "x" * 129}, "passphrase"),
        ({"kind": "lucky", "passphrase": "x"}, "passphrase"),
        ({"kind": "equal", "group": "g"}, "group"),
        ({"kind": "password", "passphrase": "x", "addressee": "bob"}, "addressee"),
    ],
)
async def test_what_does_not_fit_its_kind_is_named_and_moves_no_money(body: dict[str, Any], field: str) -> None:
    http = await Http.start()
    before = http.entries()
    response = await http.ask("POST", "/v1/packets", key="k", json={"total_fen": 1_000, "count": 5} | body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid")
    assert field in response.json()["fields"]
    assert http.entries() == before


@simulated
@pytest.mark.parametrize(
    "change", [{"passphrase": "other"}, {"shares": "equal", "total_fen": 999}, {"shares": "equal"}]
)
async def test_the_same_key_with_other_terms_is_refused(change: dict[str, Any]) -> None:
    http = await Http.start()
    body = PASSWORD | {"total_fen": 999}
    first = await http.ask("POST", "/v1/packets", key="k", json=body)
    again = await http.ask("POST", "/v1/packets", key="k", json=body | {"passphrase": "恭喜FATCHOY"})
    assert (first.status_code, again.status_code, again.headers["idempotent-replayed"]) == (201, 201, "true")
    other = await http.ask("POST", "/v1/packets", key="k", json=body | change)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
