"""Photos: pictures with a price, over HTTP. What is clear is nobody's who may not have it, and nobody pays twice."""

import asyncio
import io
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from actors.kernel.errors import JournalUnavailable
from actors.kinds import KINDS
from actors.transfers.funding import PacketFunded
from actors.transfers.ids import packet_stream, parse_packet_id
from actors.wallet.photo import payment_id_of, payment_key, photo_id_of, price_fen_of
from actors.wallet.quotas import PHOTO_BYTES_MIN
from cluster.gateway.packet.photos import Photos
from cluster.journal.archive import Archive
from cluster.journal.posting_rows import lines_of
from tests.simulation.http import BALANCE_FEN, KEYS, Http, make_here
from tests.simulation.memory_journal import Fault
from tests.simulation.system import TENANT, ruled
from tests.unit.photo_site import BAND, DAY_MS, OTHER, UPLOAD, Site, audited_site, encoded, noise, told

site = pytest.fixture(audited_site)


# The whole way.


async def test_who_pays_sees_clearly_and_the_owner_has_the_money(site: Site) -> None:
    response = await site.upload()
    made = response.json()
    assert (response.status_code, made["owner"], made["width"], made["height"]) == (201, "alice", 120, 80)
    assert made["created_at_ms"] == site.system.clock.ms
    path = f"/v1/photos/{made['photo_id']}"
    seen = (await site.get(path)).json()
    assert seen == made | {"paid": False, "price_fen": seen["price_fen"]}
    assert 100 <= seen["price_fen"] <= 900
    blurred = await site.get(f"{path}/blurred")
    assert (blurred.status_code, blurred.headers["content-type"]) == (200, "image/jpeg")
    assert Image.open(io.BytesIO(blurred.content)).size == (128, 88)
    assert told(await site.get(f"{path}/clear")) == (402, "payment_required")
    paid = await site.pay(path)
    assert (paid.status_code, paid.json()["price_fen"]) == (201, seen["price_fen"])
    assert paid.json() == paid.json() | {"photo_id": made["photo_id"], "paid_at_ms": site.system.clock.ms}
    clear = await site.get(f"{path}/clear")
    assert (clear.status_code, clear.content) == (200, site.clear())
    assert (await site.get(path)).json()["paid"] is True
    assert await site.balance("alice") == BALANCE_FEN + seen["price_fen"]
    assert await site.balance("bob") == BALANCE_FEN - seen["price_fen"]


async def test_statements_say_what_was_paid_and_earned(site: Site) -> None:
    path = await site.photo()
    packet_id = (await site.pay(path)).json()["packet_id"]
    await site.system.settle()
    for user, kind in (("bob", "photo_paid"), ("alice", "packet_share")):
        line = (await site.get("/v1/wallet/statement", user)).json()["entries"][0]
        assert (line["kind"], line["reference"]) == (kind, packet_id)


def test_offline_statements_say_the_same_words() -> None:
    funding = PacketFunded(
        1, "packet-000", "p", TENANT, "bob", "photo:x", "photo", 7, 1, 7, 7, "", 0, 1, "equal/1", "k", b""
    )
    assert {line.kind for line in lines_of(KINDS["wallet"], [funding], 1)} == {"photo_paid"}


async def test_a_payment_is_a_packet_that_payer_and_owner_see_and_nobody_else_takes_or_sees(site: Site) -> None:
    packet_id = (await site.pay(await site.photo())).json()["packet_id"]
    for user in ("alice", "bob"):
        packet = (await site.get(f"/v1/packets/{packet_id}", user)).json()
        assert (packet["kind"], packet["state"], packet["addressee"]) == ("photo", "drained", "alice")
        assert [grab["user"] for grab in packet["grabs"]] == ["alice"]
    assert told(await site.get(f"/v1/packets/{packet_id}", "carol")) == (404, "packet_not_found")
    assert told(await site.http.grab(packet_id, "carol")) == (409, "drained")
    proof = (await site.get(f"/v1/packets/{packet_id}/proof")).json()
    assert proof["shares_fen"] == [proof["total_fen"]]


