"""Withheld: no share leaves, and no seed is published, but of the seed that the sender was told the commitment of."""

import asyncio
import logging
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.kernel.messages import Refused
from actors.kernel.names import User
from actors.packet.commands import GrabMany, Open
from actors.packet.events import Expired, GrabbedMany, Opened
from actors.packet.host import PacketShard
from actors.packet.kind import PACKET as KIND
from actors.packet.machine import PacketMachine
from actors.packet.replies import OpenNow, Won
from actors.transfers.funding import Special
from actors.transfers.ids import Layout
from actors.transfers.seeds import commitment_of, seed_of
from actors.wallet.commands import CreditSandbox, Send
from actors.wallet.photo import payment_id_of, payment_key
from cluster.config import load
from cluster.gateway.problems import Problem
from cluster.journal.codec import platform_codec
from cluster.runtime.shards import WallClock, services_of
from tests.simulation.grabbing import grab_each, grab_one
from tests.simulation.http import Http
from tests.simulation.loop import simulated
from tests.simulation.memory_journal import MemoryJournals
from tests.simulation.system import TENANT as WECHAT
from tests.simulation.system import System
from tests.unit.samples import (
    DAY_MS,
    KEYS,
    NOW_MS,
    PACKET,
    PACKET_RULES,
    SERVICES,
    TENANT,
    WALLET,
    funding,
    grab,
    packets,
    services,
)
from tests.unit.test_big_packets import FAR_MS

OTHER = KEYS.model_copy(update={"platform": {"k1": "cd" * 32}})
LOST = KEYS.model_copy(update={"current": "k2", "platform": {"k1": "cd" * 32, "k2": "ef" * 32}})
GONE = KEYS.model_copy(update={"first": "k2", "current": "k2", "platform": {"k2": "ef" * 32}})


def code(answer: Any) -> str:
    return answer.code if isinstance(answer, Refused) else type(answer).__name__


def with_keys(machine: PacketMachine, keys: Any) -> PacketMachine:
    """Return a machine of the same state, as another activation with these keys has it: no share is dealt yet."""
    again = PacketMachine(PACKET, machine._rules, services(keys=keys))
    again.restore(machine.snapshot())
    for packet in again._state.packets.values():
        packet.shares = b""
    return again


@pytest.mark.parametrize("keys", [OTHER, LOST, GONE], ids=["another", "another of two", "missing"])
@pytest.mark.parametrize("kind", ["lucky", "equal", "direct"])
def test_of_an_open_packet_whose_key_is_lost_no_share_leaves_until_it_is_back(keys: Any, kind: str) -> None:
    special = Special(addressee="u2") if kind == "direct" else None
    alone: dict[str, Any] = {"count": 1} if special else {}
    machine = packets(funding(kind=kind, special=special, **alone))
    if not special:
        first = grab(machine, "u1")
        assert isinstance(first, Won)
    wrong = with_keys(machine, keys)
    before = wrong.snapshot()
    assert code(grab(wrong, "u2")) == "seed_unknown"
    if not special:
        assert grab(wrong, "u1") == msgspec.structs.replace(first, replayed=True), "who has won hears it again"
    assert wrong.decide_expiry("p1", NOW_MS + DAY_MS) is None
    assert code(grab(wrong, "u3", now_ms=NOW_MS + DAY_MS)) == "seed_unknown", "not: expired, which is for ever"
    assert (wrong.snapshot(), wrong.withheld, list(wrong.dealer.withheld.values())) == (before, 1, ["k1"])
    right = with_keys(wrong, KEYS)
    assert isinstance(grab(right, "u2"), Won)
    assert right.withheld == 0


def test_where_one_of_two_keys_is_lost_packets_of_the_other_go_on() -> None:
    commitment = commitment_of("even/1", "p2", seed_of(b"\xef" * 32, "p2"))
    machine = packets(funding(), funding("p2", 2, key_id="k2", commitment=commitment))
    half = with_keys(machine, LOST)
    assert code(grab(half, "u1")) == "seed_unknown"
    assert isinstance(grab(half, "u1", "p2"), Won)
    assert half.withheld == 1


def test_a_commitment_that_was_damaged_withholds_as_well() -> None:
    machine = packets(funding(commitment=b"c" * 32))
    assert code(grab(machine, "u1")) == "seed_unknown"


def test_the_price_of_a_photo_stays_in_transit_instead_of_opening_untaken() -> None:
    price = funding(kind="photo", count=1, special=Special(addressee="owner", reference="p" * 32))
    wrong = PacketMachine(PACKET, PACKET_RULES, services(keys=OTHER))
    assert code(wrong.decide_opening(WALLET, price)) == "seed_unknown"
    assert isinstance(PacketMachine(PACKET, PACKET_RULES, SERVICES).decide_opening(WALLET, price), Opened)


@given(st.lists(st.tuples(st.sampled_from(["grab", "many", "expire", "roll"]), st.integers(0, 2 * DAY_MS)), max_size=8))
def test_whatever_is_asked_no_event_of_a_withheld_packet_gives_a_share_or_a_seed(steps: list[tuple[str, int]]) -> None:
    wrong = with_keys(packets(funding()), OTHER)
    for what, later_ms in steps:
        now_ms = NOW_MS + later_ms
        event: Any
        if what == "expire":
            event = wrong.decide_expiry("p1", now_ms)
        else:
            users = ["u1"] if what == "grab" else ["u1", "u2", "u1"]
            event, _ = wrong.decide_grabs("p1", TENANT, users, now_ms)
        assert not isinstance(event, GrabbedMany | Expired)


