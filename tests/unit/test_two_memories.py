"""Two memories: what two streams remember of one identity for a time, each by its own stamps, whatever the clocks do.

| identity | first stream | second stream | why nothing happens twice |
|---|---|---|---|
| key of an ask | asker's: counted, for a time | asked one's: the lishi, for a time | the ask brings its count's stamp |
| key of a send | payer's: the funding, for a time | packets': for ever | it is not forgotten before it has arrived |
| star in lanes, rain | payer's: all parts, for a time | packets': for ever | none before all of them have arrived |
| photo, payer | payer's: the funding, for a time | packet's: for ever | as of a send; the packet is asked first |
| lishi, acceptance | asked one's: lishi and funding | packet's: for ever | as of a send, by the lishi's id |
| commitment | payer's alone, then as a send | packet's: for ever | as of a send |
| note, hold | payer's alone | none | one memory, one time |
"""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.kernel.messages import Refused
from actors.kernel.names import User
from actors.ledger.transfer import Settled
from actors.packet.commands import Grab
from actors.refusals import Refusal
from actors.transfers.funding import PacketFunded, Special
from actors.transfers.ids import wallet_index_of
from actors.wallet.asks import Ask, AskBook, AskRules
from actors.wallet.commands import AskLishi, CountLishi, CreditSandbox, Send
from actors.wallet.events import LishiAsked, LishiCounted
from actors.wallet.lishi import LAPSED, LishiBook, LishiRules
from actors.wallet.replies import Funded
from actors.wallet.rules import WalletRules
from actors.wallet.sends import Place, Terms
from cluster.gateway.problems import Problem
from tests.simulation.grabbing import grab_each, grab_one
from tests.simulation.http import Http
from tests.simulation.loop import simulated
from tests.simulation.system import TENANT, System
from tests.unit.samples import DAY_MS, NOW_MS, order, terms, wallets

ASKS = AskRules(asks_max=50, period_ms=DAY_MS, total_max=200)
LISHI = LishiRules(lifetime_ms=DAY_MS, cooldown_ms=DAY_MS, open_max=50, total_max=200, keep_ms=DAY_MS).among(4)
JUMP_MS = st.sampled_from([0, 1, DAY_MS // 2, DAY_MS, 3 * DAY_MS])
ASKER = {wallet_index_of(TENANT, user, LISHI.wallet_streams): user for user in "abcdefgh"}
"""An asker for each stream of askers."""


class TwoStreams:
    """The streams of askers and the one of who is asked, each with a time of its own."""

    def __init__(self) -> None:
        self.counts = {home: AskBook() for home in ASKER}
        self.counted_ms = dict.fromkeys(ASKER, NOW_MS)
        self.lishi, self.asked_ms = LishiBook(), NOW_MS
        self.made: list[LishiCounted] = []
        self.under_way: list[AskLishi] = []
        self.asked: list[tuple[str, int, str]] = []

    def count(self, home: int, key: str, person: str) -> None:
        """An asker is counted, and the ask is on its way."""
        asker, book = ASKER[home], self.counts[home]
        counted = book.decide(CountLishi(TENANT, asker, person, key), ASKS, self.counted_ms[home])
        if isinstance(counted, LishiCounted):
            book.apply(counted, ASKS)
            self.made.append(counted)
        if isinstance(counted, LishiCounted | Ask):
            self.under_way.append(AskLishi(TENANT, asker, person, key, "", counted.at_ms))

    def deliver(self, ask: AskLishi) -> None:
        """An ask arrives, perhaps again."""
        for lapsed in self.lishi.due(ask, self.asked_ms):
            self.lishi.apply(lapsed, LISHI)
        lishi_id = f"{ask.user} {ask.key}"
        forgotten_ms = self.lishi.forgotten.get(wallet_index_of(TENANT, ask.user, LISHI.wallet_streams), -1)
        decided = self.lishi.decide_ask(ask, lishi_id, LISHI, self.asked_ms)
        if isinstance(decided, LishiAsked):
            self.lishi.apply(decided, LISHI)
            assert decided.counted_ms == ask.counted_ms
            self.asked.append((lishi_id, ask.counted_ms, ask.asked))
        if decided == LAPSED:
            assert ask.counted_ms <= forgotten_ms, "what was counted after all that is forgotten is asked"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["count", "count", "deliver", "deliver", "asker's time", "asked one's time"]),
            st.integers(0, 3),
            st.sampled_from(["k1", "k2"]),
            st.sampled_from(["x", "y"]),
            JUMP_MS,
        ),
        max_size=60,
    )
)
def test_each_count_is_asked_at_most_once_whatever_either_clock_does(steps: list[Any]) -> None:
    streams = TwoStreams()
    for step, number, key, person, jump_ms in steps:
        if step == "count":
            streams.count(number, key, person)
        elif step == "deliver" and streams.under_way:
            streams.deliver(streams.under_way[-1 - number % len(streams.under_way)])  # again and again, perhaps late
        elif step == "asker's time":
            streams.counted_ms[number] += jump_ms
        elif step == "asked one's time":
            streams.asked_ms += jump_ms
    assert len(set(streams.asked)) == len(streams.asked), "nobody is asked twice for one count"
    counted = {(f"{one.asker} {one.key}", one.at_ms, one.asked) for one in streams.made}
    assert set(streams.asked) <= counted, "who asks is counted"