async def test_the_owner_sees_his_own_photo_and_has_nothing_to_pay(site: Site) -> None:
    path = await site.photo()
    seen = (await site.get(path, "alice")).json()
    assert (seen["paid"], seen["price_fen"]) == (False, None)
    assert (await site.get(f"{path}/clear", "alice")).content == site.clear()
    assert told(await site.pay(path, "alice", price_fen=100)) == (409, "own_packet")


# Prices.


async def test_everybody_has_a_price_of_his_own_for_ever(site: Site) -> None:
    path = await site.photo()
    before = {user: (await site.get(path, user)).json()["price_fen"] for user in ("bob", "carol", "dave", "eve")}
    await site.restart()
    after = {user: (await site.get(path, user)).json()["price_fen"] for user in before}
    assert before == after
    assert len(set(before.values())) > 1


def test_prices_are_spread_over_the_band_with_both_its_ends() -> None:
    key = KEYS.key(KEYS.first)
    prices = Counter(price_fen_of(key, "p" * 32, TENANT, f"user-{n}", 5, 8) for n in range(2_000))
    assert prices.keys() == {5, 6, 7, 8}
    assert min(prices.values()) > 400
    assert price_fen_of(key, "p" * 32, TENANT, "bob", 7, 7) == 7


def test_a_price_depends_on_photo_tenant_reader_and_key() -> None:
    key = KEYS.key(KEYS.first)
    asked = [
        (key, "p", "t", "u"),
        (key, "q", "t", "u"),
        (key, "p", "s", "u"),
        (key, "p", "t", "v"),
        (b"k", "p", "t", "u"),
    ]
    assert len({price_fen_of(*one, 1, 2**31) for one in asked}) == len(asked)
    assert price_fen_of(KEYS.key("k1"), "p" * 32, TENANT, "bob", 1, 20_000) == 17_204, "what was shown once stays"


async def test_a_photo_stays_payable_when_the_limits_of_shares_are_lowered(tmp_path: Path) -> None:
    site = await Site.start(tmp_path, **ruled("wallet", sends={"share_fen_max": 99}))
    path = await site.photo()
    assert (await site.pay(path)).status_code == 201
    await site.check()
    await site.system.stop()


async def test_another_price_than_the_one_shown_is_not_paid(site: Site) -> None:
    path = await site.photo()
    price_fen = (await site.get(path)).json()["price_fen"]
    for wrong in (price_fen - 1, price_fen + 1):
        response = await site.pay(path, price_fen=wrong)
        assert told(response) == (422, "invalid")
        assert response.json()["fields"] == {"price_fen": f"{price_fen} fen"}
    assert await site.balance("bob") == BALANCE_FEN


# Once.


async def test_paying_again_with_any_key_is_the_same_payment(site: Site) -> None:
    path = await site.photo()
    first = await site.pay(path, key="a")
    assert "idempotent-replayed" not in first.headers
    for key in ("a", "b"):
        again = await site.pay(path, key=key)
        assert (again.status_code, again.json(), again.headers["idempotent-replayed"]) == (201, first.json(), "true")
    assert await site.balance("bob") == BALANCE_FEN - first.json()["price_fen"]


async def test_payments_at_the_same_time_are_one(site: Site) -> None:
    path = await site.photo()
    price_fen = (await site.get(path)).json()["price_fen"]
    paid = await asyncio.gather(*(site.pay(path, key=f"k{n}", price_fen=price_fen) for n in range(8)))
    assert {response.status_code for response in paid} == {201}
    assert len({response.text for response in paid}) == 1
    assert await site.balance("bob") == BALANCE_FEN - price_fen


async def test_who_has_paid_has_paid_for_ever_also_when_wallet_and_shard_have_forgotten(site: Site) -> None:
    path = await site.photo()
    first = await site.pay(path)
    await site.system.settle()
    site.system.clock.ms += 2 * DAY_MS
    await site.http.send("later", user="bob")  # an event by whose stamp his wallet forgets
    for _ in range(3):
        await site.system.tick()
        await site.system.settle()
    await site.restart()
    assert (await site.get(f"{path}/clear")).content == site.clear()
    before = await site.balance("bob")
    again = await site.pay(path, key="years later")
    assert (again.json(), again.headers["idempotent-replayed"]) == (first.json(), "true")
    assert await site.balance("bob") == before


