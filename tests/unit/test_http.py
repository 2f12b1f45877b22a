"""HTTP, what is promised to those who ask rightly."""

import asyncio
import hashlib
import hmac
import itertools
import struct
from typing import Any

import pytest

from actors.transfers.ids import wallet_index_of, wallet_stream
from actors.wallet.commands import Send
from tests.simulation.http import BALANCE_FEN, Http
from tests.simulation.loop import simulated
from tests.simulation.memory_journal import Fault
from tests.simulation.system import TENANT

GOOD = {"kind": "lucky", "total_fen": 1_000, "count": 5}


async def drained(http: Http, **body: Any) -> dict[str, Any]:
    """Send a packet and take every share of it."""
    packet = await http.send(**body)
    for number in range(packet["count"]):
        assert (await http.grab(packet["packet_id"], f"u{number}")).status_code == 200
    return packet


@simulated
async def test_a_packet_that_was_sent_is_open_and_a_grab_right_after_it_succeeds() -> None:
    http = await Http.start()
    packet = await http.send(greeting="恭喜发财")
    now_ms = http.system.clock.ms
    assert packet.pop("packet_id")
    assert len(bytes.fromhex(packet.pop("commitment"))) == 32
    assert packet == {
        "kind": "lucky",
        "state": "open",
        "total_fen": 1_000,
        "count": 5,
        "greeting": "恭喜发财",
        "sender": "alice",
        "created_at_ms": now_ms,
        "expires_at_ms": now_ms + 86_400_000,
        "algorithm": "even/1",
    }
    again = await http.send("k2")
    response = await http.grab(again["packet_id"], "bob")
    share = response.json()
    assert 1 <= share.pop("amount_fen") <= 996
    assert share == {
        "packet_id": again["packet_id"],
        "user": "bob",
        "rank": 1,
        "at_ms": now_ms,
        "replayed": False,
    }


@simulated
async def test_the_same_send_again_is_the_same_answer_and_says_so() -> None:
    http = await Http.start()
    first = await http.ask("POST", "/v1/packets", key="k", json=GOOD)
    http.system.clock.ms += 5_000
    again = await http.ask("POST", "/v1/packets", key="k", json=GOOD)
    assert (first.status_code, first.headers.get("idempotent-replayed")) == (201, None)
    assert (again.status_code, again.headers.get("idempotent-replayed")) == (201, "true")
    assert again.json() == first.json()
    assert (await http.ask("GET", "/v1/wallet")).json()["available_fen"] == BALANCE_FEN - 1_000


@simulated
async def test_a_duplicate_that_arrives_while_the_first_runs_gets_the_same_answer() -> None:
    http = await Http.start()
    stream = wallet_stream(wallet_index_of(TENANT, "alice", 2))
    gate = http.system.journals.hold("append", stream=stream)
    first = asyncio.ensure_future(http.ask("POST", "/v1/packets", key="k", json=GOOD))
    await gate.reached()
    others = [asyncio.ensure_future(http.ask("POST", "/v1/packets", key="k", json=GOOD)) for _ in range(5)]
    await asyncio.sleep(0)
    gate.release()
    answers = await asyncio.gather(first, *others)
    assert {answer.status_code for answer in answers} == {201}
    assert all(answer.json() == answers[0].json() for answer in answers)
    assert (await http.ask("GET", "/v1/wallet")).json()["available_fen"] == BALANCE_FEN - 1_000


@simulated
async def test_the_same_key_of_another_user_is_another_packet() -> None:
    http = await Http.start()
    assert (await http.send("k"))["packet_id"] != (await http.send("k", user="bob"))["packet_id"]


@simulated
async def test_a_key_so_old_that_it_was_forgotten_still_funds_nothing_twice() -> None:
    http = await Http.start()
    await http.send("k")
    await http.system.settle()  # a key is remembered until what it paid for has arrived
    http.system.clock.ms += 86_400_000
    await http.send("k2", total_fen=5)
    response = await http.ask("POST", "/v1/packets", key="k", json=GOOD)
    assert response.status_code == 422
    assert response.json()["code"] == "idempotency_key_reused"
    await http.system.tick()
    http.system.clock.ms += 5_000
    await http.system.settle()
    assert (await http.ask("GET", "/v1/wallet")).json() == {"available_fen": BALANCE_FEN - 5, "held_fen": 0}
    assert (await http.system.audit()).clean


