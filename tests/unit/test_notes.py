"""Notes: takers thank the sender, once or a few times. Over HTTP, and the machine."""

from typing import Any

import httpx
import pytest

from actors.transfers.ids import parse_packet_id, wallet_stream
from actors.wallet.commands import WriteNote
from actors.wallet.events import Noted
from actors.wallet.notes import OVERLOADED, RATE_LIMITED, NoteBook, NoteRules
from actors.wallet.replies import Note
from actors.wallet.rules import WalletRules
from tests.simulation.http import Http
from tests.simulation.loop import simulated
from tests.simulation.system import ruled
from tests.unit.samples import DAY_MS, NOW_MS

RULES = NoteRules(changes_max=2, per_packet_max=2, total_max=3, keep_ms=7 * DAY_MS)
THANKS = "谢谢老板！"


async def note(http: Http, packet_id: str, user: str = "bob", text: Any = THANKS, **options: Any) -> httpx.Response:
    return await http.ask("POST", f"/v1/packets/{packet_id}/note", user=user, json={"text": text}, **options)


async def notes(http: Http, packet_id: str, user: str = "alice") -> list[tuple[str, str]] | None:
    """Return who wrote what, as that user sees it; None if he sees no list."""
    body = (await http.ask("GET", f"/v1/packets/{packet_id}", user=user)).json()
    return [(one["user"], one["text"]) for one in body["notes"]] if "notes" in body else None


def is_refused(response: httpx.Response, status: int, code: str) -> bool:
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    assert response.json()["detail"]
    assert status != 429 or response.headers["retry-after"]
    return True


async def taken(http: Http, *users: str, **body: Any) -> str:
    """Send a packet of alice's that these users take; return its id."""
    packet_id = str((await http.send(**body))["packet_id"])
    for user in users:
        assert (await http.grab(packet_id, user)).status_code == 200
    return packet_id


@simulated
async def test_a_taker_thanks_and_sender_and_takers_read_it() -> None:
    http = await Http.start()
    packet_id = await taken(http, "bob", "carol")
    assert await notes(http, packet_id) == []
    response = await note(http, packet_id)
    written = {"packet_id": packet_id, "user": "bob", "text": THANKS, "at_ms": http.system.clock.ms}
    assert (response.status_code, response.json()) == (200, written | {"replayed": False})
    await note(http, packet_id, "carol", "发财")
    for reader in ("alice", "bob", "carol"):
        assert await notes(http, packet_id, reader) == [("bob", THANKS), ("carol", "发财")]
    assert await notes(http, packet_id, "dora") is None


@simulated
async def test_the_same_note_is_answered_again_and_another_replaces_it_a_few_times() -> None:
    http = await Http.start()
    packet_id = await taken(http, "bob")
    first = await note(http, packet_id)
    http.system.clock.ms += 5
    again = await note(http, packet_id)
    assert again.json() == first.json() | {"replayed": True}
    for number in range(http.system.settings.rules(WalletRules).notes.changes_max):
        changed = await note(http, packet_id, text=f"text {number}")
        assert (changed.status_code, changed.json()["replayed"]) == (200, False)
    assert is_refused(await note(http, packet_id, text=THANKS), 429, "rate_limited")
    assert (await note(http, packet_id, text="text 2")).json()["replayed"] is True
    assert await notes(http, packet_id) == [("bob", "text 2")]


@simulated
async def test_a_note_outlives_its_packet_and_its_host() -> None:
    http = await Http.start(**ruled("packet", passivate_after_ms=0))
    packet_id = await taken(http, "bob", count=1, total_fen=10)
    await http.system.settle()
    await http.system.tick()
    assert (await note(http, packet_id)).status_code == 200
    place = parse_packet_id(packet_id)
    assert place is not None
    http.system.replace(http.system.directory.host_of(wallet_stream(place.wallet_index)))
    assert await notes(http, packet_id) == [("bob", THANKS)]
    assert (await note(http, packet_id)).json()["replayed"] is True
    assert (await http.system.audit()).clean


@simulated
async def test_only_who_has_a_share_writes() -> None:
    http = await Http.start()
    packet_id = await taken(http, "bob")
    for user in ("carol", "alice"):
        assert is_refused(await note(http, packet_id, user), 409, "not_a_taker")
    assert is_refused(await note(http, packet_id, "bob", tenant="qq"), 404, "packet_not_found")
    for unknown in ("x", "a" * 32):
        assert is_refused(await note(http, unknown), 404, "packet_not_found")
    direct = await taken(http, "bob", key="k2", kind="direct", addressee="bob", count=1, total_fen=10)
    assert is_refused(await note(http, direct, "carol"), 404, "packet_not_found")
    assert (await note(http, direct)).status_code == 200
    assert await notes(http, packet_id) == []


@simulated
@pytest.mark.parametrize("text", ["", " \t　", "x" * 81, None, 5])
async def test_a_text_that_is_none_is_refused_by_name(text: Any) -> None:
    http = await Http.start()
    packet_id = await taken(http, "bob")
    response = await note(http, packet_id, text=text)
    assert is_refused(response, 422, "invalid")
    assert "text" in response.json()["fields"]
    assert (await note(http, packet_id, text="x" * 80)).status_code == 200


@simulated
async def test_a_packet_has_so_many_notes_and_the_oldest_stay() -> None:
    http = await Http.start(**ruled("wallet", notes={"per_packet_max": 1}))
    packet_id = await taken(http, "bob", "carol")
    await note(http, packet_id)
    assert is_refused(await note(http, packet_id, "carol"), 429, "rate_limited")
    assert (await note(http, packet_id, text="other")).status_code == 200
    assert await notes(http, packet_id) == [("bob", "other")]


# The machine.


def write(book: NoteBook, packet_id: str, user: str, text: str, at_ms: int = NOW_MS) -> Any:
    """Decide a note and take what follows from it in; return the decision."""
    decided = book.decide(WriteNote(packet_id, user, text, "wechat"), RULES, at_ms)
    if isinstance(decided, Noted):
        book.apply(decided, RULES)
    return decided


def test_a_stream_holds_so_many_notes_and_forgets_them_after_a_time() -> None:
    book = NoteBook()
    for number, packet_id in enumerate(("p1", "p2", "p3")):
        assert isinstance(write(book, packet_id, "u", "t", NOW_MS + number), Noted)
    assert write(book, "p4", "u", "t", NOW_MS + RULES.keep_ms - 1) is OVERLOADED
    assert isinstance(write(book, "p1", "u", "changed", NOW_MS + RULES.keep_ms - 1), Noted)
    assert isinstance(write(book, "p4", "u", "t", NOW_MS + RULES.keep_ms + 1), Noted)
    assert (book.of("p1"), book.of("p2")) == ([], [])
    assert (list(book.keys), len(book.all)) == (["p3", "p4"], 2)


def test_a_change_keeps_the_place_and_says_when_it_was_made() -> None:
    book = NoteBook()
    write(book, "p1", "a", "1")
    write(book, "p1", "b", "1")
    write(book, "p1", "a", "2", NOW_MS + 5)
    assert book.of("p1") == [
        Note("a", "2", NOW_MS + 5, NOW_MS, 1, "wechat"),
        Note("b", "1", NOW_MS, NOW_MS, 0, "wechat"),
    ]
    assert isinstance(write(book, "p1", "a", "3"), Noted)
    assert write(book, "p1", "a", "1") is RATE_LIMITED
    assert write(book, "p1", "c", "1") is RATE_LIMITED
