"""Commitments: what is promised before the first grab, and that anybody can check it afterwards, over HTTP."""

import hashlib
import hmac
import struct
from typing import Any

import pytest

from actors.kernel.messages import Refused
from actors.packet import verify_packet as page
from actors.packet.fairness import block_seed_of, share_seed_of
from actors.packet.split import BLOCK_COUNT_MAX, Division, split
from actors.packet.state import sizes_of
from actors.refusals import Refusal
from actors.wallet.commands import CommitSeed
from actors.wallet.commitments import CommitmentRules, Commitments
from actors.wallet.events import Committed
from tests.simulation.http import BALANCE_FEN, Http
from tests.simulation.loop import simulated
from tests.unit.samples import NOW_MS, TENANT, funding, packets
from tests.unit.test_crowds import LANED, STAR

LUCKY: dict[str, Any] = {"kind": "lucky", "total_fen": 1_000, "count": 5}


async def commitment(http: Http, user: str = "alice", **body: Any) -> dict[str, Any]:
    """Ask for a commitment and return it."""
    response = await http.ask("POST", "/v1/commitments", user=user, json=body)
    assert response.status_code == 201, response.text
    return dict(response.json())


async def send(http: Http, key: str = "k", user: str = "alice", **body: Any) -> Any:
    """Send a packet; return the response."""
    return await http.ask("POST", "/v1/packets", user=user, key=key, json=LUCKY | body)


async def drain(http: Http, packet_id: str) -> dict[str, Any]:
    """Take all shares, one by one and two at once, and return the proof."""
    await http.grab(packet_id, "u0")
    items = [{"packet_id": packet_id, "user": f"u{number}"} for number in range(1, 5)]
    for part in (items[:3], items[3:]):
        await http.ask("POST", "/v1/grabs/batch", scope="gateway", json={"grabs": part})
    return dict((await http.ask("GET", f"/v1/packets/{packet_id}/proof")).json())


def sha(*parts: bytes) -> bytes:
    """Hash as docs/fairness.md says it."""
    return hashlib.sha256(b"".join(parts)).digest()


@simulated
async def test_a_senders_nonce_changes_the_shares_and_not_what_was_committed_to() -> None:
    http = await Http.start()
    told = [await commitment(http) for _ in range(2)]
    assert told[0]["commitment"] != told[1]["commitment"]
    for number, (nonce, committed) in enumerate(zip(("one", "other"), told, strict=True)):
        response = await send(http, f"k{number}", commitment_id=committed["commitment_id"], sender_nonce=nonce)
        packet = response.json()
        assert (response.status_code, packet["commitment"]) == (201, committed["commitment"])
        assert packet["packet_id"] == committed["commitment_id"]
        proof = await drain(http, packet["packet_id"])
        seed = bytes.fromhex(proof["seed"])
        assert sha(b"even/1\0", packet["packet_id"].encode(), b"\0", seed).hex() == committed["commitment"]
        mixed = hmac.digest(seed, b"nonce\0" + nonce.encode(), "sha256")
        assert proof["sender_nonce"] == nonce
        assert (
            proof["shares_fen"]
            == split("even/1", mixed, 1_000, 5, 1, 20_000)
            != split("even/1", seed, 1_000, 5, 1, 20_000)
        )
        assert [line["amount_fen"] for line in proof["grabs"]] == proof["shares_fen"]
    await http.system.settle()
    assert (await http.system.audit()).difference_fen == 0


@simulated
async def test_a_commitment_is_used_once_by_who_asked_for_it_and_in_time() -> None:
    http = await Http.start()
    wish = {"commitment_id": (await commitment(http))["commitment_id"], "sender_nonce": "n"}
    foreign = await send(http, user="bob", **wish)
    assert (foreign.status_code, foreign.json()["code"]) == (404, "commitment_not_found")
    for host in list(http.system.members):
        http.system.replace(host)
    first = await send(http, **wish)
    assert (first.status_code, (await send(http, **wish)).headers["idempotent-replayed"]) == (201, "true")
    assert (await send(http, key="other", **wish)).json()["code"] == "commitment_not_found"
    assert (await send(http)).json()["code"] == "idempotency_key_reused"
    assert (await send(http, **wish | {"sender_nonce": "m"})).json()["code"] == "idempotency_key_reused"
    late = {"commitment_id": (await commitment(http))["commitment_id"], "sender_nonce": "n"}
    http.system.clock.ms += 600_000
    assert (await send(http, key="late", **late)).json()["code"] == "commitment_not_found"
    assert (await http.ask("GET", "/v1/wallet")).json()["available_fen"] == BALANCE_FEN - 1_000