@simulated
async def test_sixty_four_grabs_of_one_user_at_once_are_one_share_told_sixty_four_times() -> None:
    http = await Http.start()
    packet = await http.send()
    answers = await asyncio.gather(*(http.grab(packet["packet_id"], "bob") for _ in range(64)))
    assert {answer.status_code for answer in answers} == {200}
    shares = [answer.json() for answer in answers]
    assert len({(share["rank"], share["amount_fen"], share["at_ms"]) for share in shares}) == 1
    assert sum(not share["replayed"] for share in shares) == 1


@simulated
async def test_four_hundred_users_at_once_share_a_packet_exactly() -> None:
    http = await Http.start()
    packet = await http.send(total_fen=12_345, count=100)
    answers = await asyncio.gather(*(http.grab(packet["packet_id"], f"u{i}") for i in range(400)))
    won = [answer.json() for answer in answers if answer.status_code == 200]
    assert sorted(share["rank"] for share in won) == list(range(1, 101))
    assert sum(share["amount_fen"] for share in won) == 12_345
    assert {answer.json()["code"] for answer in answers if answer.status_code != 200} == {"drained"}


@simulated
async def test_a_winner_may_ask_again_after_everything_is_over() -> None:
    http = await Http.start()
    packet = await http.send()
    first = (await http.grab(packet["packet_id"], "bob")).json()
    http.system.clock.ms = packet["expires_at_ms"] + 5
    assert (await http.grab(packet["packet_id"], "carol")).json()["code"] == "expired"
    assert (await http.grab(packet["packet_id"], "bob")).json() == first | {"replayed": True}


@pytest.mark.parametrize("lost", [Fault.LOST_BEFORE, Fault.LOST_AFTER])
@simulated
async def test_an_unknown_outcome_is_told_as_retryable_and_the_same_again_succeeds(lost: Fault) -> None:
    http = await Http.start()
    stream = wallet_stream(wallet_index_of(TENANT, "alice", 2))
    http.system.journals.fail("append", lost, stream=stream)
    response = await http.ask("POST", "/v1/packets", key="k", json=GOOD)
    assert response.status_code == 503
    assert (response.json()["code"], response.json()["retryable"]) == ("journal_unavailable", True)
    assert (await http.send("k"))["state"] == "open"
    assert (await http.ask("GET", "/v1/wallet")).json()["available_fen"] == BALANCE_FEN - 1_000


@simulated
async def test_a_gateway_that_died_between_debit_and_opening_leaves_no_packet_unknown() -> None:
    http = await Http.start()
    send = Send(TENANT, "alice", "k", "lucky", 1_000, 5, "")
    stream = wallet_stream(wallet_index_of(TENANT, "alice", 2))
    [[funded]] = await http.system.directory.ask([(stream, [send])])
    packet_id = funded.funding.packet_id
    assert (await http.grab(packet_id, "bob")).json()["rank"] == 1
    assert (await http.send("k"))["packet_id"] == packet_id


# Who sees what.


@simulated
async def test_the_list_is_for_the_sender_and_the_takers_only() -> None:
    http = await Http.start()
    packet = await http.send()
    share = (await http.grab(packet["packet_id"], "bob")).json()
    seen = {}
    for reader in ("alice", "bob", "carol"):
        response = await http.ask("GET", f"/v1/packets/{packet['packet_id']}", user=reader)
        seen[reader] = response.json()
    line = {"rank": 1, "user": "bob", "amount_fen": share["amount_fen"], "at_ms": share["at_ms"]}
    assert seen["alice"]["grabs"] == seen["bob"]["grabs"] == [line]
    assert "grabs" not in seen["carol"]
    assert "luckiest" not in seen["alice"], "nobody is the luckiest before the end"
    assert (seen["carol"]["grabbed_count"], seen["carol"]["grabbed_fen"]) == (1, share["amount_fen"])


@simulated
async def test_the_luckiest_has_the_greatest_share_and_of_equals_is_the_first() -> None:
    http = await Http.start()
    packet = await drained(http)
    body = (await http.ask("GET", f"/v1/packets/{packet['packet_id']}")).json()
    best = max(line["amount_fen"] for line in body["grabs"])
    first = next(line for line in body["grabs"] if line["amount_fen"] == best)
    assert body["state"] == "drained"
    assert body["luckiest"] == {"user": first["user"], "rank": first["rank"], "amount_fen": best}
    equal = await drained(http, key="k2", kind="equal")
    body = (await http.ask("GET", f"/v1/packets/{equal['packet_id']}")).json()
    assert body["luckiest"] == {"user": "u0", "rank": 1, "amount_fen": 200}


