"""Lishi: who may ask whom for a packet, what becomes of it, that it is paid for once. Over HTTP, and the machine."""

from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.kernel.messages import Refused
from actors.kernel.names import User
from actors.kinds import KINDS
from actors.refusals import Refusal
from actors.transfers.ids import Layout, lishi_id_of, parse_lishi_id, wallet_index_of, wallet_stream
from actors.wallet.asks import Ask, AskBook
from actors.wallet.commands import AcceptLishi, AskLishi, CountLishi, ListLishi
from actors.wallet.events import LishiAsked, LishiClosed, LishiCounted
from actors.wallet.lishi import KEY_REUSED, LishiBook, LishiRules, decide_accept, decide_decline
from actors.wallet.machine import WalletMachine
from actors.wallet.replies import Funded, Lishi
from cluster.journal.posting_rows import lines_of
from tests.simulation.http import BALANCE_FEN, Http
from tests.simulation.loop import simulated
from tests.simulation.system import TENANT, ruled
from tests.unit.samples import DAY_MS, NOW_MS, SERVICES, WALLET, WALLET_RULES, funding, order, terms, wallets

RULES = LishiRules(lifetime_ms=DAY_MS, cooldown_ms=DAY_MS, open_max=2, total_max=4, keep_ms=DAY_MS).among(2)
GREETING = "老板，利是逗来"


async def ask(http: Http, asker: str = "carol", asked: str = "bob", key: str = "k", **options: Any) -> httpx.Response:
    return await http.ask(
        "POST", "/v1/lishi", user=asker, key=key, json={"asked": asked, "greeting": GREETING}, **options
    )


async def asked(http: Http, **who: str) -> str:
    """Ask, by default carol asks bob; return the id."""
    response = await ask(http, **who)
    assert response.status_code == 201, response.text
    return str(response.json()["lishi_id"])


async def accept(http: Http, lishi_id: str, user: str = "bob", key: str | None = "a", **body: Any) -> httpx.Response:
    wish = {"amount_fen": 888} | body
    return await http.ask("POST", f"/v1/lishi/{lishi_id}/accept", user=user, key=key, json=wish)


async def decline(http: Http, lishi_id: str, user: str = "bob") -> httpx.Response:
    return await http.ask("POST", f"/v1/lishi/{lishi_id}/decline", user=user)


async def seen(http: Http, lishi_id: str, user: str = "carol") -> dict[str, Any]:
    response = await http.ask("GET", f"/v1/lishi/{lishi_id}", user=user)
    assert response.status_code == 200, response.text
    return dict(response.json())


async def waiting(http: Http, user: str = "bob") -> list[str]:
    """Return the ids of what waits for that person's answer."""
    response = await http.ask("GET", "/v1/lishi?role=asked", user=user)
    return [lishi["lishi_id"] for lishi in response.json()["lishi"]]


async def money(http: Http, user: str) -> int:
    return int((await http.ask("GET", "/v1/wallet", user=user)).json()["available_fen"])


def is_refused(response: httpx.Response, status: int, code: str) -> bool:
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert response.json()["detail"]
    assert status != 429 or response.headers["retry-after"]
    return True


def restart(http: Http, user: str) -> None:
    """Put a fresh host in the place of the one that holds the user's wallet."""
    index = wallet_index_of(TENANT, user, Layout.of(http.system.settings.layout).wallet)
    http.system.replace(http.system.directory.host_of(wallet_stream(index)))


# The whole way.