async def test_one_payment_is_for_one_photo_of_one_reader(site: Site) -> None:
    path, other = await site.photo("k"), await site.photo("l")
    await site.pay(path)
    assert told(await site.get(f"{other}/clear")) == (402, "payment_required")
    assert told(await site.get(f"{path}/clear", "carol")) == (402, "payment_required")


async def test_an_ordinary_packet_whose_key_looks_like_a_payments_pays_for_nothing(site: Site) -> None:
    path = await site.photo()
    photo_id, price_fen = path.rpartition("/")[2], (await site.get(path)).json()["price_fen"]
    sent = {"kind": "direct", "total_fen": price_fen, "count": 1, "addressee": "alice"}
    packet = await site.http.send(payment_key(photo_id), user="bob", **sent)
    await site.http.grab(packet["packet_id"], "alice")
    assert told(await site.get(f"{path}/clear")) == (402, "payment_required")
    assert (await site.pay(path)).json()["packet_id"] != packet["packet_id"]


async def test_no_packet_of_the_kind_can_be_sent_as_such(site: Site) -> None:
    body = {"kind": "photo", "total_fen": 100, "count": 1, "addressee": "alice"}
    assert told(await site.http.ask("POST", "/v1/packets", user="bob", key="k", json=body)) == (422, "invalid")


# Deaths in between.


async def test_a_payment_whose_gateway_died_is_completed_by_whoever_looks(site: Site) -> None:
    path = await site.photo()
    price_fen = await site.debit(path)
    assert (await site.get(path)).json()["paid"] is True
    assert (await site.get(f"{path}/clear")).content == site.clear()
    assert await site.balance("alice") == BALANCE_FEN + price_fen


async def test_a_payment_whose_gateway_died_is_completed_by_settlement_however_late(site: Site) -> None:
    path = await site.photo()
    price_fen = await site.debit(path)
    site.system.clock.ms += 10 * DAY_MS
    await site.restart()
    await site.system.settle()
    assert await site.balance("alice") == BALANCE_FEN + price_fen
    assert await site.balance("bob") == BALANCE_FEN - price_fen
    assert (await site.get(f"{path}/clear")).content == site.clear()
    [grab] = (await site.get(f"/v1/packets/{(await site.pay(path)).json()['packet_id']}")).json()["grabs"]
    assert grab["at_ms"] == site.system.clock.ms


async def test_a_payment_that_a_dead_shard_took_is_repeated_and_paid_once(site: Site) -> None:
    path = await site.photo()
    packet_id = payment_id_of(KEYS.key(KEYS.first), TENANT, "bob", path.rpartition("/")[2], 2, 2)
    place = parse_packet_id(packet_id)
    assert place is not None
    price_fen = (await site.get(path)).json()["price_fen"]
    stream = packet_stream(place.packet_index)
    for fault in (Fault.LOST_AFTER, Fault.LOST_BEFORE):
        site.system.journals.fail("append", fault, stream=stream)
        assert (await site.pay(path, price_fen=price_fen)).status_code in (201, 503)
    assert (await site.pay(path, price_fen=price_fen)).status_code == 201
    assert await site.balance("bob") == BALANCE_FEN - price_fen


async def test_a_restart_changes_nothing(site: Site) -> None:
    path = await site.photo()
    await site.pay(path)
    await site.restart()
    assert (await site.get(f"{path}/clear")).content == site.clear()
    assert told(await site.get(f"{path}/clear", "carol")) == (402, "payment_required")
    assert (await site.upload()).headers["idempotent-replayed"] == "true"