@simulated
async def test_a_user_has_eight_unused_commitments_at_most_and_gets_new_ones_when_they_are_over() -> None:
    http = await Http.start()
    made = [await commitment(http) for _ in range(8)]
    ninth = await http.ask("POST", "/v1/commitments", json={})
    assert (ninth.status_code, ninth.json()["code"]) == (429, "rate_limited")
    await commitment(http, user="bob")
    await send(http, commitment_id=made[3]["commitment_id"], sender_nonce="n")
    await commitment(http)
    assert (await http.ask("POST", "/v1/commitments", json={})).status_code == 429
    http.system.clock.ms += 600_000
    await commitment(http)


@simulated
async def test_an_algorithm_is_chosen_with_the_commitment_or_without_one() -> None:
    http = await Http.start()
    told = await commitment(http, algorithm="double-mean/1")
    wish = {"commitment_id": told["commitment_id"], "sender_nonce": "n"}
    other = await send(http, **wish)
    assert (other.status_code, other.json()["code"]) == (422, "commitment_mismatch")
    packet = (await send(http, algorithm="double-mean/1", **wish)).json()
    assert packet["algorithm"] == told["algorithm"] == "double-mean/1"
    plain = (await send(http, key="plain", algorithm="double-mean/1")).json()
    assert plain["algorithm"] == "double-mean/1"
    assert (await http.ask("POST", "/v1/commitments", json={"algorithm": "mine/1"})).status_code == 422


@simulated
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"sender_nonce": "n"}, "commitment_id"),
        ({"commitment_id": "a" * 32}, "sender_nonce"),
        ({"commitment_id": "a" * 32, "sender_nonce": ""}, "sender_nonce"),
        ({"commitment_id": "a" * 32, "sender_nonce": "n" * 129}, "sender_nonce"),
        ({"kind": "equal", "algorithm": "even/1"}, "algorithm"),
    ],
)
async def test_a_nonce_without_its_commitment_is_refused(change: dict[str, Any], field: str) -> None:
    http = await Http.start()
    response = await send(http, **change)
    assert (response.status_code, response.json()["code"]) == (422, "invalid")
    assert field in response.json()["fields"]


@simulated
async def test_a_commitment_that_is_none_is_not_found() -> None:
    http = await Http.start()
    for name in ("nonsense", "a" * 32):
        response = await send(http, commitment_id=name, sender_nonce="n")
        assert (response.status_code, response.json()["code"]) == (404, "commitment_not_found")


def test_a_commitment_that_is_over_makes_room_and_one_that_is_not_does_not() -> None:
    rules = CommitmentRules(unused_max=2, stream_max=3, lifetime_ms=100)
    unused: dict[str, Committed] = {}
    book = Commitments(unused, rules)
    for number, user in enumerate(("a", "a", "b")):
        made = book.decide(CommitSeed(TENANT, user, "t", "even/1"), f"p{number}", "k1", [b"c"], NOW_MS)
        assert isinstance(made, Committed)
        book.add(made)
        assert book.decide(CommitSeed(TENANT, user, "t", "even/1"), f"p{number}", "k1", [b"c"], NOW_MS + 1) is made
    asked = CommitSeed(TENANT, "c", "t", "even/1")
    assert book.decide(asked, "p3", "k1", [b"c"], NOW_MS + 99) == Refused(Refusal.OVERLOADED)
    made = book.decide(asked, "p3", "k1", [b"c"], NOW_MS + 100)
    assert isinstance(made, Committed)
    book.add(made)
    assert list(unused) == ["p3"]