@simulated
async def test_who_asks_for_a_packet_takes_what_the_other_gives() -> None:
    http = await Http.start()
    now_ms = http.system.clock.ms
    response = await ask(http)
    lishi_id = response.json()["lishi_id"]
    assert response.json() == {
        "lishi_id": lishi_id,
        "asker": "carol",
        "asked": "bob",
        "greeting": GREETING,
        "state": "asked",
        "asked_at_ms": now_ms,
        "lapses_at_ms": now_ms + DAY_MS,
    }
    assert await waiting(http) == [lishi_id]
    gift = await accept(http, lishi_id, greeting="恭喜发财")
    packet = gift.json()
    assert gift.status_code == 201, gift.text
    told = {name: packet[name] for name in ("kind", "state", "total_fen", "count", "sender", "addressee", "algorithm")}
    assert told == {
        "kind": "lishi",
        "state": "open",
        "total_fen": 888,
        "count": 1,
        "sender": "bob",
        "addressee": "carol",
        "algorithm": "equal/1",
    }
    assert packet["greeting"] == "恭喜发财"
    assert (await seen(http, lishi_id))["packet_id"] == packet["packet_id"]
    assert (await seen(http, lishi_id, "bob"))["state"] == "accepted"
    assert await waiting(http) == []
    assert is_refused(await http.grab(packet["packet_id"], "alice"), 409, "not_addressee")
    assert (await http.grab(packet["packet_id"], "carol")).json()["amount_fen"] == 888
    await http.system.settle()
    assert (await money(http, "bob"), await money(http, "carol")) == (BALANCE_FEN - 888, BALANCE_FEN + 888)
    kinds = []
    for user in ("bob", "carol"):
        page = (await http.ask("GET", "/v1/wallet/statement", user=user)).json()
        kinds.append(page["entries"][0]["kind"])
    assert kinds == ["lishi_sent", "packet_share"]
    assert (await http.system.audit()).clean


@simulated
async def test_what_the_asker_does_not_take_goes_back() -> None:
    http = await Http.start()
    packet_id = (await accept(http, await asked(http))).json()["packet_id"]
    http.system.clock.ms += DAY_MS
    assert is_refused(await http.grab(packet_id, "carol"), 409, "expired")
    await http.system.settle()
    assert await money(http, "bob") == BALANCE_FEN
    assert (await http.system.audit()).clean


@simulated
async def test_everything_is_answered_again_the_same_also_by_a_fresh_host() -> None:
    http = await Http.start()
    first = await ask(http)
    lishi_id = first.json()["lishi_id"]
    declined = await asked(http, asker="alice")
    for user in ("bob", "carol"):
        restart(http, user)
    paid = await accept(http, lishi_id, greeting="g")
    said_no = await decline(http, declined)
    for user in ("bob", "carol"):
        restart(http, user)
    http.system.clock.ms += 5
    repeats = [
        (first, await ask(http)),
        (paid, await accept(http, lishi_id, greeting="g")),
        (paid, await accept(http, lishi_id, greeting="g", key="another key")),
        (said_no, await decline(http, declined)),
    ]
    for before, again in repeats:
        assert "idempotent-replayed" not in before.headers
        assert (again.status_code, again.content) == (before.status_code, before.content)
        assert again.headers["idempotent-replayed"] == "true"
    assert await money(http, "bob") == BALANCE_FEN - 888
    assert (await http.grab(paid.json()["packet_id"], "carol")).status_code == 200
    await http.system.settle()
    assert (await http.system.audit()).clean


@simulated
async def test_a_gateway_that_dies_after_the_debit_leaves_a_packet_that_can_be_taken() -> None:
    http = await Http.start()
    lishi_id = await asked(http)
    command = AcceptLishi(lishi_id, TENANT, "bob", "a", 888, "")
    index = parse_lishi_id(lishi_id)
    assert index is not None
    [[funded]] = await http.system.directory.ask([(wallet_stream(index), [command])])
    assert isinstance(funded, Funded)
    assert (await http.grab(funded.funding.packet_id, "carol")).json()["amount_fen"] == 888


@simulated
async def test_a_chat_gateway_asks_and_answers_for_its_people() -> None:
    http = await Http.start()

    def acting(user: str) -> dict[str, Any]:
        return {"scope": "gateway", "headers": {"x-acting-user": user}}

    response = await http.ask("POST", "/v1/lishi", key="k", json={"asked": "bob"}, **acting("dora"))
    assert (response.status_code, response.json()["asker"]) == (201, "dora")
    listed = await http.ask("GET", "/v1/lishi", **acting("bob"))
    assert [lishi["asker"] for lishi in listed.json()["lishi"]] == ["dora"]


