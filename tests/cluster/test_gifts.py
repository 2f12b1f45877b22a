"""Gifts on the real cluster: packets asked for, notes and commitments, through crashes of every shard, to their end."""

import asyncio
import time
from typing import Any

from actors.packet import verify_packet as page
from tests.cluster.platform import Platform, kill

BALANCE_FEN = 10_000
GIFT_FEN = 888
DAY_MS = 86_400_000
MINUTE_MS = 60_000
CHANGES = 3
UNUSED = 8
"""Changes of a note and unused commitments of a user, in configs/local.toml."""


class People:
    """Users of one test: they ask until they are answered, and hear one code as an answer that others would repeat."""

    def __init__(self, platform: Platform, name: str) -> None:
        self.platform = platform
        self._run = f"{name}-{time.time_ns()}"

    def name(self, person: str) -> str:
        """Return a name nobody had before."""
        return f"{self._run}-{person}"

    def token(self, person: str, tenant: str = "wechat") -> str:
        """Return his token."""
        return self.platform.token(self.name(person), tenant)

    async def rich(self, *people: str) -> None:
        """Give everybody money."""
        for person in people:
            await self.platform.user(self.name(person), BALANCE_FEN)

    async def post(self, person: str, path: str, body: Any = None, key: str = "", **options: str) -> tuple[int, Any]:
        """Ask as that person; `rate_limited` is an answer."""
        token = self.token(person, **options)
        own = {"Idempotency_Key": f"{self._run}-{key}"} if key else {}
        return await self.platform.insist("POST", path, token, body, final="rate_limited", **own)

    async def code(self, person: str, path: str, body: Any = None, key: str = "", **options: str) -> str:
        """Ask as that person; return the code of the refusal, or "done"."""
        status, answer = await self.post(person, path, body, key, **options)
        return "done" if status < 300 else str(answer["code"])

    async def get(self, person: str, path: str, tenant: str = "wechat") -> Any:
        """Read as that person; return the answer, or the code of the refusal."""
        status, answer = await self.platform.insist("GET", path, self.token(person, tenant))
        return answer if status == 200 else answer["code"]

    async def money(self, person: str) -> int:
        """Return what he has."""
        return int((await self.get(person, "/v1/wallet"))["available_fen"])

    async def asked(self, asker: str, asked: str, key: str) -> str:
        """Let one ask the other for a packet; return the path of the request."""
        body = {"asked": self.name(asked), "greeting": "利是逗來"}
        status, lishi = await self.post(asker, "/v1/lishi", body, key)
        assert (status, lishi["state"]) == (201, "asked"), lishi
        return f"/v1/lishi/{lishi['lishi_id']}"

    async def crash(self) -> None:
        """Kill every shard, and wait until the platform is ready again."""
        pids = self.platform.pids("ray::ShardActor")
        assert pids, "there are shards"
        for pid in pids:
            kill(pid)
        await self.platform.insist("GET", "/readyz", self.platform.operator)

    async def later(self, advance_ms: int) -> None:
        """Let time pass."""
        advance = {"advance_ms": advance_ms}
        status, _ = await self.platform.insist("POST", "/sandbox/clock", self.platform.operator, advance)
        assert status == 200