class DyingFolder(Archive):
    """A folder whose replica dies at its n-th write, before or after it."""

    def __init__(self, url: str, dies_at: int, *, after: bool) -> None:
        super().__init__(url)
        self._left, self._after = dies_at, after

    def write(self, path: str, content: bytes) -> None:
        """Write, or die."""
        self._die(lambda: super(DyingFolder, self).write(path, content))

    def create(self, path: str, content: bytes) -> bool:
        """Create, or die."""
        return bool(self._die(lambda: super(DyingFolder, self).create(path, content)))

    def _die(self, act: Callable[[], Any]) -> Any:
        self._left -= 1
        answer = act() if self._left or self._after else None
        if not self._left:
            raise JournalUnavailable("the replica died")
        return answer


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("dies_at", [1, 2, 3])
async def test_an_upload_that_dies_leaves_all_or_nothing_and_its_repeat_completes_it(
    site: Site, dies_at: int, after: bool
) -> None:
    sound, system = site.http.gateway.photos, site.system
    place = DyingFolder(str(site.folder), dies_at, after=after)
    parts = system.settings, KEYS, system.service, system.journals, system.clock
    site.http.gateway.photos = Photos(*parts, place, make_here)
    response = await site.upload()
    assert told(response) == (503, "journal_unavailable")
    site.http.gateway.photos = sound
    path = f"/v1/photos/{photo_id_of(KEYS.key(KEYS.first), TENANT, 'alice', 'k', 2)}"
    whole = dies_at == 3 and after
    for what in ("", "/blurred"):
        assert (await site.get(path + what)).status_code == (200 if whole else 404)
    again = await site.upload()
    assert (again.status_code, "idempotent-replayed" in again.headers) == (201, whole)
    assert (await site.get(f"{path}/clear", "alice")).content == site.clear()


# Uploads.


def test_of_two_writers_of_one_record_the_first_stays(tmp_path: Path) -> None:
    place = Archive(str(tmp_path))
    assert [place.create("t/p/photo.json", content) for content in (b"first", b"second")] == [True, False]
    assert place.read("t/p/photo.json") == b"first"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["photo.json"]


async def test_the_same_upload_again_is_the_same_photo_and_another_with_its_key_is_refused(site: Site) -> None:
    first = await site.upload()
    site.system.clock.ms += 1_000
    again = await site.upload()
    assert (again.status_code, again.json(), again.headers["idempotent-replayed"]) == (201, first.json(), "true")
    for other in ({"content": OTHER}, {"band": {"price_fen_min": 101}}, {"band": {"price_fen_max": 901}}):
        assert told(await site.upload(**other)) == (422, "idempotency_key_reused")
    ids = {first.json()["photo_id"]}
    for different in ({"key": "l"}, {"user": "bob"}, {"tenant": "qq"}):
        ids.add((await site.upload(**different)).json()["photo_id"])
    assert len(ids) == 4


async def test_two_replicas_that_make_one_photo_at_once_agree(site: Site) -> None:
    other = Site(Http(site.system), site.folder)
    one, two = await asyncio.gather(site.upload(), other.upload())
    assert (one.status_code, one.json()) == (two.status_code, two.json())
    uploads = await asyncio.gather(
        site.upload("l"), other.upload("l", OTHER), site.upload("l"), other.upload("l", OTHER)
    )
    assert sorted({response.status_code for response in uploads}) == [201, 422]
    assert len({response.text for response in uploads if response.status_code == 201}) == 1


@pytest.mark.parametrize(
    ("band", "field"),
    [
        ({"price_fen_min": 0}, "price_fen_min"),
        ({"price_fen_min": "x"}, "price_fen_min"),
        ({"price_fen_max": 20_001}, "price_fen_max"),
        ({"price_fen_min": 901}, "price_fen_max"),
        ({"price_fen_max": ""}, "price_fen_max"),
    ],
)
async def test_a_band_that_is_none_is_named_and_nothing_is_kept(site: Site, band: dict[str, Any], field: str) -> None:
    response = await site.upload(band=band)
    assert told(response) == (422, "invalid")
    assert field in response.json()["fields"]
    assert not site.folder.exists()


@pytest.mark.parametrize("content", [b"", b"hello", UPLOAD[:-500], encoded(noise(100, 100), "GIF"), b"<svg/>"])
async def test_what_is_no_picture_is_refused_whatever_its_header_says(site: Site, content: bytes) -> None:
    response = await site.upload(content=content, headers={"content-type": "image/png"})
    assert told(response) == (422, "invalid")
    assert "JPEG, PNG or WebP" in response.json()["fields"]["body"]
    assert not site.folder.exists()