def test_a_crowds_commitments_take_the_room_of_as_many() -> None:
    rules = CommitmentRules(unused_max=8, stream_max=5, lifetime_ms=100)
    unused: dict[str, Committed] = {}
    book = Commitments(unused, rules)
    for name, count, at_ms in (("p0", 2, 0), ("p1", 2, 50)):
        made = book.decide(CommitSeed(TENANT, "a", "t", "even/1", 9), name, "k1", [b"c"] * count, NOW_MS + at_ms)
        assert isinstance(made, Committed)
        assert made.commitments == [b"c"] * count
        book.add(made)
    rain = CommitSeed(TENANT, "b", "t", "even/1", 0, 3)
    assert book.decide(rain, "p2", "k1", [b"c"] * 3, NOW_MS + 99) == Refused(Refusal.OVERLOADED)
    assert isinstance(book.decide(rain, "p2", "k1", [b"c"], NOW_MS + 99), Committed)
    assert isinstance(book.decide(rain, "p2", "k1", [b"c"] * 3, NOW_MS + 100), Committed)
    assert book.decide(rain, "p2", "k1", [b"c"] * 4, NOW_MS + 100) == Refused(Refusal.OVERLOADED)
    book.use("p1")
    again = Commitments(unused, rules)  # what a snapshot brings back
    for one in (book, again):
        assert one.decide(rain, "p2", "k1", [b"c"] * 4, NOW_MS + 99) == Refused(Refusal.OVERLOADED)
        assert isinstance(one.decide(rain, "p2", "k1", [b"c"] * 3, NOW_MS + 99), Committed)


# Crowds.

CROWDS: dict[str, Any] = LANED | {"bounds": {"proof_lines_max": 7}}


def bursts_from(at_ms: int, number: int = 2) -> list[dict[str, int]]:
    """Return the bursts of a rain, a minute each."""
    starts_ms = range(at_ms, at_ms + number * 60_000, 60_000)
    return [{"opens_at_ms": ms, "ends_at_ms": ms + 60_000, "total_fen": 500, "count": 9} for ms in starts_ms]


@simulated
async def test_a_stars_sender_adds_a_nonce_to_what_was_committed_to_in_every_lane() -> None:
    http = await Http.start(**CROWDS)
    made = await commitment(http, star_count=40)
    assert len(set(made["commitments"])) == 4
    assert made["commitments"][0] == made["commitment"]
    wish: dict[str, Any] = STAR | {"commitment_id": made["commitment_id"], "sender_nonce": "星"}
    packet = (await send(http, **wish)).json()
    assert (packet["packet_id"], packet["lane_commitments"]) == (made["commitment_id"], made["commitments"])
    for host in list(http.system.members):
        http.system.replace(host)
    again = await send(http, **wish)
    assert (again.json(), again.headers["idempotent-replayed"]) == (packet, "true")
    assert (await send(http, key="other", **wish)).json()["code"] == "commitment_not_found"
    items = [{"packet_id": packet["packet_id"], "user": f"fan{number}"} for number in range(45)]
    await http.ask("POST", "/v1/grabs/batch", scope="gateway", json={"grabs": items})
    proofs = [await whole_proof(http, packet["packet_id"], lane) for lane in range(4)]
    code, lines = page.judge(proofs, made["commitments"], (), 4_000)
    assert code == page.MATCHES, lines
    assert {proof["sender_nonce"] for proof in proofs} == {"星"}
    for proof in proofs:
        proof["sender_nonce"] = "another"
    assert page.judge(proofs)[0] == page.DIFFERS
    await http.system.settle()
    assert (await http.system.audit()).difference_fen == 0


@simulated
async def test_a_rains_sender_adds_a_nonce_to_what_was_committed_to_for_every_burst() -> None:
    http = await Http.start(**CROWDS)
    made = await commitment(http, bursts=3, algorithm="double-mean/1")
    body = {
        "bursts": bursts_from(http.system.clock.ms, 3),
        "algorithm": "double-mean/1",
        "commitment_id": made["commitment_id"],
        "sender_nonce": "雨",
    }
    rain = (await http.ask("POST", "/v1/rains", key="r", json=body)).json()
    assert rain["rain_id"] == made["commitment_id"]
    assert [burst["commitment"] for burst in rain["bursts"]] == made["commitments"]
    assert (await http.ask("POST", "/v1/rains", key="r", json=body)).headers["idempotent-replayed"] == "true"
    other = await http.ask("POST", "/v1/rains", key="r", json=body | {"sender_nonce": "sun"})
    assert other.json()["code"] == "idempotency_key_reused"
    for number, burst in enumerate(rain["bursts"]):
        await http.grab(burst["packet_id"], f"u{number}")
        http.system.clock.ms += 60_000
    for burst in rain["bursts"]:
        proof = await whole_proof(http, burst["packet_id"], 0)
        code, lines = page.judge(proof, [burst["commitment"]])
        assert (code, proof["sender_nonce"]) == (page.MATCHES, "雨"), lines