# Refusals.


@simulated
async def test_nobody_but_the_two_hears_of_a_lishi() -> None:
    http = await Http.start()
    lishi_id = await asked(http)
    unknown = ["x", "A" * 32, "7" * 32, lishi_id[:-1] + ("a" if lishi_id[-1] != "a" else "b"), "%20"]
    for where, user, tenant in [(lishi_id, "alice", TENANT), (lishi_id, "carol", "qq"), (lishi_id, "bob", "qq")] + [
        (other, "carol", TENANT) for other in unknown
    ]:
        who: dict[str, Any] = {"user": user, "tenant": tenant}
        path = f"/v1/lishi/{where}"
        assert is_refused(await http.ask("GET", path, **who), 404, "lishi_not_found")
        assert is_refused(await http.ask("POST", f"{path}/decline", **who), 404, "lishi_not_found")
        gift = await http.ask("POST", f"{path}/accept", key="a", json={"amount_fen": 1}, **who)
        assert is_refused(gift, 404, "lishi_not_found")
    assert await waiting(http) == [lishi_id]


@simulated
async def test_only_who_was_asked_answers() -> None:
    http = await Http.start()
    lishi_id = await asked(http)
    assert is_refused(await accept(http, lishi_id, "carol"), 403, "forbidden")
    assert is_refused(await decline(http, lishi_id, "carol"), 403, "forbidden")
    assert await money(http, "carol") == BALANCE_FEN


@simulated
@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"asked": "carol"}, "asked"),
        ({"asked": "two words"}, "asked"),
        ({"asked": ""}, "asked"),
        ({}, "asked"),
        ({"asked": "bob", "greeting": "x" * 129}, "greeting"),
        ({"asked": "bob", "amount_fen": 5}, "amount_fen"),
    ],
)
async def test_a_bad_request_is_named_and_asks_nobody(body: dict[str, Any], field: str) -> None:
    http = await Http.start()
    before = http.entries()
    response = await http.ask("POST", "/v1/lishi", user="carol", key="k", json=body)
    assert is_refused(response, 422, "invalid")
    assert field in response.json()["fields"]
    assert http.entries() == before


@simulated
@pytest.mark.parametrize("amount", [0, -1, 20_001, "5", 5.0, True, None])
async def test_an_amount_that_no_share_may_have_is_refused_and_the_request_stays_open(amount: Any) -> None:
    http = await Http.start()
    lishi_id = await asked(http)
    response = await accept(http, lishi_id, amount_fen=amount)
    assert is_refused(response, 422, "invalid")
    assert "amount_fen" in response.json()["fields"]
    assert await waiting(http) == [lishi_id]


@simulated
async def test_a_field_that_cannot_be_written_is_named_all_the_same() -> None:
    http = await Http.start()
    json_body = b'{"asked": "bob", "\\ud800": 1}'
    sent: dict[str, Any] = {"content": json_body, "headers": {"content-type": "application/json"}}
    assert is_refused(await http.ask("POST", "/v1/lishi", key="k", **sent), 422, "invalid")


@simulated
async def test_without_a_key_nothing_is_asked_or_given() -> None:
    http = await Http.start()
    lishi_id = await asked(http)
    nobody = await http.ask("POST", "/v1/lishi", json={"asked": "bob"})
    assert is_refused(nobody, 400, "idempotency_key_missing")
    assert is_refused(await accept(http, lishi_id, key=None), 400, "idempotency_key_missing")