async def test_what_somebody_was_asked_for_he_gives_once_whatever_is_killed_meanwhile(platform: Platform) -> None:
    people = People(platform, "lishi")
    await people.rich("bob", "carol")
    lishi = await people.asked("carol", "bob", "ask")
    assert await people.asked("carol", "bob", "ask") == lishi
    assert await people.code("carol", "/v1/lishi", {"asked": people.name("bob")}, "again") == "rate_limited"

    await people.crash()
    assert [(await people.get(reader, lishi))["state"] for reader in ("carol", "bob")] == ["asked", "asked"]
    waiting = (await people.get("bob", "/v1/lishi?role=asked"))["lishi"]
    assert [f"/v1/lishi/{one['lishi_id']}" for one in waiting] == [lishi]
    assert await people.get("dave", lishi) == await people.get("carol", lishi, tenant="qq") == "lishi_not_found"
    give = {"amount_fen": GIFT_FEN, "greeting": "恭喜发财"}
    for action, body in (("accept", give), ("decline", None)):
        refused = [await people.code(who, f"{lishi}/{action}", body, "no") for who in ("carol", "dave")]
        assert refused == ["forbidden", "lishi_not_found"]
    assert await people.money("bob") == BALANCE_FEN

    status, packet = await people.post("bob", f"{lishi}/accept", give, "give")
    assert (status, packet["kind"], packet["total_fen"]) == (201, "lishi", GIFT_FEN)
    await people.crash()
    again = await asyncio.gather(*(people.post("bob", f"{lishi}/accept", give, "give") for _ in range(8)))
    assert again == [(201, packet)] * 8
    assert await people.post("bob", f"{lishi}/accept", give, "more") == (201, packet), "one request is granted once"
    other = give | {"amount_fen": 1}
    told = [await people.code("bob", f"{lishi}/accept", other, key) for key in ("give", "other")]
    assert told == ["idempotency_key_reused", "lishi_closed"]
    assert await people.code("bob", f"{lishi}/decline") == "lishi_closed"
    assert await people.asked("carol", "bob", "ask") == lishi, "a repeat hears what the first heard"
    assert await people.money("bob") == BALANCE_FEN - GIFT_FEN

    gift = f"/v1/packets/{packet['packet_id']}"
    assert await people.get("dave", gift) == "packet_not_found"
    assert await people.code("dave", f"{gift}/grabs") == "not_addressee"
    taken = [(await people.post("carol", f"{gift}/grabs"))[1]["amount_fen"] for _ in range(2)]
    assert taken == [GIFT_FEN, GIFT_FEN]
    assert (await people.get("carol", lishi))["packet_id"] == packet["packet_id"]
    assert (await platform.settled())["clean"]
    assert [await people.money(one) for one in ("bob", "carol")] == [BALANCE_FEN - GIFT_FEN, BALANCE_FEN + GIFT_FEN]


async def test_a_no_or_none_is_final_and_is_respected_for_a_day_also_after_a_crash(platform: Platform) -> None:
    people = People(platform, "cooldown")
    await people.rich("bob", "erin", "frank")
    declined, unanswered = await people.asked("carol", "bob", "1"), await people.asked("carol", "erin", "2")
    given = await people.asked("carol", "frank", "3")
    give = {"amount_fen": GIFT_FEN}
    assert [await people.code("bob", f"{declined}/decline") for _ in range(2)] == ["done", "done"]
    assert await people.code("frank", f"{given}/accept", give, "give") == "done"
    await people.crash()
    assert await people.code("bob", f"{declined}/accept", give, "late") == "lishi_closed"
    token, body = people.token("carol"), {"asked": people.name("bob")}
    status, problem = await people.post("carol", "/v1/lishi", body, "4")
    assert (status, problem["code"], problem["retry_after_ms"] > 0) == (429, "rate_limited", True)
    assert "phrase" not in problem["detail"]

    packet = (await people.get("frank", given))["packet_id"]  # a day later it may be forgotten with bob's

    await people.later(DAY_MS + MINUTE_MS)
    assert (await people.get("carol", unanswered))["state"] == "lapsed"
    assert await people.code("erin", f"{unanswered}/accept", give, "late") == "lishi_lapsed"
    assert await people.code("carol", "/v1/lishi", {"asked": people.name("erin")}, "5") == "rate_limited"
    assert await people.asked("carol", "bob", "6") != declined, "a day after his no he may be asked again"
    assert await people.code("carol", f"/v1/packets/{packet}/grabs") == "expired"
    await people.crash()
    assert (await people.get("erin", unanswered))["state"] == "lapsed"

    await people.later(DAY_MS)
    assert await people.asked("carol", "erin", "7") != unanswered
    assert (await platform.settled())["clean"]
    assert [await people.money(one) for one in ("bob", "erin", "frank")] == [BALANCE_FEN] * 3
    assert (await platform.insist("GET", "/v1/lishi", token))[1]["lishi"] == []