@simulated
@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({}, STAR),
        ({"star_count": 39}, STAR),
        ({"star_count": 40}, LUCKY),
        ({"star_count": 40}, {"kind": "password", "passphrase": "open"}),
        ({"star_count": 40, "algorithm": "double-mean/1"}, STAR),
        ({"bursts": 2}, STAR),
        ({"star_count": 40}, {"bursts": 2}),
        ({"bursts": 3}, {"bursts": 2}),
        ({}, {"bursts": 1}),
        ({}, {"bursts": 2}),
    ],
)
async def test_a_commitment_is_for_one_kind_and_count_and_a_packet_of_another_moves_no_money(
    asked: dict[str, Any], sent: dict[str, Any]
) -> None:
    http = await Http.start(**CROWDS)
    wish = {"commitment_id": (await commitment(http, **asked))["commitment_id"], "sender_nonce": "n"}
    before = http.entries()
    if "bursts" in sent:
        body = wish | {"bursts": bursts_from(http.system.clock.ms, sent["bursts"])}
        response = await http.ask("POST", "/v1/rains", key="k", json=body)
    else:
        response = await send(http, **sent | wish)
    assert (response.status_code, response.json()["code"]) == (422, "commitment_mismatch")
    assert http.entries() == before


@simulated
@pytest.mark.parametrize("name", ["7777aaaa" * 4, "paaaaaaa" * 4, "a" * 32, "nonsense", ""])
@pytest.mark.parametrize("kind", ["lucky", "star", "rain"])
async def test_an_id_that_nobody_was_given_is_no_commitment_whatever_it_says_of_lanes(name: str, kind: str) -> None:
    http = await Http.start(**CROWDS)
    before = http.entries()
    wish = {"commitment_id": name, "sender_nonce": "n"}
    if kind == "rain":
        body = wish | {"bursts": bursts_from(http.system.clock.ms)}
        response = await http.ask("POST", "/v1/rains", key="k", json=body)
    else:
        response = await send(http, **(STAR if kind == "star" else LUCKY) | wish)
    assert (response.status_code, response.json()["code"]) == (404, "commitment_not_found")
    assert http.entries() == before


@simulated
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"star_count": 10_000_001}, "star_count"),
        ({"star_count": 0}, "star_count"),
        ({"bursts": 49}, "bursts"),
        ({"bursts": 2, "star_count": 2}, "bursts"),
        ({"count": 2}, "count"),
    ],
)
async def test_what_cannot_be_committed_to_is_named(body: dict[str, Any], field: str) -> None:
    http = await Http.start()
    before = http.entries()
    response = await http.ask("POST", "/v1/commitments", json=body)
    assert (response.status_code, response.json()["code"]) == (422, "invalid")
    assert field in response.json()["fields"]
    assert http.entries() == before


@simulated
async def test_a_rains_nonce_comes_with_its_commitment() -> None:
    http = await Http.start()
    for wish, field in (({"sender_nonce": "n"}, "commitment_id"), ({"commitment_id": "a" * 32}, "sender_nonce")):
        body = wish | {"bursts": bursts_from(http.system.clock.ms)}
        response = await http.ask("POST", "/v1/rains", key="k", json=body)
        assert (response.status_code, list(response.json()["fields"])) == (422, [field])


@simulated
async def test_what_the_platform_proves_is_what_the_page_recomputes_packet_nonce_lanes_and_rain() -> None:
    http = await Http.start(**CROWDS)
    committed = await commitment(http)
    mine = (await send(http, commitment_id=committed["commitment_id"], sender_nonce="春节")).json()["packet_id"]
    await drain(http, mine)
    star = (await send(http, "star", **STAR)).json()["packet_id"]
    bursts = bursts_from(http.system.clock.ms)
    rain = (await http.ask("POST", "/v1/rains", key="r", json={"bursts": bursts})).json()
    items = [{"packet_id": star, "user": f"fan{number}"} for number in range(45)]
    await http.ask("POST", "/v1/grabs/batch", scope="gateway", json={"grabs": items})
    http.system.clock.ms += 60_000
    second = rain["bursts"][1]["packet_id"]
    await http.grab(second, "bob")
    http.system.clock.ms += 60_000
    for packet_id, lanes in ((mine, 1), (star, 4), (rain["rain_id"], 1), (second, 1)):
        proofs = [await whole_proof(http, packet_id, lane) for lane in range(lanes)]
        code, lines = page.judge(proofs, [proofs[0]["commitment"]])
        assert code == page.MATCHES, lines
        proofs[-1]["shares_fen"][3] += 1
        assert page.judge(proofs)[0] == page.DIFFERS


