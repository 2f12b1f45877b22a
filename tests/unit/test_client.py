"""The client: every route of the contract on the real gateway, one identity per request, and outcomes that are told."""

import asyncio
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.client import (
    ApiProblem,
    AuditAnswer,
    Backoff,
    BurstOrder,
    Client,
    GrabAnswer,
    GrabOrder,
    ItemAnswer,
    PacketAnswer,
    PacketOrder,
    RainOrder,
    RawAnswer,
)
from cluster.client.transport import Transport, raw_answer
from cluster.gateway.auth import Callers
from cluster.gateway.routing import ROUTES
from tests.simulation.http import Http, token
from tests.simulation.loop import simulated
from tests.unit.fake_gateway import GATEWAY_TOKEN, OPERATOR_TOKEN, FakeGateway, serving
from tests.unit.photo_site import UPLOAD, Site

ROOT = Path(__file__).resolve().parent.parent.parent
ORDER = PacketOrder("lucky", 10, 2)


class InProcess(Transport):
    """The real gateway, without a socket; it remembers the routes that it was asked for."""

    def __init__(self, http: Http) -> None:
        super().__init__("http://platform", connections_max=1, attempt_s=1.0, deadline_s=30.0)
        self._http = http
        self.asked: set[tuple[str, str]] = set()

    async def attempt(self, method: str, path: str, content: bytes | None, headers: Mapping[str, str]) -> RawAnswer:
        self.asked.add((method, path.partition("?")[0]))
        response = await self._http.client.request(method, path, content=content, headers=dict(headers))
        return raw_answer(response.status_code, response.headers, response.content)


class Scripted(Transport):
    """Answers from a script; it remembers every attempt."""

    def __init__(self, *script: RawAnswer, deadline_s: float = 5.0) -> None:
        super().__init__("", connections_max=1, attempt_s=1.0, deadline_s=deadline_s, chance=lambda: 0.0)
        self._script = iter(script)
        self.attempts: list[tuple[bytes | None, dict[str, str]]] = []

    async def attempt(self, method: str, path: str, content: bytes | None, headers: Mapping[str, str]) -> RawAnswer:
        self.attempts.append((content, dict(headers)))
        return next(self._script)


def over(transport: Transport, caller: str = "token") -> Client:
    """Return a client over that transport."""
    client = Client("", caller)
    client.transport = transport
    return client


def refusal(status: int, code: str, **told: Any) -> RawAnswer:
    return raw_answer(status, {}, msgspec.json.encode({"code": code, **told}))


LOST = RawAnswer(0, {}, b"", ApiProblem(0, "no_answer", retryable=True, unknown=True))
PACKET = PacketAnswer("p", "lucky", "open", 10, 2, "li", 0, 1, "c")
SENT = raw_answer(201, {}, msgspec.json.encode(PACKET))


def good(answer: Any) -> Any:
    assert not isinstance(answer, ApiProblem), answer
    return answer


async def test_every_route_of_the_contract_has_a_method_that_reads_its_answer() -> None:
    with tempfile.TemporaryDirectory() as folder:
        site = await Site.start(Path(folder))
        transport = InProcess(site.http)
        alice, bob = (over(transport, token(name)) for name in ("alice", "bob"))
        gateway, operator = (over(transport, token(scope, scope)) for scope in ("gateway", "operator"))
        transport.deadline_s = 0.0
        await packets_and_rains(alice, bob, gateway, site.http.system.clock.now_ms())
        await wallets_and_requests(alice, bob)
        await photos(alice, bob)
        await operators(operator, alice)
    served = {(door.method, door.path) for door in ROUTES if door.callers is not Callers.PUBLIC}
    missed = {
        (method, path)
        for method, path in served - {("POST", "/v1/grabs/stream")}
        if not any(
            method == asked and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), at) for asked, at in transport.asked
        )
    }
    assert missed == set()


async def packets_and_rains(alice: Client, bob: Client, gateway: Client, now_ms: int) -> None:
    commitment = good(await alice.commit())
    order = PacketOrder("lucky", 100, 4, commitment_id=commitment.commitment_id, sender_nonce="nonce")
    packet = good(await alice.send(order, key="1"))
    assert (packet.sender, packet.commitment, packet.lanes) == ("alice", commitment.commitment, 1)
    taken = good(await bob.grab(packet.packet_id))
    items = good(await gateway.grab_batch([GrabOrder(packet.packet_id, "bob"), GrabOrder(packet.packet_id, "carol")]))
    assert items[0] == ItemAnswer(taken.amount_fen, taken.rank, replayed=True)
    assert good(await bob.write_note(packet.packet_id, "谢谢")).text == "谢谢"
    seen = good(await alice.packet(packet.packet_id))
    assert ([share.user for share in seen.grabs], seen.notes[0].user) == (["bob", "carol"], "bob")
    assert good(await alice.proof(packet.packet_id))["commitment"] == commitment.commitment
    closed = good(await alice.send(PacketOrder("password", 10, 1, passphrase="fat choy"), key="2"))
    assert good(await bob.grab(closed.packet_id, passphrase="fat choy")).amount_fen == 10
    burst = BurstOrder(now_ms + 60_000, now_ms + 120_000, 100, 2)
    rain = good(await alice.send_rain(RainOrder([burst], sponsor="tea house"), key="3"))
    assert good(await bob.rain(rain.rain_id)).bursts[0].total_fen == 100