@simulated
async def test_an_expired_packet_shows_what_went_back() -> None:
    http = await Http.start()
    packet = await http.send()
    share = (await http.grab(packet["packet_id"], "bob")).json()["amount_fen"]
    http.system.clock.ms = packet["expires_at_ms"]
    body = (await http.ask("GET", f"/v1/packets/{packet['packet_id']}")).json()
    assert (body["state"], body["grabbed_fen"], body["refunded_fen"]) == ("expired", share, 1_000 - share)


# The proof.


def recomputed(proof: dict[str, Any]) -> list[int]:
    """Recompute the shares of an `even/1` packet from its proof alone, as a distrustful user would."""
    seed = bytes.fromhex(proof["seed"])
    named = proof["algorithm"].encode() + b"\0" + proof["packet_id"].encode() + b"\0" + seed
    assert hashlib.sha256(named).hexdigest() == proof["commitment"]
    words = (
        word
        for counter in range(10_000)
        for word in struct.unpack(">8I", hmac.new(seed, struct.pack(">Q", counter), hashlib.sha256).digest())
    )

    def below(n: int) -> int:
        return 0 if n == 1 else next(word for word in words if word < 2**32 // n * n) % n

    rest, lo, hi = proof["total_fen"], proof["share_fen_min"], proof["share_fen_max"]
    shares = []
    for m in range(proof["count"], 1, -1):
        c = rest // m
        c += rest % m > 0 and below(m) < rest % m
        w = min(c - lo, hi - c, hi * (m - 1) - (rest - c), rest - c - lo * (m - 1))
        shares.append(c - w + below(2 * w + 1))
        rest -= shares[-1]
    shares.append(rest)
    for i in range(len(shares) - 1, 0, -1):
        j = below(i + 1)
        shares[i], shares[j] = shares[j], shares[i]
    return shares


@simulated
async def test_anybody_can_recompute_every_share_from_the_proof() -> None:
    http = await Http.start()
    packet = await drained(http, total_fen=98_765, count=77)
    response = await http.ask("GET", f"/v1/packets/{packet['packet_id']}/proof", user="stranger")
    proof = response.json()
    assert proof["commitment"] == packet["commitment"]
    assert recomputed(proof) == proof["shares_fen"]
    assert [line["amount_fen"] for line in proof["grabs"]] == proof["shares_fen"]
    assert [line["rank"] for line in proof["grabs"]] == list(range(1, 78))


@simulated
async def test_the_proof_of_an_open_packet_shows_its_commitment_and_no_seed() -> None:
    http = await Http.start()
    packet = await http.send()
    for number in range(4):
        await http.grab(packet["packet_id"], f"u{number}")
    proof = (await http.ask("GET", f"/v1/packets/{packet['packet_id']}/proof")).json()
    assert proof["commitment"] == packet["commitment"]
    assert not {"seed", "shares_fen", "grabs"} & set(proof)


@simulated
async def test_an_expired_packet_is_proved_too_also_for_the_shares_nobody_took() -> None:
    http = await Http.start()
    packet = await http.send()
    taken = (await http.grab(packet["packet_id"], "bob")).json()["amount_fen"]
    http.system.clock.ms = packet["expires_at_ms"]
    proof = (await http.ask("GET", f"/v1/packets/{packet['packet_id']}/proof")).json()
    assert recomputed(proof) == proof["shares_fen"]
    assert proof["shares_fen"][0] == taken


# Wallet.


@simulated
async def test_a_statement_pages_through_every_line_once_newest_first() -> None:
    http = await Http.start()
    for number in range(6):
        http.system.clock.ms += 1
        await http.send(f"k{number}", total_fen=100 + number)
    lines: list[dict[str, Any]] = []
    cursor: dict[str, Any] = {}
    pages = 0
    while pages < 10:
        page = (await http.ask("GET", "/v1/wallet/statement", params={"limit": 3} | cursor)).json()
        lines += page["entries"]
        pages += 1
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert pages == 3
    assert [line["amount_fen"] for line in lines] == [*range(-105, -99), BALANCE_FEN]
    assert [line["kind"] for line in lines] == ["packet_sent"] * 6 + ["sandbox"]
    for newer, older in itertools.pairwise(lines):
        assert newer["balance_fen"] == older["balance_fen"] + newer["amount_fen"]
        assert newer["at_ms"] > older["at_ms"]


@simulated
async def test_what_was_grabbed_is_spendable_after_settlement() -> None:
    http = await Http.start()
    packet = await http.send(count=1)
    await http.grab(packet["packet_id"], "newcomer")
    await http.system.settle()
    assert (await http.ask("GET", "/v1/wallet", user="newcomer")).json() == {"available_fen": 1_000, "held_fen": 0}
    page = (await http.ask("GET", "/v1/wallet/statement", user="newcomer")).json()
    assert page["next_cursor"] is None
    [line] = page["entries"]
    assert (line["kind"], line["amount_fen"], line["reference"]) == ("packet_share", 1_000, packet["packet_id"])


# Operators.


@simulated
async def test_the_audit_shows_money_in_flight_and_no_difference() -> None:
    http = await Http.start()
    packet = await http.send()
    share = (await http.grab(packet["packet_id"], "bob")).json()["amount_fen"]
    report = (await http.ask("GET", "/v1/audit", scope="operator")).json()
    assert (report["funded_fen"], report["paid_fen"], report["remaining_fen"]) == (1_000, share, 1_000 - share)
    assert (report["in_flight_fen"], report["difference_fen"], report["clean"]) == (share, 0, True)
    await http.system.settle()
    report = (await http.ask("GET", "/v1/audit", scope="operator")).json()
    assert (report["in_flight_fen"], report["difference_fen"]) == (0, 0)
    assert {shard["book_sum_fen"] for shard in report["shards"]} == {0}


@simulated
async def test_a_sandbox_user_made_again_keeps_his_balance_and_gets_a_token_that_works() -> None:
    http = await Http.start()
    await http.send(user="bob")
    body = {"user": "bob", "tenant": TENANT, "balance_fen": 5}
    response = await http.ask("POST", "/sandbox/users", scope="operator", json=body)
    assert response.status_code == 201
    fresh = response.json()["token"]
    wallet = await http.client.get("/v1/wallet", headers={"authorization": f"Bearer {fresh}"})
    assert wallet.json() == {"available_fen": BALANCE_FEN - 1_000, "held_fen": 0}


@simulated
async def test_the_clock_is_moved_for_everybody_by_the_time_it_is_told() -> None:
    http = await Http.start()
    packet = await http.send()
    response = await http.ask("POST", "/sandbox/clock", scope="operator", json={"advance_ms": 86_400_000})
    assert response.json() == {"offset_ms": 86_400_000}
    body = (await http.ask("GET", f"/v1/packets/{packet['packet_id']}")).json()
    assert (body["state"], body["refunded_fen"]) == ("expired", 1_000)


# Every response.

EVERYBODY = [("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/v1/wallet"), ("GET", "/nowhere"), ("PUT", "/v1/wallet")]


@pytest.mark.parametrize(("method", "path"), EVERYBODY)
@simulated
async def test_every_response_has_a_request_id_and_keeps_the_callers(method: str, path: str) -> None:
    http = await Http.start()
    ours = [(await http.ask(method, path)).headers["x-request-id"] for _ in range(2)]
    assert len(set(ours)) == 2
    named = await http.ask(method, path, headers={"x-request-id": "order-66"})
    assert named.headers.get_list("x-request-id") == ["order-66"]


@pytest.mark.parametrize("unsound", ["", "x" * 129, "a b", "a\tb"])
@simulated
async def test_an_unsound_request_id_is_replaced(unsound: str) -> None:
    http = await Http.start()
    response = await http.client.get("/healthz", headers={"x-request-id": unsound})
    assert response.headers["x-request-id"] != unsound
    assert len(response.headers["x-request-id"]) == 32


@simulated
async def test_our_own_fault_is_a_problem_with_the_id_to_find_it_by() -> None:
    http = await Http.start()
    http.gateway.service = None  # type: ignore[assignment]
    response = await http.ask("GET", "/v1/wallet", headers={"x-request-id": "order-66"})
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert (response.json()["code"], response.json()["request_id"]) == ("internal", "order-66")


@simulated
async def test_the_contract_is_published() -> None:
    http = await Http.start()
    paths = (await http.client.get("/openapi.json")).json()["paths"]
    assert {"/v1/packets", "/v1/packets/{packet_id}/grabs", "/v1/grabs/batch", "/v1/wallet", "/v1/audit"} <= set(paths)
    assert (await http.client.get("/docs")).status_code == 200
