"""Ended packets, remembered by a gateway: losers are told at once, and no winner is ever told that he lost."""

import asyncio
from array import array
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.kernel.messages import Refused
from actors.kernel.names import user_hash
from actors.kernel.quota import Bound
from actors.packet.commands import GrabMany, ReadEnd
from actors.packet.replies import PacketEnd, Won
from actors.packet.rules import PacketRules
from actors.refusals import Refusal
from cluster.gateway.dispatch import ended_packet_cache as module
from cluster.gateway.dispatch.ended_packet_cache import ENTRY_BYTES, EndedPacketCache
from tests.simulation.grabbing import grab_each
from tests.simulation.http import Http
from tests.simulation.loop import simulated
from tests.simulation.system import TENANT

DRAINED, EXPIRED = Refused(Refusal.DRAINED), Refused(Refusal.EXPIRED)
NOT_FOUND = Refused(Refusal.PACKET_NOT_FOUND)
PACKETS_MAX = 3
BYTES_MAX = PACKETS_MAX * (ENTRY_BYTES + 16)


class Shard:
    """Answers `ReadEnd` when the test lets it. `winners` by packet; a packet is of TENANT, open or drained."""

    def __init__(self) -> None:
        self.asked: list[tuple[asyncio.Future[list[Any]], ReadEnd]] = []
        self.winners: dict[str, list[str]] = {}
        self.drained: set[str] = set()
        self.count = 0

    def post(self, stream: str, commands: list[Any]) -> "asyncio.Future[list[Any]]":
        [command] = commands
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self.asked.append((future, command))
        self.count += 1
        return future

    async def answer(self, refused: Refused | None = None) -> None:
        """Answer everything asked so far: the truth, or trouble."""
        asked, self.asked = self.asked, []
        for future, command in asked:
            future.set_result([refused or self.end(command)])
        await asyncio.sleep(0)

    def end(self, command: ReadEnd) -> PacketEnd | Refused:
        if command.tenant != TENANT or command.packet_id not in self.drained:
            return NOT_FOUND
        hashes = sorted(user_hash(TENANT, user) for user in self.winners.get(command.packet_id, []))
        return PacketEnd("drained", array("I", hashes).tobytes())


def cache(shard: Shard, *, packets_max: int = PACKETS_MAX, bytes_max: int = BYTES_MAX) -> EndedPacketCache:
    return EndedPacketCache(shard.post, packets=Bound.of(packets_max), sizes=Bound.of(bytes_max))


def told(ended: EndedPacketCache, packet_id: str, user: str, tenant: str = TENANT) -> Refused | None:
    """Return what the gateway tells without the shard; None: it asks the shard."""
    end = ended.find(packet_id, tenant)
    return None if end is None or end.may_have_won(user) else end.refused


async def drained(ended: EndedPacketCache, shard: Shard, packet_id: str, *winners: str) -> None:
    """Let a packet end and the gateway hear of it."""
    shard.winners[packet_id] = list(winners)
    shard.drained.add(packet_id)
    ended.notice(DRAINED, "s", packet_id, TENANT)
    await shard.answer()


@simulated
async def test_after_one_drained_losers_are_told_here_and_winners_are_asked_about() -> None:
    shard = Shard()
    ended = cache(shard)
    await drained(ended, shard, "p", "mei", "bob")
    assert told(ended, "p", "zoe") == DRAINED
    assert told(ended, "p", "mei") is None
    assert told(ended, "p", "bob") is None


@simulated
async def test_another_tenant_is_never_told_anything_from_here() -> None:
    shard = Shard()
    ended = cache(shard)
    await drained(ended, shard, "p", "mei")
    assert told(ended, "p", "zoe", "qq") is None


@pytest.mark.parametrize("code", sorted(set(Refusal) - {Refusal.DRAINED, Refusal.EXPIRED}))
@simulated
async def test_only_an_end_makes_the_gateway_ask_for_one(code: Refusal) -> None:
    shard = Shard()
    cache(shard).notice(Refused(code), "s", "p", TENANT)
    assert shard.count == 0


@simulated
async def test_a_crowd_of_losers_asks_once() -> None:
    shard = Shard()
    ended = cache(shard)
    shard.drained.add("p")
    for _ in range(100):
        ended.notice(DRAINED, "s", "p", TENANT)
    assert shard.count == 1
    await shard.answer()
    ended.notice(DRAINED, "s", "p", TENANT)
    assert shard.count == 1


@pytest.mark.parametrize("code", [Refusal.PACKET_NOT_FOUND, Refusal.OVERLOADED, Refusal.SHARD_UNAVAILABLE])
@simulated
async def test_trouble_is_not_remembered_and_the_next_loser_asks_again(code: Refusal) -> None:
    shard = Shard()
    ended = cache(shard)
    shard.drained.add("p")
    ended.notice(DRAINED, "s", "p", TENANT)
    await shard.answer(Refused(code))
    assert told(ended, "p", "zoe") is None
    ended.notice(DRAINED, "s", "p", TENANT)
    await shard.answer()
    assert told(ended, "p", "zoe") == DRAINED


@simulated
async def test_the_least_recently_asked_for_packet_goes_first_by_number_and_by_bytes() -> None:
    shard = Shard()
    for ended in (cache(shard, bytes_max=10**6), cache(shard, packets_max=100)):
        for packet_id in ("a", "b", "c"):
            await drained(ended, shard, packet_id, "mei")
        assert told(ended, "a", "zoe") == DRAINED
        await drained(ended, shard, "d", "mei")
        assert [told(ended, packet_id, "zoe") for packet_id in "abcd"] == [DRAINED, None, DRAINED, DRAINED]