async def test_notes_are_kept_as_they_were_last_told_and_only_takers_write_them(platform: Platform) -> None:
    people = People(platform, "notes")
    await people.rich("alice")
    body = {"kind": "equal", "total_fen": 300, "count": 3}
    _, packet = await people.post("alice", "/v1/packets", body, "send")
    path = f"/v1/packets/{packet['packet_id']}"
    for taker in ("bob", "carol"):
        assert await people.code(taker, f"{path}/grabs") == "done"
    assert await people.code("dave", f"{path}/note", {"text": "謝謝"}) == "not_a_taker"
    assert await people.code("bob", f"{path}/note", {"text": "謝謝"}, tenant="qq") == "packet_not_found"
    for text in ("謝謝", *(f"謝謝 {number}" for number in range(CHANGES))):
        assert await people.code("bob", f"{path}/note", {"text": text}) == "done"
    assert await people.code("carol", f"{path}/note", {"text": "发财"}) == "done"
    await people.crash()

    last = f"謝謝 {CHANGES - 1}"
    again = await asyncio.gather(*(people.post("bob", f"{path}/note", {"text": last}) for _ in range(4)))
    assert {(status, told["text"], told["replayed"]) for status, told in again} == {(200, last, True)}
    assert await people.code("bob", f"{path}/note", {"text": "one more"}) == "rate_limited"
    await people.later(DAY_MS + MINUTE_MS)
    assert await people.code("dave", f"{path}/grabs") == "expired"
    await people.crash()
    for reader in ("alice", "bob"):
        told = await people.get(reader, path)
        assert [(note["user"], note["text"]) for note in told["notes"]] == [
            (people.name("bob"), last),
            (people.name("carol"), "发财"),
        ]
    assert "notes" not in await people.get("dave", path)
    assert (await platform.settled())["clean"]


async def test_what_was_committed_to_before_a_crash_is_what_the_proof_matches_after_it(platform: Platform) -> None:
    people = People(platform, "nonce")
    await people.rich("alice", "bob")
    committed = [(await people.post("alice", "/v1/commitments"))[1] for _ in range(UNUSED)]
    assert await people.code("alice", "/v1/commitments") == "rate_limited"
    await people.crash()
    assert await people.code("alice", "/v1/commitments") == "rate_limited"
    body = {"kind": "lucky", "total_fen": 1_000, "count": 3}
    chosen, other = ({"commitment_id": one["commitment_id"], "sender_nonce": "福"} for one in committed[:2])
    assert await people.code("bob", "/v1/packets", body | chosen, "foreign") == "commitment_not_found"

    sent = await asyncio.gather(*(people.post("alice", "/v1/packets", body | chosen, "send") for _ in range(8)))
    packet = sent[0][1]
    assert sent == [(201, packet)] * 8
    assert (packet["packet_id"], packet["commitment"]) == (chosen["commitment_id"], committed[0]["commitment"])
    assert await people.code("alice", "/v1/packets", body | chosen, "more") == "commitment_not_found"
    path = f"/v1/packets/{packet['packet_id']}"
    assert await people.code("bob", f"{path}/grabs") == "done"
    early = await people.get("alice", f"{path}/proof")
    noted = [committed[0]["commitment"]], [early["chain_head"]], 1_000
    assert page.judge(early, *noted)[0] == page.NOT_ENDED
    await people.crash()

    assert (await people.post("alice", "/v1/packets", body | chosen, "send"))[1]["packet_id"] == packet["packet_id"]
    for taker in ("carol", "dave"):
        assert await people.code(taker, f"{path}/grabs") == "done"
    code, lines = page.judge(await people.get("alice", f"{path}/proof"), *noted)
    assert code == page.MATCHES, lines
    await people.later(DAY_MS)
    assert await people.code("alice", "/v1/packets", body | other, "late") == "commitment_not_found"
    assert await people.code("alice", "/v1/commitments") == "done"
    assert (await platform.settled())["clean"]
    assert await people.money("alice") == BALANCE_FEN - 1_000