@simulated
async def test_a_key_is_for_one_request() -> None:
    http = await Http.start()
    lishi_id = await asked(http)
    other = await http.ask("POST", "/v1/lishi", user="carol", key="k", json={"asked": "bob", "greeting": "other"})
    assert is_refused(other, 422, "idempotency_key_reused")
    await accept(http, lishi_id, key="a")
    assert is_refused(await accept(http, lishi_id, key="a", amount_fen=889), 422, "idempotency_key_reused")
    assert await money(http, "bob") == BALANCE_FEN - 888


@simulated
async def test_a_key_is_for_the_person_who_was_asked_with_it_whatever_stream_another_is_in() -> None:
    http = await Http.start()
    await asked(http)
    people = [f"person{number}" for number in range(8)]
    streams = {wallet_index_of(TENANT, user, Layout.of(http.system.settings.layout).wallet) for user in people}
    assert len(streams) > 1
    for person in people:
        assert is_refused(await ask(http, asked=person), 422, "idempotency_key_reused")
        assert await waiting(http, person) == []
    assert (await ask(http)).headers["idempotent-replayed"] == "true"


@simulated
async def test_a_contrary_answer_to_a_closed_one_is_refused() -> None:
    http = await Http.start()
    accepted, declined = await asked(http), await asked(http, asker="alice")
    await accept(http, accepted)
    await decline(http, declined)
    assert is_refused(await decline(http, accepted), 409, "lishi_closed")
    assert is_refused(await accept(http, accepted, key="b", amount_fen=1), 409, "lishi_closed")
    assert is_refused(await accept(http, declined), 409, "lishi_closed")
    assert await money(http, "bob") == BALANCE_FEN - 888
    assert (await seen(http, declined, "alice"))["state"] == "declined"


@simulated
async def test_without_the_money_or_while_sends_are_paused_the_request_stays_open() -> None:
    http = await Http.start()
    lishi_id = await asked(http, asked="pauper")
    assert is_refused(await accept(http, lishi_id, "pauper"), 402, "insufficient_funds")
    assert await waiting(http, "pauper") == [lishi_id]
    lishi_id = await asked(http, key="k2")
    lever: dict[str, Any] = {"scope": "operator", "json": {"paused": True}}
    assert (await http.ask("PUT", "/v1/levers/sends", **lever)).status_code == 200
    assert is_refused(await accept(http, lishi_id), 503, "paused")
    assert (await seen(http, lishi_id))["state"] == "asked"
    await http.ask("PUT", "/v1/levers/sends", scope="operator", json={"paused": False})
    assert (await accept(http, lishi_id)).status_code == 201
    assert (await http.system.audit()).clean


@simulated
async def test_a_lapse_is_for_ever_also_if_the_clock_of_the_next_host_is_behind() -> None:
    http = await Http.start()
    lishi_id, other = await asked(http), await asked(http, asker="alice")
    http.system.clock.ms += DAY_MS - 1
    assert (await seen(http, lishi_id))["state"] == "asked"
    http.system.clock.ms += 1
    assert is_refused(await accept(http, lishi_id), 409, "lishi_lapsed")
    assert is_refused(await decline(http, lishi_id), 409, "lishi_lapsed")
    http.system.clock.ms -= DAY_MS
    restart(http, "bob")
    assert (await seen(http, lishi_id))["state"] == "lapsed"
    assert (await seen(http, other, "alice"))["state"] == "lapsed"
    assert is_refused(await accept(http, lishi_id), 409, "lishi_lapsed")
    assert await waiting(http) == []
    assert await money(http, "bob") == BALANCE_FEN


# Pestering.


@simulated
async def test_one_request_of_a_pair_is_open_and_after_a_no_or_a_lapse_there_is_none_for_a_day() -> None:
    http = await Http.start()
    lishi_id = await asked(http, key="1")
    assert is_refused(await ask(http, key="2"), 429, "rate_limited")
    assert (await ask(http, asker="bob", asked="carol")).status_code == 201
    await decline(http, lishi_id)
    http.system.clock.ms += DAY_MS - 1
    assert is_refused(await ask(http, key="2"), 429, "rate_limited")
    http.system.clock.ms += 1
    await asked(http, key="2")
    http.system.clock.ms += 2 * DAY_MS - 1  # it lapses, and nobody looks
    assert is_refused(await ask(http, key="3"), 429, "rate_limited")
    http.system.clock.ms += 1
    await accept(http, await asked(http, key="3"))
    assert (await ask(http, key="4")).status_code == 201