@simulated
async def test_a_packet_with_more_winners_than_fit_is_left_to_its_shard_and_not_asked_about_again() -> None:
    shard = Shard()
    ended = cache(shard)
    await drained(ended, shard, "huge", *(f"u{number}" for number in range(1_000)))
    assert told(ended, "huge", "zoe") is None
    ended.notice(DRAINED, "s", "huge", TENANT)
    assert shard.count == 1


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["grab", "answer", "trouble"]),
        st.sampled_from(["p1", "p2", "p3", "p4", "p5"]),
        st.sampled_from([f"u{number}" for number in range(8)]),
        st.sampled_from([TENANT, TENANT, "qq"]),
    ),
    max_size=80,
)


@given(STEPS)
def test_whatever_the_interleaving_a_winner_is_never_refused_and_a_stranger_never_answered(steps: list[Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "user_hash", lambda tenant, user: user_hash(tenant, user) % 3)  # most share a hash
        asyncio.run(interleave(steps))


async def interleave(steps: list[Any]) -> None:
    """Two shares a packet; whoever grabs is told from the cache, or by the shard, whose answer may be late."""
    shard = Shard()
    ended = cache(shard)
    for step, packet_id, user, tenant in steps:
        if step == "answer":
            await shard.answer()
        elif step == "trouble":
            await shard.answer(Refused(Refusal.OVERLOADED))
        else:
            winners = shard.winners.setdefault(packet_id, [])
            here = told(ended, packet_id, user, tenant)
            if here is not None:
                assert tenant == TENANT, "another tenant is told 404 by the shard"
                assert packet_id in shard.drained, "an end is not foretold"
                assert user not in winners, "a winner is told his share"
                assert here == DRAINED
            elif tenant == TENANT and user not in winners:
                if packet_id in shard.drained:
                    ended.notice(DRAINED, "s", packet_id, TENANT)
                else:
                    winners.append(user)
                    if len(winners) == 2:
                        shard.drained.add(packet_id)
        packets, size = ended._ended.sizes
        assert packets == len(ended._ended) <= PACKETS_MAX
        assert size <= BYTES_MAX
    await shard.answer()


# Over the real shards.


class Calls:
    """Counts what reaches the shards, by kind."""

    def __init__(self, http: Http) -> None:
        self._ask = http.system.directory.ask_host
        self.commands: list[Any] = []
        http.system.directory.ask_host = self.ask_host

    async def ask_host(self, host: str, groups: Any) -> Any:
        self.commands += [command for _, commands in groups for command in commands]
        return await self._ask(host, groups)


async def over(http: Http) -> dict[str, Any]:
    """Send a packet of two shares, let u0 and u1 have them and u2 find it empty, and let the gateway learn its end."""
    packet = await http.send(count=2)
    for number in range(3):
        await http.grab(packet["packet_id"], f"u{number}")
    await http.grab(packet["packet_id"], "u0")
    return packet


@simulated
async def test_losers_of_a_drained_packet_reach_no_shard_alone_or_in_a_batch_and_winners_get_their_share() -> None:
    http = await Http.start()
    packet_id = (await over(http))["packet_id"]
    calls = Calls(http)
    for number in range(5):
        response = await http.grab(packet_id, f"loser{number}", headers={"x-request-id": 'say-"hi"'})
        assert (response.status_code, response.headers["content-type"]) == (409, "application/problem+json")
        body = response.json()
        assert (body["code"], body["retryable"], body["request_id"]) == ("drained", False, 'say-"hi"')
        assert int(response.headers["content-length"]) == len(response.content)
    assert calls.commands == []
    users = ["loser1", "u1", "loser2", "u0", "u1"]
    items = [{"packet_id": packet_id, "user": user} for user in users]
    response = await http.ask("POST", "/v1/grabs/batch", scope="gateway", json={"grabs": items})
    results = response.json()["results"]
    assert [result.get("rank", result.get("code")) for result in results] == ["drained", 2, "drained", 1, 2]
    assert calls.commands == [GrabMany(packet_id, TENANT, ["u1", "u0", "u1"])]
    assert (await http.grab(packet_id, "u0")).json()["rank"] == 1
    strangers = await http.grab(packet_id, "loser1", tenant="qq")
    assert strangers.json()["code"] == "packet_not_found"


@simulated
async def test_after_the_end_and_after_passivation_a_winner_is_told_his_share_and_a_loser_why_not() -> None:
    http = await Http.start()
    packet = await http.send(count=3)
    won = (await http.grab(packet["packet_id"], "bob")).json()
    http.system.clock.ms = packet["expires_at_ms"]
    await http.system.tick()
    await http.system.settle()
    http.system.clock.ms += http.system.settings.rules(PacketRules).passivate_after_ms
    await http.system.tick()
    shells = [shell for member in http.system.members.values() for shell in member._shells.values()]
    assert sum(getattr(shell.machine, "passivated", 0) for shell in shells) == 1
    calls = Calls(http)
    for _ in range(3):
        assert (await http.grab(packet["packet_id"], "carol")).json()["code"] == "expired"
        assert (await http.grab(packet["packet_id"], "bob")).json() == won | {"replayed": True}
    assert sum(isinstance(command, ReadEnd) for command in calls.commands) == 1
    [reply] = await grab_each(http.system.service, [(packet["packet_id"], "bob")], TENANT)
    assert reply == Won(1, won["amount_fen"], won["at_ms"], True)