async def test_an_upload_needs_a_key_and_a_user(site: Site) -> None:
    assert told(await site.upload(key="")) == (400, "idempotency_key_missing")
    assert told(await site.upload(scope="operator")) == (403, "forbidden")
    assert told(await site.upload(headers={"authorization": "Bearer x"})) == (401, "unauthenticated")
    path = await site.photo()
    assert told(await site.pay(path, key="")) == (400, "idempotency_key_missing")


async def drip(*chunks: bytes) -> AsyncIterator[bytes]:
    """Yield a body that does not tell its length."""
    for chunk in chunks:
        yield chunk


async def stuck(begun: asyncio.Event) -> AsyncIterator[bytes]:
    """Yield a body that begins and never ends."""
    yield UPLOAD[:100]
    begun.set()
    await asyncio.Event().wait()


async def test_an_upload_is_bounded_by_its_own_bound_and_other_bodies_by_theirs(tmp_path: Path) -> None:
    site = await Site.start(tmp_path, bounds={"photo_bytes_max": len(UPLOAD), "body_bytes_max": 200})
    assert len(UPLOAD) > 200
    assert (await site.upload()).status_code == 201
    for content in (UPLOAD + b"x", drip(UPLOAD, b"x")):
        response = await site.upload(content=content)
        assert told(response) == (413, "too_large")
        assert str(len(UPLOAD)) in response.json()["detail"]
    assert told(await site.http.ask("POST", "/v1/packets", key="k", content=b" " * 201)) == (413, "too_large")
    await site.system.stop()


async def test_uploads_under_way_are_bounded_and_a_slow_one_ends(tmp_path: Path) -> None:
    site = await Site.start(tmp_path, bounds={"photos_uploading_max": 1}, timing={"photo_upload_ms": 1_000})
    begun = asyncio.Event()
    slow = asyncio.create_task(site.upload(content=stuck(begun)))
    await begun.wait()
    assert told(await site.upload("l")) == (429, "overloaded")
    assert told(await slow) == (429, "overloaded")
    assert (await site.upload("l")).status_code == 201
    await site.system.stop()


async def test_a_platform_without_a_place_for_photos_has_no_such_routes() -> None:
    http = await Http.start()
    assert told(await http.ask("POST", "/v1/photos", key="k", params=BAND, content=UPLOAD)) == (404, "route_not_found")
    await http.system.stop()


# Money that cannot move.


async def test_who_has_too_little_does_not_pay_and_does_not_see(site: Site) -> None:
    path = await site.photo()
    assert told(await site.pay(path, "pauper")) == (402, "insufficient_funds")
    assert told(await site.get(f"{path}/clear", "pauper")) == (402, "payment_required")


async def test_a_pause_of_sends_stops_payments_and_one_of_grabs_does_not(site: Site) -> None:
    path = await site.photo()
    for lever in ("sends", "grabs"):
        response = await site.http.ask("PUT", f"/v1/levers/{lever}", scope="operator", json={"paused": True})
        assert response.status_code == 200
    assert told(await site.pay(path)) == (503, "paused")
    assert told(await site.get(f"{path}/clear")) == (402, "payment_required")
    await site.http.ask("PUT", "/v1/levers/sends", scope="operator", json={"paused": False})
    assert (await site.pay(path)).status_code == 201
    assert (await site.get(f"{path}/clear")).content == site.clear()


async def test_a_users_photos_take_a_part_of_the_disk_and_a_repeat_counts_once(tmp_path: Path) -> None:
    parts = {"photos_bytes_max": {"user": 20, "tenant": 50}}
    room = ruled("wallet", photos_bytes_max=10 * PHOTO_BYTES_MIN, fair=parts)
    site = await Site.start(tmp_path, **room)
    for key in ("one", "one", "two", "two"):
        assert (await site.upload(key)).status_code == 201
    refused = await site.upload("three")
    assert told(refused) == (429, "rate_limited")
    assert "part" in refused.json()["detail"]
    assert (await site.upload("three", user="bob")).status_code == 201
    await site.system.stop()