@simulated
async def test_so_many_wait_for_one_person_and_so_many_are_remembered() -> None:
    http = await Http.start(
        **ruled("wallet", lishi={"open_max": 2, "total_max": 3}, fair={"lishi": {"user": 100, "tenant": 100}})
    )
    open_ones = [await asked(http, asker=asker) for asker in ("carol", "alice")]
    assert is_refused(await ask(http, asker="dora"), 429, "rate_limited")
    await decline(http, open_ones[0])
    await asked(http, asker="dora")
    await decline(http, open_ones[1])
    assert is_refused(await ask(http, asker="eve"), 429, "overloaded")
    http.system.clock.ms += 2 * DAY_MS
    await asked(http, asker="eve")
    assert len(await waiting(http)) == 1


@simulated
async def test_one_asker_asks_so_many_a_day_and_a_repeat_is_answered_still() -> None:
    http = await Http.start(**ruled("wallet", asks={"asks_max": 3}))
    first = await asked(http, asked="a", key="1")
    http.system.clock.ms += 1
    await asked(http, asked="b", key="2")
    assert is_refused(await ask(http, asked="a", key="3"), 429, "rate_limited")  # an attempt, and it counts
    for host in list(http.system.members):
        http.system.replace(host)
    fourth = await ask(http, asked="c", key="4")
    assert is_refused(fourth, 429, "rate_limited")
    assert "in a day" in fourth.json()["detail"]
    assert await waiting(http, "c") == []
    assert await asked(http, asked="a", key="1") == first
    await asked(http, asker="dora", asked="c", key="4")
    http.system.clock.ms += DAY_MS - 2
    assert is_refused(await ask(http, asked="c", key="4"), 429, "rate_limited")
    http.system.clock.ms += 1  # the first is past its time
    await asked(http, asked="c", key="4")
    assert is_refused(await ask(http, asked="d", key="5"), 429, "rate_limited")


@simulated
async def test_who_was_counted_and_not_yet_asked_is_asked_by_the_repeat_and_counted_once() -> None:
    http = await Http.start(**ruled("wallet", asks={"asks_max": 1}))
    own = http.system.service.wallets.stream_of(User(TENANT, "carol"))
    await http.system.service.wallets.ask_stream(own, CountLishi(TENANT, "carol", "bob", "k"))  # and the gateway dies
    assert await waiting(http) == []
    await asked(http)
    await asked(http)
    assert len(await waiting(http)) == 1


# The machine.


ASK_RULES = WALLET_RULES.asks


@given(
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from("xy"), st.sampled_from("123456"), st.integers(0, DAY_MS // 2)),
        max_size=60,
    )
)
def test_asks_are_counted_within_their_limits_and_each_key_once_in_its_time(
    steps: list[tuple[str, str, str, int]],
) -> None:
    book, now_ms, journal = AskBook(), NOW_MS, list[LishiCounted]()
    for user, person, key, later_ms in steps:
        now_ms += later_ms
        fresh = [one for one in journal if now_ms < one.at_ms + ASK_RULES.period_ms]
        mine = [one for one in fresh if one.asker == user]
        prior = [one for one in mine if one.key == key]
        decided = book.decide(CountLishi(TENANT, user, person, key), ASK_RULES, now_ms)
        if prior:
            assert decided == (Ask(person, prior[0].at_ms) if prior[0].asked == person else KEY_REUSED)
        elif len(mine) == ASK_RULES.asks_max:
            assert decided == Refused(Refusal.RATE_LIMITED)
        elif len(fresh) == ASK_RULES.total_max:
            assert decided == Refused(Refusal.OVERLOADED)
        else:
            assert decided == LishiCounted(TENANT, user, person, key, now_ms)
            journal.append(decided)
            book.apply(decided, ASK_RULES)
            assert len(book.all) == len(fresh) + 1, "what is past its time is forgotten"
        assert sorted(key for keys in book.keys.values() for key in keys) == sorted(book.all)
    again = AskBook()
    for event in journal:
        again.apply(event, ASK_RULES)
    assert again == book