@pytest.mark.timeout(20)
async def test_a_crowds_packet_that_is_withheld_is_dealt_by_no_thread_for_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = load()
    journals = MemoryJournals(platform_codec())
    await journals.create_system(settings.layout)
    rules = msgspec.structs.replace(PACKET_RULES, split_apart_min=2_000)
    shard = PacketShard("packet-shard-0", KIND, [PACKET], journals, WallClock(), services_of(settings, OTHER), rules)
    crowd = funding(count=25_000, total_fen=2_500_000, expires_at_ms=FAR_MS)
    [opened] = await shard.serve(PACKET, [Open(WALLET, crowd)])
    assert isinstance(opened, OpenNow)
    [answer] = await shard.serve(PACKET, [GrabMany("p1", TENANT, ["a", "b"])])
    assert code(answer) == "seed_unknown"
    await asyncio.gather(*shard._dealing.values())
    with caplog.at_level(logging.ERROR):
        figures = [await shard.report(audit=False) for _ in range(2)]
    assert [one.withheld for one in figures[0]] == [1]
    [line] = [record.getMessage() for record in caplog.records if "withheld" in record.getMessage()]
    assert line.startswith("packet p1 is withheld: key 'k1' does not give its seed")
    await shard.stop()


@simulated
async def test_a_host_with_other_keys_gives_nothing_away_and_all_goes_on_with_the_right_ones() -> None:
    system = await System.start()
    await system.service.wallets.ask(CreditSandbox(WECHAT, "alice", 100_000))
    sends = [Send(WECHAT, "alice", f"k{n}", "lucky", 1_000, 5, "") for n in range(4)]
    ids = [(await system.service.wallets.send(send)).funding.packet_id for send in sends]
    won = await grab_each(system.service, [(packet_id, "u1") for packet_id in ids[:2]], WECHAT)
    system.keys = system.keys.model_copy(update={"platform": {"k1": "cd" * 32}})
    hosts = [host for host in system.members if host.startswith("packet-")]
    for host in hosts:
        system.replace(host)
    asked = [(packet_id, user) for packet_id in ids for user in ("u1", "u2")]
    told = await grab_each(system.service, asked, WECHAT)
    for (packet_id, user), answer in zip(asked, told, strict=True):
        if user == "u1" and packet_id in ids[:2]:
            assert answer == msgspec.structs.replace(won[ids.index(packet_id)], replayed=True)
        else:
            assert code(answer) == "seed_unknown"
    system.clock.ms += 2 * DAY_MS
    await system.tick()
    await system.settle()
    alice = User(WECHAT, "alice")
    views = [view for packet_id in ids for view in await system.service.packets.view(packet_id, alice)]
    assert [(view.state, view.seed) for view in views] == [("open", b"")] * 4, "it ends once its seed can be told"
    assert (await system.audit()).clean
    system.keys = KEYS
    for host in hosts:
        system.replace(host)
    await system.tick()
    await system.settle()
    for packet_id in ids:
        [view] = await system.service.packets.view(packet_id, alice)
        assert (view.state, commitment_of(view.funding.algorithm, packet_id, view.seed)) == (
            "expired",
            view.funding.commitment,
        )
    assert (await system.audit()).clean


@simulated
async def test_a_stranger_hears_nothing_of_a_price_that_waits_in_transit_for_its_key() -> None:
    system = await System.start()
    await system.service.wallets.ask(CreditSandbox(WECHAT, "bob", 100_000))
    system.keys = system.keys.model_copy(update={"platform": {"k1": "cd" * 32}})
    for host in [host for host in system.members if host.startswith("packet-")]:
        system.replace(host)
    photo_id = "p" * 32
    special = Special(addressee="alice", reference=photo_id)
    pay = Send(WECHAT, "bob", payment_key(photo_id), "photo", 300, 1, "", "equal/1", special)
    with pytest.raises(Problem, match="seed_unknown"):
        await system.service.wallets.send(pay)
    layout, first = Layout.of(system.settings.layout), KEYS.key(KEYS.first)
    packet_id = payment_id_of(first, WECHAT, "bob", photo_id, layout.packet, layout.wallet)
    for tenant, hears in ((WECHAT, "seed_unknown"), ("qq", "packet_not_found")):
        with pytest.raises(Problem, match=hears):
            await grab_one(system.service, packet_id, User(tenant, "carol"))
        with pytest.raises(Problem, match=hears):
            await system.service.packets.view(packet_id, User(tenant, "carol"))


@simulated
async def test_over_http_it_is_a_503_that_is_worth_a_repeat() -> None:
    http = await Http.start()
    body = {"kind": "lucky", "total_fen": 1_000, "count": 5}
    packet = (await http.ask("POST", "/v1/packets", key="k", json=body)).json()
    http.system.keys = KEYS.model_copy(update={"platform": {"k1": "cd" * 32}})
    for host in [host for host in http.system.members if host.startswith("packet-")]:
        http.system.replace(host)
    response = await http.ask("POST", f"/v1/packets/{packet['packet_id']}/grabs", user="bob")
    told = response.json()
    assert (response.status_code, told["code"], told["retryable"]) == (503, "seed_unknown", True)