async def whole_proof(http: Http, packet_id: str, lane: int) -> dict[str, Any]:
    """Ask for every page of a proof and put them together."""
    after_rank: int | None = 0
    proof: dict[str, Any] = {}
    while after_rank is not None:
        response = await http.ask("GET", f"/v1/packets/{packet_id}/proof?lane={lane}&after_rank={after_rank}")
        told = response.json()
        after_rank = told.pop("next_after_rank", None)
        for name in ("chain_links", "shares_fen", "grabs"):
            told[name] = proof.get(name, []) + told[name]
        proof = told
    return proof


# The claim chain.


@simulated
async def test_the_order_of_claims_is_chained_and_its_head_is_in_the_proof_from_the_first_on() -> None:
    http = await Http.start()
    packet_id = (await send(http)).json()["packet_id"]
    path = f"/v1/packets/{packet_id}/proof"
    empty = (await http.ask("GET", path)).json()
    terms = "\n".join(("even/1", "1000", "5", "1", "20000", "")).encode()
    start = sha(bytes.fromhex(empty["commitment"]), terms)
    assert (empty["chain_head"], empty["chain_links"]) == (start.hex(), [])
    await http.grab(packet_id, "u0")
    noted = (await http.ask("GET", path)).json()["chain_head"]
    proof = await drain(http, packet_id)
    assert proof["chain_links"] == [1, 3, 1]
    head, heads, first = start, [], 0
    for size in proof["chain_links"]:
        link = proof["grabs"][first : first + size]
        rows = b"".join(struct.pack("<IQ", line["amount_fen"], line["at_ms"]) for line in link)
        head = sha(head, struct.pack("<I", size), rows, "\n".join(line["user"] for line in link).encode())
        heads.append(head.hex())
        first += size
    assert (heads[0], heads[-1]) == (noted, proof["chain_head"])


@pytest.mark.parametrize("size", [1, 127, 128, 300, 16_384, 1_000_000])
def test_the_size_of_a_link_is_read_as_it_was_written(size: int) -> None:
    machine = packets(funding(total_fen=size, count=size))
    event, _ = machine.decide_grabs("p1", TENANT, [f"u{number}" for number in range(size)], NOW_MS)
    machine.apply(event)
    packet = machine._state.packets["p1"]
    assert sizes_of(packet.links) == [size]
    machine.restore(machine.snapshot())
    assert machine._state.packets["p1"] == packet


# Blocks.


@pytest.mark.parametrize("algorithm", ["even/1", "double-mean/1", "equal/1"])
def test_a_crowds_shares_are_made_in_blocks_each_with_its_part_and_its_seed(algorithm: str) -> None:
    count, seed = 2 * BLOCK_COUNT_MAX + 500, bytes(range(32))
    total_fen = 37 * count + (0 if algorithm == "equal/1" else 1)
    shares = split(algorithm, seed, total_fen, count, 1, 100)
    assert (len(shares), sum(shares)) == (count, total_fen)
    assert all(1 <= share <= 100 for share in shares)
    second = shares[BLOCK_COUNT_MAX : 2 * BLOCK_COUNT_MAX]
    part_fen = total_fen * 2 * BLOCK_COUNT_MAX // count - total_fen * BLOCK_COUNT_MAX // count
    assert second == split(algorithm, block_seed_of(seed, 1), part_fen, BLOCK_COUNT_MAX, 1, 100)
    division = Division(algorithm, total_fen, count, 1, 100)
    for first, size in ((0, 10), (BLOCK_COUNT_MAX - 3, 7), (count - 5, 50), (9_000, 11_001)):
        assert division.page(seed, first, size) == shares[first : first + size]


@pytest.mark.parametrize(("lo", "hi"), [(1, 2), (5, 5), (1, 20_000)])
def test_the_part_of_a_block_can_always_be_divided_within_the_limits(lo: int, hi: int) -> None:
    count = BLOCK_COUNT_MAX + 1
    for total_fen in (lo * count, (lo + hi) * count // 2, hi * count):
        assert sum(split("even/1", bytes(32), total_fen, count, lo, hi)) == total_fen


def test_without_a_nonce_the_share_seed_is_the_seed() -> None:
    assert share_seed_of(b"s" * 32, "") == b"s" * 32
    assert share_seed_of(b"s" * 32, "n") != share_seed_of(b"s" * 32, "m")