def a_lishi(lishi_id: str = "l1", asker: str = "asker", asked: str = "sender", at_ms: int = NOW_MS) -> LishiAsked:
    return LishiAsked(lishi_id, TENANT, asker, asked, "", at_ms, at_ms + DAY_MS)


def test_an_id_names_the_stream_of_who_is_asked_and_one_key_is_one_id() -> None:
    made = lishi_id_of(b"key", TENANT, "asker", "k", 4095)
    assert parse_lishi_id(made) == 4095
    assert made == lishi_id_of(b"key", TENANT, "asker", "k", 4095)
    others = [("qq", "asker", "k"), (TENANT, "aske", "rk"), (TENANT, "asker", "k2")]
    assert len({made, *(lishi_id_of(b"key", *who, 4095) for who in others)}) == 4
    assert parse_lishi_id(made[:-1]) is None
    assert parse_lishi_id("1" * 32) is None


def test_a_forgotten_lishi_that_is_asked_anew_is_not_paid_again() -> None:
    machine = wallets(10_000)
    machine.apply(a_lishi())
    wish = AcceptLishi("l1", TENANT, "sender", "a", 1_000, "")

    def accepted() -> Any:
        lishi = machine.lishi.find("l1", TENANT, "sender")
        assert isinstance(lishi, Lishi)
        send = order(kind="lishi", key="a", count=1)
        return decide_accept(lishi, wish, machine.find_funding("p1"), machine.decide_send(send, terms(), NOW_MS))

    closed, funded = accepted()
    for event in (closed, funded):
        machine.apply(event)
    assert isinstance(accepted(), Funded)
    later_ms = NOW_MS + DAY_MS
    machine.apply(a_lishi("l2", "other", at_ms=later_ms))
    assert list(machine.lishi.all) == ["l2"]
    machine.apply(a_lishi(at_ms=later_ms))
    assert accepted() == Refused(Refusal.LISHI_CLOSED)


def test_an_accepted_lishi_whose_payment_is_forgotten_stays_closed() -> None:
    lishi = Lishi("l1", TENANT, "asker", "sender", "", NOW_MS, NOW_MS + DAY_MS, "accepted", NOW_MS, "p1")
    machine = wallets(10_000)
    paid = machine.decide_send(order(kind="lishi"), terms(), NOW_MS)
    assert isinstance(paid, list)
    wish = AcceptLishi("l1", TENANT, "sender", "key", 1_000, "")
    assert decide_accept(lishi, wish, machine.find_funding("p1"), paid) == Refused(Refusal.LISHI_CLOSED)
    assert decide_decline(lishi, NOW_MS) == Refused(Refusal.LISHI_CLOSED)


def test_a_snapshot_holds_the_lishi_and_an_older_one_has_none() -> None:
    machine = wallets()
    machine.apply(a_lishi())
    machine.apply(a_lishi("l2", "other"))
    machine.apply(LishiClosed("l2", "declined", NOW_MS + 1))
    again = WalletMachine(WALLET, WALLET_RULES, SERVICES)
    again.restore(machine.snapshot())
    assert again.lishi == machine.lishi
    older = msgspec.msgpack.decode(machine.snapshot())
    del older["lishi"], older["notes"]
    again.restore(msgspec.msgpack.encode(older))
    assert again.lishi == LishiBook()


def test_the_archive_calls_a_lishi_what_the_statement_does() -> None:
    assert [line.kind for line in lines_of(KINDS["wallet"], [funding(kind="lishi")], 1)] == ["lishi_sent"] * 2