async def wallets_and_requests(alice: Client, bob: Client) -> None:
    wanted = good(await bob.ask_lishi("alice", key="1", greeting="boss"))
    assert good(await alice.lishi_waiting()) == [wanted]
    assert good(await alice.accept_lishi(wanted.lishi_id, 50, key="a")).packet_id
    assert good(await bob.lishi(wanted.lishi_id)).state == "accepted"
    other = good(await alice.ask_lishi("bob", key="2"))
    assert good(await bob.decline_lishi(other.lishi_id)).state == "declined"
    assert good(await alice.wallet()).held_fen == 0
    page = good(await alice.statement(limit=2))
    assert (len(page.entries), page.older_lines_elsewhere) == (2, 0)
    assert good(await alice.statement(cursor=page.next_cursor)).entries


async def photos(alice: Client, bob: Client) -> None:
    photo = good(await alice.upload_photo(UPLOAD, "image/png", price_fen_min=100, price_fen_max=900, key="p"))
    seen = good(await bob.photo(photo.photo_id))
    assert (seen.paid, 100 <= seen.price_fen <= 900) == (False, True)
    refused = await bob.picture(photo.photo_id, clear=True)
    assert isinstance(refused, ApiProblem)
    assert (refused.code, len(refused.request_id) > 0) == ("payment_required", True)
    assert good(await bob.pay_photo(photo.photo_id, seen.price_fen, key="pay")).price_fen == seen.price_fen
    assert good(await bob.picture(photo.photo_id, clear=True)) != good(await bob.picture(photo.photo_id, clear=False))


async def operators(operator: Client, alice: Client) -> None:
    packet = good(await alice.send(ORDER, key="last"))
    for lever in ("sends", "grabs", f"packets/{packet.packet_id}"):
        assert await operator.set_lever(lever, paused=True) is None
    assert len(good(await operator.levers())) == 3
    assert good(await operator.audit()).difference_fen == 0
    nobody = await operator.figures()  # there is no supervisor in this process
    assert isinstance(nobody, ApiProblem)
    assert good(await operator.create_user("dan", "wechat", 5)).user == "dan"
    assert await operator.advance_clock(5) is None
    assert good(await operator.ready())["status"] == "ready"


@simulated
async def test_a_gateway_acts_for_a_user_that_it_names() -> None:
    transport = InProcess(await Http.start())
    gateway = over(transport).acting(token("gateway", "gateway"), user="alice")
    assert good(await gateway.send(ORDER, key="k")).sender == "alice"


# Retries


async def test_every_attempt_of_a_request_is_the_same_request() -> None:
    transport = Scripted(LOST, refusal(503, "journal_unavailable", retryable=True), SENT)
    assert await over(transport).send(ORDER, key="once") == PACKET
    assert transport.attempts == [transport.attempts[0]] * 3
    assert transport.attempts[0][1]["Idempotency-Key"] == "once"


async def test_a_definite_answer_settles_what_was_unknown_and_the_deadline_does_not() -> None:
    drained = refusal(409, "drained", request_id="r1")
    assert await over(Scripted(LOST, drained)).grab("p") == drained.problem
    shed = refusal(429, "overloaded", retryable=True, retry_after_ms=60_000)
    answer = await over(Scripted(LOST, shed)).grab("p")
    assert isinstance(answer, ApiProblem)
    assert (answer.code, answer.unknown) == ("overloaded", True)
    alone = await over(Scripted(shed)).grab("p")
    assert isinstance(alone, ApiProblem)
    assert not alone.unknown


