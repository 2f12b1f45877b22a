"""The promise of photos: what is clear is nobody's who may not have it, whatever he tries."""

import asyncio
from typing import Any

import pytest
from PIL import Image

from actors.transfers.ids import PHOTO_PAYMENT, packet_id_of
from actors.wallet.photo import payment_id_of, photo_id_of
from tests.simulation.http import KEYS
from tests.simulation.system import TENANT
from tests.unit.photo_site import Site, audited_site, encoded, noise, told, ways

site = pytest.fixture(audited_site)


# The promise.


async def test_without_payment_no_way_leads_to_a_clear_byte(site: Site) -> None:
    path = await site.photo()
    clear, blurred = site.clear(), (await site.get(f"{path}/blurred")).content
    await site.pay(path, price_fen=1)  # refused
    await site.pay(path, "carol")  # another's
    begun = clear[600:664], clear[len(clear) // 2 :][:64]  # the tables at the beginning are those of any JPEG
    for method, where, options in ways(path.rpartition("/")[2]):
        response = await site.http.ask(method, where, **{"user": "bob"} | options)
        if response.status_code == 200 and response.content == blurred:
            continue
        assert response.status_code in (307, 401, 402, 403, 404, 405), (method, where, options)
        assert response.status_code != 307 or "/clear" not in response.headers["location"], (method, where)
        assert not any(part in response.content for part in begun), (method, where, options)
        assert "etag" not in response.headers


@pytest.mark.parametrize("tail", ["", "/blurred", "/clear", "/payments"])
async def test_what_is_unknown_or_anothers_is_not_there(site: Site, tail: str) -> None:
    path = await site.photo()
    photo_id = path.rpartition("/")[2]
    near = ("a" if photo_id[-1] != "a" else "b").join((photo_id[:-1], ""))
    method = "POST" if tail == "/payments" else "GET"
    options: dict[str, Any] = {"key": "k", "json": {"price_fen": 100}} if tail == "/payments" else {}
    for name, tenant in (
        (photo_id, "qq"),
        (near, TENANT),
        ("a" * 32, TENANT),
        ("x", TENANT),
        (photo_id.upper(), TENANT),
    ):
        for user in ("alice", "bob"):
            response = await site.http.ask(method, f"/v1/photos/{name}{tail}", user=user, tenant=tenant, **options)
            assert told(response) == (404, "photo_not_found")


async def test_after_payment_the_whole_picture_is_sent_and_nobody_may_keep_it(site: Site) -> None:
    path = await site.photo()
    await site.pay(path)
    for headers in ({}, {"range": "bytes=0-9"}, {"if-none-match": "*"}):
        response = await site.get(f"{path}/clear", headers=headers)
        assert (response.status_code, response.content) == (200, site.clear())
        sent = response.headers
        assert (sent["content-type"], sent["cache-control"]) == ("image/jpeg", "private, no-store")
        assert (sent["x-content-type-options"], sent["vary"]) == ("nosniff", "Authorization, X-Acting-User")
        assert not {"etag", "last-modified", "accept-ranges", "content-range"} & sent.keys()
        assert int(sent["content-length"]) == len(response.content)
    head = await site.http.ask("HEAD", f"{path}/clear", user="bob")
    assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", sent["content-length"])
    assert (await site.http.ask("HEAD", f"{path}/clear", user="carol")).status_code == 402
    as_bob = {"scope": "gateway", "headers": {"x-acting-user": "bob"}}
    assert (await site.get(f"{path}/clear", "gateway", **as_bob)).content == site.clear()
    as_carol = {"scope": "gateway", "headers": {"x-acting-user": "carol"}}
    assert told(await site.get(f"{path}/clear", "gateway", **as_carol)) == (402, "payment_required")


@pytest.mark.parametrize("kind", ["wallet", "packet"])
async def test_nobody_sees_clearly_before_his_payment_is_durable(site: Site, kind: str) -> None:
    path = await site.photo()
    price_fen = (await site.get(path)).json()["price_fen"]
    gates = [site.system.journals.hold("append", stream=f"{kind}-{index:03d}") for index in range(2)]
    paying = asyncio.create_task(site.pay(path, price_fen=price_fen))
    reached = [asyncio.create_task(gate.reached()) for gate in gates]
    held, waiting = await asyncio.wait(reached, timeout=5, return_when=asyncio.FIRST_COMPLETED)
    assert held, "the payment waits for the store"
    for task in waiting:
        task.cancel()
    looking = asyncio.create_task(site.get(f"{path}/clear"))
    await asyncio.wait([looking], timeout=0.2)
    assert not paying.done()
    assert not looking.done() or looking.result().status_code == 402
    for gate in gates:
        gate.release()
    assert (await paying).status_code == 201
    assert (await looking).status_code in (200, 402)
    assert (await site.get(f"{path}/clear")).status_code == 200


async def test_what_is_kept_is_clean_and_only_the_owners_user_may_read_it_on_disk(site: Site) -> None:
    exif = Image.Exif()
    exif[0x010E] = "SECRET"
    await site.upload(content=encoded(noise(100, 100), "JPEG", exif=exif.tobytes()))
    kept = [path for path in site.folder.rglob("*") if path.is_file()]
    assert sorted(path.name.partition("-")[0] for path in kept) == ["blurred", "clear", "photo.json"]
    for path in kept:
        assert b"SECRET" not in path.read_bytes()
        assert path.stat().st_mode & 0o077 == 0


def test_ids_of_photos_and_payments_are_of_domains_of_their_own() -> None:
    key = KEYS.key(KEYS.first)
    named = "photo:x"
    assert payment_id_of(key, TENANT, "bob", "x", 2, 2) == packet_id_of(key, TENANT, "bob", named, 2, 2, PHOTO_PAYMENT)
    assert payment_id_of(key, TENANT, "bob", "x", 2, 2) != packet_id_of(key, TENANT, "bob", named, 2, 2)
    assert photo_id_of(key, TENANT, "alice", "k", 8) == "aaalrhlzkdo5kzceb4aevgn26aa4aiiv"