def test_an_ask_that_is_remembered_is_answered_again_however_old_its_count() -> None:
    streams = TwoStreams()
    home = next(iter(ASKER))
    streams.count(home, "k1", "x")
    [first] = streams.under_way
    streams.deliver(first)
    [lishi] = streams.lishi.all.values()
    assert streams.lishi.decide_ask(first, lishi.lishi_id, LISHI, streams.asked_ms) == lishi
    streams.asked_ms += 3 * DAY_MS
    streams.count(home, "k2", "y")
    streams.deliver(streams.under_way[-1])  # and so the first is forgotten
    assert lishi.lishi_id not in streams.lishi.all
    assert streams.lishi.decide_ask(first, lishi.lishi_id, LISHI, streams.asked_ms) == LAPSED


def test_what_one_stream_of_askers_is_forgotten_of_bars_no_other() -> None:
    streams = TwoStreams()
    fast, slow = list(ASKER)[:2]
    streams.counted_ms[fast] += 30 * DAY_MS
    streams.count(fast, "k1", "x")
    streams.deliver(streams.under_way[-1])
    streams.asked_ms += 3 * DAY_MS
    for key, person in (("k1", "x"), ("k2", "y")):
        streams.count(slow, key, person)
        streams.deliver(streams.under_way[-1])
    assert len(streams.asked) == 3


@simulated
async def test_after_a_clock_went_ahead_and_back_nobody_is_asked_again_uncounted() -> None:
    """The simulator's seeds 426211433708 and 363368512964: one stream had forgotten what the other remembered."""
    http = await Http.start()
    homes = {
        user: http.system.service.wallets.stream_of(User(TENANT, user)) for user in ("carol", "bob", "dora", "erin")
    }
    asker = next(user for user in homes if homes[user] != homes["bob"])
    near = next(user for user in homes if user != "bob" and homes[user] == homes["bob"])

    async def ask(user: str, key: str) -> Any:
        return await http.ask("POST", "/v1/lishi", user=user, key=key, json={"asked": "bob", "greeting": ""})

    assert (await ask(asker, "k")).status_code == 201
    http.system.clock.ms += 2 * DAY_MS
    assert (await ask(near, "k")).status_code == 201  # bob's stream forgets the first
    http.system.clock.ms -= 2 * DAY_MS - 1  # and the asker's never heard of that day
    again = await ask(asker, "k")
    assert (again.status_code, again.json()["code"]) == (409, "lishi_lapsed")
    assert "another key" in again.json()["detail"]
    waiting = (await http.ask("GET", "/v1/lishi", user="bob")).json()["lishi"]
    assert [lishi["asker"] for lishi in waiting] == [near]
    assert (await ask(asker, "k2")).status_code == 201


# Keys and fundings.


def of_lanes(by_key: str = "star") -> Terms:
    """Return the terms of a packet in two lanes."""
    places = [Place(f"{by_key}.{lane}", f"packet-00{lane}", b"c" * 32) for lane in range(2)]
    return msgspec.structs.replace(terms(), places=places, named_by_key=by_key)


STAR = order(kind="star", special=Special(), count=10)