@given(retry_after_ms=st.integers(0, 100_000), chances=st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_no_pause_is_shorter_than_the_server_asked_for_and_none_grows_without_bound(
    retry_after_ms: int, chances: list[float]
) -> None:
    drawn = iter(chances)
    backoff = Backoff(lambda: next(drawn))
    for _ in chances:
        pause_ms = 1_000 * backoff.pause_s(retry_after_ms)
        assert max(retry_after_ms, 50) * 0.999 <= pause_ms <= 1.251 * max(retry_after_ms, 1_000)


async def test_what_is_relative_is_asked_once() -> None:
    transport = Scripted(LOST)
    assert (await over(transport).advance_clock(5)) == LOST.problem
    assert len(transport.attempts) == 1


async def test_of_a_batch_those_refused_for_now_are_asked_again_and_the_unknown_stay_so() -> None:
    first = [{"rank": 1, "amount_fen": 5}, {"code": "shard_unavailable"}, {"code": "overloaded"}]
    second = refusal(429, "overloaded", retryable=True, retry_after_ms=60_000)
    grabs = [GrabOrder("p", user) for user in ("a", "b", "c")]
    transport = Scripted(raw_answer(200, {}, msgspec.json.encode({"results": first})), second)
    items = await over(transport).grab_batch(grabs)
    assert isinstance(items, list)
    assert [(item.code, item.unknown) for item in items] == [("", False), ("overloaded", True), ("overloaded", False)]
    assert msgspec.json.decode(transport.attempts[1][0] or b"") == {
        "grabs": [{"packet_id": "p", "user": "b"}, {"packet_id": "p", "user": "c"}]
    }


async def test_a_success_that_cannot_be_read_is_an_unknown_outcome() -> None:
    answer = await over(Scripted(raw_answer(201, {}, b"{}"))).send(ORDER, key="k")
    assert isinstance(answer, ApiProblem)
    assert (answer.code, answer.unknown, answer.retryable) == ("broken_contract", True, False)


# Over a socket


async def test_a_client_repeats_with_the_same_key_and_is_funded_once() -> None:
    gateway = FakeGateway("answer_lost")
    gateway.wallets["li"] = 1_000
    async with serving(gateway) as url, Client(url, "li") as client:
        sent = [await client.send(ORDER, key=f"key-{number}") for number in range(20)]
    assert all(isinstance(packet, PacketAnswer) for packet in sent)
    assert len(gateway.packets) == 20
    assert gateway.wallets["li"] == 800
    assert client.transport.lost == client.transport.retries > 0


async def test_a_refusal_is_a_value_and_definite() -> None:
    gateway = FakeGateway()
    gateway.wallets["li"] = 5
    async with serving(gateway) as url, Client(url, "li") as client:
        assert await client.send(ORDER, key="k") == ApiProblem(402, "insufficient_funds", retryable=False)
        assert await client.grab("0" * 32) == ApiProblem(404, "packet_not_found", retryable=False)


async def test_an_outcome_stays_unknown_past_the_deadline_when_nobody_answers() -> None:
    async with serving(FakeGateway()) as url:
        pass
    async with Client(url, "li", deadline_s=0.2) as client:
        answer = await client.grab("0" * 32)
    assert isinstance(answer, ApiProblem)
    assert (answer.status, answer.retryable, answer.unknown) == (0, True, True)
    assert client.transport.retries > 0


async def test_one_bad_item_does_not_fail_a_batch() -> None:
    gateway = FakeGateway()
    gateway.wallets["li"] = 10
    async with serving(gateway) as url, Client(url, "li") as client:
        packet = good(await client.send(PacketOrder("equal", 10, 2), key="k"))
        grabs = [GrabOrder(packet.packet_id, "li"), GrabOrder("1" * 32, "li")]
        batch = await client.acting(GATEWAY_TOKEN).grab_batch(grabs)
        taken = await client.grab(packet.packet_id)
        audit = await client.acting(OPERATOR_TOKEN).audit()
    assert batch == [ItemAnswer(amount_fen=5, rank=1), ItemAnswer(code="packet_not_found")]
    assert isinstance(taken, GrabAnswer)
    assert (taken.amount_fen, taken.rank, taken.replayed) == (5, 1, True)
    assert isinstance(audit, AuditAnswer)
    assert audit.funded_fen == 10


# The page


@pytest.mark.parametrize("money", [1_000, 0])
async def test_the_program_on_the_clients_page_does_what_it_says(money: int) -> None:
    page = (ROOT / "docs" / "client.md").read_text()
    program = page.partition("```python\n")[2].partition("```")[0]
    assert len([line for line in program.splitlines() if line]) <= 12, "an integrator starts with ten lines or so"
    gateway = FakeGateway()
    gateway.wallets["li"] = money
    pipe = asyncio.subprocess.PIPE
    async with serving(gateway) as url:
        running = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program, url, "li"), cwd=ROOT, stdout=pipe, stderr=pipe
        )
        stdout, stderr = await asyncio.wait_for(running.communicate(), 30)
    if money:
        assert (running.returncode, list(gateway.packets)) == (0, [stdout.decode().split()[0]]), stderr
        assert "rank=1" in stdout.decode()
    else:
        assert (running.returncode, "insufficient_funds" in stderr.decode()) == (1, True)