def test_a_close_of_what_a_shorter_memory_forgot_is_taken_in() -> None:
    machine = wallets()
    machine.apply(LishiClosed("gone", "lapsed", NOW_MS))
    assert machine.lishi == LishiBook()


def test_a_lapse_is_met_by_every_command_about_that_person_and_at_no_other() -> None:
    book = LishiBook()
    book.apply(a_lishi(), RULES)
    lapsed = [LishiClosed("l1", "lapsed", NOW_MS + DAY_MS)]
    commands: list[Any] = [
        AskLishi(TENANT, "x", "sender", "k", ""),
        ListLishi(TENANT, "sender"),
        AcceptLishi("l1", TENANT, "sender", "a", 1, ""),
    ]
    for command in commands:
        assert book.due(command, NOW_MS + DAY_MS) == lapsed
        assert book.due(command, NOW_MS + DAY_MS - 1) == []
    assert book.due(ListLishi("qq", "sender"), NOW_MS + DAY_MS) == []
    assert book.due(AcceptLishi("l9", TENANT, "sender", "a", 1, ""), NOW_MS + DAY_MS) == []


def test_a_stream_remembers_so_many_and_refuses_the_next() -> None:
    book = LishiBook()
    for number, (asker, person) in enumerate([("a", "x"), ("b", "x"), ("a", "y"), ("b", "y")]):
        made = book.decide_ask(AskLishi(TENANT, asker, person, f"k{number}", "", NOW_MS), f"l{number}", RULES, NOW_MS)
        assert isinstance(made, LishiAsked)
        book.apply(made, RULES)
    closed = decide_decline(book.all["l0"], NOW_MS)
    assert isinstance(closed, LishiClosed)
    book.apply(closed, RULES)
    refused = book.decide_ask(AskLishi(TENANT, "c", "x", "k", "", NOW_MS), "l", RULES, NOW_MS)
    assert refused == Refused(Refusal.OVERLOADED), "x has room for it, the stream has not"


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ask", "decline", "wait"]), st.sampled_from("abc"), st.sampled_from("xy"), st.integers(1, 30)
    ),
    max_size=60,
)


@given(STEPS)
def test_the_limits_hold_whatever_happens(steps: list[tuple[str, str, str, int]]) -> None:
    book, now_ms, closed_ms = LishiBook(), NOW_MS, dict[tuple[str, str], int]()
    for number, (step, asker, person, hours) in enumerate(steps):
        if step == "wait":
            now_ms += hours * 3_600_000
            continue
        command = AskLishi(TENANT, asker, person, f"k{number}", "", counted_ms=now_ms)
        for event in book.due(command, now_ms):
            lapsed = book.all.get(event.lishi_id)
            if lapsed is not None:  # else the one before it was so late that both were forgotten by its stamp
                closed_ms[lapsed.asker, lapsed.asked] = lapsed.lapses_at_ms
            book.apply(event, RULES)
        if step == "ask":
            decided = book.decide_ask(command, f"l{number}", RULES, now_ms)
            if isinstance(decided, LishiAsked):
                assert now_ms >= closed_ms.get((asker, person), 0) + RULES.cooldown_ms
                book.apply(decided, RULES)
        else:
            for lishi in book.opened(TENANT, person)[:1]:
                closed = decide_decline(lishi, now_ms)
                assert isinstance(closed, LishiClosed)
                book.apply(closed, RULES)
                closed_ms[lishi.asker, person] = now_ms
        still_open = [lishi for lishi in book.all.values() if lishi.state == "asked"]
        assert len({(lishi.asker, lishi.asked) for lishi in still_open}) == len(still_open), "one open a pair"
        assert len(book.all) <= RULES.total_max
        for ids in book.open.values():
            assert 0 < len(ids) <= RULES.open_max
        assert sorted(i for ids in book.open.values() for i in ids) == sorted(one.lishi_id for one in still_open)
        assert set(book.newest.values()) <= set(book.all)