def test_a_packet_in_lanes_is_remembered_until_all_of_it_has_arrived() -> None:
    machine = wallets(10_000)
    lanes = machine.decide_send(STAR, of_lanes(), NOW_MS)
    assert isinstance(lanes, list)
    for lane in lanes:
        machine.apply(lane)
    machine.apply(Settled("packet-000", 1))  # the other lane waits
    for day in (1, 2, 3):
        [later] = machine.decide_send(order(), terms(f"p{day}"), NOW_MS + day * DAY_MS)  # type: ignore[misc]
        machine.apply(later)
        again = machine.decide_send(STAR, of_lanes(), NOW_MS + day * DAY_MS)
        assert again == Funded(machine.stream, lanes[0], True, lanes[1:])
    for stream in ("packet-000", "packet-001"):
        machine.apply(Settled(stream, machine.book.to(stream).last_number))
    [last] = machine.decide_send(order(), terms("p9"), NOW_MS + 9 * DAY_MS)  # type: ignore[misc]
    machine.apply(last)
    assert isinstance(machine.decide_send(STAR, of_lanes(), NOW_MS + 9 * DAY_MS), list), (
        "and then it is forgotten whole"
    )


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("send"), st.sampled_from(["star", "a", "b"])),
            st.tuples(st.just("settle"), st.sampled_from(["packet-000", "packet-001"])),
            st.tuples(st.just("time"), st.sampled_from(["half", "day", "days"])),
        ),
        max_size=50,
    )
)
def test_a_key_pays_again_only_when_all_that_it_paid_for_has_arrived(steps: list[tuple[str, str]]) -> None:
    machine, now_ms = wallets(10_000_000), NOW_MS
    events: list[Any] = []
    paid: dict[str, list[PacketFunded]] = {}
    later_ms = {"half": DAY_MS // 2, "day": DAY_MS, "days": 3 * DAY_MS}
    arrived = {"packet-000": 0, "packet-001": 0}
    for step, what in steps:
        if step == "time":
            now_ms += later_ms[what]
        elif step == "settle":
            last = sum(one.packet_stream == what for one in events if isinstance(one, PacketFunded))
            if last > arrived[what]:
                arrived[what] = last
                events.append(Settled(what, last))
                machine.apply(events[-1])
        else:
            star = what == "star"
            send_, wanted = (STAR, of_lanes()) if star else (order(key=what), terms(what))
            decided = machine.decide_send(send_, wanted, now_ms)
            before = paid.get(what)
            if isinstance(decided, list):
                past = [
                    now_ms - one.at_ms >= DAY_MS and one.number <= arrived[one.packet_stream] for one in before or []
                ]
                assert all(past), "a key funds once while it is remembered"
                paid[what] = decided
                events += decided
                for funding in decided:
                    machine.apply(funding)
            else:
                assert before is not None
                assert decided == Funded(machine.stream, before[0], True, before[1:])
    again = wallets(10_000_000)
    for event in events:
        again.apply(event)
    assert again.snapshot() == machine.snapshot(), "a replay forgets the same"


def test_a_journal_of_a_time_that_forgot_sooner_is_still_read() -> None:
    """An older system paid again under a key whose first packet had not arrived."""
    machine = wallets(10_000)
    first = machine.decide_send(STAR, of_lanes(), NOW_MS)
    assert isinstance(first, list)
    for number in (1, 2):
        for lane in first:
            machine.apply(msgspec.structs.replace(lane, number=number, at_ms=NOW_MS + number * DAY_MS))
    again = machine.decide_send(STAR, of_lanes(), NOW_MS + 2 * DAY_MS)
    assert isinstance(again, Funded)
    assert [one.number for one in (again.funding, *again.others)] == [2, 2]


@simulated
async def test_what_was_paid_is_found_however_the_time_went_before_it_opened() -> None:
    system = await System.start()
    for user in ("alice", "bob"):
        await system.service.wallets.ask(CreditSandbox(TENANT, user, 10_000))
    wish: Any = "lucky", 1_000, 5, ""
    own = system.service.wallets.stream_of(User(TENANT, "alice"))
    [[funded]] = await system.directory.ask([(own, [Send(TENANT, "alice", "k", *wish)])])  # and the gateway dies
    assert isinstance(funded, Funded)
    system.clock.ms += 2 * system.settings.rules(WalletRules).idempotency_ms
    await system.directory.ask([(own, [Send(TENANT, "alice", "another", *wish)])])
    again = await system.service.wallets.send(Send(TENANT, "alice", "k", *wish))
    assert (again.replayed, again.funding) == (True, funded.funding), "nobody pays twice"
    with pytest.raises(Problem, match="expired"):
        await grab_one(system.service, funded.funding.packet_id, User(TENANT, "bob"))
    await system.settle()
    assert (await system.audit()).clean


@simulated
async def test_a_packet_that_was_paid_for_is_never_unknown() -> None:
    system = await System.start()
    await system.service.wallets.ask(CreditSandbox(TENANT, "alice", 10_000))
    own = system.service.wallets.stream_of(User(TENANT, "alice"))
    [[funded]] = await system.directory.ask([(own, [Send(TENANT, "alice", "k", "lucky", 1_000, 5, "")])])
    system.clock.ms += 2 * system.settings.rules(WalletRules).idempotency_ms
    await system.directory.ask([(own, [Send(TENANT, "alice", "another", "lucky", 1_000, 5, "")])])
    stream, packet_id = funded.funding.packet_stream, funded.funding.packet_id
    [[unknown]] = await system.directory.ask([(stream, [Grab(packet_id, TENANT, "bob")])])
    assert unknown == Refused(Refusal.PACKET_NOT_FOUND), "its stream has not heard of it"
    [told] = await grab_each(system.service, [(packet_id, "bob")], TENANT)
    assert told == Refused(Refusal.EXPIRED)
